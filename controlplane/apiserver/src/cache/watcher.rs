//! A watcher: a place in a cache's ring, and a bell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::resource_cache::{Cache, Interest, Scope};
use super::{Snapshot, Told};
use crate::status::{ApiError, ApiResult};
use crate::storage::Revision;

/// How many events are looked at in one go, with the cache's lock held for reading.
const LOOK_MAX: usize = 512;
/// Nothing to look at.
const NOTHING: u64 = u64::MAX;

/// Where the cache tells a watcher that it should look.
#[derive(Debug)]
pub(super) struct Slot {
    /// The number of the first event that may be of interest and was not looked at.
    pending: AtomicU64,
    bell: Notify,
}

impl Slot {
    pub(super) fn wake(&self, number: u64) {
        self.pending.fetch_min(number, Ordering::AcqRel);
        self.bell.notify_one();
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With everything that is there, told as added, and what follows.
    Everything,
    /// With what follows a revision.
    After(Revision),
}

/// What a watcher hears.
#[derive(Debug)]
pub enum Next {
    /// What happened.
    Events(Vec<Told>),
    /// The watch is over: events were lost to it, and it must list again.
    Expired(ApiError),
}

/// A watch on one cache.
pub struct Watcher {
    cache: Arc<Cache>,
    scope: Scope,
    interest: Interest,
    slot: Arc<Slot>,
    /// The number of the next event to look at.
    next: u64,
    /// What happened up to here is known to the client, though the cache may still be about to hear of it.
    after: Revision,
    epoch: u64,
}

impl Watcher {
    /// Begins a watch; with [`Start::Everything`] it gives what is there.
    pub fn begin(
        cache: &Arc<Cache>,
        scope: Scope,
        start: Start,
    ) -> ApiResult<(Watcher, Option<Snapshot>)> {
        let mut state = cache.state.write();
        let (next, snapshot, after) = match start {
            Start::Everything => {
                let next = state.first + state.recent.len() as u64;
                (next, Some(state.snapshot(cache.resource)), state.revision)
            }
            Start::After(revision) => (cache.first_after(&state, revision)?, None, revision),
        };
        let interest = scope.interest(cache.resource);
        let is_behind = next < state.first + state.recent.len() as u64;
        let slot = Arc::new(Slot {
            // What the ring has already may be of interest.
            pending: AtomicU64::new(if is_behind { next } else { NOTHING }),
            bell: Notify::new(),
        });
        state.register(interest.clone(), slot.clone());
        let epoch = state.epoch;
        drop(state);
        let watcher = Watcher {
            cache: cache.clone(),
            scope,
            interest,
            slot,
            next,
            after,
            epoch,
        };
        Ok((watcher, snapshot))
    }

    /// Waits for what happens next. Nothing is lost if this is dropped while it waits.
    pub async fn next(&mut self) -> Next {
        loop {
            let pending = self.slot.pending.swap(NOTHING, Ordering::AcqRel);
            if pending == NOTHING {
                self.slot.bell.notified().await;
                continue;
            }
            match self.look(pending) {
                Ok(told) if told.is_empty() => {}
                Ok(told) => return Next::Events(told),
                Err(error) => return Next::Expired(error),
            }
        }
    }

    /// Looks at the events from `pending` on.
    fn look(&mut self, pending: u64) -> ApiResult<Vec<Told>> {
        let resource = self.cache.resource;
        let state = self.cache.state.read();
        if state.epoch != self.epoch {
            return Err(ApiError::expired(
                "the watch cache was filled anew; list again",
            ));
        }
        // Between the last look and `pending` nothing was of interest, so it does not matter if that is gone.
        let from = pending.max(self.next);
        let Some(skip) = from.checked_sub(state.first) else {
            return Err(ApiError::expired(format!(
                "the watch fell behind: too old resource version, before {}",
                state.revision
            )));
        };
        let mut told = Vec::new();
        let mut looked = 0;
        for event in state.recent.iter().skip(skip as usize).take(LOOK_MAX) {
            looked += 1;
            let in_scope = event
                .after()
                .or(event.before())
                .is_some_and(|entry| self.scope.has(entry));
            if !in_scope || event.revision() <= self.after {
                continue;
            }
            if let Some(kind) = event.seen_through(resource, &self.scope.selector) {
                told.push(Told {
                    kind,
                    event: event.clone(),
                });
            }
        }
        self.next = from + looked;
        if self.next < state.first + state.recent.len() as u64 {
            self.slot.pending.fetch_min(self.next, Ordering::AcqRel);
        }
        Ok(told)
    }

