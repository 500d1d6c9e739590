//! An object of any kind, as far as a story needs it.

use std::fmt;

use serde_json::Value;

/// An object as it was at one revision.
#[derive(Debug, Clone)]
pub struct Object {
    /// In lower case, as in `replicaset`.
    kind: String,
    value: Value,
}

/// One that is named: by an owner reference, an event, or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'a> {
    /// In lower case.
    pub kind: String,
    pub name: &'a str,
    /// Empty if it is not known.
    pub uid: &'a str,
}

impl Object {
    pub fn new(kind: &str, value: Value) -> Object {
        Object {
            kind: kind.to_ascii_lowercase(),
            value,
        }
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    pub fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    /// Revisions are comparable numbers, which Kubernetes has promised since 1.35.
    pub fn revision(&self) -> u64 {
        self.text("/metadata/resourceVersion").parse().unwrap_or(0)
    }

    pub fn is_deleting(&self) -> bool {
        !self.text("/metadata/deletionTimestamp").is_empty()
    }

    /// Whether it is a pod that has not run to its end.
    pub fn is_running_pod(&self) -> bool {
        let ended = ["Succeeded", "Failed"].contains(&self.text("/status/phase"));
        self.kind == "pod" && !ended
    }

    /// Those who own it.
    pub fn owners(&self) -> impl Iterator<Item = Reference<'_>> {
        self.list("/metadata/ownerReferences").iter().map(reference)
    }

    /// Whether it owns that one, which must name it, and from where it can: what is in a namespace owns nothing in another,
    /// whatever UID is written there.
    pub fn owns(&self, other: &Object) -> bool {
        let in_reach = self.namespace().is_empty() || self.namespace() == other.namespace();
        in_reach && other.owners().any(|owner| owner.uid == self.uid())
    }

    /// Whom it is about, if it is an event.
    pub fn regarding(&self) -> Option<Reference<'_>> {
        let about = ["/involvedObject", "/regarding"];
        let named = about.iter().find_map(|at| self.value.pointer(at));
        named.filter(|_| self.kind == "event").map(reference)
    }

    /// A string, or an empty one.
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.value.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or("")
    }

    pub fn list(&self, pointer: &str) -> &[Value] {
        let value = self.value.pointer(pointer).and_then(Value::as_array);
        value.map_or(&[], Vec::as_slice)
    }

    /// The service that an Endpoints object or an endpoint slice belongs to.
    pub fn service(&self) -> Option<&str> {
        match self.kind.as_str() {
            "endpoints" => Some(self.name()),
            "endpointslice" => {
                let labels = self.value.pointer("/metadata/labels")?;
                labels.get("kubernetes.io/service-name")?.as_str()
            }
            _ => None,
        }
    }

    /// Whether this is a service whose endpoints that pod is.
    pub fn selects(&self, pod: &Object) -> bool {
        let selector = self
            .value
            .pointer("/spec/selector")
            .and_then(Value::as_object);
        let labels = pod
            .value
            .pointer("/metadata/labels")
            .and_then(Value::as_object);
        let (Some(selector), Some(labels)) = (selector, labels) else {
            return false;
        };
        self.kind == "service"
            && pod.kind == "pod"
            && self.namespace() == pod.namespace()
            && !selector.is_empty()
            && selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn reference(value: &Value) -> Reference<'_> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    Reference {
        kind: text("kind").to_ascii_lowercase(),
        name: text("name"),
        uid: text("uid"),
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name())
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
