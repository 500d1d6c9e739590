//! A client that hides nothing: one connection at a time to one member, no retries, every reply as it came.
//!
//! What came of a request is told with care: it is *refused* only where it certainly did not happen and will not, and
//! *unknown* in every other case without a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use keelson_jepsen::history::{
    Call, ConnectionId, Lease, MemberChange, MemberIndex, Outcome, WatchStream,
};
use keelson_proto::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{ConnectError, Status, Streaming};

/// A member on this machine accepts at once, or it is not there (a stopped process accepts as well).
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Servers give up after 7 seconds (5, and two election timeouts); a client that waits longer learns nothing.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Requests of a watch under way: its creation, and questions for progress.
const WATCH_REQUESTS: usize = 8;

/// One TCP connection to one member. It is never made again: what needs another one, makes another one, so that its
/// number tells which replies came over the same connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its number.
    pub id: ConnectionId,
    /// The member at its other end.
    pub member: MemberIndex,
    channel: Channel,
}

/// A connection cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("m{} cannot be reached: {source}", member.0)]
pub struct Unreachable {
    member: MemberIndex,
    source: tonic::transport::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("this connection is over")]
struct Over;

impl Connection {
    /// Connects to the member's client port.
    pub async fn open(
        id: ConnectionId,
        member: MemberIndex,
        port: u16,
    ) -> Result<Connection, Unreachable> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
            .expect("such a URL is valid")
            .connect_timeout(CONNECT_TIME);
        let used = Arc::new(AtomicBool::new(false));
        let connector = tower::service_fn(move |_: Uri| {
            let used = Arc::clone(&used);
            async move {
                // A channel connects again by itself, and nobody would know.
                if used.swap(true, Ordering::Relaxed) {
                    return Err(std::io::Error::other(Over));
                }
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                stream.set_nodelay(true)?;
                Ok(TokioIo::new(stream))
            }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        Ok(Connection {
            id,
            member,
            channel: channel.map_err(|source| Unreachable { member, source })?,
        })
    }

    /// Sends the request and waits for its outcome, with `patience`.
    pub async fn call(&self, call: &Call, patience: Duration) -> Outcome {
        match tokio::time::timeout(patience, self.send(call)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(status)) => outcome_of_error(&status),
            Err(_) => Outcome::Unknown {
                error: format!("no reply within {patience:?}"),
            },
        }
    }

    async fn send(&self, call: &Call) -> Result<Outcome, Status> {
        Ok(match call {
            Call::Range(range) => {
                let request = pb::RangeRequest::from(range);
                self.kv().range(request).await?.into_inner().into()
            }
            Call::Put(put) => {
                let request = pb::PutRequest::from(put);
                self.kv().put(request).await?.into_inner().into()
            }
            Call::Delete(delete) => {
                let request = pb::DeleteRangeRequest::from(delete);
                self.kv().delete_range(request).await?.into_inner().into()
            }
            Call::Txn(txn) => {
                let request = pb::TxnRequest::from(txn);
                let reply = self.kv().txn(request).await?.into_inner();
                Outcome::try_from(reply).map_err(|error| Status::data_loss(error.to_string()))?
            }
            Call::Compact(compact) => {
                let request = pb::CompactionRequest {
                    revision: compact.revision.0,
                    physical: compact.physical,
                };
                self.kv().compact(request).await?.into_inner().into()
            }
            Call::Lease(lease) => self.send_lease(lease).await?,
            Call::Member(change) => self.send_member(change).await?,
            Call::MemberList { linearizable } => {
                let request = pb::MemberListRequest {
                    linearizable: *linearizable,
                };
                self.cluster()
                    .member_list(request)
                    .await?
                    .into_inner()
                    .into()
            }
            Call::MoveLeader { target } => {
                let request = pb::MoveLeaderRequest { target_id: *target };
                self.maintenance()
                    .move_leader(request)
                    .await?
                    .into_inner()
                    .into()
            }
            Call::HashKv(hash) => {
                let request = pb::HashKvRequest {
                    revision: hash.revision.0,
                };
                self.maintenance()
                    .hash_kv(request)
                    .await?
                    .into_inner()
                    .into()
            }
        })
    }

