//! One look at a deployment and its replica sets, and what has been decided so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::size::{Fenceposts, replicas};
use super::{Action, Plan};
use crate::common::meta::created_at;
use crate::common::owner::controller_reference;
use crate::common::template::{self, HASH_LABEL};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// A replica set that returns again and again must not fill the store with the numbers of its revisions.
const REVISION_HISTORY_BYTES_MAX: usize = 2000;

/// A replica set, as it is and as it shall be.
pub struct Slot {
    seen: Option<Arc<ReplicaSet>>,
    wanted: Option<ReplicaSet>,
}

impl Slot {
    pub fn get(&self) -> &ReplicaSet {
        let seen = || self.seen.as_deref();
        let current = self.wanted.as_ref().or_else(seen);
        current.expect("a slot has one of the two")
    }

    /// As it was read. Only what exists may be asked.
    pub fn seen(&self) -> Arc<ReplicaSet> {
        self.seen.clone().expect("it was read")
    }

    pub fn is_to_be_created(&self) -> bool {
        self.seen.is_none()
    }

    fn change(&mut self) -> &mut ReplicaSet {
        let seen = &self.seen;
        let copy = || seen.as_deref().cloned().expect("a slot has one of the two");
        self.wanted.get_or_insert_with(copy)
    }

    pub fn size(&self) -> i32 {
        size(self.get())
    }

    /// Its available pods. Those over its size are about to go, and a replica set lets go of unavailable ones first.
    pub fn available(&self) -> i32 {
        let status = self.get().status.as_ref();
        let available = status.and_then(|status| status.available_replicas);
        available.unwrap_or_default().min(self.size())
    }

    /// Whether it has let go of what it was told to, and says so. Until then it may have more pods than its size.
    pub fn is_settled(&self) -> bool {
        let set = self.get();
        let status = set.status.as_ref();
        let generation = set.metadata.generation.unwrap_or_default();
        let observed = status.and_then(|status| status.observed_generation);
        let pods = status.map_or(0, |status| status.replicas);
        // The first generation has never been told to let go of anything.
        (generation <= 1 || observed >= Some(generation)) && pods <= self.size()
    }

    /// A size that was noted, if it can be one.
    pub fn annotation(&self, name: &str) -> Option<i32> {
        let size = self.get().annotations().get(name)?.parse().ok();
        size.filter(|size| *size >= 0)
    }

    fn annotate(&mut self, name: &str, value: String) {
        if self.get().annotations().get(name) != Some(&value) {
            self.change()
                .annotations_mut()
                .insert(name.to_owned(), value);
        }
    }

    fn revision(&self) -> i64 {
        let revision = self.get().annotations().get(REVISION);
        revision
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

pub fn size(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.replicas.unwrap_or(1)
}

/// The look.
pub struct Rollout<'a> {
    pub deployment: &'a Deployment,
    pub spec: &'a DeploymentSpec,
    pub now: Timestamp,
    pub posts: Fenceposts,
    /// The one of the current template.
    pub new: Option<Slot>,
    /// All others, the oldest first.
    pub old: Vec<Slot>,
    /// As it will be written.
    pub status: DeploymentStatus,
    revision: Option<String>,
}

impl<'a> Rollout<'a> {
    pub fn new(
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
        owned: &[Arc<ReplicaSet>],
        now: Timestamp,
    ) -> Self {
        let mut sorted = owned.to_vec();
        sorted.sort_by_cached_key(|rs| (created_at(&rs.metadata), rs.name_any()));
        // Of two with the same template, the older one: so every process finds the same.
        let is_new = |rs: &Arc<ReplicaSet>| {
            let template = rs.spec.template.as_ref();
            template.is_some_and(|template| template::are_equal(template, &spec.template))
        };
        let position = sorted.iter().position(is_new);
        let slot = |seen| Slot {
            seen: Some(seen),
            wanted: None,
        };
        let new = position.map(|at| slot(sorted.remove(at)));
        Rollout {
            deployment,
            spec,
            now,
            posts: Fenceposts::of(spec),
            new,
            old: sorted.into_iter().map(slot).collect(),
            status: deployment.status.clone().unwrap_or_default(),
            revision: None,
        }
    }

    pub fn replicas(&self) -> i32 {
        replicas(self.spec)
    }

    pub fn recreates(&self) -> bool {
        let strategy = self.spec.strategy.as_ref();
        strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"))
    }

    /// All slots, the new one last.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        self.old.iter().chain(&self.new)
    }

    pub fn total_size(&self) -> i32 {
        self.all().map(Slot::size).sum()
    }

