//! Managed fields: which manager set which field last.
//!
//! An update gives its manager what it changed or added, and takes it from all others; what no longer exists belongs
//! to nobody. Sets of fields are in the form in which they are stored (`FieldsV1`): a tree with `f:` for a field,
//! `k:` for the element of a keyed list, `v:` for that of a set, and `.` for the thing itself.

use std::collections::{HashMap, HashSet};

use keelson_schema::{Field, Shape, Type};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::value;

/// Metadata that the server sets, and `apiVersion` and `kind`, have no manager.
const UNMANAGED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// Who writes, and through what.
pub struct Writer<'a> {
    /// The manager.
    pub manager: &'a str,
    /// The version of the object's kind.
    pub api_version: &'a str,
    /// `status`, or "".
    pub subresource: &'a str,
}

/// Brings the managed fields of `new` up to date: `old`'s (null for a new object), and what this write changed.
pub fn update(ty: Type<'_>, writer: &Writer<'_>, old: &Value, new: &mut Value) {
    const PATH: [&str; 2] = ["metadata", "managedFields"];
    // A client that sends an empty list wants them to be gone.
    let reset = value::at(new, &PATH)
        .as_array()
        .is_some_and(|list| matches!(list.as_slice(), [] | [Value::Null]))
        && !old.is_null()
        && !value::list_at(old, &PATH).is_empty();
    let mut entries: Vec<Value> = match reset {
        true => Vec::new(),
        false => value::list_at(old, &PATH).to_vec(),
    };
    value::remove(new, &PATH);
    let mine = |entry: &Value| {
        value::str_at(entry, &["manager"]) == writer.manager
            && value::str_at(entry, &["operation"]) == "Update"
            && value::str_at(entry, &["apiVersion"]) == writer.api_version
            && value::str_at(entry, &["subresource"]) == writer.subresource
    };
    let changed = managed_part(struct_changes(ty, old, new));
    let mut found = false;
    for entry in &mut entries {
        let before = value::at(entry, &["fieldsV1"]).clone();
        let mut fields = before.clone();
        if mine(entry) {
            found = true;
            unite(&mut fields, &changed);
        } else {
            subtract(&mut fields, &changed);
        }
        prune(&mut fields, ty_shape(ty), new);
        if fields != before && mine(entry) {
            value::set(entry, &["time"], clock::now_rfc3339());
        }
        value::set(entry, &["fieldsV1"], fields);
    }
    if !found && !is_empty(&changed) {
        let mut entry = json!({
            "manager": writer.manager,
            "operation": "Update",
            "apiVersion": writer.api_version,
            "time": clock::now_rfc3339(),
            "fieldsType": "FieldsV1",
            "fieldsV1": changed,
        });
        if !writer.subresource.is_empty() {
            value::set(&mut entry, &["subresource"], writer.subresource);
        }
        entries.push(entry);
    }
    entries.retain(|entry| !is_empty(value::at(entry, &["fieldsV1"])));
    if !entries.is_empty() {
        value::set(new, &PATH, entries);
    }
}

