//! Pods that wait for a node: those to be tried now, those that were tried in vain and wait a while, and those that
//! wait until something changes.
//!
//! Time comes in as an argument, in milliseconds since the scheduler started.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::filter::Filter;
use crate::pod::{PodInfo, PodKey};

/// The first wait after a try in vain.
const BACKOFF_FIRST_MS: u64 = 1_000;
/// The longest.
const BACKOFF_MAX_MS: u64 = 10_000;
/// Who has waited so long for a change is tried all the same, in case one was missed.
const LONGEST_WAIT_MS: u64 = 5 * 60 * 1_000;

/// Something happened that may let waiting pods fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is another node.
    NodeAdded,
    /// A node has changed in what these look at.
    NodeChanged(BTreeSet<Filter>),
    /// A node is gone, with its domains and who was in them.
    NodeGone,
    /// A pod on a node has changed in what these look at.
    PodChanged(BTreeSet<Filter>),
    /// A pod was put on a node, by whomever.
    PodPlaced,
    /// A pod has left its node, or ended there.
    PodGone,
    /// A namespace has other labels.
    NamespaceChanged,
}

impl Change {
    /// Whether it may help a pod that `rejected_by` kept out.
    fn helps(&self, rejected_by: &BTreeSet<Filter>) -> bool {
        // Without a single node, nobody has rejected it.
        if rejected_by.is_empty() {
            return *self == Change::NodeAdded;
        }
        match self {
            Change::NodeAdded => true,
            Change::NodeChanged(filters) | Change::PodChanged(filters) => {
                !filters.is_disjoint(rejected_by)
            }
            Change::PodPlaced | Change::NodeGone => {
                rejected_by.contains(&Filter::PodAffinity) || rejected_by.contains(&Filter::Spread)
            }
            Change::NamespaceChanged => rejected_by.contains(&Filter::PodAffinity),
            Change::PodGone => [
                Filter::Resources,
                Filter::Ports,
                Filter::Spread,
                Filter::PodAffinity,
            ]
            .iter()
            .any(|filter| rejected_by.contains(filter)),
        }
    }
}

/// The order in which pods are tried: by priority, then by who came first.
type Turn = (Reverse<i32>, u64);

#[derive(Debug)]
struct Waiting {
    pod: Arc<PodInfo>,
    turn: Turn,
    /// Tries in vain so far.
    attempts: u32,
    /// What its user was told last.
    told: Option<String>,
    /// Its user is being told why it has no node. Were it bound meanwhile, that might be written over.
    telling: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// To be tried.
    Active,
    /// To be tried at this time.
    BackOff(u64),
    /// To be tried when something changes.
    Unschedulable {
        since: u64,
        /// The time before which no change brings it back.
        not_before: u64,
        rejected_by: BTreeSet<Filter>,
    },
    /// Being tried, or bound.
    Trying,
    /// To be tried once its user has been told.
    Due,
}

/// The queues.
#[derive(Debug, Default)]
pub struct Queue {
    pods: HashMap<PodKey, Waiting>,
    active: BTreeMap<Turn, PodKey>,
    backing_off: BTreeSet<(u64, PodKey)>,
    /// By the time since which they wait.
    unschedulable: BTreeSet<(u64, PodKey)>,
    arrivals: u64,
}

