//! What is always there: the system's namespaces, and the `kubernetes` service with its endpoints.
//!
//! Looked after as long as the server runs, since anybody may delete them. The endpoints are all API servers that said
//! lately that they are there, so that several do not undo what the others wrote.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admission::SYSTEM_NAMESPACES;
use crate::cache::{Scope, Within};
use crate::resources::{self, Resource};
use crate::rest::{Api, Author, DeleteOptions, FieldValidation, WriteOptions};
use crate::status::ApiResult;
use crate::storage::MasterLease;
use crate::value;

const NAMESPACE: &str = "default";
const SERVICE: &str = "kubernetes";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long the server waits for the store when it stops.
const LEAVING_MAX: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Keeps everything there until `stop`, and then takes this server out of the endpoints.
pub async fn keep(api: Arc<Api>, advertised: SocketAddr, stop: CancellationToken) {
    let mut lease = MasterLease::new(api.store.clone(), advertised);
    let work = async {
        api.caches
            .wait_until(|| api.caches.of(resources::namespaces()).is_filled())
            .await;
        loop {
            let pause = match look(&api, advertised, &mut lease).await {
                Ok(()) => EVERY,
                Err(error) => {
                    warn!(%error, "what is always there is not there yet");
                    AFTER_FAILURE
                }
            };
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
    let left = tokio::time::timeout(LEAVING_MAX, leave(&api, &mut lease)).await;
    if !matches!(left, Ok(Ok(()))) {
        warn!(
            "this server is still among the endpoints; another takes it out within half a minute"
        );
    }
}

async fn look(api: &Api, advertised: SocketAddr, lease: &mut MasterLease) -> ApiResult<()> {
    // First: whatever cannot be made below, others are to know that this server serves.
    let servers = lease.renew().await?;
    for name in SYSTEM_NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(api, resources::namespaces(), namespace).await?;
    }
    let ip = api.options.cluster_ips.first().to_string();
    let service = ensure(api, resources::services(), service(&ip, advertised)).await;
    tell(api, &servers).await?;
    service
}

async fn leave(api: &Api, lease: &mut MasterLease) -> ApiResult<()> {
    match lease.leave().await? {
        // Nobody is left who could serve anyone.
        none if none.is_empty() => Ok(()),
        others => tell(api, &others).await,
    }
}

/// Makes these servers the endpoints.
async fn tell(api: &Api, servers: &[SocketAddr]) -> ApiResult<()> {
    replace(
        api,
        resources::endpoints(),
        endpoints_of(servers),
        &["subsets"],
    )
    .await?;
    let slices = slices_of(servers);
    for slice in &slices {
        for part in ["endpoints", "ports"] {
            replace(api, resources::endpoint_slices(), slice.clone(), &[part]).await?;
        }
    }
    for name in obsolete_slices(api, &slices) {
        let options = DeleteOptions::default();
        let deleted = api
            .delete_object(
                Author::Server,
                resources::endpoint_slices(),
                NAMESPACE,
                &name,
                &options,
            )
            .await;
        match deleted {
            Err(error) if error.reason() != "NotFound" => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn options() -> WriteOptions {
    WriteOptions {
        dry_run: false,
        manager: "kube-apiserver".to_owned(),
        validation: FieldValidation::Ignore,
    }
}

/// Makes an object if it is not there.
async fn ensure(api: &Api, resource: &'static Resource, object: Value) -> ApiResult<()> {
    let key = resource.cache_key(value::namespace(&object), value::name(&object));
    if api.caches.of(resource).get(&key).is_some() {
        return Ok(());
    }
    match api.create_object(resource, object, &options(), None).await {
        Err(error) if error.reason() != "AlreadyExists" => Err(error),
        _ => Ok(()),
    }
}

/// Makes an object, or brings one part of it up to date.
async fn replace(
    api: &Api,
    resource: &'static Resource,
    desired: Value,
    part: &[&str],
) -> ApiResult<()> {
    ensure(api, resource, desired.clone()).await?;
    let name = value::name(&desired);
    let key = resource.cache_key(NAMESPACE, name);
    let cached = api.caches.of(resource).get(&key);
    let is_right = |object: &Value| value::same(value::at(object, part), value::at(&desired, part));
    if cached.is_none_or(|entry| is_right(&entry.object())) {
        return Ok(());
    }
    api.set_part(
        resource,
        NAMESPACE,
        name,
        part,
        value::at(&desired, part),
        &options(),
    )
    .await
}

fn service(ip: &str, advertised: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertised.port()}],
        },
    })
}

