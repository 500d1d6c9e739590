//! The loops around nodes: looking every few seconds, and evicting when it is time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{describe, is_conflict, is_not_found};
use keelson_component::{Change, EventType, Key, Outcome, Queue, Store, finish, work};
use kube::api::{DeleteParams, Patch};
use kube::{Api, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::eviction::{Leave, leave};
use super::lifecycle::{Action, Lifecycle, Settings};
use super::pod_gc;
use super::taints::{self, NO_EXECUTE};
use crate::common::meta::is_deleted;
use crate::common::pods::{condition, is_ready, node_name};
use crate::context::{Context, IN_FLIGHT_MAX, delete_this, elapsed, status_patch};
use crate::informers::{BY_NODE, Informers};

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
        let params = self.context.connect.patch();
        match action {
            Action::SetStatus(node, status) => {
                let name = node.name_any();
                info!(node = name, "nothing is heard of it");
                if let Some(patch) = status_patch(node.resource_version(), &node.status, &*status) {
                    let patch = Patch::Merge(patch);
                    self.api()
                        .patch_status(&name, &params, &patch)
                        .await
                        .context("writing a status")?;
                }
                let message = format!("Node {name} status is now: NodeNotReady");
                self.context
                    .tell(&*node, EventType::Normal, "NodeNotReady", message);
            }
            Action::SetTaints(node, taints) => {
                let patch = json!({
                    // The store may have the version before our own status: what counts are the taints.
                    "metadata": {"uid": node.uid()},
                    "spec": {"taints": taints},
                });
                let name = node.name_any();
                // Others put taints on too: only from what is there now may the new ones be made.
                let live = self.api().get(&name).await?;
                if taints::taints(&live) != taints::taints(&node) || live.uid() != node.uid() {
                    return Ok(());
                }
                let mut patch = patch;
                patch["metadata"]["resourceVersion"] = json!(live.resource_version());
                self.api()
                    .patch(&name, &params, &Patch::Merge(patch))
                    .await
                    .context("writing taints")?;
            }
            Action::MarkPodsNotReady(node) => {
                for pod in self.pods.indexed(BY_NODE, &node.name_any()) {
                    if is_ready(&pod) && !is_deleted(&pod.metadata) {
                        self.mark_not_ready(&pod).await?;
                    }
                }
            }
        }
        Ok(())
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
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            result => result.map(drop).context("marking a pod as not ready"),
        }
    }
}

/// The controller that evicts pods from tainted nodes.
#[derive(Clone)]
pub struct Evictions {
    context: Context,
    queue: Queue<Key>,
    nodes: Store<Node>,
    pods: Store<Pod>,
    /// When taints were first seen that do not say since when they are there.
    seen: Arc<Mutex<HashMap<(String, String), Timestamp>>>,
}

impl Evictions {
    /// Listens to the informers.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let this = Evictions {
            context,
            queue: Queue::default(),
            nodes: informers.nodes().store(),
            pods: informers.pods().store(),
            seen: Arc::default(),
        };
        let queue = this.queue.clone();
        informers.pods().on_change(move |change| {
            if let Change::Applied { old, new } = change {
                // Only where and when it is, and what it tolerates, matter here.
                let spec = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.tolerations.clone());
                let news = old.is_none_or(|old| {
                    node_name(old) != node_name(new)
                        || old.uid() != new.uid()
                        || spec(old) != spec(new)
                });
                if news && node_name(new).is_some() {
                    queue.add(Key::of(&***new));
                }
            }
        });
        let own = this.clone();
        informers.nodes().on_change(move |change| match change {
            Change::Applied { old, new } => {
                let before = old.map(|old| taints::taints(old)).unwrap_or_default();
                if before != taints::taints(new) {
                    own.taints_changed(new);
                }
            }
            Change::Deleted { last } => {
                let name = last.name_any();
                own.seen.lock().retain(|(of, _), _| *of != name);
            }
        });
        this
    }

    fn taints_changed(&self, node: &Node) {
        let name = node.name_any();
        let mut seen = self.seen.lock();
        let keys: Vec<_> = taints::taints(node)
            .iter()
            .map(|taint| taint.key.clone())
            .collect();
        seen.retain(|(of, key), _| *of != name || keys.contains(key));
        for key in keys {
            seen.entry((name.clone(), key))
                .or_insert_with(Timestamp::now);
        }
        drop(seen);
        for pod in self.pods.indexed(BY_NODE, &name) {
            self.queue.add(Key::of(&*pod));
        }
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(pod) = self.pods.get(&key).filter(|pod| !is_deleted(&pod.metadata)) else {
            return Ok(Outcome::Done);
        };
        let Some(node) = node_name(&pod).and_then(|name| self.nodes.get(&Key::new("", name)))
        else {
            return Ok(Outcome::Done);
        };
        let taints = taints::taints(&node);
        if !taints.iter().any(|taint| taint.effect == NO_EXECUTE) {
            return Ok(Outcome::Done);
        }
        let now = Timestamp::now();
        let added = |taint: &Taint| {
            let key = (node.name_any(), taint.key.clone());
            self.seen.lock().get(&key).copied().unwrap_or(now)
        };
        match leave(&pod, taints, added) {
            Leave::Never => Ok(Outcome::Done),
            Leave::At(due) if due > now => {
                let rest = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                Ok(Outcome::After(rest))
            }
            Leave::At(_) => {
                let reason = (
                    "DeletionByTaintManager",
                    "Taint manager: deleting due to NoExecute taint",
                );
                let result = delete_with_reason(&self.context, &pod, reason, None).await;
                result.context("evicting a pod")?;
                let message = format!("Marking for deletion Pod {key}");
                self.context
                    .tell(&*pod, EventType::Normal, "TaintManagerEviction", message);
                Ok(Outcome::Done)
            }
        }
    }
}

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

/// Deletes a pod, having written into it why. Without a grace nobody will say that it has ended: so we do.
async fn delete_with_reason(
    context: &Context,
    pod: &Pod,
    (reason, message): (&str, &str),
    grace: Option<u32>,
) -> kube::Result<()> {
    let api = context.api::<Pod>(&pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let gone = |error: &kube::Error| is_not_found(error) || is_conflict(error);
    let told = condition(pod, "DisruptionTarget").is_some_and(|known| known.status == "True");
    let ended = grace == Some(0) && !crate::common::pods::is_terminal(pod);
    if !told || ended {
        let mut patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": Time(Timestamp::now()),
            }]},
        });
        if ended {
            patch["status"]["phase"] = json!("Failed");
        }
        let params = context.connect.patch();
        match api
            .patch_status(&name, &params, &Patch::Strategic(patch))
            .await
        {
            Err(error) if gone(&error) => return Ok(()),
            result => drop(result?),
        }
    }
    let mut params: DeleteParams = delete_this(pod);
    params.grace_period_seconds = grace;
    match api.delete(&name, &params).await {
        Err(error) if gone(&error) => Ok(()),
        result => result.map(drop),
    }
}
