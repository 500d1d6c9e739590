//! Cells that several tables have.

use serde_json::Value;

use crate::clock;
use crate::value;

/// The object's name.
pub fn name(object: &Value) -> Value {
    value::name(object).into()
}

/// How long it has been there.
pub fn age(object: &Value, now_s: i64) -> Value {
    let created = value::at(object, &["metadata", "creationTimestamp"]).as_str();
    clock::age(created, now_s).into()
}

/// The names and the images of a pod template's containers.
pub fn containers(pod_spec: &Value) -> [Value; 2] {
    let joined = |field: &str| {
        let values: Vec<&str> = value::list_at(pod_spec, &["containers"])
            .iter()
            .map(|container| value::str_at(container, &[field]))
            .collect();
        values.join(",").into()
    };
    [joined("name"), joined("image")]
}

/// A label selector as text.
pub fn label_selector(selector: &Value) -> Value {
    let mut terms = Vec::new();
    for (key, value) in value::strings_at(selector, &["matchLabels"]) {
        terms.push(format!("{key}={value}"));
    }
    for expression in value::list_at(selector, &["matchExpressions"]) {
        let key = value::str_at(expression, &["key"]);
        let values: Vec<&str> = value::list_at(expression, &["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        terms.push(match value::str_at(expression, &["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    or_none(terms.join(",")).into()
}

/// A map of labels as text.
pub fn labels(object: &Value, path: &[&str]) -> Value {
    let terms: Vec<String> = value::strings_at(object, path)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    or_none(terms.join(",")).into()
}

/// `<none>` for nothing.
pub fn or_none(text: String) -> String {
    match text.is_empty() {
        true => "<none>".to_owned(),
        false => text,
    }
}

/// A number, 0 if it is not there.
pub fn number(object: &Value, path: &[&str]) -> Value {
    value::int_at(object, path).unwrap_or(0).into()
}