/// How a value is taken apart.
#[derive(Clone, Copy)]
enum Apart<'s> {
    Struct(Type<'s>),
    Map(Option<Type<'s>>),
    Keyed(Option<Type<'s>>, &'s [&'static str]),
    Set,
    Whole,
}

fn ty_shape(ty: Type<'_>) -> Apart<'_> {
    match ty.map_type() {
        Some("atomic") => Apart::Whole,
        _ if ty.fields().next().is_none() => Apart::Whole,
        _ => Apart::Struct(ty),
    }
}

fn apart<'s>(field: Field<'s>) -> Apart<'s> {
    let inner = field.element_type();
    match field.shape() {
        Shape::List => match field.list_type() {
            Some("map") => Apart::Keyed(inner, field.list_map_keys()),
            Some("set") => Apart::Set,
            _ => Apart::Whole,
        },
        Shape::Map => match field.map_type() {
            Some("atomic") => Apart::Whole,
            _ => Apart::Map(inner.filter(|ty| ty.fields().next().is_some())),
        },
        _ => match inner {
            Some(_) if field.map_type() == Some("atomic") => Apart::Whole,
            Some(ty) => ty_shape(ty),
            None => Apart::Whole,
        },
    }
}

fn element_apart(inner: Option<Type<'_>>) -> Apart<'_> {
    inner.map_or(Apart::Whole, ty_shape)
}

fn struct_changes(ty: Type<'_>, old: &Value, new: &Value) -> Value {
    changes(Apart::Struct(ty), old, new).unwrap_or_else(|| json!({}))
}

/// What of `new` is not as in `old`; none if nothing is.
fn changes(apart: Apart<'_>, old: &Value, new: &Value) -> Option<Value> {
    if value::same(old, new) {
        return None;
    }
    let mut set = Map::new();
    match (apart, new) {
        (Apart::Struct(ty), Value::Object(map)) => {
            for (name, new) in map {
                let Some(field) = ty.field(name) else {
                    continue;
                };
                let old = old.get(name).unwrap_or(&Value::Null);
                if let Some(inner) = changes(self::apart(field), old, new) {
                    set.insert(format!("f:{name}"), inner);
                }
            }
        }
        (Apart::Map(inner), Value::Object(map)) => {
            if old.is_null() {
                set.insert(".".to_owned(), json!({}));
            }
            for (name, new) in map {
                let old = old.get(name).unwrap_or(&Value::Null);
                if let Some(inner) = changes(element_apart(inner), old, new) {
                    set.insert(format!("f:{name}"), inner);
                }
            }
        }
        (Apart::Keyed(inner, keys), Value::Array(list)) => {
            if old.is_null() {
                set.insert(".".to_owned(), json!({}));
            }
            let olds = by_key(old, keys);
            for new in list {
                let key = key_of(new, keys);
                let old = olds.get(&key).copied().unwrap_or(&Value::Null);
                let changed = changes(element_apart(inner), old, new);
                if let Some(mut changed) = changed {
                    if old.is_null() {
                        value::set(&mut changed, &["."], json!({}));
                    }
                    set.insert(key, changed);
                }
            }
        }
        (Apart::Set, Value::Array(list)) => {
            if old.is_null() {
                set.insert(".".to_owned(), json!({}));
            }
            let olds: HashSet<&Value> = value::list_at(old, &[]).iter().collect();
            for new in list {
                if !olds.contains(new) {
                    set.insert(format!("v:{new}"), json!({}));
                }
            }
        }
        (_, Value::Null) => return None,
        _ => {}
    }
    Some(Value::Object(set))
}

/// `k:{"name":"a"}`
fn key_of(element: &Value, keys: &[&'static str]) -> String {
    let key: Map<String, Value> = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), element.get(key)?.clone())))
        .collect();
    format!("k:{}", Value::Object(key))
}

