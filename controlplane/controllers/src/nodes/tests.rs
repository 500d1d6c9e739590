//! One rule of nodes a test.

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

use super::eviction::{Leave, leave};
use super::lifecycle::{Action, Lifecycle, Settings};
use super::pod_gc::{self, Quarantine};
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

fn toleration(
    key: &str,
    operator: &str,
    value: &str,
    effect: &str,
    seconds: Option<i64>,
) -> Toleration {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Toleration {
        key: text(key),
        operator: text(operator),
        value: text(value),
        effect: text(effect),
        toleration_seconds: seconds,
    }
}

fn pod(name: &str, node: Option<&str>) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.into()),
            creation_timestamp: Some(Time(at(-100))),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: node.map(str::to_owned),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            ..PodStatus::default()
        }),
    }
}

#[test]
fn a_pod_leaves_when_it_has_tolerated_long_enough() {
    let unreachable = |seconds| toleration(UNREACHABLE, "Exists", "", NO_EXECUTE, seconds);
    let other = |seconds| toleration("other", "Exists", "", NO_EXECUTE, seconds);
    let one = || vec![taint(UNREACHABLE, NO_EXECUTE)];
    let two = || vec![taint(UNREACHABLE, NO_EXECUTE), taint("other", NO_EXECUTE)];
    let cases = [
        ("no taint", vec![], vec![], Leave::Never),
        (
            "a taint for new pods only",
            vec![],
            vec![taint(UNREACHABLE, NO_SCHEDULE)],
            Leave::Never,
        ),
        ("not tolerated", vec![], one(), Leave::At(at(0))),
        (
            "tolerated for ever",
            vec![unreachable(None)],
            one(),
            Leave::Never,
        ),
        (
            "tolerated for a while",
            vec![unreachable(Some(300))],
            one(),
            Leave::At(at(300)),
        ),
        (
            "tolerated for no time",
            vec![unreachable(Some(0))],
            one(),
            Leave::At(at(0)),
        ),
        (
            "tolerated for less than no time",
            vec![unreachable(Some(-5))],
            one(),
            Leave::At(at(0)),
        ),
        (
            "one of two is not tolerated",
            vec![unreachable(None)],
            two(),
            Leave::At(at(0)),
        ),
        (
            "the shorter of two",
            vec![unreachable(Some(300)), other(Some(60))],
            two(),
            Leave::At(at(60)),
        ),
        (
            "one for ever, the other for a while",
            vec![unreachable(None), other(Some(60))],
            two(),
            Leave::At(at(60)),
        ),
    ];
    for (name, tolerations, taints, expected) in cases {
        let mut pod = pod("p", Some("n"));
        pod.spec.as_mut().unwrap().tolerations = Some(tolerations);
        assert_eq!(leave(&pod, &taints, |_| at(0)), expected, "{name}");
    }
    // A pod that came to a node with a taint counts from then.
    let mut late = pod("p", Some("n"));
    late.metadata.creation_timestamp = Some(Time(at(50)));
    late.spec.as_mut().unwrap().tolerations = Some(vec![unreachable(Some(300))]);
    assert_eq!(leave(&late, &one(), |_| at(0)), Leave::At(at(350)));
    // A taint that does not say since when it is there counts from when it was seen.
    let mut undated = one();
    undated[0].time_added = None;
    assert_eq!(
        leave(&pod("p", Some("n")), &undated, |_| at(7)),
        Leave::At(at(7))
    );
}

#[test]
fn pods_of_a_node_that_is_gone_are_deleted_after_the_quarantine() {
    let settings = pod_gc::Settings {
        quarantine: Duration::from_secs(40),
        ended_max: 0,
    };
    let (there, gone) = (
        Arc::new(pod("a", Some("there"))),
        Arc::new(pod("b", Some("gone"))),
    );
    let pods = [there, gone.clone()];
    let nodes = HashSet::from(["there".to_owned()]);
    let mut quarantine = Quarantine::default();
    let mut look = |nodes: &HashSet<String>, second| {
        quarantine.look(&pods, nodes, &settings, Duration::from_secs(second))
    };
    assert_eq!(look(&nodes, 0), []);
    assert_eq!(look(&nodes, 39), []);
    assert_eq!(look(&nodes, 40), [pod_gc::Action::DeleteOrphan(gone)]);
    // It came back: the time starts anew.
    let both = HashSet::from(["there".to_owned(), "gone".to_owned()]);
    assert_eq!(look(&both, 60), []);
    assert_eq!(look(&nodes, 80), []);
    assert_eq!(look(&nodes, 119), []);
}

