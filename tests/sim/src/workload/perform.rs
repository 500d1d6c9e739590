//! One operation, as the process serves it: through the member's own doors, in the same order.

use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, request_op, response_op,
};
use keelson_proto::mvccpb::KeyValue;
use keelson_raft::Member;
use keelson_store::{LeaseId, ReadError, Reply};

use crate::node::Simulated;
use crate::operation::{Ask, Keys, Read, Told, Txn};

/// Carries an operation out on a member.
pub async fn perform(member: Member<Simulated>, ask: Ask) -> Told {
    let request = match ask {
        Ask::Read(read) => return perform_read(&member, &read).await,
        Ask::Renew { lease } => {
            return match member.lease_renew(LeaseId(lease)).await {
                Ok(ttl_s) => Told::Renewed { ttl_s },
                Err(_) => Told::Unknown,
            };
        }
        Ask::Put { key, value, lease } => Request::Put(put(&key, &value, lease)),
        Ask::Delete { keys } => Request::DeleteRange(delete(&keys)),
        Ask::Txn(txn) => Request::Txn(request_of(&txn)),
        Ask::Compact { revision } => Request::Compact(CompactionRequest {
            revision,
            physical: false,
        }),
        Ask::Grant { lease, ttl_s } => Request::LeaseGrant(LeaseGrantRequest {
            ttl: ttl_s,
            id: lease,
        }),
        Ask::Revoke { lease } => Request::LeaseRevoke(LeaseRevokeRequest { id: lease }),
    };
    let command = Command {
        request: Some(request),
        ..Command::default()
    };
    let Ok(outcome) = member.propose(command).await else {
        return Told::Unknown;
    };
    let revision = outcome.revision.0;
    match outcome.result {
        Err(why) => Told::Refused { revision, why },
        Ok(Reply::DeleteRange(deleted)) => Told::Deleted {
            revision,
            count: deleted.deleted,
        },
        Ok(Reply::Txn(txn)) => told_of(txn, revision),
        Ok(_) => Told::Done { revision },
    }
}

async fn perform_read(member: &Member<Simulated>, read: &Read) -> Told {
    let ready = if read.serializable {
        // As the process does: nobody is served before the member has recovered.
        member.recovered().await
    } else {
        member.read_barrier().await
    };
    if ready.is_err() {
        return Told::Unknown;
    }
    let view = member.reader().now();
    let revision = view.revision.0;
    match view.range(&range(&read.keys, read.revision, read.limit)) {
        Ok(found) => Told::Read {
            revision,
            kvs: found.kvs,
            count: found.count,
            more: found.more,
        },
        Err(ReadError::Refused(why)) => Told::Refused { revision, why },
        Err(error) => panic!("member {} cannot read its state: {error}", member.id()),
    }
}

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

fn delete(keys: &Keys) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: keys.from.clone().into(),
        range_end: keys.end().into(),
        ..Default::default()
    }
}

fn range(keys: &Keys, revision: i64, limit: i64) -> RangeRequest {
    RangeRequest {
        key: keys.from.clone().into(),
        range_end: keys.end().into(),
        revision,
        limit,
        ..Default::default()
    }
}

fn request_of(txn: &Txn) -> TxnRequest {
    use request_op::Request as Op;
    let op = |request| RequestOp {
        request: Some(request),
    };
    let look = || op(Op::RequestRange(range(&txn.reads, 0, 0)));
    let guard = |(key, revision): &(String, i64)| Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.clone().into(),
        target_union: Some(TargetUnion::ModRevision(*revision)),
        ..Default::default()
    };
    let mut success = vec![look()];
    let puts = txn.puts.iter().map(|key| put(key, &txn.value, 0));
    success.extend(puts.map(|put| op(Op::RequestPut(put))));
    let deletes = txn.delete.iter().map(|key| delete(&Keys::one(key)));
    success.extend(deletes.map(|delete| op(Op::RequestDeleteRange(delete))));
    success.push(look());
    TxnRequest {
        compare: txn.guards.iter().map(guard).collect(),
        success,
        failure: vec![look()],
    }
}

fn told_of(txn: TxnResponse, revision: i64) -> Told {
    let mut reads: Vec<Vec<KeyValue>> = txn
        .responses
        .into_iter()
        .filter_map(|response| match response.response {
            Some(response_op::Response::ResponseRange(range)) => Some(range.kvs),
            _ => None,
        })
        .collect();
    let after = if reads.len() > 1 { reads.pop() } else { None };
    Told::Txn {
        revision,
        succeeded: txn.succeeded,
        before: reads.pop().unwrap_or_default(),
        after: after.unwrap_or_default(),
    }
}
