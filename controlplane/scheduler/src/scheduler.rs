//! The scheduler without its I/O: what is seen goes in, what is to be done comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::Rng;

use crate::cluster::{Cluster, NodeFacts};
use crate::decide::{Decider, NoFit};
use crate::filter::Filter;
use crate::pod::{PodInfo, PodKey, has_ended, is_ours, key_of};
use crate::queue::{Change, Queue};

/// What is to be done for a pod.
#[derive(Debug)]
pub enum Step {
    /// Bind it to a node, and say by [`Scheduler::bound`] what became of it. Its room is taken already.
    Bind {
        /// The pod.
        pod: Arc<PodInfo>,
        /// The node's name.
        node: String,
    },
    /// Tell its user why it has no node. It is tried again when something changes.
    Explain {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Why.
        no_fit: NoFit,
    },
}

/// What became of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The pod is on its node.
    Yes,
    /// The pod is gone, or on another node already: what is seen of it will tell.
    Moot,
    /// It may be tried again.
    Failed,
}

/// The scheduler's mind.
#[derive(Debug)]
pub struct Scheduler {
    name: String,
    cluster: Cluster,
    queue: Queue,
    decider: Decider,
}

impl Scheduler {
    /// One that takes the pods which ask for a scheduler of this name.
    pub fn new(name: String) -> Scheduler {
        Scheduler {
            name,
            cluster: Cluster::default(),
            queue: Queue::default(),
            decider: Decider::default(),
        }
    }

    /// A node was seen.
    pub fn node_seen(&mut self, node: &Node) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let facts = NodeFacts::new(node);
        let change = match self.cluster.set_node(name, facts.clone()) {
            None => Change::NodeAdded,
            Some(before) => {
                let filters = looked_at_by(&before, &facts);
                if filters.is_empty() {
                    return;
                }
                Change::NodeChanged(filters)
            }
        };
        self.queue.changed(&change);
    }

    /// A node is gone.
    pub fn node_gone(&mut self, name: &str) {
        self.cluster.remove_node(name);
    }

    /// A pod was seen.
    pub fn pod_seen(&mut self, pod: &Pod) {
        let key = key_of(pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let node = node.filter(|node| !node.is_empty());
        if has_ended(pod) {
            self.pod_gone(&key);
        } else if let Some(node) = node {
            let is_news = self.cluster.is_assumed(&key) || !self.cluster.has_pod(&key);
            self.cluster.set_pod(node, Arc::new(PodInfo::new(pod)));
            self.queue.remove(&key);
            if is_news {
                self.queue.changed(&Change::PodPlaced);
            }
        } else if is_ours(pod, &self.name) {
            // One that is being bound was not bound yet when this was sent.
            if !self.cluster.is_assumed(&key) {
                self.queue.add(Arc::new(PodInfo::new(pod)));
            }
        } else {
            self.queue.remove(&key);
        }
    }

    /// A pod is gone.
    pub fn pod_gone(&mut self, key: &PodKey) {
        self.queue.remove(key);
        if self.cluster.remove_pod(key) {
            self.queue.changed(&Change::PodGone);
        }
    }

    /// The next thing to do, if there is any now. `now`: milliseconds since the start.
    pub fn step(&mut self, now: u64, chance: &mut impl Rng) -> Option<Step> {
        let pod = self.queue.next(now)?;
        match self.decider.decide(&pod, &self.cluster, chance) {
            Ok(node) => {
                self.cluster.assume(&node, pod.clone());
                Some(Step::Bind { pod, node })
            }
            Err(no_fit) => {
                self.queue
                    .failed(&pod.key, Some(no_fit.rejected_by.clone()), now);
                Some(Step::Explain { pod, no_fit })
            }
        }
    }

    /// What became of a binding.
    pub fn bound(&mut self, key: &PodKey, outcome: Bound, now: u64) {
        match outcome {
            // Its room stays taken until it is seen there, or gone.
            Bound::Yes => self.queue.remove(key),
            Bound::Moot => {
                self.queue.remove(key);
                self.let_go(key);
            }
            Bound::Failed => {
                self.queue.failed(key, None, now);
                self.let_go(key);
            }
        }
    }

    /// When [`Scheduler::step`] may have something to do, if nothing is seen before.
    pub fn next_wake(&self) -> Option<u64> {
        self.queue.next_wake()
    }

    fn let_go(&mut self, key: &PodKey) {
        if self.cluster.is_assumed(key) {
            self.cluster.forget(key);
            self.queue.changed(&Change::PodGone);
        }
    }
}