    /// Whether no replica set has more pods than its size. Only then may any of them grow: the sizes alone say nothing
    /// of the pods that there are.
    pub fn is_settled(&self) -> bool {
        self.all().all(Slot::is_settled)
    }

    /// Whether anything is to be written but the status.
    pub fn changed(&self) -> bool {
        self.all().any(|slot| slot.wanted.is_some())
    }

    /// Gives a replica set its size, and notes for which size of the deployment that was.
    pub fn resize(&self, slot: &mut Slot, size: i32) {
        if slot.size() != size {
            slot.change().spec.replicas = Some(size);
        }
        self.note_size(slot);
    }

    fn note_size(&self, slot: &mut Slot) {
        let wanted = self.replicas();
        slot.annotate(DESIRED_REPLICAS, wanted.to_string());
        slot.annotate(
            MAX_REPLICAS,
            wanted.saturating_add(self.posts.surge).to_string(),
        );
    }

    /// Gives the new replica set its revision, creating it first if that is due.
    pub fn sync_revision(&mut self, create: bool) {
        let newest_old = self
            .old
            .iter()
            .map(Slot::revision)
            .max()
            .unwrap_or_default();
        let revision = newest_old + 1;
        if self.new.is_none() && create {
            self.create(revision);
        }
        let Some(mut new) = self.new.take() else {
            return;
        };
        self.annotate_new(&mut new, revision);
        let min_ready_seconds = self.spec.min_ready_seconds.unwrap_or_default();
        let known = new.get().spec.min_ready_seconds;
        if known.unwrap_or_default() != min_ready_seconds {
            new.change().spec.min_ready_seconds = Some(min_ready_seconds);
        }
        let current = new.get().annotations().get(REVISION).cloned();
        let annotations = self.deployment.annotations();
        self.revision = current.filter(|current| annotations.get(REVISION) != Some(current));
        self.note_new_replica_set(&new.get().name_any(), new.is_to_be_created());
        self.new = Some(new);
    }

    fn create(&mut self, revision: i64) {
        let mut template = self.spec.template.clone();
        let hash = template::hash(&template, self.status.collision_count);
        let labels = template
            .metadata
            .get_or_insert_default()
            .labels
            .get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        let matching = selector.match_labels.get_or_insert_default();
        matching.insert(HASH_LABEL.to_owned(), hash.clone());
        let replica_set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.deployment.name_any())),
                namespace: self.deployment.namespace(),
                labels: Some(labels),
                annotations: Some(BTreeMap::from([(REVISION.into(), revision.to_string())])),
                owner_references: Some(vec![controller_reference(self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        let mut slot = Slot {
            seen: None,
            wanted: Some(replica_set),
        };
        let size = self.new_size(0);
        self.resize(&mut slot, size);
        self.new = Some(slot);
    }

    fn annotate_new(&self, new: &mut Slot, revision: i64) {
        for (name, value) in self.deployment.annotations() {
            let own = [
                LAST_APPLIED,
                REVISION,
                REVISION_HISTORY,
                DESIRED_REPLICAS,
                MAX_REPLICAS,
                ROLLBACK_TO,
            ];
            if !own.contains(&name.as_str()) {
                new.annotate(name, value.clone());
            }
        }
        let had = new.get().annotations().get(REVISION).cloned();
        let had_number = had.as_ref().and_then(|text| text.parse::<i64>().ok());
        if had_number.unwrap_or_default() >= revision {
            return;
        }
        new.annotate(REVISION, revision.to_string());
        if let Some(had) = had {
            let history = new.get().annotations().get(REVISION_HISTORY);
            let known = history.map(String::as_str).unwrap_or_default();
            let mut past: Vec<&str> = known.split(',').filter(|text| !text.is_empty()).collect();
            past.push(&had);
            while past.len() > 1 && past.join(",").len() > REVISION_HISTORY_BYTES_MAX {
                past.remove(0);
            }
            let past = past.join(",");
            new.annotate(REVISION_HISTORY, past);
        }
    }

    /// Turns what was decided about replica sets into actions.
    pub fn write_out(&mut self, plan: &mut Plan) {
        for slot in self.new.iter().chain(&self.old) {
            let Some(wanted) = &slot.wanted else { continue };
            let new = Box::new(wanted.clone());
            plan.actions.push(match &slot.seen {
                None => Action::Create(new),
                Some(old) if **old == *new => continue,
                Some(old) => Action::Update {
                    old: old.clone(),
                    new,
                },
            });
        }
        plan.actions
            .extend(self.revision.take().map(Action::SetRevision));
    }
}
