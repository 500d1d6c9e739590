//! Namespaces: deleted in two steps, since a controller must empty them first.

use serde_json::{Value, json};

use crate::resources::{Column, Field, Resource, Rules, Subresource, text};
use crate::validate::names;
use crate::value;

const KIND: (&str, &str, &str) = ("", "v1", "Namespace");

pub static NAMESPACE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    namespaced: false,
    storage: "namespaces",
    // Namespaces are not deleted by the dozen.
    verbs: &[
        "create", "delete", "get", "list", "patch", "update", "watch",
    ],
    subresources: &[
        Subresource::status(KIND),
        Subresource {
            name: "finalize",
            kind: KIND,
            verbs: &["update"],
        },
    ],
    columns: &[
        Column::object_name(),
        Column::new("Status", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        vec![
            text::name(object),
            value::str_at(object, &["status", "phase"]).into(),
            text::age(object, now),
        ]
    },
    fields: &[Field {
        name: "status.phase",
        path: &["status", "phase"],
        absent: "",
    }],
    indexed_by: None,
    rules: &NamespaceRules,
    conversion: None,
};

struct NamespaceRules;

impl Rules for NamespaceRules {
    fn check_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn splits_status(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        let name = value::name(object).to_owned();
        if !name.is_empty() {
            value::set(
                object,
                &["metadata", "labels", "kubernetes.io/metadata.name"],
                name,
            );
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, &["status"], json!({"phase": "Active"}));
        let finalizers = value::list_at(object, &["spec", "finalizers"]);
        if !finalizers.iter().any(|one| one == "kubernetes") {
            let mut finalizers = finalizers.to_vec();
            finalizers.push("kubernetes".into());
            value::set(object, &["spec", "finalizers"], finalizers);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // They are taken away at `finalize` only.
        value::copy(old, new, &["spec", "finalizers"]);
    }

    fn is_held(&self, object: &Value) -> bool {
        !value::list_at(object, &["spec", "finalizers"]).is_empty()
    }

    fn begin_deletion(&self, object: &mut Value) {
        value::set(object, &["status", "phase"], "Terminating");
    }
}
