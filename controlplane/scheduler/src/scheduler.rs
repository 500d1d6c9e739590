//! The scheduler without its I/O: what is seen goes in, what is to be done comes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
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
    /// Tell its user why it has no node, and say by [`Scheduler::told`] when that is done. It is tried again when
    /// something changes, but not before.
    Explain {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Why.
        no_fit: NoFit,
        /// What its user was told before, as its status says, or [`Scheduler::told`] was told.
        told: Option<String>,
    },
}

/// What became of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The pod is on its node.
    Yes,
    /// It is tried again, unless it is seen that it is gone, or on another node.
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
        self.queue.changed(&Change::NodeGone);
    }

    /// A namespace was seen.
    pub fn namespace_seen(&mut self, namespace: &Namespace) {
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        if self.cluster.set_namespace(name, labels) {
            self.queue.changed(&Change::NamespaceChanged);
        }
    }

    /// A namespace is gone.
    pub fn namespace_gone(&mut self, name: &str) {
        self.cluster.remove_namespace(name);
    }

    /// A pod was seen.
    pub fn pod_seen(&mut self, pod: &Pod) {
        let key = key_of(pod);
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let node = node.filter(|node| !node.is_empty());
        if has_ended(pod) {
            self.pod_gone(&key);
        } else if let Some(node) = node {
            let pod = Arc::new(PodInfo::new(pod));
            let change = match self.cluster.pod(&key) {
                Some(before) if !self.cluster.is_assumed(&key) => {
                    Change::PodChanged(let_in_by(before, &pod))
                }
                _ => Change::PodPlaced,
            };
            self.cluster.set_pod(node, pod);
            self.queue.remove(&key);
            self.queue.changed(&change);
        } else if is_ours(pod, &self.name) {
            let pod = Arc::new(PodInfo::new(pod));
            // One that is being bound, or was, had no node yet when this was sent.
            if self.cluster.is_assumed(&key) {
                self.queue.renew(&pod);
            } else {
                self.queue.add(pod);
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
                    .failed(&pod, Some(no_fit.rejected_by.clone()), now);
                self.queue.telling(&pod);
                let told = self.queue.last_told(&pod);
                Some(Step::Explain { pod, no_fit, told })
            }
        }
    }

    /// What became of a binding.
    pub fn bound(&mut self, pod: &PodInfo, outcome: Bound, now: u64) {
        match outcome {
            // Its room stays taken until it is seen there, or gone.
            Bound::Yes => self.queue.placed(pod),
            Bound::Failed => {
                self.queue.failed(pod, None, now);
                if self.cluster.forget(pod) {
                    self.queue.changed(&Change::PodGone);
                }
            }
        }
    }

    /// A pod's user was told this of why it has no node; `None` if that failed.
    pub fn told(&mut self, pod: &PodInfo, message: Option<String>) {
        self.queue.told(pod, message);
    }

    /// When [`Scheduler::step`] may have something to do, if nothing is seen before.
    pub fn next_wake(&self) -> Option<u64> {
        self.queue.next_wake()
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

/// Who may let others in after what has changed of a pod on a node.
fn let_in_by(before: &PodInfo, now: &PodInfo) -> BTreeSet<Filter> {
    let mut filters = BTreeSet::new();
    if before.labels != now.labels {
        filters.extend([Filter::Spread, Filter::PodAffinity]);
    }
    if before.terminating != now.terminating {
        filters.insert(Filter::Spread);
    }
    if before.requests != now.requests {
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
                Some(Step::Explain { pod, no_fit, .. }) => {
                    self.scheduler.told(&pod, None);
                    no_fit.to_string()
                }
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
        world.scheduler.bound(&pod("p").info(), Bound::Yes, 0);
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
        world.scheduler.bound(&pod("p").info(), Bound::Failed, 0);
        assert!(world.step().is_none());
        world.now = 1_000;
        assert!(world.binds().is_some());
    }

    fn tolerating(name: &str) -> Pod {
        let toleration = json!([{"key": "dedicated", "operator": "Exists"}]);
        pod(name).spec("tolerations", toleration).pod()
    }

    #[test]
    fn what_is_seen_of_a_pod_while_it_is_being_bound_counts_if_that_fails() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").node());
        world.scheduler.pod_seen(&pod("p").pod());
        assert!(world.binds().is_some());
        let tainted = node("n").tainted("dedicated", "", "NoSchedule").node();
        world.scheduler.node_seen(&tainted);
        world.scheduler.pod_seen(&tolerating("p"));
        world.scheduler.bound(&pod("p").info(), Bound::Failed, 0);
        world.now = 1_000;
        assert!(world.binds().is_some());
    }

    #[test]
    fn a_pod_is_not_bound_while_its_user_is_being_told_that_it_has_no_node() {
        for told in [Some("nothing fits".to_owned()), None] {
            let mut world = World::new();
            let tainted = node("n").tainted("dedicated", "", "NoSchedule").node();
            world.scheduler.node_seen(&tainted);
            world.scheduler.pod_seen(&pod("p").pod());
            let Some(Step::Explain { pod: untold, .. }) = world.step() else {
                panic!("it fits nowhere")
            };
            // Its user is faster than what tells them.
            world.scheduler.pod_seen(&tolerating("p"));
            world.scheduler.node_seen(&node("n").node());
            world.now = 600_000;
            assert!(world.step().is_none());
            world.scheduler.told(&untold, told);
            assert!(world.binds().is_some());
        }
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

    /// Another pod of the same name.
    fn namesake(maker: PodMaker) -> Pod {
        let mut pod = maker.pod();
        pod.metadata.uid = Some("another".into());
        pod
    }

    #[test]
    fn the_end_of_a_binding_is_not_taken_for_a_namesakes() {
        for outcome in [Bound::Yes, Bound::Failed] {
            let mut world = World::new();
            world.scheduler.node_seen(&node("n").node());
            world.scheduler.pod_seen(&pod("p").pod());
            assert!(world.binds().is_some());
            world.scheduler.pod_gone(&pod("p").info().key);
            world.scheduler.pod_seen(&namesake(pod("p")));
            world.scheduler.bound(&pod("p").info(), outcome, 0);
            assert!(world.binds().is_some(), "{outcome:?}");
        }
    }

    #[test]
    fn a_pod_is_told_once_what_is_still_so() {
        let mut world = World::new();
        world.scheduler.pod_seen(&pod("p").pod());
        let mut tells = |now: u64| {
            world.now = now;
            match world.step() {
                Some(Step::Explain { pod, no_fit, told }) => {
                    world.scheduler.told(&pod, Some(no_fit.to_string()));
                    (told, no_fit.to_string())
                }
                other => panic!("{other:?}"),
            }
        };
        let (before, message) = tells(0);
        assert_eq!(before, None);
        assert_eq!(tells(600_000), (Some(message.clone()), message));
    }

    #[test]
    fn what_a_pods_user_heard_of_an_earlier_process_is_known() {
        let mut world = World::new();
        let message = "no nodes available to schedule pods";
        let mut heard = pod("p").pod();
        let condition = json!({"type": "PodScheduled", "status": "False", "message": message});
        let status = json!({"phase": "Pending", "conditions": [condition]});
        heard.status = serde_json::from_value(status).unwrap();
        world.scheduler.pod_seen(&heard);
        match world.step() {
            Some(Step::Explain { told, .. }) => assert_eq!(told.as_deref(), Some(message)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_that_is_gone_lets_in_who_had_to_keep_away_from_its_pods() {
        let mut world = World::new();
        let apart = || {
            pod("p").spec(
                "affinity",
                json!({"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{
                        "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}},
                    }],
                }}),
            )
        };
        for name in ["a", "b"] {
            world
                .scheduler
                .node_seen(&node(name).label("zone", "z").node());
        }
        let web = pod("web").label("app", "web");
        world.scheduler.pod_seen(&on(web, "a"));
        world.scheduler.pod_seen(&apart().pod());
        world.explains();
        world.scheduler.node_gone("a");
        world.now = 10_000;
        assert_eq!(world.binds(), Some(("p".into(), "b".into())));
    }

    #[test]
    fn a_namespace_that_is_relabelled_lets_in_who_wanted_to_be_with_its_pods() {
        let mut world = World::new();
        let namespace = |team: &str| {
            let value = json!({"metadata": {"name": "default", "labels": {"team": team}}});
            serde_json::from_value::<Namespace>(value).unwrap()
        };
        let with_red = pod("p").spec(
            "affinity",
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname", "labelSelector": {},
                "namespaceSelector": {"matchLabels": {"team": "red"}},
            }]}}),
        );
        world.scheduler.namespace_seen(&namespace("blue"));
        world.scheduler.node_seen(&node("n").node());
        world
            .scheduler
            .pod_seen(&on(pod("web").label("app", "web"), "n"));
        world.scheduler.pod_seen(&with_red.pod());
        world.explains();
        world.scheduler.namespace_seen(&namespace("blue"));
        world.now = 10_000;
        assert!(world.step().is_none());
        world.scheduler.namespace_seen(&namespace("red"));
        assert_eq!(world.binds(), Some(("p".into(), "n".into())));
    }

    #[test]
    fn a_pod_on_a_node_that_asks_for_less_than_before_lets_others_in() {
        let mut world = World::new();
        world.scheduler.node_seen(&node("n").has("1", "1Gi").node());
        let there = |cpu: &str| on(pod("there").asks(cpu, "1"), "n");
        world.scheduler.pod_seen(&there("1"));
        world.scheduler.pod_seen(&pod("p").asks("500m", "1").pod());
        world.explains();
        world.scheduler.pod_seen(&there("500m"));
        world.now = 10_000;
        assert!(world.binds().is_some());
    }
}