/// The addresses by their port, and by their family.
fn by_port(servers: &[SocketAddr]) -> BTreeMap<(u16, bool), Vec<String>> {
    let mut groups: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for server in servers {
        let group = groups.entry((server.port(), server.is_ipv6())).or_default();
        group.push(server.ip().to_string());
    }
    groups
}

fn endpoints_of(servers: &[SocketAddr]) -> Value {
    let subset = |((port, _), ips): ((u16, bool), Vec<String>)| {
        let addresses: Vec<Value> = ips.into_iter().map(|ip| json!({"ip": ip})).collect();
        let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        json!({"addresses": addresses, "ports": ports})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            // The slices are made here too, and not by who mirrors Endpoints.
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": by_port(servers).into_iter().map(subset).collect::<Vec<Value>>(),
    })
}

/// A slice has one set of ports and one family, so there is one for each; all but the first bear the port in their name.
fn slices_of(servers: &[SocketAddr]) -> Vec<Value> {
    let slice = |(number, ((port, is_ipv6), ips)): (usize, ((u16, bool), Vec<String>))| {
        let family = if is_ipv6 { "IPv6" } else { "IPv4" };
        let name = match number {
            0 => SERVICE.to_owned(),
            _ => format!("{SERVICE}-{}-{port}", family.to_lowercase()),
        };
        let endpoint = |ip| json!({"addresses": [ip], "conditions": {"ready": true}});
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "labels": {SERVICE_NAME: SERVICE},
            },
            "addressType": family,
            "endpoints": ips.into_iter().map(endpoint).collect::<Vec<Value>>(),
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        })
    };
    by_port(servers)
        .into_iter()
        .enumerate()
        .map(slice)
        .collect()
}

/// Slices of servers that are gone.
fn obsolete_slices(api: &Api, desired: &[Value]) -> Vec<String> {
    let slices = resources::endpoint_slices();
    let scope = Scope {
        within: Within::Namespace(NAMESPACE.to_owned()),
        ..Scope::default()
    };
    let is_ours = |name: &str| {
        ["ipv4", "ipv6"]
            .iter()
            .any(|family| name.starts_with(&format!("{SERVICE}-{family}-")))
    };
    let snapshot = api.caches.of(slices).snapshot();
    snapshot
        .select(&scope, None)
        .filter(|slice| slice.label(SERVICE_NAME) == Some(SERVICE) && is_ours(slice.name()))
        .map(|slice| slice.name().to_owned())
        .filter(|name| desired.iter().all(|slice| value::name(slice) != name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn servers_of_one_port_share_a_subset_and_a_slice() {
        let servers = servers(&["10.0.0.1:6443", "10.0.0.2:6443"]);
        let subsets = json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}]);
        assert_eq!(endpoints_of(&servers)["subsets"], subsets);
        let slices = slices_of(&servers);
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0]["metadata"]["name"], "kubernetes");
        assert_eq!(value::list_at(&slices[0], &["endpoints"]).len(), 2);
    }

    #[test]
    fn servers_of_another_port_or_family_have_their_own() {
        let slices = slices_of(&servers(&[
            "10.0.0.1:6443",
            "10.0.0.1:6444",
            "[fd00::1]:6443",
        ]));
        let named: Vec<&str> = slices.iter().map(value::name).collect();
        assert_eq!(
            named,
            ["kubernetes", "kubernetes-ipv6-6443", "kubernetes-ipv4-6444"]
        );
        assert_eq!(slices[1]["addressType"], "IPv6");
    }
}
