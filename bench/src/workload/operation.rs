//! What a client asks for at a time, and whether the reply holds it.
//!
//! An operation is one call, or two where the second needs what the first gave (a lease is granted, then revoked).

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Context;
use bytes::Bytes;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use super::keys::{PREFIX, PREFIX_END, Random, Values, key};
use crate::client::{Outgoing, methods, wire};

/// As many keys as a page holds.
pub const PAGE_KEYS: i64 = 500;
/// Keys of its own that each client of guarded updates has.
pub const OWN_KEYS: u64 = 100;
/// Leases of the grant-and-revoke workload never run out by themselves.
const LEASE_SECONDS: i64 = 3600;

/// What the clients of a run do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Puts keys that are new, in random order.
    PutNew,
    /// Puts one of so many keys, at random.
    PutOver { keys: u64 },
    /// Gets one of so many keys, at random.
    Get { keys: u64, serializable: bool },
    /// Kubernetes' create: a txn that puts a key unless it is there. The keys are new.
    CreateIfAbsent,
    /// Kubernetes' update: a txn that puts a key if it is as it was last seen. Each client has a hundred keys.
    GuardedUpdate,
    /// Three linearizable gets and one put, of the same keys.
    Mixed { keys: u64 },
    /// All keys in one reply, or in a stream of them where the system has one.
    List { keys: u64, streamed: bool },
    /// The first page of all keys.
    FirstPage { keys: u64 },
    /// A page from somewhere in the middle, at the revision of the page before.
    NextPage { keys: u64 },
    /// How many keys there are.
    Count { keys: u64 },
    /// Grants a lease and revokes it.
    GrantRevoke,
}

impl Operation {
    /// Whether it leaves everything as it was.
    pub fn only_reads(self) -> bool {
        match self {
            Operation::Get { .. }
            | Operation::List { .. }
            | Operation::FirstPage { .. }
            | Operation::NextPage { .. }
            | Operation::Count { .. } => true,
            Operation::PutNew
            | Operation::PutOver { .. }
            | Operation::CreateIfAbsent
            | Operation::GuardedUpdate
            | Operation::Mixed { .. }
            | Operation::GrantRevoke => false,
        }
    }
}

/// What a reply has to hold.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Revision,
    /// The value of the key with this number.
    Value(u64),
    /// A txn that succeeded; for a guarded update, of this one of the client's own keys.
    Succeeded(Option<usize>),
    /// So many keys by now.
    Keys(u64),
    Page {
        first: bool,
        keys: u64,
    },
    Count(u64),
    Granted,
    Revoked,
}

/// What one client remembers.
#[derive(Debug)]
pub struct Asker {
    operation: Operation,
    values: Rc<Values>,
    numbers: Rc<Numbers>,
    random: Random,
    /// Of guarded updates: the client's keys, and the revisions at which it last saw them.
    own: Vec<(u64, i64)>,
    expect: Expect,
    /// Keys that came so far in a list.
    keys: u64,
    revision: i64,
    lease: i64,
    verdict: Result<(), &'static str>,
    again: bool,
}

/// Numbers of keys that nobody has put.
#[derive(Debug)]
pub struct Numbers(std::cell::Cell<u64>);

impl Numbers {
    /// From this one.
    pub fn new(from: u64) -> Numbers {
        Numbers(std::cell::Cell::new(from))
    }

