//! JSON as Go prints a map of it (`%+v`).

use serde_json::{Map, Value};

/// `map[a:b c:[1 2]]`: keys in order, and nothing in quotes.
pub fn map(object: &Map<String, Value>) -> String {
    let mut entries: Vec<_> = object.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    let entries: Vec<String> = entries
        .into_iter()
        .map(|(key, value)| format!("{key}:{}", shown(value)))
        .collect();
    format!("map[{}]", entries.join(" "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(object) => map(object),
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
