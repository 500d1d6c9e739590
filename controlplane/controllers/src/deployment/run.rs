//! The loop around deployments: what it observes, when, and how it acts.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use keelson_component::error::{
    is_already_exists, is_namespace_terminating, is_not_found, message,
};
use keelson_component::{Change, EventType, Key, Outcome, Queue, Store, merge_patch, work};
use kube::ResourceExt;
use kube::api::Patch;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::rollout::{REVISION, size};
use super::{Action, Observed, creation_failed, now_collided, reconcile};
use crate::common::meta::{Labels, controller_of};
use crate::common::owner::{Owner, is_a, is_controlled_by};
use crate::common::pods::is_terminal;
use crate::common::template;
use crate::common::writes::Writes;
use crate::context::{Context, delete_this, elapsed};
use crate::informers::{BY_CONTROLLER, Informers, orphans_of};

/// When to look again if the store has not seen our own writes; the watch usually says so sooner.
const CATCH_UP: std::time::Duration = std::time::Duration::from_millis(500);

/// The controller of deployments.
#[derive(Clone)]
pub struct Deployments {
    context: Context,
    queue: Queue<Key>,
    deployments: Store<Deployment>,
    replica_sets: Store<ReplicaSet>,
    pods: Store<Pod>,
    writes: Arc<Mutex<Writes>>,
}

impl Deployments {
    /// Listens to the informers.
    pub fn new(context: Context, informers: &mut Informers) -> Self {
        let this = Deployments {
            context,
            queue: Queue::default(),
            deployments: informers.deployments().store(),
            replica_sets: informers.replica_sets().store(),
            pods: informers.pods().store(),
            writes: Arc::default(),
        };
        let owner = this.clone();
        informers
            .deployments()
            .on_change(move |change| match change {
                Change::Applied { new, .. } => owner.queue.add(Key::of(&***new)),
                Change::Deleted { last } => {
                    owner.writes.lock().forget(&Owner::of(&***last));
                }
            });
        let owner = this.clone();
        informers
            .replica_sets()
            .on_change(move |change| owner.replica_set_changed(change));
        let owner = this.clone();
        informers.pods().on_change(move |change| {
            if let Change::Deleted { last } = change {
                owner.pod_gone(last);
            }
        });
        this
    }

    /// Works until `stop`. The stores must be complete.
    pub async fn run(self, workers: usize, stop: CancellationToken) {
        let sync = |key: Key| async { self.sync(key).await };
        work(self.queue.clone(), workers, stop, sync).await;
    }

    fn replica_set_changed(&self, change: &Change<'_, ReplicaSet>) {
        match change {
            Change::Deleted { last } => {
                if let (Some(owner), Some(uid)) = (Owner::named_by(&last.metadata), last.uid()) {
                    self.writes.lock().saw_deletion(&owner, &uid);
                }
                self.queue_owner(last);
            }
            Change::Applied { old, new } => {
                if let Some(old) = old
                    && controller_of(&old.metadata) != controller_of(&new.metadata)
                {
                    self.queue_owner(old);
                }
                if controller_of(&new.metadata).is_some() {
                    return self.queue_owner(new);
                }
                let namespace = new.namespace().unwrap_or_default();
                for deployment in self.deployments.in_namespace(&namespace) {
                    if Labels::new(&deployment.spec.selector).select(&new.metadata) {
                        self.queue.add(Key::of(&*deployment));
                    }
                }
            }
        }
    }

    fn queue_owner(&self, replica_set: &ReplicaSet) {
        if let Some(owner) = controller_of(&replica_set.metadata)
            && is_a::<Deployment>(owner)
        {
            let namespace = replica_set.namespace().unwrap_or_default();
            self.queue.add(Key::new(namespace, &*owner.name));
        }
    }

    /// A deployment that recreates waits for the last pod of the old replica sets to go.
    fn pod_gone(&self, pod: &Pod) {
        let owner = controller_of(&pod.metadata).filter(|owner| is_a::<ReplicaSet>(owner));
        let Some(owner) = owner else {
            return;
        };
        let key = Key::new(pod.namespace().unwrap_or_default(), &*owner.name);
        if let Some(replica_set) = self.replica_sets.get(&key) {
            self.queue_owner(&replica_set);
        }
    }

