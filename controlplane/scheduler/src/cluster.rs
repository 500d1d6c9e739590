//! What the scheduler believes the cluster to be: nodes, and the pods on them, with those it has just placed itself.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::affinity::{Labels, Namespaces, PodTerm};
use crate::claims::Claims;
use crate::crowds::{Crowd, CrowdId, Crowds, Picked, Present};
use crate::pod::{PodInfo, PodKey};
use crate::ports::HostPort;
use crate::resources::Resources;

/// The taint that cordoning means.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A node that exists, as far as placing goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts {
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// It was cordoned.
    pub unschedulable: bool,
    /// What pods may use of it.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub pods_max: usize,
}

impl NodeFacts {
    /// Takes a node apart.
    pub fn new(node: &Node) -> NodeFacts {
        let spec = node.spec.clone().unwrap_or_default();
        let allocatable = node
            .status
            .as_ref()
            .and_then(|status| status.allocatable.as_ref());
        let pods_max = allocatable
            .and_then(|allocatable| allocatable.get("pods"))
            .map_or(0, crate::resources::units);
        NodeFacts {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable: Resources::from_quantities(allocatable),
            pods_max: usize::try_from(pods_max).unwrap_or(0),
        }
    }

    /// The taint that stands for having been cordoned.
    pub fn cordon() -> Taint {
        Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }
    }
}

/// A node with the pods on it.
#[derive(Debug, Default)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// What it is; `None` while pods name a node that is not there (yet, or any more).
    pub facts: Option<NodeFacts>,
    /// What its pods ask for.
    pub requested: Resources,
    /// What its pods are taken to use.
    pub used: Resources,
    /// Its pods.
    pub pods: HashMap<PodKey, Arc<PodInfo>>,
    /// The ports they take.
    pub ports: Vec<HostPort>,
    /// How many of them each controller has made, as [`PodInfo::controller`] names it, without those on their way out. Kept,
    /// because every decision asks every node.
    pub of_controller: HashMap<String, i64>,
    /// How many of them are of each crowd. Kept for the same reason.
    pub crowds: Present,
}

impl NodeInfo {
    fn put(&mut self, pod: Arc<PodInfo>, crowd: CrowdId) {
        self.crowds.come(crowd);
        self.requested.add(&pod.requests);
        self.used.add(&pod.assumed_use);
        self.ports.extend_from_slice(&pod.ports);
        if let Some(controller) = sibling_of(&pod) {
            *self.of_controller.entry(controller.to_owned()).or_default() += 1;
        }
        self.pods.insert(pod.key.clone(), pod);
    }

    fn take(&mut self, key: &PodKey, crowd: CrowdId) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.crowds.go(crowd);
        self.requested.subtract(&pod.requests);
        self.used.subtract(&pod.assumed_use);
        if let Some(controller) = sibling_of(&pod)
            && let Some(count) = self.of_controller.get_mut(controller)
        {
            *count -= 1;
            if *count == 0 {
                self.of_controller.remove(controller);
            }
        }
        for port in &pod.ports {
            if let Some(place) = self.ports.iter().position(|taken| taken == port) {
                self.ports.swap_remove(place);
            }
        }
        Some(pod)
    }
}

/// Whose siblings a pod counts among.
fn sibling_of(pod: &PodInfo) -> Option<&str> {
    let counts = !pod.terminating;
    pod.controller.as_deref().filter(|_| counts)
}

/// Where a pod is.
#[derive(Debug)]
struct Place {
    node: String,
    /// Placed by us, and not seen in the API yet.
    assumed: bool,
    crowd: CrowdId,
}

/// All nodes and pods.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    places: HashMap<PodKey, Place>,
    crowds: Crowds,
    /// Whom pods on nodes will not have near them.
    forbidden: Claims,
    /// Whom they would rather have near them, or rather not.
    drawn: Claims,
    namespaces: Namespaces,
}

impl Cluster {
    /// The nodes, those that do not exist among them.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Whom pods on nodes will not have near them, with the nodes that those are on.
    pub fn forbidden(&self) -> impl Iterator<Item = (&PodTerm, impl Iterator<Item = &NodeInfo>)> {
        self.forbidden.iter().map(|(term, by)| {
            let nodes = by.filter_map(|(name, _)| self.node(name));
            (term, nodes)
        })
    }

    /// Whom pods on nodes would rather have near them, or rather not, with the nodes that those are on, and how much all
    /// of a node's together.
    pub fn drawn(
        &self,
    ) -> impl Iterator<Item = (&PodTerm, impl Iterator<Item = (&NodeInfo, i64)>)> {
        self.drawn.iter().map(|(term, by)| {
            let nodes = by.filter_map(|(name, weight)| Some((self.node(name)?, weight)));
            (term, nodes)
        })
    }

    /// The pods on nodes that something holds for.
    pub fn pick(&self, holds: impl Fn(&Crowd) -> bool) -> Picked {
        self.crowds.pick(holds)
    }

