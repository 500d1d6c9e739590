//! What runs exercised: how often each kind of fault and of use has really happened.
//!
//! A simulation that has stopped doing something still passes. So everything that it is meant to do is counted where it
//! happens, and a test asks that a few seeds together have done all of it.

use std::collections::BTreeMap;

use keelson_store::Refusal;

use crate::checks::watches::{Met, Record};
use crate::operation::{Ask, Operation, Told};
use crate::truth::{Committed, Meaning};

macro_rules! kinds {
    ($($kind:ident = $text:literal,)+) => {
        /// Something that runs are meant to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs)] // The text says it.
        pub enum Kind {
            $($kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)+];

            /// What it is, in words that follow a number.
            pub fn text(self) -> &'static str {
                match self {
                    $(Kind::$kind => $text,)+
                }
            }
        }
    };
}

kinds! {
    // Members and their disks.
    PowerLoss = "losses of power",
    PowerLossInWrite = "losses of power in the middle of a write",
    PowerLossAfterPromise = "losses of power right after a vote or a snapshot",
    Kill = "kills",
    Stop = "orderly stops",
    Pause = "pauses",
    DiskHangs = "disks that hang",
    DiskFails = "disks that fail a sync",
    TornTail = "torn log tails cut at a start",
    Drift = "machines whose clock is off by half a per cent or more",
    LogReplaced = "log tails replaced by another leader's",
    LogPurged = "logs that begin later at a start than before",
    Election = "terms with a leader",
    Snapshot = "snapshots received",
    Batch = "batches of several entries applied",

    // The network.
    Cut = "cuts of the network",
    Lost = "messages lost",
    Twice = "messages that came twice",
    Overtaken = "messages that came after their sender gave them up",

    // The operator.
    Joined = "members added",
    Promoted = "learners promoted",
    Removed = "members removed",
    Replaced = "members replaced after their disk was lost",
    LeaderMoved = "moves of leadership",

    // Clients.
    Write = "puts and deletes",
    TxnMade = "txns whose guards held",
    TxnRefused = "txns whose guards did not",
    Read = "linearizable reads",
    Serializable = "serializable reads",
    PastRead = "reads of the past",
    CompactedRead = "reads refused, since it was compacted",
    Compaction = "compactions",

    // Leases.
    Granted = "leases granted",
    Renewed = "leases renewed",
    Expired = "leases that ran out",
    Revoked = "leases revoked",
    TooLate = "renewals of leases that had ended",

    // Watches.
    WatchResumed = "watches that went on on another stream",
    WatchCompacted = "watches cancelled, since it was compacted",
    Fragment = "fragments of large revisions",
    Progress = "progress notifications",
    PrevKv = "events with the version before",
}

/// How often each kind has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Kind, u64>);

impl Tally {
    /// Something has happened.
    pub fn count(&mut self, kind: Kind) {
        self.add(kind, 1);
    }

    /// It has happened so often.
    pub fn add(&mut self, kind: Kind, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    /// What another run has done.
    pub fn merge(&mut self, other: &Tally) {
        for (kind, times) in &other.0 {
            self.add(*kind, *times);
        }
    }

    /// How often something has happened.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// Counts what users have done.
    pub fn add_uses(
        &mut self,
        operations: &[Operation],
        committed: &[Committed],
        watches: &[Record],
    ) {
        for Operation { ask, told, .. } in operations {
            let kind = match (ask, told) {
                (Ask::Put { .. }, Told::Done { .. })
                | (Ask::Delete { .. }, Told::Deleted { .. }) => Kind::Write,
                (_, Told::Txn { succeeded, .. }) if *succeeded => Kind::TxnMade,
                (_, Told::Txn { .. }) => Kind::TxnRefused,
                (Ask::Read(_), Told::Refused { why, .. }) if *why == Refusal::Compacted => {
                    Kind::CompactedRead
                }
                (Ask::Read(read), Told::Read { .. }) => match read {
                    read if read.revision > 0 => Kind::PastRead,
                    read if read.serializable => Kind::Serializable,
                    _ => Kind::Read,
                },
                (Ask::Compact { .. }, Told::Done { .. }) => Kind::Compaction,
                (Ask::Grant { .. }, Told::Done { .. }) => Kind::Granted,
                (Ask::Revoke { .. }, Told::Done { .. }) => Kind::Revoked,
                (_, Told::Renewed { ttl_s: 0 }) => Kind::TooLate,
                (_, Told::Renewed { .. }) => Kind::Renewed,
                _ => continue,
            };
            self.count(kind);
        }
        for entry in committed {
            if let Meaning::Expire(ids) = &entry.meaning {
                self.add(Kind::Expired, ids.len() as u64);
            }
        }
        for met in watches.iter().flat_map(|record| &record.met) {
            if let Met::Events { events, .. } = met {
                let with = events.iter().filter(|event| event.prev_kv.is_some());
                self.add(Kind::PrevKv, with.count() as u64);
            }
        }
    }

    /// What has never happened.
    pub fn missing(&self) -> Vec<Kind> {
        let never = |kind: &Kind| self.of(*kind) == 0;
        Kind::ALL.iter().copied().filter(never).collect()
    }
}
