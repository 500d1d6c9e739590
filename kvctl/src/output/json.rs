//! `-w json`: what Go's JSON encoder makes of the client library's structures. Their field names
//! follow no rule (`Header` and `header`, `ID` and `id`), so each is spelled out here.

use super::{Output, Reply, WatchReply};
use crate::go::duration;
use crate::go::json::{Object, array, bytes, string};
use etcd_client::proto::{
    PbDeleteResponse, PbEvent, PbHashKvResponse, PbKeyValue, PbMember, PbMemberListResponse,
    PbPutResponse, PbRangeResponse, PbResponseHeader, PbStatusResponse, PbTxnOpResponse,
    PbTxnResponse,
};

/// The bytes of a reply: one line.
pub fn render(output: &Output, reply: &Reply<'_>) -> Vec<u8> {
    let mut line = match reply {
        Reply::Put(reply) => put(reply),
        Reply::Range(reply) => range(reply),
        Reply::Delete(reply) => delete(reply),
        Reply::Txn(reply) => txn(reply),
        Reply::Watch(reply) => watch(reply),
        Reply::Grant(reply) => embedded(&reply.header)
            .plain("ID", reply.id)
            .plain("TTL", reply.ttl)
            .string("Error", &reply.error)
            .end(),
        Reply::Revoke(_, reply) => with_header(&reply.header).end(),
        Reply::KeepAlive(reply) => embedded(&reply.header)
            .plain("ID", reply.id)
            .plain("TTL", reply.ttl)
            .end(),
        Reply::TimeToLive(reply, _) => {
            let keys = match reply.keys.as_slice() {
                [] => "null".to_owned(),
                keys => array(keys.iter().map(|key| bytes(key))),
            };
            embedded(&reply.header)
                .plain("id", reply.id)
                .plain("ttl", reply.ttl)
                .plain("granted-ttl", reply.granted_ttl)
                .raw("keys", &keys)
                .end()
        }
        Reply::Leases(reply) => {
            let leases = reply
                .leases
                .iter()
                .map(|lease| Object::new().plain("id", lease.id).end());
            embedded(&reply.header).raw("leases", &array(leases)).end()
        }
        Reply::MemberList(reply) if output.hex => member_list_hex(reply),
        Reply::MemberList(reply) => with_header(&reply.header)
            .array_or_omit("members", members(&reply.members))
            .end(),
        Reply::MemberAdd(reply) => with_header(&reply.header)
            .raw_or_omit("member", reply.member.as_ref().map(member))
            .array_or_omit("members", members(&reply.members))
            .end(),
        Reply::MemberRemove(_, reply) => with_header(&reply.header)
            .array_or_omit("members", members(&reply.members))
            .end(),
        Reply::MemberUpdate(_, reply) => with_header(&reply.header)
            .array_or_omit("members", members(&reply.members))
            .end(),
        Reply::MemberPromote(_, reply) => with_header(&reply.header)
            .array_or_omit("members", members(&reply.members))
            .end(),
        Reply::Health(endpoints) => array(endpoints.iter().map(|health| {
            Object::new()
                .string("endpoint", &health.endpoint)
                .plain("health", health.error.is_none())
                .string(
                    "took",
                    &health.took.map(duration::format).unwrap_or_default(),
                )
                .string_or_omit("error", health.error.as_deref().unwrap_or_default())
                .end()
        })),
        Reply::Status(endpoints) => array(endpoints.iter().map(|(endpoint, reply)| {
            Object::new()
                .string("Endpoint", endpoint)
                .raw("Status", &status(reply))
                .end()
        })),
        Reply::HashKv(endpoints) => array(endpoints.iter().map(|(endpoint, reply)| {
            Object::new()
                .string("Endpoint", endpoint)
                .raw("HashKV", &hash_kv(reply))
                .end()
        })),
        Reply::SnapshotStatus(status) => Object::new()
            .plain("hash", status.hash)
            .plain("revision", status.revision)
            .plain("totalKey", status.total_key)
            .plain("totalSize", status.total_size)
            .end(),
        Reply::MoveLeader(_, _, reply) => with_header(&reply.header).end(),
        Reply::Alarm(reply) => {
            let alarms = reply.alarms.iter().map(|alarm| {
                Object::new()
                    .plain_or_omit("memberID", alarm.member_id)
                    .plain_or_omit("alarm", alarm.alarm)
                    .end()
            });
            with_header(&reply.header)
                .array_or_omit("alarms", alarms.collect())
                .end()
        }
    };
    line.push('\n');
    line.into_bytes()
}

fn header_fields(object: Object, header: &PbResponseHeader) -> Object {
    object
        .plain_or_omit("cluster_id", header.cluster_id)
        .plain_or_omit("member_id", header.member_id)
        .plain_or_omit("revision", header.revision)
        .plain_or_omit("raft_term", header.raft_term)
}

fn header(header: &PbResponseHeader) -> String {
    header_fields(Object::new(), header).end()
}

/// An object that begins with a field `header`.
fn with_header(of: &Option<PbResponseHeader>) -> Object {
    Object::new().raw_or_omit("header", of.as_ref().map(header))
}

/// An object that begins with the header's own fields: the Go structure embeds it.
fn embedded(header: &Option<PbResponseHeader>) -> Object {
    match header {
        Some(header) => header_fields(Object::new(), header),
        None => Object::new(),
    }
}

