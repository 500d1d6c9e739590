//! What a candidate does about a Lease: pure, with the time as an argument.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use tokio::time::Instant;

use super::Timing;

/// One who wants the Lease, or has it.
#[derive(Debug)]
pub struct Candidate {
    identity: String,
    name: String,
    timing: Timing,
    observed: Option<Observed>,
    /// The last step was to write the Lease.
    claimed: bool,
}

/// The Lease as it was last seen.
#[derive(Debug)]
struct Observed {
    spec: LeaseSpec,
    /// When we saw it change, on our clock. Its own times are another machine's.
    at: Instant,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Write this Lease.
    Write(Box<Lease>),
    /// Somebody else has it.
    Wait,
}

impl Candidate {
    /// A candidate under an identity that no other process has.
    pub fn new(name: &str, identity: &str, timing: Timing) -> Candidate {
        Candidate {
            identity: identity.to_owned(),
            name: name.to_owned(),
            timing,
            observed: None,
            claimed: false,
        }
    }

    /// Whether the Lease may be ours, though nobody has said so: what was to be written may have been.
    pub fn may_hold(&self) -> bool {
        self.claimed
    }

    /// Decides, having read the Lease at `now`.
    pub fn step(&mut self, lease: Option<Lease>, now: Instant, wall: Timestamp) -> Step {
        self.claimed = true;
        let Some(mut lease) = lease else {
            let spec = self.claim(None, wall);
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let spec = Some(spec);
            return Step::Write(Box::new(Lease { metadata, spec }));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let at = match &self.observed {
            Some(observed) if observed.spec == spec => observed.at,
            _ => now,
        };
        let duration = spec.lease_duration_seconds.unwrap_or_default().max(0);
        let valid_until = at + Duration::from_secs(duration.unsigned_abs().into());
        let holder = spec.holder_identity.clone().unwrap_or_default();
        self.observed = Some(Observed { spec, at });
        if !holder.is_empty() && holder != self.identity && valid_until > now {
            self.claimed = false;
            return Step::Wait;
        }
        lease.spec = Some(self.claim(lease.spec.as_ref(), wall));
        Step::Write(Box::new(lease))
    }

    /// The Lease of one who leads and goes.
    pub fn release(&self, mut lease: Lease, wall: Timestamp) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        // So that whoever saw the Lease before need not wait out the old duration.
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        spec.acquire_time = Some(MicroTime(wall));
        lease
    }

    /// Whether this Lease is ours.
    pub fn holds(&self, lease: &Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_ref());
        holder == Some(&self.identity)
    }

    fn claim(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let ours = |spec: &&LeaseSpec| spec.holder_identity.as_ref() == Some(&self.identity);
        let renewed = before.filter(ours);
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or_default());
        let seconds = self.timing.lease_duration.as_secs_f64().ceil();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds as i32),
            acquire_time: renewed
                .and_then(|spec| spec.acquire_time.clone())
                .or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(match (before, renewed) {
                (None, _) => 0,
                (Some(_), Some(_)) => transitions,
                (Some(_), None) => transitions + 1,
            }),
            ..before.cloned().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing() -> Timing {
        Timing {
            lease_duration: 15 * SECOND,
            renew_deadline: 10 * SECOND,
            retry_period: 2 * SECOND,
        }
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn held_by(identity: &str, renewed: i64) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(identity.into()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(wall(0))),
            renew_time: Some(MicroTime(wall(renewed))),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some("lease".into()),
            resource_version: Some("5".into()),
            ..ObjectMeta::default()
        };
        let spec = Some(spec);
        Lease { metadata, spec }
    }

    fn me() -> Candidate {
        Candidate::new("lease", "me", timing())
    }

    fn written(step: Step) -> LeaseSpec {
        match step {
            Step::Write(lease) => lease.spec.unwrap(),
            Step::Wait => panic!("it should write"),
        }
    }

    #[test]
    fn no_lease_is_created() {
        let step = me().step(None, Instant::now(), wall(0));
        let Step::Write(lease) = step else {
            panic!("it should write")
        };
        assert_eq!(lease.metadata.resource_version, None);
        let spec = lease.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(spec.lease_duration_seconds, Some(15));
    }

    #[test]
    fn a_lease_of_another_is_left_alone_until_it_has_not_changed_for_its_duration() {
        let (mut me, start) = (me(), Instant::now());
        // Its times are long past, by its own clock: that must not matter.
        assert_eq!(
            me.step(Some(held_by("other", -900)), start, wall(0)),
            Step::Wait
        );
        assert_eq!(
            me.step(Some(held_by("other", -900)), start + 14 * SECOND, wall(0)),
            Step::Wait
        );
        let spec = written(me.step(Some(held_by("other", -900)), start + 15 * SECOND, wall(15)));
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!(spec.lease_transitions, Some(4));
        assert_eq!(spec.acquire_time, Some(MicroTime(wall(15))));
    }

    #[test]
    fn every_renewal_starts_the_wait_anew() {
        let (mut me, start) = (me(), Instant::now());
        for second in 0..60 {
            let now = start + SECOND * second;
            assert_eq!(
                me.step(Some(held_by("other", second.into())), now, wall(0)),
                Step::Wait
            );
        }
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let spec = written(me().step(Some(held_by("", 0)), Instant::now(), wall(1)));
        assert_eq!(spec.lease_transitions, Some(4));
    }

    #[test]
    fn renewing_keeps_when_it_was_acquired() {
        let spec = written(me().step(Some(held_by("me", 0)), Instant::now(), wall(9)));
        assert_eq!(spec.acquire_time, Some(MicroTime(wall(0))));
        assert_eq!(spec.renew_time, Some(MicroTime(wall(9))));
        assert_eq!(spec.lease_transitions, Some(3));
    }

    #[test]
    fn a_write_is_conditional_on_the_version_that_was_read() {
        let step = me().step(Some(held_by("", 0)), Instant::now(), wall(1));
        let Step::Write(lease) = step else {
            panic!("it should write")
        };
        assert_eq!(lease.metadata.resource_version.as_deref(), Some("5"));
    }

    #[test]
    fn a_released_lease_names_nobody_and_lasts_a_second() {
        let spec = me().release(held_by("me", 0), wall(1)).spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some(""));
        assert_eq!(spec.lease_duration_seconds, Some(1));
    }
}
