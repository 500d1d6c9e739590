//! What a client asks of etcd's API, and what it is told.

use serde::{Deserialize, Serialize};

use super::{Data, Kv, LeaseId, Revision};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// Read keys.
    Range(Range),
    /// Write a key.
    Put(Put),
    /// Delete keys.
    Delete(Delete),
    /// All or nothing, under conditions.
    Txn(Txn),
    /// Forget old versions.
    Compact(Compact),
    /// Make, end, prolong or ask about a lease.
    Lease(Lease),
    /// Change the membership.
    Member(MemberChange),
    /// List the members.
    MemberList {
        /// Whether leadership is proved first.
        linearizable: bool,
    },
    /// Hand the leadership to the member with this id (etcd's).
    MoveLeader {
        /// etcd's member id.
        target: u64,
    },
    /// The hash of all keys up to a revision.
    HashKv(HashKv),
}

/// Read the key, or all keys from it to before `range_end`. In the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Range {
    /// The first key.
    pub key: Data,
    /// Empty: only the key. `\0`: to the end.
    #[serde(skip_serializing_if = "Data::is_empty")]
    pub range_end: Data,
    /// At which revision; 0 or less is now.
    #[serde(skip_serializing_if = "Revision::is_zero")]
    pub revision: Revision,
    /// At most so many; 0 is all.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: i64,
    /// From what this member has, old as it may be.
    #[serde(skip_serializing_if = "is_false")]
    pub serializable: bool,
    /// Without values.
    #[serde(skip_serializing_if = "is_false")]
    pub keys_only: bool,
    /// Without keys.
    #[serde(skip_serializing_if = "is_false")]
    pub count_only: bool,
}

/// Write a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    /// The key.
    pub key: Data,
    /// The value.
    pub value: Data,
    /// The lease that it shall hang on; 0 is none.
    #[serde(skip_serializing_if = "LeaseId::is_none")]
    pub lease: LeaseId,
    /// Whether to tell what was there before.
    #[serde(skip_serializing_if = "is_false")]
    pub prev_kv: bool,
}

/// Delete the key, or all keys from it to before `range_end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// The first key.
    pub key: Data,
    /// Empty: only the key. `\0`: to the end.
    #[serde(skip_serializing_if = "Data::is_empty")]
    pub range_end: Data,
    /// Whether to tell what was there before.
    #[serde(skip_serializing_if = "is_false")]
    pub prev_kv: bool,
}

/// If all compares hold, the one list of steps, else the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Txn {
    /// What must hold, in the state before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compares: Vec<Compare>,
    /// What is done if it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<Step>,
    /// What is done if it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failure: Vec<Step>,
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Read; sees the writes of the steps before.
    Range(Range),
    /// Write.
    Put(Put),
    /// Delete.
    Delete(Delete),
    /// A transaction within; its compares see the state before the outer one, as all do.
    Txn(Txn),
}

/// A condition on a key, or on each key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The first key.
    pub key: Data,
    /// Empty: only the key. `\0`: to the end.
    #[serde(default, skip_serializing_if = "Data::is_empty")]
    pub range_end: Data,
    /// How what is there must stand to the target.
    pub result: CompareResult,
    /// What is compared, and with what.
    pub target: Target,
}

/// How two values must stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareResult {
    /// What is there equals the target.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// They differ.
    NotEqual,
}

/// What is compared, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The version; 0 of a key that is not there.
    Version(i64),
    /// The revision of its creation; 0 of a key that is not there.
    Create(Revision),
    /// The revision of its last put; 0 of a key that is not there.
    Mod(Revision),
    /// The value; always false of a key that is not there.
    Value(Data),
    /// The lease; 0 of a key that is not there.
    Lease(LeaseId),
}

/// Forget what was overwritten up to a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// Reading at it still works, below it not.
    pub revision: Revision,
    /// Whether to answer only when it is done on the disk.
    #[serde(default, skip_serializing_if = "is_false")]
    pub physical: bool,
}

/// What is asked about a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lease {
    /// Make one.
    Grant {
        /// Its id; 0 lets the server choose.
        id: LeaseId,
        /// Seconds.
        ttl: i64,
    },
    /// End one, with its keys.
    Revoke {
        /// Which.
        id: LeaseId,
    },
    /// Prolong one: one request on a stream, and its reply.
    KeepAlive {
        /// Which.
        id: LeaseId,
    },
    /// How long has it?
    TimeToLive {
        /// Which.
        id: LeaseId,
        /// Whether to tell its keys.
        keys: bool,
    },
    /// Which are there?
    List,
}

/// A change of the membership. Ids are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// Add one.
    Add {
        /// Where its peers find it.
        peer_urls: Vec<String>,
        /// Whether it shall not vote.
        learner: bool,
    },
    /// Remove one.
    Remove {
        /// Which.
        id: u64,
    },
    /// Let a learner vote.
    Promote {
        /// Which.
        id: u64,
    },
    /// Tell where its peers find it now.
    Update {
        /// Which.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
}

/// The hash of all keys up to a revision, on the member that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKv {
    /// Up to which; 0 is now.
    pub revision: Revision,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Done {
        /// The reply's header.
        header: Header,
        /// The reply.
        reply: Reply,
    },
    /// An error that says that it certainly did not happen; nor will it.
    Refused {
        /// The error's text.
        error: String,
    },
    /// An error after which it may have happened, or may happen yet. A read that failed is one of these as well.
    Unknown {
        /// The error's text.
        error: String,
    },
}

/// What heads a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The store's revision: of a write, its own. 0 where etcd tells none (members).
    pub revision: Revision,
    /// etcd's id of the member that answered.
    pub member_id: u64,
    /// The raft term.
    pub term: u64,
}

