//! One rule of endpoints a test, for slices and for the old form.

mod old_form;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Endpoints, Node, Pod, PodCondition, PodIP, PodSpec, PodStatus,
    Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::slices::{Action, Observed, SERVICE_LABEL};
use super::triggers::TRIGGER_TIME;
use super::{HEADLESS_LABEL, legacy, selects, slices};

fn service() -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("web-uid".into()),
            labels: Some([("team".into(), "a".into())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.0.0.1".into()),
            ip_families: Some(vec!["IPv4".into()]),
            selector: Some([("app".into(), "web".into())].into()),
            ports: Some(vec![port(IntOrString::Int(8080))]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(target: IntOrString) -> ServicePort {
    ServicePort {
        name: Some("http".into()),
        port: 80,
        protocol: Some("TCP".into()),
        target_port: Some(target),
        ..ServicePort::default()
    }
}

fn pod(n: usize, ready: bool) -> Pod {
    let name = format!("web-{n}");
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..PodCondition::default()
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some("default".into()),
            uid: Some(format!("{name}-uid")),
            labels: Some([("app".into(), "web".into())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some("node".into()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some(format!("10.1.{}.{}", n / 250, n % 250)),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        }),
    }
}

fn deleted(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    pod
}

fn pods(count: usize) -> Vec<Pod> {
    (0..count).map(|n| pod(n, true)).collect()
}

/// The slices that there are, by name; whatever is written goes through here.
#[derive(Default)]
struct World {
    triggered: Option<Timestamp>,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
    /// Names of slices that are somebody else's.
    others: BTreeSet<String>,
    writes: usize,
}

impl World {
    fn plan(&self, service: &Service, pods: &[Pod], max: usize) -> Vec<Action> {
        let pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
        let existing: Vec<_> = self.slices.values().cloned().collect();
        let mut node = Node::default();
        let zone = ("topology.kubernetes.io/zone".into(), "z1".into());
        node.metadata.labels = Some([zone].into());
        slices::reconcile(&Observed {
            service,
            pods: &pods,
            nodes: &[("node".to_owned(), Arc::new(node))].into(),
            slices: &existing,
            is_taken: &|name: &str| self.slices.contains_key(name) || self.others.contains(name),
            endpoints_max: max,
            triggered: self.triggered,
        })
    }

    fn apply(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.writes += 1;
            match action {
                Action::Create(slice) => {
                    let taken = self.slices.insert(slice.name_any(), Arc::new(*slice));
                    assert!(taken.is_none(), "a name is used twice");
                }
                Action::Update { old, new } => {
                    assert_eq!(self.slices[&old.name_any()], old);
                    self.slices.insert(new.name_any(), Arc::new(*new));
                }
                Action::Delete(slice) => {
                    assert!(self.slices.remove(&slice.name_any()).is_some());
                }
            }
        }
    }

    fn settle(&mut self, service: &Service, pods: &[Pod], max: usize) -> usize {
        self.writes = 0;
        let actions = self.plan(service, pods, max);
        self.apply(actions);
        let writes = self.writes;
        assert_eq!(self.plan(service, pods, max), [], "it has settled");
        writes
    }

    fn sizes(&self) -> Vec<usize> {
        let size = |slice: &Arc<EndpointSlice>| slice.endpoints.as_ref().map_or(0, Vec::len);
        let mut sizes: Vec<_> = self.slices.values().map(size).collect();
        sizes.sort();
        sizes
    }

    fn addresses(&self) -> Vec<String> {
        let endpoints = self
            .slices
            .values()
            .flat_map(|slice| slice.endpoints.iter().flatten());
        let mut addresses: Vec<_> = endpoints
            .map(|endpoint| endpoint.addresses[0].clone())
            .collect();
        addresses.sort();
        addresses
    }
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let mut world = World::default();
    assert_eq!(world.settle(&service(), &[], 100), 1);
    let slice = world.slices.values().next().unwrap();
    assert_eq!(slice.ports.as_deref(), Some(&[][..]));
    assert_eq!(slice.labels()[SERVICE_LABEL], "web");
    assert_eq!(slice.labels()["team"], "a");
    assert_eq!(slice.owner_references()[0].uid, "web-uid");
    // It takes the first pod, and is there when the last one has gone.
    assert_eq!(world.settle(&service(), &pods(1), 100), 1);
    assert_eq!(world.sizes(), [1]);
    assert_eq!(world.settle(&service(), &[], 100), 1);
    assert_eq!(world.sizes(), [0]);
    let slice = world.slices.values().next().unwrap();
    assert_eq!(slice.ports.as_deref(), Some(&[][..]));
}

#[test]
fn slices_hold_a_hundred_and_a_service_has_as_few_as_will_do() {
    for (count, expected) in [
        (1, vec![1]),
        (100, vec![100]),
        (101, vec![1, 100]),
        (250, vec![50, 100, 100]),
    ] {
        let mut world = World::default();
        world.settle(&service(), &pods(count), 100);
        assert_eq!(world.sizes(), expected, "{count}");
    }
}

#[test]
fn one_more_pod_is_one_write() {
    let mut world = World::default();
    world.settle(&service(), &pods(150), 100);
    assert_eq!(world.settle(&service(), &pods(151), 100), 1);
    assert_eq!(world.sizes(), [51, 100]);
    // And one that goes, too.
    assert_eq!(world.settle(&service(), &pods(151)[1..], 100), 1);
}

#[test]
fn pods_that_replace_others_take_their_places() {
    let mut world = World::default();
    world.settle(&service(), &pods(150), 100);
    let mut others = pods(150);
    others.drain(0..10);
    others.extend((200..210).map(|n| pod(n, true)));
    assert!(world.settle(&service(), &others, 100) <= 2);
    assert_eq!(world.sizes().iter().sum::<usize>(), 150);
}

/// As many slices as there are sizes, with the service's pods in their order, and these pods.
fn allotted(sizes: &[usize]) -> (World, Vec<Pod>) {
    let all = pods(sizes.iter().sum());
    let mut rest = all.as_slice();
    let mut world = World::default();
    for (number, size) in sizes.iter().enumerate() {
        let (here, others) = rest.split_at(*size);
        rest = others;
        let mut alone = World::default();
        alone.settle(&service(), here, *size);
        let mut slice = EndpointSlice::clone(alone.slices.values().next().unwrap());
        let name = format!("slice-{number}");
        slice.metadata.name = Some(name.clone());
        world.slices.insert(name, Arc::new(slice));
    }
    (world, all)
}

#[test]
fn slices_are_filled_as_they_are_and_not_packed_anew() {
    let cases: [(&[usize], usize, usize, &[usize]); 3] = [
        // A new one, and what is left over fits into one that is there.
        (&[62, 61], 127, 2, &[61, 89, 100]),
        // It does not fit.
        (&[74, 74], 152, 2, &[52, 74, 74, 100]),
        (&[62, 61], 30, 1, &[61, 92]),
    ];
    for (sizes, more, writes, expected) in cases {
        let (mut world, mut all) = allotted(sizes);
        all.extend((1000..1000 + more).map(|n| pod(n, true)));
        assert_eq!(world.settle(&service(), &all, 100), writes, "{sizes:?}");
        assert_eq!(world.sizes(), expected, "{sizes:?}");
    }
    let (mut world, all) = allotted(&[30; 10]);
    assert_eq!(world.settle(&service(), &all, 100), 0);
}

#[test]
fn of_slices_that_are_written_anyhow_the_fullest_is_filled() {
    let (mut world, mut all) = allotted(&[80, 20]);
    for n in (0..100).step_by(10) {
        all[n] = pod(n, false);
    }
    all.extend((200..215).map(|n| pod(n, true)));
    assert_eq!(world.settle(&service(), &all, 100), 2);
    assert_eq!(world.sizes(), [20, 95]);
}

#[test]
fn when_all_ports_change_the_slices_are_used_again_and_only_what_is_left_over_goes() {
    let (mut world, all) = allotted(&[30; 10]);
    let mut service = service();
    service.spec.as_mut().unwrap().ports = Some(vec![port(IntOrString::Int(81))]);
    let actions = world.plan(&service, &all, 100);
    let is_update = |action: &Action| matches!(action, Action::Update { .. });
    assert_eq!(actions.len(), 10);
    // Nothing goes before its endpoints are elsewhere.
    assert!(actions[..3].iter().all(is_update));
    let rest = &actions[3..];
    assert!(
        rest.iter()
            .all(|action| matches!(action, Action::Delete(_)))
    );
    assert_eq!(world.settle(&service, &all, 100), 10);
    assert_eq!(world.sizes(), [100, 100, 100]);
    for slice in world.slices.values() {
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(81));
    }
    assert_eq!(world.addresses().len(), 300);
}

#[test]
fn a_slice_of_another_kind_of_address_is_not_used_again() {
    let (mut world, all) = allotted(&[80, 50]);
    for slice in world.slices.values_mut() {
        Arc::make_mut(slice).address_type = "IP".into();
    }
    // Two are created, and two deleted.
    assert_eq!(world.settle(&service(), &all, 100), 4);
    assert_eq!(world.sizes(), [30, 100]);
    let mut kinds = world.slices.values().map(|slice| &slice.address_type);
    assert!(kinds.all(|kind| kind == "IPv4"));
}

#[test]
fn a_slice_of_an_earlier_service_of_the_name_is_not_used_again() {
    let (mut world, all) = allotted(&[1]);
    let mut recreated = service();
    recreated.metadata.uid = Some("another-uid".into());
    let actions = world.plan(&recreated, &all, 100);
    assert!(matches!(
        actions[..],
        [Action::Create(_), Action::Delete(_)]
    ));
    world.apply(actions);
    assert_eq!(world.sizes(), [1]);
}

#[test]
fn a_service_that_is_going_has_nothing_written() {
    let (mut world, _) = allotted(&[1]);
    let mut going = service();
    going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(world.plan(&going, &pods(5), 100), []);
    world.slices.clear();
    assert_eq!(world.plan(&going, &pods(5), 100), []);
}

#[test]
fn what_is_written_says_when_that_happened_for_which_it_is_and_nothing_is_written_to_say_it() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let said = |annotations: &BTreeMap<String, String>| annotations.get(TRIGGER_TIME).cloned();
    let of_slice = |world: &World| said(world.slices.values().next().unwrap().annotations());
    let mut world = World {
        triggered: at(1),
        ..World::default()
    };
    let mut endpoints: Option<Arc<Endpoints>> = None;
    let steps = [
        (pods(1), at(1), 1, Some("1970-01-01T00:00:01Z")),
        (pods(1), at(2), 0, Some("1970-01-01T00:00:01Z")),
        (pods(2), at(3), 1, Some("1970-01-01T00:00:03Z")),
        (pods(1), None, 1, None),
    ];
    for (pods, triggered, writes, expected) in steps {
        world.triggered = triggered;
        assert_eq!(world.settle(&service(), &pods, 100), writes);
        assert_eq!(of_slice(&world).as_deref(), expected);
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        match legacy::reconcile(&service(), &pods, endpoints.as_ref(), triggered) {
            None => assert_eq!(writes, 0),
            Some(legacy::Action::Create(new) | legacy::Action::Update { new, .. }) => {
                assert_eq!(writes, 1);
                endpoints = Some(Arc::new(*new));
            }
        }
        let endpoints = endpoints.as_ref().unwrap();
        assert_eq!(said(endpoints.annotations()).as_deref(), expected);
    }
}

