//! What is always there: the system's namespaces, and the `kubernetes` service with its endpoints.
//!
//! Looked after as long as the server runs, since anybody may delete them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admission::SYSTEM_NAMESPACES;
use crate::resources::{self, Resource};
use crate::rest::{Api, FieldValidation, WriteOptions};
use crate::status::ApiResult;
use crate::value;

const EVERY: Duration = Duration::from_secs(10);
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Keeps everything there until `stop`.
pub async fn keep(api: Arc<Api>, advertised: SocketAddr, stop: CancellationToken) {
    let work = async {
        api.caches
            .wait_until(|| api.caches.of(resources::namespaces()).is_filled())
            .await;
        loop {
            let pause = match look(&api, advertised).await {
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
}

async fn look(api: &Api, advertised: SocketAddr) -> ApiResult<()> {
    for name in SYSTEM_NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(api, resources::namespaces(), "", name, namespace).await?;
    }
    let ip = api.options.cluster_ips.first().to_string();
    ensure(
        api,
        resources::services(),
        "default",
        "kubernetes",
        service(&ip, advertised),
    )
    .await?;
    let endpoints = resources::endpoints();
    replace(api, endpoints, endpoints_of(advertised), &["subsets"]).await?;
    let slices = resources::endpoint_slices();
    replace(api, slices, slice_of(advertised), &["endpoints"]).await?;
    replace(api, slices, slice_of(advertised), &["ports"]).await
}

fn options() -> WriteOptions {
    WriteOptions {
        dry_run: false,
        manager: "kube-apiserver".to_owned(),
        validation: FieldValidation::Ignore,
    }
}

/// Makes an object if it is not there.
async fn ensure(
    api: &Api,
    resource: &'static Resource,
    namespace: &str,
    name: &str,
    object: Value,
) -> ApiResult<()> {
    let key = resource.cache_key(namespace, name);
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
    let (namespace, name) = ("default", "kubernetes");
    ensure(api, resource, namespace, name, desired.clone()).await?;
    let key = resource.cache_key(namespace, name);
    let cached = api.caches.of(resource).get(&key);
    let is_right = |object: &Value| value::same(value::at(object, part), value::at(&desired, part));
    if cached.is_none_or(|entry| is_right(&entry.object())) {
        return Ok(());
    }
    api.set_part(
        resource,
        namespace,
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
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertised.port()}],
        },
    })
}

fn metadata(label: &str) -> Value {
    json!({
        "name": "kubernetes",
        "namespace": "default",
        "labels": {label: match label {
            "kubernetes.io/service-name" => "kubernetes",
            _ => "true",
        }},
    })
}

fn endpoints_of(advertised: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        // The slice is made here too, and not by who mirrors Endpoints.
        "metadata": metadata("endpointslice.kubernetes.io/skip-mirror"),
        "subsets": [{
            "addresses": [{"ip": advertised.ip().to_string()}],
            "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
        }],
    })
}

fn slice_of(advertised: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata("kubernetes.io/service-name"),
        "addressType": if advertised.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertised.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
    })
}
