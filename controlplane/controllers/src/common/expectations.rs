//! What a controller has asked for and not seen yet.
//!
//! A pod that was created a moment ago is not in the store until the watch brings it; who counts the store's pods
//! meanwhile creates one too many. So a controller notes what it expects before it asks, and counts again only when all
//! of it has been seen. What was asked for and never comes (it was lost with the connection, say) expires.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use kube::api::ObjectMeta;

use super::meta::is_deleted;
use super::owner::Owner;

/// After this time the store is believed, whatever was expected.
const EXPIRY: Duration = Duration::from_secs(300);

/// What is expected, by owner.
#[derive(Debug, Default)]
pub struct Expectations {
    owners: HashMap<Owner, Expected>,
}

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// By UID: a deletion may be seen several times, as a deletion timestamp and as a removal.
    deletions: HashSet<String>,
    doubts: Vec<Doubt>,
    since: Duration,
}

/// A request whose answer was lost for good. Whether it was carried out must be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Of a pod.
    Creation {
        /// The name that it was to have.
        name: String,
    },
    /// Of a pod.
    Deletion {
        /// Its name.
        name: String,
        /// What tells it from others of its name.
        uid: String,
    },
}

impl Doubt {
    /// The name of the pod to ask for.
    pub fn name(&self) -> &str {
        match self {
            Doubt::Creation { name } | Doubt::Deletion { name, .. } => name,
        }
    }
}

impl Expectations {
    /// Expects that many more to appear. Times are on any one monotonic clock.
    pub fn expect_creations(&mut self, owner: &Owner, count: usize, now: Duration) {
        self.expected(owner, now).creations += count;
    }

    /// Expects these to go.
    pub fn expect_deletions(
        &mut self,
        owner: &Owner,
        pods: impl IntoIterator<Item = String>,
        now: Duration,
    ) {
        self.expected(owner, now).deletions.extend(pods);
    }

    fn expected(&mut self, owner: &Owner, now: Duration) -> &mut Expected {
        let expected = self.owners.entry(owner.clone()).or_insert(Expected {
            creations: 0,
            deletions: HashSet::new(),
            doubts: Vec::new(),
            since: now,
        });
        expected.since = now;
        expected
    }

