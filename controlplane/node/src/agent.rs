//! The loop around the pure part: it sees pods, asks [`pod::next`](crate::pod::next) what to do, does it, and tells.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{is_conflict, is_not_found};
use keelson_component::{Connect, EventType, Key, Outcome, Queue, Recorder, Store, reference};
use kube::Api;
use kube::api::{DeleteParams, Patch, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use crate::addresses::Addresses;
use crate::patch::status_changes;
use crate::pod::{Do, Phase, next};
use crate::runtime::Runtime;

/// How many things may be done for a pod before others get their turn.
const ROUNDS_MAX: usize = 32;

/// A node that is ours.
pub struct OwnNode {
    /// Its own address.
    pub address: String,
    /// Its pods' addresses.
    pub addresses: Mutex<Addresses>,
}

/// A pod that was begun here.
struct Begun {
    uid: String,
    node: String,
}

/// Runs the pods of some nodes.
pub struct Agent<R> {
    pub connect: Connect,
    pub runtime: R,
    pub nodes: HashMap<String, OwnNode>,
    pub pods: Store<Pod>,
    pub queue: Queue<Key>,
    pub recorder: Recorder,
    begun: Mutex<HashMap<Key, Begun>>,
}

impl<R: Runtime> Agent<R> {
    pub fn new(
        connect: Connect,
        runtime: R,
        nodes: HashMap<String, OwnNode>,
        pods: Store<Pod>,
        queue: Queue<Key>,
        recorder: Recorder,
    ) -> Agent<R> {
        Agent {
            connect,
            runtime,
            nodes,
            pods,
            queue,
            recorder,
            begun: Mutex::default(),
        }
    }

    /// Takes note of the addresses that pods had in the life of an agent before this one, before any is given away.
    /// Pods that have ended need theirs no more.
    pub fn take_up_addresses(&self) {
        for pod in self.pods.all() {
            let is_over = pod.status.as_ref().is_some_and(is_over);
            let Some((node, had)) = self.node_of(&pod).zip(address_of(&pod)) else {
                continue;
            };
            if is_over {
                continue;
            }
            let key = Key::of(&*pod);
            match node.addresses.lock().take(&uid_of(&pod), Some(had)) {
                Ok(_) => self.note_begun(key, &pod),
                // It is tried again, and told of, when the pod's turn comes.
                Err(error) => tracing::warn!(pod = %key, "cannot take up its address: {error:#}"),
            }
        }
    }

    /// Brings one pod as far as it can be brought now.
    pub async fn reconcile(&self, key: Key) -> anyhow::Result<Outcome> {
        let pod = self.pods.get(&key);
        let pod = pod.filter(|pod| self.node_of(pod).is_some());
        self.clear(&key, pod.as_deref()).await?;
        let Some((pod, node)) = pod
            .as_deref()
            .zip(pod.as_deref().and_then(|pod| self.node_of(pod)))
        else {
            return Ok(Outcome::Done);
        };
        let uid = uid_of(pod);
        for _ in 0..ROUNDS_MAX {
            let now = Timestamp::now();
            let sandbox = self.runtime.look(&uid, now).await;
            let next = next(pod, sandbox.as_ref(), &node.address, now);
            match next.action {
                Do::Nothing => {
                    self.tell(pod, &next.status).await?;
                    if is_over(&next.status) {
                        // Whoever has ended may stay in the API for days; its address is for others.
                        node.addresses.lock().give_back(&uid);
                    }
                    let wait = next.wake.map(|at| at.duration_since(now).unsigned_abs());
                    return Ok(wait.into());
                }
                Do::Prepare => self.prepare(&key, pod, node, now).await?,
                Do::Start(names) => {
                    for name in names {
                        self.runtime.start(&uid, &name, now).await?;
                        self.tell_started(pod, &name);
                    }
                }
                Do::Stop(grace) => {
                    self.tell_stopping(pod);
                    self.runtime.stop(&uid, grace, now).await?;
                }
                Do::Finish => {
                    if sandbox.is_some() {
                        self.tell(pod, &next.status).await?;
                    }
                    self.runtime.remove(&uid).await?;
                    self.delete(pod).await?;
                    return Ok(Outcome::Done);
                }
            }
        }
        self.queue.add(key);
        Ok(Outcome::Done)
    }

    fn node_of(&self, pod: &Pod) -> Option<&OwnNode> {
        self.nodes.get(pod.spec.as_ref()?.node_name.as_ref()?)
    }

    /// Removes what was begun under this key for a pod that is gone.
    async fn clear(&self, key: &Key, pod: Option<&Pod>) -> anyhow::Result<()> {
        let now = pod.map(uid_of);
        let old = {
            let mut begun = self.begun.lock();
            match begun.get(key) {
                Some(old) if now.as_ref() != Some(&old.uid) => begun.remove(key),
                _ => None,
            }
        };
        if let Some(old) = old {
            self.runtime.remove(&old.uid).await?;
            if let Some(node) = self.nodes.get(&old.node) {
                node.addresses.lock().give_back(&old.uid);
            }
        }
        Ok(())
    }

    async fn prepare(
        &self,
        key: &Key,
        pod: &Pod,
        node: &OwnNode,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        let address = node.addresses.lock().take(&uid_of(pod), address_of(pod))?;
        self.note_begun(key.clone(), pod);
        let prepared = self.runtime.prepare(pod, address, now).await;
        if let Err(error) = &prepared {
            let message = format!("Failed to create pod sandbox: {error:#}");
            self.event(pod, EventType::Warning, "FailedCreatePodSandBox", message);
        }
        prepared
    }

    /// Remembers what is to be removed when the pod is gone.
    fn note_begun(&self, key: Key, pod: &Pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let begun = Begun {
            uid: uid_of(pod),
            node: node.unwrap_or_default(),
        };
        self.begun.lock().insert(key, begun);
    }

    /// Writes a pod's status where it is not what the API has.
    async fn tell(&self, pod: &Pod, status: &PodStatus) -> anyhow::Result<()> {
        let before = serde_json::to_value(pod.status.clone().unwrap_or_default())?;
        let Some(change) = status_changes(&before, &serde_json::to_value(status)?) else {
            return Ok(());
        };
        // The UID keeps it from a namesake. Nobody else writes these fields, so that no version is needed.
        let patch = json!({"metadata": {"uid": uid_of(pod)}, "status": change});
        let told = self
            .api(pod)
            .patch_status(
                &name_of(pod),
                &self.connect.patch(),
                &Patch::Strategic(patch),
            )
            .await;
        match told {
            Err(error) if is_not_found(&error) => Ok(()),
            told => told.map(|_| ()).context("cannot tell the pod's status"),
        }
    }

    /// Deletes the object for good. One that is gone, or a namesake's, is left alone.
    async fn delete(&self, pod: &Pod) -> anyhow::Result<()> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api(pod).delete(&name_of(pod), &params).await {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            deleted => deleted.map(|_| ()).context("cannot delete the pod"),
        }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.connect.client.clone(), namespace)
    }

    fn tell_started(&self, pod: &Pod, container: &str) {
        let spec = pod.spec.iter();
        let mut all = spec.flat_map(|spec| {
            spec.init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
        });
        let found = all.find(|each| each.name == container);
        let image = found
            .and_then(|found| found.image.as_deref())
            .unwrap_or_default();
        let pulled = format!("Container image \"{image}\" already present on machine");
        self.event(pod, EventType::Normal, "Pulled", pulled);
        self.event(
            pod,
            EventType::Normal,
            "Created",
            format!("Created container: {container}"),
        );
        self.event(
            pod,
            EventType::Normal,
            "Started",
            format!("Started container {container}"),
        );
    }

    fn tell_stopping(&self, pod: &Pod) {
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            let message = format!("Stopping container {}", container.name);
            self.event(pod, EventType::Normal, "Killing", message);
        }
    }

    fn event(&self, pod: &Pod, kind: EventType, reason: &str, message: String) {
        self.recorder.record(reference(pod), kind, reason, message);
    }
}

/// What hears of a pod: its key, if it is on one of these nodes.
pub fn concerns(nodes: &Arc<std::collections::HashSet<String>>, pod: &Pod) -> Option<Key> {
    let node = pod.spec.as_ref()?.node_name.as_ref()?;
    nodes.contains(node).then(|| Key::of(pod))
}

fn uid_of(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn is_over(status: &PodStatus) -> bool {
    let phase = status.phase.as_deref();
    [Phase::Succeeded, Phase::Failed]
        .iter()
        .any(|over| phase == Some(over.name()))
}

fn address_of(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests;