/// A reply, without its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a range.
    Range {
        /// The keys; none if only the count was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kvs: Vec<Kv>,
        /// How many keys the range holds, whatever the limit.
        count: i64,
        /// Whether the limit left some out.
        #[serde(default, skip_serializing_if = "is_false")]
        more: bool,
    },
    /// To a put.
    Put {
        /// What was there before, if asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev_kv: Option<Kv>,
    },
    /// To a delete.
    Delete {
        /// How many keys there were.
        deleted: i64,
        /// Them, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev_kvs: Vec<Kv>,
    },
    /// To a transaction.
    Txn {
        /// Whether the compares held.
        succeeded: bool,
        /// To each step of the list that was done.
        responses: Vec<Reply>,
    },
    /// To a compaction.
    Compact,
    /// To a grant, a renewal, or the question how long a lease has.
    Lease {
        /// The lease.
        id: LeaseId,
        /// Seconds that it has from now (granted: its full time). 0 of a renewal or −1 of a question: it is not there.
        ttl: i64,
        /// Its full time, where it was asked how long it has.
        granted_ttl: i64,
        /// Its keys, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<Data>,
    },
    /// To a revocation.
    Revoked,
    /// To the question which leases there are.
    Leases(Vec<LeaseId>),
    /// To a change of the membership, or the question who they are: all members.
    Members(Vec<MemberInfo>),
    /// The leadership moved.
    Moved,
    /// To HashKV.
    Hash(Hashed),
}

/// What HashKV tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// The hash; comparable between members at the same revision and the same compacted revision.
    pub hash: u32,
    /// The compacted revision.
    pub compact_revision: Revision,
    /// The revision up to which it was computed; 0 from an etcd before 3.6, which does not tell.
    pub hash_revision: Revision,
}

/// A member, as members tell of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// etcd's id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers find it.
    pub peer_urls: Vec<String>,
    /// Where its clients find it; none until it has started.
    pub client_urls: Vec<String>,
    /// Whether it does not vote.
    pub learner: bool,
}

impl Revision {
    /// Whether it is 0: none, or now.
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl super::Operation {
    /// The header and reply, if it was answered.
    pub fn done(&self) -> Option<(&Header, &Reply)> {
        match &self.outcome {
            Outcome::Done { header, reply } => Some((header, reply)),
            Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
        }
    }

    /// The error's text, if it certainly did not happen.
    pub fn refused(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Refused { error } => Some(error),
            Outcome::Done { .. } | Outcome::Unknown { .. } => None,
        }
    }

    /// Whether it may have happened.
    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown { .. })
    }

    /// Whether the reply, if there is one, is of the kind that the call asks for.
    pub fn reply_fits(&self) -> bool {
        let Some((_, reply)) = self.done() else {
            return true;
        };
        match &self.call {
            Call::Range(_) => matches!(reply, Reply::Range { .. }),
            Call::Put(_) => matches!(reply, Reply::Put { .. }),
            Call::Delete(_) => matches!(reply, Reply::Delete { .. }),
            Call::Txn(_) => matches!(reply, Reply::Txn { .. }),
            Call::Compact(_) => matches!(reply, Reply::Compact),
            Call::Lease(Lease::Revoke { .. }) => matches!(reply, Reply::Revoked),
            Call::Lease(Lease::List) => matches!(reply, Reply::Leases(_)),
            Call::Lease(_) => matches!(reply, Reply::Lease { .. }),
            Call::Member(_) | Call::MemberList { .. } => matches!(reply, Reply::Members(_)),
            Call::MoveLeader { .. } => matches!(reply, Reply::Moved),
            Call::HashKv(_) => matches!(reply, Reply::Hash(_)),
        }
    }

    /// The revision that it made, if it was answered and changed something.
    pub fn wrote(&self) -> Option<Revision> {
        let (header, reply) = self.done()?;
        reply.tells_of_a_write().then_some(header.revision)
    }

    /// Whether it may be answered from what one member has: a serializable read, or a transaction of such reads alone.
    pub fn is_serializable(&self) -> bool {
        let serializable = |step: &Step| matches!(step, Step::Range(range) if range.serializable);
        match &self.call {
            Call::Range(range) => range.serializable,
            Call::Txn(txn) => {
                txn.success.iter().all(serializable) && txn.failure.iter().all(serializable)
            }
            _ => false,
        }
    }
}

impl Reply {
    /// Whether it answers something that changed keys.
    pub fn tells_of_a_write(&self) -> bool {
        match self {
            Reply::Put { .. } => true,
            Reply::Delete { deleted, .. } => *deleted > 0,
            Reply::Txn { responses, .. } => responses.iter().any(Reply::tells_of_a_write),
            _ => false,
        }
    }
}

impl Call {
    /// Whether it can change keys.
    pub fn may_write(&self) -> bool {
        match self {
            Call::Put(_) | Call::Delete(_) | Call::Lease(Lease::Revoke { .. }) => true,
            Call::Txn(txn) => txn.may_write(),
            _ => false,
        }
    }
}

impl Txn {
    /// Every step of both lists, and of the transactions within, with the lists before their parts.
    pub fn all_steps(&self) -> Vec<&Step> {
        let mut steps = Vec::new();
        for step in self.success.iter().chain(&self.failure) {
            steps.push(step);
            if let Step::Txn(inner) = step {
                steps.extend(inner.all_steps());
            }
        }
        steps
    }

    fn may_write(&self) -> bool {
        let writes = |step: &&Step| matches!(step, Step::Put(_) | Step::Delete(_));
        self.all_steps().iter().any(writes)
    }
}
