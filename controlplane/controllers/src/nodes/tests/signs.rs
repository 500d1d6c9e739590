//! What counts as a sign of life, and what is concluded where there is none.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::super::health::{Heard, unknown};
use super::*;

fn named(name: &str, ready: Option<&str>) -> Node {
    let mut node = node(name, ready);
    if ready.is_none() {
        node.status = None;
    }
    node
}

#[test]
fn a_node_that_has_not_said_anything_yet_has_its_grace_and_takes_nobodys_turn() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.silence(&["n2", "new"]);
    cluster.run(50);
    cluster.nodes.insert(0, named("new", None));
    // It comes with the look at which another is due.
    assert_eq!(cluster.run(60), [(155, "n2".into())]);
    assert_eq!(cluster.marked, ["n2"]);
    assert_eq!(cluster.unknown, [(155, "n2".into())]);
    assert_eq!(cluster.run(5), []);
    assert_eq!(cluster.run(5), [(220, "new".into())]);
    assert_eq!(cluster.marked, ["n2", "new"]);
    assert_eq!(cluster.unknown[1..], [(220, "new".into())]);
}

#[test]
fn a_node_that_has_never_said_anything_is_left_alone_while_it_renews_its_lease() {
    let mut cluster = Cluster::new(1);
    cluster.nodes.push(named("new", None));
    cluster.mute.insert("new".into());
    assert_eq!(cluster.run(3600), []);
    assert_eq!((cluster.marked.len(), cluster.unknown.len()), (0, 0));
    // New pods stay away until it is ready.
    assert_eq!(cluster.taints("new"), [pair(UNREACHABLE, NO_SCHEDULE)]);
}

#[test]
fn a_node_whose_readiness_is_no_longer_told_keeps_its_pods_until_it_is_silent() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.mute.insert("n1".into());
    let pressure = vec![condition("MemoryPressure", "Unknown", 0)];
    let status = cluster.node("n1").status.as_mut().unwrap();
    status.conditions = Some(pressure);
    assert_eq!(cluster.run(300), []);
    assert_eq!(cluster.marked, [""; 0]);
    cluster.silence(&["n1"]);
    assert_eq!(cluster.run(65), [(465, "n1".into())]);
    // What makes its pods leave stays, though its condition is taken away once more.
    cluster.node("n1").status = None;
    cluster.silent.clear();
    cluster.run(100);
    assert!(has(cluster.node("n1"), UNREACHABLE, NO_EXECUTE));
}

#[test]
fn a_node_that_says_it_is_not_ready_loses_its_pods_and_speaks_for_them_itself() {
    let mut cluster = Cluster::new(5);
    cluster.run(100);
    cluster.say = [("n1".into(), "False"), ("n2".into(), "False")].into();
    assert_eq!(cluster.run(20), [(105, "n1".into()), (115, "n2".into())]);
    let not_ready = [pair(NOT_READY, NO_SCHEDULE), pair(NOT_READY, NO_EXECUTE)];
    assert_eq!(cluster.taints("n1"), not_ready);
    assert_eq!((cluster.marked.len(), cluster.unknown.len()), (0, 0));
    cluster.say.clear();
    cluster.run(5);
    assert_eq!(cluster.taints("n1"), []);
    assert_eq!(cluster.taints("n2"), []);
}

#[test]
fn a_node_that_is_down_either_way_is_not_relieved_a_second_time() {
    let mut cluster = Cluster::new(5);
    cluster.run(100);
    cluster.silence(&["n1"]);
    assert_eq!(cluster.run(60), [(155, "n1".into())]);
    assert_eq!(cluster.marked, ["n1"]);
    // It speaks, and another one is due: the turn is that one's.
    cluster.silence(&["n2"]);
    cluster.run(50);
    cluster.silent.remove("n1");
    cluster.say.insert("n1".into(), "False");
    assert_eq!(cluster.run(5), [(215, "n2".into())]);
    let not_ready = [pair(NOT_READY, NO_SCHEDULE), pair(NOT_READY, NO_EXECUTE)];
    assert_eq!(cluster.taints("n1"), not_ready);
    assert_eq!(cluster.marked, ["n1", "n2"]);
    // And silent again: it had spoken for its pods.
    cluster.silence(&["n1"]);
    assert_eq!(cluster.run(60), []);
    let lost = [
        pair(UNREACHABLE, NO_SCHEDULE),
        pair(UNREACHABLE, NO_EXECUTE),
    ];
    assert_eq!(cluster.taints("n1"), lost);
    assert_eq!(cluster.marked, ["n1", "n2", "n1"]);
}

#[test]
fn a_status_that_is_written_anew_is_a_sign_of_life_without_a_lease() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.silence(&["n1"]);
    for _ in 0..60 {
        let heartbeat = cluster.second;
        let status = cluster.node("n1").status.as_mut().unwrap();
        status.conditions = Some(vec![condition("Ready", "True", heartbeat)]);
        assert_eq!(cluster.run(5), []);
    }
    assert_eq!(cluster.unknown, []);
    assert_eq!(cluster.run(50), []);
    assert_eq!(cluster.run(5), [(455, "n1".into())]);
}

