//! `-w fields`: `"Name" : value`, a line for each field.

use super::{Reply, alarm_name, event_name};
use crate::go::{duration, quote::quote};
use etcd_client::proto::{
    PbDeleteResponse, PbKeyValue, PbPutResponse, PbRangeResponse, PbResponseHeader,
    PbTxnOpResponse, PbTxnResponse,
};
use std::fmt::{Display, Write as _};

/// The bytes of a reply.
pub fn render(reply: &Reply<'_>) -> Vec<u8> {
    let mut page = Page(String::new());
    page.reply(reply);
    page.0.into_bytes()
}

struct Page(String);

impl Page {
    fn reply(&mut self, reply: &Reply<'_>) {
        match reply {
            Reply::Put(reply) => self.put(reply),
            Reply::Range(reply) => self.range(reply),
            Reply::Delete(reply) => self.delete(reply),
            Reply::Txn(reply) => self.txn(reply),
            Reply::Watch(reply) => {
                self.header(Some(&reply.header));
                for event in reply.events.iter().flatten() {
                    self.field("Type", event_name(event));
                    if let Some(kv) = &event.prev_kv {
                        self.kv("Prev", kv);
                    }
                    self.kv("", event.kv.as_ref().unwrap_or(&PbKeyValue::default()));
                }
            }
            Reply::Grant(reply) => {
                self.header(reply.header.as_ref());
                self.lease(reply.id, reply.ttl);
            }
            Reply::Revoke(_, reply) => self.header(reply.header.as_ref()),
            Reply::KeepAlive(reply) => {
                self.header(reply.header.as_ref());
                self.lease(reply.id, reply.ttl);
            }
            Reply::TimeToLive(reply, _) => {
                self.header(reply.header.as_ref());
                self.lease(reply.id, reply.ttl);
                self.field("GrantedTTL", reply.granted_ttl);
                for key in &reply.keys {
                    self.field("Key", quote(key));
                }
            }
            Reply::Leases(reply) => {
                self.header(reply.header.as_ref());
                for lease in &reply.leases {
                    self.field("ID", lease.id);
                }
            }
            Reply::MemberList(reply) => {
                self.header(reply.header.as_ref());
                for member in &reply.members {
                    self.field("ID", member.id);
                    self.field("Name", quote(member.name.as_bytes()));
                    for url in &member.peer_ur_ls {
                        self.field("PeerURL", quote(url.as_bytes()));
                    }
                    for url in &member.client_ur_ls {
                        self.field("ClientURL", quote(url.as_bytes()));
                    }
                    self.field("IsLearner", member.is_learner);
                    self.0.push('\n');
                }
            }
            Reply::Health(endpoints) => {
                for health in *endpoints {
                    self.field("Endpoint", quote(health.endpoint.as_bytes()));
                    self.field("Health", health.error.is_none());
                    self.field(
                        "Took",
                        health.took.map(duration::format).unwrap_or_default(),
                    );
                    self.field("Error", health.error.as_deref().unwrap_or_default());
                    self.0.push('\n');
                }
            }
            Reply::Status(endpoints) => {
                for (endpoint, reply) in *endpoints {
                    self.header(reply.header.as_ref());
                    self.field("Version", quote(reply.version.as_bytes()));
                    self.field("DBSize", reply.db_size);
                    self.field("Leader", reply.leader);
                    self.field("IsLearner", reply.is_learner);
                    self.field("RaftIndex", reply.raft_index);
                    self.field("RaftTerm", reply.raft_term);
                    self.field("RaftAppliedIndex", reply.raft_applied_index);
                    self.field("Errors", format_args!("[{}]", reply.errors.join(" ")));
                    self.field("Endpoint", quote(endpoint.as_bytes()));
                    self.0.push('\n');
                }
            }
            Reply::HashKv(endpoints) => {
                for (endpoint, reply) in *endpoints {
                    self.header(reply.header.as_ref());
                    self.field("Endpoint", quote(endpoint.as_bytes()));
                    self.field("Hash", reply.hash);
                    self.0.push('\n');
                }
            }
            Reply::SnapshotStatus(status) => {
                self.field("Hash", status.hash);
                self.field("Revision", status.revision);
                self.field("Keys", status.total_key);
                self.field("Size", status.total_size);
            }
            Reply::Alarm(reply) => {
                self.header(reply.header.as_ref());
                for alarm in &reply.alarms {
                    self.field("MemberID", alarm.member_id);
                    self.field("AlarmType", alarm_name(alarm.alarm));
                    self.0.push('\n');
                }
            }
            // Refused before anything was sent; see `Output::require`.
            Reply::MemberAdd(_)
            | Reply::MemberRemove(..)
            | Reply::MemberUpdate(..)
            | Reply::MemberPromote(..)
            | Reply::MoveLeader(..) => {}
        }
    }

    fn put(&mut self, reply: &PbPutResponse) {
        self.header(reply.header.as_ref());
        if let Some(kv) = &reply.prev_kv {
            self.kv("Prev", kv);
        }
    }

    fn range(&mut self, reply: &PbRangeResponse) {
        self.header(reply.header.as_ref());
        reply.kvs.iter().for_each(|kv| self.kv("", kv));
        self.field("More", reply.more);
        self.field("Count", reply.count);
    }

    fn delete(&mut self, reply: &PbDeleteResponse) {
        self.header(reply.header.as_ref());
        self.field("Deleted", reply.deleted);
        reply.prev_kvs.iter().for_each(|kv| self.kv("Prev", kv));
    }

    fn txn(&mut self, reply: &PbTxnResponse) {
        self.header(reply.header.as_ref());
        self.field("Succeeded", reply.succeeded);
        for response in &reply.responses {
            match &response.response {
                Some(PbTxnOpResponse::ResponsePut(reply)) => self.put(reply),
                Some(PbTxnOpResponse::ResponseRange(reply)) => self.range(reply),
                Some(PbTxnOpResponse::ResponseDeleteRange(reply)) => self.delete(reply),
                Some(PbTxnOpResponse::ResponseTxn(reply)) => self.txn(reply),
                None => {}
            }
        }
    }

    fn header(&mut self, header: Option<&PbResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.field("ClusterID", header.cluster_id);
        self.field("MemberID", header.member_id);
        self.field("Revision", header.revision);
        self.field("RaftTerm", header.raft_term);
    }

    fn kv(&mut self, prefix: &str, kv: &PbKeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        self.field(&format!("{prefix}Lease"), kv.lease);
    }

    fn lease(&mut self, id: i64, ttl: i64) {
        self.field("ID", id);
        self.field("TTL", ttl);
    }

    fn field(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "\"{name}\" : {value}");
    }
}
