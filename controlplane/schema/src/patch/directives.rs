//! The words that a strategic merge patch has for what a plain merge cannot say.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Error;

/// Beside an object's fields, or in a list's item: `delete`, `replace` or `merge`.
pub(super) const PATCH: &str = "$patch";
/// Beside an object's fields: the only ones that stay.
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
/// In front of a list's name: items to remove.
pub(super) const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
/// In front of a list's name: the order of its items.
pub(super) const SET_ORDER: &str = "$setElementOrder/";

/// What is left of a value that goes into an object as it stands: without nulls, and without what says how it is to be
/// merged, since there is nothing to merge it with. Nothing, if that is what the value itself is.
pub(super) fn strip(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.contains_key(PATCH) => None,
        Value::Object(object) => {
            let plain = object
                .into_iter()
                .filter(|(key, value)| !is_directive(key) && !value.is_null());
            Some(Value::Object(
                plain
                    .filter_map(|(key, value)| Some((key, strip(value)?)))
                    .collect(),
            ))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(strip).collect())),
        scalar => Some(scalar),
    }
}

fn is_directive(key: &str) -> bool {
    matches!(key, PATCH | RETAIN_KEYS)
        || key.starts_with(DELETE_FROM_LIST)
        || key.starts_with(SET_ORDER)
}

/// Carries out `$retainKeys`: fields that it does not name go.
pub(super) fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let malformed = || Error::Invalid("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = keys else {
        return Err(malformed());
    };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let retained = |key: &String| keys.contains(key.as_str());
    let is_written = |(key, value): &(&String, &Value)| {
        !value.is_null() && !key.starts_with(DELETE_FROM_LIST) && !key.starts_with(SET_ORDER)
    };
    if patch
        .iter()
        .filter(is_written)
        .any(|(key, _)| !retained(key))
    {
        return Err(malformed());
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

/// The items of a list of objects that are to be merged, after those that are to be deleted or that replace it are.
pub(super) struct Special {
    pub original: Vec<Value>,
    pub patch: Vec<Value>,
    /// Whether the list is replaced by what `original` has.
    pub replaced: bool,
}

/// Carries out the `$patch` of a list's items.
pub(super) fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<Special, Error> {
    let mut plain = Vec::new();
    let mut deleted = HashSet::new();
    let mut replace = false;
    for item in patch {
        match item.get(PATCH).and_then(Value::as_str) {
            None if item.get(PATCH).is_none() => plain.push(item),
            Some("delete") => {
                let key = item
                    .get(merge_key)
                    .ok_or_else(|| no_merge_key(&item, merge_key))?;
                deleted.insert(key.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Unsupported(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => return Err(unknown_patch(&item)),
        }
    }
    original.retain(|known| {
        known
            .get(merge_key)
            .is_none_or(|key| !deleted.contains(key))
    });
    let (original, patch) = if replace {
        (plain, Vec::new())
    } else {
        (original, plain)
    };
    Ok(Special {
        original,
        patch,
        replaced: replace,
    })
}

pub(super) fn no_merge_key(item: &Value, merge_key: &str) -> Error {
    let item = crate::go::value(item);
    Error::Unsupported(format!(
        "map: {item} does not contain declared merge key: {merge_key}"
    ))
}

pub(super) fn unknown_patch(object: &Value) -> Error {
    let directive = object.get(PATCH).map(crate::go::value).unwrap_or_default();
    Error::Unsupported(format!(
        "unknown patch type: {directive} in map: {}",
        crate::go::value(object)
    ))
}
