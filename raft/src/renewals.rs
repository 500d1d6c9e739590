//! What clients ask about leases: renewals, and the time that is left. Only the leader keeps the clock ([`crate::leases`]),
//! and it answers once it has proved that it still leads.

use std::sync::Arc;

use keelson_planted::{Bug, on};
use keelson_proto::peerpb;
use keelson_store::LeaseId;

use crate::leases::Renewal;
use crate::shared::{Parts, Shared};
use crate::transport::{Reply, Request};
use crate::trouble::Trouble;

/// What is asked of the leader about a lease. Both may safely be asked again.
#[derive(Clone, Copy)]
enum Ask {
    Renew(LeaseId),
    Remaining(LeaseId),
}

impl<P: Parts> Shared<P> {
    /// Renews a lease, wherever the leader is. Seconds; 0 if there is no such lease.
    pub(crate) async fn lease_renew(self: &Arc<Self>, id: LeaseId) -> Result<i64, Trouble> {
        match self.lease_renew_at_once(id) {
            Some(ttl) => Ok(ttl),
            None => self.ask_about(Ask::Renew(id)).await,
        }
    }

    /// Renews a lease if nobody need be asked for it: as the leader, when nobody else can lead. Seconds.
    pub(crate) fn lease_renew_at_once(&self, id: LeaseId) -> Option<i64> {
        match self.leases.renew((self.now)(), id) {
            // The proof comes after: it holds for the moment of the renewal, too.
            Renewal::Renewed(ttl) => self.leads_alone().then_some(ttl),
            Renewal::Unknown | Renewal::Expiring | Renewal::NotLeading => None,
        }
    }

    /// Seconds that a lease has left, from whoever leads; -1 if there is no such lease.
    pub(crate) async fn lease_remaining(self: &Arc<Self>, id: LeaseId) -> Result<i64, Trouble> {
        self.ask_about(Ask::Remaining(id)).await
    }

    async fn ask_about(self: &Arc<Self>, ask: Ask) -> Result<i64, Trouble> {
        let start = (self.now)();
        loop {
            let answered = match (self.named_leader(), ask) {
                (Some(id), Ask::Renew(lease)) if id == self.id.0 => self.renew_here(lease).await,
                (Some(id), Ask::Remaining(lease)) if id == self.id.0 => {
                    self.remaining_here(lease).await
                }
                (Some(id), ask) => self.ask_member(id, ask).await,
                (None, _) => Err(Trouble::NotLeader),
            };
            match answered {
                Err(Trouble::NotLeader) => {}
                answered => return answered,
            }
            if self.stopping() {
                return Err(Trouble::Stopped);
            }
            if (self.now)().saturating_sub(start) > self.timing.request_timeout() {
                return Err(if self.named_leader().is_none() {
                    Trouble::NoLeader
                } else {
                    Trouble::Timeout
                });
            }
            self.leadership_may_have_changed().await;
        }
    }

    async fn ask_member(&self, to: u64, ask: Ask) -> Result<i64, Trouble> {
        use peerpb::{lease_remaining_reply, lease_renew_reply};
        let request = match ask {
            Ask::Renew(id) => Request::LeaseRenew(peerpb::LeaseRenew { id: id.0 }),
            Ask::Remaining(id) => Request::LeaseRemaining(peerpb::LeaseRemaining { id: id.0 }),
        };
        match self.ask_leader(to, request).await {
            Some(Reply::LeaseRenew(peerpb::LeaseRenewReply {
                result: Some(result),
            })) => match result {
                lease_renew_reply::Result::Ttl(ttl) => Ok(ttl),
                lease_renew_reply::Result::Trouble(trouble) => Err(Trouble::from_pb(&trouble)),
            },
            Some(Reply::LeaseRemaining(peerpb::LeaseRemainingReply {
                result: Some(result),
            })) => match result {
                lease_remaining_reply::Result::Ttl(ttl) => Ok(ttl),
                lease_remaining_reply::Result::Trouble(trouble) => Err(Trouble::from_pb(&trouble)),
            },
            _ => Err(Trouble::NotLeader),
        }
    }

    /// Renews a lease as the leader, which this member proves in between: a deposed leader's clock is worth nothing,
    /// and what it does not know of may not be applied yet.
    pub(crate) async fn renew_here(self: &Arc<Self>, id: LeaseId) -> Result<i64, Trouble> {
        let start = (self.now)();
        loop {
            match self.leases.renew((self.now)(), id) {
                Renewal::NotLeading => return Err(Trouble::NotLeader),
                // Nobody revokes it here any more.
                Renewal::Expiring if self.stopping() => return Err(Trouble::NotLeader),
                // It is being revoked: the answer is what comes of that.
                Renewal::Expiring => self.metrics_may_have_changed().await,
                Renewal::Renewed(_) | Renewal::Unknown => {
                    if !on(Bug::RenewalWithoutProof) {
                        self.barrier_as_leader().await?;
                    }
                    // Asked again, since meanwhile it may have run out, or this member have stepped down.
                    match self.leases.renew((self.now)(), id) {
                        Renewal::Renewed(ttl) => return Ok(ttl),
                        Renewal::Unknown => return Ok(0),
                        Renewal::NotLeading => return Err(Trouble::NotLeader),
                        Renewal::Expiring => {}
                    }
                }
            }
            if (self.now)().saturating_sub(start) > self.timing.request_timeout() {
                return Err(Trouble::Timeout);
            }
        }
    }

    /// Seconds that a lease has left, as the leader; -1 if there is no such lease.
    pub(crate) async fn remaining_here(self: &Arc<Self>, id: LeaseId) -> Result<i64, Trouble> {
        self.barrier_as_leader().await?;
        let remaining = self.leases.remaining((self.now)(), id);
        remaining.ok_or(Trouble::NotLeader)
    }

    /// Joins the next read barrier, which must be proved by this member's own leadership.
    async fn barrier_as_leader(&self) -> Result<(), Trouble> {
        if self.proof().await? == self.id {
            Ok(())
        } else {
            Err(Trouble::NotLeader)
        }
    }
}
