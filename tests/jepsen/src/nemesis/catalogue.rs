//! Every nemesis: what it is called, what it does, and what it needs.

use anyhow::bail;

use crate::run::Target;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nemesis {
    /// As the command line has it. The part before the first hyphen names its group.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub says: &'static str,
    /// What it needs.
    pub needs: Needs,
    pub(super) kind: Kind,
    /// Whether no other fault may be in force beside it.
    pub(super) alone: bool,
    /// Whether it sets links.
    pub(super) touches_links: bool,
}

impl Nemesis {
    /// The name of its group.
    pub fn group(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }

    fn is(&self, wanted: &str) -> bool {
        wanted == "all" || wanted == self.name || wanted == self.group()
    }
}

/// Those that are meant by names, of nemeses or of groups, separated by commas, or by `all`.
pub fn named(names: &str) -> anyhow::Result<Vec<Nemesis>> {
    let wanted: Vec<&str> = names.split(',').map(str::trim).collect();
    for wanted in &wanted {
        if !ALL.iter().any(|nemesis| nemesis.is(wanted)) {
            bail!("--nemesis {wanted}: there is no such nemesis; `jepsen list` names them");
        }
    }
    let meant = |nemesis: &Nemesis| wanted.iter().any(|wanted| nemesis.is(wanted));
    Ok(ALL.into_iter().filter(meant).collect())
}

/// What a target must have for a nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: any server will do.
    Nothing,
    /// A kvd: what its raft log looks like, and how much of it is kept.
    Kvd,
    /// Failpoints.
    Failpoints,
}

impl Needs {
    /// Why the target does not have it; none if it does.
    pub fn missing(self, target: &Target) -> Option<&'static str> {
        match self {
            Needs::Kvd if !target.kvd => Some("it goes by how a kvd keeps its raft log"),
            Needs::Failpoints if !target.failpoints => {
                Some("it needs a server with failpoints, such as kvd-faulty")
            }
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kill(Whom),
    Pause(Whom),
    Partition(Shape),
    SlowLinks,
    LossyLinks,
    Failpoint(Failure),
    TornLog,
    CorruptLog,
    Compaction,
    Snapshot,
    InstallSnapshot,
    TransferLeader,
    RollingRestart,
    AddMember,
    AddLearner,
    RemoveMember,
    ReplaceMember,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    One,
    Leader,
    Minority,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Halves,
    OneWay,
    Ring,
    Leader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    FailingSync,
    SlowSync,
    FullDisk,
    Clock,
}

const fn nemesis(name: &'static str, kind: Kind, says: &'static str) -> Nemesis {
    let needs = match kind {
        Kind::TornLog | Kind::CorruptLog | Kind::InstallSnapshot => Needs::Kvd,
        Kind::Failpoint(_) => Needs::Failpoints,
        _ => Needs::Nothing,
    };
    Nemesis {
        name,
        says,
        needs,
        kind,
        alone: matches!(
            kind,
            Kind::CorruptLog
                | Kind::InstallSnapshot
                | Kind::AddMember
                | Kind::AddLearner
                | Kind::RemoveMember
                | Kind::ReplaceMember
        ),
        touches_links: matches!(
            kind,
            Kind::Partition(_) | Kind::SlowLinks | Kind::LossyLinks
        ),
    }
}

/// All of them.
pub const ALL: [Nemesis; 28] = [
    nemesis(
        "kill-one",
        Kind::Kill(Whom::One),
        "SIGKILL of a member, which comes back later",
    ),
    nemesis(
        "kill-leader",
        Kind::Kill(Whom::Leader),
        "SIGKILL of the leader",
    ),
    nemesis(
        "kill-minority",
        Kind::Kill(Whom::Minority),
        "SIGKILL of as many members as a majority can miss",
    ),
    nemesis(
        "kill-all",
        Kind::Kill(Whom::All),
        "SIGKILL of all members at once",
    ),
    nemesis(
        "pause-one",
        Kind::Pause(Whom::One),
        "SIGSTOP of a member for longer than an election takes",
    ),
    nemesis(
        "pause-leader",
        Kind::Pause(Whom::Leader),
        "SIGSTOP of the leader, which wakes up deposed",
    ),
    nemesis(
        "pause-minority",
        Kind::Pause(Whom::Minority),
        "SIGSTOP of as many members as a majority can miss",
    ),
    nemesis(
        "partition-halves",
        Kind::Partition(Shape::Halves),
        "the members fall into two parts that do not hear each other",
    ),
    nemesis(
        "partition-one-way",
        Kind::Partition(Shape::OneWay),
        "a member is heard by some others no more, and yet hears them",
    ),
    nemesis(
        "partition-ring",
        Kind::Partition(Shape::Ring),
        "every member hears its neighbours only, or of three members the one on one side",
    ),
    nemesis(
        "partition-leader",
        Kind::Partition(Shape::Leader),
        "the leader is cut off from all others",
    ),
    nemesis(
        "links-slow",
        Kind::SlowLinks,
        "what members say to each other takes up to half a second",
    ),
    nemesis(
        "links-lossy",
        Kind::LossyLinks,
        "packets between members get lost, and connections break",
    ),
    nemesis(
        "log-torn",
        Kind::TornLog,
        "SIGKILL, and what was being written to the raft log and was not synced is torn, cut or garbled",
    ),
    nemesis(
        "log-corrupt",
        Kind::CorruptLog,
        "SIGKILL, and a bit flips in the synced part of the raft log: the member must refuse to start, and is replaced",
    ),
    nemesis(
        "compaction",
        Kind::Compaction,
        "history is compacted as far as it was watched",
    ),
    nemesis(
        "snapshot-backup",
        Kind::Snapshot,
        "a backup is streamed from a member, sometimes not to its end, and its files are defragmented",
    ),
    nemesis(
        "snapshot-install",
        Kind::InstallSnapshot,
        "so much is written while a member is down that it needs a snapshot to come back (once in a run)",
    ),
    nemesis(
        "transfer-leader",
        Kind::TransferLeader,
        "the leadership is moved many times in a row",
    ),
    nemesis(
        "restart-rolling",
        Kind::RollingRestart,
        "SIGTERM and a new start of one member after the other",
    ),
    nemesis("member-add", Kind::AddMember, "a new voter joins"),
    nemesis(
        "member-learner",
        Kind::AddLearner,
        "a learner joins, and is promoted when it has caught up",
    ),
    nemesis(
        "member-remove",
        Kind::RemoveMember,
        "a member is removed, if there are more than in the beginning",
    ),
    nemesis(
        "member-replace",
        Kind::ReplaceMember,
        "a member dies, is removed, and a new one takes its place",
    ),
    nemesis(
        "disk-full",
        Kind::Failpoint(Failure::FullDisk),
        "writes fail for lack of space",
    ),
    nemesis(
        "disk-sync-fails",
        Kind::Failpoint(Failure::FailingSync),
        "fsync fails; the member must stop, and is started again",
    ),
    nemesis(
        "disk-sync-slow",
        Kind::Failpoint(Failure::SlowSync),
        "fsync takes seconds",
    ),
    nemesis(
        "clock-jump",
        Kind::Failpoint(Failure::Clock),
        "a member's clock jumps, forth or back, by up to minutes",
    ),
];
