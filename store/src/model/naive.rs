//! The store as one would write it in an afternoon: every version of every key for ever, in one list, walked from end
//! to end for every question. It shares no code with the store; what they agree on is what etcd's API says.

use bytes::Bytes;
use keelson_proto::commandpb::{self, Command, command::Request};
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::*;
use keelson_proto::mvccpb::{self, KeyValue, event::EventType};
use prost::Message;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{LeaseChange, LeaseId, Refusal, Reply};

/// One change of one key.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub main: i64,
    pub sub: u32,
    pub event: mvccpb::Event,
}

/// The naive store.
#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub revision: i64,
    pub compacted: i64,
    /// All changes ever, in order.
    pub changes: Vec<Change>,
    pub leases: BTreeMap<i64, i64>,
    pub alarms: BTreeSet<(i32, u64)>,
    pub cluster_id: u64,
    pub attributes: BTreeMap<u64, commandpb::MemberAttributes>,
    pub members: BTreeSet<u64>,
    pub removed: BTreeSet<u64>,
    /// Changes made by the command being applied.
    sub: u32,
    lease_changes: Vec<LeaseChange>,
}

impl Naive {
    pub fn new() -> Naive {
        Naive {
            revision: 1,
            compacted: -1,
            changes: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            cluster_id: 0,
            attributes: BTreeMap::new(),
            members: BTreeSet::new(),
            removed: BTreeSet::new(),
            sub: 0,
            lease_changes: Vec::new(),
        }
    }