fn kv(kv: &PbKeyValue) -> String {
    Object::new()
        .bytes_or_omit("key", &kv.key)
        .plain_or_omit("create_revision", kv.create_revision)
        .plain_or_omit("mod_revision", kv.mod_revision)
        .plain_or_omit("version", kv.version)
        .bytes_or_omit("value", &kv.value)
        .plain_or_omit("lease", kv.lease)
        .end()
}

fn kvs(list: &[PbKeyValue]) -> Vec<String> {
    list.iter().map(kv).collect()
}

fn put(reply: &PbPutResponse) -> String {
    with_header(&reply.header)
        .raw_or_omit("prev_kv", reply.prev_kv.as_ref().map(kv))
        .end()
}

fn range(reply: &PbRangeResponse) -> String {
    with_header(&reply.header)
        .array_or_omit("kvs", kvs(&reply.kvs))
        .plain_or_omit("more", reply.more)
        .plain_or_omit("count", reply.count)
        .end()
}

fn delete(reply: &PbDeleteResponse) -> String {
    with_header(&reply.header)
        .plain_or_omit("deleted", reply.deleted)
        .array_or_omit("prev_kvs", kvs(&reply.prev_kvs))
        .end()
}

fn txn(reply: &PbTxnResponse) -> String {
    let responses = reply.responses.iter().map(|response| {
        let inner = match &response.response {
            Some(PbTxnOpResponse::ResponseRange(reply)) => {
                Object::new().raw("response_range", &range(reply)).end()
            }
            Some(PbTxnOpResponse::ResponsePut(reply)) => {
                Object::new().raw("response_put", &put(reply)).end()
            }
            Some(PbTxnOpResponse::ResponseDeleteRange(reply)) => Object::new()
                .raw("response_delete_range", &delete(reply))
                .end(),
            Some(PbTxnOpResponse::ResponseTxn(reply)) => {
                Object::new().raw("response_txn", &txn(reply)).end()
            }
            None => "null".to_owned(),
        };
        Object::new().raw("Response", &inner).end()
    });
    with_header(&reply.header)
        .plain_or_omit("succeeded", reply.succeeded)
        .array_or_omit("responses", responses.collect())
        .end()
}

fn watch(reply: &WatchReply) -> String {
    let events = match &reply.events {
        Some(events) => array(events.iter().map(event)),
        None => "null".to_owned(),
    };
    Object::new()
        .raw("Header", &header(&reply.header))
        .raw("Events", &events)
        .plain("CompactRevision", reply.compact_revision)
        .plain("Canceled", reply.canceled)
        .plain("Created", false)
        .end()
}

fn event(event: &PbEvent) -> String {
    Object::new()
        .plain_or_omit("type", event.r#type)
        .raw_or_omit("kv", event.kv.as_ref().map(kv))
        .raw_or_omit("prev_kv", event.prev_kv.as_ref().map(kv))
        .end()
}

fn strings(list: &[String]) -> Vec<String> {
    list.iter().map(|text| string(text)).collect()
}

fn member(member: &PbMember) -> String {
    Object::new()
        .plain_or_omit("ID", member.id)
        .string_or_omit("name", &member.name)
        .array_or_omit("peerURLs", strings(&member.peer_ur_ls))
        .array_or_omit("clientURLs", strings(&member.client_ur_ls))
        .plain_or_omit("isLearner", member.is_learner)
        .end()
}

fn members(list: &[PbMember]) -> Vec<String> {
    list.iter().map(member).collect()
}

/// `member list -w json --hex`, which etcdctl puts together by hand: other fields, another
/// spelling (`clientURLS`), the term in hexadecimal without quotes, names unescaped.
fn member_list_hex(reply: &PbMemberListResponse) -> String {
    let header = reply.header.unwrap_or_default();
    let list = |urls: &[String]| match urls {
        [] => "null".to_owned(),
        urls => array(strings(urls)),
    };
    let members = reply.members.iter().map(|member| {
        Object::new()
            .raw("ID", &format!("\"{:x}\"", member.id))
            .raw("name", &format!("\"{}\"", member.name))
            .raw("peerURLs", &list(&member.peer_ur_ls))
            .raw("clientURLS", &list(&member.client_ur_ls))
            .end()
    });
    let header = Object::new()
        .raw("cluster_id", &format!("\"{:x}\"", header.cluster_id))
        .raw("member_id", &format!("\"{:x}\"", header.member_id))
        .raw("raft_term", &format!("{:x}", header.raft_term))
        .end();
    Object::new()
        .raw("header", &header)
        .array_or_omit("members", members.collect())
        .end()
}

/// Only the fields that etcd 3.5 knows: etcdctl 3.5 drops the others.
fn status(reply: &PbStatusResponse) -> String {
    with_header(&reply.header)
        .string_or_omit("version", &reply.version)
        .plain_or_omit("dbSize", reply.db_size)
        .plain_or_omit("leader", reply.leader)
        .plain_or_omit("raftIndex", reply.raft_index)
        .plain_or_omit("raftTerm", reply.raft_term)
        .plain_or_omit("raftAppliedIndex", reply.raft_applied_index)
        .array_or_omit("errors", strings(&reply.errors))
        .plain_or_omit("dbSizeInUse", reply.db_size_in_use)
        .plain_or_omit("isLearner", reply.is_learner)
        .end()
}

fn hash_kv(reply: &PbHashKvResponse) -> String {
    with_header(&reply.header)
        .plain_or_omit("hash", reply.hash)
        .plain_or_omit("compact_revision", reply.compact_revision)
        .end()
}