    async fn sync(&self, key: Key) -> anyhow::Result<Outcome> {
        let Some(deployment) = self.deployments.get(&key) else {
            return Ok(Outcome::Done);
        };
        let owner = Owner::of(&*deployment);
        let owned = self.replica_sets.indexed(BY_CONTROLLER, owner.as_str());
        if !self.has_caught_up(&owner, &owned) {
            return Ok(Outcome::After(CATCH_UP));
        }
        let with_pods = self.with_pods(&owned);
        let mut replica_sets = owned;
        replica_sets.extend(
            self.replica_sets
                .indexed(BY_CONTROLLER, &orphans_of(&key.namespace)),
        );
        let plan = reconcile(&Observed {
            deployment: &deployment,
            replica_sets: &replica_sets,
            with_pods: &with_pods,
            now: Timestamp::now(),
        });
        let is_claim = |action: &Action| matches!(action, Action::Adopt(_) | Action::Release(_));
        let (claims, actions): (Vec<_>, _) = plan.actions.into_iter().partition(is_claim);
        let mut version = deployment.resource_version();
        // All of these, whatever becomes of one: one that cannot be written keeps nobody from the rest.
        let mut refused = None;
        for claim in claims {
            let done = self.act(&deployment, &mut version, claim).await;
            refused = refused.or(done.err());
        }
        if let Some(error) = refused {
            return Err(error);
        }
        for action in actions {
            self.act(&deployment, &mut version, action).await?;
        }
        Ok(plan.again_after.into())
    }

    /// The UIDs of those with pods that have not ended.
    fn with_pods(&self, replica_sets: &[Arc<ReplicaSet>]) -> Vec<String> {
        let has_pods = |replica_set: &&Arc<ReplicaSet>| {
            let owner = Owner::of(&***replica_set);
            let pods = self.pods.indexed(BY_CONTROLLER, owner.as_str());
            pods.iter().any(|pod| !is_terminal(pod))
        };
        let with_pods = replica_sets.iter().filter(has_pods);
        with_pods
            .filter_map(|replica_set| replica_set.uid())
            .collect()
    }

    fn has_caught_up(&self, owner: &Owner, owned: &[Arc<ReplicaSet>]) -> bool {
        let mut writes = self.writes.lock();
        for replica_set in owned {
            let generation = replica_set.metadata.generation.unwrap_or_default();
            writes.saw(owner, &replica_set.uid().unwrap_or_default(), generation);
        }
        writes.are_seen(owner, elapsed())
    }

    fn wrote(&self, deployment: &Deployment, replica_set: &ReplicaSet) {
        let generation = replica_set.metadata.generation.unwrap_or_default();
        let (owner, uid) = (Owner::of(deployment), replica_set.uid().unwrap_or_default());
        self.writes
            .lock()
            .wrote(&owner, &uid, generation, elapsed());
    }

