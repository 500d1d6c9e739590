//! Controller revisions: what a set looked like once. Their data never change.

use serde_json::Value;

use crate::resources::rules::{immutable, not_negative};
use crate::resources::{Column, EVERY_VERB, Resource, Rules, text};
use crate::status::FieldError;
use crate::value;

pub static CONTROLLER_REVISION: Resource = Resource {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage: "controllerrevisions",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Controller", "string"),
        Column::new("Revision", "string"),
        Column::new("Age", "string"),
    ],
    row,
    fields: &[],
    indexed_by: None,
    rules: &ControllerRevisionRules,
    conversion: None,
};

fn row(object: &Value, now: i64) -> Vec<Value> {
    let owner = value::list_at(object, &["metadata", "ownerReferences"])
        .iter()
        .find(|owner| value::bool_at(owner, &["controller"]));
    let controller = owner.map_or("<none>".to_owned(), |owner| {
        let kind = value::str_at(owner, &["kind"]).to_lowercase();
        let group = value::str_at(owner, &["apiVersion"]);
        let name = value::str_at(owner, &["name"]);
        match group.split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{name}"),
            None => format!("{kind}/{name}"),
        }
    });
    vec![
        text::name(object),
        controller.into(),
        text::number(object, &["revision"]),
        text::age(object, now),
    ]
}

struct ControllerRevisionRules;

impl Rules for ControllerRevisionRules {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        if value::at(object, &["data"]).is_null() {
            errors.push(FieldError::required("data", "data is mandatory"));
        }
        not_negative(object, &["revision"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(new, old, &["data"], errors);
    }
}
