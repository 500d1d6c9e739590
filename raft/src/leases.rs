//! The leader's lease clock: which leases run out when.
//!
//! The state machine knows which leases exist; time is the leader's alone. A member that becomes leader gives every
//! lease its full time again; one that no longer leads forgets the clock, so that a deposed leader can neither renew
//! a lease nor report one as run out. Instants are durations since the member started, read by the caller.
//!
//! Renewals are what there are most of: one only sets a deadline. The queue may hold a lease by an earlier one, and puts it
//! back by the right one when that comes: once in a lease's time, however often it is renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keelson_planted::{Bug, on};
use keelson_store::{LeaseChange, LeaseId};
use parking_lot::{Mutex, MutexGuard};

/// At most so many leases are reported as run out at once, in one log entry: others wait while they are applied.
const EXPIRE_BATCH: usize = 96;

/// How many times as many, when they are very late.
const EXPIRE_BATCH_GROWTH: usize = 10;

/// So many leases of the queue are looked at before renewals have their turn.
const LOOKED_AT: usize = 256;

#[derive(Default)]
pub(crate) struct LeaseClock {
    inner: Mutex<Inner>,
}

/// Leases that have run out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) ids: Vec<LeaseId>,
    /// How long ago the first of them did.
    pub(crate) late: Duration,
}

/// Keeps everybody from the clock.
pub(crate) struct Held<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, Inner>);

#[derive(Default)]
struct Inner {
    leading: bool,
    leases: BTreeMap<LeaseId, Timer>,
    /// When to look at a lease: at its deadline, or at one that it had before.
    queue: BTreeSet<(Duration, LeaseId)>,
}

struct Timer {
    ttl: Duration,
    deadline: Duration,
    /// Its place in the queue; none once it is proposed as run out: too late for a renewal.
    queued: Option<Duration>,
}

/// What a renewal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The lease lives on for so many seconds.
    Renewed(i64),
    /// There is no such lease.
    Unknown,
    /// It has run out and is about to be revoked: ask again once that is done.
    Expiring,
    /// This member does not lead.
    NotLeading,
}

impl LeaseClock {
    /// This member leads now and has applied everything of the terms before: every lease gets its full time.
    pub(crate) fn lead(&self, now: Duration, leases: Vec<(LeaseId, i64)>) {
        let mut inner = self.inner.lock();
        *inner = Inner {
            leading: true,
            ..Inner::default()
        };
        for (id, ttl_s) in leases {
            let ttl_s = if on(Bug::LeasesEndWithLeader) {
                0
            } else {
                ttl_s
            };
            inner.start(now, id, ttl_s);
        }
    }

    /// This member no longer leads.
    pub(crate) fn step_down(&self) {
        *self.inner.lock() = Inner::default();
    }

    /// Leases came and went in what is about to be published. Nobody gets to the clock while what this gives is held: who has seen
    /// the new state must find the new clock, and who has not, the old one.
    pub(crate) fn applied(&self, now: Duration, changes: &[LeaseChange]) -> Option<Held<'_>> {
        if changes.is_empty() {
            return None;
        }
        let mut inner = self.inner.lock();
        if !inner.leading {
            return None;
        }
        for change in changes {
            match *change {
                LeaseChange::Granted { id, ttl_s } => inner.start(now, id, ttl_s),
                LeaseChange::Revoked { id } => inner.stop(id),
            }
        }
        Some(Held(inner))
    }

    /// Gives a lease its full time again.
    pub(crate) fn renew(&self, now: Duration, id: LeaseId) -> Renewal {
        let mut inner = self.inner.lock();
        if !inner.leading {
            return Renewal::NotLeading;
        }
        let Some(timer) = inner.leases.get_mut(&id) else {
            return Renewal::Unknown;
        };
        if timer.queued.is_none() || timer.deadline <= now {
            return Renewal::Expiring;
        }
        // Another caller may have read the clock later, and been here first.
        timer.deadline = timer.deadline.max(now.saturating_add(timer.ttl));
        Renewal::Renewed(timer.ttl.as_secs() as i64)
    }

    /// Whole seconds that a lease has left, -1 if there is no such lease; none if this member does not lead.
    pub(crate) fn remaining(&self, now: Duration, id: LeaseId) -> Option<i64> {
        let inner = self.inner.lock();
        let left = |timer: &Timer| timer.deadline.saturating_sub(now).as_secs() as i64;
        inner
            .leading
            .then(|| inner.leases.get(&id).map_or(-1, left))
    }

    /// Leases that have run out and were not reported yet: a batch of them, which is as many times as large as the first is late, in
    /// `late_max`es.
    pub(crate) fn expired(&self, now: Duration, late_max: Duration) -> Due {
        let mut due = Due::default();
        // In several goes: all the leases that were granted together are in the queue together.
        while self.inner.lock().look_at_the_queue(now, late_max, &mut due) {}
        due
    }

    /// These were reported, but the proposal did not go through: report them again.
    pub(crate) fn report_again(&self, ids: &[LeaseId]) {
        let mut inner = self.inner.lock();
        for &id in ids {
            inner.queue_up(id);
        }
    }
}