#[test]
fn labels_that_are_the_slices_own_are_not_taken_from_the_service() {
    let mut world = World::default();
    world.settle(&service(), &pods(250), 100);
    let mut service = service();
    for label in [SERVICE_LABEL, slices::MANAGED_BY_LABEL, HEADLESS_LABEL] {
        service.labels_mut().insert(label.into(), "bad".into());
    }
    assert_eq!(world.settle(&service, &pods(250), 100), 0);
}

#[test]
fn a_slice_that_is_empty_goes_unless_it_is_the_last() {
    let mut world = World::default();
    world.settle(&service(), &pods(250), 100);
    world.settle(&service(), &pods(0), 100);
    assert_eq!(world.sizes(), [0]);
}

#[test]
fn pods_on_which_a_named_port_has_different_numbers_are_in_different_slices() {
    let mut service = service();
    service.spec.as_mut().unwrap().ports = Some(vec![port(IntOrString::String("http".into()))]);
    let with_port = |n, number| {
        let mut pod = pod(n, true);
        pod.spec.as_mut().unwrap().containers = vec![Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: number,
                ..ContainerPort::default()
            }]),
            ..Container::default()
        }];
        pod
    };
    let mut world = World::default();
    world.settle(
        &service,
        &[with_port(0, 8080), with_port(1, 8080), with_port(2, 9090)],
        100,
    );
    assert_eq!(world.sizes(), [1, 2]);
    let ports: BTreeSet<_> = world
        .slices
        .values()
        .map(|slice| slice.ports.as_ref().unwrap()[0].port)
        .collect();
    assert_eq!(ports, BTreeSet::from([Some(8080), Some(9090)]));
    world.settle(
        &service,
        &[with_port(0, 9090), with_port(1, 9090), with_port(2, 9090)],
        100,
    );
    assert_eq!(world.sizes(), [3]);
}

