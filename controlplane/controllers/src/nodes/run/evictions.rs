//! The loop around pods on tainted nodes: each leaves when it is time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use keelson_component::{Change, EventType, Key, Outcome, Queue, Store, work};
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::eviction::{Leave, leave};
use super::super::taints::{self, NO_EXECUTE};
use super::deletion::delete_with_reason;
use crate::common::meta::is_deleted;
use crate::common::pods::node_name;
use crate::context::Context;
use crate::informers::{BY_NODE, Informers};

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
        let own = this.clone();
        informers
            .pods()
            .on_change(move |change| own.pod_changed(change));
        let own = this.clone();
        informers
            .nodes()
            .on_change(move |change| own.node_changed(change));
        this
    }

    fn pod_changed(&self, change: &Change<'_, Pod>) {
        if let Change::Applied { old, new } = change {
            // Only where and when it is, and what it tolerates, matter here.
            let spec = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.tolerations.clone());
            let news = old.is_none_or(|old| {
                node_name(old) != node_name(new) || old.uid() != new.uid() || spec(old) != spec(new)
            });
            if news && node_name(new).is_some() {
                self.queue.add(Key::of(&***new));
            }
        }
    }

    fn node_changed(&self, change: &Change<'_, Node>) {
        match change {
            Change::Applied { old, new } => {
                let before = old.map(|old| taints::taints(old)).unwrap_or_default();
                if before != taints::taints(new) {
                    self.taints_changed(new);
                }
            }
            Change::Deleted { last } => {
                let name = last.name_any();
                self.seen.lock().retain(|(of, _), _| *of != name);
            }
        }
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

#[cfg(test)]
mod tests;
