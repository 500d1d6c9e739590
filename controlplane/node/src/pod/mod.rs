//! A pod on its node: from what is wanted and what the runtime shows to the next thing to do and the status to tell.
//!
//! Pure: objects, a [`Sandbox`] and the time in, a [`Next`] out. Repeating it changes nothing.

mod containers;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::runtime::{Sandbox, State};
pub use containers::Phase;
use containers::Wanted;

/// The longest grace that is counted: longer than any agent lives.
const GRACE_MAX_S: i64 = 100 * 365 * 24 * 3600;

/// What to do for a pod now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Give it an address and prepare it.
    Prepare,
    /// Start these containers.
    Start(Vec<String>),
    /// Ask it to end within this time.
    Stop(Duration),
    /// Tell the status, remove what is left of it, and then delete the object: it was to be deleted, and has ended.
    Finish,
}

/// What comes next for a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// What to do; then look again.
    pub action: Do,
    /// What its status should be, as things are before that.
    pub status: PodStatus,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// Decides what comes next. `host` is the address of the node.
pub fn next(pod: &Pod, sandbox: Option<&Sandbox>, host: &str, now: Timestamp) -> Next {
    let wanted = Wanted::of(pod, sandbox, now);
    let (action, retry) = action(pod, sandbox, &wanted, now);
    let status = status::of(pod, sandbox, &wanted, host, now);
    let by_itself = sandbox.and_then(|sandbox| sandbox.next_change);
    Next {
        action,
        status,
        wake: retry.into_iter().chain(by_itself).min(),
    }
}

fn action(
    pod: &Pod,
    sandbox: Option<&Sandbox>,
    wanted: &Wanted,
    now: Timestamp,
) -> (Do, Option<Timestamp>) {
    let is_over = wanted.phase.is_final();
    match (&pod.metadata.deletion_timestamp, sandbox) {
        (Some(_), None) => (Do::Finish, None),
        (Some(_), Some(sandbox)) => {
            // From now on, by our own clock: the time of the deletion is by the server's.
            let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
            let deadline = now + SignedDuration::from_secs(grace.clamp(0, GRACE_MAX_S));
            if !is_running(sandbox) {
                (Do::Finish, None)
            } else if sandbox.stopping.is_some_and(|before| before <= deadline) {
                (Do::Nothing, None)
            } else {
                // Asked for the first time, or to be quicker than it was asked to be before.
                (Do::Stop(until(deadline, now)), None)
            }
        }
        // What has ended stays as it is.
        (None, _) if is_over => (Do::Nothing, None),
        (None, None) => (Do::Prepare, None),
        (None, Some(_)) if !wanted.start.is_empty() => (Do::Start(wanted.start.clone()), None),
        (None, Some(_)) => (Do::Nothing, wanted.retry),
    }
}

fn is_running(sandbox: &Sandbox) -> bool {
    sandbox
        .containers
        .values()
        .any(|seen| matches!(seen.state, State::Running(_)))
}

fn until(deadline: Timestamp, now: Timestamp) -> Duration {
    deadline
        .duration_since(now)
        .max(SignedDuration::ZERO)
        .unsigned_abs()
}
