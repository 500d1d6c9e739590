//! Decisions held against a model that knows no index: it looks at every pod, every time.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::*;
use crate::testing::{NodeMaker, PodMaker, node, pod};

const APPS: [&str; 3] = ["web", "db", "log"];
const NAMESPACES: [&str; 2] = ["red", "blue"];
const ZONE: &str = "zone";
const HOST: &str = "kubernetes.io/hostname";

#[derive(Clone, Debug)]
struct Wish {
    app: usize,
    namespace: usize,
    cores: i64,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    None,
    /// Its own kind, by zone or by host.
    Spread {
        key: &'static str,
        skew: i64,
    },
    /// A pod of an app must be, or must not be, in the same domain; one of its own namespace, or of any of a colour.
    Near {
        wanted: bool,
        app: usize,
        key: &'static str,
        colour: Option<usize>,
    },
}

#[derive(Clone, Debug)]
struct Place {
    zone: Option<usize>,
    cores: i64,
    cordoned: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Place(Wish),
    /// One of the pods that are there goes.
    Remove(usize),
    /// One of the nodes moves to another zone.
    Move(usize, Option<usize>),
    /// The namespaces change colours.
    Repaint,
}

fn rule() -> impl Strategy<Value = Rule> {
    let key = || prop_oneof![Just(ZONE), Just(HOST)];
    let colour = prop_oneof![Just(None), (0..2_usize).prop_map(Some)];
    prop_oneof![
        Just(Rule::None),
        (key(), 1..3_i64).prop_map(|(key, skew)| Rule::Spread { key, skew }),
        (any::<bool>(), 0..3_usize, key(), colour).prop_map(|(wanted, app, key, colour)| {
            Rule::Near {
                wanted,
                app,
                key,
                colour,
            }
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let wish = (0..3_usize, 0..2_usize, 0..3_i64, rule());
    prop_oneof![
        8 => wish.prop_map(|(app, namespace, cores, rule)| {
            Step::Place(Wish { app, namespace, cores, rule })
        }),
        2 => any::<usize>().prop_map(Step::Remove),
        1 => (any::<usize>(), prop_oneof![Just(None), (0..3_usize).prop_map(Some)])
            .prop_map(|(node, zone)| Step::Move(node, zone)),
        1 => Just(Step::Repaint),
    ]
}

fn places() -> impl Strategy<Value = Vec<Place>> {
    let zone = prop_oneof![1 => Just(None), 6 => (0..3_usize).prop_map(Some)];
    let place = (zone, 1..5_i64, prop::bool::weighted(0.1));
    prop::collection::vec(
        place.prop_map(|(zone, cores, cordoned)| Place {
            zone,
            cores,
            cordoned,
        }),
        0..6,
    )
}

impl Wish {
    fn pod(&self, number: usize) -> PodMaker {
        let pod = pod(&format!("p{number}"))
            .in_namespace(NAMESPACES[self.namespace])
            .label("app", APPS[self.app])
            .asks(&self.cores.to_string(), "1Mi");
        let of = |app: usize| json!({"matchLabels": {"app": APPS[app]}});
        match &self.rule {
            Rule::None => pod,
            Rule::Spread { key, skew } => pod.spec(
                "topologySpreadConstraints",
                json!([{
                    "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": of(self.app),
                }]),
            ),
            Rule::Near {
                wanted,
                app,
                key,
                colour,
            } => {
                let mut term = json!({"topologyKey": key, "labelSelector": of(*app)});
                if let Some(colour) = colour {
                    term["namespaceSelector"] =
                        json!({"matchLabels": {"colour": colour.to_string()}});
                }
                let kind = if *wanted {
                    "podAffinity"
                } else {
                    "podAntiAffinity"
                };
                let required = "requiredDuringSchedulingIgnoredDuringExecution";
                pod.spec("affinity", json!({kind: {required: [term]}}))
            }
        }
    }
}

/// What there is, without any index.
struct Model {
    places: Vec<Place>,
    /// The pods that are on nodes, with their numbers and their nodes'.
    pods: Vec<(usize, Wish, usize)>,
    /// The colour of the first namespace; the other has the other one.
    colour: usize,
}

impl Model {
    fn domain(&self, node: usize, key: &str) -> Option<usize> {
        if key == HOST {
            Some(node)
        } else {
            self.places[node].zone
        }
    }

    /// Whether `other` is whom the rule of `wish` is about.
    fn is_meant(&self, wish: &Wish, other: &Wish) -> bool {
        match &wish.rule {
            Rule::None => false,
            Rule::Spread { .. } => other.app == wish.app && other.namespace == wish.namespace,
            Rule::Near { app, colour, .. } => {
                let in_namespace = match colour {
                    None => other.namespace == wish.namespace,
                    Some(colour) => (other.namespace + self.colour) % 2 == *colour,
                };
                other.app == *app && in_namespace
            }
        }
    }

    fn count(&self, wish: &Wish, key: &str, domain: usize) -> i64 {
        let there = self.pods.iter().filter(|(_, other, node)| {
            self.domain(*node, key) == Some(domain) && self.is_meant(wish, other)
        });
        there.count() as i64
    }

    fn fits(&self, wish: &Wish, node: usize) -> bool {
        let here = self.pods.iter().filter(|(.., at)| *at == node);
        let used: i64 = here.map(|(_, other, _)| other.cores).sum();
        let place = &self.places[node];
        let has_room = wish.cores == 0 || used + wish.cores <= place.cores;
        !place.cordoned && has_room && self.keeps_its_rule(wish, node) && self.is_let_in(wish, node)
    }

    fn keeps_its_rule(&self, wish: &Wish, node: usize) -> bool {
        match wish.rule {
            Rule::None => true,
            Rule::Spread { key, skew } => {
                let all = (0..self.places.len()).filter_map(|node| self.domain(node, key));
                let fewest = all.map(|domain| self.count(wish, key, domain)).min();
                self.domain(node, key).is_some_and(|domain| {
                    self.count(wish, key, domain) + 1 - fewest.unwrap_or(0) <= skew
                })
            }
            Rule::Near {
                wanted: true, key, ..
            } => {
                let mut all = (0..self.places.len()).filter_map(|node| self.domain(node, key));
                let nowhere = all.all(|domain| self.count(wish, key, domain) == 0);
                let is_first = nowhere && self.is_meant(wish, wish);
                self.domain(node, key)
                    .is_some_and(|domain| is_first || self.count(wish, key, domain) > 0)
            }
            Rule::Near {
                wanted: false, key, ..
            } => self
                .domain(node, key)
                .is_none_or(|domain| self.count(wish, key, domain) == 0),
        }
    }

    /// Whether no pod that is there forbids it.
    fn is_let_in(&self, wish: &Wish, node: usize) -> bool {
        self.pods.iter().all(|(_, other, at)| match other.rule {
            Rule::Near {
                wanted: false, key, ..
            } => {
                let apart = self.domain(node, key).is_none()
                    || self.domain(node, key) != self.domain(*at, key);
                apart || !self.is_meant(other, wish)
            }
            _ => true,
        })
    }
}

fn maker(number: usize, place: &Place) -> NodeMaker {
    let mut node = node(&format!("n{number}")).has(&place.cores.to_string(), "8Gi");
    if let Some(zone) = place.zone {
        node = node.label(ZONE, &zone.to_string());
    }
    if place.cordoned {
        node = node.cordoned();
    }
    node
}

fn paint(cluster: &mut Cluster, colour: usize) {
    for (number, namespace) in NAMESPACES.iter().enumerate() {
        let colour = ((number + colour) % 2).to_string();
        cluster.set_namespace(namespace, [("colour".to_owned(), colour)].into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whoever is placed keeps all rules, theirs and those of who is there; who is not fits on no node.
    #[test]
    fn a_pod_is_placed_where_it_fits_if_it_fits_anywhere(
        places in places(),
        steps in prop::collection::vec(step(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut cluster = Cluster::default();
        let (mut decider, mut chance) = (Decider::default(), StdRng::seed_from_u64(seed));
        for (number, place) in places.iter().enumerate() {
            let node = maker(number, place);
            cluster.set_node(&node.name, node.facts());
        }
        paint(&mut cluster, 0);
        let mut model = Model { places, pods: Vec::new(), colour: 0 };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Place(wish) => {
                    let pod = wish.pod(number).info();
                    match decider.decide(&pod, &cluster, &mut chance) {
                        Ok(name) => {
                            let node: usize = name[1..].parse().unwrap();
                            prop_assert!(model.fits(&wish, node), "{wish:?} on {name}");
                            cluster.assume(&name, pod);
                            model.pods.push((number, wish, node));
                        }
                        Err(no_fit) => {
                            let fits = (0..model.places.len()).find(|node| model.fits(&wish, *node));
                            prop_assert_eq!(fits, None, "{:?}: {}", wish, no_fit);
                        }
                    }
                }
                Step::Remove(which) if !model.pods.is_empty() => {
                    let (number, wish, _) = model.pods.swap_remove(which % model.pods.len());
                    prop_assert!(cluster.remove_pod(&wish.pod(number).info().key));
                }
                Step::Move(which, zone) if !model.places.is_empty() => {
                    let which = which % model.places.len();
                    model.places[which].zone = zone;
                    let node = maker(which, &model.places[which]);
                    cluster.set_node(&node.name, node.facts());
                }
                Step::Repaint => {
                    model.colour = 1 - model.colour;
                    paint(&mut cluster, model.colour);
                }
                Step::Remove(_) | Step::Move(..) => {}
            }
        }
    }
}