    /// One has appeared, or will not: its creation failed.
    pub fn saw_creation(&mut self, owner: &Owner) {
        if let Some(expected) = self.owners.get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// One is going, or will not: its deletion failed.
    pub fn saw_deletion(&mut self, owner: &Owner, pod: &str) {
        if let Some(expected) = self.owners.get_mut(owner) {
            expected.deletions.remove(pod);
        }
    }

    /// One may come, or go, or not. It is expected until that is settled.
    pub fn doubt(&mut self, owner: &Owner, doubt: Doubt) {
        if let Some(expected) = self.owners.get_mut(owner) {
            expected.doubts.push(doubt);
        }
    }

    /// What is to be settled.
    pub fn doubts(&self, owner: &Owner) -> Vec<Doubt> {
        let expected = self.owners.get(owner);
        expected.map_or_else(Vec::new, |expected| expected.doubts.clone())
    }

    /// The pod that a doubt names was asked for: what has happened is still waited for, as the watch must tell it.
    pub fn settle(&mut self, owner: &Owner, doubt: &Doubt, live: Option<&ObjectMeta>) {
        let Some(expected) = self.owners.get_mut(owner) else {
            return;
        };
        expected.doubts.retain(|known| known != doubt);
        match doubt {
            Doubt::Creation { .. } if live.is_none() => self.saw_creation(owner),
            Doubt::Deletion { uid, .. }
                if live.is_some_and(|live| live.uid.as_ref() == Some(uid) && !is_deleted(live)) =>
            {
                self.saw_deletion(owner, uid);
            }
            _ => (),
        }
    }

    /// After what time the store is believed, if anything is expected: nothing else may come to tell.
    pub fn expires_in(&self, owner: &Owner, now: Duration) -> Option<Duration> {
        let expected = self.owners.get(owner)?;
        let met = expected.creations == 0 && expected.deletions.is_empty();
        let rest = EXPIRY.saturating_sub(now.saturating_sub(expected.since));
        (!met).then_some(rest + Duration::from_millis(1))
    }

    /// Whether everything was seen, or has expired.
    pub fn are_met(&mut self, owner: &Owner, now: Duration) -> bool {
        let Some(expected) = self.owners.get(owner) else {
            return true;
        };
        let met = expected.creations == 0 && expected.deletions.is_empty();
        if met || now.saturating_sub(expected.since) > EXPIRY {
            self.owners.remove(owner);
            return true;
        }
        false
    }

    /// How many are still to appear.
    pub fn creating(&self, owner: &Owner) -> usize {
        let expected = self.owners.get(owner);
        expected.map_or(0, |expected| expected.creations)
    }

    /// Whether this pod was asked to go. It is as good as gone, whatever the store says.
    pub fn is_going(&self, owner: &Owner, pod: &str) -> bool {
        let expected = self.owners.get(owner);
        expected.is_some_and(|expected| expected.deletions.contains(pod))
    }

    /// The owner is gone.
    pub fn forget(&mut self, owner: &Owner) {
        self.owners.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn rs() -> Owner {
        Owner::called("rs")
    }

    #[test]
    fn who_expects_nothing_may_go_on() {
        assert!(Expectations::default().are_met(&rs(), NOW));
    }

    #[test]
    fn creations_are_counted() {
        let mut expectations = Expectations::default();
        expectations.expect_creations(&rs(), 2, NOW);
        expectations.saw_creation(&rs());
        expectations.saw_creation(&Owner::called("other"));
        assert!(!expectations.are_met(&rs(), NOW));
        expectations.saw_creation(&rs());
        expectations.saw_creation(&rs());
        assert!(expectations.are_met(&rs(), NOW));
    }

    #[test]
    fn a_deletion_seen_twice_counts_once() {
        let mut expectations = Expectations::default();
        expectations.expect_deletions(&rs(), ["a".into(), "b".into()], NOW);
        expectations.saw_deletion(&rs(), "a");
        expectations.saw_deletion(&rs(), "a");
        assert!(!expectations.are_met(&rs(), NOW));
        assert!(!expectations.is_going(&rs(), "a"));
        assert!(expectations.is_going(&rs(), "b"));
        expectations.saw_deletion(&rs(), "b");
        assert!(expectations.are_met(&rs(), NOW));
    }

    #[test]
    fn what_one_expects_is_nothing_to_another() {
        let mut expectations = Expectations::default();
        let other = Owner::called("other");
        expectations.expect_deletions(&rs(), ["a".into(), "b".into()], NOW);
        expectations.expect_deletions(&other, ["b".into(), "c".into()], NOW);
        expectations.saw_deletion(&rs(), "c");
        expectations.saw_deletion(&other, "a");
        for pod in ["b", "c"] {
            expectations.saw_deletion(&other, pod);
        }
        assert!(expectations.are_met(&other, NOW));
        assert!(!expectations.are_met(&rs(), NOW));
        expectations.forget(&rs());
        assert!(expectations.are_met(&rs(), NOW));
        assert!(!expectations.is_going(&rs(), "a"));
    }

    #[test]
    fn a_creation_in_doubt_is_expected_only_if_the_pod_is_there() {
        let mut expectations = Expectations::default();
        expectations.expect_creations(&rs(), 2, NOW);
        for name in ["there", "not"] {
            let name = name.to_owned();
            expectations.doubt(&rs(), Doubt::Creation { name });
        }
        for doubt in expectations.doubts(&rs()) {
            let live = (doubt.name() == "there").then(ObjectMeta::default);
            expectations.settle(&rs(), &doubt, live.as_ref());
        }
        assert_eq!(expectations.creating(&rs()), 1);
        assert_eq!(expectations.doubts(&rs()), []);
    }

    #[test]
    fn a_deletion_in_doubt_is_expected_unless_the_same_pod_still_runs() {
        let mut expectations = Expectations::default();
        let pods = ["gone", "replaced", "runs"];
        expectations.expect_deletions(&rs(), pods.map(str::to_owned), NOW);
        for pod in pods {
            let (name, uid) = (pod.to_owned(), pod.to_owned());
            let doubt = Doubt::Deletion { name, uid };
            expectations.doubt(&rs(), doubt.clone());
            let uid = Some(if pod == "runs" { pod } else { "another" }.to_owned());
            let live = ObjectMeta {
                uid,
                ..ObjectMeta::default()
            };
            expectations.settle(&rs(), &doubt, (pod != "gone").then_some(&live));
        }
        let going = pods.map(|pod| expectations.is_going(&rs(), pod));
        assert_eq!(going, [true, true, false]);
    }

    #[test]
    fn who_waits_knows_until_when() {
        let mut expectations = Expectations::default();
        assert_eq!(expectations.expires_in(&rs(), NOW), None);
        expectations.expect_creations(&rs(), 1, NOW);
        let rest = expectations.expires_in(&rs(), NOW + EXPIRY / 2).unwrap();
        assert!(rest <= EXPIRY / 2 + Duration::from_millis(1));
        assert!(expectations.are_met(&rs(), NOW + EXPIRY / 2 + rest));
    }

    #[test]
    fn what_never_comes_expires_after_five_minutes() {
        let mut expectations = Expectations::default();
        expectations.expect_creations(&rs(), 1, NOW);
        assert!(!expectations.are_met(&rs(), NOW + EXPIRY));
        assert!(expectations.are_met(&rs(), NOW + EXPIRY + Duration::from_millis(1)));
    }
}