    /// The labels of namespaces.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// A namespace was seen. Says whether its labels have changed.
    pub fn set_namespace(&mut self, name: &str, labels: Labels) -> bool {
        let before = self.namespaces.insert(name.to_owned(), labels);
        before.as_ref() != self.namespaces.get(name)
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).and_then(|at| self.nodes.get(*at))
    }

    /// A node was seen. Gives what it was before.
    pub fn set_node(&mut self, name: &str, facts: NodeFacts) -> Option<NodeFacts> {
        self.node_mut(name).facts.replace(facts)
    }

    /// A node is gone. Its pods stay where they are until they are seen to be gone.
    pub fn remove_node(&mut self, name: &str) {
        if self.by_name.contains_key(name) {
            self.node_mut(name).facts = None;
            self.forget_if_empty(name);
        }
    }

    /// A pod was seen on a node, which is the truth, whatever was assumed.
    pub fn set_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.put(node, pod, false);
    }

    /// Takes a pod to be on a node that it is only just being bound to.
    pub fn assume(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.put(node, pod, true);
    }

    /// Takes back what was assumed, unless it has been seen since. Says whether it was.
    pub fn forget(&mut self, pod: &PodInfo) -> bool {
        let is_it = self.pod(&pod.key).is_some_and(|known| known.uid == pod.uid);
        is_it && self.is_assumed(&pod.key) && self.remove_pod(&pod.key)
    }

    /// Whether a pod was placed by us and has not been seen on its node yet.
    pub fn is_assumed(&self, key: &PodKey) -> bool {
        self.places.get(key).is_some_and(|place| place.assumed)
    }

    /// A pod that is on a node, as far as is known.
    pub fn pod(&self, key: &PodKey) -> Option<&Arc<PodInfo>> {
        self.node(&self.places.get(key)?.node)?.pods.get(key)
    }

    /// A pod is gone, or has ended. Says whether it was on a node.
    pub fn remove_pod(&mut self, key: &PodKey) -> bool {
        let Some(place) = self.places.remove(key) else {
            return false;
        };
        if let Some(pod) = self.node_mut(&place.node).take(key, place.crowd) {
            for term in &pod.pod_terms.forbidden {
                self.forbidden.withdraw(term, 0, &place.node);
            }
            for (weight, term) in pod.pod_terms.draws() {
                self.drawn.withdraw(term, weight, &place.node);
            }
        }
        self.crowds.leave(place.crowd);
        self.forget_if_empty(&place.node);
        true
    }

    fn put(&mut self, node: &str, pod: Arc<PodInfo>, assumed: bool) {
        let key = pod.key.clone();
        self.remove_pod(&key);
        for term in &pod.pod_terms.forbidden {
            self.forbidden.make(term, 0, node);
        }
        for (weight, term) in pod.pod_terms.draws() {
            self.drawn.make(term, weight, node);
        }
        let crowd = self.crowds.join(&pod);
        self.node_mut(node).put(pod, crowd);
        let node = node.to_owned();
        let place = Place {
            node,
            assumed,
            crowd,
        };
        self.places.insert(key, place);
    }

    fn node_mut(&mut self, name: &str) -> &mut NodeInfo {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.nodes.len());
                self.nodes.push(NodeInfo {
                    name: name.to_owned(),
                    ..NodeInfo::default()
                });
                self.nodes.len() - 1
            }
        };
        &mut self.nodes[at]
    }

    fn forget_if_empty(&mut self, name: &str) {
        let is_empty = |node: &NodeInfo| node.facts.is_none() && node.pods.is_empty();
        if !self.node(name).is_some_and(is_empty) {
            return;
        }
        let Some(at) = self.by_name.remove(name) else {
            return;
        };
        self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};

    #[test]
    fn an_assumed_pod_takes_room_until_it_is_forgotten() {
        let mut cluster = Cluster::default();
        cluster.set_node("n1", node("n1").facts());
        let pod = pod("p").asks("100m", "1Ki").port(80).info();
        cluster.assume("n1", pod.clone());
        let on_node = |cluster: &Cluster| cluster.node("n1").unwrap().requested.cpu_milli;
        assert_eq!(on_node(&cluster), 100);
        cluster.forget(&pod);
        assert_eq!(on_node(&cluster), 0);
        assert!(cluster.node("n1").unwrap().ports.is_empty());
    }

    #[test]
    fn a_pod_that_was_seen_is_not_forgotten_when_its_binding_seemed_to_fail() {
        let mut cluster = Cluster::default();
        let pod = pod("p").asks("100m", "1Ki").info();
        cluster.assume("n1", pod.clone());
        cluster.set_pod("n2", pod.clone());
        cluster.forget(&pod);
        assert!(cluster.pod(&pod.key).is_some());
        assert!(cluster.node("n1").is_none(), "nobody has seen it");
        assert_eq!(cluster.node("n2").unwrap().pods.len(), 1);
    }

    #[test]
    fn pods_of_a_node_that_is_not_there_yet_count_once_it_is() {
        let mut cluster = Cluster::default();
        cluster.set_pod("n1", pod("p").asks("100m", "1Ki").info());
        let exists = |cluster: &Cluster| cluster.node("n1").unwrap().facts.is_some();
        assert!(!exists(&cluster));
        cluster.set_node("n1", node("n1").facts());
        assert!(exists(&cluster));
        assert_eq!(cluster.node("n1").unwrap().requested.cpu_milli, 100);
    }

    #[test]
    fn nodes_are_found_by_name_after_another_one_has_gone() {
        let mut cluster = Cluster::default();
        for name in ["a", "b", "c"] {
            cluster.set_node(name, node(name).facts());
        }
        cluster.remove_node("a");
        assert_eq!(cluster.nodes().len(), 2);
        assert_eq!(cluster.node("c").unwrap().name, "c");
        assert_eq!(cluster.node("b").unwrap().name, "b");
        assert!(cluster.node("a").is_none());
    }
}
