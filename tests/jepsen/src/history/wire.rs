//! Between a history's words and etcd's messages: requests are made from calls, replies are read into outcomes, so
//! that what is recorded is what was sent.

use keelson_proto::{etcdserverpb as pb, mvccpb};
use pb::compare::{CompareResult as PbResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;

use super::{
    Compare, CompareResult, Data, Delete, Event, EventKind, Hashed, Header, Kv, LeaseId,
    MemberInfo, Micros, Outcome, Put, Range, Reply, Revision, Step, Target, Txn, WatchResponse,
    WatchStream,
};

/// A reply that etcd's API does not know: a step of a transaction without an answer, or a filter without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent {0}")]
pub struct UnknownReply(pub &'static str);

impl From<&Range> for pb::RangeRequest {
    fn from(range: &Range) -> pb::RangeRequest {
        pb::RangeRequest {
            key: range.key.0.clone(),
            range_end: range.range_end.0.clone(),
            revision: range.revision.0,
            limit: range.limit,
            serializable: range.serializable,
            keys_only: range.keys_only,
            count_only: range.count_only,
            ..Default::default()
        }
    }
}

impl From<&Put> for pb::PutRequest {
    fn from(put: &Put) -> pb::PutRequest {
        pb::PutRequest {
            key: put.key.0.clone(),
            value: put.value.0.clone(),
            lease: put.lease.0,
            prev_kv: put.prev_kv,
            ..Default::default()
        }
    }
}

impl From<&Delete> for pb::DeleteRangeRequest {
    fn from(delete: &Delete) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: delete.key.0.clone(),
            range_end: delete.range_end.0.clone(),
            prev_kv: delete.prev_kv,
        }
    }
}

impl From<&Txn> for pb::TxnRequest {
    fn from(txn: &Txn) -> pb::TxnRequest {
        pb::TxnRequest {
            compare: txn.compares.iter().map(pb::Compare::from).collect(),
            success: txn.success.iter().map(pb::RequestOp::from).collect(),
            failure: txn.failure.iter().map(pb::RequestOp::from).collect(),
        }
    }
}

impl From<&Step> for pb::RequestOp {
    fn from(step: &Step) -> pb::RequestOp {
        let request = match step {
            Step::Range(range) => Request::RequestRange(range.into()),
            Step::Put(put) => Request::RequestPut(put.into()),
            Step::Delete(delete) => Request::RequestDeleteRange(delete.into()),
            Step::Txn(txn) => Request::RequestTxn(txn.into()),
        };
        pb::RequestOp {
            request: Some(request),
        }
    }
}

impl From<&Compare> for pb::Compare {
    fn from(compare: &Compare) -> pb::Compare {
        let result = match compare.result {
            CompareResult::Equal => PbResult::Equal,
            CompareResult::Greater => PbResult::Greater,
            CompareResult::Less => PbResult::Less,
            CompareResult::NotEqual => PbResult::NotEqual,
        };
        let (target, union) = match &compare.target {
            Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
            Target::Create(revision) => (
                CompareTarget::Create,
                TargetUnion::CreateRevision(revision.0),
            ),
            Target::Mod(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision.0)),
            Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.0.clone())),
            Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(lease.0)),
        };
        pb::Compare {
            result: result.into(),
            target: target.into(),
            key: compare.key.0.clone(),
            range_end: compare.range_end.0.clone(),
            target_union: Some(union),
        }
    }
}

impl From<&WatchStream> for pb::WatchCreateRequest {
    fn from(watch: &WatchStream) -> pb::WatchCreateRequest {
        use pb::watch_create_request::FilterType;
        let mut filters = Vec::new();
        if watch.no_put {
            filters.push(FilterType::Noput.into());
        }
        if watch.no_delete {
            filters.push(FilterType::Nodelete.into());
        }
        pb::WatchCreateRequest {
            key: watch.key.0.clone(),
            range_end: watch.range_end.0.clone(),
            start_revision: watch.start_revision.0,
            progress_notify: watch.progress_notify,
            filters,
            prev_kv: watch.prev_kv,
            fragment: watch.fragment,
            ..Default::default()
        }
    }
}

impl From<Option<pb::ResponseHeader>> for Header {
    fn from(header: Option<pb::ResponseHeader>) -> Header {
        let header = header.unwrap_or_default();
        Header {
            revision: Revision(header.revision),
            member_id: header.member_id,
            term: header.raft_term,
        }
    }
}

