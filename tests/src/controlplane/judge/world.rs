//! What there is at a revision, and how each object came to be so.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Event, Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::controlplane::history::{Change, Revision};

/// An object as it was and as it is; at least one of them is there.
#[derive(Clone, Debug)]
pub struct Step<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K> Step<K> {
    /// As it is, or was at the last.
    pub fn any(&self) -> &K {
        let any = self.new.as_ref().or(self.old.as_ref());
        any.expect("a step has one of the two")
    }
}

/// A change of an object that matters here.
#[derive(Clone, Debug)]
pub enum Changed {
    Deployment(Step<Deployment>),
    ReplicaSet(Step<ReplicaSet>),
    Pod(Step<Pod>),
    Slice(Step<EndpointSlice>),
    Endpoints(Step<Endpoints>),
    Event(Step<Event>),
    Node,
}

/// The objects of one kind, by key.
pub type Kind<K> = BTreeMap<String, Arc<K>>;

/// What there is.
#[derive(Debug, Default)]
pub struct World {
    pub deployments: Kind<Deployment>,
    pub replica_sets: Kind<ReplicaSet>,
    pub pods: Kind<Pod>,
    pub slices: Kind<EndpointSlice>,
    pub endpoints: Kind<Endpoints>,
    pub nodes: Kind<Node>,
    events: Kind<Event>,
}

impl World {
    /// Takes in a revision, and says what it changed.
    pub fn take(&mut self, revision: &Revision) -> Vec<Changed> {
        let change = |change: &Change| self.change(change);
        revision.changes.iter().filter_map(change).collect()
    }

    fn change(&mut self, Change { key, object }: &Change) -> Option<Changed> {
        let resource = key.split('/').next().unwrap_or_default();
        Some(match resource {
            "deployments" => Changed::Deployment(put(&mut self.deployments, key, object)?),
            "replicasets" => Changed::ReplicaSet(put(&mut self.replica_sets, key, object)?),
            "pods" => Changed::Pod(put(&mut self.pods, key, object)?),
            "endpointslices" => Changed::Slice(put(&mut self.slices, key, object)?),
            "events" => Changed::Event(put(&mut self.events, key, object)?),
            "minions" => {
                put(&mut self.nodes, key, object)?;
                Changed::Node
            }
            "services" if key.starts_with("services/endpoints/") => {
                Changed::Endpoints(put(&mut self.endpoints, key, object)?)
            }
            _ => return None,
        })
    }

    /// The replica sets of a deployment.
    pub fn sets_of<'a>(&'a self, deployment: &str) -> impl Iterator<Item = &'a Arc<ReplicaSet>> {
        let sets = self.replica_sets.values();
        sets.filter(move |set| controller(&set.metadata) == Some(deployment))
    }

    /// The active pods of a replica set.
    pub fn active_of<'a>(&'a self, set: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        let pods = self.pods.values();
        pods.filter(move |pod| controller(&pod.metadata) == Some(set) && is_active(pod))
    }

    /// The UID of the deployment of the replica set with this UID.
    pub fn deployment_of(&self, set: &str) -> Option<&str> {
        let set = self
            .replica_sets
            .values()
            .find(|known| uid(&known.metadata) == set);
        controller(&set?.metadata)
    }

    /// Whether the node that a pod runs on is gone, or drives pods away.
    pub fn is_driven_away(&self, pod: &Pod) -> bool {
        let Some(name) = node_of(pod) else {
            return false;
        };
        let node = self.nodes.get(&format!("minions/{name}"));
        node.is_none_or(|node| {
            let taints = node
                .spec
                .iter()
                .flat_map(|spec| spec.taints.iter().flatten());
            taints.into_iter().any(|taint| taint.effect == "NoExecute")
        })
    }
}

fn put<K: DeserializeOwned>(
    kind: &mut Kind<K>,
    key: &str,
    object: &Option<Value>,
) -> Option<Step<K>> {
    let old = kind.remove(key);
    let new = object.as_ref().map(|object| {
        let object = K::deserialize(object);
        Arc::new(
            object.unwrap_or_else(|error| panic!("{key} is stored as something else: {error}")),
        )
    });
    if let Some(new) = &new {
        kind.insert(key.to_owned(), new.clone());
    }
    (old.is_some() || new.is_some()).then_some(Step { old, new })
}

/// An object's UID.
pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// An object's name.
pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The owner that controls an object.
pub fn owner(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = meta.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Its UID.
pub fn controller(meta: &ObjectMeta) -> Option<&str> {
    owner(meta).map(|owner| owner.uid.as_str())
}

/// Where a pod runs.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref();
    node.filter(|node| !node.is_empty())
}

/// A pod's phase.
pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a pod has ended.
pub fn has_ended(pod: &Pod) -> bool {
    ["Succeeded", "Failed"].contains(&phase(pod))
}

/// Whether a pod counts.
pub fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    says(pod, "Ready")
}

/// Whether somebody evicts a pod, and says so before deleting it.
pub fn is_evicted(pod: &Pod) -> bool {
    says(pod, "DisruptionTarget")
}

fn says(pod: &Pod, what: &str) -> bool {
    let status = pod.status.as_ref();
    let mut conditions = status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == what && condition.status == "True")
}

/// Whether a pod counts as available; nobody here asks for a time that it must have been ready for.
pub fn is_available(pod: &Pod) -> bool {
    is_active(pod) && is_ready(pod)
}

/// A pod's address.
pub fn address(pod: &Pod) -> Option<&str> {
    let address = pod.status.as_ref()?.pod_ip.as_deref();
    address.filter(|address| !address.is_empty())
}
