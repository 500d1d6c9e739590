//! Reading and changing objects that are held as JSON values.
//!
//! The generic road treats every kind alike, so objects are `serde_json::Value`s, and rules reach into them by path.
//! What is not there, or is of another type, reads as absent: types are checked when a request is decoded.

use serde_json::{Map, Value};

/// The value at `path`, or null.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    let mut here = value;
    for step in path {
        match here.get(step) {
            Some(next) => here = next,
            None => return &Value::Null,
        }
    }
    here
}

/// The string at `path`, or "".
pub fn str_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or("")
}

/// The integer at `path`.
pub fn int_at(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path).as_i64()
}

/// Whether `path` holds `true`.
pub fn bool_at(value: &Value, path: &[&str]) -> bool {
    at(value, path).as_bool().unwrap_or(false)
}

/// The elements of the list at `path`.
pub fn list_at<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).as_array().map_or(&[], Vec::as_slice)
}

/// The entries of the map of strings at `path`.
pub fn strings_at<'a>(
    value: &'a Value,
    path: &[&str],
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    at(value, path)
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or("")))
}

/// Makes `value` a map if it is none, and gives it.
pub fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made one"),
    }
}

/// The map in which the last step of `path` lies, made where it is missing.
pub fn parent_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut here = value;
    for step in &path[..path.len().saturating_sub(1)] {
        here = map_mut(here).entry(*step).or_insert(Value::Null);
    }
    map_mut(here)
}

/// Sets the value at `path`, making the maps on the way.
pub fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    if let Some(last) = path.last() {
        parent_mut(value, path).insert((*last).to_owned(), to.into());
    }
}

/// Sets the value at `path` if there is none, or null.
pub fn default(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    if at(value, path).is_null() {
        set(value, path, to);
    }
}

/// Takes away what is at `path`. Makes nothing on the way.
pub fn remove(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut here = value;
    for step in parents {
        here = here.get_mut(step)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// Puts what `from` has at `path` there in `to`, or takes it away there if `from` has nothing.
pub fn copy(from: &Value, to: &mut Value, path: &[&str]) {
    match at(from, path) {
        Value::Null => {
            remove(to, path);
        }
        found => set(to, path, found.clone()),
    }
}

/// The elements of the list at `path`, to be changed.
pub fn list_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut [Value] {
    let mut here = value;
    for step in path {
        match here.get_mut(step) {
            Some(next) => here = next,
            None => return &mut [],
        }
    }
    here.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    str_at(object, &["metadata", "name"])
}

/// `metadata.namespace`, "" for what lives in none.
pub fn namespace(object: &Value) -> &str {
    str_at(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    str_at(object, &["metadata", "uid"])
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    !at(object, &["metadata", "deletionTimestamp"]).is_null()
}

/// Whether two values mean the same: null, an empty map and an empty list are as good as absent.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let within = |from: &Map<String, Value>, other: &Map<String, Value>| {
                from.iter()
                    .all(|(key, value)| same(value, other.get(key).unwrap_or(&Value::Null)))
            };
            within(a, b)
                && b.iter()
                    .all(|(key, value)| a.contains_key(key) || is_empty(value))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_reads_as_absent() {
        let pod = json!({"spec": {"nodeName": "n1", "containers": [{"name": "a"}]}});
        assert_eq!(str_at(&pod, &["spec", "nodeName"]), "n1");
        assert_eq!(str_at(&pod, &["status", "phase"]), "");
        assert_eq!(list_at(&pod, &["spec", "volumes"]).len(), 0);
    }

    #[test]
    fn setting_makes_the_maps_on_the_way_and_removing_does_not() {
        let mut object = json!({});
        remove(&mut object, &["metadata", "labels"]);
        assert_eq!(object, json!({}));
        set(&mut object, &["metadata", "labels", "a"], "b");
        assert_eq!(object, json!({"metadata": {"labels": {"a": "b"}}}));
    }

    #[test]
    fn empty_means_absent_when_comparing() {
        assert!(same(
            &json!({"a": {}, "b": [1]}),
            &json!({"b": [1], "c": null})
        ));
        assert!(!same(&json!({"b": [1]}), &json!({"b": [1, 2]})));
        assert!(!same(&json!({"a": false}), &json!({})));
    }
}
