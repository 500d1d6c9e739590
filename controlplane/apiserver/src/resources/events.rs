//! Events as `events.k8s.io/v1` shows them: the same objects as the core group's, under other field names.

use serde_json::{Map, Value, json};

use super::core::event;
use super::{Conversion, EVERY_VERB, Resource, Rules};
use crate::status::FieldError;
use crate::value;

pub static EVENT: Resource = Resource {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    storage: "events",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: event::COLUMNS,
    row: |object, now| event::row(&store(object.clone()), now),
    fields: event::FIELDS,
    indexed_by: None,
    rules: &EventRules,
    conversion: Some(Conversion { show, store }),
};

/// Names in the core group, and here.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(object: Value, pairs: impl Fn(&str) -> Option<&'static str>, api_version: &str) -> Value {
    let Value::Object(map) = object else {
        return object;
    };
    let mut renamed: Map<String, Value> = map
        .into_iter()
        .map(|(key, value)| (pairs(&key).map_or(key, str::to_owned), value))
        .collect();
    renamed.insert("apiVersion".to_owned(), api_version.into());
    renamed.insert("kind".to_owned(), "Event".into());
    Value::Object(renamed)
}

fn show(object: Value) -> Value {
    let pairs = |key: &str| {
        RENAMED
            .iter()
            .find(|(core, _)| *core == key)
            .map(|(_, here)| *here)
    };
    rename(object, pairs, "events.k8s.io/v1")
}

fn store(object: Value) -> Value {
    let pairs = |key: &str| {
        RENAMED
            .iter()
            .find(|(_, here)| *here == key)
            .map(|(core, _)| *core)
    };
    let mut object = rename(object, pairs, "v1");
    if value::at(&object, &["involvedObject"]).is_null() {
        value::set(&mut object, &["involvedObject"], json!({}));
    }
    object
}

struct EventRules;

impl Rules for EventRules {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut required = |field: &str| {
            if value::str_at(object, &[field]).is_empty() {
                errors.push(FieldError::required(field, ""));
            }
        };
        for field in [
            "eventTime",
            "reportingController",
            "reportingInstance",
            "action",
            "reason",
        ] {
            required(field);
        }
        let kinds = ["Normal", "Warning"];
        let kind = value::str_at(object, &["type"]);
        if !kinds.contains(&kind) {
            errors.push(FieldError::invalid(
                "type",
                "",
                "has invalid value: ".to_owned() + kind,
            ));
        }
    }

    fn expires(&self) -> bool {
        true
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_same_in_both_groups() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {"name": "p"},
            "message": "m", "count": 2, "type": "Normal"});
        let shown = show(core.clone());
        assert_eq!(shown["regarding"]["name"], "p");
        assert_eq!(shown["note"], "m");
        assert_eq!(shown["apiVersion"], "events.k8s.io/v1");
        assert_eq!(store(shown), core);
    }
}
