//! What clients did and saw, in one form for all workloads.
//!
//! An [`Operation`] is one request of etcd's API with its reply; a [`WatchStream`] is one watch on one connection with
//! every response in order; an [`Act`] is what a workload meant by some operations (a transfer, an append), for the
//! checkers that know more than keys; a [`Fault`] is what was done to the cluster meanwhile. A [`History`] holds them
//! all, and is written as JSON lines, one [`Record`] a line, so that a person can grep it and a machine can read it back.
//!
//! Two rules make a history fit to be judged, and the runner keeps them:
//! - every write to the cluster is recorded, also those that set up a workload, and its value is unique, so that a
//!   write is recognised where it is seen again;
//! - a watch of everything from revision 1 ([`WatchStream::recorder`]) runs from before the first write until it has
//!   delivered the last: it is what settles the unknown outcomes.

mod call;
mod data;
mod file;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use call::{
    Call, Compact, Compare, CompareResult, Delete, HashKv, Hashed, Header, Lease, MemberChange,
    MemberInfo, Outcome, Put, Range, Reply, Step, Target, Txn,
};
pub use data::{Data, Kv, prefix_end};
pub use file::{HistoryError, Writer};
pub use watch::{Event, EventKind, WatchResponse, WatchStream};
pub use wire::UnknownReply;

/// Microseconds since the run began, on the runner's monotonic clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

/// A number that names an operation, unique within a history. Ids grow with the time of the call, roughly.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct OperationId(pub u64);

/// A number that names one watch on one connection, unique within a history.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StreamId(pub u64);

/// A client of the runner: one at a time does one operation at a time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClientId(pub u32);

/// A place in the cluster, counted from 1 as members were named (`m1`, `m2`); not etcd's member id.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MemberIndex(pub u32);

/// A connection from the runner to a member: a new number each time one is made.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ConnectionId(pub u32);

/// etcd's revision: the number of the write that made a state. An empty store is at 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub i64);

/// etcd's lease id. 0 is no lease.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

/// Whose operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Read, write and compare-and-set of few keys.
    Register,
    /// Transactions that read and append to lists.
    Append,
    /// Transfers between accounts whose sum stays.
    Bank,
    /// Adding elements, of which none may be lost.
    Set,
    /// Writes for watchers of keys and prefixes.
    Watch,
    /// Leases, their keys, and locks made of them.
    Lease,
    /// Members that come and go under clients.
    Membership,
    /// What kube-apiserver does.
    Kubernetes,
    /// The runner itself: setting up, compacting, reading at the end.
    Runner,
}

/// One request and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// The workload that it belongs to.
    pub workload: Workload,
    /// Who asked.
    pub client: ClientId,
    /// The member that was asked.
    pub member: MemberIndex,
    /// The connection that the request went over.
    pub connection: ConnectionId,
    /// What was asked.
    pub call: Call,
    /// When, before the request was sent.
    pub start: Micros,
    /// When the reply had arrived, or the client gave up.
    pub end: Micros,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a workload meant by one or more operations, where the operations alone do not say it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// The operations that it was made of, in the order of their calls; never none.
    pub operations: Vec<OperationId>,
    /// The workload that meant it.
    pub workload: Workload,
    /// Who.
    pub client: ClientId,
    /// The start of the first operation.
    pub start: Micros,
    /// The end of the last.
    pub end: Micros,
    /// What was meant, and what it saw if it was done.
    pub deed: Deed,
    /// Whether it came to be.
    pub settled: Settled,
}

/// Whether something came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It did.
    Done,
    /// It certainly did not (refused, or its guard was false).
    Not,
    /// It may have, or may yet.
    Unknown,
}

