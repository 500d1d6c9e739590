//! Strategic merge patches: objects are merged field by field, and lists as their fields say, item by item.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::Error;
use super::directives::{self, DELETE_FROM_LIST, PATCH, SET_ORDER};
use super::order::{self, Identity};
use crate::table::{Field, Form, Type};

type Object = Map<String, Value>;

/// Merges a patch into an object of type `ty`; of no type that is known, if none is given.
pub(super) fn merge(
    ty: Option<Type<'_>>,
    mut original: Object,
    mut patch: Object,
) -> Result<Object, Error> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(directives::unknown_patch(&Value::Object(patch))),
        };
    }
    directives::retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(ty, &mut original, &mut patch)?;

    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(&mut original, list, value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let field = ty.and_then(|ty| ty.field(&key));
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(before)), Value::Object(patch)) => {
                merge_object(field, before, patch).map(Some)?
            }
            (Some(Value::Array(before)), Value::Array(patch)) => {
                Some(Value::Array(merge_list(field, before, patch)?.items))
            }
            (_, value) => directives::strip(value),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn merge_object(field: Option<Field<'_>>, original: Object, patch: Object) -> Result<Value, Error> {
    let merged = match has_strategy(field, "replace") {
        true => patch,
        false => merge(object_type(field), original, patch)?,
    };
    Ok(Value::Object(merged))
}

/// A merged list, and the one by which `$setElementOrder` says where the items that it does not name stood.
struct Merged {
    items: Vec<Value>,
    server: Vec<Value>,
}

fn merge_list(
    field: Option<Field<'_>>,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Merged, Error> {
    if !has_strategy(field, "merge") {
        return Ok(Merged {
            items: patch,
            server: original,
        });
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(Merged {
            items: original,
            server: Vec::new(),
        });
    }
    match identity(field, &original, &patch)? {
        Identity::Itself => {
            let mut seen = HashSet::new();
            let all = original.iter().chain(&patch);
            let merged: Vec<Value> = all.filter(|item| seen.insert(*item)).cloned().collect();
            let items = order::arrange(merged, &patch, &original, Identity::Itself)?;
            Ok(Merged {
                items,
                server: original,
            })
        }
        Identity::Key(key) => {
            let special = directives::special_items(original.clone(), patch, key)?;
            let (order, left) = (special.patch.clone(), special.original.clone());
            let replaced = special.replaced;
            let merged = merge_items(field, special, key)?;
            // In Kubernetes, new items take the places of deleted ones in the list that tells the old order.
            let server = match replaced {
                true => original,
                false => merged.iter().take(original.len()).cloned().collect(),
            };
            let items = order::arrange(merged, &order, &left, Identity::Key(key))?;
            Ok(Merged { items, server })
        }
    }
}

/// Merges each item of the patch into the one with the same key.
fn merge_items(
    field: Option<Field<'_>>,
    special: directives::Special,
    key: &str,
) -> Result<Vec<Value>, Error> {
    let mut merged = special.original;
    // Of those that have the same key, the first.
    let mut places: HashMap<Value, usize> = HashMap::with_capacity(merged.len());
    for (place, item) in merged.iter().enumerate() {
        if let Some(value) = item.get(key) {
            places.entry(value.clone()).or_insert(place);
        }
    }
    for item in special.patch {
        let value = item
            .get(key)
            .ok_or_else(|| directives::no_merge_key(&item, key))?;
        let at = places.get(value).copied();
        if at.is_none() {
            places.insert(value.clone(), merged.len());
        }
        match (at.map(|at| (at, std::mem::take(&mut merged[at]))), item) {
            (Some((at, Value::Object(before))), Value::Object(patch)) => {
                merged[at] = Value::Object(merge(object_type(field), before, patch)?);
            }
            (_, item) => merged.extend(directives::strip(item)),
        }
    }
    Ok(merged)
}

/// Carries out `$setElementOrder`, together with the lists that it is about, which are then done with.
fn merge_ordered_lists(
    ty: Option<Type<'_>>,
    original: &mut Object,
    patch: &mut Object,
) -> Result<(), Error> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let name = directive.trim_start_matches(SET_ORDER).to_owned();
        let list = |value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => {
                let received = crate::go::type_of(&other);
                Err(Error::Unsupported(format!(
                    "expected a []interface {{}}, but received a {received}"
                )))
            }
        };
        let order = list(patch.remove(&directive))?.unwrap_or_default();
        // A list that is deleted needs no order.
        if patch.get(&name).is_some_and(Value::is_null) {
            continue;
        }
        let before = list(original.remove(&name))?;
        let patched = list(patch.remove(&name))?;
        let field = ty.and_then(|ty| ty.field(&name));
        let identity = identity(
            field,
            before.as_deref().unwrap_or_default(),
            patched.as_deref().unwrap_or(&order),
        )?;
        order::validate(patched.as_deref().unwrap_or_default(), &order, identity)?;
        let Merged { items, server } = match (before, patched) {
            (None, None) => continue,
            (Some(before), None) => Merged {
                server: before.clone(),
                items: before,
            },
            (None, Some(patched)) => Merged {
                items: patched.into_iter().filter_map(directives::strip).collect(),
                server: Vec::new(),
            },
            (Some(before), Some(patched)) => merge_list(field, before, patched)?,
        };
        original.insert(
            name,
            Value::Array(order::arrange(items, &order, &server, identity)?),
        );
    }
    Ok(())
}

fn delete_from_list(original: &mut Object, list: &str, items: Value) -> Result<(), Error> {
    let Value::Array(items) = items else {
        return Err(Error::Invalid(
            "invalid patch format of primitive list".to_owned(),
        ));
    };
    if let Some(Value::Array(list)) = original.get_mut(list) {
        let items: HashSet<&Value> = items.iter().collect();
        list.retain(|item| !items.contains(item));
    }
    Ok(())
}

/// How the items of a list are told apart; fails for lists that cannot be merged.
fn identity<'f>(
    field: Option<Field<'f>>,
    original: &[Value],
    patch: &[Value],
) -> Result<Identity<'f>, Error> {
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else {
        return Ok(field
            .and_then(|field| field.patch_merge_key())
            .map_or(Identity::Itself, Identity::Key));
    };
    if first.is_array() {
        return Err(Error::Unprocessable(
            "lists of lists are not supported".to_owned(),
        ));
    }
    if items.any(|item| item.is_object() != first.is_object() || item.is_array()) {
        let lists = serde_json::json!([original, patch]);
        return Err(Error::Unsupported(format!(
            "list element types are not identical: {}",
            crate::go::value(&lists)
        )));
    }
    if !first.is_object() {
        return Ok(Identity::Itself);
    }
    let key = field
        .and_then(|field| field.patch_merge_key())
        .map(Identity::Key);
    key.ok_or_else(|| {
        let name = field
            .map(|field| field.go_element_type())
            .unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default();
        Error::Unsupported(format!("cannot merge lists without merge key for {name}"))
    })
}

fn has_strategy(field: Option<Field<'_>>, strategy: &str) -> bool {
    field
        .and_then(|field| field.patch_strategy())
        .is_some_and(|all| all.split(',').any(|one| one == strategy))
}

fn object_type(field: Option<Field<'_>>) -> Option<Type<'_>> {
    field?.element_type().filter(|ty| {
        ty.form() == Form::Object && field.is_some_and(|field| field.shape() != crate::Shape::Map)
    })
}
