//! What a deployment's status says, and whether its roll-out gets on.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::Plan;
use super::rollout::{Rollout, Slot};
use super::{Action, size};
use crate::common::conditions;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";

const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const NEW_CREATED: &str = "NewReplicaSetCreated";
const NEW_FOUND: &str = "FoundNewReplicaSet";
const UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
const CREATE_ERROR: &str = "ReplicaSetCreateError";

fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(status.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// The progress deadline, if there is one.
fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

/// The status after the new replica set could not be created.
pub fn creation_failed(
    deployment: &Deployment,
    name: &str,
    error: &str,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    if deadline(deployment).is_some() {
        let message = format!("Failed to create new replica set {name:?}: {error}");
        let failed = condition(PROGRESSING, "False", CREATE_ERROR, message, now);
        conditions::set(&mut status.conditions, failed);
    }
    status
}

/// The status after the name of the new replica set was found to be taken by another: the next name will differ.
pub fn now_collided(deployment: &Deployment) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
    status
}

fn sum(slots: &mut dyn Iterator<Item = &Slot>, of: fn(&ReplicaSetStatus) -> Option<i32>) -> i32 {
    let statuses = slots.filter_map(|slot| slot.get().status.as_ref());
    statuses.filter_map(of).sum()
}

/// The pods that are going, if all replica sets say how many. Those that nobody has looked at yet have none.
fn terminating(slots: &mut dyn Iterator<Item = &Slot>) -> Option<i32> {
    let mut sum = 0;
    for status in slots.filter_map(|slot| slot.get().status.as_ref()) {
        match status.terminating_replicas {
            Some(count) => sum += count,
            None if status.observed_generation.unwrap_or_default() == 0 => (),
            None => return None,
        }
    }
    Some(sum)
}

fn nonzero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

