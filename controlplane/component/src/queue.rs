//! A work queue: items wait once however often they are added, and are worked on by one worker at a time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pause before the first retry of an item that failed; it doubles with each failure.
const RETRY_MIN: Duration = Duration::from_millis(5);

/// Items to be worked on. Cloning shares the queue.
///
/// It is bounded by the number of different items, which are the keys of objects that exist.
pub struct Queue<T> {
    core: Arc<Mutex<Core<T>>>,
    changed: Arc<Notify>,
    retry_max: Duration,
}

struct Core<T> {
    ready: VecDeque<T>,
    /// To be worked on: in `ready`, or added while being worked on.
    dirty: HashSet<T>,
    /// Being worked on.
    busy: HashSet<T>,
    /// By when they are due; the number keeps two of the same instant apart.
    later: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    failures: HashMap<T, u32>,
    serial: u64,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue {
            core: self.core.clone(),
            changed: self.changed.clone(),
            retry_max: self.retry_max,
        }
    }
}

impl<T: Clone + Eq + Hash> Default for Queue<T> {
    fn default() -> Self {
        Queue::with_retry_max(Duration::from_secs(60))
    }
}

impl<T: Clone + Eq + Hash> Queue<T> {
    /// A queue on which an item that goes on failing is tried again after `retry_max` at the latest.
    pub fn with_retry_max(retry_max: Duration) -> Self {
        let core = Core {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            busy: HashSet::new(),
            later: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            serial: 0,
        };
        Queue {
            core: Arc::new(Mutex::new(core)),
            changed: Arc::new(Notify::new()),
            retry_max,
        }
    }

    /// Adds an item. One that waits already is not added again; one that is being worked on is worked on once more.
    pub fn add(&self, item: T) {
        if self.core.lock().add(item) {
            self.changed.notify_one();
        }
    }

    /// Adds an item after a pause. Of two times that are asked for, the earlier one counts.
    pub fn add_after(&self, item: T, pause: Duration) {
        if pause.is_zero() {
            return self.add(item);
        }
        self.core.lock().add_at(item, Instant::now() + pause);
        // Whoever waits may be waiting for a later one.
        self.changed.notify_one();
    }

    /// Adds an item that failed, after its own back-off. Returns how often it has failed.
    pub fn retry(&self, item: T) -> u32 {
        let failures = {
            let mut core = self.core.lock();
            let failures = core.failures.entry(item.clone()).or_default();
            *failures += 1;
            *failures
        };
        let factor = 1_u32 << (failures - 1).min(20);
        self.add_after(item, (RETRY_MIN * factor).min(self.retry_max));
        failures
    }

    /// An item succeeded: its next failure is its first.
    pub fn forget(&self, item: &T) {
        self.core.lock().failures.remove(item);
    }

    /// The next item, when there is one. [`Queue::done`] must follow, or the item is never given out again.
    pub async fn next(&self) -> T {
        loop {
            let wake = self.changed.notified();
            let due = {
                let mut core = self.core.lock();
                core.promote(Instant::now());
                if let Some(item) = core.take() {
                    if !core.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return item;
                }
                core.later.first_key_value().map(|((due, _), _)| *due)
            };
            match due {
                None => wake.await,
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, wake).await;
                }
            }
        }
    }

    /// An item is no longer being worked on.
    pub fn done(&self, item: &T) {
        if self.core.lock().done(item) {
            self.changed.notify_one();
        }
    }

    /// How many items wait, those that are due later not counted.
    pub fn len(&self) -> usize {
        self.core.lock().dirty.len()
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone + Eq + Hash> Core<T> {
    /// Whether there is one more that is ready.
    fn add(&mut self, item: T) -> bool {
        if !self.dirty.insert(item.clone()) || self.busy.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn add_at(&mut self, item: T, at: Instant) {
        if let Some(known) = self.due.get(&item).copied() {
            if known.0 <= at {
                return;
            }
            self.later.remove(&known);
        }
        self.serial += 1;
        let key = (at, self.serial);
        self.due.insert(item.clone(), key);
        self.later.insert(key, item);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let item = entry.remove();
            self.due.remove(&item);
            self.add(item);
        }
    }

    fn take(&mut self) -> Option<T> {
        let item = self.ready.pop_front()?;
        self.dirty.remove(&item);
        self.busy.insert(item.clone());
        Some(item)
    }

    /// Whether there is one more that is ready.
    fn done(&mut self, item: &T) -> bool {
        self.busy.remove(item);
        let again = self.dirty.contains(item);
        if again {
            self.ready.push_back(item.clone());
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ready(queue: &Queue<&'static str>) -> Option<&'static str> {
        queue.next().now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_added_twice_is_given_out_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(ready(&queue), Some("a"));
        assert_eq!(ready(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_added_while_it_is_worked_on_comes_again_when_that_is_done() {
        let queue = Queue::default();
        queue.add("a");
        assert_eq!(ready(&queue), Some("a"));
        queue.add("a");
        assert_eq!(ready(&queue), None);
        queue.done(&"a");
        assert_eq!(ready(&queue), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_pauses_the_shorter_one_counts() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(6));
        let started = Instant::now();
        assert_eq!(queue.next().await, "a");
        assert_eq!(started.elapsed(), Duration::from_secs(3));
        queue.done(&"a");
        assert!(
            tokio::time::timeout(Duration::from_secs(60), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_waits_later_does_not_hold_up_one_that_is_added_now() {
        let queue = Queue::default();
        queue.add_after("later", Duration::from_secs(9));
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.add("now");
        let started = Instant::now();
        assert_eq!(waiting.await.unwrap(), "now");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_with_each_failure_up_to_the_bound_and_starts_anew_after_success() {
        let queue = Queue::with_retry_max(Duration::from_millis(30));
        let mut pauses = vec![];
        for _ in 0..5 {
            let started = Instant::now();
            queue.retry("a");
            assert_eq!(queue.next().await, "a");
            queue.done(&"a");
            pauses.push(started.elapsed().as_millis());
        }
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
        queue.forget(&"a");
        assert_eq!(queue.retry("a"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiting_worker_gets_an_item_when_many_are_added() {
        let queue = Queue::default();
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        for item in ["a", "b", "c"] {
            queue.add(item);
        }
        let mut got = vec![];
        for worker in workers {
            got.push(worker.await.unwrap());
        }
        got.sort();
        assert_eq!(got, ["a", "b", "c"]);
    }
}
