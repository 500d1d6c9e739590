//! The requests that the `etcd-client` crate cannot express, on the same connection and with its
//! own messages.
//!
//! - `MemberList`: it always asks for a serializable answer; etcdctl asks for a linearizable one.
//! - `LeaseKeepAlive`: it swallows the first answer, which is the one that `--once` prints.
//! - `Health/Check`: it has none; its answer proves that a server is alive behind a connection.
//! - `LeaseTimeToLive`, `LeaseLeases`: it refuses answers above 4 MiB, which a lease with many keys
//!   and a store with many leases exceed.

use etcd_client::proto::{
    PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest, PbLeaseLeasesResponse,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbMemberListRequest, PbMemberListResponse,
};
use std::error::Error as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The members, as the leader knows them if `linearizable`.
pub async fn member_list(
    channel: Channel,
    linearizable: bool,
) -> Result<PbMemberListResponse, Status> {
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Cluster/MemberList");
    let request = Request::new(PbMemberListRequest { linearizable });
    Ok(grpc
        .unary(request, path, ProstCodec::default())
        .await?
        .into_inner())
}

/// Returns when the server has answered something, be it that it does not know the question.
pub async fn await_sign_of_life(channel: Channel) -> Result<(), Status> {
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    // The empty message is a valid request, and what the answer says does not matter.
    match grpc
        .unary(Request::new(()), path, ProstCodec::<(), ()>::default())
        .await
    {
        Err(status) if status.source().is_some() => Err(status),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// How long a lease has left, and its keys if asked for.
pub async fn lease_time_to_live(
    channel: Channel,
    id: i64,
    keys: bool,
) -> Result<PbLeaseTimeToLiveResponse, Status> {
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseTimeToLive");
    let request = Request::new(PbLeaseTimeToLiveRequest { id, keys });
    Ok(grpc
        .unary(request, path, ProstCodec::default())
        .await?
        .into_inner())
}

/// All leases.
pub async fn leases(channel: Channel) -> Result<PbLeaseLeasesResponse, Status> {
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseLeases");
    let request = Request::new(PbLeaseLeasesRequest {});
    Ok(grpc
        .unary(request, path, ProstCodec::default())
        .await?
        .into_inner())
}

/// A stream on which leases are renewed.
pub struct KeepAlive {
    requests: mpsc::Sender<PbLeaseKeepAliveRequest>,
    responses: Streaming<PbLeaseKeepAliveResponse>,
}

impl KeepAlive {
    /// Opens the stream and renews a lease once. (A server may say nothing before it has been asked
    /// something, hence both at once.) The TTL in the answer is 0 if there is no such lease.
    pub async fn start(
        channel: Channel,
        id: i64,
    ) -> Result<(Self, PbLeaseKeepAliveResponse), Status> {
        let mut grpc = ready(channel).await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        // One renewal is under way at a time.
        let (requests, outgoing) = mpsc::channel(1);
        let first = PbLeaseKeepAliveRequest { id };
        requests
            .try_send(first)
            .expect("a new channel has room for one");
        let request = Request::new(ReceiverStream::new(outgoing));
        let codec = ProstCodec::<PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse>::default();
        let responses = grpc.streaming(request, path, codec).await?.into_inner();
        let mut stream = Self {
            requests,
            responses,
        };
        let response = stream.next().await?;
        Ok((stream, response))
    }

    /// Renews a lease and waits for the answer.
    pub async fn renew(&mut self, id: i64) -> Result<PbLeaseKeepAliveResponse, Status> {
        // If the stream is gone, its error is in the responses.
        let _ = self.requests.send(PbLeaseKeepAliveRequest { id }).await;
        self.next().await
    }

    async fn next(&mut self) -> Result<PbLeaseKeepAliveResponse, Status> {
        let ended = || Status::unavailable("the server ended the keep-alive stream");
        self.responses.message().await?.ok_or_else(ended)
    }
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(grpc)
}
