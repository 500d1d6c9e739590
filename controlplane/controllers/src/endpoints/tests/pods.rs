//! What of pods is told, in both forms.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};
use k8s_openapi::api::discovery::v1::Endpoint;

use super::old_form::legacy_of;
use super::*;

fn slices_of(service: &Service, pods: &[Pod]) -> Vec<Arc<EndpointSlice>> {
    let mut world = World::default();
    world.settle(service, pods, 100);
    world.slices.into_values().collect()
}

fn subsets_of(service: &Service, pods: &[Pod]) -> Vec<EndpointSubset> {
    legacy_of(service, pods).subsets.unwrap_or_default()
}

/// The one endpoint that there is, in both forms.
fn told(service: &Service, pod: Pod) -> (Endpoint, EndpointAddress) {
    let slices = slices_of(service, std::slice::from_ref(&pod));
    let [slice] = &slices[..] else {
        panic!("{slices:?}")
    };
    let subsets = subsets_of(service, &[pod]);
    let [subset] = &subsets[..] else {
        panic!("{subsets:?}")
    };
    let endpoint = slice.endpoints.as_ref().unwrap()[0].clone();
    (endpoint, subset.addresses.as_ref().unwrap()[0].clone())
}

fn with_ports(service: &mut Service, ports: Vec<ServicePort>) {
    service.spec.as_mut().unwrap().ports = Some(ports);
}

fn named(name: &str, target: IntOrString, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        ..port(target)
    }
}

/// A pod whose container has these ports.
fn pod_with(n: usize, ports: &[(&str, i32, &str)]) -> Pod {
    let mut pod = pod(n, true);
    let ports = ports.iter().map(|(name, number, protocol)| ContainerPort {
        name: Some((*name).into()),
        container_port: *number,
        protocol: Some((*protocol).into()),
        ..ContainerPort::default()
    });
    pod.spec.as_mut().unwrap().containers = vec![Container {
        ports: Some(ports.collect()),
        ..Container::default()
    }];
    pod
}

/// Names, numbers and protocols of ports.
fn old_ports(subset: &EndpointSubset) -> Vec<(String, i32, String)> {
    let ports = subset.ports.iter().flatten();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ports
        .map(|port: &EndpointPort| (text(&port.name), port.port, text(&port.protocol)))
        .collect()
}

fn slice_ports(slice: &EndpointSlice) -> Vec<(String, i32, String)> {
    let ports = slice.ports.iter().flatten();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    ports
        .map(|port| {
            (
                text(&port.name),
                port.port.unwrap_or_default(),
                text(&port.protocol),
            )
        })
        .collect()
}

fn expect(ports: &[(&str, i32, &str)]) -> Vec<(String, i32, String)> {
    let ports = ports.iter();
    ports
        .map(|(name, number, protocol)| ((*name).into(), *number, (*protocol).into()))
        .collect()
}

#[test]
fn a_service_of_several_ports_tells_all_of_them_and_a_pod_those_that_it_has() {
    let mut service = service();
    let by_name = |name: &str| named(name, IntOrString::String(name.into()), "TCP");
    with_ports(&mut service, vec![by_name("http"), by_name("admin")]);
    let both = [("http", 8080, "TCP"), ("admin", 9090, "TCP")];
    let pods = [0, 1, 2].map(|n| pod_with(n, &both));
    let subsets = subsets_of(&service, &pods);
    assert_eq!(subsets.len(), 1);
    assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 3);
    assert_eq!(old_ports(&subsets[0]), expect(&both));
    let slices = slices_of(&service, &pods);
    assert_eq!(slices.len(), 1);
    assert_eq!(slice_ports(&slices[0]), expect(&both));
    // One lacks the second.
    let pods = [pod_with(0, &both), pod_with(1, &both[..1])];
    let subsets = subsets_of(&service, &pods);
    let mut told: Vec<_> = subsets.iter().map(old_ports).collect();
    told.sort_by_key(Vec::len);
    assert_eq!(told, [expect(&both[..1]), expect(&both)]);
}

#[test]
fn a_port_is_found_by_its_name_and_protocol_and_told_with_what_it_speaks() {
    for protocol in ["TCP", "UDP", "SCTP"] {
        let mut service = service();
        let mut dns = named("dns", IntOrString::String("dns".into()), protocol);
        for speaks in [None, Some("kubernetes.io/h2c".to_owned())] {
            dns.app_protocol = speaks.clone();
            with_ports(&mut service, vec![dns.clone()]);
            let all = [("dns", 1, "TCP"), ("dns", 2, "UDP"), ("dns", 3, "SCTP")];
            let ours = all.iter().filter(|(.., known)| *known == protocol);
            let ours: Vec<_> = ours.copied().collect();
            let pods = [pod_with(0, &all)];
            let (subsets, slices) = (subsets_of(&service, &pods), slices_of(&service, &pods));
            assert_eq!(old_ports(&subsets[0]), expect(&ours));
            assert_eq!(slice_ports(&slices[0]), expect(&ours));
            let old = &subsets[0].ports.as_ref().unwrap()[0];
            let new = &slices[0].ports.as_ref().unwrap()[0];
            assert_eq!((&old.app_protocol, &new.app_protocol), (&speaks, &speaks));
        }
    }
}

