//! Old revisions, as many as are to be kept.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;

use super::rollout::{REVISION, Rollout, Slot, size};
use super::{Action, Plan};
use crate::common::meta::is_deleted;

/// How many old revisions are kept, if nothing else is asked for.
const HISTORY_DEFAULT: i32 = 10;

impl Rollout<'_> {
    /// Deletes the oldest revisions over the limit, if nothing is left of them.
    pub fn clean_up(&self, plan: &mut Plan) {
        let limit = self.spec.revision_history_limit.unwrap_or(HISTORY_DEFAULT);
        let Ok(limit) = usize::try_from(limit) else {
            return;
        };
        let mut kept: Vec<&Slot> = self.old.iter().collect();
        kept.retain(|slot| !is_deleted(&slot.get().metadata));
        let excess = kept.len().saturating_sub(limit);
        kept.sort_by_key(|slot| revision(slot.get()));
        for slot in kept.into_iter().take(excess) {
            if is_empty(slot.get()) {
                plan.actions.push(Action::Delete(slot.seen()));
            }
        }
    }
}

fn revision(replica_set: &ReplicaSet) -> i64 {
    let revision = replica_set.annotations().get(REVISION);
    revision
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Whether it has and wants no pods, and says so of what it is now.
fn is_empty(replica_set: &ReplicaSet) -> bool {
    let status = replica_set.status.clone().unwrap_or_default();
    let observed = status.observed_generation.unwrap_or_default();
    let generation = replica_set.metadata.generation.unwrap_or_default();
    size(replica_set) == 0 && status.replicas == 0 && generation <= observed
}
