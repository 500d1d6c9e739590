use serde_json::json;

use super::*;
use crate::testing::{NodeMaker, PodMaker, node, pod};

fn check_in(pod: &PodMaker, node: &NodeMaker, cluster: &Cluster) -> Result<(), Rejection> {
    let pod = pod.info();
    let facts = node.facts();
    let info = cluster.node(&node.name).unwrap();
    Filters::new(&pod, cluster).check(info, &facts)
}

fn cluster_of(nodes: &[&NodeMaker]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(&node.name, node.facts());
    }
    cluster
}

/// Who rejects a pod on a node that has nothing else on it.
fn rejected(pod: PodMaker, node: NodeMaker) -> Option<Filter> {
    check_in(&pod, &node, &cluster_of(&[&node]))
        .err()
        .map(|rejection| rejection.by)
}

fn tolerating(toleration: serde_json::Value) -> PodMaker {
    pod("p").spec("tolerations", json!([toleration]))
}

#[test]
fn a_cordoned_node_takes_only_who_tolerates_that() {
    assert_eq!(
        rejected(pod("p"), node("n").cordoned()),
        Some(Filter::Unschedulable)
    );
    let bears =
        tolerating(json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}));
    assert_eq!(rejected(bears, node("n").cordoned()), None);
}

#[test]
fn a_taint_keeps_away_who_does_not_tolerate_it() {
    let gpu = || node("n").tainted("gpu", "yes", "NoSchedule");
    assert_eq!(rejected(pod("p"), gpu()), Some(Filter::Taints));
    let cases = [
        (
            json!({"key": "gpu", "operator": "Equal", "value": "yes"}),
            None,
        ),
        (
            json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
            None,
        ),
        (json!({"key": "gpu", "operator": "Exists"}), None),
        (json!({"operator": "Exists"}), None),
        (json!({"key": "gpu", "value": "no"}), Some(Filter::Taints)),
        (
            json!({"key": "other", "operator": "Exists"}),
            Some(Filter::Taints),
        ),
        (
            json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
            Some(Filter::Taints),
        ),
    ];
    for (toleration, expected) in cases {
        assert_eq!(
            rejected(tolerating(toleration.clone()), gpu()),
            expected,
            "{toleration}"
        );
    }
    assert_eq!(
        rejected(pod("p"), node("n").tainted("a", "", "PreferNoSchedule")),
        None
    );
    assert_eq!(
        rejected(pod("p"), node("n").tainted("a", "", "NoExecute")),
        Some(Filter::Taints)
    );
}

#[test]
fn a_node_selector_needs_all_its_labels() {
    let ssd = pod("p").spec("nodeSelector", json!({"disk": "ssd", "zone": "a"}));
    assert_eq!(
        rejected(ssd, node("n").label("disk", "ssd")),
        Some(Filter::NodeAffinity)
    );
    let ssd = pod("p").spec("nodeSelector", json!({"disk": "ssd", "zone": "a"}));
    assert_eq!(
        rejected(ssd, node("n").label("disk", "ssd").label("zone", "a")),
        None
    );
}

#[test]
fn required_node_affinity_needs_one_of_its_terms() {
    let wants = |zones: [&str; 2]| {
        let term = |zone: &str| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        pod("p").spec(
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": zones.map(term),
            }}}),
        )
    };
    assert_eq!(
        rejected(wants(["a", "b"]), node("n").label("zone", "b")),
        None
    );
    assert_eq!(
        rejected(wants(["a", "b"]), node("n").label("zone", "c")),
        Some(Filter::NodeAffinity)
    );
}

#[test]
fn room_is_what_is_allocatable_less_what_was_asked_for() {
    let node = node("n").has("1", "1Gi").allows("example.com/gpu", "1");
    let mut cluster = cluster_of(&[&node]);
    cluster.set_pod("n", pod("there").asks("600m", "256Mi").info());
    let check = |pod: PodMaker| match check_in(&pod, &node, &cluster) {
        Ok(()) => vec![],
        Err(rejection) => rejection.reasons,
    };
    assert_eq!(check(pod("p").asks("400m", "768Mi")), Vec::<String>::new());
    assert_eq!(check(pod("p").asks("401m", "1")), ["Insufficient cpu"]);
    assert_eq!(
        check(pod("p").asks("401m", "769Mi")),
        ["Insufficient cpu", "Insufficient memory"]
    );
    assert_eq!(
        check(pod("p").asks("1m", "1").asks_for("example.com/gpu", "2")),
        ["Insufficient example.com/gpu"]
    );
    assert_eq!(
        check(pod("p").asks("1m", "1").asks_for("example.com/tpu", "1")),
        ["Insufficient example.com/tpu"]
    );
}

#[test]
fn a_node_takes_no_more_pods_than_it_says() {
    let node = node("n").allows("pods", "1");
    let mut cluster = cluster_of(&[&node]);
    assert_eq!(check_in(&pod("p"), &node, &cluster), Ok(()));
    cluster.set_pod("n", pod("there").info());
    let rejection = check_in(&pod("p"), &node, &cluster).unwrap_err();
    assert_eq!(rejection.reasons, ["Too many pods"]);
}

#[test]
fn a_port_of_the_host_is_taken_once() {
    let node = node("n");
    let mut cluster = cluster_of(&[&node]);
    cluster.set_pod("n", pod("there").port(80).info());
    assert_eq!(
        check_in(&pod("p").port(80), &node, &cluster)
            .unwrap_err()
            .by,
        Filter::Ports
    );
    assert_eq!(check_in(&pod("p").port(81), &node, &cluster), Ok(()));
    cluster.remove_pod(&pod("there").info().key);
    assert_eq!(check_in(&pod("p").port(80), &node, &cluster), Ok(()));
}

