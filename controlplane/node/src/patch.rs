//! The strategic merge patch from a pod's status to another.

use keelson_component::changes;
use serde_json::{Map, Value, json};

/// The lists of a pod's status that a strategic merge patch merges, and what their elements are told apart by.
const MERGED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// What to write so that `before` becomes `after`; `None` if there is nothing to write.
///
/// Where the API server merges lists by a key, whole lists would not do: what an element has lost, and an element that
/// is gone, must be named to be removed.
pub fn status_changes(before: &Value, after: &Value) -> Option<Value> {
    let Value::Object(mut patch) = changes(before, after)? else {
        return None;
    };
    for (list, key) in MERGED {
        let (Some(before), Some(after)) = (array(before, list), array(after, list)) else {
            continue;
        };
        match element_changes(before, after, key) {
            changed if changed.is_empty() => patch.remove(list),
            changed => patch.insert(list.to_owned(), changed.into()),
        };
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn array<'a>(status: &'a Value, list: &str) -> Option<&'a Vec<Value>> {
    status.get(list)?.as_array()
}

fn element_changes(before: &[Value], after: &[Value], key: &str) -> Vec<Value> {
    let with_key = |all: &[Value], of: &Value| {
        let mut all = all.iter();
        all.find(|each| each.get(key) == of.get(key)).cloned()
    };
    let nothing = Value::Object(Map::new());
    let changed = after.iter().filter_map(|element| {
        let was = with_key(before, element).unwrap_or_else(|| nothing.clone());
        let mut change = changes(&was, element)?;
        change[key] = element[key].clone();
        Some(change)
    });
    let gone = before
        .iter()
        .filter(|element| with_key(after, element).is_none())
        .map(|element| json!({"$patch": "delete", key: element[key]}));
    changed.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_no_longer_holds_is_removed() {
        let unready = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"});
        let same = json!({"type": "PodScheduled", "status": "True"});
        let before = json!({"phase": "Pending", "conditions": [unready, same]});
        let after =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, same]});
        let patch = json!({"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "reason": null, "message": null},
        ]});
        assert_eq!(status_changes(&before, &after), Some(patch));
    }

    #[test]
    fn an_address_that_was_replaced_does_not_stay_beside_the_new_one() {
        let before = json!({"podIPs": [{"ip": "10.0.0.2"}]});
        let after = json!({"podIPs": [{"ip": "10.0.0.3"}]});
        let patch = json!({"podIPs": [{"ip": "10.0.0.3"}, {"$patch": "delete", "ip": "10.0.0.2"}]});
        assert_eq!(status_changes(&before, &after), Some(patch));
    }

    #[test]
    fn a_list_that_is_new_or_gone_is_written_whole() {
        let with = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(status_changes(&json!({}), &with), Some(with.clone()));
        let without = json!({"conditions": null});
        assert_eq!(status_changes(&with, &json!({})), Some(without));
    }

    #[test]
    fn another_order_is_nothing_to_write() {
        let before = json!({"conditions": [{"type": "a"}, {"type": "b"}]});
        let after = json!({"conditions": [{"type": "b"}, {"type": "a"}]});
        assert_eq!(status_changes(&before, &after), None);
    }
}
