//! Where each planted bug can show, the cheapest first.

use keelson_planted::Bug;

/// A harness, and how it is told to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// Seeds of the simulation.
    Sim,
    /// A cluster of processes under a nemesis, and clients of a workload.
    Jepsen {
        /// As `--workload` has it.
        workload: &'static str,
        /// As `--nemesis` has it.
        nemesis: &'static str,
    },
}

const fn jepsen(workload: &'static str, nemesis: &'static str) -> Attempt {
    Attempt::Jepsen { workload, nemesis }
}

/// The attempts for a bug, in order.
pub fn attempts(bug: Bug) -> Vec<Attempt> {
    let in_simulation = match bug {
        // The API is not in the simulation.
        Bug::HeaderNewerThanData => None,
        // A simulated member panics before any check speaks, and that is no catch.
        Bug::WatchSkipsWhenSlow => None,
        _ => Some(Attempt::Sim),
    };
    in_simulation.into_iter().chain(in_processes(bug)).collect()
}

fn in_processes(bug: Bug) -> Vec<Attempt> {
    match bug {
        Bug::ReadWithoutProof => vec![
            jepsen("register", "pause-leader"),
            jepsen("register", "partition-leader"),
        ],
        Bug::ReadJoinsEarlierRound => {
            vec![jepsen("register", "none"), jepsen("register", "links-slow")]
        }
        Bug::ServesBeforeRecovered => vec![
            jepsen("register", "kill-all"),
            jepsen("register", "kill-leader"),
        ],
        Bug::HeaderNewerThanData => vec![jepsen("register", "none"), jepsen("watch", "none")],
        Bug::PageReadsNow => vec![jepsen("kubernetes", "none")],

        // SIGKILL loses nothing that was written: only a disk that forgets tells these.
        Bug::AckBeforeSync | Bug::SyncSkipped | Bug::VoteNotSynced => Vec::new(),
        Bug::TornTailAccepted | Bug::LogCutTooFar => vec![jepsen("set", "log-torn")],
        Bug::AppliedIndexBeforeData => vec![jepsen("set", "kill-all"), jepsen("set", "kill-one")],
        Bug::AppliedTwice => vec![jepsen("append", "kill-all"), jepsen("lease", "kill-one")],

        Bug::WriteSentTwice => vec![
            jepsen("append", "links-lossy"),
            jepsen("kubernetes", "partition-leader"),
        ],
        Bug::VoteForShorterLog => vec![
            jepsen("set", "partition-one-way"),
            jepsen("set", "kill-leader"),
        ],
        Bug::MemberChangeAckedEarly => vec![
            jepsen("membership", "partition-leader"),
            jepsen("membership", "pause-minority"),
        ],
        Bug::SnapshotInstalledHalf => vec![jepsen("set", "snapshot-install")],
        Bug::SnapshotKeepsWatchers => vec![jepsen("watch", "snapshot-install")],

        Bug::ExpiryByDeposedLeader | Bug::RenewalWithoutProof | Bug::LeasesEndWithLeader => vec![
            jepsen("lease", "pause-leader"),
            jepsen("lease", "partition-leader"),
            jepsen("lease", "transfer-leader"),
        ],
        Bug::LeaseKeysInMapOrder | Bug::LeaseKeepsKey => vec![jepsen("lease", "none")],

        Bug::CompareSeesOwnWrites | Bug::CompareMissesBatch => {
            vec![jepsen("kubernetes", "none"), jepsen("register", "none")]
        }
        Bug::DeleteMissesBatch | Bug::PrevMissesBatch | Bug::CountKeepsDeleted => {
            vec![jepsen("kubernetes", "none"), jepsen("watch", "none")]
        }
        Bug::CompactionDropsLive | Bug::CompactionDropsItsRevision => vec![
            jepsen("kubernetes", "compaction"),
            jepsen("watch", "compaction"),
        ],

        Bug::WatchSplitsRevision | Bug::WatchRepeatsOnResume => {
            vec![jepsen("watch", "none"), jepsen("watch", "kill-one")]
        }
        Bug::WatchSkipsWhenSlow | Bug::ProgressAhead => vec![
            jepsen("watch", "none"),
            jepsen("watch", "pause-one"),
            jepsen("kubernetes", "kill-one"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_looked_for_and_in_the_simulation_first_if_it_can_show_there() {
        for bug in Bug::ALL {
            let attempts = attempts(*bug);
            assert!(!attempts.is_empty(), "{}", bug.name());
            let last = attempts.iter().rposition(|one| *one == Attempt::Sim);
            assert!(last.is_none_or(|place| place == 0), "{}", bug.name());
        }
    }
}
