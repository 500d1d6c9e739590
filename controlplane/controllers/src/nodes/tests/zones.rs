//! How fast pods leave, and when nobody does.

use super::super::zones::{Limiter, Zone, rate, state};
use super::*;

#[test]
fn pods_leave_one_node_at_once_and_then_one_every_ten_seconds() {
    let mut cluster = Cluster::new(10);
    cluster.run(100);
    cluster.silence(&["n1", "n2", "n3", "n4"]);
    let evicted = cluster.run(100);
    let times: Vec<_> = evicted.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [155, 165, 175, 185]);
    assert_eq!(cluster.tainted(NO_SCHEDULE), 4);
}

#[test]
fn nobody_leaves_while_nothing_at_all_is_heard() {
    let mut cluster = Cluster::new(3);
    cluster.run(100);
    cluster.silence(&["n0", "n1", "n2"]);
    assert_eq!(cluster.run(300), []);
    assert_eq!(cluster.tainted(NO_SCHEDULE), 3);
    // When one speaks again, the others are given their grace anew.
    cluster.silent.remove("n0");
    assert_eq!(cluster.run(50), []);
    assert_eq!(cluster.run(30), [(460, "n1".into()), (470, "n2".into())]);
}

#[test]
fn much_of_a_small_zone_being_down_stops_the_leaving() {
    let mut cluster = Cluster::new(5);
    cluster.run(100);
    cluster.silence(&["n1", "n2", "n3"]);
    assert_eq!(cluster.run(300), []);
}

#[test]
fn a_zone_is_judged_by_how_many_are_down() {
    let cases = [
        (10, 0, Zone::Normal),
        (0, 1, Zone::Full),
        (1, 1, Zone::Normal),
        (1, 2, Zone::Normal),
        (2, 3, Zone::Partial),
        (50, 50, Zone::Normal),
        (45, 55, Zone::Partial),
        (0, 0, Zone::Normal),
    ];
    for (ready, not_ready, expected) in cases {
        assert_eq!(
            state(ready, not_ready, &rates()),
            expected,
            "{ready} {not_ready}"
        );
    }
    let all = [
        (Zone::Normal, 10, 0.1),
        (Zone::Full, 10, 0.1),
        (Zone::Partial, 50, 0.0),
        (Zone::Partial, 51, 0.01),
    ];
    for (state, total, expected) in all {
        assert_eq!(rate(state, total, &rates()), expected);
    }
}

#[test]
fn the_limiter_lets_one_through_and_then_so_many_a_second() {
    let mut limiter = Limiter::default();
    let taken: Vec<_> = (0..40)
        .filter(|second| limiter.take("z", 0.1, Duration::from_secs(*second)))
        .collect();
    assert_eq!(taken, [0, 10, 20, 30]);
    assert!(limiter.take("other", 0.1, Duration::ZERO));
    assert!(!Limiter::default().take("z", 0.0, Duration::ZERO));
}

impl Cluster {
    /// As many nodes in each zone of a region as it says.
    fn of_zones(zones: &[(&str, &str, usize)]) -> Cluster {
        let mut cluster = Cluster::new(zones.iter().map(|(.., count)| count).sum());
        let places = zones
            .iter()
            .flat_map(|(region, zone, count)| vec![(*region, *zone); *count]);
        for (node, (region, zone)) in cluster.nodes.iter_mut().zip(places) {
            let labels = node.labels_mut();
            labels.insert("topology.kubernetes.io/region".into(), region.into());
            labels.insert("topology.kubernetes.io/zone".into(), zone.into());
        }
        cluster.run(100);
        cluster
    }
}

fn named(evicted: &[(i64, &str)]) -> Vec<(i64, String)> {
    let evicted = evicted.iter();
    evicted
        .map(|(second, name)| (*second, (*name).to_owned()))
        .collect()
}

#[test]
fn a_zone_that_is_wholly_down_beside_one_that_is_well_is_left_at_the_usual_rate() {
    let mut cluster = Cluster::of_zones(&[("r", "a", 3), ("r", "b", 3)]);
    cluster.silence(&["n0", "n1", "n2"]);
    let expected = named(&[(155, "n0"), (165, "n1"), (175, "n2")]);
    assert_eq!(cluster.run(100), expected);
}

#[test]
fn nodes_of_different_zones_do_not_wait_for_each_other() {
    // Zones of one name in two regions are two.
    for zones in [
        [("r", "a", 3), ("r", "b", 3)],
        [("r", "a", 3), ("s", "a", 3)],
    ] {
        let mut cluster = Cluster::of_zones(&zones);
        cluster.silence(&["n0", "n3"]);
        assert_eq!(cluster.run(100), named(&[(155, "n0"), (155, "n3")]));
    }
    let mut cluster = Cluster::of_zones(&[("r", "a", 6)]);
    cluster.silence(&["n0", "n3"]);
    assert_eq!(cluster.run(100), named(&[(155, "n0"), (165, "n3")]));
}

