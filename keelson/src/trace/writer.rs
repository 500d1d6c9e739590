//! Who wrote a version of an object: the field manager whose entry changed.

use serde_json::Value;

use super::diff::{Difference, Step};
use super::object::Object;

/// The manager that wrote `new`, if `new` tells: one that has taken fields, or, where nobody has, the one that owns what
/// changed. (A manager that writes its own fields again leaves no other trace.)
pub fn writer(old: Option<&Object>, new: &Object, changed: &[Difference]) -> Option<String> {
    let before = old.map_or(&[][..], entries);
    let taker = entries(new).iter().rev().find(|entry| {
        let was = before.iter().find(|was| is_same_manager(was, entry));
        was.is_none_or(|was| has_more(&was["fieldsV1"], &entry["fieldsV1"]))
    });
    let manager = taker.or_else(|| {
        let owned = |entry: &&Value| {
            let owns = |difference: &&Difference| owns(&entry["fieldsV1"], &difference.path);
            changed.iter().filter(owns).count()
        };
        let most = entries(new).iter().max_by_key(owned)?;
        (owned(&most) > 0).then_some(most)
    });
    Some(manager?["manager"].as_str()?.to_owned())
}

fn entries(object: &Object) -> &[Value] {
    object.list("/metadata/managedFields")
}

fn is_same_manager(one: &Value, other: &Value) -> bool {
    ["manager", "operation", "apiVersion", "subresource"]
        .iter()
        .all(|key| one.get(key) == other.get(key))
}

/// Whether a set of fields has some that another has not.
fn has_more(before: &Value, after: &Value) -> bool {
    let Value::Object(after) = after else {
        return false;
    };
    after.iter().any(|(key, inner)| match before.get(key) {
        Some(before) => has_more(before, inner),
        None => true,
    })
}

fn owns(fields: &Value, path: &[Step]) -> bool {
    let Some((step, rest)) = path.split_first() else {
        return true;
    };
    let Value::Object(fields) = fields else {
        return false;
    };
    // What has nothing within it is owned as a whole.
    if fields.is_empty() {
        return true;
    }
    let inner = match step {
        Step::Field(name) => fields.get(&format!("f:{name}")),
        Step::Element { key, value } => {
            let is_it = |name: &str| {
                let keys = name.strip_prefix("k:").map(serde_json::from_str::<Value>);
                keys.is_some_and(|keys| keys.is_ok_and(|keys| keys[*key] == **value))
            };
            fields
                .iter()
                .find(|(name, _)| is_it(name))
                .map(|(_, inner)| inner)
        }
    };
    inner.is_some_and(|inner| owns(inner, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::diff::differences;
    use super::*;

    fn object(replicas: u64, entries: Value) -> Object {
        let value = json!({"metadata": {"managedFields": entries}, "spec": {"replicas": replicas}, "status": {"replicas": replicas}});
        Object::new("Deployment", value)
    }

    fn entry(manager: &str, subresource: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": fields})
    }

    fn wrote(old: Option<&Object>, new: &Object) -> Option<String> {
        let nothing = json!({});
        let before = old.map_or(&nothing, Object::value);
        writer(old, new, &differences(before, new.value()))
    }

    #[test]
    fn who_made_an_object_is_its_only_manager() {
        let made = object(
            3,
            json!([entry("kubectl-create", "", json!({"f:spec": {}}))]),
        );
        assert_eq!(wrote(None, &made).as_deref(), Some("kubectl-create"));
    }

    #[test]
    fn who_took_a_field_wrote() {
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let old = object(3, json!([entry("kubectl-create", "", replicas.clone())]));
        let new = object(
            5,
            json!([
                entry("kubectl-create", "", json!({})),
                entry("kubectl", "scale", json!({"f:spec": {"f:replicas": {}}}))
            ]),
        );
        assert_eq!(wrote(Some(&old), &new).as_deref(), Some("kubectl"));
    }

    #[test]
    fn who_owns_what_changed_wrote_if_nobody_took_anything() {
        let entries = json!([
            entry("kubectl-create", "", json!({"f:spec": {"f:x": {}}})),
            entry(
                "kube-controller-manager",
                "status",
                json!({"f:status": {"f:replicas": {}}})
            ),
        ]);
        let mut old = object(3, entries.clone());
        let new = object(3, entries);
        let mut value = old.value().clone();
        value["status"]["replicas"] = json!(2);
        old = Object::new("Deployment", value);
        assert_eq!(
            wrote(Some(&old), &new).as_deref(),
            Some("kube-controller-manager")
        );
    }

    #[test]
    fn an_element_is_owned_by_its_key() {
        let fields =
            json!({"f:status": {"f:conditions": {"k:{\"type\":\"Ready\"}": {"f:status": {}}}}});
        let path = |kind: &str| {
            [
                Step::Field("status".into()),
                Step::Field("conditions".into()),
                Step::Element {
                    key: "type",
                    value: kind.into(),
                },
                Step::Field("status".into()),
            ]
        };
        assert!(owns(&fields, &path("Ready")));
        assert!(!owns(&fields, &path("Initialized")));
    }

    #[test]
    fn what_no_manager_did_has_no_name() {
        let made = object(
            3,
            json!([entry("kubectl-create", "", json!({"f:spec": {"f:x": {}}}))]),
        );
        assert_eq!(
            wrote(
                Some(&made),
                &object(3, made.value()["metadata"]["managedFields"].clone())
            ),
            None
        );
    }
}
