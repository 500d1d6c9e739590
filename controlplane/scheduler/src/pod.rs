//! What the scheduler has to know of a pod, taken apart once so that looking at hundreds of nodes costs little.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    NodeSelectorTerm, Pod, PodCondition, PodSpec, Toleration, TopologySpreadConstraint,
};

use crate::affinity::{Labels, PodTerms, Terms};
use crate::ports::HostPort;
use crate::resources::{Resources, assumed_use, requests};
use crate::spread::Constraint;

/// The scheduler that takes pods which name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl std::fmt::Display for PodKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A preference for nodes with certain labels.
#[derive(Clone, Debug)]
pub struct Preference {
    /// 1 to 100.
    pub weight: i64,
    /// What a node must match to earn it.
    pub term: NodeSelectorTerm,
}

/// A pod as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Which pod it is.
    pub key: PodKey,
    /// Its UID: a pod of the same name may be another one.
    pub uid: String,
    /// Of its labels and its spec: a change of anything else is no reason to try it again.
    pub fingerprint: u64,
    /// Its labels.
    pub labels: Labels,
    /// Its namespace and the UID of the controller that made it: its siblings should not all be on one node. The UID alone
    /// can be written in any namespace.
    pub controller: Option<String>,
    /// It is on its way out: who is to be spread need not keep clear of it.
    pub terminating: bool,
    /// Higher goes first.
    pub priority: i32,
    /// What it asks for.
    pub requests: Resources,
    /// What it is taken to use when nodes are compared.
    pub assumed_use: Resources,
    /// The ports it takes on its node.
    pub ports: Vec<HostPort>,
    /// Labels that its node must have, and required affinity to nodes.
    pub node_selector: Labels,
    /// Required node affinity: one of these terms must match. `None`: no demand.
    pub node_terms: Option<Terms>,
    /// Preferred node affinity.
    pub preferences: Vec<Preference>,
    /// Which taints it bears.
    pub tolerations: Vec<Toleration>,
    /// How it is to be spread over zones and nodes.
    pub spread: Vec<Constraint>,
    /// Which pods it must, must not, and should be together with.
    pub pod_terms: PodTerms,
    /// What its status says of why it has no node.
    pub told: Option<String>,
}

impl PodInfo {
    /// Takes a pod apart.
    pub fn new(pod: &Pod) -> PodInfo {
        let meta = &pod.metadata;
        let namespace: Arc<str> = meta.namespace.as_deref().unwrap_or_default().into();
        let spec = pod.spec.clone().unwrap_or_default();
        let affinity = spec.affinity.clone().unwrap_or_default();
        let node_affinity = affinity.node_affinity.clone().unwrap_or_default();
        let controller = meta
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| format!("{namespace}/{}", owner.uid));
        let labels = meta.labels.clone().unwrap_or_default();
        let spread = spec
            .topology_spread_constraints
            .iter()
            .flatten()
            .map(|constraint: &TopologySpreadConstraint| Constraint::new(constraint, &labels))
            .collect();
        PodInfo {
            key: key_of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            fingerprint: fingerprint(&labels, &spec),
            controller,
            terminating: meta.deletion_timestamp.is_some(),
            priority: spec.priority.unwrap_or(0),
            requests: requests(&spec),
            assumed_use: assumed_use(&spec),
            ports: HostPort::all_of(&spec),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            node_terms: node_affinity
                .required_during_scheduling_ignored_during_execution
                .map(|selector| Terms(selector.node_selector_terms)),
            preferences: node_affinity
                .preferred_during_scheduling_ignored_during_execution
                .into_iter()
                .flatten()
                .map(|preferred| Preference {
                    weight: i64::from(preferred.weight),
                    term: preferred.preference,
                })
                .collect(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            spread,
            pod_terms: PodTerms::new(&affinity, &namespace, &labels),
            told: told(pod),
            labels,
        }
    }
}

/// What a pod's user was told in its status of why it has no node.
fn told(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|known| is_unscheduled(known))?;
    Some(unscheduled.message.clone().unwrap_or_default())
}

/// Whether a condition says that a pod has no node.
pub fn is_unscheduled(condition: &PodCondition) -> bool {
    condition.type_ == "PodScheduled" && condition.status == "False"
}

/// Whether nothing has changed that the scheduler looks at. Most news of pods that run is of this kind.
pub fn is_no_news(old: &Pod, new: &Pod) -> bool {
    let (before, now) = (&old.metadata, &new.metadata);
    before.uid == now.uid
        && before.labels == now.labels
        && before.owner_references == now.owner_references
        && before.deletion_timestamp.is_some() == now.deletion_timestamp.is_some()
        && has_ended(old) == has_ended(new)
        && old.spec == new.spec
}

/// The same within this process for the same labels and spec.
fn fingerprint(labels: &Labels, spec: &PodSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    // Maps are sorted, so that equal specs are equal texts. What cannot be written cannot have been read either.
    serde_json::to_string(spec)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

/// Which pod an object is.
pub fn key_of(pod: &Pod) -> PodKey {
    PodKey {
        namespace: pod.metadata.namespace.as_deref().unwrap_or_default().into(),
        name: pod.metadata.name.as_deref().unwrap_or_default().into(),
    }
}

/// Whether this scheduler is to place a pod now.
pub fn is_ours(pod: &Pod, scheduler_name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let wants = spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER);
    let is_gated = spec
        .scheduling_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty());
    wants == scheduler_name
        && !is_gated
        && spec.node_name.as_deref().unwrap_or_default().is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && !has_ended(pod)
}

/// Whether a pod has run to its end, and takes nothing of its node any more.
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;

    #[test]
    fn what_a_node_says_of_a_running_pod_is_no_news_and_its_end_is() {
        let before = pod("p").pod();
        let mut after = before.clone();
        let status = after.status.get_or_insert_default();
        status.phase = Some("Running".into());
        status.pod_ip = Some("10.0.0.2".into());
        assert!(is_no_news(&before, &after));
        after.status.get_or_insert_default().phase = Some("Succeeded".into());
        assert!(!is_no_news(&before, &after));
        assert!(!is_no_news(&before, &pod("p").label("a", "b").pod()));
        let mut deleted = before.clone();
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            ));
        assert!(!is_no_news(&before, &deleted));
    }
}
