//! `-w simple`: bare keys and values, or a sentence; for a person, with colours.

use super::{EndpointHealth, Format, Output, Reply, alarm_name, event_name, table};
use crate::go::duration;
use clap::builder::styling::{AnsiColor, Style};
use etcd_client::proto::{
    PbDeleteResponse, PbKeyValue, PbPutResponse, PbRangeResponse, PbResponseHeader,
    PbTxnOpResponse, PbTxnResponse,
};

const KEY: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// The bytes of a reply.
pub fn render(output: &Output, reply: &Reply<'_>) -> Vec<u8> {
    let mut page = Page {
        output,
        bytes: Vec::new(),
    };
    page.reply(reply);
    page.bytes
}

struct Page<'a> {
    output: &'a Output,
    bytes: Vec<u8>,
}

impl Page<'_> {
    fn reply(&mut self, reply: &Reply<'_>) {
        match reply {
            Reply::Put(reply) => self.put(reply),
            Reply::Range(reply) => self.range(reply),
            Reply::Delete(reply) => self.delete(reply),
            Reply::Txn(reply) => self.txn(reply),
            Reply::Watch(reply) => {
                for event in reply.events.iter().flatten() {
                    let style = if event.r#type == 0 { GOOD } else { BAD };
                    self.styled(style, event_name(event).as_bytes());
                    if let Some(kv) = &event.prev_kv {
                        self.kv(kv);
                    }
                    self.kv(event.kv.as_ref().unwrap_or(&PbKeyValue::default()));
                }
            }
            Reply::Grant(reply) => {
                self.line(&format!(
                    "lease {:016x} granted with TTL({}s)",
                    reply.id, reply.ttl
                ));
            }
            Reply::Revoke(id, _) => self.line(&format!("lease {id:016x} revoked")),
            Reply::KeepAlive(reply) => {
                self.line(&format!(
                    "lease {:016x} keepalived with TTL({})",
                    reply.id, reply.ttl
                ));
            }
            Reply::TimeToLive(reply, _) if reply.granted_ttl == 0 && reply.ttl == -1 => {
                self.line(&format!("lease {:016x} already expired", reply.id));
            }
            Reply::TimeToLive(reply, keys) => {
                self.bytes.extend_from_slice(
                    format!(
                        "lease {:016x} granted with TTL({}s), remaining({}s)",
                        reply.id, reply.granted_ttl, reply.ttl
                    )
                    .as_bytes(),
                );
                if *keys {
                    self.bytes.extend_from_slice(b", attached keys([");
                    self.bytes.extend_from_slice(&reply.keys.join(&b' '));
                    self.bytes.extend_from_slice(b"])");
                }
                self.bytes.push(b'\n');
            }
            Reply::Leases(reply) => {
                self.line(&format!("found {} leases", reply.leases.len()));
                for lease in &reply.leases {
                    self.line(&format!("{:016x}", lease.id));
                }
            }
            Reply::MemberAdd(reply) => {
                let id = reply.member.as_ref().map_or(0, |member| member.id);
                self.member(id, "added to", &reply.header);
            }
            Reply::MemberRemove(id, reply) => self.member(*id, "removed from", &reply.header),
            Reply::MemberUpdate(id, reply) => self.member(*id, "updated in", &reply.header),
            Reply::MemberPromote(id, reply) => self.member(*id, "promoted in", &reply.header),
            Reply::MemberList(_)
            | Reply::Status(_)
            | Reply::HashKv(_)
            | Reply::SnapshotStatus(_) => {
                let rows = table::rows(reply)
                    .map(|table| table.rows)
                    .unwrap_or_default();
                for row in rows {
                    self.line(&row.join(", "));
                }
            }
            Reply::Health(endpoints) => endpoints.iter().for_each(|endpoint| self.health(endpoint)),
            Reply::MoveLeader(from, to, _) => {
                self.line(&format!("Leadership transferred from {from:x} to {to:x}"));
            }
            Reply::Alarm(reply) => {
                // The text form of a protobuf message leaves out zeros, and ends in a space.
                for alarm in &reply.alarms {
                    let member = match alarm.member_id {
                        0 => String::new(),
                        id => format!("memberID:{id} "),
                    };
                    let kind = match alarm.alarm {
                        0 => String::new(),
                        kind => format!("alarm:{} ", alarm_name(kind)),
                    };
                    self.line(&(member + &kind));
                }
                if reply.alarms.is_empty() && self.output.format == Format::Person {
                    self.line("no alarms");
                }
            }
        }
    }

    fn put(&mut self, reply: &PbPutResponse) {
        self.styled(GOOD, b"OK");
        if let Some(kv) = &reply.prev_kv {
            self.kv(kv);
        }
    }

    fn range(&mut self, reply: &PbRangeResponse) {
        reply.kvs.iter().for_each(|kv| self.kv(kv));
    }

    fn delete(&mut self, reply: &PbDeleteResponse) {
        self.line(&reply.deleted.to_string());
        reply.prev_kvs.iter().for_each(|kv| self.kv(kv));
    }

    fn txn(&mut self, reply: &PbTxnResponse) {
        if reply.succeeded {
            self.styled(GOOD, b"SUCCESS");
        } else {
            self.styled(BAD, b"FAILURE");
        }
        for response in &reply.responses {
            self.line("");
            match &response.response {
                Some(PbTxnOpResponse::ResponsePut(reply)) => self.put(reply),
                Some(PbTxnOpResponse::ResponseRange(reply)) => self.range(reply),
                Some(PbTxnOpResponse::ResponseDeleteRange(reply)) => self.delete(reply),
                Some(PbTxnOpResponse::ResponseTxn(reply)) => self.txn(reply),
                None => {}
            }
        }
    }

    fn kv(&mut self, kv: &PbKeyValue) {
        if !self.output.value_only {
            let key = self.maybe_hex(&kv.key);
            self.styled(KEY, &key);
        }
        let value = self.maybe_hex(&kv.value);
        self.bytes.extend_from_slice(&value);
        self.bytes.push(b'\n');
    }

    fn maybe_hex(&self, bytes: &[u8]) -> Vec<u8> {
        if self.output.hex {
            bytes
                .iter()
                .flat_map(|byte| format!("\\x{byte:02x}").into_bytes())
                .collect()
        } else {
            bytes.to_vec()
        }
    }

    fn member(&mut self, id: u64, change: &str, header: &Option<PbResponseHeader>) {
        let cluster = header.as_ref().map_or(0, |header| header.cluster_id);
        self.line(&format!("Member {id:>16x} {change} cluster {cluster:>16x}"));
    }

    /// etcdctl prints the unhealthy ones on stderr; so does the command that asks for this.
    fn health(&mut self, health: &EndpointHealth) {
        if health.error.is_none() {
            let took = duration::format(health.took.unwrap_or_default());
            self.line(&format!(
                "{} is healthy: successfully committed proposal: took = {took}",
                health.endpoint
            ));
        }
    }

    fn line(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b'\n');
    }

    fn styled(&mut self, style: Style, text: &[u8]) {
        if self.output.colour {
            self.bytes
                .extend_from_slice(style.render().to_string().as_bytes());
            self.bytes.extend_from_slice(text);
            self.bytes
                .extend_from_slice(style.render_reset().to_string().as_bytes());
        } else {
            self.bytes.extend_from_slice(text);
        }
        self.bytes.push(b'\n');
    }
}
