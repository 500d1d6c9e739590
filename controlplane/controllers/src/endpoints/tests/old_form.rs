//! One rule of the old form a test.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::EndpointAddress;

use super::*;

pub fn legacy_of(service: &Service, pods: &[Pod]) -> Endpoints {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    match legacy::reconcile(service, &pods, None, None) {
        Some(legacy::Action::Create(endpoints)) => *endpoints,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_old_form_tells_ready_addresses_from_those_that_are_not() {
    let endpoints = legacy_of(
        &service(),
        &[pod(0, true), pod(1, false), deleted(pod(2, true))],
    );
    let subsets = endpoints.subsets.clone().unwrap();
    assert_eq!(subsets.len(), 1);
    assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.1.0.0");
    assert_eq!(
        subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip,
        "10.1.0.1"
    );
    assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
    let pods = [pod(1, false), pod(0, true)].map(Arc::new);
    let again = legacy::reconcile(&service(), &pods, Some(&Arc::new(endpoints)), None);
    assert_eq!(again, None, "the order of the pods is no change");
}

#[test]
fn the_old_form_keeps_a_thousand_addresses_the_ready_ones_first() {
    let mut pods: Vec<_> = (0..600).map(|n| pod(n, false)).collect();
    pods.extend((600..1200).map(|n| pod(n, true)));
    let endpoints = legacy_of(&service(), &pods);
    let subsets = endpoints.subsets.as_ref().unwrap();
    assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 600);
    assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap().len(), 400);
    let over = "endpoints.kubernetes.io/over-capacity";
    assert_eq!(endpoints.annotations()[over], "truncated");
    let few: Vec<_> = pods[..10].iter().cloned().map(Arc::new).collect();
    match legacy::reconcile(&service(), &few, Some(&Arc::new(endpoints)), None) {
        Some(legacy::Action::Update { new, .. }) => assert!(!new.annotations().contains_key(over)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_several_subsets_each_keeps_its_share_of_the_thousand() {
    let sizes = |endpoints: &Endpoints| -> Vec<[usize; 2]> {
        let len = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
        let subsets = endpoints.subsets.iter().flatten();
        subsets
            .map(|subset| [len(&subset.addresses), len(&subset.not_ready_addresses)])
            .collect()
    };
    // How many addresses the subsets would have, those that are ready and those that are not; and how many are kept.
    let even = || vec![[100, 100]; 5];
    let cases = [
        (vec![], vec![]),
        (even(), even()),
        (
            vec![[90, 101], [110, 200], [50, 200], [10, 201], [20, 298]],
            vec![[90, 73], [110, 144], [50, 144], [10, 145], [20, 214]],
        ),
        (
            vec![[205, 100], [400, 200], [402, 200], [400, 200], [693, 300]],
            vec![[98, 0], [191, 0], [192, 0], [191, 0], [328, 0]],
        ),
        // A subset of which nothing is left is none.
        (vec![[1500, 0], [0, 5]], vec![[1000, 0]]),
    ];
    for (given, kept) in cases {
        let mut pods = Vec::new();
        for (http, counts) in (8080..).zip(&given) {
            for (count, ready) in counts.iter().zip([true, false]) {
                let numbers = pods.len()..pods.len() + count;
                pods.extend(numbers.map(|n| with_port(pod(n, ready), Some(http))));
            }
        }
        assert_eq!(sizes(&legacy_of(&by_name(), &pods)), kept, "{given:?}");
    }
}

/// What is written where these endpoints are already; `None` if nothing is.
fn rewritten(service: &Service, pods: &[Pod], existing: Endpoints) -> Option<Endpoints> {
    let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
    match legacy::reconcile(service, &pods, Some(&Arc::new(existing)), None) {
        None => None,
        Some(legacy::Action::Update { new, .. }) => Some(*new),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn labels_of_the_old_form_follow_the_service_and_its_address() {
    let mut service = service();
    let told = |endpoints: &Endpoints| endpoints.labels().clone();
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let managed = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
        let pairs = pairs.iter().chain([&managed]);
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let endpoints = legacy_of(&service, &pods(1));
    assert_eq!(told(&endpoints), labels(&[("team", "a")]));
    // That label is the endpoints' own.
    service.metadata.labels = Some([("owner".into(), "b".into())].into());
    service
        .labels_mut()
        .insert(HEADLESS_LABEL.into(), "bad".into());
    let endpoints = rewritten(&service, &pods(1), endpoints).unwrap();
    assert_eq!(told(&endpoints), labels(&[("owner", "b")]));
    service.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    let endpoints = rewritten(&service, &pods(1), endpoints).unwrap();
    assert_eq!(
        told(&endpoints),
        labels(&[("owner", "b"), (HEADLESS_LABEL, "")])
    );
    service.spec.as_mut().unwrap().cluster_ip = Some("10.0.0.1".into());
    let endpoints = rewritten(&service, &pods(1), endpoints).unwrap();
    assert_eq!(told(&endpoints), labels(&[("owner", "b")]));
    assert_eq!(rewritten(&service, &pods(1), endpoints), None);
}

#[test]
fn whatever_was_said_of_too_many_addresses_is_put_right_though_they_stay() {
    let over = "endpoints.kubernetes.io/over-capacity";
    for said in ["warning", "invalid"] {
        let mut endpoints = legacy_of(&service(), &pods(1001));
        endpoints.annotations_mut().insert(over.into(), said.into());
        let subsets = endpoints.subsets.clone();
        let new = rewritten(&service(), &pods(1001), endpoints).unwrap();
        assert_eq!(new.annotations()[over], "truncated");
        assert_eq!(new.subsets, subsets);
        let mut endpoints = legacy_of(&service(), &pods(1000));
        endpoints.annotations_mut().insert(over.into(), said.into());
        let subsets = endpoints.subsets.clone();
        let new = rewritten(&service(), &pods(1000), endpoints).unwrap();
        assert!(!new.annotations().contains_key(over));
        assert_eq!(new.subsets, subsets);
    }
}

#[test]
fn no_subsets_and_an_empty_list_of_them_are_the_same() {
    let mut endpoints = legacy_of(&service(), &[]);
    for subsets in [None, Some(vec![])] {
        endpoints.subsets = subsets;
        assert_eq!(rewritten(&service(), &[], endpoints.clone()), None);
    }
}

/// The service, with its port known by its name on the pods.
fn by_name() -> Service {
    let mut service = service();
    service.spec.as_mut().unwrap().ports = Some(vec![port(IntOrString::String("http".into()))]);
    service
}

fn with_port(mut pod: Pod, number: Option<i32>) -> Pod {
    let port = number.map(|number| ContainerPort {
        name: Some("http".into()),
        container_port: number,
        ..ContainerPort::default()
    });
    pod.spec.as_mut().unwrap().containers = vec![Container {
        ports: Some(port.into_iter().collect()),
        ..Container::default()
    }];
    pod
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Ready,
    NotReady,
    Going,
    Ended,
    Unaddressed,
}

impl Kind {
    fn pod(self, n: usize) -> Pod {
        let mut pod = pod(n, self != Kind::NotReady);
        let status = pod.status.as_mut().unwrap();
        match self {
            Kind::Ready | Kind::NotReady => pod,
            Kind::Going => deleted(pod),
            Kind::Ended => {
                status.phase = Some("Failed".into());
                pod
            }
            Kind::Unaddressed => {
                status.pod_ip = None;
                pod
            }
        }
    }

    /// Whether it is among the endpoints, and if so, whether as one that is ready.
    fn shall_be(self, published: bool) -> Option<bool> {
        match self {
            Kind::Ready => Some(true),
            Kind::NotReady => Some(published),
            Kind::Going => published.then_some(true),
            Kind::Ended | Kind::Unaddressed => None,
        }
    }
}

fn group() -> impl Strategy<Value = (Kind, Option<i32>, usize)> {
    let kind = prop_oneof![
        4 => Just(Kind::Ready),
        4 => Just(Kind::NotReady),
        1 => Just(Kind::Going),
        1 => Just(Kind::Ended),
        1 => Just(Kind::Unaddressed),
    ];
    let port = prop_oneof![4 => Just(Some(8080)), 4 => Just(Some(9090)), 1 => Just(None)];
    let count = prop_oneof![3 => 0..20_usize, 1 => 0..700_usize];
    (kind, port, count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// From any pods, whatever was there before: every pod that shall be is there once, with its port, as ready as it is;
    /// of more than a thousand a thousand are, and none that is not ready in the place of one that is. Then it has settled.
    #[test]
    fn whatever_pods_there_are_the_old_form_tells_of_them_and_settles(
        rounds in prop::collection::vec(prop::collection::vec(group(), 0..6), 1..4),
        published in any::<bool>(),
    ) {
        let mut service = by_name();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(published);
        let mut existing: Option<Arc<Endpoints>> = None;
        for groups in rounds {
            let each = groups.iter().flat_map(|(kind, port, count)| vec![(*kind, *port); *count]);
            let each: Vec<_> = each.enumerate().collect();
            let mut pods = Vec::new();
            let mut shall: HashMap<String, (i32, bool)> = HashMap::new();
            for (n, (kind, port)) in each {
                let pod = with_port(kind.pod(n), port);
                if let (Some(ready), Some(port)) = (kind.shall_be(published), port) {
                    shall.insert(pod.status.as_ref().unwrap().pod_ip.clone().unwrap(), (port, ready));
                }
                pods.push(Arc::new(pod));
            }
            let now = match legacy::reconcile(&service, &pods, existing.as_ref(), None) {
                None => existing.clone().unwrap(),
                Some(legacy::Action::Create(new)) => {
                    prop_assert!(existing.is_none());
                    let mut new = *new;
                    new.annotations_mut().insert("somebody".into(), "else's".into());
                    Arc::new(new)
                }
                Some(legacy::Action::Update { old, new }) => {
                    prop_assert_eq!(Some(&old), existing.as_ref());
                    Arc::new(*new)
                }
            };
            pods.reverse();
            let again = legacy::reconcile(&service, &pods, Some(&now), None);
            prop_assert!(again.is_none(), "it has settled, in whatever order the pods are");
            let mut found: HashMap<String, (i32, bool)> = HashMap::new();
            for subset in now.subsets.iter().flatten() {
                let port = subset.ports.as_ref().unwrap()[0].port;
                let (ready, not_ready) = (&subset.addresses, &subset.not_ready_addresses);
                prop_assert!(ready.is_some() || not_ready.is_some(), "a subset is empty");
                for (list, ready) in [(ready, true), (not_ready, false)] {
                    for address in list.iter().flatten() {
                        let twice = found.insert(address.ip.clone(), (port, ready));
                        prop_assert_eq!(twice, None);
                    }
                }
            }
            let truncated = now.annotations().contains_key("endpoints.kubernetes.io/over-capacity");
            prop_assert_eq!(truncated, shall.len() > 1000);
            prop_assert_eq!(&now.annotations()["somebody"], "else's");
            prop_assert_eq!(found.len(), shall.len().min(1000));
            prop_assert!(found.iter().all(|(ip, is)| shall.get(ip) == Some(is)));
            let ready = |all: &HashMap<String, (i32, bool)>| all.values().filter(|(_, ready)| *ready).count();
            prop_assert_eq!(ready(&found), ready(&shall).min(1000));
            existing = Some(now);
        }
    }
}