#[test]
fn an_endpoint_says_whether_it_is_ready_serving_and_terminating() {
    let publishing = {
        let mut service = service();
        service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
        service
    };
    let cases = [
        ("ready", service(), pod(0, true), [true, true, false]),
        ("not ready", service(), pod(0, false), [false, false, false]),
        (
            "going, still serving",
            service(),
            deleted(pod(0, true)),
            [false, true, true],
        ),
        (
            "going, not serving",
            service(),
            deleted(pod(0, false)),
            [false, false, true],
        ),
        (
            "published anyhow",
            publishing.clone(),
            pod(0, false),
            [true, false, false],
        ),
        (
            "published anyhow while going",
            publishing,
            deleted(pod(0, true)),
            [true, true, true],
        ),
    ];
    for (name, service, pod, expected) in cases {
        let mut world = World::default();
        world.settle(&service, &[pod], 100);
        let slice = world.slices.values().next().unwrap();
        let endpoint = &slice.endpoints.as_ref().unwrap()[0];
        let found = endpoint.conditions.clone().unwrap();
        let found = [found.ready, found.serving, found.terminating].map(Option::unwrap);
        assert_eq!(found, expected, "{name}");
        assert_eq!(endpoint.zone.as_deref(), Some("z1"), "{name}");
        assert_eq!(endpoint.node_name.as_deref(), Some("node"), "{name}");
        assert_eq!(
            endpoint.target_ref.as_ref().unwrap().name.as_deref(),
            Some("web-0"),
            "{name}"
        );
    }
}

