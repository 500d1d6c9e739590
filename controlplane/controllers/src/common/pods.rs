//! What a pod's status means.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::meta::is_deleted;

/// A pod's phase; what has none yet is pending.
pub fn phase(pod: &Pod) -> &str {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Pending")
}

/// Whether a pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether a pod runs or may come to run.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleted(&pod.metadata)
}

/// A pod's condition of a type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when a pod is ready. A ready pod without a time is taken as only just ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    let since = ready.last_transition_time.as_ref();
    Some(since.map_or(Timestamp::MAX, |time| time.0))
}

/// How long until a pod is available: ready for `min_ready_seconds`. `None` if it is not ready, zero if it is available.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let since = ready_since(pod)?;
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let needed = SignedDuration::from_secs(min_ready_seconds.into());
    let rest = needed.saturating_sub(now.duration_since(since));
    Some(Duration::try_from(rest.min(needed)).unwrap_or_default())
}

/// Whether a pod is available.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_in(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// How often those containers of a pod were restarted that were restarted most. The first counts, before the second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Restarts {
    /// Of the ordinary ones.
    pub ordinary: i32,
    /// Of the sidecars: init containers that run on beside them.
    pub sidecar: i32,
}

/// How often a pod's containers were restarted.
pub fn restarts(pod: &Pod) -> Restarts {
    let Some(status) = &pod.status else {
        return Restarts::default();
    };
    let spec = pod.spec.as_ref();
    let init_containers = spec.and_then(|spec| spec.init_containers.as_ref());
    let is_sidecar = |status: &&ContainerStatus| {
        let mut all = init_containers.into_iter().flatten();
        all.any(|one| one.name == status.name && one.restart_policy.as_deref() == Some("Always"))
    };
    let ordinary = status.container_statuses.iter().flatten();
    let sidecars = status.init_container_statuses.iter().flatten();
    let most = |count: Option<i32>| count.unwrap_or_default();
    Restarts {
        ordinary: most(ordinary.map(|one| one.restart_count).max()),
        sidecar: most(
            sidecars
                .filter(is_sidecar)
                .map(|one| one.restart_count)
                .max(),
        ),
    }
}

/// The node that a pod was given.
pub fn node_name(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref();
    node.filter(|name| !name.is_empty())
}

/// Drops from a pod what no controller reads: by far the most of it.
pub fn trim(pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    spec.volumes = None;
    spec.affinity = None;
    spec.ephemeral_containers = None;
    spec.topology_spread_constraints = None;
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        let ports = container.ports.take();
        let restart_policy = container.restart_policy.take();
        *container = k8s_openapi::api::core::v1::Container {
            name: std::mem::take(&mut container.name),
            ports,
            restart_policy,
            ..Default::default()
        };
    }
    if let Some(annotations) = &mut pod.metadata.annotations {
        // A client's last applied configuration is as large as the pod.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
