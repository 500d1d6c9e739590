//! The taints that a node's conditions give it.

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// On a node whose agent says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// On a node of which nothing has been heard.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const CONDITIONS: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// New pods stay away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Pods that are there leave too.
pub const NO_EXECUTE: &str = "NoExecute";

/// Whether a taint is one that this controller puts on and takes off.
fn is_ours(taint: &Taint) -> bool {
    let condition = CONDITIONS.iter().any(|(_, key)| *key == taint.key);
    let health = taint.key == NOT_READY || taint.key == UNREACHABLE;
    match taint.effect.as_str() {
        NO_SCHEDULE => condition || health || taint.key == UNSCHEDULABLE,
        NO_EXECUTE => health,
        _ => false,
    }
}

/// Whether a node has a taint of this key and effect.
pub fn has(node: &Node, key: &str, effect: &str) -> bool {
    taints(node)
        .iter()
        .any(|taint| taint.key == key && taint.effect == effect)
}

/// A node's taints.
pub fn taints(node: &Node) -> &[Taint] {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    taints.unwrap_or_default()
}

/// The value of a node's condition.
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let known = conditions.iter().find(|condition| condition.type_ == kind);
    known.map(|condition| condition.status.as_str())
}

/// The taint that a node's readiness gives it.
pub fn of_readiness(ready: &str) -> Option<&'static str> {
    match ready {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    }
}

/// The taints that a node shall have: others' as they are, and ours. `evicting` says whether its pods shall leave.
pub fn desired(node: &Node, ready: &str, evicting: bool, now: Timestamp) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, key) in CONDITIONS {
        if condition(node, kind) == Some("True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    if let Some(key) = of_readiness(ready) {
        wanted.push((key, NO_SCHEDULE));
        if evicting {
            wanted.push((key, NO_EXECUTE));
        }
    }
    let known = taints(node);
    let keep = |taint: &&Taint| {
        !is_ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str()))
    };
    let mut desired: Vec<Taint> = known.iter().filter(keep).cloned().collect();
    for (key, effect) in wanted {
        if !has(node, key, effect) {
            desired.push(Taint {
                key: key.into(),
                effect: effect.into(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    desired
}