    /// The revision up to which the watcher has heard everything, if it has heard everything that the cache knows.
    pub fn position(&self) -> Option<Revision> {
        // Under the lock, nobody rings.
        let state = self.cache.state.read();
        let heard = self.slot.pending.load(Ordering::Acquire) == NOTHING;
        let is_current = state.epoch == self.epoch && state.revision >= self.after;
        (heard && is_current).then_some(state.revision)
    }

    /// What it is about.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.cache.state.write().forget(&self.interest, &self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Within;
    use super::*;
    use crate::resources;
    use crate::selector::{FieldSelector, LabelSelector, Selector};
    use crate::storage::{Change, ChangeKind};
    use serde_json::json;

    /// A cache of pods that keeps `bytes` of events.
    fn cache(bytes: usize) -> Arc<Cache> {
        let cache = Arc::new(Cache::new(resources::pods(), bytes));
        cache.fill(Vec::new(), 10);
        cache
    }

    fn put(cache: &Cache, revision: Revision, name: &str, node: &str) {
        let pod =
            json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"nodeName": node}});
        apply(
            cache,
            revision,
            name,
            ChangeKind::Put(pod.to_string().into()),
        );
    }

    fn apply(cache: &Cache, revision: Revision, name: &str, kind: ChangeKind) {
        let key = format!("default/{name}");
        let change = Change {
            key: String::new(),
            revision,
            kind,
        };
        cache.apply(&[(key.as_str(), &change)], revision);
    }

    fn on_node(node: &str) -> Scope {
        Scope {
            within: Within::Everywhere,
            selector: Selector {
                labels: LabelSelector::default(),
                fields: FieldSelector::parse(&format!("spec.nodeName={node}")).unwrap(),
            },
        }
    }

    async fn told(watcher: &mut Watcher) -> Vec<String> {
        match watcher.next().await {
            Next::Events(events) => events
                .iter()
                .map(|one| format!("{} {}", one.kind.as_str(), one.entry().name()))
                .collect(),
            Next::Expired(error) => vec![format!("expired {}", error.code())],
        }
    }

    #[tokio::test]
    async fn a_watcher_hears_of_its_own_and_of_what_leaves_it() {
        let cache = cache(1 << 20);
        let (mut watcher, _) = Watcher::begin(&cache, on_node("n1"), Start::After(10)).unwrap();
        put(&cache, 11, "a", "n1");
        put(&cache, 12, "b", "n2");
        put(&cache, 13, "a", "n2");
        assert_eq!(told(&mut watcher).await, ["ADDED a", "DELETED a"]);
        assert_eq!(watcher.position(), Some(13));
    }

    #[tokio::test]
    async fn a_watcher_that_is_not_concerned_is_not_overtaken() {
        let cache = cache(1);
        let (mut watcher, _) = Watcher::begin(&cache, on_node("n1"), Start::After(10)).unwrap();
        for revision in 11..200 {
            put(&cache, revision, "b", "n2");
        }
        put(&cache, 200, "a", "n1");
        assert_eq!(told(&mut watcher).await, ["ADDED a"]);
    }

    #[tokio::test]
    async fn a_watcher_that_is_overtaken_must_list_again() {
        let cache = cache(1);
        let everything = Scope::default();
        let (mut watcher, _) =
            Watcher::begin(&cache, everything.clone(), Start::After(10)).unwrap();
        put(&cache, 11, "a", "n1");
        put(&cache, 12, "b", "n1");
        assert_eq!(told(&mut watcher).await, ["expired 410"]);
        let late = Watcher::begin(&cache, everything.clone(), Start::After(10));
        assert_eq!(late.err().map(|error| error.code()), Some(410));
        assert!(Watcher::begin(&cache, everything, Start::After(11)).is_ok());
    }

    #[tokio::test]
    async fn a_watcher_that_knows_more_than_the_cache_is_not_told_it_again() {
        let cache = cache(1 << 20);
        let (mut watcher, _) = Watcher::begin(&cache, Scope::default(), Start::After(12)).unwrap();
        assert_eq!(watcher.position(), None);
        for (revision, name) in [(11, "a"), (12, "b"), (13, "c")] {
            put(&cache, revision, name, "n1");
        }
        assert_eq!(told(&mut watcher).await, ["ADDED c"]);
        assert_eq!(watcher.position(), Some(13));
    }

    #[tokio::test]
    async fn no_watcher_survives_a_gap_in_the_feed() {
        let cache = cache(1 << 20);
        let (mut watcher, _) = Watcher::begin(&cache, Scope::default(), Start::After(10)).unwrap();
        cache.fill(Vec::new(), 50);
        assert_eq!(told(&mut watcher).await, ["expired 410"]);
        drop(watcher);
        assert_eq!(cache.watchers(), 0);
    }

    #[tokio::test]
    async fn everything_is_told_and_then_what_follows() {
        let cache = cache(1 << 20);
        put(&cache, 11, "a", "n1");
        let (mut watcher, snapshot) =
            Watcher::begin(&cache, Scope::default(), Start::Everything).unwrap();
        let snapshot = snapshot.unwrap();
        let all: Vec<&str> = snapshot
            .select(watcher.scope(), None)
            .map(|one| one.name())
            .collect();
        assert_eq!((all, snapshot.revision), (vec!["a"], 11));
        apply(&cache, 12, "a", ChangeKind::Delete);
        assert_eq!(told(&mut watcher).await, ["DELETED a"]);
    }

    #[tokio::test]
    async fn what_watchers_were_sent_counts_as_long_as_it_is_kept() {
        let large = 10_000;
        let cache = cache(large);
        let (mut watcher, _) = Watcher::begin(&cache, Scope::default(), Start::After(10)).unwrap();
        put(&cache, 11, "a", "n1");
        let Next::Events(events) = watcher.next().await else {
            panic!("the watch is over");
        };
        for encoding in 0..3 {
            events[0].encoded(encoding, |_, _| vec![b'x'; large / 2].into());
        }
        // Small as it is, there is no room for it beside those.
        put(&cache, 12, "b", "n1");
        let from = |revision| {
            Watcher::begin(&cache, Scope::default(), Start::After(revision))
                .err()
                .map(|error| error.code())
        };
        assert_eq!((from(10), from(11)), (Some(410), None));
        // An event that has left the ring keeps and counts nothing any more.
        events[0].encoded(9, |_, _| vec![b'x'; large].into());
        put(&cache, 13, "c", "n1");
        assert_eq!(from(11), None);
    }

    #[tokio::test]
    async fn an_event_is_encoded_once_for_all_watchers() {
        let cache = cache(1 << 20);
        let begin = || {
            Watcher::begin(&cache, Scope::default(), Start::After(10))
                .unwrap()
                .0
        };
        let mut watchers = [begin(), begin()];
        put(&cache, 11, "a", "n1");
        let mut encoded = 0;
        for watcher in &mut watchers {
            let Next::Events(events) = watcher.next().await else {
                panic!("the watch is over");
            };
            events[0].encoded(1, |_, entry| {
                encoded += 1;
                entry.json().clone()
            });
        }
        assert_eq!(encoded, 1);
    }
}
