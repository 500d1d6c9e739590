//! Endpoint slices: at most a hundred endpoints each, and as few writes as will do.
//!
//! A new slice is named after its service and what it holds, so that two attempts to create it meet in one name. One that
//! is not needed any more is given what would go into a new one, and keeps its name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::addresses::{
    address_of, belongs, conditions, families, hostname, port_on, target, zone,
};
use super::triggers::stamp;
use super::{HEADLESS_LABEL, is_headless, is_ours};
use crate::common::meta::is_deleted;
use crate::common::owner::{controller_reference, is_controlled_by};

/// The label by which a service's slices are found.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label that says whose they are.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// What it says of ours.
pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";

/// What is known of one service.
pub struct Observed<'a> {
    /// Itself.
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// Nodes, by name: an endpoint tells its zone.
    pub nodes: &'a BTreeMap<String, Arc<Node>>,
    /// Its slices, that are ours.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Whether any slice of the namespace, whosoever it is, has a name.
    pub is_taken: &'a dyn Fn(&str) -> bool,
    /// The most endpoints in one slice.
    pub endpoints_max: usize,
    /// When that happened for which slices may have to be written.
    pub triggered: Option<Timestamp>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create a slice. If its name is taken, the store is behind: look again.
    Create(Box<EndpointSlice>),
    /// Change a slice, if it is still as it was.
    Update {
        /// As it was.
        old: Arc<EndpointSlice>,
        /// As it shall be.
        new: Box<EndpointSlice>,
    },
    /// Delete a slice.
    Delete(Arc<EndpointSlice>),
}

/// The ports of a slice, as a key: slices hold endpoints with the same ports.
type Ports = Vec<EndpointPort>;

/// Says what to do about one service's slices.
pub fn reconcile(observed: &Observed<'_>) -> Vec<Action> {
    let service = observed.service;
    let Some(spec) = service.spec.as_ref().filter(|_| is_ours(service)) else {
        return Vec::new();
    };
    let mut actions = Vec::new();
    if is_deleted(&service.metadata) {
        return actions;
    }
    let families = families(spec);
    let mut of_families: BTreeMap<&str, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in observed.slices {
        if is_deleted(&slice.metadata) {
            continue;
        }
        // Those of an earlier service of this name are about to go: nothing may be put there.
        let is_own = is_controlled_by(&slice.metadata, service);
        if is_own && families.contains(&slice.address_type) {
            let of_family = of_families.entry(&slice.address_type).or_default();
            of_family.push(slice);
        } else {
            actions.push(Action::Delete(slice.clone()));
        }
    }
    let mut given = BTreeSet::new();
    for family in &families {
        let existing = of_families.remove(family.as_str()).unwrap_or_default();
        reconcile_family(observed, spec, family, existing, &mut given, &mut actions);
    }
    // What takes an endpoint from one slice to another must put it there first.
    actions.sort_by_key(|action| matches!(action, Action::Delete(_)));
    actions
}

fn reconcile_family(
    observed: &Observed<'_>,
    spec: &ServiceSpec,
    family: &str,
    existing: Vec<&Arc<EndpointSlice>>,
    given: &mut BTreeSet<String>,
    actions: &mut Vec<Action>,
) {
    let mut desired = desired(observed, spec, family);
    let mut by_ports: BTreeMap<String, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in &existing {
        let ports = slice.ports.clone().unwrap_or_default();
        by_ports.entry(key_of(&ports)).or_default().push(slice);
    }
    if desired.is_empty() {
        // Somebody may be waiting for the first slice: there is one, though it is empty.
        desired.insert(key_of(&[]), (Vec::new(), BTreeMap::new()));
    }
    let mut plan = Plan::default();
    for (key, (ports, endpoints)) in desired {
        let slices = by_ports.remove(&key).unwrap_or_default();
        let mut bins = Bins::new(slices, endpoints);
        bins.place(observed.endpoints_max);
        bins.settle(observed, &ports, &mut plan);
    }
    plan.spare.extend(by_ports.into_values().flatten());
    plan.write(observed, family, given, actions);
}

