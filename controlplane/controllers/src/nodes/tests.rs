//! One rule of nodes a test.

mod pods;
mod signs;
mod zones;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    Node, NodeCondition, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus, Taint, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::lifecycle::{Action, Lifecycle, Settings};
use super::taints::{self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, desired, has};
use super::zones::Rates;
use crate::common::conditions;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn rates() -> Rates {
    Rates {
        normal: 0.1,
        secondary: 0.01,
        unhealthy_threshold: 0.55,
        large_zone: 50,
    }
}

fn settings() -> Settings {
    Settings {
        grace: Duration::from_secs(50),
        startup_grace: Duration::from_secs(60),
        rates: rates(),
    }
}

fn condition(kind: &str, status: &str, heartbeat: i64) -> NodeCondition {
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        last_heartbeat_time: Some(Time(at(heartbeat))),
        ..NodeCondition::default()
    }
}

fn node(name: &str, ready: Option<&str>) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            uid: Some(format!("{name}-uid")),
            creation_timestamp: Some(Time(at(0))),
            ..ObjectMeta::default()
        },
        spec: None,
        status: Some(NodeStatus {
            conditions: ready.map(|ready| vec![condition("Ready", ready, 0)]),
            ..NodeStatus::default()
        }),
    }
}

fn lease(renewed: i64) -> Lease {
    let spec = LeaseSpec {
        renew_time: Some(MicroTime(at(renewed))),
        ..LeaseSpec::default()
    };
    Lease {
        spec: Some(spec),
        ..Lease::default()
    }
}

fn taint(key: &str, effect: &str) -> Taint {
    Taint {
        key: key.into(),
        effect: effect.into(),
        time_added: Some(Time(at(0))),
        value: None,
    }
}

fn keys(taints: &[Taint]) -> Vec<(String, String)> {
    taints
        .iter()
        .map(|taint| (taint.key.clone(), taint.effect.clone()))
        .collect()
}

/// Nodes that send signs or not, and a controller that looks every five seconds and whose writes succeed.
#[derive(Default)]
struct Cluster {
    nodes: Vec<Node>,
    /// They neither renew their Leases nor write their status.
    silent: HashSet<String>,
    /// They renew their Leases only.
    mute: HashSet<String>,
    /// What nodes say of their readiness, if it is not that they are ready.
    say: HashMap<String, &'static str>,
    lifecycle: Lifecycle,
    second: i64,
    /// Whose pods were to be marked as not ready.
    marked: Vec<String>,
    /// Of whom it was written when that nothing is known.
    unknown: Vec<(i64, String)>,
    /// Of whom it was told that they have come, and that they have gone.
    told: [Vec<String>; 2],
}

impl Cluster {
    fn new(count: usize) -> Cluster {
        Cluster {
            nodes: (0..count)
                .map(|n| node(&format!("n{n}"), Some("True")))
                .collect(),
            ..Cluster::default()
        }
    }

    fn silence(&mut self, names: &[&str]) {
        self.silent
            .extend(names.iter().map(|name| (*name).to_owned()));
    }

    fn node(&mut self, name: &str) -> &mut Node {
        let mut nodes = self.nodes.iter_mut();
        nodes.find(|node| node.name_any() == name).unwrap()
    }

    /// The nodes that speak say how they are, if something else is written.
    fn speak(&mut self) {
        for node in &mut self.nodes {
            let name = node.name_any();
            if self.silent.contains(&name) || self.mute.contains(&name) {
                continue;
            }
            let says = self.say.get(&name).copied().unwrap_or("True");
            let conditions = &mut node.status.get_or_insert_default().conditions;
            if conditions::get(conditions, "Ready").is_none_or(|ready| ready.status != says) {
                *conditions = Some(vec![condition("Ready", says, self.second)]);
            }
        }
    }

    /// Runs for so many seconds; returns when which node was given the taint that makes its pods leave.
    fn run(&mut self, seconds: i64) -> Vec<(i64, String)> {
        let mut evicted = vec![];
        let end = self.second + seconds;
        while self.second < end {
            self.second += 5;
            self.speak();
            let speaking = self.nodes.iter().map(|node| node.name_any());
            let speaking = speaking.filter(|name| !self.silent.contains(name));
            let leases: HashMap<_, _> = speaking
                .map(|name| (name, Arc::new(lease(self.second))))
                .collect();
            let nodes: Vec<_> = self.nodes.iter().cloned().map(Arc::new).collect();
            let now = Duration::from_secs(self.second.unsigned_abs());
            let actions = self
                .lifecycle
                .look(&nodes, &leases, &settings(), now, at(self.second));
            for action in actions {
                self.carry_out(action, &mut evicted);
            }
        }
        evicted
    }

