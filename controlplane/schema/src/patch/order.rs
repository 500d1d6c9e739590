//! The order of a merged list.
//!
//! A list may be as long as a request, so its items are looked up, and not looked for.

use std::collections::HashMap;

use serde_json::Value;

use super::Error;
use super::directives::{PATCH, SET_ORDER, no_merge_key};

/// How the items of a list are told apart: by a field, or by themselves.
#[derive(Clone, Copy)]
pub(super) enum Identity<'a> {
    Key(&'a str),
    Itself,
}

impl Identity<'_> {
    /// Whether two items are the same one.
    fn same(self, left: &Value, right: &Value) -> bool {
        self.of(left).is_some() && self.of(left) == self.of(right)
    }

    /// What an item is told apart by. Items without the key are none.
    fn of(self, item: &Value) -> Option<&Value> {
        match self {
            Identity::Key(key) => item.get(key),
            Identity::Itself => Some(item),
        }
    }

    /// Where each item of a list stands: of those that are the same one, the first.
    fn places(self, list: &[Value]) -> HashMap<&Value, usize> {
        let mut places = HashMap::with_capacity(list.len());
        for (place, item) in list.iter().enumerate() {
            if let Some(identity) = self.of(item) {
                places.entry(identity).or_insert(place);
            }
        }
        places
    }

    fn require(self, items: &[Value]) -> Result<(), Error> {
        let Identity::Key(key) = self else {
            return Ok(());
        };
        let lacking = items.iter().find(|item| item.get(key).is_none());
        lacking.map_or(Ok(()), |item| Err(no_merge_key(item, key)))
    }
}

/// Puts merged items in order: those that the patch names as `patch` orders them, those that only the server knows as
/// they stood in `server`, the latter among the former where they stood before.
pub(super) fn arrange(
    merged: Vec<Value>,
    patch: &[Value],
    server: &[Value],
    identity: Identity<'_>,
) -> Result<Vec<Value>, Error> {
    identity.require(&merged)?;
    let (in_patch, in_server) = (identity.places(patch), identity.places(server));
    let place = |item: &Value, places: &HashMap<&Value, usize>| {
        identity.of(item).and_then(|one| places.get(one).copied())
    };
    let (mut named, mut only_server): (Vec<_>, Vec<_>) = merged
        .into_iter()
        .partition(|item| place(item, &in_patch).is_some());
    named.sort_by_key(|item| place(item, &in_patch));
    only_server.sort_by_key(|item| place(item, &in_server));

    let mut arranged = Vec::with_capacity(named.len() + only_server.len());
    let mut only_server = only_server.into_iter().peekable();
    for item in named {
        let own = place(&item, &in_server);
        // What stood in front of this item stays in front of it. A new item has no place to compare with, and comes first.
        while let Some(before) =
            only_server.next_if(|other| own.is_some_and(|own| place(other, &in_server) < Some(own)))
        {
            arranged.push(before);
        }
        arranged.push(item);
    }
    arranged.extend(only_server);
    Ok(arranged)
}

/// Checks that a list of the patch has its items in the order that the patch asks for.
pub(super) fn validate(
    patch: &[Value],
    order: &[Value],
    identity: Identity<'_>,
) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    let deleted = |item: &&Value| item.get(PATCH).and_then(Value::as_str) == Some("delete");
    for item in patch.iter().filter(|item| !deleted(item)) {
        if !rest.any(|ordered| identity.same(item, ordered)) {
            let list = |items: &[Value]| crate::go::value(&Value::Array(items.to_vec()));
            let (patch, order) = (list(patch), list(order));
            let what = format!(
                "The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{order}\n"
            );
            return Err(Error::Unsupported(what));
        }
    }
    Ok(())
}