impl Rollout<'_> {
    fn progressing(&self) -> Option<&DeploymentCondition> {
        conditions::get(&self.status.conditions, PROGRESSING)
    }

    fn set_progressing(&mut self, status: &str, reason: &str, message: String) {
        let new = condition(PROGRESSING, status, reason, message, self.now);
        conditions::set(&mut self.status.conditions, new);
    }

    /// A pause stops the clock of the progress deadline.
    pub fn note_pause(&mut self) {
        if deadline(self.deployment).is_none() {
            return;
        }
        let reason = self.progressing().and_then(|known| known.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason.as_deref() == Some(PAUSED);
        let paused = self.spec.paused == Some(true);
        if paused && !was_paused {
            self.set_progressing("Unknown", PAUSED, "Deployment is paused".into());
        } else if !paused && was_paused {
            self.set_progressing("Unknown", RESUMED, "Deployment is resumed".into());
        }
    }

    /// There is a new replica set: that is progress.
    pub fn note_new_replica_set(&mut self, name: &str, created: bool) {
        if deadline(self.deployment).is_none() {
            return;
        }
        if created {
            let message = format!("Created new replica set {name:?}");
            self.set_progressing("True", NEW_CREATED, message);
        } else if self.progressing().is_none() {
            let message = format!("Found new replica set {name:?}");
            self.set_progressing("True", NEW_FOUND, message);
        }
    }

    /// Counts, and the Available condition.
    fn count(&mut self) {
        let total = sum(&mut self.all(), |status| Some(status.replicas));
        let available = sum(&mut self.all(), |status| status.available_replicas);
        let ready = sum(&mut self.all(), |status| status.ready_replicas);
        let terminating = terminating(&mut self.all());
        let updated = sum(&mut self.new.iter(), |status| Some(status.replicas));
        let status = &mut self.status;
        status.observed_generation = self.deployment.metadata.generation;
        // The server leaves zeros out, so that what is read back must not look different from what was written.
        status.replicas = nonzero(total);
        status.updated_replicas = nonzero(updated);
        status.ready_replicas = nonzero(ready);
        status.available_replicas = nonzero(available);
        status.unavailable_replicas = nonzero((total - available).max(0));
        status.terminating_replicas = terminating;
        let replicas = size::replicas(self.spec);
        let enough = available >= replicas - self.posts.missing(replicas);
        let (value, reason, message) = if enough {
            (
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
            )
        } else {
            (
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        let new = condition(AVAILABLE, value, reason, message.into(), self.now);
        conditions::set(&mut status.conditions, new);
    }

    /// Whether everything is new, and as it shall be.
    pub fn is_complete(&self) -> bool {
        let replicas = size::replicas(self.spec);
        let total = sum(&mut self.all(), |status| Some(status.replicas));
        let available = sum(&mut self.all(), |status| status.available_replicas);
        let updated = sum(&mut self.new.iter(), |status| Some(status.replicas));
        updated == replicas && total == replicas && available == replicas
    }

    /// The end of a look that does not roll: counts only.
    pub fn settle_status(&mut self, plan: &mut Plan) {
        self.write_out(plan);
        self.count();
        self.write_status(plan);
    }

    /// The end of a look that rolls: counts, and whether it gets on.
    pub fn settle_rollout_status(&mut self, plan: &mut Plan) {
        self.write_out(plan);
        self.count();
        match deadline(self.deployment) {
            None => conditions::remove(&mut self.status.conditions, PROGRESSING),
            Some(deadline) => self.judge_progress(deadline),
        }
        self.pass_on_failure();
        self.write_status(plan);
        plan.again_after = self.stuck_after();
    }

    fn judge_progress(&mut self, deadline: SignedDuration) {
        let known = self.progressing().cloned();
        let reason = known.as_ref().and_then(|known| known.reason.as_deref());
        let updated = self.status.updated_replicas;
        // Once complete, a deployment stays so whatever becomes of its pods, until its template changes.
        if self.status.replicas == updated && reason == Some(NEW_AVAILABLE) {
            return;
        }
        let subject = match &self.new {
            Some(new) => format!("ReplicaSet {:?}", new.get().name_any()),
            None => format!("Deployment {:?}", self.deployment.name_any()),
        };
        if self.is_complete() {
            let message = format!("{subject} has successfully progressed.");
            self.set_progressing("True", NEW_AVAILABLE, message);
        } else if self.has_progressed() {
            let message = format!("{subject} is progressing.");
            let mut new = condition(PROGRESSING, "True", UPDATED, message, self.now);
            // The update time must change even if nothing else does: the deadline counts from it.
            if let Some(known) = known.filter(|known| known.status.as_deref() == Some("True")) {
                new.last_transition_time = known.last_transition_time;
            }
            conditions::remove(&mut self.status.conditions, PROGRESSING);
            conditions::set(&mut self.status.conditions, new);
        } else if known.is_some_and(|known| has_timed_out(&known, deadline, self.now)) {
            let message = format!("{subject} has timed out progressing.");
            self.set_progressing("False", TIMED_OUT, message);
        }
    }

    fn has_progressed(&self) -> bool {
        let before = self.deployment.status.clone().unwrap_or_default();
        let old = |status: &DeploymentStatus| {
            status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
        };
        self.status.updated_replicas > before.updated_replicas
            || old(&self.status) < old(&before)
            || self.status.ready_replicas > before.ready_replicas
            || self.status.available_replicas > before.available_replicas
    }

    /// A replica set that cannot create its pods makes the deployment say so; the new one's word goes first.
    fn pass_on_failure(&mut self) {
        let failure = |slot: &Slot| {
            let status = slot.get().status.as_ref()?;
            conditions::get(&status.conditions, REPLICA_FAILURE).cloned()
        };
        let failure = self.new.iter().chain(&self.old).find_map(failure);
        match failure {
            None => conditions::remove(&mut self.status.conditions, REPLICA_FAILURE),
            Some(failure) => {
                let new = DeploymentCondition {
                    type_: failure.type_,
                    status: failure.status,
                    reason: failure.reason,
                    message: failure.message,
                    last_transition_time: failure.last_transition_time.clone(),
                    last_update_time: failure.last_transition_time,
                };
                conditions::set(&mut self.status.conditions, new);
            }
        }
    }

    fn write_status(&self, plan: &mut Plan) {
        if self.deployment.status.as_ref() != Some(&self.status) {
            plan.actions.push(Action::SetStatus(self.status.clone()));
        }
    }

    /// When to look whether it is stuck, if it is not done and not known to be stuck.
    fn stuck_after(&self) -> Option<Duration> {
        let deadline = deadline(self.deployment)?;
        let known = self.progressing()?;
        if self.is_complete() || known.reason.as_deref() == Some(TIMED_OUT) {
            return None;
        }
        let since = known
            .last_update_time
            .as_ref()
            .map_or(Timestamp::MIN, |time| time.0);
        let rest = deadline.saturating_sub(self.now.duration_since(since));
        // A second later, since the deadline must be past, and times are kept by the second.
        Some(Duration::try_from(rest).unwrap_or_default() + Duration::from_secs(1))
    }
}

fn has_timed_out(known: &DeploymentCondition, deadline: SignedDuration, now: Timestamp) -> bool {
    match known.reason.as_deref() {
        Some(NEW_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => {
            let since = known
                .last_update_time
                .as_ref()
                .map_or(Timestamp::MIN, |time| time.0);
            now.duration_since(since) > deadline
        }
    }
}