impl Queue {
    /// A pod without a node was seen. One that has changed since it was seen last is tried again at once.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        if self.renew(&pod) {
            return;
        }
        let key = pod.key.clone();
        let known = self.pods.get(&key).filter(|known| known.pod.uid == pod.uid);
        if known.is_some_and(|known| known.pod.fingerprint == pod.fingerprint) {
            return;
        }
        let (arrival, attempts, told, telling) = match known {
            Some(known) => {
                let told = known.told.clone();
                (known.turn.1, known.attempts, told, known.telling)
            }
            None => {
                self.arrivals += 1;
                (self.arrivals, 0, pod.told.clone(), false)
            }
        };
        self.remove(&key);
        let turn = (Reverse(pod.priority), arrival);
        self.pods.insert(
            key.clone(),
            Waiting {
                pod,
                turn,
                attempts,
                told,
                telling,
                state: State::Due,
            },
        );
        self.activate(key);
    }

    /// A pod was seen that may be being bound: if it is, and that fails, it is tried again as it is now. Says whether it is.
    pub fn renew(&mut self, pod: &Arc<PodInfo>) -> bool {
        let known = self.known_mut(pod);
        let trying = known.filter(|known| matches!(known.state, State::Trying));
        trying.map(|known| known.pod = pod.clone()).is_some()
    }

    /// A pod is gone, or has got a node.
    pub fn remove(&mut self, key: &PodKey) {
        let Some(waiting) = self.pods.remove(key) else {
            return;
        };
        match waiting.state {
            State::Active => {
                self.active.remove(&waiting.turn);
            }
            State::BackOff(until) => {
                self.backing_off.remove(&(until, key.clone()));
            }
            State::Unschedulable { since, .. } => {
                self.unschedulable.remove(&(since, key.clone()));
            }
            State::Trying | State::Due => {}
        }
    }

    /// The next pod to try. It must be given back by [`Queue::failed`], or removed; one that fits nowhere before
    /// [`Queue::changed`] is told of anything, so that no change falls between the two.
    pub fn next(&mut self, now: u64) -> Option<Arc<PodInfo>> {
        self.wake(now);
        let (_, key) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&key)?;
        waiting.state = State::Trying;
        Some(waiting.pod.clone())
    }

    /// No node was found for a pod, or binding it failed (then nobody rejected it, and it is tried again after a while).
    pub fn failed(&mut self, pod: &PodInfo, rejected_by: Option<BTreeSet<Filter>>, now: u64) {
        let Some(waiting) = self.known_mut(pod) else {
            return;
        };
        if !matches!(waiting.state, State::Trying) {
            return;
        }
        let wait = BACKOFF_FIRST_MS
            .saturating_mul(1 << waiting.attempts.min(10))
            .min(BACKOFF_MAX_MS);
        waiting.attempts = waiting.attempts.saturating_add(1);
        let until = now + wait;
        match rejected_by {
            Some(rejected_by) => {
                waiting.state = State::Unschedulable {
                    since: now,
                    not_before: until,
                    rejected_by,
                };
                self.unschedulable.insert((now, pod.key.clone()));
            }
            None => {
                waiting.state = State::BackOff(until);
                self.backing_off.insert((until, pod.key.clone()));
            }
        }
    }

    /// A pod has got a node. A namesake that came meanwhile waits on.
    pub fn placed(&mut self, pod: &PodInfo) {
        if self.known_mut(pod).is_some() {
            self.remove(&pod.key);
        }
    }

    /// A pod's user is being told why it has no node: until that is [done](Queue::told), it is not tried.
    pub fn telling(&mut self, pod: &PodInfo) {
        if let Some(waiting) = self.known_mut(pod) {
            waiting.telling = true;
        }
    }

    /// Remembers what a pod's user was told; `None` if nothing was.
    pub fn told(&mut self, pod: &PodInfo, message: Option<String>) {
        let Some(waiting) = self.known_mut(pod) else {
            return;
        };
        waiting.telling = false;
        waiting.told = message.or(waiting.told.take());
        if matches!(waiting.state, State::Due) {
            self.activate(pod.key.clone());
        }
    }

    /// What a pod's user was told last.
    pub fn last_told(&self, pod: &PodInfo) -> Option<String> {
        let waiting = self.pods.get(&pod.key)?;
        waiting.told.clone().filter(|_| waiting.pod.uid == pod.uid)
    }

    /// A pod, and not a namesake of it.
    fn known_mut(&mut self, pod: &PodInfo) -> Option<&mut Waiting> {
        let waiting = self.pods.get_mut(&pod.key)?;
        (waiting.pod.uid == pod.uid).then_some(waiting)
    }

    /// Something happened: whom it may help is tried again, once its back-off is over.
    pub fn changed(&mut self, change: &Change) {
        let Queue {
            pods,
            unschedulable,
            backing_off,
            ..
        } = self;
        unschedulable.retain(|(_, key)| {
            let Some(waiting) = pods.get_mut(key) else {
                return false;
            };
            let until = match &waiting.state {
                State::Unschedulable {
                    not_before,
                    rejected_by,
                    ..
                } if change.helps(rejected_by) => *not_before,
                _ => return true,
            };
            backing_off.insert((until, key.clone()));
            waiting.state = State::BackOff(until);
            false
        });
    }

    /// When [`Queue::next`] may have somebody again, if nobody comes and nothing changes before.
    pub fn next_wake(&self) -> Option<u64> {
        if !self.active.is_empty() {
            return Some(0);
        }
        let longest = self
            .unschedulable
            .first()
            .map(|(since, _)| since + LONGEST_WAIT_MS);
        let backed_off = self.backing_off.first().map(|(until, _)| *until);
        longest.into_iter().chain(backed_off).min()
    }

    fn wake(&mut self, now: u64) {
        let long_ago = now.checked_sub(LONGEST_WAIT_MS);
        while let Some((since, key)) = self.unschedulable.first().cloned()
            && long_ago.is_some_and(|long_ago| since <= long_ago)
        {
            self.unschedulable.remove(&(since, key.clone()));
            self.activate(key);
        }
        while let Some((until, key)) = self.backing_off.first().cloned()
            && until <= now
        {
            self.backing_off.remove(&(until, key.clone()));
            self.activate(key);
        }
    }

    fn activate(&mut self, key: PodKey) {
        let Some(waiting) = self.pods.get_mut(&key) else {
            return;
        };
        if waiting.telling {
            waiting.state = State::Due;
        } else {
            waiting.state = State::Active;
            self.active.insert(waiting.turn, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn key(name: &str) -> PodKey {
        pod(name).info().key.clone()
    }

    fn next(queue: &mut Queue, now: u64) -> Option<String> {
        queue.next(now).map(|pod| pod.key.name.to_string())
    }

    fn queue_of(names: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for name in names {
            queue.add(pod(name).info());
        }
        queue
    }

    fn by(filters: &[Filter]) -> Option<BTreeSet<Filter>> {
        Some(filters.iter().copied().collect())
    }

    #[test]
    fn pods_are_tried_by_priority_and_then_as_they_came() {
        let mut queue = queue_of(&["a", "b"]);
        queue.add(pod("urgent").spec("priority", json!(100)).info());
        let order = [0, 0, 0, 0].map(|now| next(&mut queue, now));
        assert_eq!(
            order,
            [
                Some("urgent".into()),
                Some("a".into()),
                Some("b".into()),
                None
            ]
        );
    }

    #[test]
    fn a_pod_that_fits_nowhere_waits_for_a_change_that_may_help() {
        let mut queue = queue_of(&["a"]);
        next(&mut queue, 0);
        queue.failed(&pod("a").info(), by(&[Filter::Resources]), 0);
        queue.changed(&Change::NodeChanged(BTreeSet::from([Filter::Taints])));
        assert_eq!(next(&mut queue, 60_000), None);
        queue.changed(&Change::PodGone);
        assert_eq!(next(&mut queue, 60_000), Some("a".into()));
    }

    #[test]
    fn a_change_does_not_shorten_the_back_off() {
        let mut queue = queue_of(&["a"]);
        let mut now = 0;
        for wait in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            assert_eq!(next(&mut queue, now), Some("a".into()), "at {now}");
            queue.failed(&pod("a").info(), by(&[Filter::Resources]), now);
            queue.changed(&Change::PodGone);
            assert_eq!(next(&mut queue, now + wait - 1), None);
            assert_eq!(queue.next_wake(), Some(now + wait));
            now += wait;
        }
    }

    #[test]
    fn a_binding_that_failed_is_tried_again_after_a_while() {
        let mut queue = queue_of(&["a"]);
        next(&mut queue, 0);
        queue.failed(&pod("a").info(), None, 0);
        assert_eq!(next(&mut queue, 999), None);
        assert_eq!(next(&mut queue, 1_000), Some("a".into()));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut queue = queue_of(&["a"]);
        next(&mut queue, 0);
        queue.failed(&pod("a").info(), by(&[Filter::NodeAffinity]), 0);
        assert_eq!(queue.next_wake(), Some(LONGEST_WAIT_MS));
        assert_eq!(next(&mut queue, LONGEST_WAIT_MS - 1), None);
        assert_eq!(next(&mut queue, LONGEST_WAIT_MS), Some("a".into()));
    }

    #[test]
    fn a_pod_that_was_changed_is_tried_at_once_and_one_that_is_gone_never() {
        let mut queue = queue_of(&["a", "b"]);
        next(&mut queue, 0);
        queue.failed(&pod("a").info(), by(&[Filter::NodeAffinity]), 0);
        queue.add(pod("a").label("new", "label").info());
        queue.remove(&key("b"));
        assert_eq!(next(&mut queue, 0), Some("a".into()));
        assert_eq!(next(&mut queue, 0), None);
    }

    #[test]
    fn without_nodes_only_a_node_helps() {
        let mut queue = queue_of(&["a"]);
        next(&mut queue, 0);
        queue.failed(&pod("a").info(), by(&[]), 0);
        queue.changed(&Change::PodGone);
        assert_eq!(next(&mut queue, 5_000), None);
        queue.changed(&Change::NodeAdded);
        assert_eq!(next(&mut queue, 5_000), Some("a".into()));
    }
}
