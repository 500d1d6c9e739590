//! A deployment whose size was changed.

use std::cmp::Reverse;

use super::rollout::{DESIRED_REPLICAS, MAX_REPLICAS, Rollout, Slot};
use crate::common::meta::created_at;

impl Rollout<'_> {
    /// Whether a replica set with pods was sized for another size of the deployment.
    pub fn is_scaling_event(&self) -> bool {
        let wanted = self.replicas();
        let active = self.all().filter(|slot| slot.size() > 0);
        active
            .filter_map(|slot| slot.annotation(DESIRED_REPLICAS))
            .any(|desired| desired != wanted)
    }

    /// Scales without rolling: one replica set to the full size, or several by their shares.
    pub fn scale(&mut self) {
        let wanted = self.replicas();
        let settled = self.is_settled();
        let mut slots: Vec<Slot> = std::mem::take(&mut self.old);
        let old_count = slots.len();
        slots.extend(self.new.take());
        if let Some(only) = active_or_latest(&slots, old_count) {
            if settled || wanted <= slots[only].size() {
                self.resize(&mut slots[only], wanted);
            }
        } else if self.is_saturated(&slots, old_count) {
            // The new one has all that it shall have: the old ones have no share any more.
            for slot in slots[..old_count].iter_mut().filter(|slot| slot.size() > 0) {
                self.resize(slot, 0);
            }
        } else if !self.recreates() {
            self.scale_by_shares(&mut slots, settled);
        }
        if slots.len() > old_count {
            self.new = slots.pop();
        }
        self.old = slots;
    }

    fn is_saturated(&self, slots: &[Slot], old_count: usize) -> bool {
        let wanted = self.replicas();
        slots.get(old_count).is_some_and(|new| {
            new.size() == wanted
                && new.annotation(DESIRED_REPLICAS) == Some(wanted)
                && new.available() == wanted
        })
    }

    /// Each replica set with pods keeps its share. What rounding leaves goes to, or comes from, the largest.
    fn scale_by_shares(&self, slots: &mut [Slot], settled: bool) {
        let wanted = self.replicas();
        let mut active: Vec<&mut Slot> = slots.iter_mut().filter(|slot| slot.size() > 0).collect();
        let total: i32 = active.iter().map(|slot| slot.size()).sum();
        let allowed = if wanted > 0 {
            wanted.saturating_add(self.posts.surge)
        } else {
            0
        };
        let to_add = allowed - total;
        if to_add > 0 && !settled {
            return;
        }
        // When growing, the newest of equal sizes first; when shrinking, the oldest.
        active.sort_by_cached_key(|slot| {
            let created = created_at(&slot.get().metadata);
            let newer = (to_add > 0).then_some(Reverse(created));
            let older = (to_add <= 0).then_some(created);
            (Reverse(slot.size()), newer, older)
        });
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
        for slot in &active {
            let share = self.share(slot, to_add, added);
            sizes.push(slot.size() + share);
            added += share;
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + (to_add - added)).max(0);
        }
        for (slot, size) in active.into_iter().zip(sizes) {
            self.resize(slot, size);
        }
    }

    /// What of `to_add` is for this one, if `added` has been given out.
    fn share(&self, slot: &Slot, to_add: i32, added: i32) -> i32 {
        let rest = to_add - added;
        if to_add == 0 || rest == 0 {
            return 0;
        }
        let fraction = self.fraction(slot);
        if to_add > 0 {
            fraction.min(rest)
        } else {
            fraction.max(rest)
        }
    }

    /// How much larger it would be if it had grown as the deployment has since it was sized.
    fn fraction(&self, slot: &Slot) -> i32 {
        let size = slot.size();
        if self.replicas() == 0 {
            return -size;
        }
        let now = self.replicas().saturating_add(self.posts.surge);
        let was = slot.annotation(MAX_REPLICAS).filter(|max| *max > 0);
        // A replica set that was never sized by a deployment: its deployment's last size stands for it.
        let was = was
            .or(self.status.replicas.filter(|count| *count > 0))
            .unwrap_or(now);
        let scaled = f64::from(size) * f64::from(now) / f64::from(was);
        scaled.round() as i32 - size
    }
}

/// The one replica set with pods; if none has any, the newest.
fn active_or_latest(slots: &[Slot], old_count: usize) -> Option<usize> {
    let mut active = (0..slots.len()).filter(|at| slots[*at].size() > 0);
    match (active.next(), active.next()) {
        (Some(one), None) => Some(one),
        (Some(_), Some(_)) => None,
        (None, _) if slots.len() > old_count => Some(old_count),
        // The oldest are first.
        (None, _) => old_count.checked_sub(1),
    }
}