/// How many leases are reported at once when the first is so late.
fn batch_of(late: Duration, late_max: Duration) -> usize {
    let times = late.div_duration_f64(late_max) as usize;
    EXPIRE_BATCH * times.clamp(1, EXPIRE_BATCH_GROWTH)
}

impl Inner {
    /// Adds some of the leases that have run out. Whether there may be more.
    fn look_at_the_queue(&mut self, now: Duration, late_max: Duration, due: &mut Due) -> bool {
        for _ in 0..LOOKED_AT {
            let Some(&(at, id)) = self.queue.first() else {
                return false;
            };
            if at > now || due.ids.len() >= batch_of(due.late, late_max) {
                return false;
            }
            self.queue.pop_first();
            let Some(timer) = self.leases.get_mut(&id) else {
                continue;
            };
            timer.queued = None;
            if timer.deadline > now {
                self.queue_up(id);
            } else {
                due.late = due.late.max(now - timer.deadline);
                due.ids.push(id);
            }
        }
        true
    }

    fn start(&mut self, now: Duration, id: LeaseId, ttl_s: i64) {
        self.stop(id);
        let ttl = Duration::from_secs(ttl_s.max(0) as u64);
        let deadline = now.saturating_add(ttl);
        let queued = None;
        self.leases.insert(
            id,
            Timer {
                ttl,
                deadline,
                queued,
            },
        );
        self.queue_up(id);
    }

    /// Has a lease looked at when its time is up, unless it is in the queue.
    fn queue_up(&mut self, id: LeaseId) {
        if let Some(timer) = self.leases.get_mut(&id).filter(|it| it.queued.is_none()) {
            timer.queued = Some(timer.deadline);
            self.queue.insert((timer.deadline, id));
        }
    }

