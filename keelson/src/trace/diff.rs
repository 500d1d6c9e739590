//! What differs between two versions of an object, and how that is told in a few words.

use std::fmt;

use serde_json::{Map, Value};

/// What is another in every version, and says nothing of who made it so, nor of what else changed.
const BOOKKEEPING: [&str; 2] = ["managedFields", "resourceVersion"];
/// What only says when something changed, or why.
const UNTOLD: [&str; 8] = [
    "generation",
    "observedGeneration",
    "lastTransitionTime",
    "lastUpdateTime",
    "lastHeartbeatTime",
    "lastProbeTime",
    "message",
    "reason",
];
/// What names the element of a list.
const KEYS: [&str; 2] = ["type", "name"];
const SHOWN_CHARS: usize = 40;

/// A value that is not as it was; none where there is, or was, nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub path: Vec<Step>,
    old: Option<Value>,
    new: Option<Value>,
}

/// A step from a value to one within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Field(String),
    /// The element of a list whose `key` is `value`.
    Element {
        key: &'static str,
        value: String,
    },
}

/// All that differs, the shortest paths first.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&mut Vec::new(), Some(old), Some(new), &mut found);
    found.sort_by_key(|difference| difference.path.len());
    found
}

fn compare(
    path: &mut Vec<Step>,
    old: Option<&Value>,
    new: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if old == new {
        return;
    }
    // What is in a new part is told, not that there is one; but an element of a list is told as a whole.
    let nothing = match new {
        Some(Value::Object(_)) if !matches!(path.last(), Some(Step::Element { .. })) => {
            Some(Value::Object(Map::new()))
        }
        Some(Value::Array(list)) if key_of(&[], list).is_some() => Some(Value::Array(Vec::new())),
        _ => None,
    };
    let old = old.or(nothing.as_ref().filter(|nothing| Some(*nothing) != new));
    let mut inner = |step: Step, old: Option<&Value>, new: Option<&Value>| {
        path.push(step);
        compare(path, old, new, found);
        path.pop();
    };
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in union(old, new) {
                inner(Step::Field(name.clone()), old.get(name), new.get(name));
            }
        }
        (Some(Value::Array(olds)), Some(Value::Array(news))) if key_of(olds, news).is_some() => {
            let key = key_of(olds, news).unwrap_or_default();
            for value in values(key, news.iter().chain(olds)) {
                let step = Step::Element {
                    key,
                    value: value.to_owned(),
                };
                inner(step, element(olds, key, value), element(news, key, value));
            }
        }
        _ => found.push(Difference {
            path: path.clone(),
            old: old.cloned(),
            new: new.cloned(),
        }),
    }
}

fn values<'a>(key: &str, elements: impl Iterator<Item = &'a Value>) -> Vec<&'a str> {
    let mut values: Vec<&str> = Vec::new();
    for value in elements.filter_map(|element| element.get(key)?.as_str()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn element<'a>(list: &'a [Value], key: &str, value: &str) -> Option<&'a Value> {
    let is_it = |element: &&Value| element.get(key).and_then(Value::as_str) == Some(value);
    list.iter().find(is_it)
}

fn union<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a String> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let all = new.keys().chain(gone);
    all.filter(|name| !BOOKKEEPING.contains(&name.as_str()))
        .collect()
}

/// The field that tells the elements of two lists apart, if there is one.
fn key_of(old: &[Value], new: &[Value]) -> Option<&'static str> {
    let names = |list: &[Value], key: &str| {
        let mut names: Vec<&str> = Vec::new();
        list.iter().all(|element| {
            let name = element.get(key).and_then(Value::as_str);
            let is_new = name.is_some_and(|name| !names.contains(&name));
            names.extend(name);
            is_new
        })
    };
    let is_empty = old.is_empty() && new.is_empty();
    KEYS.into_iter()
        .find(|key| !is_empty && names(old, key) && names(new, key))
}

impl Difference {
    /// Whether it is worth telling.
    pub fn is_told(&self) -> bool {
        let is_untold = |step: &Step| match step {
            Step::Field(name) => UNTOLD.contains(&name.as_str()),
            Step::Element { .. } => false,
        };
        !self.path.last().is_some_and(is_untold)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.path.iter().enumerate() {
            match step {
                Step::Field(name) if place == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Element { value, .. } => write!(f, "[{value}]")?,
            }
        }
        match (self.old.as_ref().map(shown), self.new.as_ref().map(shown)) {
            (None, Some(new)) => write!(f, "={new}"),
            (Some(old), Some(new)) if old != new => write!(f, " {old}→{new}"),
            (Some(_), None) => write!(f, " gone"),
            _ => write!(f, " changed"),
        }
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => match list.len() {
            1 => "1 item".to_owned(),
            many => format!("{many} items"),
        },
        // A condition is what it says.
        Value::Object(map) => match map.get("status").and_then(Value::as_str) {
            Some(status) => status.to_owned(),
            None => "{…}".to_owned(),
        },
        plain => plain.to_string(),
    };
    let mut shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS)
        .collect();
    if text.chars().count() > SHOWN_CHARS {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(old: Value, new: Value) -> Vec<String> {
        let all = differences(&old, &new).into_iter();
        all.filter(Difference::is_told)
            .map(|one| one.to_string())
            .collect()
    }

    #[test]
    fn what_changed_is_told_by_its_path() {
        assert_eq!(
            told(
                json!({"spec": {"replicas": 3, "paused": true}, "metadata": {"generation": 1}}),
                json!({"spec": {"replicas": 10, "nodeName": "node-1"}, "metadata": {"generation": 2}}),
            ),
            [
                "spec.nodeName=node-1",
                "spec.replicas 3→10",
                "spec.paused gone"
            ]
        );
    }

    #[test]
    fn elements_are_told_by_their_names_and_conditions_by_what_they_say() {
        let conditions = |list: Value| json!({"status": {"conditions": list}});
        assert_eq!(
            told(
                conditions(json!([{"type": "Ready", "status": "False", "reason": "a"}])),
                conditions(
                    json!([{"type": "Ready", "status": "True", "reason": "b"}, {"type": "New", "status": "True"}])
                ),
            ),
            [
                "status.conditions[New]=True",
                "status.conditions[Ready].status False→True"
            ]
        );
    }

    #[test]
    fn lists_without_names_are_told_by_their_length() {
        let of = |list: Value| json!({"endpoints": list});
        assert_eq!(
            told(of(json!([1])), of(json!([1, 2]))),
            ["endpoints 1 item→2 items"]
        );
        assert_eq!(told(of(json!([1])), of(json!([2]))), ["endpoints changed"]);
    }

    #[test]
    fn of_what_is_new_the_contents_are_told() {
        assert_eq!(
            told(
                json!({"metadata": {}, "status": {}}),
                json!({"metadata": {"labels": {"app": "web"}}, "status": {"conditions": [{"type": "New", "status": "True"}], "ips": [1]}}),
            ),
            [
                "status.ips=1 item",
                "metadata.labels.app=web",
                "status.conditions[New]=True"
            ]
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = "x".repeat(100);
        let told = told(json!({}), json!({"a": long}));
        assert_eq!(told[0].chars().count(), "a=".len() + SHOWN_CHARS + 1);
    }
}