    fn carry_out(&mut self, action: Action, evicted: &mut Vec<(i64, String)>) {
        let leaving = |node: &Node| {
            let keys = [NOT_READY, UNREACHABLE];
            keys.iter().any(|key| has(node, key, NO_EXECUTE))
        };
        match action {
            Action::SetStatus(node, status) => {
                self.unknown.push((self.second, node.name_any()));
                self.node(&node.name_any()).status = Some(*status);
            }
            Action::SetTaints(node, taints) => {
                let (second, name) = (self.second, node.name_any());
                let known = self.node(&name);
                let before = leaving(known);
                known.spec.get_or_insert_default().taints = Some(taints);
                if !before && leaving(known) {
                    evicted.push((second, name));
                }
            }
            Action::MarkPodsNotReady(node) => self.marked.push(node.name_any()),
            Action::TellRegistered(node) => self.told[0].push(node.name_any()),
            Action::TellRemoved(node) => self.told[1].push(node.name_any()),
        }
    }

    fn taints(&mut self, name: &str) -> Vec<(String, String)> {
        keys(taints::taints(self.node(name)))
    }

    fn tainted(&self, effect: &str) -> usize {
        self.nodes
            .iter()
            .filter(|node| has(node, UNREACHABLE, effect))
            .count()
    }
}

#[test]
fn a_node_that_falls_silent_is_unknown_and_tainted_after_the_grace_and_not_before() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.silence(&["n1"]);
    assert_eq!(cluster.run(50), []);
    assert_eq!(cluster.tainted(NO_SCHEDULE), 0);
    assert_eq!(cluster.run(10), [(155, "n1".into())]);
    let node = &cluster.nodes[1];
    let status = node.status.as_ref().unwrap();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        assert_eq!(
            conditions::get(&status.conditions, kind).unwrap().status,
            "Unknown",
            "{kind}"
        );
    }
    let ready = conditions::get(&status.conditions, "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(ready.last_heartbeat_time, Some(Time(at(0))));
    assert!(has(node, UNREACHABLE, NO_SCHEDULE));
}

#[test]
fn a_node_that_speaks_again_loses_its_taints() {
    let mut cluster = Cluster::new(3);
    cluster.silence(&["n1"]);
    cluster.run(100);
    assert_eq!(cluster.tainted(NO_EXECUTE), 1);
    cluster.silent.clear();
    cluster.run(10);
    assert_eq!(
        cluster.tainted(NO_EXECUTE) + cluster.tainted(NO_SCHEDULE),
        0
    );
}

#[test]
fn pods_are_marked_once_when_their_node_falls_silent_and_again_only_if_that_failed() {
    let mut cluster = Cluster::new(3);
    cluster.silence(&["n1"]);
    cluster.run(200);
    assert_eq!(cluster.marked, ["n1"]);
    cluster.lifecycle.not_marked("n1");
    cluster.run(200);
    assert_eq!(cluster.marked, ["n1", "n1"]);
    // It is back, and falls silent anew.
    cluster.silent.clear();
    cluster.run(10);
    cluster.silence(&["n1"]);
    cluster.run(200);
    assert_eq!(cluster.marked, ["n1", "n1", "n1"]);
}

#[test]
fn no_pod_is_marked_while_nothing_is_heard_of_any_node() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.silence(&["n0", "n1", "n2"]);
    cluster.run(500);
    cluster.silent.clear();
    cluster.run(100);
    assert_eq!(cluster.marked, [""; 0]);
}

/// A taint by its key and effect.
fn pair(key: &str, effect: &str) -> (String, String) {
    (key.to_owned(), effect.to_owned())
}

