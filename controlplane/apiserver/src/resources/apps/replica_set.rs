//! Replica sets.

use serde_json::{Value, json};

use super::template;
use crate::resources::rules::{immutable, not_negative};
use crate::resources::{Column, EVERY_VERB, Field, Resource, Rules, Subresource, pod_spec, text};
use crate::status::FieldError;
use crate::validate::pods::SpecOf;
use crate::value;

pub static REPLICA_SET: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    namespaced: true,
    storage: "replicasets",
    verbs: EVERY_VERB,
    subresources: &[
        Subresource::status(("apps", "v1", "ReplicaSet")),
        Subresource::SCALE,
    ],
    columns: &[
        Column::object_name(),
        Column::new("Desired", "integer"),
        Column::new("Current", "integer"),
        Column::new("Ready", "integer"),
        Column::new("Age", "string"),
        Column::wide("Containers", "string"),
        Column::wide("Images", "string"),
        Column::wide("Selector", "string"),
    ],
    row,
    fields: &[Field {
        name: "status.replicas",
        path: &["status", "replicas"],
        absent: "0",
    }],
    indexed_by: None,
    rules: &ReplicaSetRules,
    conversion: None,
};

fn row(object: &Value, now: i64) -> Vec<Value> {
    let [names, images] = text::containers(value::at(object, &["spec", "template", "spec"]));
    vec![
        text::name(object),
        text::number(object, &["spec", "replicas"]),
        text::number(object, &["status", "replicas"]),
        text::number(object, &["status", "readyReplicas"]),
        text::age(object, now),
        names,
        images,
        text::label_selector(value::at(object, &["spec", "selector"])),
    ]
}

struct ReplicaSetRules;

impl Rules for ReplicaSetRules {
    fn counts_generation(&self) -> bool {
        true
    }

    fn splits_status(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        value::default(object, &["spec", "replicas"], 1);
        pod_spec::default(object, &["spec", "template", "spec"], SpecOf::Template);
    }

    fn prepare_create(&self, object: &mut Value) {
        value::set(object, &["status"], json!({"replicas": 0}));
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        not_negative(object, &["spec", "replicas"], errors);
        not_negative(object, &["spec", "minReadySeconds"], errors);
        template::validate(object, "replicaset", errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["spec", "selector"], errors);
    }
}
