//! Where two servers may differ, and why. What is not listed here, must be equal.

use keelson_proto::etcdserverpb as pb;
use pb::range_request::SortTarget;
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::Code;

use super::command::Command;
use super::reply::Reply;

/// One difference that is meant: `forgive` makes two replies equal that differ for this reason, and touches
/// nothing else.
#[derive(Clone, Copy)]
pub struct Known {
    /// Why it is right that they differ.
    pub reason: &'static str,
    /// Removes from one of the replies what may differ; called for each.
    pub forgive: fn(&Command, &mut Reply),
}

/// `kvd` beside etcd 3.5.1.
pub const KVD: &[Known] = &[
    Known {
        reason: "without values, etcd 3.7 (which kvd follows) does not tell leases either, since it reads no records; \
             it does when it must sort by value",
        forgive: forget_leases_of_bare_keys,
    },
    Known {
        reason: "of several things that are wrong with a txn, etcd 3.7 (which kvd follows) names that of the first \
             operation, and of a put its lease before its missing key; etcd 3.5 looks at all puts before any range, \
             and at the key before the lease",
        forgive: forget_which_fault,
    },
];

/// etcd 3.4 beside etcd 3.5.1.
pub const ETCD_3_4: &[Known] = &[];

fn forget_leases_of_bare_keys(command: &Command, reply: &mut Reply) {
    match (command, reply) {
        (Command::Range(request), Reply::Range(reply)) => in_range(request, reply),
        (Command::Txn(request), Reply::Txn(reply)) => in_txn(request, reply),
        _ => {}
    }
}

/// Faults of a txn that are found when it is applied.
const FAULTS: [&str; 4] = [
    "etcdserver: key not found",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: required revision has been compacted",
];

fn forget_which_fault(command: &Command, reply: &mut Reply) {
    let Command::Txn(txn) = command else { return };
    let Reply::Error(code, message) = reply else {
        return;
    };
    if FAULTS.contains(&message.as_str())
        && (faults_possible(&txn.success) > 1 || faults_possible(&txn.failure) > 1)
    {
        (*code, *message) = (Code::Unknown, "one of several faults".to_owned());
    }
}

/// How many things could be wrong with these operations.
fn faults_possible(ops: &[pb::RequestOp]) -> usize {
    let in_op = |op: &pb::RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => usize::from(range.revision != 0),
        Some(Request::RequestPut(put)) => {
            usize::from(put.lease != 0) + usize::from(put.ignore_value || put.ignore_lease)
        }
        Some(Request::RequestTxn(txn)) => {
            faults_possible(&txn.success) + faults_possible(&txn.failure)
        }
        _ => 0,
    };
    ops.iter().map(in_op).sum()
}

fn in_range(request: &pb::RangeRequest, reply: &mut pb::RangeResponse) {
    if request.keys_only && request.sort_target() != SortTarget::Value {
        reply.kvs.iter_mut().for_each(|kv| kv.lease = 0);
    }
}

fn in_txn(request: &pb::TxnRequest, reply: &mut pb::TxnResponse) {
    let ops = if reply.succeeded {
        &request.success
    } else {
        &request.failure
    };
    for (op, response) in ops.iter().zip(&mut reply.responses) {
        match (&op.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(reply))) => {
                in_range(request, reply)
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(reply))) => {
                in_txn(request, reply)
            }
            _ => {}
        }
    }
}