#[test]
fn pods_that_never_had_a_node_and_the_oldest_that_have_ended_are_deleted() {
    let settings = pod_gc::Settings {
        quarantine: Duration::from_secs(40),
        ended_max: 2,
    };
    let mut unscheduled = pod("u", None);
    unscheduled.metadata.deletion_timestamp = Some(Time(at(0)));
    let unscheduled = Arc::new(unscheduled);
    let ended = |name: &str, created| {
        let mut pod = pod(name, None);
        pod.metadata.creation_timestamp = Some(Time(at(created)));
        pod.status.as_mut().unwrap().phase = Some("Succeeded".into());
        Arc::new(pod)
    };
    let oldest = ended("x", 1);
    let pods = [
        ended("z", 3),
        oldest.clone(),
        ended("y", 2),
        unscheduled.clone(),
        Arc::new(pod("w", None)),
    ];
    let actions = Quarantine::default().look(&pods, &HashSet::new(), &settings, Duration::ZERO);
    let expected = [
        pod_gc::Action::DeleteUnscheduled(unscheduled),
        pod_gc::Action::DeleteEnded(oldest),
    ];
    assert_eq!(actions, expected);
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

/// A taint of one of three keys, put on at some time, or one that does not say when.
fn any_taint() -> impl Strategy<Value = Taint> {
    let effect = prop_oneof![4 => Just(NO_EXECUTE), 1 => Just(NO_SCHEDULE)];
    let key = prop_oneof![Just("a"), Just("b"), Just("c")];
    (key, effect, prop::option::of(-50..50_i64)).prop_map(|(key, effect, added)| Taint {
        time_added: added.map(|second| Time(at(second))),
        ..taint(key, effect)
    })
}

fn any_toleration() -> impl Strategy<Value = Toleration> {
    let key = prop_oneof![Just("a"), Just("b"), Just("c"), Just("")];
    let effect = prop_oneof![Just(""), Just(NO_EXECUTE), Just(NO_SCHEDULE)];
    let seconds = prop::option::of(-10..100_i64);
    (key, effect, seconds)
        .prop_map(|(key, effect, seconds)| toleration(key, "Exists", "", effect, seconds))
}

proptest! {
    /// A pod leaves at the first second at which a taint that makes pods leave is not, or no longer, borne: neither the
    /// order of the taints matters, nor how often it is asked; another taint makes it leave no later, another toleration
    /// at the end no earlier.
    #[test]
    fn a_pod_leaves_when_the_first_taint_is_no_longer_borne(
        taints in prop::collection::vec(any_taint(), 0..5),
        tolerations in prop::collection::vec(any_toleration(), 0..5),
        created in prop::option::of(-60..60_i64),
        seen in -50..50_i64,
        (more, bears) in (any_taint(), any_toleration()),
    ) {
        let tolerating = |tolerations: &[Toleration]| {
            let mut pod = pod("p", Some("n"));
            pod.metadata.creation_timestamp = created.map(|second| Time(at(second)));
            pod.spec.as_mut().unwrap().tolerations = Some(tolerations.to_vec());
            pod
        };
        let when = |pod: &Pod, taints: &[Taint]| match leave(pod, taints, |_| at(seen)) {
            Leave::Never => i64::MAX,
            Leave::At(time) => time.as_second() - at(0).as_second(),
        };
        let pod = tolerating(&tolerations);
        let found = when(&pod, &taints);
        let makes_leave = |second: i64| {
            taints.iter().filter(|taint| taint.effect == NO_EXECUTE).any(|taint| {
                let added = taint.time_added.as_ref().map_or(seen, |time| time.0.as_second() - at(0).as_second());
                let since = added.max(created.unwrap_or(i64::MIN));
                let about = tolerations.iter().find(|toleration| {
                    let key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
                    key && toleration.effect.as_ref().is_none_or(|effect| *effect == taint.effect)
                });
                let borne = match about {
                    None => Some(0),
                    Some(toleration) => toleration.toleration_seconds.map(|seconds| seconds.max(0)),
                };
                borne.is_some_and(|seconds| second >= since + seconds)
            })
        };
        let first = (-60..200).find(|second| makes_leave(*second));
        prop_assert_eq!(found, first.unwrap_or(i64::MAX));
        let reversed: Vec<Taint> = taints.iter().rev().cloned().collect();
        prop_assert_eq!(when(&pod, &reversed), found);
        let mut worse = taints.clone();
        worse.push(more);
        prop_assert!(when(&pod, &worse) <= found);
        let mut better = tolerations.clone();
        better.push(bears);
        prop_assert!(when(&tolerating(&better), &taints) >= found);
        // Who is started again, and sees the taints only now, comes to the same time, if they say when they were put on.
        if taints.iter().all(|taint| taint.time_added.is_some()) {
            let Leave::At(again) = leave(&pod, &taints, |_| at(1000)) else {
                prop_assert_eq!(found, i64::MAX);
                return Ok(());
            };
            prop_assert_eq!(again.as_second() - at(0).as_second(), found);
        }
    }
}