    /// All keys as they were at the end of a revision.
    pub fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut keys = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            let kv = change.event.kv.clone().expect("every event has one");
            match change.event.r#type() {
                EventType::Put => keys.insert(kv.key.clone(), kv),
                EventType::Delete => keys.remove(&kv.key),
            };
        }
        keys
    }

    /// All keys, the changes of the command being applied included.
    fn now(&self) -> BTreeMap<Bytes, KeyValue> {
        self.at(i64::MAX)
    }

    fn seen(&self) -> i64 {
        self.revision + i64::from(self.sub > 0)
    }

    fn change(&mut self, kind: EventType, kv: KeyValue) {
        let prev_kv = self.now().remove(&kv.key);
        let event = mvccpb::Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv,
        };
        self.changes.push(Change {
            main: self.revision + 1,
            sub: self.sub,
            event,
        });
        self.sub += 1;
    }

    fn end_revision(&mut self) {
        self.revision = self.seen();
        self.sub = 0;
    }

    /// What the quota counts: keys with their records, and every event that is kept.
    pub fn logical_bytes(&self) -> i64 {
        let record = |kv: &KeyValue| {
            KeyValue {
                key: Bytes::new(),
                ..kv.clone()
            }
            .encoded_len()
        };
        let live: usize = self
            .now()
            .values()
            .map(|kv| kv.key.len() + record(kv))
            .sum();
        let kept = self
            .changes
            .iter()
            .filter(|change| change.main >= self.compacted);
        let log: usize = kept.map(|change| 12 + change.event.encoded_len()).sum();
        (live + log) as i64
    }

    /// The hash of HashKV.
    pub fn hash(&self, at: i64) -> u32 {
        let record = |kv: &KeyValue| {
            KeyValue {
                key: Bytes::new(),
                ..kv.clone()
            }
            .encode_to_vec()
        };
        let mut versions = BTreeSet::new();
        for revision in self.compacted.max(0)..=at {
            for kv in self.at(revision).values() {
                versions.insert((kv.key.clone(), record(kv)));
            }
        }
        let mut sum = 0_u64;
        for (key, record) in versions {
            sum = sum.wrapping_add(xxh3_64_with_seed(&record, xxh3_64(&key)));
        }
        for change in self
            .changes
            .iter()
            .filter(|change| change.main > self.compacted && change.main <= at)
        {
            if change.event.r#type() == EventType::Delete {
                let key = &change.event.kv.as_ref().expect("every event has one").key;
                let mut place = change.main.to_be_bytes().to_vec();
                place.extend(change.sub.to_be_bytes());
                sum = sum.wrapping_add(xxh3_64_with_seed(
                    &place,
                    xxh3_64(key) ^ 0x746f_6d62_7374_6f6e,
                ));
            }
        }
        (sum ^ (sum >> 32)) as u32
    }

    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.now()
            .into_values()
            .filter(|kv| kv.lease == id)
            .map(|kv| kv.key)
            .collect()
    }

    /// Applies a command.
    pub fn apply(
        &mut self,
        command: &Command,
        size: usize,
    ) -> (Result<Reply, Refusal>, Vec<LeaseChange>) {
        let before = self.clone();
        let result = self.try_apply(command, size as i64);
        self.end_revision();
        let leases = std::mem::take(&mut self.lease_changes);
        if result.is_err() {
            let alarms = std::mem::take(&mut self.alarms);
            *self = Naive { alarms, ..before };
            return (result, Vec::new());
        }
        (result, leases)
    }

    fn try_apply(&mut self, command: &Command, size: i64) -> Result<Reply, Refusal> {
        let request = command.request.as_ref().ok_or(Refusal::UnknownCommand)?;
        let key_command = !matches!(
            request,
            Request::Alarm(_)
                | Request::LeaseExpire(_)
                | Request::MemberAttributes(_)
                | Request::ClusterInit(_)
        );
        let grows = match request {
            Request::Put(_) | Request::LeaseGrant(_) => true,
            Request::Txn(r) => {
                let mut leaves = Vec::new();
                leaf_changes(r, &mut Vec::new(), &mut leaves);
                leaves.iter().any(|leaf| leaf.put)
            }
            _ => false,
        };
        if key_command
            && self
                .alarms
                .iter()
                .any(|(kind, _)| *kind == AlarmType::Corrupt as i32)
        {
            return Err(Refusal::Corrupt);
        }
        if grows
            && self
                .alarms
                .iter()
                .any(|(kind, _)| *kind == AlarmType::Nospace as i32)
        {
            return Err(Refusal::NoSpace);
        }
        if grows && command.quota_bytes > 0 && self.logical_bytes() + size > command.quota_bytes {
            self.alarms
                .insert((AlarmType::Nospace as i32, command.member));
            return Err(Refusal::NoSpace);
        }
        match request {
            Request::Put(r) => {
                check_put(r)?;
                self.put(r).map(Reply::Put)
            }
            Request::DeleteRange(r) => {
                if r.key.is_empty() {
                    return Err(Refusal::EmptyKey);
                }
                Ok(Reply::DeleteRange(self.delete(r)))
            }
            Request::Txn(r) => {
                check_txn(r)?;
                let before = self.clone();
                self.txn(r, &before).map(Reply::Txn)
            }
            Request::Compact(r) if r.revision <= self.compacted => Err(Refusal::Compacted),
            Request::Compact(r) if r.revision > self.revision => Err(Refusal::FutureRevision),
            Request::Compact(r) => {
                self.compacted = r.revision;
                Ok(Reply::Compact(CompactionResponse { header: None }))
            }
            Request::LeaseGrant(r) if r.ttl > 9_000_000_000 => Err(Refusal::LeaseTtlTooLarge),
            Request::LeaseGrant(r) if r.id == 0 => Err(Refusal::LeaseNotFound),
            Request::LeaseGrant(r) if self.leases.contains_key(&r.id) => Err(Refusal::LeaseExists),
            Request::LeaseGrant(r) => {
                self.leases.insert(r.id, r.ttl);
                self.lease_changes.push(LeaseChange::Granted {
                    id: LeaseId(r.id),
                    ttl_s: r.ttl,
                });
                Ok(Reply::LeaseGrant(LeaseGrantResponse {
                    id: r.id,
                    ttl: r.ttl,
                    ..LeaseGrantResponse::default()
                }))
            }
            Request::LeaseRevoke(r) if !self.leases.contains_key(&r.id) => {
                Err(Refusal::LeaseNotFound)
            }
            Request::LeaseRevoke(r) => {
                self.end_lease(r.id);
                Ok(Reply::LeaseRevoke(LeaseRevokeResponse { header: None }))
            }
            Request::LeaseExpire(r) => {
                for id in &r.ids {
                    if self.leases.contains_key(id) {
                        self.end_lease(*id);
                        self.end_revision();
                    }
                }
                Ok(Reply::Done(commandpb::Done {}))
            }
            Request::Alarm(r) => self.alarm(r),
            Request::MemberAttributes(r) => {
                if !self.removed.contains(&r.id) {
                    self.attributes.insert(r.id, r.clone());
                }
                Ok(Reply::Done(commandpb::Done {}))
            }
            Request::ClusterInit(r) => {
                if self.cluster_id == 0 {
                    self.cluster_id = r.cluster_id;
                }
                Ok(Reply::Done(commandpb::Done {}))
            }
        }
    }

    /// Puts a membership in force.
    pub fn membership(&mut self, ids: &BTreeSet<u64>) {
        let gone: Vec<u64> = self.members.difference(ids).copied().collect();
        for id in gone {
            self.attributes.remove(&id);
            self.removed.insert(id);
        }
        self.members = ids.clone();
    }

    fn end_lease(&mut self, id: i64) {
        for key in self.lease_keys(id) {
            self.change(EventType::Delete, tombstone(&key, self.revision + 1));
        }
        self.leases.remove(&id);
        self.lease_changes
            .push(LeaseChange::Revoked { id: LeaseId(id) });
    }

    fn alarm(&mut self, r: &AlarmRequest) -> Result<Reply, Refusal> {
        let alarm = (r.alarm, r.member_id);
        if !(0..=2).contains(&r.alarm) {
            return Err(Refusal::UnknownCommand);
        }
        let listed: Vec<(i32, u64)> = match AlarmAction::try_from(r.action) {
            Ok(AlarmAction::Get) => {
                let all = self.alarms.iter().copied();
                all.filter(|(kind, _)| r.alarm == 0 || *kind == r.alarm)
                    .collect()
            }
            Ok(AlarmAction::Activate) if r.alarm == 0 => Vec::new(),
            Ok(AlarmAction::Activate) => {
                self.alarms.insert(alarm);
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) if self.alarms.remove(&alarm) => vec![alarm],
            Ok(AlarmAction::Deactivate) => Vec::new(),
            Err(_) => return Err(Refusal::UnknownCommand),
        };
        let alarms = listed
            .into_iter()
            .map(|(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect();
        Ok(Reply::Alarm(AlarmResponse {
            header: None,
            alarms,
        }))
    }

    fn put(&mut self, r: &PutRequest) -> Result<PutResponse, Refusal> {
        let old = self.now().remove(&r.key);
        if r.lease != 0 && !self.leases.contains_key(&r.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        if (r.ignore_value || r.ignore_lease) && old.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let mut kv = KeyValue {
            key: r.key.clone(),
            create_revision: self.revision + 1,
            mod_revision: self.revision + 1,
            version: 1,
            value: r.value.clone(),
            lease: r.lease,
        };
        if let Some(old) = &old {
            kv.create_revision = old.create_revision;
            kv.version = old.version + 1;
            if r.ignore_value {
                kv.value = old.value.clone();
            }
            if r.ignore_lease {
                kv.lease = old.lease;
            }
        }
        self.change(EventType::Put, kv);
        Ok(PutResponse {
            header: None,
            prev_kv: old.filter(|_| r.prev_kv),
        })
    }

    fn delete(&mut self, r: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> = self
            .now()
            .into_values()
            .filter(|kv| within(&kv.key, &r.key, &r.range_end))
            .collect();
        for kv in &gone {
            self.change(EventType::Delete, tombstone(&kv.key, self.revision + 1));
        }
        let deleted = gone.len() as i64;
        DeleteRangeResponse {
            header: None,
            deleted,
            prev_kvs: if r.prev_kv { gone } else { Vec::new() },
        }
    }

    /// A range, of the published state or inside a txn.
    pub fn range(&self, r: &RangeRequest) -> Result<RangeResponse, Refusal> {
        let revision = match r.revision {
            ..=0 => i64::MAX,
            asked if asked > self.revision => return Err(Refusal::FutureRevision),
            asked if asked < self.compacted => return Err(Refusal::Compacted),
            asked => asked,
        };
        let mut kvs: Vec<KeyValue> = self.at(revision).into_values().collect();
        kvs.retain(|kv| within(&kv.key, &r.key, &r.range_end));
        let count = kvs.len() as i64;
        let limit = if r.limit > 0 {
            r.limit as usize
        } else {
            usize::MAX
        };
        if r.count_only {
            return Ok(RangeResponse {
                count,
                ..RangeResponse::default()
            });
        }

        let filters = r.min_mod_revision != 0
            || r.max_mod_revision != 0
            || r.min_create_revision != 0
            || r.max_create_revision != 0;
        if r.sort_order() == SortOrder::None && !filters {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| {
            kv.mod_revision >= r.min_mod_revision
                && kv.create_revision >= r.min_create_revision
                && (r.max_mod_revision == 0 || kv.mod_revision <= r.max_mod_revision)
                && (r.max_create_revision == 0 || kv.create_revision <= r.max_create_revision)
        });
        match r.sort_target() {
            SortTarget::Key => kvs.sort_by_key(|kv| kv.key.clone()),
            SortTarget::Version => sort(&mut kvs, r, |kv| kv.version),
            SortTarget::Create => sort(&mut kvs, r, |kv| kv.create_revision),
            SortTarget::Mod => sort(&mut kvs, r, |kv| kv.mod_revision),
            SortTarget::Value => sort(&mut kvs, r, |kv| kv.value.clone()),
        }
        if r.sort_target() == SortTarget::Key && r.sort_order() == SortOrder::Descend {
            kvs.reverse();
        }
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if r.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                if r.sort_target() != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Ok(RangeResponse {
            header: None,
            kvs,
            more,
            count,
        })
    }

    /// A txn: compares look at the state `before` it. What is refused is undone by the caller.
    fn txn(&mut self, r: &TxnRequest, before: &Naive) -> Result<TxnResponse, Refusal> {
        let succeeded = r
            .compare
            .iter()
            .all(|compare| holds(&before.at(i64::MAX), compare));
        let mut responses = Vec::new();
        for op in if succeeded { &r.success } else { &r.failure } {
            let response = match op.request.as_ref().expect("checked") {
                request_op::Request::RequestRange(range) => {
                    if range.revision < 0 && range.revision < self.compacted {
                        return Err(Refusal::Compacted);
                    }
                    let mut found = self.range(range)?;
                    found.header = self.header();
                    response_op::Response::ResponseRange(found)
                }
                request_op::Request::RequestPut(put) => {
                    let mut put = self.put(put)?;
                    put.header = self.header();
                    response_op::Response::ResponsePut(put)
                }
                request_op::Request::RequestDeleteRange(delete) => {
                    let mut deleted = self.delete(delete);
                    deleted.header = self.header();
                    response_op::Response::ResponseDeleteRange(deleted)
                }
                request_op::Request::RequestTxn(nested) => {
                    let mut nested = self.txn(nested, before)?;
                    nested.header = Some(ResponseHeader::default());
                    response_op::Response::ResponseTxn(nested)
                }
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        Ok(TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.seen(),
            ..ResponseHeader::default()
        })
    }
}

fn tombstone(key: &Bytes, mod_revision: i64) -> KeyValue {
    KeyValue {
        key: key.clone(),
        mod_revision,
        ..KeyValue::default()
    }
}

fn within(key: &[u8], from: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        b"" => key == from,
        b"\0" => key >= from,
        end => key >= from && key < end,
    }
}

fn sort<T: Ord>(kvs: &mut [KeyValue], r: &RangeRequest, by: impl Fn(&KeyValue) -> T) {
    kvs.sort_by(|a, b| match r.sort_order() {
        SortOrder::Descend => by(b).cmp(&by(a)),
        _ => by(a).cmp(&by(b)),
    });
}

fn holds(keys: &BTreeMap<Bytes, KeyValue>, compare: &Compare) -> bool {
    let mut found: Vec<KeyValue> = keys
        .values()
        .filter(|kv| within(&kv.key, &compare.key, &compare.range_end))
        .cloned()
        .collect();
    if found.is_empty() {
        if compare.target() == CompareTarget::Value {
            return false;
        }
        found.push(KeyValue::default());
    }
    let number = || match compare.target_union {
        Some(TargetUnion::Version(n)) if compare.target() == CompareTarget::Version => n,
        Some(TargetUnion::CreateRevision(n)) if compare.target() == CompareTarget::Create => n,
        Some(TargetUnion::ModRevision(n)) if compare.target() == CompareTarget::Mod => n,
        Some(TargetUnion::Lease(n)) if compare.target() == CompareTarget::Lease => n,
        _ => 0,
    };
    found.iter().all(|kv| {
        let order = match compare.target() {
            CompareTarget::Version => kv.version.cmp(&number()),
            CompareTarget::Create => kv.create_revision.cmp(&number()),
            CompareTarget::Mod => kv.mod_revision.cmp(&number()),
            CompareTarget::Lease => kv.lease.cmp(&number()),
            CompareTarget::Value => match &compare.target_union {
                Some(TargetUnion::Value(value)) => kv.value.cmp(value),
                _ => kv.value.cmp(&Bytes::new()),
            },
        };
        match compare.result() {
            CompareResult::Equal => order == Ordering::Equal,
            CompareResult::NotEqual => order != Ordering::Equal,
            CompareResult::Greater => order == Ordering::Greater,
            CompareResult::Less => order == Ordering::Less,
        }
    })
}

fn check_put(r: &PutRequest) -> Result<(), Refusal> {
    match r {
        _ if r.key.is_empty() => Err(Refusal::EmptyKey),
        _ if r.ignore_value && !r.value.is_empty() => Err(Refusal::ValueProvided),
        _ if r.ignore_lease && r.lease != 0 => Err(Refusal::LeaseProvided),
        _ => Ok(()),
    }
}

/// What is wrong with a txn before the state is looked at, in etcd's order: first what each operation is, depth first,
/// then whether two of them change one key.
fn check_txn(r: &TxnRequest) -> Result<(), Refusal> {
    check_shape(r)?;
    let mut leaves = Vec::new();
    leaf_changes(r, &mut Vec::new(), &mut leaves);
    for (index, a) in leaves.iter().enumerate() {
        for b in &leaves[..index] {
            if clash(a, b) {
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    Ok(())
}

fn check_shape(r: &TxnRequest) -> Result<(), Refusal> {
    if r.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for op in r.success.iter().chain(&r.failure) {
        match op.request.as_ref().ok_or(Refusal::KeyNotFound)? {
            request_op::Request::RequestRange(r) if r.key.is_empty() => {
                return Err(Refusal::EmptyKey);
            }
            request_op::Request::RequestRange(_) => {}
            request_op::Request::RequestPut(r) => check_put(r)?,
            request_op::Request::RequestDeleteRange(r) if r.key.is_empty() => {
                return Err(Refusal::EmptyKey);
            }
            request_op::Request::RequestDeleteRange(_) => {}
            request_op::Request::RequestTxn(r) => check_shape(r)?,
        }
    }
    Ok(())
}

/// A put or delete somewhere in a txn, with the way to it: at each txn on it, the place in its parent, and which branch.
struct Leaf<'a> {
    way: Vec<(usize, bool)>,
    put: bool,
    key: &'a [u8],
    range_end: &'a [u8],
}

fn leaf_changes<'a>(r: &'a TxnRequest, way: &mut Vec<(usize, bool)>, leaves: &mut Vec<Leaf<'a>>) {
    for (branch, ops) in [(true, &r.success), (false, &r.failure)] {
        for (place, op) in ops.iter().enumerate() {
            way.push((0, branch));
            match op.request.as_ref() {
                Some(request_op::Request::RequestPut(r)) => {
                    leaves.push(Leaf {
                        way: way.clone(),
                        put: true,
                        key: &r.key,
                        range_end: b"",
                    });
                }
                Some(request_op::Request::RequestDeleteRange(r)) => {
                    leaves.push(Leaf {
                        way: way.clone(),
                        put: false,
                        key: &r.key,
                        range_end: &r.range_end,
                    });
                }
                Some(request_op::Request::RequestTxn(nested)) => {
                    way.push((place + 1, branch));
                    leaf_changes(nested, way, leaves);
                    way.pop();
                }
                _ => {}
            }
            way.pop();
        }
    }
}

/// Whether both may run and one of them puts a key that the other puts or deletes.
fn clash(a: &Leaf<'_>, b: &Leaf<'_>) -> bool {
    let parted = a.way.iter().zip(&b.way).find(|(a, b)| a != b);
    let exclusive = parted.is_some_and(|(a, b)| a.0 == b.0 && a.1 != b.1);
    let same_key = match (a.put, b.put) {
        (true, true) => a.key == b.key,
        (true, false) => within(a.key, b.key, b.range_end),
        (false, true) => within(b.key, a.key, a.range_end),
        (false, false) => false,
    };
    !exclusive && same_key
}