#[test]
fn each_condition_gives_its_own_taint_and_no_other() {
    let cases = [
        ("MemoryPressure", "True", Some("memory-pressure")),
        ("DiskPressure", "True", Some("disk-pressure")),
        ("PIDPressure", "True", Some("pid-pressure")),
        ("NetworkUnavailable", "True", Some("network-unavailable")),
        ("MemoryPressure", "False", None),
        ("DiskPressure", "Unknown", None),
        ("PIDPressure", "False", None),
        ("NetworkUnavailable", "Unknown", None),
        ("Ready", "True", None),
        ("Ready", "False", Some("not-ready")),
        ("Ready", "Unknown", Some("unreachable")),
    ];
    // Of one of these keys, but not of an effect that is ours.
    let others = Taint {
        effect: "PreferNoSchedule".into(),
        ..taint("node.kubernetes.io/memory-pressure", "")
    };
    for (kind, status, expected) in cases {
        let mut node = node("n", Some("True"));
        let conditions = &mut node.status.get_or_insert_default().conditions;
        conditions::set(conditions, condition(kind, status, 0));
        node.spec.get_or_insert_default().taints = Some(vec![others.clone()]);
        let ready = taints::condition(&node, "Ready").unwrap();
        let found = desired(&node, ready, false, at(1));
        assert_eq!(found[0], others, "{kind} {status}");
        let expected: Vec<_> = expected
            .iter()
            .map(|key| pair(&format!("node.kubernetes.io/{key}"), NO_SCHEDULE))
            .collect();
        assert_eq!(keys(&found[1..]), expected, "{kind} {status}");
    }
}

#[test]
fn a_node_that_comes_is_told_of_once_and_one_that_goes_too() {
    let mut cluster = Cluster::new(2);
    cluster.run(100);
    assert_eq!(cluster.told, [vec!["n0", "n1"], vec![]]);
    cluster.nodes.pop();
    cluster.run(100);
    assert_eq!(cluster.told, [vec!["n0", "n1"], vec!["n1"]]);
    // Another of its name, in its place between two looks.
    cluster.node("n0").metadata.uid = Some("another".into());
    cluster.run(100);
    assert_eq!(cluster.told, [vec!["n0", "n1", "n0"], vec!["n1", "n0"]]);
}

#[test]
fn a_node_is_tainted_by_its_conditions_and_others_taints_are_kept() {
    let mut node = node("n", Some("False"));
    let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions.push(condition("MemoryPressure", "True", 0));
    conditions.push(condition("DiskPressure", "False", 0));
    node.spec = Some(NodeSpec {
        unschedulable: Some(true),
        taints: Some(vec![
            taint("dedicated", NO_EXECUTE),
            taint(UNREACHABLE, NO_EXECUTE),
            taint("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
        ]),
        ..NodeSpec::default()
    });
    let expected = [
        ("dedicated", NO_EXECUTE),
        ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
        ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
        (NOT_READY, NO_SCHEDULE),
        (NOT_READY, NO_EXECUTE),
    ];
    let expected = expected.map(|(key, effect)| (key.to_owned(), effect.to_owned()));
    assert_eq!(keys(&desired(&node, "False", true, at(1))), expected);
}

#[test]
fn a_taint_that_stays_keeps_its_time() {
    let mut node = node("n", Some("Unknown"));
    let taints = vec![
        taint(UNREACHABLE, NO_SCHEDULE),
        taint(UNREACHABLE, NO_EXECUTE),
    ];
    node.spec.get_or_insert_default().taints = Some(taints.clone());
    assert_eq!(desired(&node, "Unknown", true, at(99)), taints);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever falls silent and speaks again: the taints settle with it, nobody leaves faster than allowed, and a node
    /// that speaks is never tainted for long.
    #[test]
    fn taints_follow_the_signs_of_life(
        phases in prop::collection::vec((prop::collection::vec(0..6_usize, 0..6), 1..40_i64), 1..8),
    ) {
        let mut cluster = Cluster::new(6);
        for (silent, looks) in phases {
            cluster.silent = silent.iter().map(|n| format!("n{n}")).collect();
            let evicted = cluster.run(looks * 5);
            for pair in evicted.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= 10, "{evicted:?}");
            }
        }
        cluster.silent.clear();
        cluster.run(60);
        prop_assert_eq!(cluster.tainted(NO_SCHEDULE) + cluster.tainted(NO_EXECUTE), 0);
        cluster.silence(&["n0"]);
        cluster.run(120);
        prop_assert_eq!((cluster.tainted(NO_SCHEDULE), cluster.tainted(NO_EXECUTE)), (1, 1));
    }
}
