//! The loop that looks at all nodes every few seconds.

mod deletion;
mod evictions;
mod pod_gc;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{describe, is_conflict, is_not_found};
use keelson_component::{EventType, Store, finish};
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::lifecycle::{Action, Lifecycle, Settings};
use super::taints;
use crate::common::pods::is_ready;
use crate::context::{Context, IN_FLIGHT_MAX, elapsed, status_patch};
use crate::informers::{BY_NODE, Informers};

pub use evictions::Evictions;
pub use pod_gc::PodGc;

const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The controller that judges and taints nodes.
pub struct Nodes {
    context: Context,
    settings: Settings,
    period: Duration,
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
}

impl Nodes {
    /// Listens to the informers, and looks every `period`.
    pub fn new(
        context: Context,
        informers: &mut Informers,
        settings: Settings,
        period: Duration,
    ) -> Self {
        Nodes {
            context,
            settings,
            period,
            nodes: informers.nodes().store(),
            leases: informers.leases().store(),
            pods: informers.pods().store(),
        }
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, stop: CancellationToken) {
        let mut lifecycle = Lifecycle::default();
        let mut ticks = tokio::time::interval(self.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            finish(&stop, self.look(&mut lifecycle)).await;
        }
    }

    async fn look(&self, lifecycle: &mut Lifecycle) {
        let leases = self.leases.in_namespace(LEASE_NAMESPACE);
        let leases: HashMap<_, _> = leases
            .into_iter()
            .map(|lease| (lease.name_any(), lease))
            .collect();
        let (now, wall) = (elapsed(), Timestamp::now());
        let actions = lifecycle.look(&self.nodes.all(), &leases, &self.settings, now, wall);
        let acts = actions.into_iter().map(|action| async {
            let marking = match &action {
                Action::MarkPodsNotReady(node) => Some(node.name_any()),
                _ => None,
            };
            (marking, self.act(action).await)
        });
        let mut results = stream::iter(acts).buffer_unordered(IN_FLIGHT_MAX);
        while let Some((marking, result)) = results.next().await {
            // The next look decides again.
            if let Err(error) = result {
                debug!("will look again: {}", describe(&error));
                marking.iter().for_each(|name| lifecycle.not_marked(name));
            }
        }
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.context.connect.client.clone())
    }

    async fn act(&self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::SetStatus(node, status) => self.set_status(&node, &status).await,
            Action::SetTaints(node, taints) => self.set_taints(&node, &taints).await,
            Action::MarkPodsNotReady(node) => self.mark_pods(&node).await,
            Action::TellRegistered(node) => {
                let name = node.name_any();
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                self.tell(&node, "RegisteredNode", message);
                Ok(())
            }
            Action::TellRemoved(node) => {
                let name = node.name_any();
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.tell(&node, "RemovingNode", message);
                Ok(())
            }
        }
    }

    fn tell(&self, node: &Node, reason: &str, message: String) {
        self.context.tell(node, EventType::Normal, reason, message);
    }

    async fn set_status(&self, node: &Node, status: &NodeStatus) -> anyhow::Result<()> {
        let name = node.name_any();
        info!(node = name, "nothing is heard of it");
        if let Some(patch) = status_patch(node.resource_version(), &node.status, status) {
            let (params, patch) = (self.context.connect.patch(), Patch::Merge(patch));
            self.api()
                .patch_status(&name, &params, &patch)
                .await
                .context("writing a status")?;
        }
        if taints::condition(node, "Ready") == Some("True") {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.tell(node, "NodeNotReady", message);
        }
        Ok(())
    }

    async fn set_taints(&self, node: &Node, taints: &[Taint]) -> anyhow::Result<()> {
        let name = node.name_any();
        // The store may have the version before our own status: what counts are the taints. Others put some on too: only
        // from what is there now may the new ones be made.
        let live = self.api().get(&name).await?;
        if taints::taints(&live) != taints::taints(node) || live.uid() != node.uid() {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": live.uid(), "resourceVersion": live.resource_version()},
            "spec": {"taints": taints},
        });
        let (params, patch) = (self.context.connect.patch(), Patch::Merge(patch));
        let result = self.api().patch(&name, &params, &patch).await;
        result.map(drop).context("writing taints")
    }

    /// Marks all that can be marked; says whether any could not.
    async fn mark_pods(&self, node: &Node) -> anyhow::Result<()> {
        let mut failed = Ok(());
        for pod in self.pods.indexed(BY_NODE, &node.name_any()) {
            if is_ready(&pod) {
                failed = failed.and(self.mark_not_ready(&pod).await);
            }
        }
        failed
    }

    async fn mark_not_ready(&self, pod: &Pod) -> anyhow::Result<()> {
        let now = Time(Timestamp::now());
        let patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]},
        });
        let api = self
            .context
            .api::<Pod>(&pod.namespace().unwrap_or_default());
        let (name, params) = (pod.name_any(), self.context.connect.patch());
        match api
            .patch_status(&name, &params, &Patch::Strategic(patch))
            .await
        {
            Ok(_) => {
                let message = "Node is not ready".to_owned();
                self.context
                    .tell(pod, EventType::Warning, "NodeNotReady", message);
                Ok(())
            }
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            Err(error) => Err(error).context("marking a pod as not ready"),
        }
    }
}