/// The endpoints that there shall be, by their ports, and each by its address.
fn desired(
    observed: &Observed<'_>,
    spec: &ServiceSpec,
    family: &str,
) -> BTreeMap<String, (Ports, BTreeMap<String, Endpoint>)> {
    let mut desired: BTreeMap<String, (Ports, BTreeMap<String, Endpoint>)> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| belongs(pod, true)) {
        let Some(address) = address_of(pod, family) else {
            continue;
        };
        let (ready, serving, terminating) = conditions(pod, spec);
        let endpoint = Endpoint {
            addresses: vec![address.to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname(pod, observed.service),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(target(pod)),
            zone: zone(pod, observed.nodes),
            ..Endpoint::default()
        };
        let ports = ports_on(pod, spec);
        let uid = pod.uid().unwrap_or_default();
        let (_, endpoints) = desired
            .entry(key_of(&ports))
            .or_insert_with(|| (ports, BTreeMap::new()));
        endpoints.insert(format!("{address}/{uid}"), endpoint);
    }
    desired
}

fn ports_on(pod: &Pod, spec: &ServiceSpec) -> Ports {
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port_on(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

fn key_of(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}/{}/{}/{}",
                port.name.as_deref().unwrap_or_default(),
                port.port.unwrap_or_default(),
                port.protocol.as_deref().unwrap_or_default(),
                port.app_protocol.as_deref().unwrap_or_default(),
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

fn identity(endpoint: &Endpoint) -> String {
    let address = endpoint
        .addresses
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let target = endpoint.target_ref.as_ref();
    let uid = target
        .and_then(|target| target.uid.as_deref())
        .unwrap_or_default();
    format!("{address}/{uid}")
}

/// The slices of one set of ports, and the endpoints to go into them.
struct Bins<'a> {
    slices: Vec<Bin<'a>>,
    rest: BTreeMap<String, Endpoint>,
}

struct Bin<'a> {
    seen: Option<&'a Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

impl<'a> Bins<'a> {
    /// What is in place stays in place, as it is now; what is gone goes.
    fn new(slices: Vec<&'a Arc<EndpointSlice>>, mut desired: BTreeMap<String, Endpoint>) -> Self {
        let mut bins = Vec::new();
        for slice in slices {
            let mut endpoints = Vec::new();
            let mut changed = false;
            for known in slice.endpoints.iter().flatten() {
                match desired.remove(&identity(known)) {
                    Some(endpoint) => {
                        changed |= endpoint != *known;
                        endpoints.push(endpoint);
                    }
                    None => changed = true,
                }
            }
            bins.push(Bin {
                seen: Some(slice),
                endpoints,
                changed,
            });
        }
        Bins {
            slices: bins,
            rest: desired,
        }
    }

    /// Finds room for the rest: first in slices that are written anyhow, the fullest first; then in new ones, until what is
    /// left fits whole into another, and of those in the fullest.
    fn place(&mut self, max: usize) {
        let mut rest: Vec<Endpoint> = std::mem::take(&mut self.rest).into_values().collect();
        rest.reverse();
        self.slices
            .sort_by_key(|bin| std::cmp::Reverse(bin.endpoints.len()));
        for bin in self.slices.iter_mut().filter(|bin| bin.changed) {
            while bin.endpoints.len() < max
                && let Some(endpoint) = rest.pop()
            {
                bin.endpoints.push(endpoint);
            }
        }
        while !rest.is_empty() {
            let more = rest.len();
            let fits = |bin: &&mut Bin<'_>| !bin.changed && bin.endpoints.len() + more <= max;
            if let Some(bin) = self.slices.iter_mut().find(fits) {
                bin.endpoints.extend(rest.drain(..).rev());
                bin.changed = true;
                break;
            }
            let from = rest.len().saturating_sub(max);
            let mut endpoints = rest.split_off(from);
            endpoints.reverse();
            self.slices.push(Bin {
                seen: None,
                endpoints,
                changed: true,
            });
        }
    }

    fn settle(mut self, observed: &Observed<'_>, ports: &[EndpointPort], plan: &mut Plan<'a>) {
        // An empty slice goes, but for the last of a service.
        let mut has_any = self.slices.iter().any(|bin| !bin.endpoints.is_empty());
        if self.slices.is_empty() {
            self.slices.push(Bin {
                seen: None,
                endpoints: Vec::new(),
                changed: true,
            });
        }
        for bin in self.slices {
            if bin.endpoints.is_empty() {
                if has_any {
                    plan.spare.extend(bin.seen);
                    continue;
                }
                has_any = true;
            }
            match bin.seen {
                Some(old) if bin.changed || is_relabelled(observed.service, old) => {
                    plan.change(observed, old, old.ports.clone(), bin.endpoints);
                }
                Some(_) => (),
                None => plan.wanted.push((ports.to_vec(), bin.endpoints)),
            }
        }
    }
}

/// What is to become of the slices of one family.
#[derive(Default)]
struct Plan<'a> {
    changes: Vec<Action>,
    /// What no slice has.
    wanted: Vec<(Ports, Vec<Endpoint>)>,
    /// Slices that nothing belongs in any more.
    spare: Vec<&'a Arc<EndpointSlice>>,
}