    async fn send_lease(&self, lease: &Lease) -> Result<Outcome, Status> {
        let mut client = LeaseClient::new(self.channel.clone());
        Ok(match lease {
            Lease::Grant { id, ttl } => {
                let request = pb::LeaseGrantRequest {
                    ttl: *ttl,
                    id: id.0,
                };
                let reply = client.lease_grant(request).await?.into_inner();
                if !reply.error.is_empty() {
                    return Err(Status::unknown(reply.error));
                }
                reply.into()
            }
            Lease::Revoke { id } => {
                let request = pb::LeaseRevokeRequest { id: id.0 };
                client.lease_revoke(request).await?.into_inner().into()
            }
            Lease::KeepAlive { id } => {
                let request = pb::LeaseKeepAliveRequest { id: id.0 };
                let requests = tokio_stream::once(request);
                let mut replies = client.lease_keep_alive(requests).await?.into_inner();
                let reply = replies.message().await?;
                reply
                    .ok_or_else(|| Status::unavailable("the stream ended without a reply"))?
                    .into()
            }
            Lease::TimeToLive { id, keys } => {
                let request = pb::LeaseTimeToLiveRequest {
                    id: id.0,
                    keys: *keys,
                };
                client
                    .lease_time_to_live(request)
                    .await?
                    .into_inner()
                    .into()
            }
            Lease::List => client
                .lease_leases(pb::LeaseLeasesRequest {})
                .await?
                .into_inner()
                .into(),
        })
    }

    async fn send_member(&self, change: &MemberChange) -> Result<Outcome, Status> {
        let mut client = self.cluster();
        Ok(match change {
            MemberChange::Add { peer_urls, learner } => {
                let request = pb::MemberAddRequest {
                    peer_ur_ls: peer_urls.clone(),
                    is_learner: *learner,
                };
                client.member_add(request).await?.into_inner().into()
            }
            MemberChange::Remove { id } => {
                let request = pb::MemberRemoveRequest { id: *id };
                client.member_remove(request).await?.into_inner().into()
            }
            MemberChange::Promote { id } => {
                let request = pb::MemberPromoteRequest { id: *id };
                client.member_promote(request).await?.into_inner().into()
            }
            MemberChange::Update { id, peer_urls } => {
                let request = pb::MemberUpdateRequest {
                    id: *id,
                    peer_ur_ls: peer_urls.clone(),
                };
                client.member_update(request).await?.into_inner().into()
            }
        })
    }

