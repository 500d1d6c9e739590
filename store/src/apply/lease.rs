//! Grants and ends of leases. Time is not known here: that one has run out is told by a command.

use keelson_planted::{Bug, on};
use keelson_proto::commandpb::LeaseExpire;
use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
};

use super::{Work, done, planted};
use crate::engine::{EngineError, Family, View};
use crate::format::{encode_ttl, grant_key, parse_ttl};
use crate::source::Source;
use crate::{LeaseChange, LeaseId, ReadError, Refusal, Reply, read};

impl<V: View> Work<'_, V> {
    /// A lease's time to live, if it was granted and still lives.
    pub(super) fn ttl(&self, id: LeaseId) -> Result<Option<i64>, EngineError> {
        let grant = self.source().get(Family::Meta, &grant_key(id))?;
        grant.map(|ttl| parse_ttl(&ttl)).transpose()
    }

    /// Grants a lease with the id and the time to live that were settled before proposing.
    pub(super) fn lease_grant(&mut self, r: &LeaseGrantRequest) -> Result<Reply, ReadError> {
        let id = LeaseId(r.id);
        if id == LeaseId(0) {
            return Err(Refusal::LeaseNotFound.into()); // etcd's answer to a grant without an id.
        }
        if self.ttl(id)?.is_some() {
            return Err(Refusal::LeaseExists.into());
        }
        self.pending
            .put(Family::Meta, grant_key(id), encode_ttl(r.ttl));
        self.leases.push(LeaseChange::Granted { id, ttl_s: r.ttl });
        Ok(Reply::LeaseGrant(LeaseGrantResponse {
            header: None,
            id: r.id,
            ttl: r.ttl,
            error: String::new(),
        }))
    }

    pub(super) fn lease_revoke(&mut self, r: &LeaseRevokeRequest) -> Result<Reply, ReadError> {
        if !self.end_lease(LeaseId(r.id))? {
            return Err(Refusal::LeaseNotFound.into());
        }
        Ok(Reply::LeaseRevoke(LeaseRevokeResponse { header: None }))
    }

    /// Ends each lease that still lives, in a revision of its own.
    pub(super) fn lease_expire(&mut self, r: &LeaseExpire) -> Result<Reply, ReadError> {
        for &id in &r.ids {
            if self.end_lease(LeaseId(id))? {
                self.end_revision();
            }
        }
        Ok(done())
    }

    /// Deletes the lease's keys, in their order, and the lease. Whether there was one.
    fn end_lease(&mut self, id: LeaseId) -> Result<bool, EngineError> {
        let mut keys = read::lease_keys(&self.source(), id)?;
        // What keys hang on is there.
        if keys.is_empty() && self.ttl(id)?.is_none() {
            return Ok(false);
        }
        if on(Bug::LeaseKeysInMapOrder) {
            keys = planted::in_map_order(keys);
        }
        for key in keys {
            let record = self.current(&key)?.ok_or_else(|| {
                let what = format!("key \"{}\" hangs on lease {id}", key.escape_ascii());
                EngineError::new(what, "but it does not exist")
            })?;
            self.delete(&key, record)?;
        }
        self.pending.delete(Family::Meta, grant_key(id));
        self.leases.push(LeaseChange::Revoked { id });
        Ok(true)
    }
}