    fn stop(&mut self, id: LeaseId) {
        if let Some(queued) = self.leases.remove(&id).and_then(|timer| timer.queued) {
            self.queue.remove(&(queued, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LeaseId = LeaseId(1);
    const LATE_MAX: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_runs_out_once_unless_it_is_renewed() {
        let clock = LeaseClock::default();
        clock.lead(at(0), vec![(ONE, 10)]);
        assert_eq!(clock.expired(at(9), LATE_MAX).ids, vec![]);
        assert_eq!(clock.renew(at(9), ONE), Renewal::Renewed(10));
        assert_eq!(clock.expired(at(18), LATE_MAX).ids, vec![]);
        assert_eq!(clock.remaining(at(18), ONE), Some(1));
        let due = Due {
            ids: vec![ONE],
            late: at(0),
        };
        assert_eq!(clock.expired(at(19), LATE_MAX), due);
        assert_eq!(clock.expired(at(20), LATE_MAX).ids, vec![]);
        assert_eq!(clock.renew(at(20), ONE), Renewal::Expiring);
        clock.report_again(&[ONE]);
        let late = at(1);
        assert_eq!(clock.expired(at(20), LATE_MAX), Due { late, ..due });
        drop(clock.applied(at(21), &[LeaseChange::Revoked { id: ONE }]));
        assert_eq!(clock.renew(at(21), ONE), Renewal::Unknown);
    }

    #[test]
    fn a_member_that_does_not_lead_neither_renews_nor_expires() {
        let clock = LeaseClock::default();
        clock.lead(at(0), vec![(ONE, 10)]);
        clock.step_down();
        assert_eq!(clock.renew(at(1), ONE), Renewal::NotLeading);
        // Not "no such lease": that would be its end for the client.
        assert_eq!(clock.remaining(at(1), ONE), None);
        assert_eq!(clock.expired(at(99), LATE_MAX).ids, vec![]);
    }

    #[test]
    fn nobody_gets_to_the_clock_before_what_changed_it_is_published() {
        let clock = LeaseClock::default();
        clock.lead(at(0), vec![(ONE, 10)]);
        let held = clock.applied(at(1), &[LeaseChange::Revoked { id: ONE }]);
        assert!(held.is_some() && clock.inner.is_locked());
        drop(held);
        assert_eq!(clock.renew(at(1), ONE), Renewal::Unknown);
    }

    #[test]
    fn a_new_leader_gives_every_lease_its_full_time() {
        let clock = LeaseClock::default();
        clock.lead(at(100), vec![(ONE, 10)]);
        assert_eq!(clock.expired(at(109), LATE_MAX).ids, vec![]);
        assert_eq!(clock.expired(at(110), LATE_MAX).ids, vec![ONE]);
    }

    #[test]
    fn a_lease_that_was_renewed_is_in_the_queue_once_and_leaves_it_with_the_lease() {
        let clock = LeaseClock::default();
        clock.lead(at(0), vec![(ONE, 10)]);
        for seconds in 1..40 {
            assert_eq!(clock.renew(at(seconds), ONE), Renewal::Renewed(10));
            assert_eq!(clock.expired(at(seconds), LATE_MAX).ids, vec![]);
            assert_eq!(clock.inner.lock().queue.len(), 1);
        }
        drop(clock.applied(at(40), &[LeaseChange::Revoked { id: ONE }]));
        assert!(clock.inner.lock().queue.is_empty());
        assert_eq!(clock.expired(at(99), LATE_MAX).ids, vec![]);
    }

    #[test]
    fn who_read_the_clock_earlier_does_not_take_time_from_a_lease() {
        let clock = LeaseClock::default();
        clock.lead(at(0), vec![(ONE, 10)]);
        assert_eq!(clock.renew(at(5), ONE), Renewal::Renewed(10));
        assert_eq!(clock.renew(at(4), ONE), Renewal::Renewed(10));
        assert_eq!(clock.remaining(at(5), ONE), Some(10));
    }

    #[test]
    fn of_many_leases_those_that_were_not_renewed_are_reported_in_batches() {
        let clock = LeaseClock::default();
        let all = (0..3 * EXPIRE_BATCH as i64).map(LeaseId);
        clock.lead(at(0), all.clone().map(|id| (id, 10)).collect());
        let (renewed, left): (Vec<_>, Vec<_>) = all.partition(|id| id.0 % 3 == 0);
        for id in &renewed {
            assert_eq!(clock.renew(at(9), *id), Renewal::Renewed(10));
        }
        for batch in left.chunks(EXPIRE_BATCH) {
            assert_eq!(clock.expired(at(10), LATE_MAX).ids, batch);
        }
        assert_eq!(clock.expired(at(18), LATE_MAX).ids, vec![]);
        assert_eq!(
            clock.expired(at(19), LATE_MAX).ids.len(),
            renewed.len().min(EXPIRE_BATCH)
        );
    }

    #[test]
    fn however_many_were_renewed_those_that_were_not_are_reported_at_once() {
        let clock = LeaseClock::default();
        let all = (0..4 * LOOKED_AT as i64).map(LeaseId);
        clock.lead(at(0), all.clone().map(|id| (id, 10)).collect());
        let last = 4 * LOOKED_AT as i64 - 2;
        for id in all.take(last as usize) {
            assert_eq!(clock.renew(at(9), id), Renewal::Renewed(10));
        }
        let due = clock.expired(at(10), LATE_MAX);
        assert_eq!(due.ids, [last, last + 1].map(LeaseId));
    }

    #[test]
    fn the_later_it_is_the_more_are_reported_at_once() {
        for (seconds, batch) in [(0, 1), (3, 1), (4, 2), (7, 3), (99, EXPIRE_BATCH_GROWTH)] {
            let clock = LeaseClock::default();
            let many = 2 * EXPIRE_BATCH * EXPIRE_BATCH_GROWTH;
            clock.lead(at(0), (0..many as i64).map(|id| (LeaseId(id), 0)).collect());
            let due = clock.expired(at(seconds), LATE_MAX);
            assert_eq!(due.ids.len(), batch * EXPIRE_BATCH, "{seconds} s late");
        }
    }
}
