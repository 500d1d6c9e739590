//! The Lease service: keys that live as long as somebody keeps them alive.
//!
//! Leases are granted and revoked through the log; time is the leader's alone, so renewals and remaining times are
//! asked of it, wherever the client is connected.

use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use keelson_proto::commandpb::command;
use keelson_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use keelson_raft::{Parts, Trouble};
use keelson_store::{LeaseId, Reply, check};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::context::{Context, Learner, requires_leader};
use crate::error::Failure;
use crate::kv::{blocking, other_reply};
use crate::server::exchange::Answers;

/// A stream that requires a leader outlives the leader by so many election timeouts.
const LEADERLESS_TIMEOUTS: u32 = 3;

/// What TimeToLive says of a lease that is not there.
const NO_LEASE_TTL: i64 = -1;

/// The Lease service.
pub struct Lease<P: Parts>(pub(crate) Arc<Context<P>>);

impl<P: Parts> Lease<P> {
    pub(crate) async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let mut request = request.into_inner();
        check::lease_grant(&request, &self.0.options.limits()).map_err(Failure::from)?;
        request.ttl = request.ttl.max(self.0.options.min_lease_ttl_s());
        if request.id == 0 {
            request.id = random_id();
        }
        let (revision, reply) = self
            .0
            .propose(command::Request::LeaseGrant(request))
            .await?;
        let Reply::LeaseGrant(mut response) = reply else {
            return Err(other_reply());
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    pub(crate) async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let request = request.into_inner();
        let (revision, reply) = self
            .0
            .propose(command::Request::LeaseRevoke(request))
            .await?;
        let Reply::LeaseRevoke(mut response) = reply else {
            return Err(other_reply());
        };
        response.header = self.0.header(revision);
        Ok(Response::new(response))
    }

    /// Opens a stream of renewals.
    pub(crate) fn lease_keep_alive(&self, metadata: &MetadataMap) -> Result<KeepAlive<P>, Status> {
        self.0.admit(metadata, Learner::No)?;
        let lost = requires_leader(metadata).then(|| leader_lost_for_long(self.0.clone()).boxed());
        Ok(KeepAlive {
            context: self.0.clone(),
            lost,
        })
    }

    pub(crate) async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let LeaseTimeToLiveRequest {
            id,
            keys: want_keys,
        } = request.into_inner();
        let lease = LeaseId(id);
        let view = self.0.linearizable().await?;
        let mut response = LeaseTimeToLiveResponse {
            header: self.0.header(view.revision),
            id,
            ttl: NO_LEASE_TTL,
            granted_ttl: 0,
            keys: Vec::new(),
        };
        let Some(granted_ttl) = view.lease(lease).map_err(Failure::from)? else {
            return Ok(Response::new(response));
        };
        let remaining = self
            .0
            .member
            .lease_remaining(lease)
            .await
            .map_err(Failure::from)?;
        if remaining != NO_LEASE_TTL {
            response.ttl = remaining;
            response.granted_ttl = granted_ttl;
            if want_keys {
                response.keys = blocking(move || Ok(view.lease_keys(lease)?)).await?;
            }
        }
        Ok(Response::new(response))
    }

    pub(crate) async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        self.0.admit(request.metadata(), Learner::No)?;
        let view = self.0.member.reader().now();
        let header = self.0.header(view.revision);
        let leases = blocking(move || Ok(view.leases()?)).await?;
        let leases = leases
            .into_iter()
            .map(|(id, _)| LeaseStatus { id: id.0 })
            .collect();
        Ok(Response::new(LeaseLeasesResponse { header, leases }))
    }
}

/// A stream of renewals. Each is of the leader's clock, and those that must be asked of another member, or proved, are under
/// way together: one after the other, the thousands of leases that a client keeps on one stream would wait for each other.
pub(crate) struct KeepAlive<P: Parts> {
    context: Arc<Context<P>>,
    /// Resolves when there has been no leader for long; for a stream that asked for one.
    lost: Option<BoxFuture<'static, Status>>,
}

impl<P: Parts> Answers for KeepAlive<P> {
    type Request = LeaseKeepAliveRequest;
    type Reply = LeaseKeepAliveResponse;

    // The header is made before: a client must never see a renewal at a revision at which the lease may already have been
    // revoked.
    fn at_once(&mut self, request: &LeaseKeepAliveRequest) -> Option<LeaseKeepAliveResponse> {
        let (header, id) = (self.context.header_now(), request.id);
        let ttl = self.context.member.lease_renew_at_once(LeaseId(id))?;
        Some(LeaseKeepAliveResponse { header, id, ttl })
    }

    fn later(
        &mut self,
        LeaseKeepAliveRequest { id }: LeaseKeepAliveRequest,
    ) -> BoxFuture<'static, Result<LeaseKeepAliveResponse, Status>> {
        let context = self.context.clone();
        Box::pin(async move {
            let header = context.header_now();
            let renewed = context.member.lease_renew(LeaseId(id)).await;
            let ttl = renewed.map_err(Failure::from)?;
            Ok(LeaseKeepAliveResponse { header, id, ttl })
        })
    }

    fn poll_over(&mut self, cx: &mut Poller<'_>) -> Poll<Status> {
        match &mut self.lost {
            Some(lost) => lost.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Resolves once no leader has been heard of for several election timeouts.
async fn leader_lost_for_long<P: Parts>(context: Arc<Context<P>>) -> Status {
    let mut missed = 0;
    while missed < LEADERLESS_TIMEOUTS {
        tokio::time::sleep(context.options.election_timeout).await;
        missed = if context.member.leader_lost() {
            missed + 1
        } else {
            0
        };
    }
    Failure::from(Trouble::NoLeader).into()
}

/// An id for a lease whose client left the choice to us: positive, and too large a space for two to meet.
fn random_id() -> i64 {
    loop {
        let id = rand::random::<i64>() & i64::MAX;
        if id != 0 {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn chosen_lease_ids_are_positive_and_differ() {
        let ids: std::collections::BTreeSet<i64> = (0..1000).map(|_| super::random_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| *id > 0));
    }
}