    fn next(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

/// What is asked, to be sent.
pub enum Ask {
    Put(PutRequest),
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Txn(TxnRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
}

impl Ask {
    /// Makes the call.
    pub fn send(&self, tag: u64, out: &mut Outgoing) {
        match self {
            Ask::Put(request) => out.call(methods::PUT, request, true, tag),
            Ask::Range(request) => out.call(methods::RANGE, request, true, tag),
            Ask::RangeStream(request) => out.call(methods::RANGE_STREAM, request, true, tag),
            Ask::Txn(request) => out.call(methods::TXN, request, true, tag),
            Ask::Grant(request) => out.call(methods::LEASE_GRANT, request, true, tag),
            Ask::Revoke(request) => out.call(methods::LEASE_REVOKE, request, true, tag),
        };
    }
}

impl Asker {
    pub fn new(
        operation: Operation,
        number: u64,
        values: Rc<Values>,
        numbers: Rc<Numbers>,
    ) -> Asker {
        let own = match operation {
            Operation::GuardedUpdate => (number * OWN_KEYS..(number + 1) * OWN_KEYS)
                .map(|number| (number, 0))
                .collect(),
            _ => Vec::new(),
        };
        Asker {
            operation,
            values,
            numbers,
            random: Random::new(number + 2),
            own,
            expect: Expect::Revision,
            keys: 0,
            revision: 0,
            lease: 0,
            verdict: Err("a reply without a message"),
            again: false,
        }
    }

    /// Learns at which revisions its own keys were written, from those of all keys.
    pub fn know(&mut self, seen: &HashMap<Bytes, i64>) -> anyhow::Result<()> {
        for (number, revision) in &mut self.own {
            *revision = *seen.get(&key(*number)).context("a key is not there")?;
        }
        Ok(())
    }

    /// The next call: of a new operation, or the second of one.
    pub fn ask(&mut self) -> Ask {
        self.verdict = Err("a reply without a message");
        self.keys = 0;
        if std::mem::take(&mut self.again) {
            self.expect = Expect::Revoked;
            return Ask::Revoke(LeaseRevokeRequest { id: self.lease });
        }
        match self.operation {
            Operation::PutNew => {
                let number = self.numbers.next();
                self.put(number)
            }
            Operation::PutOver { keys } => {
                let number = self.random.below(keys);
                self.put(number)
            }
            Operation::Get { keys, serializable } => self.get(keys, serializable),
            Operation::Mixed { keys } if self.random.below(4) == 0 => {
                let number = self.random.below(keys);
                self.put(number)
            }
            Operation::Mixed { keys } => self.get(keys, false),
            Operation::CreateIfAbsent => {
                let number = self.numbers.next();
                self.guarded(number, 0, None)
            }
            Operation::GuardedUpdate => {
                let place = self.random.below(OWN_KEYS) as usize;
                let (number, revision) = self.own[place];
                self.guarded(number, revision, Some(place))
            }
            Operation::List { keys, streamed } => {
                self.expect = Expect::Keys(keys);
                let request = all();
                if streamed {
                    Ask::RangeStream(request)
                } else {
                    Ask::Range(request)
                }
            }
            Operation::FirstPage { keys } => {
                self.expect = Expect::Page { first: true, keys };
                Ask::Range(RangeRequest {
                    limit: PAGE_KEYS,
                    ..all()
                })
            }
            Operation::NextPage { keys } => {
                self.expect = Expect::Page { first: false, keys };
                Ask::Range(RangeRequest {
                    key: key(self.random.below(keys)),
                    limit: PAGE_KEYS,
                    revision: self.revision,
                    ..all()
                })
            }
            Operation::Count { keys } => {
                self.expect = Expect::Count(keys);
                Ask::Range(RangeRequest {
                    count_only: true,
                    ..all()
                })
            }
            Operation::GrantRevoke => {
                self.expect = Expect::Granted;
                Ask::Grant(LeaseGrantRequest {
                    ttl: LEASE_SECONDS,
                    id: 0,
                })
            }
        }
    }

    /// A message of the reply.
    pub fn take(&mut self, message: &[u8]) {
        self.verdict = self.judge(message).unwrap_or(Err("a malformed reply"));
    }

    /// What came of it, now that the call has ended well: Ok(true) if the operation is complete.
    pub fn finish(&mut self) -> Result<bool, &'static str> {
        if let Expect::Keys(keys) = self.expect
            && self.keys != keys
        {
            return Err("a list that is not whole");
        }
        self.verdict.map(|()| !self.again)
    }

    /// After a failure an operation begins anew.
    pub fn give_up(&mut self) {
        self.again = false;
    }

    fn put(&mut self, number: u64) -> Ask {
        self.expect = Expect::Revision;
        Ask::Put(put(number, self.values.cut(number, &mut self.random)))
    }

    fn get(&mut self, keys: u64, serializable: bool) -> Ask {
        let number = self.random.below(keys);
        self.expect = Expect::Value(number);
        Ask::Range(RangeRequest {
            key: key(number),
            serializable,
            ..RangeRequest::default()
        })
    }

    /// Puts the key if it is as it was at `revision`; 0 if it is not there.
    fn guarded(&mut self, number: u64, revision: i64, own: Option<usize>) -> Ask {
        self.expect = Expect::Succeeded(own);
        let name = key(number);
        let guard = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: name.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Compare::default()
        };
        let request = put(number, self.values.cut(number, &mut self.random));
        let otherwise = RangeRequest {
            key: name,
            ..RangeRequest::default()
        };
        Ask::Txn(TxnRequest {
            compare: vec![guard],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(request)),
            }],
            failure: vec![RequestOp {
                request: Some(Request::RequestRange(otherwise)),
            }],
        })
    }

    /// None if the message is malformed.
    fn judge(&mut self, message: &[u8]) -> Option<Result<(), &'static str>> {
        let fits = |fits: bool, why| if fits { Ok(()) } else { Err(why) };
        Some(match self.expect {
            Expect::Revision | Expect::Revoked => fits(
                wire::revision(message).is_some(),
                "a reply without a revision",
            ),
            Expect::Value(number) => {
                let range = wire::range(message)?;
                let found = range.first.map(wire::key_value);
                let fit = match found {
                    Some(found) => {
                        let found = found?;
                        found.key == key(number) && self.values.fits(number, found.value)
                    }
                    None => false,
                };
                fits(
                    fit && range.keys == 1,
                    "a key that was put was not found as it was put",
                )
            }
            Expect::Succeeded(own) => {
                if wire::number(message, 2)? != 1 {
                    return Some(Err("a guard failed that nobody stood against"));
                }
                let revision = wire::revision(message)?;
                if let Some(place) = own {
                    self.own[place].1 = i64::try_from(revision).ok()?;
                }
                Ok(())
            }
            Expect::Keys(_) => {
                // A message of a stream wraps what a unary reply is.
                let streamed = matches!(self.operation, Operation::List { streamed: true, .. });
                let message = if streamed {
                    wire::bytes(message, 1)?
                } else {
                    message
                };
                let range = wire::range(message)?;
                self.keys += range.keys;
                Ok(())
            }
            Expect::Page { first, keys } => {
                self.revision = i64::try_from(wire::revision(message)?).ok()?;
                let range = wire::range(message)?;
                let whole = range.keys == PAGE_KEYS as u64 && range.more;
                // One that begins among the last keys is short.
                let fit = if first {
                    whole && range.count == keys
                } else {
                    whole || (range.keys > 0 && !range.more)
                };
                fits(fit, "a page that does not hold what it should")
            }
            Expect::Count(keys) => fits(wire::range(message)?.count == keys, "a wrong count"),
            Expect::Granted => {
                self.lease = wire::number(message, 2)? as i64;
                self.again = true;
                fits(self.lease != 0, "a lease without an id")
            }
        })
    }
}

/// A put of the key with a number.
pub fn put(number: u64, value: Bytes) -> PutRequest {
    PutRequest {
        key: key(number),
        value,
        ..PutRequest::default()
    }
}

/// A range of all keys.
pub fn all() -> RangeRequest {
    RangeRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        ..RangeRequest::default()
    }
}

/// A range of one key.
pub fn one(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}