#[test]
fn nobody_leaves_while_all_zones_are_down_and_when_one_is_back_the_others_have_their_grace() {
    let mut cluster = Cluster::of_zones(&[("r", "a", 2), ("r", "b", 2)]);
    cluster.silence(&["n0", "n1", "n2", "n3"]);
    assert_eq!(cluster.run(300), []);
    cluster.silent.remove("n2");
    cluster.silent.remove("n3");
    assert_eq!(cluster.run(50), []);
    assert_eq!(cluster.run(30), named(&[(460, "n0"), (470, "n1")]));
}

#[test]
fn a_small_zone_of_which_much_is_down_keeps_its_pods_and_others_do_not_mind() {
    let mut cluster = Cluster::of_zones(&[("r", "a", 5), ("r", "b", 3)]);
    cluster.silence(&["n0", "n1", "n2", "n5"]);
    assert_eq!(cluster.run(300), named(&[(155, "n5")]));
    // One is back: it goes on as usual, and what was not used is not made up for.
    cluster.silent.remove("n2");
    assert_eq!(cluster.run(50), named(&[(405, "n0"), (415, "n1")]));
}

#[test]
fn a_node_counts_in_the_zone_that_it_says_it_is_in() {
    let mut cluster = Cluster::of_zones(&[("r", "a", 5), ("r", "b", 3)]);
    cluster.silence(&["n0", "n1", "n2"]);
    assert_eq!(cluster.run(300), []);
    // Three of eight are not much.
    for node in &mut cluster.nodes[5..] {
        node.labels_mut()
            .insert("topology.kubernetes.io/zone".into(), "a".into());
    }
    let expected = named(&[(405, "n0"), (415, "n1"), (425, "n2")]);
    assert_eq!(cluster.run(50), expected);
}

#[test]
fn a_large_zone_of_which_much_is_down_is_left_slowly() {
    let mut cluster = Cluster::new(60);
    cluster.run(100);
    let silent: Vec<String> = (10..50).map(|n| format!("n{n}")).collect();
    cluster.silent.extend(silent);
    let evicted = cluster.run(300);
    let times: Vec<_> = evicted.iter().map(|(second, _)| *second).collect();
    assert_eq!(times, [155, 255, 355]);
}

#[test]
fn who_fell_silent_first_is_relieved_first() {
    let mut cluster = Cluster::new(10);
    cluster.run(95);
    for name in ["n5", "n9", "n1"] {
        cluster.silence(&[name]);
        assert_eq!(cluster.run(5), []);
    }
    let expected = named(&[(150, "n5"), (160, "n9"), (170, "n1")]);
    assert_eq!(cluster.run(100), expected);
}

#[test]
fn a_node_that_comes_and_goes_as_it_likes_says_nothing_of_its_zone() {
    let label = "node.kubernetes.io/exclude-disruption";
    for (label, value, expected) in [
        (label, "", named(&[])),
        (label, "true", named(&[])),
        (label, "false", named(&[])),
        ("node-role.kubernetes.io/master", "", named(&[(155, "n0")])),
    ] {
        // The only one that speaks.
        let mut cluster = Cluster::new(2);
        cluster
            .node("n1")
            .labels_mut()
            .insert(label.into(), value.into());
        cluster.run(100);
        cluster.silence(&["n0"]);
        assert_eq!(cluster.run(100), expected, "{label}={value}");
        assert_eq!(cluster.tainted(NO_SCHEDULE), 1);
    }
    // In a zone of nothing else pods leave as usual.
    let mut cluster = Cluster::new(2);
    for node in &mut cluster.nodes {
        node.labels_mut().insert(label.into(), String::new());
    }
    cluster.run(100);
    cluster.silence(&["n0", "n1"]);
    assert_eq!(cluster.run(100), named(&[(155, "n0"), (165, "n1")]));
}

#[test]
fn a_node_that_is_going_and_does_not_go_is_judged_all_the_same() {
    let mut cluster = Cluster::new(3);
    cluster.node("n1").metadata.deletion_timestamp = Some(Time(at(0)));
    cluster.run(100);
    cluster.silence(&["n1"]);
    assert_eq!(cluster.run(100), named(&[(155, "n1")]));
    assert_eq!(cluster.marked, ["n1"]);
}
