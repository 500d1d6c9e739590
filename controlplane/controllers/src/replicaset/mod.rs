//! Replica sets: as many pods as were asked for.
//!
//! [`reconcile`] says what to do about one replica set; [`run`](run::ReplicaSets) does it. Pods are created and deleted
//! only while everything that was asked for before has been seen ([`Expectations`](crate::common::expectations)), so
//! that nothing is done twice, and there is never one pod too many.

mod order;
mod run;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod writes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::common::meta::{Claim, Labels, claim, is_deleted};
use crate::common::owner::controller_reference;
use crate::common::pods::{available_in, is_active, is_terminal, node_name};

pub use order::Rank;
pub use run::ReplicaSets;
pub use status::{Failure, status};

/// The most pods that are created or deleted at once.
pub const BURST_MAX: usize = 500;

/// What is known of one replica set.
pub struct Observed<'a> {
    /// Itself.
    pub replica_set: &'a ReplicaSet,
    /// The pods of its namespace that it controls, or that nobody does. Those that were asked to go already are not
    /// among them, whatever the store says.
    pub pods: &'a [Arc<Pod>],
    /// The pods of other replica sets with the same controller: of two nodes, the one with more of them loses one first.
    pub related: &'a [Arc<Pod>],
    /// Whether all that was asked for before has been seen.
    pub settled: bool,
    /// How many pods were asked for and have not been seen.
    pub creating: usize,
    /// The time.
    pub now: Timestamp,
}

/// Something to do. Adopting and releasing come first: if any of it fails, nothing else may be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take on a pod that belongs to nobody, if the replica set really still is there.
    Adopt(Arc<Pod>),
    /// Let go of a pod that does not match any more.
    Release(Arc<Pod>),
    /// Create that many pods.
    Create(usize),
    /// Delete these pods.
    Delete(Vec<Arc<Pod>>),
    /// Write this status.
    SetStatus(ReplicaSetStatus),
}

/// What to do, in order, and when to look again even if nothing changes.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do. A status is the last.
    pub actions: Vec<Action>,
    /// When a pod that is ready will have been so for long enough.
    pub again_after: Option<Duration>,
    /// The pods that remain when all is done, but for those to be created.
    pub remaining: Vec<Arc<Pod>>,
    /// The pods that are going.
    pub terminating: usize,
}

/// Says what to do about one replica set.
pub fn reconcile(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let replica_set = observed.replica_set;
    let mut claimed = claim_pods(observed, &mut plan);
    if observed.settled && !is_deleted(&replica_set.metadata) {
        manage(observed, &mut claimed, &mut plan);
    }
    let min_ready_seconds = replica_set.spec.min_ready_seconds.unwrap_or_default();
    let waits = claimed
        .iter()
        .filter_map(|pod| available_in(pod, min_ready_seconds, observed.now))
        .filter(|wait| !wait.is_zero());
    plan.again_after = waits.min();
    plan.remaining = claimed;
    let created = plan.actions.iter().map(|action| match action {
        Action::Create(count) => *count,
        _ => 0,
    });
    let creating = observed.creating + created.sum::<usize>();
    let status = status(
        replica_set,
        &plan.remaining,
        creating,
        plan.terminating,
        None,
        observed.now,
    );
    if replica_set.status.as_ref() != Some(&status) {
        plan.actions.push(Action::SetStatus(status));
    }
    plan
}

/// The active pods that are ours, or will be.
fn claim_pods(observed: &Observed<'_>, plan: &mut Plan) -> Vec<Arc<Pod>> {
    let replica_set = observed.replica_set;
    let labels = Labels::new(&replica_set.spec.selector);
    let mut claimed = Vec::new();
    for pod in observed.pods {
        let claim = claim(replica_set, &labels, &pod.metadata);
        if !is_active(pod) {
            let going = claim == Claim::Keep && is_deleted(&pod.metadata) && !is_terminal(pod);
            plan.terminating += usize::from(going);
            continue;
        }
        match claim {
            Claim::Ignore => continue,
            Claim::Keep => claimed.push(pod.clone()),
            Claim::Adopt => {
                plan.actions.push(Action::Adopt(pod.clone()));
                claimed.push(pod.clone());
            }
            Claim::Release => plan.actions.push(Action::Release(pod.clone())),
        }
    }
    claimed
}

/// Creates what is missing, or deletes what is too many.
fn manage(observed: &Observed<'_>, claimed: &mut Vec<Arc<Pod>>, plan: &mut Plan) {
    let wanted = observed.replica_set.spec.replicas.unwrap_or(1);
    let wanted = usize::try_from(wanted).unwrap_or_default();
    if claimed.len() < wanted {
        let missing = (wanted - claimed.len()).min(BURST_MAX);
        plan.actions.push(Action::Create(missing));
    } else if claimed.len() > wanted {
        let excess = (claimed.len() - wanted).min(BURST_MAX);
        let mut per_node: HashMap<&str, usize> = HashMap::new();
        for pod in observed.related.iter().filter(|pod| is_active(pod)) {
            *per_node
                .entry(node_name(pod).unwrap_or_default())
                .or_default() += 1;
        }
        let beside = |pod: &Pod| {
            let node = node_name(pod).unwrap_or_default();
            per_node.get(node).copied().unwrap_or_default()
        };
        claimed.sort_by_cached_key(|pod| Rank::of(pod, beside(pod), observed.now));
        let kept = claimed.split_off(excess);
        let victims = std::mem::replace(claimed, kept);
        plan.terminating += victims.len();
        plan.actions.push(Action::Delete(victims));
    }
}

/// The sizes of the batches in which `count` pods are created: 1, 2, 4, …, so that what fails always (a quota, say)
/// fails once, and not for every pod.
pub fn batches(count: usize) -> impl Iterator<Item = usize> {
    let mut rest = count;
    let mut size = 1;
    std::iter::from_fn(move || {
        let batch = size.min(rest);
        rest -= batch;
        size *= 2;
        (batch > 0).then_some(batch)
    })
}

/// The pod that a replica set creates. The server gives it its name, so that two attempts never meet.
pub fn pod_from_template(replica_set: &ReplicaSet) -> Pod {
    let template = replica_set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: kube::api::ObjectMeta {
            generate_name: Some(format!("{}-", replica_set.name_any())),
            namespace: replica_set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(replica_set)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}