#[test]
fn what_a_node_writes_itself_is_a_sign_of_life_and_what_we_write_is_not() {
    const READY: Option<(&str, i64)> = Some(("True", 10));
    const LOST: Option<(&str, i64)> = Some(("Unknown", 10));
    let cases = [
        ("nothing, and nothing", (None, None), (None, None), 30),
        ("its first status", (None, None), (READY, None), 0),
        ("readiness is taken away", (READY, None), (None, None), 30),
        ("the same", (READY, None), (READY, None), 30),
        ("later", (READY, None), (Some(("True", 20)), None), 0),
        (
            "we write that it is unknown",
            (READY, None),
            (LOST, None),
            30,
        ),
        (
            "it says itself that it is unknown",
            (READY, None),
            (Some(("Unknown", 20)), None),
            0,
        ),
        ("its first Lease", (READY, None), (READY, Some(5)), 0),
        ("a renewal", (READY, Some(5)), (READY, Some(6)), 0),
        ("an older time", (READY, Some(5)), (READY, Some(4)), 30),
        ("the Lease vanishes", (READY, Some(5)), (READY, None), 30),
    ];
    let seen = |(ready, renewed): (Option<(&str, i64)>, Option<i64>)| {
        let mut node = named("n", None);
        if let Some((status, heartbeat)) = ready {
            let conditions = vec![condition("Ready", status, heartbeat)];
            node.status.get_or_insert_default().conditions = Some(conditions);
        }
        (node, renewed.map(lease))
    };
    let (start, later) = (Duration::from_secs(100), Duration::from_secs(130));
    for (name, before, after, silence) in cases {
        let mut heard = Heard::default();
        let (node, lease) = seen(before);
        let first = heard.silence(&node, lease.as_ref(), start);
        assert_eq!(first, Duration::ZERO, "{name}");
        let (node, lease) = seen(after);
        let found = heard.silence(&node, lease.as_ref(), later);
        assert_eq!(found.as_secs(), silence, "{name}");
    }
    let (node, _) = seen((READY, None));
    let mut another = node.clone();
    another.metadata.uid = Some("another".into());
    let mut heard = Heard::default();
    heard.silence(&node, None, start);
    assert_eq!(heard.silence(&another, None, later), Duration::ZERO);
    for forgive in [
        |heard: &mut Heard| heard.pardon(Duration::from_secs(130)),
        |heard: &mut Heard| heard.retain(|_| false),
    ] {
        let mut heard = Heard::default();
        heard.silence(&node, None, start);
        forgive(&mut heard);
        assert_eq!(heard.silence(&node, None, later), Duration::ZERO);
    }
}

#[test]
fn what_is_written_of_a_silent_node_says_whether_it_ever_spoke_and_leaves_the_rest_as_it_is() {
    let told = |status: &NodeStatus, kind: &str| {
        let known = conditions::get(&status.conditions, kind).unwrap();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (reason, message) = (text(&known.reason), text(&known.message));
        let heartbeat = known.last_heartbeat_time.as_ref().map(|time| time.0);
        (known.status.clone(), reason, message, heartbeat)
    };
    let says = |reason: &str, message: &str, heartbeat| {
        let status = "Unknown".to_owned();
        (
            status,
            reason.to_owned(),
            message.to_owned(),
            Some(heartbeat),
        )
    };
    let never = says(
        "NodeStatusNeverUpdated",
        "Kubelet never posted node status.",
        at(0),
    );
    let stopped = says(
        "NodeStatusUnknown",
        "Kubelet stopped posting node status.",
        at(7),
    );
    let vouched = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
    let silent = unknown(&named("n", None), at(500)).unwrap();
    for kind in vouched {
        assert_eq!(told(&silent, kind), never, "{kind}");
        let known = conditions::get(&silent.conditions, kind).unwrap();
        assert_eq!(known.last_transition_time, Some(Time(at(500))), "{kind}");
    }
    let mut node = named("n", Some("True"));
    let status = node.status.as_mut().unwrap();
    status.capacity = Some([("cpu".into(), Quantity("8".into()))].into());
    status.conditions = Some(vec![
        condition("Ready", "True", 7),
        condition("DiskPressure", "False", 7),
        condition("NetworkUnavailable", "False", 7),
    ]);
    let written = unknown(&node, at(500)).unwrap();
    for (kind, expected) in vouched.iter().zip([&stopped, &never, &stopped, &never]) {
        assert_eq!(&told(&written, kind), expected, "{kind}");
    }
    let network = conditions::get(&written.conditions, "NetworkUnavailable");
    assert_eq!(network, Some(&condition("NetworkUnavailable", "False", 7)));
    assert_eq!(written.capacity, node.status.unwrap().capacity);
    node.status = Some(written);
    assert_eq!(unknown(&node, at(600)), None, "it is written already");
}