#[test]
fn pods_that_have_ended_or_have_no_address_are_no_endpoints() {
    let ended = |phase: &str| {
        let mut pod = pod(0, true);
        pod.status.as_mut().unwrap().phase = Some(phase.into());
        pod
    };
    let mut unaddressed = pod(0, true);
    unaddressed.status.as_mut().unwrap().pod_ip = None;
    for pod in [ended("Failed"), ended("Succeeded"), unaddressed] {
        let mut world = World::default();
        world.settle(&service(), &[pod], 100);
        assert_eq!(world.sizes(), [0]);
    }
}

#[test]
fn a_service_of_two_families_has_slices_of_both() {
    let mut service = service();
    let families = |service: &mut Service, families: &[&str]| {
        let families = families.iter().map(|family| (*family).to_owned()).collect();
        service.spec.as_mut().unwrap().ip_families = Some(families);
    };
    families(&mut service, &["IPv4", "IPv6"]);
    let mut pod = pod(0, true);
    let ip = |ip: &str| PodIP { ip: ip.into() };
    pod.status.as_mut().unwrap().pod_ips = Some(vec![ip("10.1.0.0"), ip("fd00::1")]);
    let mut world = World::default();
    world.settle(&service, std::slice::from_ref(&pod), 100);
    assert_eq!(world.addresses(), ["10.1.0.0", "fd00::1"]);
    // The family that goes takes its slices with it.
    families(&mut service, &["IPv6"]);
    world.settle(&service, &[pod], 100);
    assert_eq!(world.addresses(), ["fd00::1"]);
}

