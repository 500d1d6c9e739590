//! Sends a command, and keeps of the answer what two servers can agree on.
//!
//! Masked are ids of cluster and member, the raft term (only whether they are there is kept), ids that a server
//! chose, and what is left of a TTL. Lists that have no order (leases, a lease's keys) are sorted.

use keelson_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use super::command::Command;
use crate::client::Client;
use crate::wait;

/// An answer, comparable to another server's.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// KV.Range
    Range(pb::RangeResponse),
    /// KV.Put
    Put(pb::PutResponse),
    /// KV.DeleteRange
    DeleteRange(pb::DeleteRangeResponse),
    /// KV.Txn
    Txn(pb::TxnResponse),
    /// KV.Compact
    Compact(pb::CompactionResponse),
    /// Lease.LeaseGrant
    Grant(pb::LeaseGrantResponse),
    /// Lease.LeaseGrant, and what the LeaseRevoke said.
    GrantAndRevoke(pb::LeaseGrantResponse, Box<Reply>),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeResponse),
    /// Lease.LeaseKeepAlive; none if the stream ended without an answer.
    KeepAlive(Option<pb::LeaseKeepAliveResponse>),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveResponse),
    /// Lease.LeaseLeases
    Leases(pb::LeaseLeasesResponse),
    /// The status that came instead: its code and message.
    Error(Code, String),
}

/// A TTL that has begun to run down: from 60 s below what was granted, up to it.
const RUNNING: i64 = 1;
const SLACK_SECONDS: i64 = 60;

impl Reply {
    /// The revision in the header, if there is one.
    pub fn revision(&self) -> Option<i64> {
        self.header().map(|header| header.revision)
    }

    fn header(&self) -> Option<&pb::ResponseHeader> {
        match self {
            Reply::Range(reply) => reply.header.as_ref(),
            Reply::Put(reply) => reply.header.as_ref(),
            Reply::DeleteRange(reply) => reply.header.as_ref(),
            Reply::Txn(reply) => reply.header.as_ref(),
            Reply::Compact(reply) => reply.header.as_ref(),
            Reply::Grant(reply) => reply.header.as_ref(),
            Reply::GrantAndRevoke(_, revoked) => revoked.header(),
            Reply::Revoke(reply) => reply.header.as_ref(),
            Reply::KeepAlive(reply) => reply.as_ref().and_then(|reply| reply.header.as_ref()),
            Reply::TimeToLive(reply) => reply.header.as_ref(),
            Reply::Leases(reply) => reply.header.as_ref(),
            Reply::Error(..) => None,
        }
    }
}

/// Sends `command` and masks the answer. Panics if there is none: two dead servers must not pass for equal ones.
pub async fn ask(client: &Client, command: &Command) -> Reply {
    let reply = wait::soon("a reply", try_ask(client, command.clone())).await;
    reply.unwrap_or_else(|status| {
        let is_answer = !matches!(
            status.code(),
            Code::Unavailable | Code::Internal | Code::Cancelled
        );
        assert!(is_answer, "{command:?} got no answer: {status}");
        Reply::Error(status.code(), status.message().to_owned())
    })
}

async fn try_ask(client: &Client, command: Command) -> Result<Reply, Status> {
    Ok(match command {
        Command::Range(request) => {
            let mut reply = client.kv().range(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::Range(reply)
        }
        Command::Put(request) => {
            let mut reply = client.kv().put(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::Put(reply)
        }
        Command::DeleteRange(request) => {
            let mut reply = client.kv().delete_range(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::DeleteRange(reply)
        }
        Command::Txn(request) => {
            let mut reply = client.kv().txn(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::Txn(reply)
        }
        Command::Compact(request) => {
            let mut reply = client.kv().compact(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::Compact(reply)
        }
        Command::Grant(request) => {
            let mut reply = client.lease().lease_grant(request).await?.into_inner();
            mask(&mut reply.header);
            Reply::Grant(reply)
        }
        Command::GrantAndRevoke(request) => grant_and_revoke(client, request).await?,
        Command::Revoke(request) => Reply::Revoke(revoke(client, request).await?),
        Command::KeepAlive(request) => {
            let requests = tokio_stream::iter([request]);
            let mut replies = client
                .lease()
                .lease_keep_alive(requests)
                .await?
                .into_inner();
            let mut reply = replies.message().await?;
            reply.iter_mut().for_each(|reply| mask(&mut reply.header));
            Reply::KeepAlive(reply)
        }
        Command::TimeToLive(request) => {
            let mut reply = client
                .lease()
                .lease_time_to_live(request)
                .await?
                .into_inner();
            mask(&mut reply.header);
            reply.keys.sort();
            if reply.ttl > 0
                && (reply.granted_ttl - SLACK_SECONDS..=reply.granted_ttl).contains(&reply.ttl)
            {
                reply.ttl = RUNNING;
            }
            Reply::TimeToLive(reply)
        }
        Command::Leases => {
            let mut reply = client
                .lease()
                .lease_leases(pb::LeaseLeasesRequest {})
                .await?
                .into_inner();
            mask(&mut reply.header);
            reply.leases.sort_by_key(|lease| lease.id);
            Reply::Leases(reply)
        }
    })
}

async fn grant_and_revoke(
    client: &Client,
    request: pb::LeaseGrantRequest,
) -> Result<Reply, Status> {
    let chosen_by_server = request.id == 0;
    let mut granted = client.lease().lease_grant(request).await?.into_inner();
    mask(&mut granted.header);
    let revoked = revoke(client, pb::LeaseRevokeRequest { id: granted.id }).await;
    let revoked = match revoked {
        Ok(reply) => Reply::Revoke(reply),
        Err(status) => Reply::Error(status.code(), status.message().to_owned()),
    };
    if chosen_by_server {
        granted.id = granted.id.signum();
    }
    Ok(Reply::GrantAndRevoke(granted, Box::new(revoked)))
}

async fn revoke(
    client: &Client,
    request: pb::LeaseRevokeRequest,
) -> Result<pb::LeaseRevokeResponse, Status> {
    let mut reply = client.lease().lease_revoke(request).await?.into_inner();
    mask(&mut reply.header);
    Ok(reply)
}

/// Leaves of the ids and the term only whether they are there.
pub fn mask(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = header.cluster_id.min(1);
        header.member_id = header.member_id.min(1);
        header.raft_term = header.raft_term.min(1);
    }
}
