//! Deployments: from one template to the next, never with too many pods and never with too few.
//!
//! [`reconcile`] says what to do about one deployment; [`run`](run::Deployments) does it. A replica set is named after the
//! hash of its template, so that one whose creation was interrupted is found again, and every write names the version
//! that it was decided from.

mod history;
mod rolling;
mod rollout;
mod run;
mod scaling;
mod size;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use crate::common::meta::{Claim, Labels, claim, is_deleted};

pub use run::Deployments;
pub use size::Fenceposts;
pub use status::{creation_failed, now_collided};

use rollout::Rollout;

/// What is known of one deployment.
pub struct Observed<'a> {
    /// Itself.
    pub deployment: &'a Deployment,
    /// The replica sets of its namespace that it controls, or that nobody does.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// The UIDs of replica sets that still have pods, in whatever state but ended. Only a recreating deployment looks.
    pub with_pods: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// Something to do. If one thing fails, those after it must not be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Take on a replica set that belongs to nobody, if the deployment really still is there.
    Adopt(Arc<ReplicaSet>),
    /// Let go of a replica set that does not match any more.
    Release(Arc<ReplicaSet>),
    /// Create a replica set. If its name is taken: by one like it, all is well; by another, the hash has collided.
    Create(Box<ReplicaSet>),
    /// Change a replica set, if it is still as it was.
    Update {
        /// As it was.
        old: Arc<ReplicaSet>,
        /// As it shall be.
        new: Box<ReplicaSet>,
    },
    /// Delete a replica set of an old revision.
    Delete(Arc<ReplicaSet>),
    /// Annotate the deployment with its revision.
    SetRevision(String),
    /// Write this status.
    SetStatus(DeploymentStatus),
    /// Tell that its selector selects everything.
    WarnSelectsAll,
}

/// What to do, in order, and when to look again even if nothing changes.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do.
    pub actions: Vec<Action>,
    /// When the roll-out will have taken too long.
    pub again_after: Option<Duration>,
}

/// Says what to do about one deployment.
pub fn reconcile(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let deployment = observed.deployment;
    let spec = &deployment.spec;
    let labels = Labels::new(&spec.selector);
    if labels.selects_all() {
        plan.actions.push(Action::WarnSelectsAll);
        let mut status = deployment.status.clone().unwrap_or_default();
        status.observed_generation = deployment.metadata.generation;
        if deployment.status.as_ref() != Some(&status) {
            plan.actions.push(Action::SetStatus(status));
        }
        return plan;
    }
    let mut owned = Vec::new();
    for replica_set in observed.replica_sets {
        match claim(deployment, &labels, &replica_set.metadata) {
            Claim::Ignore => continue,
            Claim::Release => plan.actions.push(Action::Release(replica_set.clone())),
            Claim::Adopt => {
                plan.actions.push(Action::Adopt(replica_set.clone()));
                // It is looked at again when it is ours: its version will be another then.
            }
            Claim::Keep => owned.push(replica_set.clone()),
        }
    }
    if plan
        .actions
        .iter()
        .any(|action| matches!(action, Action::Adopt(_)))
    {
        return plan;
    }
    let mut rollout = Rollout::new(deployment, spec, &owned, observed.now);
    if is_deleted(&deployment.metadata) {
        rollout.settle_status(&mut plan);
        return plan;
    }
    rollout.note_pause();
    if spec.paused == Some(true) {
        rollout.sync_revision(false);
        rollout.scale();
        rollout.clean_up(&mut plan);
        rollout.settle_status(&mut plan);
    } else if rollout.is_scaling_event() && !rollout.recreates() {
        rollout.sync_revision(false);
        rollout.scale();
        rollout.settle_status(&mut plan);
    } else {
        if rollout.recreates() {
            rollout.recreate(observed.with_pods);
        } else {
            rollout.roll();
        }
        if rollout.is_complete() && !rollout.changed() {
            rollout.clean_up(&mut plan);
        }
        rollout.settle_rollout_status(&mut plan);
    }
    plan
}