/// Who looks at what has changed of a node.
fn looked_at_by(before: &NodeFacts, now: &NodeFacts) -> BTreeSet<Filter> {
    let mut filters = BTreeSet::new();
    if before.unschedulable != now.unschedulable {
        filters.insert(Filter::Unschedulable);
    }
    if before.taints != now.taints {
        filters.insert(Filter::Taints);
    }
    if before.labels != now.labels {
        filters.extend([Filter::NodeAffinity, Filter::Spread, Filter::PodAffinity]);
    }
    if before.allocatable != now.allocatable || before.pods_max != now.pods_max {
        filters.insert(Filter::Resources);
    }
    filters
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use serde_json::json;

    use super::*;
    use crate::pod::DEFAULT_SCHEDULER;
    use crate::testing::{PodMaker, node, pod};

    struct World {
        scheduler: Scheduler,
        chance: StdRng,
        now: u64,
    }

    impl World {
        fn new() -> World {
            World {
                scheduler: Scheduler::new(DEFAULT_SCHEDULER.to_owned()),
                chance: StdRng::seed_from_u64(1),
                now: 0,
            }
        }

        fn step(&mut self) -> Option<Step> {
            self.scheduler.step(self.now, &mut self.chance)
        }

        /// Binds the next pod, and gives its name and its node's.
        fn binds(&mut self) -> Option<(String, String)> {
            match self.step()? {
                Step::Bind { pod, node } => Some((pod.key.name.to_string(), node)),
                Step::Explain { no_fit, .. } => panic!("{no_fit}"),
            }
        }

        fn explains(&mut self) -> String {
            match self.step() {
                Some(Step::Explain { no_fit, .. }) => no_fit.to_string(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn on(pod: PodMaker, node: &str) -> Pod {
        pod.spec("nodeName", json!(node)).pod()
    }

    #[test]
    fn a_pod_is_bound_once() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").node());
        world.scheduler.pod_seen(&pod("p").pod());
        assert_eq!(world.binds(), Some(("p".into(), "n".into())));
        // Sent before the binding was made.
        world.scheduler.pod_seen(&pod("p").label("a", "b").pod());
        assert!(world.step().is_none());
        world.scheduler.bound(&pod("p").info().key, Bound::Yes, 0);
        world.scheduler.pod_seen(&on(pod("p"), "n"));
        assert!(world.step().is_none());
        assert_eq!(world.scheduler.next_wake(), None);
    }

    #[test]
    fn room_is_taken_from_the_moment_of_the_decision() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").has("1", "1Gi").node());
        for name in ["a", "b"] {
            world.scheduler.pod_seen(&pod(name).asks("600m", "1").pod());
        }
        assert!(world.binds().is_some());
        assert_eq!(
            world.explains(),
            "0/1 nodes are available: 1 Insufficient cpu."
        );
    }

    #[test]
    fn a_pod_that_did_not_fit_is_placed_when_another_has_gone() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").has("1", "1Gi").node());
        world
            .scheduler
            .pod_seen(&on(pod("there").asks("1", "1"), "n"));
        world.scheduler.pod_seen(&pod("p").asks("1", "1").pod());
        world.explains();
        // What is written to its status to say so is no reason to try again.
        world.scheduler.pod_seen(&pod("p").asks("1", "1").pod());
        world.now = 60_000;
        assert!(world.step().is_none());
        world.scheduler.pod_gone(&pod("there").info().key);
        assert_eq!(world.binds(), Some(("p".into(), "n".into())));
    }

    #[test]
    fn a_pod_that_has_ended_takes_no_room() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").has("1", "1Gi").node());
        let mut there = on(pod("there").asks("1", "1"), "n");
        world.scheduler.pod_seen(&there);
        there.status.get_or_insert_default().phase = Some("Succeeded".into());
        world.scheduler.pod_seen(&there);
        world.scheduler.pod_seen(&pod("p").asks("1", "1").pod());
        assert!(world.binds().is_some());
    }

    #[test]
    fn a_failed_binding_gives_its_room_back_and_is_tried_again() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").has("1", "1Gi").node());
        world.scheduler.pod_seen(&pod("p").asks("1", "1").pod());
        assert!(world.binds().is_some());
        world
            .scheduler
            .bound(&pod("p").info().key, Bound::Failed, 0);
        assert!(world.step().is_none());
        world.now = 1_000;
        assert!(world.binds().is_some());
    }

    #[test]
    fn a_node_that_is_uncordoned_takes_who_waited_for_it() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").cordoned().node());
        world.scheduler.pod_seen(&pod("p").pod());
        assert_eq!(
            world.explains(),
            "0/1 nodes are available: 1 node(s) were unschedulable."
        );
        world
            .scheduler
            .node_seen(&node("n").label("a", "b").cordoned().node());
        world.now = 10_000;
        assert!(world.step().is_none(), "a label is not what it waits for");
        world.scheduler.node_seen(&node("n").label("a", "b").node());
        assert!(world.binds().is_some());
    }

    #[test]
    fn pods_of_other_schedulers_and_gated_ones_are_left_alone() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").node());
        world
            .scheduler
            .pod_seen(&pod("a").spec("schedulerName", json!("other")).pod());
        let gated = pod("b").spec("schedulingGates", json!([{"name": "wait"}]));
        world.scheduler.pod_seen(&gated.pod());
        assert!(world.step().is_none());
        world.scheduler.pod_seen(&pod("b").pod());
        assert_eq!(world.binds(), Some(("b".into(), "n".into())));
    }
}
