//! Config maps.

use serde_json::Value;

use crate::resources::{Column, EVERY_VERB, Resource, Rules, text};
use crate::status::FieldError;
use crate::validate::names;
use crate::value;

pub static CONFIG_MAP: Resource = Resource {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    namespaced: true,
    storage: "configmaps",
    verbs: EVERY_VERB,
    subresources: &[],
    columns: &[
        Column::object_name(),
        Column::new("Data", "string"),
        Column::new("Age", "string"),
    ],
    row: |object, now| {
        let count = |field: &str| {
            value::at(object, &[field])
                .as_object()
                .map_or(0, |map| map.len())
        };
        vec![
            text::name(object),
            (count("data") + count("binaryData")).into(),
            text::age(object, now),
        ]
    },
    fields: &[],
    indexed_by: None,
    rules: &ConfigMapRules,
    conversion: None,
};

struct ConfigMapRules;

impl Rules for ConfigMapRules {
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut bytes = 0;
        for (key, text) in value::strings_at(object, &["data"]) {
            check_key("data", key, errors);
            bytes += text.len();
            if !value::at(object, &["binaryData", key]).is_null() {
                let message = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(format!("data[{key}]"), key, message));
            }
        }
        for (key, text) in value::strings_at(object, &["binaryData"]) {
            check_key("binaryData", key, errors);
            bytes += text.len() / 4 * 3;
        }
        check_size("", bytes, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        kept_if_immutable(new, old, &["data", "binaryData"], errors);
    }
}

/// The key of a datum.
pub(super) fn check_key(field: &str, key: &str, errors: &mut Vec<FieldError>) {
    for problem in names::config_key(key) {
        errors.push(FieldError::invalid(format!("{field}[{key}]"), key, problem));
    }
}

/// The size of all data.
pub(super) fn check_size(field: &str, bytes: usize, errors: &mut Vec<FieldError>) {
    const MOST: usize = 1 << 20;
    if bytes > MOST {
        errors.push(FieldError::too_long(field, MOST));
    }
}

/// What was declared immutable stays.
pub(super) fn kept_if_immutable(
    new: &Value,
    old: &Value,
    fields: &[&str],
    errors: &mut Vec<FieldError>,
) {
    if !value::bool_at(old, &["immutable"]) {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if !value::bool_at(new, &["immutable"]) {
        errors.push(FieldError::forbidden("immutable", WHY));
    }
    for field in fields {
        if !value::same(value::at(new, &[field]), value::at(old, &[field])) {
            errors.push(FieldError::forbidden(*field, WHY));
        }
    }
}
