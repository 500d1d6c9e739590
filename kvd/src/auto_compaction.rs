//! When to compact by itself, as the operator's policy says. Only decides: the clock, the store and the compacting
//! are its caller's.
//!
//! A period is etcd's (`v3compactor/periodic.go`): the revision is noted ten times a period (a period being an hour at
//! most), and once a whole retention has passed, the history before it goes, once a period. A number of revisions is
//! looked at every five minutes.

use std::collections::VecDeque;
use std::time::Duration;

use keelson_store::Revision;

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// That of a time.
    Period(Duration),
    /// That of so many revisions.
    Revisions(i64),
}

/// The longest time between two compactions of a period.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);
/// The shortest time between two looks: a period may be as short as somebody likes.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The time between two looks at the number of revisions.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The revision is noted so often in a period.
const NOTES_A_PERIOD: u32 = 10;

/// The policy at work.
#[derive(Debug)]
pub struct AutoCompaction {
    retention: Retention,
    /// The revisions noted, the oldest first.
    notes: VecDeque<Revision>,
    /// How many looks ago it was compacted, or the policy began.
    looks: u32,
    last: Option<Revision>,
}

impl AutoCompaction {
    /// A policy that has seen nothing yet.
    pub fn new(retention: Retention) -> AutoCompaction {
        AutoCompaction {
            retention,
            notes: VecDeque::new(),
            looks: 0,
            last: None,
        }
    }

    /// How long to wait between two calls of [`AutoCompaction::look`].
    pub fn interval(&self) -> Duration {
        match self.retention {
            Retention::Period(period) => {
                (period.min(PERIOD_MAX) / NOTES_A_PERIOD).max(INTERVAL_MIN)
            }
            Retention::Revisions(_) => REVISIONS_INTERVAL,
        }
    }

    /// Notes the present revision, and says to which one to compact now, if to any. Members that do not lead look as
    /// well, so that one that comes to lead knows the past.
    pub fn look(&mut self, now: Revision, leads: bool) -> Option<Revision> {
        let upto = match self.retention {
            Retention::Revisions(kept) => Revision(now.0 - kept),
            Retention::Period(period) => {
                let interval = self.interval();
                let notes_max = usize::try_from(period.as_nanos() / interval.as_nanos().max(1))
                    .unwrap_or(usize::MAX);
                self.notes.push_back(now);
                self.looks = self.looks.saturating_add(1);
                if self.notes.len() <= notes_max {
                    return None;
                }
                let due = self.last.is_none() || self.looks >= NOTES_A_PERIOD;
                let oldest = self.notes.pop_front()?;
                if !due {
                    return None;
                }
                oldest
            }
        };
        // 1 is the empty store's revision: there is nothing before it.
        (leads && upto.0 > 1 && Some(upto) != self.last).then_some(upto)
    }

    /// The compaction was done: the next one is a period away. Without this the next look says so again.
    pub fn done(&mut self, upto: Revision) {
        self.last = Some(upto);
        self.looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Looks so many times, at revisions that grow by ten, and gives the look and revision of each compaction.
    fn compactions(policy: &mut AutoCompaction, looks: i64) -> Vec<(i64, i64)> {
        let mut done = Vec::new();
        for look in 0..looks {
            if let Some(upto) = policy.look(Revision(100 + look * 10), true) {
                policy.done(upto);
                done.push((look, upto.0));
            }
        }
        done
    }

    #[test]
    fn an_hours_history_is_kept_and_the_rest_goes_once_an_hour() {
        let mut policy = AutoCompaction::new(Retention::Period(HOUR));
        assert_eq!(policy.interval(), HOUR / 10);
        assert_eq!(
            compactions(&mut policy, 31),
            [(10, 100), (20, 200), (30, 300)]
        );
    }

    #[test]
    fn a_days_history_is_kept_and_the_rest_goes_once_an_hour() {
        let mut policy = AutoCompaction::new(Retention::Period(24 * HOUR));
        assert_eq!(policy.interval(), HOUR / 10);
        assert_eq!(
            compactions(&mut policy, 261),
            [(240, 100), (250, 200), (260, 300)]
        );
    }

    #[test]
    fn a_period_of_no_length_to_speak_of_does_not_keep_a_member_busy() {
        let policy = AutoCompaction::new(Retention::Period(Duration::from_nanos(5)));
        assert_eq!(policy.interval(), Duration::from_millis(100));
    }

    #[test]
    fn a_compaction_that_failed_is_asked_for_again_at_the_next_look() {
        let mut policy = AutoCompaction::new(Retention::Period(HOUR));
        for look in 0..10 {
            assert_eq!(policy.look(Revision(100 + look), true), None);
        }
        assert_eq!(policy.look(Revision(200), true), Some(Revision(100)));
        assert_eq!(policy.look(Revision(201), true), Some(Revision(101)));
    }

    #[test]
    fn who_does_not_lead_compacts_nothing_and_knows_the_past_when_it_leads() {
        let mut policy = AutoCompaction::new(Retention::Period(HOUR));
        for look in 0..20 {
            assert_eq!(policy.look(Revision(100 + look), false), None);
        }
        assert_eq!(policy.look(Revision(120), true), Some(Revision(110)));
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let mut policy = AutoCompaction::new(Retention::Revisions(1000));
        assert_eq!(policy.interval(), Duration::from_secs(300));
        assert_eq!(policy.look(Revision(900), true), None);
        assert_eq!(policy.look(Revision(1500), true), Some(Revision(500)));
        policy.done(Revision(500));
        assert_eq!(policy.look(Revision(1500), true), None);
        assert_eq!(policy.look(Revision(1501), true), Some(Revision(501)));
    }
}
