//! Rolling from the old replica sets to the new one, and stopping them all first.

use kube::ResourceExt;

use super::rollout::{Rollout, Slot};

impl Rollout<'_> {
    /// One step of a rolling update: grow the new one, or else shrink the old ones.
    pub fn roll(&mut self) {
        self.sync_revision(true);
        if !self.grow_new() {
            self.shrink_old();
        }
    }

    /// Stops the old ones; starts the new one when they have gone.
    pub fn recreate(&mut self, with_pods: &[String]) {
        self.sync_revision(false);
        let mut stopped = false;
        for mut slot in std::mem::take(&mut self.old) {
            if slot.size() > 0 {
                self.resize(&mut slot, 0);
                stopped = true;
            }
            self.old.push(slot);
        }
        // One that has not heard yet that it is to stop may be creating pods that nobody has counted.
        let all_heard = self.old.iter().all(Slot::is_settled);
        if stopped || !all_heard || self.old_pods_remain(with_pods) {
            return;
        }
        self.sync_revision(true);
        if let Some(mut new) = self.new.take() {
            self.resize(&mut new, self.replicas());
            self.new = Some(new);
        }
    }

    fn old_pods_remain(&self, with_pods: &[String]) -> bool {
        let counted = self.old.iter().any(|slot| {
            let status = slot.get().status.as_ref();
            status.is_some_and(|status| status.replicas > 0)
        });
        // The pods themselves too: a status may be old, and does not count the pods that are still going.
        counted
            || self.old.iter().any(|slot| {
                let uid = slot.get().uid();
                uid.is_some_and(|uid| with_pods.contains(&uid))
            })
    }

    /// The size that the new replica set, of this size now, may have.
    pub fn new_size(&self, current: i32) -> i32 {
        if self.recreates() {
            return self.replicas();
        }
        if current > self.replicas() {
            return self.replicas();
        }
        let room = self.replicas().saturating_add(self.posts.surge) - self.total_size();
        if room <= 0 || !self.is_settled() {
            return current;
        }
        current + room.min(self.replicas() - current)
    }

    /// Brings the new replica set closer to its size. Whether that was needed.
    fn grow_new(&mut self) -> bool {
        let Some(new) = &self.new else {
            return false;
        };
        let (current, creating) = (new.size(), new.is_to_be_created());
        let size = self.new_size(current);
        if size == current {
            return creating;
        }
        if let Some(mut new) = self.new.take() {
            self.resize(&mut new, size);
            self.new = Some(new);
        }
        true
    }

    /// Takes from the old replica sets what may be missing: what does not work first.
    fn shrink_old(&mut self) {
        let old_total: i32 = self.old.iter().map(Slot::size).sum();
        if old_total == 0 {
            return;
        }
        let needed = self.replicas() - self.posts.missing(self.replicas());
        let new = self.new.as_ref();
        // The new one's pods that are not available yet will be: they must not be counted on twice.
        let new_unavailable = new.map_or(0, |new| new.size() - new.available());
        let room = self.total_size() - needed - new_unavailable;
        if room <= 0 {
            return;
        }
        self.shrink_unhealthy(room);
        self.shrink_healthy(needed);
    }

    /// Takes unavailable pods from the old ones, the oldest replica set first. They may always go: nobody counts on them.
    pub(super) fn shrink_unhealthy(&mut self, room: i32) -> i32 {
        let mut taken = 0;
        for mut slot in std::mem::take(&mut self.old) {
            let unavailable = slot.size() - slot.available();
            let take = unavailable.min(room - taken);
            if take > 0 {
                let size = slot.size() - take;
                self.resize(&mut slot, size);
                taken += take;
            }
            self.old.push(slot);
        }
        taken
    }

    /// Takes available pods from the old ones, as long as there are more than needed.
    pub(super) fn shrink_healthy(&mut self, needed: i32) -> i32 {
        let available: i32 = self.all().map(Slot::available).sum();
        let mut room = available - needed;
        let mut taken = 0;
        for mut slot in std::mem::take(&mut self.old) {
            let take = slot.size().min(room);
            if take > 0 {
                let size = slot.size() - take;
                self.resize(&mut slot, size);
                room -= take;
                taken += take;
            }
            self.old.push(slot);
        }
        taken
    }
}
