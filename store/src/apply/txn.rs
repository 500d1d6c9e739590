//! Transactions: all compares first, then all that could be refused, then the changes, none of which can be.

use keelson_planted::{Bug, on};
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::request_op::Request;
use keelson_proto::etcdserverpb::response_op::Response;
use keelson_proto::etcdserverpb::{
    Compare, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::Work;
use crate::engine::{EngineError, View};
use crate::format::Version;
use crate::read::{self, Span};
use crate::snapshot::resolve;
use crate::{ReadError, Refusal, Reply, Revision};

/// A txn whose branches have been chosen, by the state before it.
struct Chosen<'r> {
    succeeded: bool,
    ops: Vec<Op<'r>>,
}

enum Op<'r> {
    Plain(&'r Request),
    Txn(Chosen<'r>),
}

impl<V: View> Work<'_, V> {
    pub(super) fn txn(&mut self, r: &TxnRequest) -> Result<Reply, ReadError> {
        let chosen = self.choose(r)?;
        self.check_chosen(&chosen)?;
        let mut reply = self.run(&chosen)?;
        if on(Bug::CompareSeesOwnWrites) {
            reply.succeeded = self.choose(r)?.succeeded;
        }
        Ok(Reply::Txn(reply))
    }

    /// Evaluates the compares of a txn, and of those nested in the branch that it takes.
    fn choose<'r>(&self, r: &'r TxnRequest) -> Result<Chosen<'r>, EngineError> {
        let mut succeeded = true;
        for compare in &r.compare {
            if !self.compare(compare)? {
                succeeded = false;
                break;
            }
        }
        let branch: &[RequestOp] = if succeeded { &r.success } else { &r.failure };
        let ops = branch
            .iter()
            .filter_map(|op| op.request.as_ref())
            .map(|request| match request {
                Request::RequestTxn(nested) => self.choose(nested).map(Op::Txn),
                plain => Ok(Op::Plain(plain)),
            });
        Ok(Chosen {
            succeeded,
            ops: ops.collect::<Result<_, _>>()?,
        })
    }

    /// A range compare holds if it holds for every key; for no key at all, as for one that is missing.
    fn compare(&self, compare: &Compare) -> Result<bool, EngineError> {
        let now = self.seen_revision();
        let (mut any, mut all) = (false, true);
        let mut each = |record: &[u8]| {
            any = true;
            all = holds(compare, Some(&Version::parse(record)?));
            Ok(if all {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        };
        match Span::new(&compare.key, &compare.range_end) {
            Span::One(key) => {
                let found = if on(Bug::CompareMissesBatch) {
                    self.before_batch(key)?
                } else {
                    self.current(key)?
                };
                if let Some(record) = found {
                    let _: ControlFlow<()> = each(&record)?;
                }
            }
            span => read::scan(&self.source(), span, now, now, |_, record| each(record))?,
        }
        Ok(if any { all } else { holds(compare, None) })
    }

    /// Refuses, before anything is changed, whatever the state does not allow.
    fn check_chosen(&self, chosen: &Chosen<'_>) -> Result<(), ReadError> {
        for op in &chosen.ops {
            match op {
                Op::Plain(Request::RequestRange(r)) if r.revision < 0 => {
                    // etcd compares a negative revision with the compacted one, but inside a txn only.
                    if Revision(r.revision) < self.base.compacted() {
                        return Err(Refusal::Compacted.into());
                    }
                }
                Op::Plain(Request::RequestRange(r)) => {
                    resolve(r.revision, self.base.revision(), self.base.compacted())?;
                }
                Op::Plain(Request::RequestPut(r)) => self.check_put(r)?,
                Op::Plain(_) => {}
                Op::Txn(nested) => self.check_chosen(nested)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, chosen: &Chosen<'_>) -> Result<TxnResponse, EngineError> {
        let mut responses = Vec::with_capacity(chosen.ops.len());
        for op in &chosen.ops {
            let response = match op {
                Op::Plain(Request::RequestRange(r)) => {
                    let source = self.source();
                    let snapshot = self.snapshot(&source);
                    // Checked before: only a positive one is a revision of the past.
                    let at = if r.revision > 0 {
                        Revision(r.revision)
                    } else {
                        snapshot.revision
                    };
                    let found = snapshot.range(r, at)?;
                    Response::ResponseRange(RangeResponse {
                        header: self.header(),
                        ..found
                    })
                }
                Op::Plain(Request::RequestPut(r)) => {
                    let mut put = self.put(r)?;
                    put.header = self.header();
                    Response::ResponsePut(put)
                }
                Op::Plain(Request::RequestDeleteRange(r)) => {
                    let mut deleted = self.delete_range(r)?;
                    deleted.header = self.header();
                    Response::ResponseDeleteRange(deleted)
                }
                Op::Plain(Request::RequestTxn(_)) => {
                    unreachable!("choose() makes every nested txn an Op::Txn")
                }
                Op::Txn(nested) => {
                    let mut nested = self.run(nested)?;
                    // etcd fills in the header of the outermost only.
                    nested.header = Some(ResponseHeader::default());
                    Response::ResponseTxn(nested)
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: None,
            succeeded: chosen.succeeded,
            responses,
        })
    }

    /// The header of an operation's response: the revision that it saw or made, and nothing else.
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.seen_revision().0,
            ..ResponseHeader::default()
        })
    }
}

/// Whether a compare holds for a version, or for a key that is missing: its value compares with nothing, all its numbers are 0.
fn holds(compare: &Compare, version: Option<&Version<'_>>) -> bool {
    let union = compare.target_union.as_ref();
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let Some(version) = version else { return false };
            version.value.cmp(match union {
                Some(TargetUnion::Value(value)) => value,
                _ => b"",
            })
        }
        Ok(target) => {
            let found = version.map_or(0, |version| match target {
                CompareTarget::Version => version.version,
                CompareTarget::Create => version.create.0,
                CompareTarget::Mod => version.modified.0,
                CompareTarget::Lease => version.lease.0,
                CompareTarget::Value => unreachable!("matched above"),
            });
            found.cmp(&match (target, union) {
                (CompareTarget::Version, Some(TargetUnion::Version(wanted)))
                | (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted)))
                | (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted)))
                | (CompareTarget::Lease, Some(TargetUnion::Lease(wanted))) => *wanted,
                _ => 0,
            })
        }
        Err(_) => Ordering::Equal, // As etcd takes a target that it does not know.
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