#[test]
fn required_spreading_keeps_the_skew() {
    let (a, b) = (node("a").label("zone", "a"), node("b").label("zone", "b"));
    let web = |name: &str| pod(name).label("app", "web");
    let spread = web("p").spec(
        "topologySpreadConstraints",
        json!([{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }]),
    );
    let mut cluster = cluster_of(&[&a, &b]);
    cluster.set_pod("a", web("there").info());
    assert_eq!(
        check_in(&spread, &a, &cluster).unwrap_err().by,
        Filter::Spread
    );
    assert_eq!(check_in(&spread, &b, &cluster), Ok(()));
    let nowhere = node("c");
    cluster.set_node("c", nowhere.facts());
    let reason = &check_in(&spread, &nowhere, &cluster).unwrap_err().reasons[0];
    assert!(reason.ends_with("(missing required label)"), "{reason}");
}

#[test]
fn with_fewer_domains_than_asked_for_the_emptiest_counts_as_empty() {
    let zones = ["a", "b"].map(|zone| node(zone).label("zone", zone));
    let mut cluster = cluster_of(&[&zones[0], &zones[1]]);
    let web = |name: &str| pod(name).label("app", "web");
    for zone in ["a", "b"] {
        cluster.set_pod(zone, web(&format!("in-{zone}")).info());
    }
    for (domains, expected) in [(1, None), (2, None), (3, Some(Filter::Spread))] {
        let spread = web("p").spec(
            "topologySpreadConstraints",
            json!([{
                "maxSkew": 1, "minDomains": domains, "topologyKey": "zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "web"}},
            }]),
        );
        let rejected = check_in(&spread, &zones[0], &cluster).err();
        assert_eq!(
            rejected.map(|rejection| rejection.by),
            expected,
            "{domains}"
        );
    }
}

fn near(kind: &str, app: &str) -> serde_json::Value {
    json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}},
    }]}})
}

#[test]
fn a_pod_goes_where_those_are_that_it_must_be_with() {
    let (a, b) = (node("a").label("zone", "a"), node("b").label("zone", "b"));
    let mut cluster = cluster_of(&[&a, &b]);
    let wants_db = pod("p").spec("affinity", near("podAffinity", "db"));
    assert_eq!(
        check_in(&wants_db, &a, &cluster).unwrap_err().by,
        Filter::PodAffinity
    );
    cluster.set_pod("a", pod("db").label("app", "db").info());
    assert_eq!(check_in(&wants_db, &a, &cluster), Ok(()));
    assert!(check_in(&wants_db, &b, &cluster).is_err());
}

#[test]
fn the_first_of_a_kind_that_wants_to_be_together_may_begin_anywhere() {
    let a = node("a").label("zone", "a");
    let together = pod("p")
        .label("app", "web")
        .spec("affinity", near("podAffinity", "web"));
    assert_eq!(check_in(&together, &a, &cluster_of(&[&a])), Ok(()));
}

#[test]
fn anti_affinity_holds_in_both_directions() {
    let (a, b) = (node("a").label("zone", "a"), node("b").label("zone", "b"));
    let mut cluster = cluster_of(&[&a, &b]);
    let alone = || pod("alone").spec("affinity", near("podAntiAffinity", "web"));
    let web = || pod("web").label("app", "web");
    cluster.set_pod("a", web().info());
    assert!(check_in(&alone(), &a, &cluster).is_err());
    assert_eq!(check_in(&alone(), &b, &cluster), Ok(()));

    cluster.set_pod("b", alone().info());
    assert!(
        check_in(&web(), &b, &cluster).is_err(),
        "who is there already is asked, too"
    );
    assert_eq!(check_in(&web(), &a, &cluster), Ok(()));
}

#[test]
fn one_pod_must_meet_all_that_required_affinity_names() {
    let a = node("a").label("zone", "a");
    let mut cluster = cluster_of(&[&a]);
    let term =
        |key: &str| json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {key: "x"}}});
    let wants_both = pod("p").spec(
        "affinity",
        json!({"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term("app"), term("tier")],
        }}),
    );
    cluster.set_pod("a", pod("one").label("app", "x").info());
    cluster.set_pod("a", pod("two").label("tier", "x").info());
    assert!(check_in(&wants_both, &a, &cluster).is_err());
    cluster.set_pod("a", pod("both").label("app", "x").label("tier", "x").info());
    assert_eq!(check_in(&wants_both, &a, &cluster), Ok(()));
}

#[test]
fn pods_on_their_way_out_do_not_count_for_spreading() {
    let (a, b) = (node("a").label("zone", "a"), node("b").label("zone", "b"));
    let web = |name: &str| pod(name).label("app", "web").of("web");
    let spread = web("p").spec(
        "topologySpreadConstraints",
        json!([{
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        }]),
    );
    let mut cluster = cluster_of(&[&a, &b]);
    cluster.set_pod("a", web("there").info());
    assert!(check_in(&spread, &a, &cluster).is_err());
    assert_eq!(cluster.node("a").unwrap().of_controller["default/web"], 1);
    let mut going = web("there").pod();
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
    ));
    cluster.set_pod("a", std::sync::Arc::new(PodInfo::new(&going)));
    assert_eq!(check_in(&spread, &a, &cluster), Ok(()));
    assert!(cluster.node("a").unwrap().of_controller.is_empty());
}
