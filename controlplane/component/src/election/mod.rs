//! Leader election: of all processes that share a Lease's name, one at a time works.
//!
//! A candidate writes the Lease by compare-and-put, so that of two who try one fails. Whoever watches does not trust the
//! times in the Lease, which another machine's clock wrote: it counts from when it saw the Lease change, on its own
//! monotonic clock. The leader counts from before it sent its last successful renewal, which is earlier than anybody can
//! have seen it, and it has ended its work when that is `renew_deadline` ago and a fraction of the rest has passed; the
//! others begin after `lease_duration` at the earliest.

mod candidate;
mod leases;
mod run;

use std::time::Duration;

pub use candidate::{Candidate, Step};
use keelson_notation::duration;
pub use leases::Leases;
pub use run::lead;

/// The flags of leader election.
#[derive(Debug, Clone, clap::Args)]
pub struct ElectionArgs {
    /// Work only while holding the Lease, so that several processes may run and one works
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long those who wait leave a Lease that is not renewed to its holder, in seconds (fractions are allowed)
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    pub leader_elect_lease_duration: Duration,
    /// For how long the leader goes on trying to renew before it stops working
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub leader_elect_renew_deadline: Duration,
    /// The pause between two attempts to acquire or renew
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub leader_elect_retry_period: Duration,
    /// The Lease's name [default: the component's]
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,
    /// The Lease's namespace
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
}

/// How an election goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long a Lease that does not change is left alone.
    pub lease_duration: Duration,
    /// How long a leader that cannot renew goes on.
    pub renew_deadline: Duration,
    /// The pause between attempts.
    pub retry_period: Duration,
}

impl ElectionArgs {
    /// The timing, if it is sound.
    pub fn timing(&self) -> anyhow::Result<Timing> {
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        };
        anyhow::ensure!(
            timing.lease_duration > timing.renew_deadline,
            "--leader-elect-lease-duration must be longer than --leader-elect-renew-deadline"
        );
        anyhow::ensure!(
            timing.renew_deadline.as_secs_f64() > 1.2 * timing.retry_period.as_secs_f64(),
            "--leader-elect-renew-deadline must be longer than 1.2 times --leader-elect-retry-period"
        );
        anyhow::ensure!(
            timing.lease_duration >= Duration::from_secs(1) && !timing.retry_period.is_zero(),
            "--leader-elect-lease-duration must be a second at least, and --leader-elect-retry-period more than zero"
        );
        Ok(timing)
    }
}