fn by_key<'a>(list: &'a Value, keys: &[&'static str]) -> HashMap<String, &'a Value> {
    let elements = value::list_at(list, &[]).iter().rev();
    elements
        .map(|element| (key_of(element, keys), element))
        .collect()
}

fn managed_part(mut set: Value) -> Value {
    for field in ["f:apiVersion", "f:kind"] {
        value::remove(&mut set, &[field]);
    }
    for field in UNMANAGED {
        value::remove(&mut set, &["f:metadata", &format!("f:{field}")]);
    }
    if value::at(&set, &["f:metadata"]) == &json!({}) {
        value::remove(&mut set, &["f:metadata"]);
    }
    set
}

fn is_empty(set: &Value) -> bool {
    set.as_object().is_none_or(Map::is_empty)
}

/// Adds `other` to `set`.
fn unite(set: &mut Value, other: &Value) {
    let (Value::Object(map), Value::Object(other)) = (&mut *set, other) else {
        return;
    };
    for (key, inner) in other {
        match map.get_mut(key) {
            Some(here) => unite(here, inner),
            None => {
                map.insert(key.clone(), inner.clone());
            }
        }
    }
}

/// Takes the leaves of `other` out of `set`, and what is empty after that.
fn subtract(set: &mut Value, other: &Value) {
    let (Value::Object(map), Value::Object(other)) = (&mut *set, other) else {
        return;
    };
    for (key, inner) in other {
        let gone = match map.get_mut(key) {
            Some(here) if !is_empty(inner) => {
                let was_leaf = is_empty(here);
                subtract(here, inner);
                was_leaf || is_empty(here)
            }
            Some(_) => true,
            None => false,
        };
        if gone {
            map.remove(key);
        }
    }
}

/// Takes out what `object` does not have.
fn prune(set: &mut Value, apart: Apart<'_>, object: &Value) {
    let Value::Object(map) = set else { return };
    let elements = match apart {
        Apart::Keyed(_, keys) => by_key(object, keys),
        Apart::Set => {
            let elements = value::list_at(object, &[]).iter();
            elements.map(|one| (format!("v:{one}"), one)).collect()
        }
        _ => HashMap::new(),
    };
    map.retain(|key, inner| {
        let (kind, name) = key.split_at(key.len().min(2));
        let (here, apart) = match (kind, apart) {
            (".", _) => return true,
            ("f:", Apart::Struct(ty)) => (
                value::at(object, &[name]),
                ty.field(name).map_or(Apart::Whole, self::apart),
            ),
            ("f:", Apart::Map(inner)) => (value::at(object, &[name]), element_apart(inner)),
            ("k:", Apart::Keyed(inner, _)) => (
                elements.get(key).copied().unwrap_or(&Value::Null),
                element_apart(inner),
            ),
            ("v:", Apart::Set) => return elements.contains_key(key),
            // Below something that is a whole now, or was of another type once.
            _ => return false,
        };
        if here.is_null() {
            return false;
        }
        let was_leaf = is_empty(inner);
        prune(inner, apart, here);
        was_leaf || !is_empty(inner)
    });
    // The thing itself alone, of what else is gone, is still owned: an empty map or element.
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_schema::Schemas;

    fn deployment() -> Type<'static> {
        Schemas::kubernetes()
            .kind("apps", "v1", "Deployment")
            .unwrap()
    }

    fn written(manager: &str, old: &Value, mut new: Value) -> Value {
        let writer = Writer {
            manager,
            api_version: "apps/v1",
            subresource: "",
        };
        update(deployment(), &writer, old, &mut new);
        new
    }

    fn fields(object: &Value, manager: &str) -> Value {
        value::list_at(object, &["metadata", "managedFields"])
            .iter()
            .find(|entry| entry["manager"] == manager)
            .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
    }

    fn object(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": image}]}}}})
    }

    #[test]
    fn who_creates_an_object_owns_what_it_has() {
        let created = written("me", &Value::Null, object(3, "x"));
        assert_eq!(
            fields(&created, "me"),
            json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec":
                {"f:containers": {".": {}, "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}}}}}}})
        );
    }

    #[test]
    fn a_changed_field_changes_hands() {
        let created = written("me", &Value::Null, object(3, "x"));
        let scaled = written("you", &created, object(5, "x"));
        assert_eq!(
            fields(&scaled, "you"),
            json!({"f:spec": {"f:replicas": {}}})
        );
        assert!(fields(&scaled, "me")["f:spec"].get("f:replicas").is_none());
        assert!(fields(&scaled, "me")["f:spec"]["f:template"].is_object());
    }

    #[test]
    fn a_removed_field_belongs_to_nobody() {
        let created = written("me", &Value::Null, object(3, "x"));
        let mut without = object(3, "x");
        without["metadata"]["labels"] = Value::Null;
        let updated = written("you", &created, without);
        assert_eq!(fields(&updated, "you"), Value::Null);
        assert!(fields(&updated, "me").get("f:metadata").is_none());
    }

    #[test]
    fn a_write_that_changes_nothing_leaves_everything() {
        let created = written("me", &Value::Null, object(3, "x"));
        let again = written("you", &created, object(3, "x"));
        assert_eq!(
            again["metadata"]["managedFields"],
            created["metadata"]["managedFields"]
        );
    }

    #[test]
    fn long_lists_are_compared_in_no_time() {
        const MANY: usize = 20_000;
        let with = |image: &str| {
            let containers: Vec<Value> = (0..MANY)
                .map(|n| json!({"name": format!("c{n}"), "image": image}))
                .collect();
            let finalizers: Vec<Value> = (0..MANY).map(|n| format!("{image}/{n}").into()).collect();
            json!({"metadata": {"name": "web", "finalizers": finalizers},
                "spec": {"template": {"spec": {"containers": containers}}}})
        };
        let began = std::time::Instant::now();
        let old = written("a", &Value::Null, with("a"));
        let new = written("b", &old, with("b"));
        let owned = fields(&new, "b");
        assert_eq!(
            owned["f:metadata"]["f:finalizers"]
                .as_object()
                .unwrap()
                .len(),
            MANY
        );
        // Each with each, it takes minutes.
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }
}