    /// What the member says of itself.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        let mut client = self.maintenance();
        let status = within(client.status(pb::StatusRequest {})).await?;
        Ok(status.into_inner())
    }

    /// Streams a backup, to its end or for a few messages only.
    pub async fn back_up(&self, whole: bool) -> Result<(), Status> {
        let mut client = self.maintenance();
        let opened = within(client.snapshot(pb::SnapshotRequest {})).await?;
        let mut stream = opened.into_inner();
        let mut messages = 0;
        while within(stream.message()).await?.is_some() {
            messages += 1;
            if !whole && messages == 3 {
                break;
            }
        }
        Ok(())
    }

    /// Has the member tidy its files.
    pub async fn defragment(&self) -> Result<(), Status> {
        let mut client = self.maintenance();
        within(client.defragment(pb::DefragmentRequest {})).await?;
        Ok(())
    }

    /// Opens a watch as `stream` describes it.
    pub async fn watch(&self, stream: &WatchStream) -> Result<Watch, Status> {
        let (requests, queue) = mpsc::channel(WATCH_REQUESTS);
        let create = RequestUnion::CreateRequest(stream.into());
        let create = pb::WatchRequest {
            request_union: Some(create),
        };
        requests
            .try_send(create)
            .expect("a new queue takes its first request");
        let mut client =
            WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let opened = within(client.watch(ReceiverStream::new(queue))).await?;
        Ok(Watch {
            requests,
            responses: opened.into_inner(),
        })
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

async fn within<T>(reply: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(PATIENCE, reply)
        .await
        .unwrap_or_else(|_| Err(Status::unavailable(format!("no reply within {PATIENCE:?}"))))
}

/// An open watch. Dropping it ends it.
pub struct Watch {
    // Closing this half would end the watch as well.
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watch {
    /// The next response; none when the server has ended the stream.
    pub async fn next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        self.responses.message().await
    }

    /// Asks how far the watch has come. The answer is a response like any other.
    pub fn ask_progress(&self) {
        let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        // If the server takes no requests, its answer does not matter either.
        let _ = self.requests.try_send(pb::WatchRequest {
            request_union: Some(progress),
        });
    }
}

/// etcd's errors that are told before a request is proposed, or by the state machine that refused it. Clients match
/// etcd's errors by their text, and so the texts do not change.
///
/// "mvcc: database space exceeded" is not among them: an etcd may apply a write and answer so.
const REFUSALS: [&str; 24] = [
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: request is too large",
    "etcdserver: given member URLs are invalid",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: too large lease TTL",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: member not found",
    "etcdserver: member ID already exist",
    "etcdserver: Peer URLs already exists",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: bad leader transferee",
    "etcdserver: not leader",
    "etcdserver: rpc not supported for learner",
    "etcdserver: too many learner members in cluster",
    "etcdserver: re-configuration failed due to not enough started members",
];

fn outcome_of_error(status: &Status) -> Outcome {
    let error = describe(status);
    if was_not_sent(status) || REFUSALS.contains(&status.message()) {
        Outcome::Refused { error }
    } else {
        Outcome::Unknown { error }
    }
}

/// Whether there was no connection to send it on.
fn was_not_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error's text, and of one that is not a server's, what it came from.
pub fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if text.is_empty() {
        text = status.code().to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use keelson_jepsen::history::Put;
    use tokio::net::TcpListener;

    use super::*;

    fn put() -> Call {
        Call::Put(Put {
            key: "key".into(),
            value: "value".into(),
            ..Put::default()
        })
    }

    async fn connect(listener: &TcpListener) -> Connection {
        let port = listener.local_addr().expect("it is bound").port();
        Connection::open(ConnectionId(1), MemberIndex(1), port)
            .await
            .expect("it listens")
    }

    #[tokio::test]
    async fn a_port_on_which_nobody_listens_cannot_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        assert!(
            Connection::open(ConnectionId(1), MemberIndex(1), port)
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn what_was_sent_on_a_connection_that_broke_is_unknown_and_what_comes_after_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let connection = connect(&listener).await;
        let (mut accepted, _) = listener.accept().await.expect("it was dialled");
        let sending = tokio::spawn({
            let connection = connection.clone();
            async move { connection.call(&put(), PATIENCE).await }
        });
        // The preface and more: the request may be among it.
        let mut received = [0; 256];
        let length = tokio::io::AsyncReadExt::read(&mut accepted, &mut received)
            .await
            .expect("something is sent");
        assert!(length > 0);
        drop(accepted);
        let outcome = sending.await.expect("it does not panic");
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        let outcome = connection.call(&put(), PATIENCE).await;
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }

    #[test]
    fn only_errors_that_say_so_are_refusals() {
        let outcome = |text: &str| outcome_of_error(&Status::unavailable(text));
        assert!(matches!(
            outcome("etcdserver: requested lease not found"),
            Outcome::Refused { .. }
        ));
        for text in [
            "etcdserver: request timed out",
            "etcdserver: leader changed",
            "etcdserver: mvcc: database space exceeded",
            "etcdserver: requested lease not found, perhaps",
            "",
        ] {
            assert!(matches!(outcome(text), Outcome::Unknown { .. }), "{text}");
        }
    }
}
