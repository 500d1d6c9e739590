//! A controller's own writes that its store has not seen yet.
//!
//! Who scales one replica set and then decides on the next, must not do so from a store in which the first still has
//! its old size: every single write would be accepted, and their sum would break the bounds of a roll-out. So an owner is
//! looked at again only when the store has caught up with what was written for it.

use std::collections::HashMap;
use std::time::Duration;

use super::owner::Owner;

/// After this time the store is believed, whatever was written.
const EXPIRY: Duration = Duration::from_secs(300);

/// Which generation of which object was written, by the owner for whom.
#[derive(Debug, Default)]
pub struct Writes {
    owners: HashMap<Owner, HashMap<String, Written>>,
}

#[derive(Debug)]
struct Written {
    generation: i64,
    at: Duration,
}

impl Writes {
    /// Notes that an object is at this generation now. Times are on any one monotonic clock.
    pub fn wrote(&mut self, owner: &Owner, object: &str, generation: i64, now: Duration) {
        let at = now;
        let written = Written { generation, at };
        let objects = self.owners.entry(owner.clone()).or_default();
        objects.insert(object.to_owned(), written);
    }

    /// The store has this object at this generation.
    pub fn saw(&mut self, owner: &Owner, object: &str, generation: i64) {
        self.settle(owner, |uid, written| {
            uid == object && written.generation <= generation
        });
    }

    /// The object is gone.
    pub fn saw_deletion(&mut self, owner: &Owner, object: &str) {
        self.settle(owner, |uid, _| uid == object);
    }

    /// Whether the store has everything that was written for this owner.
    pub fn are_seen(&mut self, owner: &Owner, now: Duration) -> bool {
        self.settle(owner, |_, written| now.saturating_sub(written.at) > EXPIRY);
        !self.owners.contains_key(owner)
    }

    /// The owner is gone.
    pub fn forget(&mut self, owner: &Owner) {
        self.owners.remove(owner);
    }

    fn settle(&mut self, owner: &Owner, settled: impl Fn(&str, &Written) -> bool) {
        if let Some(objects) = self.owners.get_mut(owner) {
            objects.retain(|uid, written| !settled(uid, written));
            if objects.is_empty() {
                self.owners.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn d() -> Owner {
        Owner::called("d")
    }

    #[test]
    fn a_write_is_seen_when_the_store_has_that_generation_or_a_later_one() {
        let mut writes = Writes::default();
        assert!(writes.are_seen(&d(), NOW));
        writes.wrote(&d(), "a", 3, NOW);
        writes.wrote(&d(), "b", 1, NOW);
        writes.saw(&d(), "a", 2);
        writes.saw(&d(), "b", 1);
        assert!(!writes.are_seen(&d(), NOW));
        writes.saw(&d(), "a", 4);
        assert!(writes.are_seen(&d(), NOW));
    }

    #[test]
    fn what_was_deleted_or_written_long_ago_is_not_waited_for() {
        let mut writes = Writes::default();
        writes.wrote(&d(), "a", 3, NOW);
        writes.saw_deletion(&d(), "a");
        assert!(writes.are_seen(&d(), NOW));
        writes.wrote(&d(), "a", 3, NOW);
        assert!(!writes.are_seen(&d(), NOW + EXPIRY));
        assert!(writes.are_seen(&d(), NOW + EXPIRY * 2));
    }
}