    async fn act(
        &self,
        deployment: &Deployment,
        version: &mut Option<String>,
        action: Action,
    ) -> anyhow::Result<()> {
        let namespace = deployment.namespace().unwrap_or_default();
        match action {
            Action::Adopt(replica_set) => {
                let name = replica_set.name_any();
                match self.context.adopt(deployment, &*replica_set).await {
                    Ok(true) => Ok(()),
                    // Nothing would tell that it is: it belonged to nobody.
                    Ok(false) => bail!("the replica set {name} is gone: looking again"),
                    Err(error) => Err(error.context(format!("adopting replica set {name}"))),
                }
            }
            Action::Release(replica_set) => {
                match self.context.release(deployment, &*replica_set).await {
                    Err(error) if is_not_found(&error) => Ok(()),
                    result => result.with_context(|| {
                        format!("releasing replica set {}", replica_set.name_any())
                    }),
                }
            }
            Action::Create(replica_set) => {
                self.create(deployment, version.clone(), &replica_set).await
            }
            Action::Update { old, new } => self.update(deployment, &old, &new).await,
            Action::Delete(replica_set) => {
                let api = self.context.api::<ReplicaSet>(&namespace);
                match api
                    .delete(&replica_set.name_any(), &delete_this(&*replica_set))
                    .await
                {
                    Err(error) if is_not_found(&error) => Ok(()),
                    result => result.map(drop).with_context(|| {
                        format!("deleting replica set {}", replica_set.name_any())
                    }),
                }
            }
            Action::SetRevision(revision) => {
                let patch = json!({"metadata": {
                    "resourceVersion": version,
                    "annotations": {REVISION: revision},
                }});
                let api = self.context.api::<Deployment>(&namespace);
                let params = self.context.connect.patch();
                let written = api
                    .patch(&deployment.name_any(), &params, &Patch::Merge(patch))
                    .await
                    .context("writing the revision")?;
                *version = written.resource_version();
                Ok(())
            }
            Action::SetStatus(status) => {
                self.set_status(deployment, version.clone(), &status).await
            }
            Action::WarnSelectsAll => {
                let message =
                    "This deployment is selecting all pods. A non-empty selector is required.";
                let reason = "SelectingAll";
                self.context
                    .tell(deployment, EventType::Warning, reason, message.into());
                Ok(())
            }
        }
    }

    async fn set_status(
        &self,
        deployment: &Deployment,
        version: Option<String>,
        status: &DeploymentStatus,
    ) -> anyhow::Result<()> {
        let old = &deployment.status;
        let written = self
            .context
            .set_status(deployment, version, old, status)
            .await;
        written.context("writing the status")
    }

    async fn create(
        &self,
        deployment: &Deployment,
        version: Option<String>,
        replica_set: &ReplicaSet,
    ) -> anyhow::Result<()> {
        let api = self
            .context
            .api::<ReplicaSet>(&replica_set.namespace().unwrap_or_default());
        let name = replica_set.name_any();
        match api.create(&self.context.connect.post(), replica_set).await {
            Ok(created) => {
                self.wrote(deployment, &created);
                let size = size(&created);
                if size > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {size}");
                    self.context
                        .tell(deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(error) if is_already_exists(&error) => {
                let live = api
                    .get(&name)
                    .await
                    .context("reading the replica set of that name")?;
                let templates = (live.spec.template.as_ref(), &deployment.spec.template);
                let same = matches!(templates, (Some(a), b) if template::are_equal(a, b));
                if same && is_controlled_by(&live.metadata, deployment) {
                    // An earlier attempt of ours, which the store has not seen yet.
                    self.wrote(deployment, &live);
                    return Ok(());
                }
                self.set_status(deployment, version, &now_collided(deployment))
                    .await?;
                bail!("the name {name} is taken by another replica set")
            }
            // There is no use in trying again, nor in telling: all of it goes.
            Err(error) if is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let status = creation_failed(deployment, &name, &message(&error), Timestamp::now());
                self.set_status(deployment, version, &status).await?;
                let message = format!(
                    "Failed to create new replica set {name:?}: {}",
                    message(&error)
                );
                let reason = "ReplicaSetCreateError";
                self.context
                    .tell(deployment, EventType::Warning, reason, message);
                Err(error).context("creating the new replica set")
            }
        }
    }

    async fn update(
        &self,
        deployment: &Deployment,
        old: &ReplicaSet,
        new: &ReplicaSet,
    ) -> anyhow::Result<()> {
        let Some(patch) = merge_patch(old, new) else {
            return Ok(());
        };
        let api = self
            .context
            .api::<ReplicaSet>(&old.namespace().unwrap_or_default());
        let (name, params) = (old.name_any(), self.context.connect.patch());
        let written = api
            .patch(&name, &params, &Patch::Merge(patch))
            .await
            .with_context(|| format!("updating replica set {name}"))?;
        self.wrote(deployment, &written);
        let (before, after) = (size(old), size(new));
        if before != after {
            let way = if before < after { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {before} to {after}");
            self.context
                .tell(deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
