//! Commands that concern the store and the cluster rather than keys: compaction, alarms, membership, identity.

use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{self, ClusterInit, MemberAttributes, Membership, StoredMembership};
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse,
};
use prost::Message;

use super::{Work, done};
use crate::engine::{EngineError, Family, View};
use crate::format::{RawLog, alarm_key, attributes_key, log_key, removed_key};
use crate::source::Source;
use crate::state::member_ids;
use crate::{MemberId, ReadError, Refusal, Reply, Revision};

impl<V: View> Work<'_, V> {
    /// Forgets what can only be read below the revision, which itself stays readable.
    pub(super) fn compact(&mut self, r: &CompactionRequest) -> Result<Reply, ReadError> {
        let to = Revision(r.revision);
        if to <= self.base.compacted() {
            return Err(Refusal::Compacted.into());
        }
        if to > self.base.revision() {
            return Err(Refusal::FutureRevision.into());
        }
        let key = log_key(to, 0);
        let start = match self.source().get(Family::Log, &key)? {
            Some(value) => RawLog::parse(&key, &value)?.position,
            // An empty store is at revision 1, which changed nothing, and below it there is nothing.
            None if to <= Revision::FIRST => self.base.log_start,
            None => {
                return Err(EngineError::new(
                    format!("reading log at {to}/0"),
                    "the record is missing",
                )
                .into());
            }
        };
        let freed = start.saturating_sub(self.base.log_start);
        self.base.log_start = start;
        self.base.state.logical_bytes -= freed as i64;
        self.base.state.compacted = to.0;
        self.base.roots.compact(to);
        if on(Bug::CompactionDropsLive) {
            self.drop_oldest_key(to)?;
        }
        let key = if on(Bug::CompactionDropsItsRevision) {
            log_key(to.next(), 0)
        } else {
            key
        };
        self.pending.truncate_log(key);
        Ok(Reply::Compact(CompactionResponse { header: None }))
    }

    pub(super) fn alarm(&mut self, r: &AlarmRequest) -> Result<Reply, ReadError> {
        let Ok(alarm) = AlarmType::try_from(r.alarm) else {
            return Err(Refusal::UnknownCommand.into());
        };
        let one = (alarm as i32, r.member_id);
        let alarms: Vec<(i32, u64)> = match AlarmAction::try_from(r.action) {
            Ok(AlarmAction::Get) => {
                let asked =
                    |(kind, _): &(i32, u64)| alarm == AlarmType::None || *kind == alarm as i32;
                self.base.alarms.iter().copied().filter(asked).collect()
            }
            Ok(AlarmAction::Activate) if alarm == AlarmType::None => Vec::new(),
            Ok(AlarmAction::Activate) => {
                self.raise(one.0, one.1);
                vec![one]
            }
            Ok(AlarmAction::Deactivate) => {
                let was_active = self.base.alarms.remove(&one);
                if was_active {
                    self.pending.delete(Family::Meta, alarm_key(one.0, one.1));
                }
                was_active.then_some(one).into_iter().collect()
            }
            Err(_) => return Err(Refusal::UnknownCommand.into()),
        };
        let alarms = alarms
            .into_iter()
            .map(|(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect();
        Ok(Reply::Alarm(AlarmResponse {
            header: None,
            alarms,
        }))
    }

    /// Activates an alarm, which may be active already.
    pub(super) fn raise(&mut self, alarm: i32, member: u64) {
        if self.base.alarms.insert((alarm, member)) {
            self.pending
                .put(Family::Meta, alarm_key(alarm, member), bytes::Bytes::new());
        }
    }

    /// Keeps what a member says of itself; a removed one has nothing to say any more.
    pub(super) fn member_attributes(&mut self, r: &MemberAttributes) -> Result<Reply, ReadError> {
        let id = MemberId(r.id);
        if self.source().get(Family::Meta, &removed_key(id))?.is_none() {
            self.pending
                .put(Family::Meta, attributes_key(id), r.encode_to_vec().into());
            self.attributes_changed = true;
        }
        Ok(done())
    }

    /// Gives the cluster its identity, once.
    pub(super) fn cluster_init(&mut self, r: &ClusterInit) -> Reply {
        if self.base.state.cluster_id == 0 {
            self.base.state.cluster_id = r.cluster_id;
        }
        done()
    }

    /// Puts a membership in force. Members that are in it no longer are remembered for ever, and what they said is forgotten.
    pub(super) fn membership(&mut self, membership: &Membership) {
        let state = &mut self.base.state;
        let before = state
            .membership
            .as_ref()
            .and_then(|stored| stored.membership.as_ref());
        let before = before.map(member_ids).unwrap_or_default();
        let after = member_ids(membership);
        state.membership = Some(StoredMembership {
            log_id: Some(commandpb::LogId {
                term: self.id.term,
                index: self.id.index,
            }),
            membership: Some(membership.clone()),
        });
        for &gone in before.difference(&after) {
            self.pending.put(
                Family::Meta,
                removed_key(MemberId(gone)),
                bytes::Bytes::new(),
            );
            self.pending
                .delete(Family::Meta, attributes_key(MemberId(gone)));
            self.attributes_changed = true;
        }
    }
}
