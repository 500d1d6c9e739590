//! The loop around replica sets: what it observes, when, and how it acts.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::is_not_found;
use keelson_component::{Change, Key, Outcome, Queue, Store, work};
use kube::ResourceExt;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::writes::PodWrites;
use super::{Action, Failure, Observed, reconcile, status};
use crate::common::expectations::Expectations;
use crate::common::meta::{Labels, controller_of, is_deleted};
use crate::common::owner::{Owner, is_a};
use crate::context::{Context, elapsed};
use crate::informers::{BY_CONTROLLER, Informers, orphans_of};

/// The controller of replica sets.
#[derive(Clone)]
pub struct ReplicaSets {
    context: Context,
    queue: Queue<Key>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    expectations: Arc<Mutex<Expectations>>,
    writes: PodWrites,
}

impl ReplicaSets {
    /// Listens to the informers.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let writes = PodWrites::new(context.clone());
        let this = ReplicaSets {
            context,
            queue: Queue::default(),
            replica_sets: informers.replica_sets().store(),
            pods: informers.pods().store(),
            expectations: writes.expectations(),
            writes,
        };
        let own = this.clone();
        informers
            .replica_sets()
            .on_change(move |change| own.replica_set_changed(change));
        let own = this.clone();
        informers
            .pods()
            .on_change(move |change| own.pod_changed(change));
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    fn replica_set_changed(&self, change: &Change<'_, ReplicaSet>) {
        match change {
            Change::Applied { new, .. } => self.queue.add(Key::of(&***new)),
            Change::Deleted { last } => self.expectations.lock().forget(&Owner::of(&***last)),
        }
    }

    fn pod_changed(&self, change: &Change<'_, Pod>) {
        match change {
            Change::Deleted { last } => self.pod_gone(last),
            Change::Applied { old, new } => {
                let owner = Owner::named_by(&new.metadata);
                let old_owner = old.and_then(|old| Owner::named_by(&old.metadata));
                if old_owner != owner {
                    self.queue_owner(old.map(|old| &**old));
                }
                if is_deleted(&new.metadata) {
                    return self.pod_gone(new);
                }
                if let Some(owner) = owner {
                    if old.is_none() {
                        self.expectations.lock().saw_creation(&owner);
                    }
                    return self.queue_owner(Some(new));
                }
                let relabelled = old.is_none_or(|old| old.metadata.labels != new.metadata.labels);
                if relabelled || old_owner.is_some() {
                    self.queue_matching(new);
                }
            }
        }
    }

    fn pod_gone(&self, pod: &Pod) {
        if let (Some(owner), Some(uid)) = (Owner::named_by(&pod.metadata), &pod.metadata.uid) {
            self.expectations.lock().saw_deletion(&owner, uid);
        }
        self.queue_owner(Some(pod));
    }

    fn queue_owner(&self, pod: Option<&Pod>) {
        let owner = pod.and_then(|pod| controller_of(&pod.metadata));
        if let (Some(pod), Some(owner)) = (pod, owner)
            && is_a::<ReplicaSet>(owner)
        {
            let namespace = pod.namespace().unwrap_or_default();
            self.queue.add(Key::new(namespace, &*owner.name));
        }
    }

