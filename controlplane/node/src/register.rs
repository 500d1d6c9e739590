//! A node in the API: the object that says what it is, and the Lease that says that it lives.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use keelson_component::Connect;
use keelson_component::error::{is_already_exists, is_not_found};
use kube::Api;
use kube::api::Patch;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::addresses::Range;

/// Where the nodes' Leases are.
const LEASES: &str = "kube-node-lease";
/// How long a Lease holds, and how often it is renewed: the kubelet's figures.
const LEASE_DURATION_S: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often the status is told again when nothing has changed.
const STATUS_EVERY: Duration = Duration::from_secs(5 * 60);
/// The pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What a node is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: String,
    /// The addresses of its pods, if they are not for others to decide.
    pub pod_range: Option<Range>,
    /// What it has, by resource.
    pub capacity: BTreeMap<String, String>,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// What it runs pods on.
    pub runtime: String,
    /// The version of Kubernetes that it speaks.
    pub version: String,
}

impl NodeConfig {
    fn object(&self, now: Timestamp) -> serde_json::Value {
        let (os, arch) = ("linux", go_arch());
        let mut labels = BTreeMap::from([
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", os),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", os),
            ("beta.kubernetes.io/arch", arch),
        ]);
        for (key, value) in &self.labels {
            labels.insert(key, value);
        }
        let range = self.pod_range.map(|range| range.to_string());
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {},
            "status": self.status(&[], now),
        });
        if let Some(range) = range {
            object["spec"] = json!({"podCIDR": range, "podCIDRs": [range]});
        }
        object
    }

    fn status(&self, before: &[NodeCondition], now: Timestamp) -> serde_json::Value {
        let (os, arch) = ("linux", go_arch());
        let condition = |kind: &str, is: &str, reason: &str, message: &str| NodeCondition {
            type_: kind.to_owned(),
            status: is.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: before
                .iter()
                .find(|was| was.type_ == kind && was.status == is)
                .and_then(|was| was.last_transition_time.clone())
                .or(Some(Time(now))),
        };
        let has_enough = |what: &str| format!("kubelet has sufficient {what} available");
        let conditions = [
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                &has_enough("memory"),
            ),
            condition(
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                &has_enough("PID"),
            ),
            condition(
                "Ready",
                "True",
                "KubeletReady",
                "kubelet is posting ready status",
            ),
        ];
        json!({
            "capacity": self.capacity,
            "allocatable": self.capacity,
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": {
                "architecture": arch,
                "bootID": "",
                "containerRuntimeVersion": self.runtime,
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": self.version,
                "machineID": "",
                "operatingSystem": os,
                "osImage": "Keelson hollow node",
                "systemUUID": "",
            },
        })
    }
}

/// The processor, as Go calls it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the node known, or known again. Gives it as it is then. Tries for ever.
pub async fn register(connect: &Connect, config: &NodeConfig) -> Node {
    loop {
        match try_to_register(connect, config).await {
            Ok(node) => return node,
            Err(error) => {
                tracing::warn!(
                    node = config.name,
                    "cannot register the node; trying again: {error:#}"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn try_to_register(connect: &Connect, config: &NodeConfig) -> anyhow::Result<Node> {
    let api: Api<Node> = Api::all(connect.client.clone());
    let object = serde_json::from_value(config.object(Timestamp::now()))
        .context("a node of our own making")?;
    match api.create(&connect.post(), &object).await {
        Ok(node) => Ok(node),
        Err(error) if is_already_exists(&error) => tell_status(connect, config).await,
        Err(error) => Err(error.into()),
    }
}

async fn tell_status(connect: &Connect, config: &NodeConfig) -> anyhow::Result<Node> {
    let api: Api<Node> = Api::all(connect.client.clone());
    let node = api.get(&config.name).await?;
    let before = node
        .status
        .and_then(|status| status.conditions)
        .unwrap_or_default();
    let patch = json!({"status": config.status(&before, Timestamp::now())});
    let patched = api
        .patch_status(&config.name, &connect.patch(), &Patch::Strategic(patch))
        .await?;
    Ok(patched)
}

/// Renews the node's Lease, and tells its status again now and then, until it is dropped.
pub async fn heartbeat(
    connect: &Connect,
    config: &NodeConfig,
    node: &Node,
    stop: CancellationToken,
) {
    let owner = node.metadata.uid.clone().unwrap_or_default();
    let renewing = async {
        loop {
            match renew(connect, &config.name, &owner).await {
                Ok(()) => tokio::time::sleep(RENEW_EVERY).await,
                Err(error) => {
                    tracing::warn!(node = config.name, "cannot renew the node's Lease: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    let telling = async {
        loop {
            tokio::time::sleep(STATUS_EVERY).await;
            if let Err(error) = tell_status(connect, config).await {
                tracing::warn!(
                    node = config.name,
                    "cannot tell the node's status: {error:#}"
                );
            }
        }
    };
    stop.run_until_cancelled(async { tokio::join!(renewing, telling) })
        .await;
}

async fn renew(connect: &Connect, name: &str, owner: &str) -> kube::Result<()> {
    let api: Api<Lease> = Api::namespaced(connect.client.clone(), LEASES);
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::now());
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_DURATION_S, "renewTime": now}});
    let patched = api
        .patch(name, &connect.patch(), &Patch::Merge(&patch))
        .await;
    match patched {
        Err(error) if is_not_found(&error) => {}
        other => return other.map(|_| ()),
    }
    let lease = json!({
        "metadata": {"name": name, "ownerReferences": [
            // So that it goes when the node does.
            {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner},
        ]},
        "spec": patch["spec"],
    });
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    api.create(&connect.post(), &lease).await.map(|_| ())
}
