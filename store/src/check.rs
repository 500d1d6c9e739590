//! Whether a request is one that can be carried out, before it is proposed: everything that can be said without
//! knowing the state. etcd's rules and order of refusals (`server/etcdserver/api/v3rpc/key.go`), but for one:
//! a key is never changed twice in one revision, also not by two nested txns of which one puts what the other deletes.
//!
//! Applying checks again: nothing that gets into the log can break an invariant of the store.

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, request_op,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::Refusal;
use crate::read::Span;

/// The longest time to live that a lease can be granted, in seconds (etcd `server/lease/lessor.go`).
pub const LEASE_TTL_S_MAX: i64 = 9_000_000_000;

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most operations, or compares, of a txn; nested txns share what is left.
    pub max_txn_ops: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_txn_ops: 128 }
    }
}

/// Checks a range, also one inside a txn.
pub fn range(r: &RangeRequest, _: &Limits) -> Result<(), Refusal> {
    if r.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if SortOrder::try_from(r.sort_order).is_err() || SortTarget::try_from(r.sort_target).is_err() {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
pub fn put(r: &PutRequest, _: &Limits) -> Result<(), Refusal> {
    if r.key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    if r.ignore_value && !r.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if r.ignore_lease && r.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub fn delete_range(r: &DeleteRangeRequest, _: &Limits) -> Result<(), Refusal> {
    if r.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a compaction: what can be wrong with one depends on the state.
pub fn compact(_: &CompactionRequest, _: &Limits) -> Result<(), Refusal> {
    Ok(())
}

/// Checks a grant, whose id may not have been chosen yet.
pub fn lease_grant(r: &LeaseGrantRequest, _: &Limits) -> Result<(), Refusal> {
    if r.ttl > LEASE_TTL_S_MAX {
        Err(Refusal::LeaseTtlTooLarge)
    } else {
        Ok(())
    }
}

/// Checks a txn with all that is nested in it.
pub fn txn(r: &TxnRequest, limits: &Limits) -> Result<(), Refusal> {
    shape(r, limits.max_txn_ops)?;
    Changes::of(&r.success)?;
    Changes::of(&r.failure)?;
    Ok(())
}

/// Whether a txn, nested ones included, could put anything.
pub fn has_put(r: &TxnRequest) -> bool {
    r.success
        .iter()
        .chain(&r.failure)
        .any(|op| match &op.request {
            Some(request_op::Request::RequestPut(_)) => true,
            Some(request_op::Request::RequestTxn(nested)) => has_put(nested),
            _ => false,
        })
}

fn shape(r: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    let ops = r.compare.len().max(r.success.len()).max(r.failure.len());
    let Some(left) = ops_max.checked_sub(ops) else {
        return Err(Refusal::TooManyOps);
    };
    if r.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    let limits = Limits { max_txn_ops: left };
    for op in r.success.iter().chain(&r.failure) {
        match &op.request {
            Some(request_op::Request::RequestRange(r)) => range(r, &limits)?,
            Some(request_op::Request::RequestPut(r)) => put(r, &limits)?,
            Some(request_op::Request::RequestDeleteRange(r)) => delete_range(r, &limits)?,
            Some(request_op::Request::RequestTxn(nested)) => shape(nested, left)?,
            // etcd's answer to an operation that is none.
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a list of operations may change: single puts, and what is deleted as ranges that do not overlap.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    /// Start → end, exclusive; none: everything after.
    deletes: BTreeMap<&'a [u8], Option<Bytes>>,
}

impl<'a> Changes<'a> {
    fn of(ops: &'a [RequestOp]) -> Result<Changes<'a>, Refusal> {
        let mut all = Changes::default();
        for op in ops {
            match &op.request {
                Some(request_op::Request::RequestPut(r)) => {
                    if all.deleted(&r.key) || !all.puts.insert(&r.key) {
                        return Err(Refusal::DuplicateKey);
                    }
                }
                Some(request_op::Request::RequestDeleteRange(r)) => {
                    let end = match Span::new(&r.key, &r.range_end) {
                        Span::One(key) => Some([key, &[0]].concat().into()),
                        Span::Many(_, to) => to.map(|to| r.range_end.slice_ref(to)),
                    };
                    all.delete(&r.key, end)?;
                }
                Some(request_op::Request::RequestTxn(nested)) => {
                    // Only one of the branches runs, so they may share keys, but neither may share one with the others.
                    let success = Changes::of(&nested.success)?;
                    let failure = Changes::of(&nested.failure)?;
                    all.check(&success)?;
                    all.check(&failure)?;
                    all.merge(success);
                    all.merge(failure);
                }
                Some(request_op::Request::RequestRange(_)) | None => {}
            }
        }
        Ok(all)
    }

    fn deleted(&self, key: &[u8]) -> bool {
        let before = self
            .deletes
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }

    /// Whether a put key lies in a range.
    fn puts_in(&self, from: &[u8], to: Option<&[u8]>) -> bool {
        if to.is_some_and(|to| to <= from) {
            return false;
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        self.puts
            .range::<[u8], _>((Bound::Included(from), to))
            .next()
            .is_some()
    }

    fn delete(&mut self, from: &'a [u8], to: Option<Bytes>) -> Result<(), Refusal> {
        if self.puts_in(from, to.as_deref()) {
            return Err(Refusal::DuplicateKey);
        }
        self.insert(from, to);
        Ok(())
    }

    /// Refuses if `other` changes what is changed here already. Deleting twice changes once.
    fn check(&self, other: &Changes<'_>) -> Result<(), Refusal> {
        let puts_clash = other
            .puts
            .iter()
            .any(|key| self.puts.contains(key) || self.deleted(key));
        let deletes_clash = || {
            other
                .deletes
                .iter()
                .any(|(from, to)| self.puts_in(from, to.as_deref()))
        };
        if puts_clash || deletes_clash() {
            Err(Refusal::DuplicateKey)
        } else {
            Ok(())
        }
    }

    fn merge(&mut self, other: Changes<'a>) {
        self.puts.extend(other.puts);
        for (from, to) in other.deletes {
            self.insert(from, to);
        }
    }

    /// Adds a deleted range, joined with those that it touches.
    fn insert(&mut self, mut from: &'a [u8], mut to: Option<Bytes>) {
        if to.as_deref().is_some_and(|to| to <= from) {
            return;
        }
        let upto = to.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let reaches = |end: &Option<Bytes>| end.as_deref().is_none_or(|end| end >= from);
        let touched: Vec<&'a [u8]> = self
            .deletes
            .range::<[u8], _>((Bound::Unbounded, upto))
            .rev()
            .take_while(|(_, end)| reaches(end))
            .map(|(start, _)| *start)
            .collect();
        for start in touched {
            let end = self.deletes.remove(start).flatten();
            from = from.min(start);
            to = match (to, end) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
        }
        self.deletes.insert(from, to);
    }
}