impl From<mvccpb::KeyValue> for Kv {
    fn from(kv: mvccpb::KeyValue) -> Kv {
        Kv {
            key: Data(kv.key),
            value: Data(kv.value),
            create_revision: Revision(kv.create_revision),
            mod_revision: Revision(kv.mod_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        }
    }
}

impl From<pb::Member> for MemberInfo {
    fn from(member: pb::Member) -> MemberInfo {
        MemberInfo {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_ur_ls,
            client_urls: member.client_ur_ls,
            learner: member.is_learner,
        }
    }
}

fn kvs(kvs: Vec<mvccpb::KeyValue>) -> Vec<Kv> {
    kvs.into_iter().map(Kv::from).collect()
}

fn range(reply: pb::RangeResponse) -> Reply {
    Reply::Range {
        kvs: kvs(reply.kvs),
        count: reply.count,
        more: reply.more,
    }
}

fn put(reply: pb::PutResponse) -> Reply {
    Reply::Put {
        prev_kv: reply.prev_kv.map(Kv::from),
    }
}

fn delete(reply: pb::DeleteRangeResponse) -> Reply {
    Reply::Delete {
        deleted: reply.deleted,
        prev_kvs: kvs(reply.prev_kvs),
    }
}

fn txn(reply: pb::TxnResponse) -> Result<Reply, UnknownReply> {
    let responses = reply.responses.into_iter().map(|response| {
        Ok(match response.response {
            Some(Response::ResponseRange(reply)) => range(reply),
            Some(Response::ResponsePut(reply)) => put(reply),
            Some(Response::ResponseDeleteRange(reply)) => delete(reply),
            Some(Response::ResponseTxn(reply)) => txn(reply)?,
            None => return Err(UnknownReply("a transaction's step without an answer")),
        })
    });
    Ok(Reply::Txn {
        succeeded: reply.succeeded,
        responses: responses.collect::<Result<_, _>>()?,
    })
}

fn members(members: Vec<pb::Member>) -> Reply {
    Reply::Members(members.into_iter().map(MemberInfo::from).collect())
}

/// A reply of etcd's that says how it ended: each becomes an outcome.
macro_rules! outcomes {
    ($($message:ident => |$reply:ident| $read:expr;)*) => {$(
        impl From<pb::$message> for Outcome {
            fn from(mut $reply: pb::$message) -> Outcome {
                let header = Header::from($reply.header.take());
                Outcome::Done { header, reply: $read }
            }
        }
    )*};
}

outcomes! {
    RangeResponse => |reply| range(reply);
    PutResponse => |reply| put(reply);
    DeleteRangeResponse => |reply| delete(reply);
    CompactionResponse => |reply| Reply::Compact;
    LeaseGrantResponse => |reply| Reply::Lease {
        id: LeaseId(reply.id), ttl: reply.ttl, granted_ttl: reply.ttl, keys: Vec::new(),
    };
    LeaseRevokeResponse => |reply| Reply::Revoked;
    LeaseKeepAliveResponse => |reply| Reply::Lease {
        id: LeaseId(reply.id), ttl: reply.ttl, granted_ttl: 0, keys: Vec::new(),
    };
    LeaseTimeToLiveResponse => |reply| Reply::Lease {
        id: LeaseId(reply.id),
        ttl: reply.ttl,
        granted_ttl: reply.granted_ttl,
        keys: reply.keys.into_iter().map(Data).collect(),
    };
    LeaseLeasesResponse => |reply| {
        Reply::Leases(reply.leases.into_iter().map(|lease| LeaseId(lease.id)).collect())
    };
    MemberListResponse => |reply| members(reply.members);
    MemberAddResponse => |reply| members(reply.members);
    MemberRemoveResponse => |reply| members(reply.members);
    MemberUpdateResponse => |reply| members(reply.members);
    MemberPromoteResponse => |reply| members(reply.members);
    MoveLeaderResponse => |reply| Reply::Moved;
    HashKvResponse => |reply| Reply::Hash(Hashed {
        hash: reply.hash,
        compact_revision: Revision(reply.compact_revision),
        hash_revision: Revision(reply.hash_revision),
    });
}

impl TryFrom<pb::TxnResponse> for Outcome {
    type Error = UnknownReply;

    fn try_from(mut reply: pb::TxnResponse) -> Result<Outcome, UnknownReply> {
        let header = Header::from(reply.header.take());
        Ok(Outcome::Done {
            header,
            reply: txn(reply)?,
        })
    }
}

impl WatchResponse {
    /// A response as it arrived, at `at`.
    pub fn arrived(at: Micros, response: pb::WatchResponse) -> WatchResponse {
        let header = Header::from(response.header);
        WatchResponse {
            at,
            revision: header.revision,
            term: header.term,
            watch_id: response.watch_id,
            created: response.created,
            canceled: response.canceled,
            cancel_reason: response.cancel_reason,
            compact_revision: Revision(response.compact_revision),
            fragment: response.fragment,
            events: response.events.into_iter().map(Event::from).collect(),
        }
    }
}

impl From<mvccpb::Event> for Event {
    fn from(event: mvccpb::Event) -> Event {
        let kind = match event.r#type() {
            mvccpb::event::EventType::Put => EventKind::Put,
            mvccpb::event::EventType::Delete => EventKind::Delete,
        };
        Event {
            kind,
            kv: event.kv.map(Kv::from).unwrap_or_default(),
            prev_kv: event.prev_kv.map(Kv::from),
        }
    }
}
