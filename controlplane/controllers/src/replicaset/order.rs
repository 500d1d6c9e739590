//! Which pods of a replica set go first.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::common::meta::created_at;
use crate::common::pods::{Restarts, is_ready, node_name, phase, ready_since, restarts};

/// What a pod's deletion costs, as its owner's users say: cheaper pods go first.
const COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod's place: the lowest goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Pods without a node have nothing to lose.
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    /// Nodes with more pods of the same kind lose one first.
    beside: Reverse<usize>,
    /// For about how long it has been ready: the shortest goes first, and of two that are about equal, any.
    ready_for: u32,
    restarts: Reverse<Restarts>,
    age: u32,
    uid: String,
}

impl Rank {
    /// A pod's place, where `beside` pods of the same kind run on its node.
    pub fn of(pod: &Pod, beside: usize, now: Timestamp) -> Rank {
        let ready = is_ready(pod);
        Rank {
            assigned: node_name(pod).is_some(),
            phase: match phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready,
            cost: deletion_cost(pod),
            beside: Reverse(beside),
            ready_for: ready_since(pod).map_or(0, |since| magnitude(since, now)),
            restarts: Reverse(restarts(pod)),
            age: magnitude(created_at(&pod.metadata), now),
            uid: pod.uid().unwrap_or_default(),
        }
    }
}

/// The binary logarithm of the time since then, in seconds: pods of about the same age are of the same age, so that a
/// roll-back does not take all the pods of one zone, which started together.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let seconds = now.duration_since(since).as_secs();
    match u64::try_from(seconds) {
        Ok(seconds) => seconds.checked_ilog2().map_or(0, |log| log + 1),
        Err(_) => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.annotations().get(COST_ANNOTATION);
    // Kubernetes reads no plus and no leading zeros, and what it cannot read as nothing. The API server refuses it.
    let plain = |cost: &&String| *cost == "0" || !cost.starts_with(['+', '0']);
    let cost = cost.filter(plain).and_then(|cost| cost.parse().ok());
    cost.unwrap_or_default()
}