#[test]
fn labels_follow_the_service() {
    let mut service = service();
    let mut world = World::default();
    world.settle(&service, &pods(1), 100);
    service.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    service.labels_mut().insert("team".into(), "b".into());
    assert_eq!(world.settle(&service, &pods(1), 100), 1);
    let slice = world.slices.values().next().unwrap();
    assert_eq!(slice.labels()["team"], "b");
    assert_eq!(slice.labels()[HEADLESS_LABEL], "");
}

#[test]
fn a_service_without_a_selector_or_of_an_external_name_is_left_alone() {
    let mut unselective = service();
    unselective.spec.as_mut().unwrap().selector = None;
    let mut external = service();
    external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
    for service in [unselective, external] {
        assert_eq!(World::default().plan(&service, &pods(1), 100), []);
        assert_eq!(legacy::reconcile(&service, &[], None, None), None);
    }
}

#[test]
fn the_same_slice_has_the_same_name_in_every_process() {
    let name = || match &World::default().plan(&service(), &pods(1), 100)[..] {
        [Action::Create(slice)] => slice.name_any(),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(), name());
    assert!(name().starts_with("web-"));
}

#[test]
fn a_name_that_another_slice_of_the_namespace_has_is_not_asked_for_again() {
    let mut world = World::default();
    for _ in 0..3 {
        match &world.plan(&service(), &pods(1), 100)[..] {
            [Action::Create(slice)] => assert!(world.others.insert(slice.name_any())),
            other => panic!("{other:?}"),
        }
    }
    world.settle(&service(), &pods(1), 100);
}

#[test]
fn a_selector_selects_what_has_all_its_labels() {
    let spec = service().spec.unwrap();
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    };
    assert!(selects(
        &spec,
        Some(&labels(&[("app", "web"), ("more", "x")]))
    ));
    assert!(!selects(&spec, Some(&labels(&[("app", "db")]))));
    assert!(!selects(&spec, None));
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_every_pod_is_in_one_slice_and_no_slice_is_too_large(
        rounds in prop::collection::vec(prop::collection::btree_map(0..40_usize, any::<bool>(), 0..40), 1..12),
        max in 1..12_usize,
    ) {
        let mut world = World::default();
        let mut before = usize::MAX;
        for round in rounds {
            let pods: Vec<_> = round.iter().map(|(n, ready)| pod(*n, *ready)).collect();
            let slices = world.slices.len();
            let writes = world.settle(&service(), &pods, max);
            let mut expected: Vec<_> = pods.iter().map(|pod| pod.status.clone().unwrap().pod_ip.unwrap()).collect();
            expected.sort();
            prop_assert_eq!(world.addresses(), expected);
            prop_assert!(world.sizes().iter().all(|size| *size <= max));
            // Each slice is written once at most.
            prop_assert!(writes <= slices + pods.len().div_ceil(max) + 1);
            before = before.min(writes);
        }
    }
}
