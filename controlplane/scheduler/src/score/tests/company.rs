//! Who draws and repels whom: the cases of Kubernetes' own test of inter-pod affinity, and sums held against a model that
//! looks at every pod.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const CHINA: &[(&str, &str)] = &[("region", "China")];
const INDIA: &[(&str, &str)] = &[("region", "India")];
const AZ1: &[(&str, &str)] = &[("az", "az1")];
const AZ2: &[(&str, &str)] = &[("az", "az2")];
const CHINA_AZ1: &[(&str, &str)] = &[("region", "China"), ("az", "az1")];

fn s1() -> PodMaker {
    pod("p").label("security", "S1")
}

fn s2() -> PodMaker {
    pod("p").label("security", "S2")
}

fn of_security(level: &str, key: &str) -> Value {
    let selector =
        json!({"matchExpressions": [{"key": "security", "operator": "In", "values": [level]}]});
    json!({"topologyKey": key, "labelSelector": selector})
}

fn preferred(terms: &[(i64, Value)]) -> Value {
    let term = |(weight, term): &(i64, Value)| json!({"weight": weight, "podAffinityTerm": term});
    let terms: Vec<Value> = terms.iter().map(term).collect();
    json!({"preferredDuringSchedulingIgnoredDuringExecution": terms})
}

fn with_s1_in_region() -> Value {
    json!({"podAffinity": preferred(&[(5, of_security("S1", "region"))])})
}

fn with_s2_in_region() -> Value {
    json!({"podAffinity": preferred(&[(6, of_security("S2", "region"))])})
}

fn away_from(level: &str) -> Value {
    json!({"podAntiAffinity": preferred(&[(5, of_security(level, "az"))])})
}

fn with_s1_in_region_away_from_s2_in_az() -> Value {
    json!({
        "podAffinity": preferred(&[(8, of_security("S1", "region"))]),
        "podAntiAffinity": preferred(&[(5, of_security("S2", "az"))]),
    })
}

fn of_teams(kind: &str) -> Value {
    let mut term = of_security("S1", "region");
    term["namespaces"] = json!(["subteam2.team2"]);
    term["namespaceSelector"] = json!({"matchLabels": {"team": "team1"}});
    json!({kind: preferred(&[(5, term)])})
}

