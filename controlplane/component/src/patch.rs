//! Writing only what was changed.
//!
//! A typed object that is read, changed and put back loses every field that its type does not know, and every field
//! that a [`Store`](crate::Store) trimmed. A merge patch of the difference loses nothing, and is smaller.

use serde::Serialize;
use serde_json::{Map, Value};

/// The merge patch (RFC 7386) that turns `old` into `new`; `None` if they are equal.
pub fn changes(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for (field, value) in new {
        let change = match old.get(field) {
            None => Some(value.clone()),
            Some(before) => changes(before, value),
        };
        patch.extend(change.map(|change| (field.clone(), change)));
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The merge patch from `old` to `new` that is only accepted while the object is still at the resource version of
/// `old`; `None` if there is nothing to write.
pub fn merge_patch<K: kube::Resource + Serialize>(old: &K, new: &K) -> Option<Value> {
    let before = serde_json::to_value(old).expect("an object of the API serializes");
    let after = serde_json::to_value(new).expect("an object of the API serializes");
    let mut patch = changes(&before, &after)?;
    if let Some(version) = &old.meta().resource_version {
        patch["metadata"]["resourceVersion"] = Value::String(version.clone());
    }
    Some(patch)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_went_is_null_and_one_that_stayed_is_absent() {
        let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]});
        let new = json!({"a": 1, "b": {"c": 4}, "e": [1, 2]});
        let patch = json!({"b": {"c": 4, "d": null}, "e": [1, 2]});
        assert_eq!(changes(&old, &new), Some(patch));
    }

    #[test]
    fn nothing_changed_means_nothing_to_write() {
        let map = ConfigMap::default();
        assert_eq!(merge_patch(&map, &map), None);
    }

    #[test]
    fn the_patch_names_the_version_that_it_was_made_from() {
        let mut old = ConfigMap::default();
        old.metadata.resource_version = Some("7".into());
        let mut new = old.clone();
        new.data = Some([("k".into(), "v".into())].into());
        let patch = json!({"metadata": {"resourceVersion": "7"}, "data": {"k": "v"}});
        assert_eq!(merge_patch(&old, &new), Some(patch));
    }

    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let target = target.as_object_mut().expect("made one above");
        for (field, change) in patch {
            if change.is_null() {
                target.remove(field);
            } else {
                apply(target.entry(field.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3_i32).prop_map(Value::from),
            prop::collection::vec(0..3_i32, 0..3).prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn applying_the_changes_gives_the_new_document(old in documents(), new in documents()) {
            let mut patched = old.clone();
            if let Some(patch) = changes(&old, &new) {
                apply(&mut patched, &patch);
            }
            prop_assert_eq!(patched, new);
        }
    }
}
