//! Bugs that were planted on purpose, to test the tests: each is of a kind that real systems have had.
//!
//! A product crate asks `if on(Bug::X)` where the bug belongs. **Guarantees**: in a shipped program the answer is the
//! constant false, so that the compiler drops the branch, and neither the names of the bugs nor the variable that
//! chooses one are in it. With the feature `on`, which only `kvd-faulty` and `sim-faulty` have, the environment
//! chooses one bug for the whole process: `KEELSON_BUG=<name>`.
//!
//! **Leaves to others**: what each bug breaks (the line that asks), and which test has to catch it (`tests/mutants`).

#[cfg(feature = "on")]
mod chosen;

#[cfg(feature = "on")]
pub use chosen::{announce, jump_clock};

/// Whether this program was built to have bugs: a shipped one refuses to be.
pub const PLANTED: bool = cfg!(feature = "on");

/// Whether this process was told to have `bug`.
#[inline(always)]
pub fn on(bug: Bug) -> bool {
    #[cfg(feature = "on")]
    return chosen::is(bug);
    #[cfg(not(feature = "on"))]
    {
        let _ = bug;
        false
    }
}

/// What a monotonic clock reads, moved by as far as a failpoint has made this member's clock jump.
#[inline(always)]
pub fn clock(reading: std::time::Duration) -> std::time::Duration {
    #[cfg(feature = "on")]
    return chosen::jumped(reading);
    #[cfg(not(feature = "on"))]
    reading
}

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $bug:ident = $name:literal,)+) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])+ $bug,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)+];

            /// What the environment calls it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => $name,)+
                }
            }

            /// What it does, and what had its like.
            pub fn what(self) -> &'static str {
                match self {
                    $(Bug::$bug => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

bugs! {
    // Reads.

    /// A leader serves linearizable reads without asking the others whether it still leads: etcd 0.4's reads, which
    /// Jepsen found stale in 2014, and Consul's by default.
    ReadWithoutProof = "read-without-proof",
    /// A read joins a round of proof that began before the read did, and whose index may be older: the rule of the
    /// dissertation on Raft (6.4) that batching breaks most easily.
    ReadJoinsEarlierRound = "read-joins-earlier-round",
    /// A leader takes up its leadership again when it restarts, and serves the state of its last flush before the log
    /// is applied: what openraft's `enable_leader_restore` allows.
    ServesBeforeRecovered = "serves-before-recovered",
    /// A serializable read takes its data from one state and the revision in its header from a later one: a cache that
    /// believes it misses events, as Kubernetes' watch cache has.
    HeaderNewerThanData = "header-newer-than-data",
    /// A range at a revision of the past reads the present one, so that the pages of a list do not fit together: lists
    /// served from another state than their resource version says, as in Kubernetes.
    PageReadsNow = "page-reads-now",

    // The raft log and what is on disk.

    /// An entry is acknowledged when it is queued, before it is synced: the default of Redis' append-only file, and
    /// MongoDB's for years.
    AckBeforeSync = "ack-before-sync",
    /// The log is written but never synced: an `--unsafe-no-fsync` that nobody asked for, or a disk that lies.
    SyncSkipped = "sync-skipped",
    /// A vote is given before it is on the disk, so that a member that loses power may vote twice in a term: Raft
    /// libraries that keep votes in memory.
    VoteNotSynced = "vote-not-synced",
    /// What a crash left half written at the log's end is taken for an entry, since its checksum is not looked at:
    /// stores without checksums spread such data to their replicas (Ganesan et al., FAST 2017).
    TornTailAccepted = "torn-tail-accepted",
    /// A torn end of the log is cut one entry too early, and an acknowledged one goes with it: ZooKeeper and LogCabin
    /// cut what was damaged as if a crash had torn it (Alagappan et al., FAST 2018).
    LogCutTooFar = "log-cut-too-far",
    /// The applied index is persisted before the data it speaks for, so that a crash skips entries: etcd 3.5.0 to 3.5.2,
    /// whose members lost consistency this way.
    AppliedIndexBeforeData = "applied-index-before-data",
    /// The applied index is persisted one entry late, so that a crash applies an entry twice: what etcd has its
    /// consistent index for.
    AppliedTwice = "applied-twice",

    // Consensus and membership.

    /// A follower sends a write again when the leader's answer is lost, and it is applied twice: jetcd retried writes
    /// so (Jepsen, 2024).
    WriteSentTwice = "write-sent-twice",
    /// A member votes for a candidate whose log lacks entries that it has itself, so that committed ones are lost:
    /// Redis-Raft lost them at failovers (Jepsen, 2020).
    VoteForShorterLog = "vote-for-shorter-log",
    /// A change of members is answered before it is committed, and may never be: RethinkDB's reconfigurations split its
    /// clusters (Jepsen, 2016).
    MemberChangeAckedEarly = "member-change-acked-early",
    /// A snapshot is installed without some of its newest keys: replicas that take a snapshot's files one by one.
    SnapshotInstalledHalf = "snapshot-installed-half",
    /// Watchers are not told that a snapshot has replaced the state, and miss what it brought: around etcd issue 15271.
    SnapshotKeepsWatchers = "snapshot-keeps-watchers",

    // Leases.

    /// A leader that was deposed goes on expiring leases by its own clock, through its successor, though they are
    /// renewed there: etcd issue 15247.
    ExpiryByDeposedLeader = "expiry-by-deposed-leader",
    /// A leader renews leases without proving that it still leads, and its successor revokes them all the same: the
    /// other half of etcd issue 15247.
    RenewalWithoutProof = "renewal-without-proof",
    /// A new leader does not give leases their time again, and they end with the old one's leadership: etcd before its
    /// pull request 4778.
    LeasesEndWithLeader = "leases-end-with-leader",
    /// The keys of a revoked lease are deleted in the order of a hash map, another one on each member: what etcd's
    /// lessor sorts them against.
    LeaseKeysInMapOrder = "lease-keys-in-map-order",
    /// A key that was written again without its lease still hangs on the old one, and goes when that is revoked: locks
    /// that vanish under their new holder.
    LeaseKeepsKey = "lease-keeps-key",

    // The state machine.

    /// A txn's compares are evaluated after its writes, and see them: the order that etcd's nested txns had to settle.
    CompareSeesOwnWrites = "compare-sees-own-writes",
    /// A txn's compares do not see what was applied just before them in the same batch, so that two of them win:
    /// updates lost by batching.
    CompareMissesBatch = "compare-misses-batch",
    /// A range delete misses keys that were put just before it in the same batch: range tombstones laid in the wrong
    /// order, as RocksDB's once were.
    DeleteMissesBatch = "delete-misses-batch",
    /// The previous version that a change reports and keeps is the one before the batch, not the one before the change:
    /// a wrong `prev_kv`, which etcd's robustness tests look for.
    PrevMissesBatch = "prev-misses-batch",
    /// A compaction drops the current version of a key that was not written since, taking old for outdated: a collector
    /// of garbage that asks for the age of a version, and not whether it was replaced.
    CompactionDropsLive = "compaction-drops-live",
    /// A compaction drops the events of the revision that it is to keep, too: off by one, as etcd issues 18089 and
    /// 19179.
    CompactionDropsItsRevision = "compaction-drops-its-revision",
    /// A deleted key is still counted: numbers kept beside the data drift from it.
    CountKeepsDeleted = "count-keeps-deleted",

    // Watches.

    /// The events of one revision reach a watcher in several messages that are not marked as fragments: what etcd's
    /// batches for slow watchers are cut against.
    WatchSplitsRevision = "watch-splits-revision",
    /// A watcher that falls behind goes on after the events that did not fit, and loses them: etcd issue 17529.
    WatchSkipsWhenSlow = "watch-skips-when-slow",
    /// A watch that resumes is given the event before its start revision again: off by one at every reconnect.
    WatchRepeatsOnResume = "watch-repeats-on-resume",
    /// A progress notification tells a watcher of a revision whose events it has yet to be sent: etcd issue 15220.
    ProgressAhead = "progress-ahead",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_in_lower_case_words() {
        let mut names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert!(names.len() >= 20, "{}", names.len());
        let kebab = |name: &&str| {
            name.bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_lowercase())
        };
        assert!(names.iter().all(kebab), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Bug::ALL.len());
    }

    #[cfg(not(feature = "on"))]
    #[test]
    fn nothing_is_on_in_what_is_shipped() {
        const { assert!(!PLANTED) };
        assert!(Bug::ALL.iter().all(|bug| !on(*bug)));
    }
}