fn required(terms: Value) -> Value {
    json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

trait Affine {
    fn affine(self, affinity: Value) -> PodMaker;
}

impl Affine for PodMaker {
    fn affine(self, affinity: Value) -> PodMaker {
        self.spec("affinity", affinity)
    }
}

/// The scores of nodes with these labels, on which these pods are.
fn scores(pod: PodMaker, pods: Vec<(usize, PodMaker)>, nodes: &[&[(&str, &str)]]) -> Vec<i64> {
    let mut cluster = Cluster::default();
    for (number, labels) in nodes.iter().enumerate() {
        let node = node(&format!("node{}", number + 1));
        let node = labels
            .iter()
            .fold(node, |node, (key, value)| node.label(key, value));
        cluster.set_node(&node.name, node.facts());
    }
    for team in ["team1", "team2"] {
        for subteam in ["subteam1", "subteam2"] {
            let labels = [("team".to_owned(), team.to_owned())].into();
            cluster.set_namespace(&format!("{subteam}.{team}"), labels);
        }
    }
    for (number, (node, pod)) in pods.into_iter().enumerate() {
        let mut info = PodInfo::clone(&pod.info());
        info.key.name = format!("there-{number}").into();
        cluster.set_pod(&format!("node{node}"), info.into());
    }
    let candidates: Vec<Candidate> = existing(&cluster).collect();
    company(&pod.info(), &cluster, &candidates)
}

#[test]
fn who_prefers_nobody_and_is_preferred_by_nobody_is_as_well_off_anywhere() {
    assert_eq!(scores(s1(), vec![], &[CHINA, INDIA, AZ1]), [0, 0, 0]);
    assert!(scores(s2(), vec![], &[]).is_empty());
    let bad = json!({"podAffinity": preferred(&[(8, of_security("{{.bad-value.}}", "region"))])});
    let there = vec![(1, s1())];
    assert_eq!(scores(pod("p").affine(bad), there, &[CHINA, CHINA]), [0, 0]);
}

#[test]
fn a_pod_is_drawn_to_domains_by_how_many_are_there_whom_it_likes() {
    let there = || vec![(1, s1()), (2, s2()), (3, s1())];
    let nodes = [CHINA, INDIA, AZ1];
    let liking = s1().affine(with_s1_in_region());
    assert_eq!(scores(liking, there(), &nodes), [100, 0, 0]);
    let liking = pod("p").affine(with_s1_in_region());
    let nodes = [CHINA, CHINA_AZ1, INDIA];
    assert_eq!(scores(liking, vec![(1, s1())], &nodes), [100, 100, 0]);
    let liking = s1().affine(with_s2_in_region());
    let all: Vec<_> = [1, 1, 2, 3, 4, 5].map(|node| (node, s2())).into();
    let nodes = [CHINA, INDIA, CHINA, CHINA, INDIA];
    assert_eq!(scores(liking, all, &nodes), [100, 0, 100, 100, 0]);
    let requirement = |key: &str, operator: &str, values: &[&str]| json!({"key": key, "operator": operator, "values": values});
    let term =
        |all: Value| json!({"topologyKey": "region", "labelSelector": {"matchExpressions": all}});
    let many = preferred(&[
        (
            8,
            term(json!([
                requirement("security", "NotIn", &["S1"]),
                requirement("security", "In", &["S2"]),
            ])),
        ),
        (
            2,
            term(json!([
                requirement("security", "Exists", &[]),
                requirement("wrongkey", "DoesNotExist", &[]),
            ])),
        ),
    ]);
    let liking = s1().affine(json!({"podAffinity": many}));
    assert_eq!(scores(liking, there(), &[CHINA, INDIA, AZ1]), [20, 100, 0]);
}

#[test]
fn a_pod_is_repelled_by_domains_with_whom_it_dislikes() {
    let disliking = || s1().affine(away_from("S1"));
    let cases = [
        (vec![(1, s1()), (2, s2())], [AZ1, CHINA]),
        (vec![(1, s1()), (2, s1())], [AZ1, CHINA]),
        (vec![(1, s1()), (1, s1()), (2, s2())], [AZ1, INDIA]),
    ];
    for (there, nodes) in cases {
        assert_eq!(scores(disliking(), there, &nodes), [0, 100]);
    }
}

#[test]
fn whom_a_pod_likes_and_dislikes_is_added_up() {
    let both = || s1().affine(with_s1_in_region_away_from_s2_in_az());
    let there = vec![(1, s1()), (2, s1())];
    assert_eq!(scores(both(), there, &[CHINA, AZ1]), [100, 0]);
    let all: Vec<_> = [1, 1, 2, 3, 3, 4, 5].map(|node| (node, s1())).into();
    let nodes = [CHINA_AZ1, INDIA, CHINA, CHINA, INDIA];
    assert_eq!(scores(both(), all, &nodes), [100, 0, 100, 100, 0]);
    // Liked, disliked, liking and disliking: 8, -5, 8, -5.
    let there = vec![
        (1, s1()),
        (2, s2()),
        (3, pod("p").affine(with_s1_in_region_away_from_s2_in_az())),
        (4, pod("p").affine(away_from("S1"))),
    ];
    let nodes = [CHINA, AZ1, INDIA, AZ2];
    assert_eq!(scores(both(), there, &nodes), [100, 0, 100, 0]);
}

#[test]
fn a_pod_is_drawn_to_those_who_like_it() {
    let nodes = [CHINA, INDIA, AZ1];
    let there = vec![
        (1, s1().affine(with_s1_in_region())),
        (2, s2().affine(with_s2_in_region())),
    ];
    assert_eq!(scores(s2(), there, &nodes), [0, 100, 0]);
    let there = vec![
        (1, s1().affine(with_s1_in_region_away_from_s2_in_az())),
        (2, s2().affine(with_s2_in_region())),
    ];
    assert_eq!(scores(s2(), there, &nodes[..2]), [0, 100]);
    // Nodes of one domain are worth the same, whichever of them the pod that likes is on.
    let there = vec![
        (1, s1()),
        (2, pod("p").affine(with_s1_in_region_away_from_s2_in_az())),
    ];
    assert_eq!(scores(s1(), there, &[CHINA, CHINA]), [0, 0]);
}

#[test]
fn a_pod_is_repelled_by_those_who_dislike_it() {
    let there = vec![
        (1, s1().affine(away_from("S2"))),
        (2, s2().affine(away_from("S1"))),
    ];
    assert_eq!(scores(s2(), there, &[AZ1, AZ2]), [0, 100]);
}

#[test]
fn those_who_must_have_a_pod_near_them_draw_it_a_little() {
    let exists = json!([
        {"key": "security", "operator": "Exists"},
        {"key": "wrongkey", "operator": "DoesNotExist"},
    ]);
    let hard = json!([
        of_security("S1", "region"),
        {"topologyKey": "region", "labelSelector": {"matchExpressions": exists}},
    ]);
    let there = vec![
        (1, s1().affine(required(hard.clone()))),
        (2, s2().affine(required(hard.clone()))),
    ];
    let nodes = [CHINA, INDIA, AZ1];
    assert_eq!(scores(s1(), there, &nodes), [100, 100, 0]);
    // Two terms that must be met weigh two, less than one preference of five.
    let there = vec![
        (1, s1().affine(required(hard))),
        (2, s1().affine(with_s1_in_region())),
    ];
    assert_eq!(scores(s1(), there, &nodes), [40, 100, 0]);
}

#[test]
fn those_who_must_have_a_pod_near_them_say_of_which_namespaces() {
    let mut term = of_security("S1", "region");
    term["namespaces"] = json!(["default", "subteam2.team2"]);
    term["namespaceSelector"] = json!({"matchLabels": {"team": "team1"}});
    let there = || {
        let hard = || pod("p").affine(required(json!([term.clone()])));
        vec![(1, hard()), (2, hard())]
    };
    let nodes = [CHINA, INDIA, AZ1];
    let cases = [
        ("default", [100, 100, 0]),
        ("subteam1.team1", [100, 100, 0]),
        ("subteam2.team2", [100, 100, 0]),
        ("subteam1.team2", [0, 0, 0]),
    ];
    for (namespace, expected) in cases {
        let found = scores(s1().in_namespace(namespace), there(), &nodes);
        assert_eq!(found, expected, "{namespace}");
    }
}

#[test]
fn namespaces_are_named_and_selected_in_either_direction() {
    let of = |namespace: &str| s1().in_namespace(namespace);
    let nodes = [CHINA, INDIA, AZ1];
    for (kind, [liked, other]) in [("podAffinity", [100, 0]), ("podAntiAffinity", [0, 100])] {
        for third in ["subteam1.team2", "subteam2.team2"] {
            let there = vec![
                (1, of("subteam1.team1")),
                (1, of("subteam1.team1")),
                (1, of(third)),
                (2, of("subteam2.team1")),
            ];
            let choosing = of("subteam1.team1").affine(of_teams(kind));
            assert_eq!(scores(choosing, there, &nodes[..2]), [liked, other]);
        }
        let there = vec![
            (1, s1().affine(of_teams(kind))),
            (2, s2().affine(with_s2_in_region())),
        ];
        let chosen = of("subteam1.team1");
        assert_eq!(scores(chosen, there, &nodes), [liked, other, other]);
    }
}

/// What a pod says: for a preference its weight, and of whom.
#[derive(Clone, Copy, Debug)]
struct Says {
    /// `None`: it must.
    weight: Option<i64>,
    app: usize,
    key: &'static str,
}

#[derive(Clone, Debug)]
struct There {
    app: usize,
    says: Option<Says>,
}

impl There {
    fn maker(&self, name: &str) -> PodMaker {
        let pod = pod(name).label("app", &self.app.to_string());
        let Some(Says { weight, app, key }) = self.says else {
            return pod;
        };
        let selector = json!({"matchLabels": {"app": app.to_string()}});
        let term = json!({"topologyKey": key, "labelSelector": selector});
        pod.affine(match weight {
            None => required(json!([term])),
            Some(weight) if weight < 0 => json!({"podAntiAffinity": preferred(&[(-weight, term)])}),
            Some(weight) => json!({"podAffinity": preferred(&[(weight, term)])}),
        })
    }
}

fn there() -> impl Strategy<Value = There> {
    let weight = prop_oneof![Just(None), (-3..4_i64).prop_map(Some)];
    let key = prop_oneof![Just("zone"), Just("kubernetes.io/hostname")];
    let says = (weight, 0..3_usize, key).prop_map(|(weight, app, key)| Says { weight, app, key });
    (0..3_usize, prop::option::of(says)).prop_map(|(app, says)| There { app, says })
}

proptest! {
    /// Pods come, change their minds, move and go: the sums are those of who is there.
    #[test]
    fn sums_that_are_kept_are_those_of_a_look_at_every_pod(
        zones in prop::collection::vec(prop::option::of(0..2_usize), 1..5),
        steps in prop::collection::vec((0..8_usize, prop::option::weighted(0.8, (0..5_usize, there()))), 0..40),
        incoming in there(),
    ) {
        let mut cluster = Cluster::default();
        for (number, zone) in zones.iter().enumerate() {
            let node = node(&format!("n{number}"));
            let node = zone.iter().fold(node, |node, zone| node.label("zone", &zone.to_string()));
            cluster.set_node(&node.name, node.facts());
        }
        let mut pods: HashMap<usize, (usize, There)> = HashMap::new();
        for (number, step) in steps {
            let name = format!("p{number}");
            match step {
                None => {
                    cluster.remove_pod(&pod(&name).info().key);
                    pods.remove(&number);
                }
                Some((node, there)) => {
                    let node = node % zones.len();
                    cluster.set_pod(&format!("n{node}"), there.maker(&name).info());
                    pods.insert(number, (node, there));
                }
            }
        }
        let domain = |node: usize, key: &str| if key == "zone" { zones[node] } else { Some(node) };
        let meets = |a: usize, b: usize, key: &str| domain(a, key).is_some() && domain(a, key) == domain(b, key);
        let sum = |node: usize| -> i64 {
            let all = pods.values().map(|(at, there)| {
                let likes = incoming.says.filter(|says| says.app == there.app && meets(node, *at, says.key));
                let is_liked = there.says.filter(|says| says.app == incoming.app && meets(node, *at, says.key));
                let likes = likes.map_or(0, |says| says.weight.unwrap_or(0));
                likes + is_liked.map_or(0, |says| says.weight.unwrap_or(1))
            });
            all.sum()
        };
        let candidates: Vec<Candidate> = existing(&cluster).collect();
        let found = company(&incoming.maker("new").info(), &cluster, &candidates);
        let expected = between_extremes((0..zones.len()).map(sum).collect());
        prop_assert_eq!(found, expected);
        for number in 0..8 {
            cluster.remove_pod(&pod(&format!("p{number}")).info().key);
        }
        prop_assert_eq!(cluster.drawn().count(), 0, "nobody is there, and still something is wanted");
    }
}
