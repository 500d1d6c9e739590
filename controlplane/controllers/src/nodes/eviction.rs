//! When a pod must leave a tainted node: pure.

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use keelson_component::tolerates;

use super::taints::NO_EXECUTE;
use crate::common::meta::created_at;

/// When a pod must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It may stay.
    Never,
    /// Then; if that is past, now.
    At(Timestamp),
}

/// When a pod must leave a node with these taints. `added` says when a taint was put on that does not say so itself.
///
/// Each taint counts from when it was put on, or, if the pod came later, from when the pod was made, so that a controller
/// that is started again comes to the same time.
pub fn leave(pod: &Pod, taints: &[Taint], added: impl Fn(&Taint) -> Timestamp) -> Leave {
    let tolerations = pod
        .spec
        .iter()
        .flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerations: Vec<&Toleration> = tolerations.collect();
    let mut leave = Leave::Never;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let added = taint
            .time_added
            .as_ref()
            .map_or_else(|| added(taint), |time| time.0);
        // What has no time is not written yet, and is not older than anything.
        let created = Some(created_at(&pod.metadata)).filter(|created| *created != Timestamp::MAX);
        let since = created.map_or(added, |created| added.max(created));
        let due = match tolerations
            .iter()
            .find(|toleration| tolerates(toleration, taint))
        {
            None => Some(since),
            Some(toleration) => toleration.toleration_seconds.map(|seconds| {
                let seconds = SignedDuration::from_secs(seconds.max(0));
                since.checked_add(seconds).unwrap_or(Timestamp::MAX)
            }),
        };
        if let Some(due) = due {
            leave = match leave {
                Leave::Never => Leave::At(due),
                Leave::At(known) => Leave::At(known.min(due)),
            };
        }
    }
    leave
}