    /// A pod that belongs to nobody: whoever selects it may adopt it.
    fn queue_matching(&self, pod: &Pod) {
        let namespace = pod.namespace().unwrap_or_default();
        for replica_set in self.replica_sets.in_namespace(&namespace) {
            let selects = Labels::new(&replica_set.spec.selector).select(&pod.metadata);
            if selects {
                self.queue.add(Key::of(&*replica_set));
            }
        }
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(replica_set) = self.replica_sets.get(&key) else {
            return Ok(Outcome::Done);
        };
        let owner = Owner::of(&*replica_set);
        self.writes.settle_doubts(&replica_set).await?;
        let (mut pods, settled, creating) = self.look(&owner, &key.namespace);
        // Only who deletes asks where the others run.
        let wanted = usize::try_from(replica_set.spec.replicas.unwrap_or(1)).unwrap_or_default();
        let related = if pods.len() > wanted {
            self.related(&replica_set)
        } else {
            Vec::new()
        };
        let now = Timestamp::now();
        let plan_for = |pods: &[Arc<Pod>]| {
            reconcile(&Observed {
                replica_set: &replica_set,
                pods,
                related: &related,
                settled,
                creating,
                now,
            })
        };
        let mut plan = plan_for(&pods);
        let gone = self.claim(&replica_set, &plan.actions).await?;
        if !gone.is_empty() {
            // Nothing will tell that they are: they belonged to nobody. Others are missing in their place.
            pods.retain(|pod| !gone.contains(&pod.uid()));
            plan = plan_for(&pods);
        }
        let mut failure = None;
        let mut spared = Vec::new();
        for action in plan.actions {
            match action {
                Action::Adopt(_) | Action::Release(_) => (),
                Action::Create(count) => failure = self.writes.create(&replica_set, count).await,
                Action::Delete(pods) => {
                    (failure, spared) = self.writes.delete(&replica_set, &pods).await;
                }
                Action::SetStatus(status) if failure.is_none() => {
                    self.set_status(&replica_set, &status).await?;
                }
                Action::SetStatus(_) => (),
            }
        }
        if let Some(failure) = failure {
            // They may run on, and who is told otherwise puts others in their place.
            let terminating = plan.terminating.saturating_sub(spared.len());
            let pods = [plan.remaining, spared].concat();
            let creating = self.expectations.lock().creating(&owner);
            let status = status(
                &replica_set,
                &pods,
                creating,
                terminating,
                Some(&failure),
                now,
            );
            self.set_status(&replica_set, &status).await?;
            match failure {
                Failure::Create(message) => bail!("creating pods: {message}"),
                Failure::Delete(message) => bail!("deleting pods: {message}"),
            }
        }
        let expiry = self.expectations.lock().expires_in(&owner, elapsed());
        Ok(plan.again_after.into_iter().chain(expiry).min().into())
    }

    /// The pods of an owner and those of nobody, whether all that was asked for has been seen, and how many pods have not.
    fn look(&self, owner: &Owner, namespace: &str) -> (Vec<Arc<Pod>>, bool, usize) {
        let mut expectations = self.expectations.lock();
        let settled = expectations.are_met(owner, elapsed());
        let mut pods = self.pods.indexed(BY_CONTROLLER, owner.as_str());
        pods.extend(self.pods.indexed(BY_CONTROLLER, &orphans_of(namespace)));
        // Those were asked to go: they are going, though the store may not know it yet.
        pods.retain(|pod| {
            is_deleted(&pod.metadata)
                || !expectations.is_going(owner, pod.uid().as_deref().unwrap_or_default())
        });
        (pods, settled, expectations.creating(owner))
    }

    /// Takes on pods and lets go of others: all of them, whatever becomes of one, so that one that cannot be written keeps
    /// nobody from the rest. Returns the UIDs of those that were to be taken on, and are gone.
    async fn claim(
        &self,
        replica_set: &ReplicaSet,
        actions: &[Action],
    ) -> anyhow::Result<Vec<Option<String>>> {
        let (mut gone, mut refused) = (Vec::new(), None);
        for action in actions {
            let done = match action {
                Action::Adopt(pod) => match self.context.adopt(replica_set, &**pod).await {
                    Ok(true) => Ok(()),
                    Ok(false) => {
                        gone.push(pod.uid());
                        Ok(())
                    }
                    Err(error) => Err(error.context(format!("adopting pod {}", pod.name_any()))),
                },
                Action::Release(pod) => match self.context.release(replica_set, &**pod).await {
                    Err(error) if is_not_found(&error) => Ok(()),
                    result => result.with_context(|| format!("releasing pod {}", pod.name_any())),
                },
                _ => Ok(()),
            };
            if let Err(error) = done {
                refused.get_or_insert(error);
            }
        }
        refused.map_or(Ok(gone), Err)
    }

    async fn set_status(
        &self,
        replica_set: &ReplicaSet,
        status: &k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> kube::Result<()> {
        let version = replica_set.resource_version();
        let old = &replica_set.status;
        self.context
            .set_status(replica_set, version, old, status)
            .await
    }

    /// The pods of all replica sets with the same controller, this one's too.
    fn related(&self, replica_set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let mut owners = vec![Owner::of(replica_set)];
        if let Some(controller) = Owner::named_by(&replica_set.metadata) {
            let siblings = self
                .replica_sets
                .indexed(BY_CONTROLLER, controller.as_str());
            owners = siblings.iter().map(|set| Owner::of(&**set)).collect();
        }
        let pods = owners
            .iter()
            .flat_map(|owner| self.pods.indexed(BY_CONTROLLER, owner.as_str()));
        pods.collect()
    }
}

#[cfg(test)]
mod tests;