#[test]
fn a_headless_service_without_ports_tells_addresses_alone() {
    let mut service = service();
    let spec = service.spec.as_mut().unwrap();
    spec.cluster_ip = Some("None".into());
    spec.ports = None;
    let subsets = subsets_of(&service, &pods(2));
    assert_eq!(subsets.len(), 1);
    assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 2);
    assert_eq!(subsets[0].ports, None);
    let slices = slices_of(&service, &pods(2));
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0].ports.as_deref(), Some(&[][..]));
    assert_eq!(slices[0].endpoints.as_ref().unwrap().len(), 2);
}

#[test]
fn an_endpoint_says_whose_it_is_and_where_and_its_name_if_it_is_the_services() {
    let mut pod = pod(0, true);
    pod.metadata.resource_version = Some("7".into());
    let spec = pod.spec.as_mut().unwrap();
    spec.hostname = Some("host".into());
    for (subdomain, hostname) in [("web", Some("host")), ("db", None), ("", None)] {
        pod.spec.as_mut().unwrap().subdomain = Some(subdomain.into());
        let (new, old) = told(&service(), pod.clone());
        assert_eq!(new.hostname.as_deref(), hostname, "{subdomain}");
        assert_eq!(old.hostname.as_deref(), hostname, "{subdomain}");
        assert_eq!(new.node_name.as_deref(), Some("node"));
        assert_eq!(old.node_name.as_deref(), Some("node"));
        let (new, old) = (new.target_ref.unwrap(), old.target_ref.unwrap());
        assert_eq!(new, old);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let told = [&new.kind, &new.namespace, &new.name, &new.uid].map(text);
        assert_eq!(told, ["Pod", "default", "web-0", "web-0-uid"]);
        assert_eq!(new.resource_version, None);
    }
}

#[test]
fn of_a_pod_of_two_families_the_services_own_address_is_told() {
    const V4: &str = "10.1.0.0";
    const V6: &str = "fd00::1";
    let cases = [
        ("10.0.0.1", None, V4),
        ("fd00::a", None, V6),
        ("None", Some("IPv4"), V4),
        ("None", Some("IPv6"), V6),
    ];
    for (cluster_ip, family, expected) in cases {
        let mut service = service();
        let spec = service.spec.as_mut().unwrap();
        spec.cluster_ip = Some(cluster_ip.into());
        spec.ip_families = family.map(|family: &str| vec![family.into()]);
        for ips in [[V4, V6], [V6, V4]] {
            let mut pod = pod(0, true);
            let status = pod.status.as_mut().unwrap();
            status.pod_ip = Some(ips[0].into());
            status.pod_ips = Some(ips.map(|ip| PodIP { ip: ip.into() }).into());
            let (new, old) = told(&service, pod);
            assert_eq!(new.addresses, [expected], "{cluster_ip} {ips:?}");
            assert_eq!(old.ip, expected, "{cluster_ip} {ips:?}");
        }
        // One that has none of it is not told.
        let mut pod = pod(0, true);
        let other = if expected == V4 { V6 } else { V4 };
        pod.status.as_mut().unwrap().pod_ip = Some(other.into());
        assert_eq!(subsets_of(&service, std::slice::from_ref(&pod)), []);
        let slices = slices_of(&service, &[pod]);
        let mut endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        assert!(endpoints.all(Vec::is_empty));
    }
}

#[test]
fn what_is_told_of_a_pod_does_not_depend_on_whether_it_runs_unless_it_has_ended() {
    // Whether it is ready, whether it is going, whether it is published anyhow; and whether it is told, and as ready.
    let cases = [
        (true, false, false, Some(true)),
        (false, false, false, Some(false)),
        (true, true, false, None),
        (false, true, false, None),
        (true, false, true, Some(true)),
        (false, false, true, Some(true)),
        (true, true, true, Some(true)),
        (false, true, true, Some(true)),
    ];
    for phase in ["Pending", "Running", "Unknown", "Succeeded", "Failed"] {
        let ended = ["Succeeded", "Failed"].contains(&phase);
        for (ready, going, published, expected) in cases {
            let mut service = service();
            service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(published);
            let mut pod = pod(0, ready);
            pod.status.as_mut().unwrap().phase = Some(phase.into());
            let pod = if going { deleted(pod) } else { pod };
            let subsets = subsets_of(&service, std::slice::from_ref(&pod));
            let found = subsets.first().map(|subset| subset.addresses.is_some());
            let expected = expected.filter(|_| !ended);
            let case = format!("{phase}: ready {ready}, going {going}, published {published}");
            assert_eq!(found, expected, "{case}");
            // A slice tells of those that are going too.
            let slices = slices_of(&service, &[pod]);
            let endpoints = slices[0].endpoints.as_ref().unwrap();
            assert_eq!(endpoints.is_empty(), ended, "{case}");
            let conditions = endpoints.first().and_then(|one| one.conditions.clone());
            let is_ready = conditions.and_then(|conditions| conditions.ready);
            let expected = (!ended).then_some(expected == Some(true));
            assert_eq!(is_ready, expected, "{case}");
        }
    }
}