/// What a workload meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// One transaction over lists, in order. Reads hold what was seen; of an act that is not done they mean nothing.
    Lists(Vec<ListStep>),
    /// The sum of all accounts was read, in one request.
    BankRead {
        /// What each account held.
        balances: BTreeMap<String, i64>,
        /// What they must sum up to.
        expected: i64,
    },
    /// An element was added.
    SetAdd(u64),
    /// The whole set was read.
    SetRead {
        /// What it held.
        elements: Vec<u64>,
        /// Whether this is the read at the end, after which nothing is added.
        last: bool,
    },
    /// A lock was held: the client believed so from the reply to its acquisition until it gave it up, or until its lease
    /// could have expired by its own clock.
    Held {
        /// The lock's name.
        lock: String,
        /// The lease that the holding hangs on.
        lease: LeaseId,
        /// The revision of the acquisition: what a holder passes on to be fenced by.
        fence: Revision,
        /// From when the client believed to hold it: its reply had arrived.
        from: Micros,
        /// Until when it believed so: the release's request was sent, or the lease might be over.
        until: Micros,
    },
    /// A holder of a lock wrote to what the lock guards, with its fence compared in the same transaction.
    Fenced {
        /// The lock's name.
        lock: String,
        /// The revision that it passed.
        fence: Revision,
    },
    /// A list was read page by page, at the revision of its first page.
    Pages {
        /// The first key.
        key: Data,
        /// The end of the range.
        range_end: Data,
        /// The revision of the first page's reply, at which the others were asked.
        revision: Revision,
        /// What all pages held, in order; whole only if the act is done.
        kvs: Vec<Kv>,
    },
}

/// A step of a transaction over lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListStep {
    /// A list was read, its own earlier appends included.
    Read {
        /// The list's key.
        key: String,
        /// What it held.
        list: Vec<u64>,
    },
    /// An element was appended, unique for its list.
    Append {
        /// The list's key.
        key: String,
        /// The element.
        element: u64,
    },
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its kind, as `--nemesis` names it: `kill-leader`, `partition-ring`.
    pub name: String,
    /// Those it was done to.
    pub members: Vec<MemberIndex>,
    /// In words, with what only this one had: `m2 | m1 m3`, `+312 s`.
    pub detail: String,
    /// When it began.
    pub start: Micros,
    /// When it was healed; none if never.
    pub end: Option<Micros>,
}

/// A leader was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// When.
    pub at: Micros,
    /// Which member; none if none was found.
    pub member: Option<MemberIndex>,
    /// Its term.
    pub term: u64,
}

/// What one member held when all was over: the faults healed, the writes done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Which member.
    pub member: MemberIndex,
    /// The revision at which it was asked: the same of all members.
    pub revision: Revision,
    /// HashKV's reply.
    pub hash: Hashed,
    /// Every key at that revision, by a serializable read of this member.
    pub kvs: Vec<Kv>,
}

/// What the run was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Which workloads ran, as the command line names them.
    pub workloads: Vec<String>,
    /// Which faults could happen.
    pub nemeses: Vec<String>,
    /// How many members there were at the beginning.
    pub members: u32,
    /// For how long clients worked.
    pub seconds: u64,
    /// The server under test.
    pub target: String,
    /// The command that repeats it.
    pub command: String,
    /// When it was, for a person.
    pub began: String,
}

/// A line of a written history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// What the run is: the first line.
    Run(Run),
    /// An operation that has ended.
    Operation(Operation),
    /// An act that has ended.
    Act(Act),
    /// A watch that has ended, or that ran until the end.
    Watch(WatchStream),
    /// A fault that is over, or that was never healed.
    Fault(Fault),
    /// A leader that was seen.
    Leader(Leader),
    /// What a member held in the end.
    Ending(Ending),
    /// Something that the runner itself saw, and that no server may do: a process that ended by itself, say.
    Found(String),
    /// A sentence about the run itself that is no verdict on the store: a client that could not be set up, say.
    Note(String),
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What the run was.
    pub run: Run,
    /// What clients asked and were told, in any order.
    pub operations: Vec<Operation>,
    /// What they meant by it.
    pub acts: Vec<Act>,
    /// What watchers saw; those of one watcher in the order in which it made them.
    pub watches: Vec<WatchStream>,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// Who led when.
    pub leaders: Vec<Leader>,
    /// What each member held in the end; empty if the cluster did not recover, which is a failure by itself.
    pub endings: Vec<Ending>,
    /// What the runner itself saw that no server may do.
    pub found: Vec<String>,
    /// Sentences about the run itself.
    pub notes: Vec<String>,
}

impl History {
    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        match record {
            Record::Run(run) => self.run = run,
            Record::Operation(operation) => self.operations.push(operation),
            Record::Act(act) => self.acts.push(act),
            Record::Watch(stream) => self.watches.push(stream),
            Record::Fault(fault) => self.faults.push(fault),
            Record::Leader(leader) => self.leaders.push(leader),
            Record::Ending(ending) => self.endings.push(ending),
            Record::Found(found) => self.found.push(found),
            Record::Note(note) => self.notes.push(note),
        }
    }
}
