//! Changes of keys: the records that a put and a delete leave, and the requests made of nothing but them.

use bytes::Bytes;
use keelson_planted::{Bug, on};
use keelson_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
};
use std::ops::ControlFlow;

use super::Work;
use crate::arena::Arena;
use crate::engine::{EngineError, Family, View};
use crate::format::{Change, Version, hist_key, latest_bytes, lease_key, log_key};
use crate::read::{self, Span};
use crate::{LeaseId, ReadError, Refusal, Reply};

impl<V: View> Work<'_, V> {
    pub(super) fn put_command(&mut self, r: &PutRequest) -> Result<Reply, ReadError> {
        self.check_put(r)?;
        Ok(Reply::Put(self.put(r)?))
    }

    /// Refuses a put that the state does not allow.
    pub(super) fn check_put(&self, r: &PutRequest) -> Result<(), ReadError> {
        if r.lease != 0 && self.ttl(LeaseId(r.lease))?.is_none() {
            return Err(Refusal::LeaseNotFound.into());
        }
        if (r.ignore_value || r.ignore_lease) && self.current(&r.key)?.is_none() {
            return Err(Refusal::KeyNotFound.into());
        }
        Ok(())
    }

    /// Carries out a put that [`Work::check_put`] allowed, in this state or, within a txn, in the one before it:
    /// a txn changes no key twice, so that a key that was there still is.
    pub(super) fn put(&mut self, r: &PutRequest) -> Result<PutResponse, EngineError> {
        let prev = self.current(&r.key)?;
        let old = prev.as_deref().map(Version::parse).transpose()?;
        let (old_value, old_lease) =
            old.map_or((&b""[..], LeaseId(0)), |old| (old.value, old.lease));
        debug_assert!(
            old.is_some() || !(r.ignore_value || r.ignore_lease),
            "checked before"
        );

        let modified = self.next_revision();
        let version = Version {
            create: old.map_or(modified, |old| old.create),
            modified,
            version: old.map_or(0, |old| old.version).saturating_add(1),
            value: if r.ignore_value { old_value } else { &r.value },
            lease: if r.ignore_lease {
                old_lease
            } else {
                LeaseId(r.lease)
            },
        };
        let prev_kv = old
            .filter(|_| r.prev_kv)
            .map(|old| old.key_value(&r.key, &mut Arena::default()));
        if version.lease != old_lease {
            if !on(Bug::LeaseKeepsKey) {
                self.detach(old_lease, &r.key);
            }
            if version.lease != LeaseId(0) {
                self.pending.put(
                    Family::Lease,
                    lease_key(version.lease, &r.key),
                    Bytes::new(),
                );
            }
        }
        if prev.is_none() {
            self.base.counts.add(&r.key);
        }
        let replaced = if on(Bug::PrevMissesBatch) {
            self.before_batch(&r.key)?
        } else {
            prev.clone()
        };
        self.change(&r.key, Some(version.encode()), replaced);
        Ok(PutResponse {
            header: None,
            prev_kv,
        })
    }

    /// Deletes what the span has.
    pub(super) fn delete_range(
        &mut self,
        r: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, EngineError> {
        let mut found = Vec::new();
        match Span::new(&r.key, &r.range_end) {
            Span::One(key) => {
                found.extend(self.current(key)?.map(|record| (r.key.clone(), record)))
            }
            span => {
                let now = self.seen_revision();
                read::scan(&self.source(), span, now, now, |key, record| {
                    found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(record)));
                    Ok(ControlFlow::Continue(()))
                })?;
                if on(Bug::DeleteMissesBatch) {
                    found.retain(|(key, _)| matches!(self.before_batch(key), Ok(Some(_))));
                }
            }
        }
        let mut reply = DeleteRangeResponse {
            header: None,
            deleted: found.len() as i64,
            prev_kvs: Vec::new(),
        };
        let mut arena = Arena::default();
        for (key, record) in found {
            if r.prev_kv {
                reply
                    .prev_kvs
                    .push(Version::parse(&record)?.key_value(&key, &mut arena));
            }
            self.delete(&key, record)?;
        }
        Ok(reply)
    }

    /// Deletes a key with its current record.
    pub(super) fn delete(&mut self, key: &Bytes, record: Bytes) -> Result<(), EngineError> {
        self.detach(Version::parse(&record)?.lease, key);
        if !on(Bug::CountKeepsDeleted) {
            self.base.counts.remove(key);
        }
        self.change(key, None, Some(record));
        Ok(())
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        if lease != LeaseId(0) {
            self.pending.delete(Family::Lease, lease_key(lease, key));
        }
    }

    /// Writes one change of one key to all families that follow it.
    fn change(&mut self, key: &Bytes, record: Option<Bytes>, prev: Option<Bytes>) {
        let (main, sub) = (self.next_revision(), self.sub);
        let state = &mut self.base.state;
        let change = Change {
            key,
            main,
            sub,
            record: record.as_deref(),
            prev: prev.as_deref(),
            position: state.log_end,
        };
        let (logged, event, log_bytes) = change.encode();
        let live = |record: &Option<Bytes>| {
            record
                .as_deref()
                .map_or(0, |record| latest_bytes(key, record))
        };
        state.logical_bytes += live(&record) - live(&prev) + log_bytes as i64;
        state.log_end += log_bytes;

        if prev.is_some() {
            self.pending
                .put(Family::Hist, hist_key(key, main, sub), Bytes::new());
        }
        match record {
            Some(record) => self.pending.put(Family::Latest, key.clone(), record),
            None => self.pending.delete(Family::Latest, key.clone()),
        }
        self.pending.put(Family::Log, log_key(main, sub), logged);
        self.events.push(event);
        self.sub += 1;
    }
}
