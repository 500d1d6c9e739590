//! Whether a node is alive: when it was last heard of, by our own clock.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::taints::condition;
use crate::common::conditions;

/// The conditions that nobody can vouch for once nothing is heard of a node.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// When each node was last heard of.
#[derive(Debug, Default)]
pub struct Heard {
    nodes: HashMap<String, Signs>,
}

/// A node's signs of life, and when they changed on our clock. The times in them are another machine's.
#[derive(Debug, PartialEq)]
struct Signs {
    uid: Option<String>,
    conditions: Option<Vec<NodeCondition>>,
    renewed: Option<Timestamp>,
    at: Duration,
}

impl Heard {
    /// For how long nothing has been heard of a node.
    pub fn silence(&mut self, node: &Node, lease: Option<&Lease>, now: Duration) -> Duration {
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let renewed = renewed.map(|time| time.0);
        let conditions = node
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone());
        let uid = node.uid();
        let known = self.nodes.get(&node.name_any());
        let at = match known.filter(|known| known.uid == uid) {
            None => now,
            Some(known) => {
                let status = is_news(known.conditions.as_deref(), conditions.as_deref());
                let lease = renewed > known.renewed;
                if status || lease { now } else { known.at }
            }
        };
        let signs = Signs {
            uid,
            conditions,
            renewed,
            at,
        };
        self.nodes.insert(node.name_any(), signs);
        now.saturating_sub(at)
    }

    /// All nodes count as heard of now: for a while it was we who could hear nobody.
    pub fn pardon(&mut self, now: Duration) {
        self.nodes.values_mut().for_each(|signs| signs.at = now);
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| is_there(name));
    }
}

/// Whether a node's conditions have changed by its own doing, and not by our writing that they are unknown.
fn is_news(old: Option<&[NodeCondition]>, new: Option<&[NodeCondition]>) -> bool {
    let ready = |conditions: Option<&[NodeCondition]>| {
        let conditions = conditions.unwrap_or_default();
        conditions
            .iter()
            .find(|known| known.type_ == "Ready")
            .cloned()
    };
    match (ready(old), ready(new)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) if new.status == "Unknown" && old.status != "Unknown" => {
            new.last_heartbeat_time > old.last_heartbeat_time
        }
        (Some(old), Some(new)) => {
            old.last_heartbeat_time != new.last_heartbeat_time || old.status != new.status
        }
    }
}

/// The status of a node of which nothing has been heard for too long, if it does not say so yet.
pub fn unknown(node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let mut changed = false;
    for kind in VOUCHED {
        let known = conditions::get(&status.conditions, kind).cloned();
        if known
            .as_ref()
            .is_some_and(|known| known.status == "Unknown")
        {
            continue;
        }
        changed = true;
        let (reason, message) = match known {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => (
                "NodeStatusNeverUpdated",
                "Kubelet never posted node status.",
            ),
        };
        let heartbeat = match known {
            Some(known) => known.last_heartbeat_time,
            None => node.metadata.creation_timestamp.clone(),
        };
        let condition = NodeCondition {
            type_: kind.into(),
            status: "Unknown".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        };
        conditions::set(&mut status.conditions, condition);
    }
    changed.then_some(status)
}

/// A node's readiness; what has never said anything is unknown.
pub fn readiness(node: &Node) -> &str {
    condition(node, "Ready").unwrap_or("Unknown")
}
