//! One watch a kind, shared by all controllers of the process. A kind that nobody asks for is not watched.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use keelson_component::Informer;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::common::owner::Owner;
use crate::common::pods;

/// Finds objects by the [`Owner`] who manages them; those whom nobody does by [`orphans_of`] their namespace.
pub const BY_CONTROLLER: &str = "controller";
/// Finds pods by their node.
pub const BY_NODE: &str = "node";
/// Finds endpoint slices by namespace and service.
pub const BY_SERVICE: &str = "service";

/// How the index says that an object belongs to nobody. An [`Owner`] is longer by its kind, name and UID.
pub fn orphans_of(namespace: &str) -> String {
    format!("{namespace}/")
}

fn by_controller<K: Resource>(object: &K) -> Vec<String> {
    let meta = object.meta();
    vec![match Owner::named_by(meta) {
        Some(owner) => owner.as_str().to_owned(),
        None => orphans_of(meta.namespace.as_deref().unwrap_or_default()),
    }]
}

fn by_node(pod: &Pod) -> Vec<String> {
    pods::node_name(pod)
        .map(str::to_owned)
        .into_iter()
        .collect()
}

fn by_service(slice: &EndpointSlice) -> Vec<String> {
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    service
        .map(|name| format!("{namespace}/{name}"))
        .into_iter()
        .collect()
}

struct Shared<K> {
    informer: Informer<K>,
    wanted: bool,
}

impl<K: Resource> Shared<K> {
    fn new(informer: Informer<K>) -> Self {
        let wanted = false;
        Shared { informer, wanted }
    }
}

macro_rules! informers {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $make:expr;)*) => {
        /// The watches that this process may have.
        pub struct Informers {
            $($name: Shared<$kind>,)*
        }

        impl Default for Informers {
            fn default() -> Self {
                Informers { $($name: Shared::new($make),)* }
            }
        }

        impl Informers {
            $($(#[$doc])*
            pub fn $name(&mut self) -> &mut Informer<$kind> {
                self.$name.wanted = true;
                &mut self.$name.informer
            })*

            /// Starts the watches that were asked for. Each of the tokens that are returned is cancelled once its store
            /// is complete.
            pub fn start(
                self,
                client: &Client,
                stop: &CancellationToken,
                tasks: &mut JoinSet<()>,
            ) -> Vec<CancellationToken> {
                let mut synced = Vec::new();
                $(start(self.$name, client, stop, tasks, &mut synced);)*
                synced
            }
        }
    };
}

informers! {
    /// Deployments.
    deployments: Deployment = Informer::default();
    /// Replica sets, by controller.
    replica_sets: ReplicaSet = {
        let informer = Informer::default();
        informer.store().add_index(BY_CONTROLLER, by_controller);
        informer
    };
    /// Pods, without most of their specification; by controller and by node.
    pods: Pod = {
        let informer = Informer::trimmed(pods::trim);
        informer.store().add_index(BY_CONTROLLER, by_controller);
        informer.store().add_index(BY_NODE, by_node);
        informer
    };
    /// Services.
    services: Service = Informer::default();
    /// Endpoints.
    endpoints: Endpoints = Informer::default();
    /// Endpoint slices, by service.
    endpoint_slices: EndpointSlice = {
        let informer = Informer::default();
        informer.store().add_index(BY_SERVICE, by_service);
        informer
    };
    /// Nodes, without the images that they have.
    nodes: Node = Informer::trimmed(|node: &mut Node| {
        if let Some(status) = &mut node.status {
            status.images = None;
        }
    });
    /// Leases, of which those of nodes are looked at. Nearly all are.
    leases: Lease = Informer::default();
    /// Namespaces.
    namespaces: Namespace = Informer::default();
    /// The service accounts that every namespace has.
    default_service_accounts: ServiceAccount = Informer::default().fields("metadata.name=default");
    /// The certificate authorities that every namespace is given.
    root_ca_maps: ConfigMap = Informer::default().fields("metadata.name=kube-root-ca.crt");
}

fn start<K>(
    shared: Shared<K>,
    client: &Client,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
    synced: &mut Vec<CancellationToken>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    if shared.wanted {
        synced.push(shared.informer.synced());
        let api = Api::all(client.clone());
        tasks.spawn(shared.informer.run(api, stop.clone()));
    }
}
