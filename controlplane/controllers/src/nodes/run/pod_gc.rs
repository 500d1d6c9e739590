//! The loop around pods that nobody takes away: looking every few seconds.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::core::v1::{Node, Pod};
use keelson_component::error::{describe, is_conflict, is_not_found};
use keelson_component::{Store, finish};
use kube::{Api, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::pod_gc;
use super::deletion::delete_with_reason;
use crate::common::pods::node_name;
use crate::context::{Context, IN_FLIGHT_MAX, delete_this, elapsed};
use crate::informers::Informers;

/// The controller that takes away pods whom nobody else will.
pub struct PodGc {
    context: Context,
    settings: pod_gc::Settings,
    period: Duration,
    nodes: Store<Node>,
    pods: Store<Pod>,
}

impl PodGc {
    /// Listens to the informers, and looks every `period`.
    pub fn new(
        context: Context,
        informers: &mut Informers,
        settings: pod_gc::Settings,
        period: Duration,
    ) -> Self {
        PodGc {
            context,
            settings,
            period,
            nodes: informers.nodes().store(),
            pods: informers.pods().store(),
        }
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, stop: CancellationToken) {
        let mut quarantine = pod_gc::Quarantine::default();
        let mut ticks = tokio::time::interval(self.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            finish(&stop, self.look(&mut quarantine)).await;
        }
    }

    async fn look(&self, quarantine: &mut pod_gc::Quarantine) {
        let nodes = self.nodes.all();
        let nodes = nodes.iter().map(|node| node.name_any()).collect();
        let actions = quarantine.look(&self.pods.all(), &nodes, &self.settings, elapsed());
        let acts = actions.into_iter().map(|action| self.act(action));
        let mut results = stream::iter(acts).buffer_unordered(IN_FLIGHT_MAX);
        while let Some(result) = results.next().await {
            if let Err(error) = result {
                warn!("will look again: {}", describe(&error));
            }
        }
    }

    async fn act(&self, action: pod_gc::Action) -> anyhow::Result<()> {
        match action {
            pod_gc::Action::DeleteOrphan(pod) => {
                let api = Api::<Node>::all(self.context.connect.client.clone());
                let name = node_name(&pod).unwrap_or_default();
                // Live: a node that has just come is not in the store yet.
                if api.get_metadata_opt(name).await?.is_some() {
                    return Ok(());
                }
                info!(pod = pod.name_any(), node = name, "its node is gone");
                let reason = ("DeletionByPodGC", "PodGC: node no longer exists");
                delete_with_reason(&self.context, &pod, reason, Some(0)).await?;
            }
            pod_gc::Action::DeleteUnscheduled(pod) => self.delete(&pod).await?,
            pod_gc::Action::DeleteEnded(pod) => self.delete(&pod).await?,
        }
        Ok(())
    }

    async fn delete(&self, pod: &Pod) -> kube::Result<()> {
        let api = self
            .context
            .api::<Pod>(&pod.namespace().unwrap_or_default());
        match api
            .delete(&pod.name_any(), &delete_this(pod).grace_period(0))
            .await
        {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            result => result.map(drop),
        }
    }
}
