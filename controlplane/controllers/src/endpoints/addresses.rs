//! What of a pod goes into an endpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::common::meta::is_deleted;
use crate::common::pods::{is_ready, is_terminal, node_name};

/// Whether a pod belongs among a service's endpoints: one that is going may, one that has ended or has no address not.
pub fn belongs(pod: &Pod, with_terminating: bool) -> bool {
    let addressed = addresses(pod).next().is_some();
    addressed && !is_terminal(pod) && (with_terminating || !is_deleted(&pod.metadata))
}

/// A pod's addresses.
pub fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref());
    let one = status.and_then(|status| status.pod_ip.as_deref());
    let listed = all.into_iter().flatten().map(|ip| ip.ip.as_str());
    let single = one.filter(|_| all.is_none_or(Vec::is_empty));
    listed.chain(single).filter(|ip| !ip.is_empty())
}

/// A pod's address of a family.
pub fn address_of<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    addresses(pod).find(|ip| family_of(ip) == family)
}

/// `IPv4` or `IPv6`.
pub fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

/// The families of a service, its own first.
pub fn families(spec: &ServiceSpec) -> Vec<String> {
    if let Some(families) = spec
        .ip_families
        .as_ref()
        .filter(|families| !families.is_empty())
    {
        return families.clone();
    }
    let own = spec
        .cluster_ip
        .as_deref()
        .filter(|ip| *ip != "None" && !ip.is_empty());
    vec![own.map_or("IPv4", family_of).to_owned()]
}

/// Whether a pod serves, and whether it shall get new connections.
pub fn conditions(pod: &Pod, spec: &ServiceSpec) -> (bool, bool, bool) {
    let serving = is_ready(pod);
    let terminating = is_deleted(&pod.metadata);
    let always = spec.publish_not_ready_addresses == Some(true);
    let ready = always || (serving && !terminating);
    (ready, serving, terminating)
}

/// The host name by which a headless service makes a pod known.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|name| !name.is_empty())?;
    let same = spec.subdomain.as_ref() == service.metadata.name.as_ref()
        && pod.namespace() == service.namespace();
    same.then_some(hostname)
}

/// What an endpoint refers to.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.namespace(),
        name: Some(pod.name_any()),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// The zone of a pod's node.
pub fn zone(pod: &Pod, nodes: &BTreeMap<String, Arc<Node>>) -> Option<String> {
    let node = nodes.get(node_name(pod)?)?;
    node.labels().get("topology.kubernetes.io/zone").cloned()
}

/// The number of a service's port on a pod; `None` if the pod has no port of that name.
pub fn port_on(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let restartable = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(restartable);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let found = ports.find(|known| {
                known.name.as_ref() == Some(name)
                    && known.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found.map(|known| known.container_port)
        }
    }
}
