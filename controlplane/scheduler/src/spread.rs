//! Spreading pods over zones and nodes: what a pod asks for itself, and what is good for every controller's pods.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use kube::core::{Selector, SelectorExt};

use crate::affinity::{Labels, narrowed};
use crate::cluster::{Cluster, NodeInfo};
use crate::crowds::Picked;

/// The label that names a node.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label that names a node's zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// How evenly a set of pods is to be spread over the values of a label of nodes.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// The label.
    pub topology_key: String,
    /// By how many pods the fullest domain may exceed the emptiest.
    pub max_skew: i64,
    /// Whether a node that breaks it is out of the question, or only worse.
    pub required: bool,
    /// Domains below which the emptiest counts as empty.
    pub min_domains: usize,
    set: Set,
}

/// Whose pods are counted.
#[derive(Clone, Debug)]
enum Set {
    Selected(Selector),
    /// Those of the same controller.
    Siblings(String),
}

impl Constraint {
    /// Reads what a pod asks for.
    pub fn new(constraint: &TopologySpreadConstraint, labels: &Labels) -> Constraint {
        let keys = constraint.match_label_keys.clone().unwrap_or_default();
        Constraint {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            required: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            set: Set::Selected(narrowed(
                constraint.label_selector.as_ref(),
                &keys,
                &[],
                labels,
            )),
        }
    }

    /// What Kubernetes asks for where a pod asks for nothing: its siblings on different nodes, and in different zones.
    pub fn defaults(controller: &str) -> [Constraint; 2] {
        [(HOSTNAME, 3), (ZONE, 5)].map(|(key, max_skew)| Constraint {
            topology_key: key.to_owned(),
            max_skew,
            required: false,
            min_domains: 1,
            set: Set::Siblings(controller.to_owned()),
        })
    }

    /// Whether a pod of the same namespace is among those to be spread.
    pub fn counts(&self, labels: &Labels, controller: Option<&str>) -> bool {
        match &self.set {
            Set::Selected(selector) => selector.matches(labels),
            Set::Siblings(ours) => controller == Some(ours),
        }
    }

    /// Counts the pods of a namespace that are to be spread.
    pub fn counter(&self, cluster: &Cluster, namespace: &str) -> Counter<'_> {
        match &self.set {
            // It names its namespace.
            Set::Siblings(ours) => Counter::Siblings(ours),
            Set::Selected(selector) => Counter::Picked(cluster.pick(|crowd| {
                !crowd.terminating
                    && *crowd.namespace == *namespace
                    && selector.matches(&crowd.labels)
            })),
        }
    }
}

/// Counts pods that are to be spread.
pub enum Counter<'a> {
    /// Those of some crowds.
    Picked(Picked),
    /// Those of a controller.
    Siblings(&'a str),
}

impl Counter<'_> {
    /// How many a node has, those that are on their way out not counted.
    pub fn on(&self, node: &NodeInfo) -> i64 {
        match self {
            Counter::Picked(picked) => node.crowds.count(picked),
            Counter::Siblings(ours) => node.of_controller.get(*ours).copied().unwrap_or(0),
        }
    }
}
