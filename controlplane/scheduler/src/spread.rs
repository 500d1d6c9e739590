//! Spreading pods over zones and nodes: what a pod asks for itself, and what is good for every controller's pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use kube::core::{Selector, SelectorExt};

use crate::affinity::{Labels, selector};
use crate::cluster::NodeInfo;
use crate::pod::PodInfo;

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
            set: Set::Selected(selector(
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

    /// How many of the pods that are to be spread a node has, those that are on their way out not counted.
    pub fn count_on(&self, node: &NodeInfo, namespace: &str) -> i64 {
        if let Set::Siblings(ours) = &self.set {
            // The UID of a controller is of one namespace.
            return node.of_controller.get(ours).copied().unwrap_or(0);
        }
        let is_counted = |other: &&Arc<PodInfo>| {
            !other.terminating
                && *other.key.namespace == *namespace
                && self.counts(&other.labels, other.controller.as_deref())
        };
        i64::try_from(node.pods.values().filter(is_counted).count()).unwrap_or(i64::MAX)
    }
}
