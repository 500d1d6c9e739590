//! The old form of endpoints: one object a service, with at most a thousand addresses.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServiceSpec,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::addresses::{address_of, belongs, conditions, families, hostname, port_on, target};
use super::triggers::stamp;
use super::{HEADLESS_LABEL, is_headless, is_ours};
use crate::common::meta::is_deleted;

/// The most addresses in one object.
pub const ADDRESSES_MAX: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpoint-controller";

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the object.
    Create(Box<Endpoints>),
    /// Change it, if it is still as it was.
    Update {
        /// As it was.
        old: Arc<Endpoints>,
        /// As it shall be.
        new: Box<Endpoints>,
    },
}

/// Says what to do about one service's endpoints, given the pods that it selects. `triggered` says when that happened for
/// which they may have to be written.
pub fn reconcile(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Arc<Endpoints>>,
    triggered: Option<Timestamp>,
) -> Option<Action> {
    let spec = service.spec.as_ref().filter(|_| is_ours(service))?;
    if is_deleted(&service.metadata) {
        return None;
    }
    let (subsets, truncated) = truncate(subsets(service, spec, pods));
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS_LABEL);
    labels.insert(MANAGED_BY_LABEL.into(), MANAGED_BY.into());
    if is_headless(spec) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    let mut new = match existing {
        Some(existing) => Endpoints::clone(existing),
        None => Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.namespace(),
                ..ObjectMeta::default()
            },
            subsets: None,
        },
    };
    new.metadata.labels = Some(labels);
    let annotations = new.annotations_mut();
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        new.metadata.annotations = None;
    }
    new.subsets = (!subsets.is_empty()).then_some(subsets);
    if existing.is_some_and(|old| same(old, &new)) {
        return None;
    }
    stamp(&mut new.metadata, triggered);
    let new = Box::new(new);
    Some(match existing.cloned() {
        None => Action::Create(new),
        Some(old) => Action::Update { old, new },
    })
}

fn same(old: &Endpoints, new: &Endpoints) -> bool {
    let empty = |endpoints: &Endpoints| endpoints.subsets.as_ref().is_none_or(Vec::is_empty);
    let subsets = old.subsets == new.subsets || (empty(old) && empty(new));
    subsets && old.metadata.labels == new.metadata.labels && old.annotations() == new.annotations()
}

/// Ports by name, number and protocol.
type PortsKey = Vec<(String, i32, String)>;
/// Addresses by what puts them in order.
type Addresses = BTreeMap<(String, String), EndpointAddress>;

/// Addresses with the same ports are one subset; all is in order, so that the same endpoints are the same object.
fn subsets(service: &Service, spec: &ServiceSpec, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let family = families(spec).swap_remove(0);
    // The old form knows nothing of pods that are going.
    let with_terminating = spec.publish_not_ready_addresses == Some(true);
    let mut by_ports: BTreeMap<PortsKey, (Vec<EndpointPort>, Addresses, Addresses)> =
        BTreeMap::new();
    for pod in pods.iter().filter(|pod| belongs(pod, with_terminating)) {
        let Some(ip) = address_of(pod, &family) else {
            continue;
        };
        let address = EndpointAddress {
            ip: ip.to_owned(),
            hostname: hostname(pod, service),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(target(pod)),
        };
        let ports: Vec<EndpointPort> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: port_on(pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && !spec.ports.as_ref().is_none_or(Vec::is_empty) {
            // It has none of the ports by name.
            continue;
        }
        let mut key: PortsKey = ports
            .iter()
            .map(|port| {
                let name = port.name.clone().unwrap_or_default();
                (name, port.port, port.protocol.clone().unwrap_or_default())
            })
            .collect();
        key.sort();
        let entry = by_ports.entry(key);
        let (_, ready, not_ready) =
            entry.or_insert_with(|| (ports, BTreeMap::new(), BTreeMap::new()));
        let (is_ready, ..) = conditions(pod, spec);
        let addresses = if is_ready { ready } else { not_ready };
        addresses.insert((ip.to_owned(), pod.uid().unwrap_or_default()), address);
    }
    let subsets = by_ports.into_values().map(|(ports, ready, not_ready)| {
        let list = |addresses: BTreeMap<_, EndpointAddress>| {
            let addresses: Vec<_> = addresses.into_values().collect();
            (!addresses.is_empty()).then_some(addresses)
        };
        EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(not_ready),
            ports: (!ports.is_empty()).then_some(ports),
        }
    });
    subsets.collect()
}

/// Keeps a thousand addresses, the ready ones first, and of each subset its share. Whether any was left out.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |of: fn(&EndpointSubset) -> &Option<Vec<EndpointAddress>>| {
        let counts = subsets
            .iter()
            .map(|subset| of(subset).as_ref().map_or(0, Vec::len));
        counts.sum::<usize>()
    };
    let ready = count(|subset| &subset.addresses);
    let not_ready = count(|subset| &subset.not_ready_addresses);
    if ready + not_ready <= ADDRESSES_MAX {
        return (subsets, false);
    }
    let for_ready = ready.min(ADDRESSES_MAX);
    let lists = subsets.iter_mut().map(|subset| &mut subset.addresses);
    share_out(lists, ready, for_ready);
    let lists = subsets
        .iter_mut()
        .map(|subset| &mut subset.not_ready_addresses);
    share_out(lists, not_ready, ADDRESSES_MAX - for_ready);
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, true)
}

/// Leaves each list, of `total` addresses in all, its share of the room, rounded up while there is any left.
fn share_out<'a>(
    lists: impl Iterator<Item = &'a mut Option<Vec<EndpointAddress>>>,
    total: usize,
    room: usize,
) {
    let mut left = room;
    for list in lists {
        let Some(addresses) = list else { continue };
        let share = (addresses.len() * room).div_ceil(total);
        addresses.truncate(share.min(left));
        left -= addresses.len();
        if addresses.is_empty() {
            *list = None;
        }
    }
}