impl Plan<'_> {
    fn change(
        &mut self,
        observed: &Observed<'_>,
        old: &Arc<EndpointSlice>,
        ports: Option<Ports>,
        endpoints: Vec<Endpoint>,
    ) {
        let mut new = EndpointSlice::clone(old);
        new.metadata.labels = Some(labels(observed.service, Some(old)));
        stamp(&mut new.metadata, observed.triggered);
        new.ports = ports;
        new.endpoints = Some(endpoints);
        let (old, new) = (old.clone(), Box::new(new));
        self.changes.push(Action::Update { old, new });
    }

    /// What is wanted goes into spare slices first: when all ports change, that is one write a slice and not two, and at
    /// no time are the endpoints in none.
    fn write(
        mut self,
        observed: &Observed<'_>,
        family: &str,
        given: &mut BTreeSet<String>,
        actions: &mut Vec<Action>,
    ) {
        let service = observed.service;
        let mut spare = std::mem::take(&mut self.spare).into_iter();
        for (ports, endpoints) in std::mem::take(&mut self.wanted) {
            if let Some(old) = spare.next() {
                self.change(observed, old, Some(ports), endpoints);
                continue;
            }
            let mut metadata = ObjectMeta {
                name: Some(free_name(observed, family, &ports, given)),
                namespace: service.namespace(),
                labels: Some(labels(service, None)),
                owner_references: Some(vec![controller_reference(service)]),
                ..ObjectMeta::default()
            };
            stamp(&mut metadata, observed.triggered);
            self.changes.push(Action::Create(Box::new(EndpointSlice {
                metadata,
                address_type: family.to_owned(),
                endpoints: Some(endpoints),
                ports: Some(ports),
            })));
        }
        actions.append(&mut self.changes);
        actions.extend(spare.map(|slice| Action::Delete(slice.clone())));
    }
}

fn is_relabelled(service: &Service, slice: &EndpointSlice) -> bool {
    slice.metadata.labels.as_ref() != Some(&labels(service, Some(slice)))
}

/// A service's labels, and those that a slice has of its own.
fn labels(service: &Service, slice: Option<&EndpointSlice>) -> BTreeMap<String, String> {
    let own = |name: &str| [SERVICE_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL].contains(&name);
    let of_service = service.labels().iter().filter(|(name, _)| !own(name));
    let mut labels: BTreeMap<String, String> = of_service
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    labels.insert(SERVICE_LABEL.into(), service.name_any());
    let managed = slice.and_then(|slice| slice.labels().get(MANAGED_BY_LABEL));
    let managed = managed.cloned().unwrap_or_else(|| MANAGED_BY.into());
    labels.insert(MANAGED_BY_LABEL.into(), managed);
    if service.spec.as_ref().is_some_and(is_headless) {
        labels.insert(HEADLESS_LABEL.into(), String::new());
    }
    labels
}

/// The first name of this service, family and ports that no slice has, nor was `given` to one just now.
fn free_name(
    observed: &Observed<'_>,
    family: &str,
    ports: &[EndpointPort],
    given: &mut BTreeSet<String>,
) -> String {
    let service = observed.service;
    let uid = service.uid().unwrap_or_default();
    let base: String = service.name_any().chars().take(56).collect();
    let mut number = 0;
    loop {
        let text = format!("{uid}/{family}/{}/{number}", key_of(ports));
        let name = format!("{base}-{}", crate::common::template::letters(&text, 6));
        if !(observed.is_taken)(&name) && given.insert(name.clone()) {
            return name;
        }
        number += 1;
    }
}
