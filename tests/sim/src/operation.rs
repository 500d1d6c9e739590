//! What clients ask, and what they are told.

#![allow(missing_docs)] // The fields of a history say what they are.

use std::time::Duration;

use keelson_proto::mvccpb::KeyValue;
use keelson_store::Refusal;

/// Keys from the first to the second, exclusive; without a second one, the first alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub from: String,
    pub to: Option<String>,
}

impl Keys {
    /// One key.
    pub fn one(key: &str) -> Keys {
        Keys {
            from: key.to_owned(),
            to: None,
        }
    }

    /// Whether a key is among them.
    pub fn has(&self, key: &str) -> bool {
        match &self.to {
            None => key == self.from,
            Some(to) => key >= self.from.as_str() && key < to.as_str(),
        }
    }

    /// The end as requests give it.
    pub fn end(&self) -> Vec<u8> {
        self.to.clone().unwrap_or_default().into_bytes()
    }
}

/// A read of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub keys: Keys,
    /// 0: as they are now.
    pub revision: i64,
    /// 0: all.
    pub limit: i64,
    /// As they are on the member that is asked.
    pub serializable: bool,
}

/// Several writes in one revision, if keys are unchanged since certain revisions; and what the keys were before and are
/// after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Each key must last have been changed at this revision (0: not be there).
    pub guards: Vec<(String, i64)>,
    pub reads: Keys,
    pub puts: Vec<String>,
    pub delete: Option<String>,
    /// What every put sets.
    pub value: String,
}

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Set a key, which hangs on a lease unless that is 0.
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    Delete {
        keys: Keys,
    },
    Txn(Txn),
    Read(Read),
    Compact {
        revision: i64,
    },
    Grant {
        lease: i64,
        ttl_s: i64,
    },
    Renew {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
}

/// What it was told. A revision is the store's when the operation took effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Done, without anything more to say: a put, a compaction, a grant, a revocation.
    Done {
        revision: i64,
    },
    Deleted {
        revision: i64,
        count: i64,
    },
    Txn {
        revision: i64,
        succeeded: bool,
        before: Vec<KeyValue>,
        after: Vec<KeyValue>,
    },
    Read {
        revision: i64,
        kvs: Vec<KeyValue>,
        count: i64,
        more: bool,
    },
    /// The lease lives on for so many seconds; 0: there is none.
    Renewed {
        ttl_s: i64,
    },
    /// Certainly not done.
    Refused {
        revision: i64,
        why: Refusal,
    },
    /// It may or may not have happened.
    Unknown,
}

/// One operation, with the virtual times of its call and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Which client.
    pub client: usize,
    /// The member that it asked.
    pub member: u64,
    pub ask: Ask,
    /// When it asked.
    pub start: Duration,
    /// When it was answered, or gave up.
    pub end: Duration,
    pub told: Told,
}

impl Told {
    /// The store's revision when the operation took effect, as far as it was told, and whether that revision is its
    /// own: what it wrote.
    pub fn revision(&self, ask: &Ask) -> Option<(i64, bool)> {
        Some(match (self, ask) {
            (Told::Done { revision }, Ask::Put { .. }) => (*revision, true),
            (Told::Done { revision }, _) | (Told::Refused { revision, .. }, _) => {
                (*revision, false)
            }
            (Told::Deleted { revision, count }, _) => (*revision, *count > 0),
            (
                Told::Txn {
                    revision,
                    succeeded,
                    ..
                },
                Ask::Txn(txn),
            ) => (*revision, *succeeded && !txn.puts.is_empty()),
            (Told::Txn { revision, .. } | Told::Read { revision, .. }, _) => (*revision, false),
            (Told::Renewed { .. } | Told::Unknown, _) => return None,
        })
    }
}

impl Operation {
    /// The revision at which it took effect, as far as it was told, and whether that revision is its own.
    pub fn revision(&self) -> Option<(i64, bool)> {
        self.told.revision(&self.ask)
    }

    /// What it was told must fit real time: not so what one member says of itself.
    pub fn is_linearizable(&self) -> bool {
        !matches!(&self.ask, Ask::Read(read) if read.serializable)
    }
}
