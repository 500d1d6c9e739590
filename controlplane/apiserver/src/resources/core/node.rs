//! Nodes.

use serde_json::Value;

use crate::resources::{Column, EVERY_VERB, Field, Resource, Rules, Subresource, text};
use crate::status::FieldError;
use crate::value;

pub static NODE: Resource = Resource {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    namespaced: false,
    storage: "minions",
    verbs: EVERY_VERB,
    subresources: &[Subresource::status(("", "v1", "Node"))],
    columns: &[
        Column::object_name(),
        Column::new("Status", "string"),
        Column::new("Roles", "string"),
        Column::new("Age", "string"),
        Column::new("Version", "string"),
        Column::wide("Internal-IP", "string"),
        Column::wide("External-IP", "string"),
        Column::wide("OS-Image", "string"),
        Column::wide("Kernel-Version", "string"),
        Column::wide("Container-Runtime", "string"),
    ],
    row,
    fields: &[Field {
        name: "spec.unschedulable",
        path: &["spec", "unschedulable"],
        absent: "false",
    }],
    indexed_by: None,
    rules: &NodeRules,
    conversion: None,
};

fn row(object: &Value, now: i64) -> Vec<Value> {
    let info = |field: &str, absent: &str| -> Value {
        match value::str_at(object, &["status", "nodeInfo", field]) {
            "" => absent.into(),
            text => text.into(),
        }
    };
    let address = |kind: &str| -> Value {
        value::list_at(object, &["status", "addresses"])
            .iter()
            .find(|address| value::str_at(address, &["type"]) == kind)
            .map_or("<none>", |address| value::str_at(address, &["address"]))
            .into()
    };
    vec![
        text::name(object),
        status(object).into(),
        roles(object).into(),
        text::age(object, now),
        info("kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage", "<unknown>"),
        info("kernelVersion", "<unknown>"),
        info("containerRuntimeVersion", "<unknown>"),
    ]
}

fn status(object: &Value) -> String {
    let ready = value::list_at(object, &["status", "conditions"])
        .iter()
        .find(|condition| value::str_at(condition, &["type"]) == "Ready");
    let mut status = match ready {
        Some(ready) if value::str_at(ready, &["status"]) == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if value::bool_at(object, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(object: &Value) -> String {
    let mut roles: Vec<&str> = value::strings_at(object, &["metadata", "labels"])
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => Some(value),
            _ => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    text::or_none(roles.join(","))
}

struct NodeRules;

impl Rules for NodeRules {
    fn splits_status(&self) -> bool {
        true
    }

    fn status_takes_labels(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        // What a node does not keep for itself, pods may have.
        let capacity = value::at(object, &["status", "capacity"]).clone();
        if !capacity.is_null() {
            value::default(object, &["status", "allocatable"], capacity);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        // A node registers itself with its status.
        value::default(object, &["status"], serde_json::json!({}));
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        for (at, taint) in value::list_at(object, &["spec", "taints"])
            .iter()
            .enumerate()
        {
            let field = |name: &str| format!("spec.taints[{at}].{name}");
            if value::str_at(taint, &["key"]).is_empty() {
                errors.push(FieldError::required(field("key"), ""));
            }
            let effect = value::str_at(taint, &["effect"]);
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            if effect.is_empty() {
                errors.push(FieldError::required(field("effect"), ""));
            } else if !effects.contains(&effect) {
                errors.push(FieldError::not_supported(field("effect"), effect, &effects));
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        for field in ["podCIDR", "providerID"] {
            let (new, old) = (
                value::str_at(new, &["spec", field]),
                value::str_at(old, &["spec", field]),
            );
            if !old.is_empty() && new != old {
                errors.push(FieldError::forbidden(
                    format!("spec.{field}"),
                    format!("node updates may not change {field} except from \"\" to valid"),
                ));
            }
        }
    }
}
