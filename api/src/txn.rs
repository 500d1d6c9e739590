//! Txns as the API sees them: which are reads, which put, and how a read is served without going through the log.

use std::cmp::Ordering;

use keelson_proto::etcdserverpb::{
    Compare, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, compare,
    request_op, response_op,
};
use keelson_proto::mvccpb::KeyValue;
use keelson_store::engine::View;
use keelson_store::{Published, ReadError, Refusal};
use request_op::Request;

/// Every operation of the txn, of both branches and of nested txns, in no particular order.
fn all_ops(txn: &TxnRequest, visit: &mut impl FnMut(&Request)) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestTxn(nested)) => all_ops(nested, visit),
            Some(request) => visit(request),
            None => {}
        }
    }
}

/// Whether the txn can change nothing, whichever way its comparisons go.
pub(crate) fn is_read_only(txn: &TxnRequest) -> bool {
    let mut read_only = true;
    all_ops(txn, &mut |op| {
        read_only &= matches!(op, Request::RequestRange(_))
    });
    read_only
}

/// Whether every range of the txn is content with what this member has. A txn without ranges is not: its
/// comparisons are reads as well.
pub(crate) fn is_serializable(txn: &TxnRequest) -> bool {
    let (mut any, mut all) = (false, true);
    all_ops(txn, &mut |op| {
        any = true;
        all &= matches!(op, Request::RequestRange(range) if range.serializable);
    });
    any && all
}

/// Serves a read-only txn from one state. The reply has no header yet; those inside carry the revision alone.
pub(crate) fn read<V: View>(
    published: &Published<V>,
    txn: &TxnRequest,
) -> Result<TxnResponse, ReadError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !holds(published, compare)? {
            succeeded = false;
            break;
        }
    }
    let ops = if succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    let responses = ops
        .iter()
        .map(|op| read_op(published, op))
        .collect::<Result<_, _>>()?;
    Ok(TxnResponse {
        header: None,
        succeeded,
        responses,
    })
}

fn read_op<V: View>(published: &Published<V>, op: &RequestOp) -> Result<ResponseOp, ReadError> {
    let header = Some(ResponseHeader {
        revision: published.revision.0,
        ..ResponseHeader::default()
    });
    let response = match &op.request {
        Some(Request::RequestRange(range)) => {
            // As in etcd, a negative revision means the present one in a range alone, and not within a txn.
            if range.revision < 0 && published.compacted.0 > range.revision {
                return Err(Refusal::Compacted.into());
            }
            let mut response = published.range(range)?;
            response.header = header;
            Some(response_op::Response::ResponseRange(response))
        }
        Some(Request::RequestTxn(nested)) => {
            let mut response = read(published, nested)?;
            // As in etcd, this one says nothing.
            response.header = Some(ResponseHeader::default());
            Some(response_op::Response::ResponseTxn(response))
        }
        // Not reached: only read-only txns come here, and an empty operation is refused before.
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => None,
    };
    Ok(ResponseOp { response })
}

/// Whether a comparison holds: for every key of its range; for a missing key against zeros, and never for a value.
fn holds<V: View>(published: &Published<V>, compare: &Compare) -> Result<bool, ReadError> {
    if compare.range_end.is_empty() {
        let kv = published.get(&compare.key)?;
        return Ok(kv_holds(kv.as_ref(), compare));
    }
    let range = RangeRequest {
        key: compare.key.clone(),
        range_end: compare.range_end.clone(),
        ..RangeRequest::default()
    };
    let kvs = published.range(&range)?.kvs;
    Ok(if kvs.is_empty() {
        kv_holds(None, compare)
    } else {
        kvs.iter().all(|kv| kv_holds(Some(kv), compare))
    })
}

fn kv_holds(kv: Option<&KeyValue>, compare: &Compare) -> bool {
    use compare::{CompareResult, CompareTarget, TargetUnion};
    let missing = KeyValue::default();
    let found = kv.unwrap_or(&missing);
    let against = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            if kv.is_none() {
                return false;
            }
            let value: &[u8] = if let Some(TargetUnion::Value(value)) = against {
                value
            } else {
                &[]
            };
            found.value[..].cmp(value)
        }
        Ok(CompareTarget::Version) => found.version.cmp(&if let Some(TargetUnion::Version(n)) =
            against
        {
            *n
        } else {
            0
        }),
        Ok(CompareTarget::Create) => {
            found
                .create_revision
                .cmp(&if let Some(TargetUnion::CreateRevision(n)) = against {
                    *n
                } else {
                    0
                })
        }
        Ok(CompareTarget::Mod) => {
            found
                .mod_revision
                .cmp(&if let Some(TargetUnion::ModRevision(n)) = against {
                    *n
                } else {
                    0
                })
        }
        Ok(CompareTarget::Lease) => {
            found
                .lease
                .cmp(&if let Some(TargetUnion::Lease(n)) = against {
                    *n
                } else {
                    0
                })
        }
        // etcd compares an unknown target as equal.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        // And an unknown operator holds.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::DeleteRangeRequest;

    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    fn range(serializable: bool) -> RequestOp {
        op(Request::RequestRange(RangeRequest {
            serializable,
            ..RangeRequest::default()
        }))
    }

    fn nested(txn: TxnRequest) -> RequestOp {
        op(Request::RequestTxn(txn))
    }

    #[test]
    fn a_txn_is_a_read_only_if_nothing_in_it_writes_however_deep() {
        let reads = TxnRequest {
            success: vec![range(false)],
            failure: vec![range(true)],
            ..TxnRequest::default()
        };
        assert!(is_read_only(&TxnRequest {
            success: vec![nested(reads.clone())],
            ..TxnRequest::default()
        }));
        let deletes = op(Request::RequestDeleteRange(DeleteRangeRequest::default()));
        let writes = TxnRequest {
            failure: vec![deletes],
            ..reads
        };
        assert!(!is_read_only(&TxnRequest {
            success: vec![nested(writes)],
            ..TxnRequest::default()
        }));
    }

    #[test]
    fn a_txn_of_comparisons_alone_is_not_serializable() {
        assert!(!is_serializable(&TxnRequest::default()));
        assert!(is_serializable(&TxnRequest {
            success: vec![range(true)],
            ..TxnRequest::default()
        }));
        let mixed = TxnRequest {
            success: vec![range(true)],
            failure: vec![range(false)],
            ..TxnRequest::default()
        };
        assert!(!is_serializable(&mixed));
    }

    #[test]
    fn a_missing_key_compares_as_zeros_but_never_by_value() {
        use compare::{CompareResult, CompareTarget, TargetUnion};
        let version = |result: CompareResult, n| Compare {
            target: CompareTarget::Version as i32,
            result: result as i32,
            target_union: Some(TargetUnion::Version(n)),
            ..Compare::default()
        };
        assert!(kv_holds(None, &version(CompareResult::Equal, 0)));
        assert!(kv_holds(None, &version(CompareResult::Less, 1)));
        assert!(!kv_holds(None, &version(CompareResult::Greater, 0)));
        let value = |result: CompareResult| Compare {
            target: CompareTarget::Value as i32,
            result: result as i32,
            target_union: Some(TargetUnion::Value(bytes::Bytes::new())),
            ..Compare::default()
        };
        assert!(!kv_holds(None, &value(CompareResult::Equal)));
        assert!(!kv_holds(None, &value(CompareResult::NotEqual)));
        assert!(kv_holds(
            Some(&KeyValue::default()),
            &value(CompareResult::Equal)
        ));
    }
}
