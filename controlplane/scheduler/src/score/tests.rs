mod company;

use serde_json::json;

use super::*;
use crate::testing::{NodeMaker, PodMaker, node, pod};

fn with_pods(nodes: &[NodeMaker], pods: &[(&str, PodMaker)]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&node.name, node.facts());
    }
    for (node, pod) in pods {
        cluster.set_pod(node, pod.info());
    }
    cluster
}

/// The candidates' totals, in the order of the nodes.
fn totals(pod: PodMaker, cluster: &Cluster) -> Vec<i64> {
    let candidates: Vec<Candidate> = existing(cluster).collect();
    score(&pod.info(), cluster, &candidates)
}

fn first_is_better(pod: PodMaker, cluster: &Cluster) -> bool {
    let totals = totals(pod, cluster);
    totals[0] > totals[1]
}

#[test]
fn free_room_is_told_in_hundredths() {
    let cluster = with_pods(
        &[node("n").has("4", "8Gi")],
        &[("n", pod("there").asks("1", "2Gi"))],
    );
    let candidate = existing(&cluster).next().unwrap();
    assert_eq!(
        least_allocated(&pod("p").asks("1", "2Gi").info(), &candidate),
        50
    );
    assert_eq!(
        least_allocated(&pod("p").asks("4", "2Gi").info(), &candidate),
        25,
        "none of the processor"
    );
}

#[test]
fn balance_is_lost_with_the_distance_of_the_shares() {
    let cluster = with_pods(&[node("n").has("4", "8Gi")], &[]);
    let candidate = existing(&cluster).next().unwrap();
    assert_eq!(balance(&pod("p").asks("2", "4Gi").info(), &candidate), 100);
    assert_eq!(balance(&pod("p").asks("4", "0").info(), &candidate), 50);
}

#[test]
fn a_taint_that_prefers_not_costs_a_node() {
    let cluster = with_pods(
        &[node("a"), node("b").tainted("x", "", "PreferNoSchedule")],
        &[],
    );
    assert!(first_is_better(pod("p"), &cluster));
}

#[test]
fn preferred_labels_earn_a_node_their_weight() {
    let prefers = |weights: [(i32, &str); 2]| {
        let preference = |(weight, zone): (i32, &str)| {
            json!({"weight": weight, "preference": {
                "matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}],
            }})
        };
        pod("p").spec(
            "affinity",
            json!({"nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": weights.map(preference),
            }}),
        )
    };
    let cluster = with_pods(
        &[node("a").label("zone", "a"), node("b").label("zone", "b")],
        &[],
    );
    assert!(first_is_better(prefers([(80, "a"), (20, "b")]), &cluster));
    assert!(!first_is_better(prefers([(20, "a"), (80, "b")]), &cluster));
}

#[test]
fn pods_that_are_liked_or_not_draw_and_repel() {
    let cluster = with_pods(
        &[node("a").label("zone", "a"), node("b").label("zone", "b")],
        &[
            ("a", pod("db").label("app", "db").asks("0", "0")),
            ("b", pod("other").asks("0", "0")),
        ],
    );
    let about_db = |kind: &str| {
        pod("p").spec("affinity", json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}},
        }]}}))
    };
    assert!(first_is_better(about_db("podAffinity"), &cluster));
    assert!(!first_is_better(about_db("podAntiAffinity"), &cluster));
}

#[test]
fn siblings_in_the_zone_count_even_where_the_node_has_none() {
    let zoned = |name: &str, zone: &str| node(name).label("topology.kubernetes.io/zone", zone);
    let cluster = with_pods(
        &[zoned("a1", "a"), zoned("b1", "b"), zoned("b2", "b")],
        &[("b2", pod("sibling").of("web").asks("0", "0"))],
    );
    let totals = totals(pod("p").of("web"), &cluster);
    assert!(totals[0] > totals[1] && totals[1] > totals[2], "{totals:?}");
}

#[test]
fn pods_of_another_namespace_are_no_siblings_whatever_they_say() {
    let foreign = pod("foreign")
        .in_namespace("other")
        .of("web")
        .asks("0", "0");
    let cluster = with_pods(&[node("a"), node("b")], &[("b", foreign)]);
    let totals = totals(pod("p").of("web"), &cluster);
    assert_eq!(totals[0], totals[1]);
}

#[test]
fn spreading_that_a_pod_asks_for_takes_the_place_of_the_default() {
    let cluster = with_pods(
        &[node("a").label("rack", "1"), node("b").label("rack", "2")],
        &[("b", pod("there").label("app", "web").asks("0", "0"))],
    );
    let web = pod("p").label("app", "web").spec(
        "topologySpreadConstraints",
        json!([{
            "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }]),
    );
    assert!(first_is_better(web, &cluster));
}
