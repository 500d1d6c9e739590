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
use kube::api::{GetParams, Patch};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::addresses::Range;

/// Where the nodes' Leases are.
const LEASES: &str = "kube-node-lease";
/// How often a Lease is renewed while it holds: as the kubelet does.
const RENEWALS: u32 = 4;
/// How often the status is told again when nothing has changed.
const STATUS_EVERY: Duration = Duration::from_secs(5 * 60);
/// The least share of a pause that is slept: the nodes of one process should not all speak at once.
const PAUSE_MIN: f64 = 0.75;
/// The first pause before what failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(500);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(4);

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
    /// How long its Lease holds.
    pub lease_duration_s: u16,
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

    /// What it says of itself. What has not changed keeps the time of its change.
    fn conditions(before: &[NodeCondition], now: Timestamp) -> [NodeCondition; 4] {
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
        [
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
        ]
    }

    fn status(&self, before: &[NodeCondition], now: Timestamp) -> serde_json::Value {
        let (os, arch) = ("linux", go_arch());
        json!({
            "capacity": self.capacity,
            "allocatable": self.capacity,
            "conditions": NodeConfig::conditions(before, now),
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
    let mut pause = RETRY_MIN;
    loop {
        match try_to_register(connect, config).await {
            Ok(node) => return node,
            Err(error) => {
                tracing::warn!(
                    node = config.name,
                    "cannot register the node; trying again: {error:#}"
                );
                retry(&mut pause).await;
            }
        }
    }
}

/// Waits before another attempt, the longer the more have failed. Not all nodes of a process at the same time.
async fn retry(pause: &mut Duration) {
    tokio::time::sleep(pause.mul_f64(rand::random_range(PAUSE_MIN..=1.0))).await;
    *pause = (*pause * 2).min(RETRY_MAX);
}

async fn try_to_register(connect: &Connect, config: &NodeConfig) -> anyhow::Result<Node> {
    let api: Api<Node> = Api::all(connect.client.clone());
    let object = serde_json::from_value(config.object(Timestamp::now()))
        .context("a node of our own making")?;
    match api.create(&connect.post(), &object).await {
        Ok(node) => Ok(node),
        Err(error) if is_already_exists(&error) => {
            let node = api.get(&config.name).await?;
            tell_status(connect, config, &node).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn tell_status(connect: &Connect, config: &NodeConfig, node: &Node) -> anyhow::Result<Node> {
    let api: Api<Node> = Api::all(connect.client.clone());
    let patch = json!({"status": config.status(conditions(node), Timestamp::now())});
    let patched = api
        .patch_status(&config.name, &connect.patch(), &Patch::Strategic(patch))
        .await?;
    Ok(patched)
}

fn conditions(node: &Node) -> &[NodeCondition] {
    let status = node.status.as_ref();
    status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

/// Renews the node's Lease, and sees to it that the node is there and says that it is well, until `stop`.
pub async fn heartbeat(
    connect: &Connect,
    config: &NodeConfig,
    node: &Node,
    stop: CancellationToken,
) {
    let mut owner = node.metadata.uid.clone().unwrap_or_default();
    let mut told = Instant::now();
    let beating = async {
        let mut pause = RETRY_MIN;
        loop {
            let renewed = renew(connect, config, &owner).await;
            let looked = look_after(connect, config, &mut owner, &mut told).await;
            let beat = renewed.map_err(anyhow::Error::from).and(looked);
            match beat {
                Ok(()) => {
                    pause = RETRY_MIN;
                    let share = rand::random_range(PAUSE_MIN..=1.0);
                    let held = Duration::from_secs(config.lease_duration_s.into());
                    tokio::time::sleep((held / RENEWALS).mul_f64(share)).await;
                }
                Err(error) => {
                    tracing::warn!(
                        node = config.name,
                        "cannot tell that the node lives: {error:#}"
                    );
                    retry(&mut pause).await;
                }
            }
        }
    };
    stop.run_until_cancelled(beating).await;
}

/// Registers the node again if somebody deleted it, and tells its status where others wrote something else, as they do
/// when they have not heard of it for long, or where it was not told for long.
async fn look_after(
    connect: &Connect,
    config: &NodeConfig,
    owner: &mut String,
    told: &mut Instant,
) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(connect.client.clone());
    let Some(node) = read(&api, &config.name).await? else {
        let node = try_to_register(connect, config).await?;
        *owner = node.metadata.uid.unwrap_or_default();
        *told = Instant::now();
        return Ok(());
    };
    *owner = node.metadata.uid.clone().unwrap_or_default();
    if !says_that_it_is_well(&node) || told.elapsed() >= STATUS_EVERY {
        tell_status(connect, config, &node).await?;
        *told = Instant::now();
    }
    Ok(())
}

/// The node as the API server has it in its cache: thousands ask for theirs every few seconds, and what is written since is
/// seen the next time. That it is not there at all is not believed of a cache.
async fn read(api: &Api<Node>, name: &str) -> kube::Result<Option<Node>> {
    match api.get_with(name, &GetParams::at("0")).await {
        Err(error) if is_not_found(&error) => api.get_opt(name).await,
        node => node.map(Some),
    }
}

/// Whether the node's conditions are those that we tell.
fn says_that_it_is_well(node: &Node) -> bool {
    let said = conditions(node);
    NodeConfig::conditions(&[], Timestamp::UNIX_EPOCH)
        .iter()
        .all(|ours| {
            said.iter().any(|said| {
                (&said.type_, &said.status, &said.reason)
                    == (&ours.type_, &ours.status, &ours.reason)
            })
        })
}

async fn renew(connect: &Connect, config: &NodeConfig, owner: &str) -> kube::Result<()> {
    let name = config.name.as_str();
    let api: Api<Lease> = Api::namespaced(connect.client.clone(), LEASES);
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(Timestamp::now());
    let patch = json!({
        "metadata": {"ownerReferences": [
            // So that it goes when the node does.
            {"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner},
        ]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": config.lease_duration_s, "renewTime": now},
    });
    let patched = api
        .patch(name, &connect.patch(), &Patch::Merge(&patch))
        .await;
    match patched {
        Err(error) if is_not_found(&error) => {}
        other => return other.map(|_| ()),
    }
    let mut lease = patch;
    lease["metadata"]["name"] = name.into();
    let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
    api.create(&connect.post(), &lease).await.map(|_| ())
}

#[cfg(test)]
mod tests;
