//! openraft's view of the network: its calls as requests of the peer protocol.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::Either;
use futures::stream::Stream;
use keelson_proto::peerpb;
use openraft::async_runtime::AsyncRuntime;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use crate::shared::{Parts, Shared};
use crate::snapshots::{SendError, SnapshotSource};
use crate::transport::{Call, CallError, Lane, Reply, Request, Transport};
use crate::types::{
    Peer, RaftLogId, RaftVote, Types, encode_payload, log_id_from_pb, log_id_to_pb, vote_from_pb,
    vote_to_pb,
};

/// Append requests under way to one member at a time.
const PIPELINE: usize = 64;
/// Bytes of entries under way to one member, above which no further request is sent.
const PIPELINE_BYTES: usize = 16 << 20;

/// Makes a client for each member and purpose. Holds the member weakly: openraft holds the network.
pub(crate) struct Network<P: Parts> {
    pub(crate) shared: Weak<Shared<P>>,
}

/// The client of one member on one lane.
pub(crate) struct Client<P: Parts> {
    shared: Weak<Shared<P>>,
    to: u64,
    lane: Lane,
}

impl<P: Parts> Network<P> {
    fn client(&self, to: u64, lane: Lane) -> Client<P> {
        Client {
            shared: self.shared.clone(),
            to,
            lane,
        }
    }
}

impl<P: Parts> RaftNetworkFactory<Types<P::Rt>> for Network<P> {
    type Network = Client<P>;

    async fn new_client(&mut self, target: u64, _node: &Peer) -> Client<P> {
        self.client(target, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &Peer) -> Client<P> {
        self.client(target, Lane::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, _node: &Peer) -> Client<P> {
        self.client(target, Lane::Snapshot)
    }
}

type Rpc<P> = RPCError<Types<<P as Parts>::Rt>>;

impl<P: Parts> Client<P> {
    fn shared(&self) -> Result<Arc<Shared<P>>, Rpc<P>> {
        self.shared.upgrade().ok_or_else(|| {
            RPCError::Unreachable(Unreachable::from_string("this member has stopped"))
        })
    }

    /// One request and its reply, within a time.
    async fn call(
        &self,
        lane: Lane,
        request: Request,
        action: RPCTypes,
        ttl: Duration,
    ) -> Result<Reply, Rpc<P>> {
        let shared = self.shared()?;
        let call = shared.net.call(self.to, lane, request);
        match P::Rt::timeout(ttl, call).await {
            Ok(reply) => reply.map_err(|error| call_error::<P>(&error)),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action,
                id: shared.id.0,
                target: self.to,
                timeout: ttl,
            })),
        }
    }

    async fn ask_vote(
        &self,
        rpc: VoteRequest<Types<P::Rt>>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<P::Rt>>, Rpc<P>> {
        let ask = peerpb::VoteAsk {
            vote: Some(vote_to_pb(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(log_id_to_pb),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
        };
        match self
            .call(
                Lane::Heartbeat,
                Request::Vote(ask),
                RPCTypes::Vote,
                option.hard_ttl(),
            )
            .await?
        {
            Reply::Vote(peerpb::VoteReply {
                vote: Some(vote),
                granted,
                last,
            }) => Ok(VoteResponse::new(
                vote_from_pb(&vote),
                last.as_ref().map(log_id_from_pb),
                granted,
            )),
            other => Err(unexpected::<P>(&other)),
        }
    }
}

impl<P: Parts> RaftNetworkV2<Types<P::Rt>> for Client<P> {
    type SnapshotData = SnapshotSource;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<P::Rt>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<P::Rt>>, Rpc<P>> {
        let request = Request::Append(append_to_pb::<P>(&rpc));
        let reply = self
            .call(
                self.lane,
                request,
                RPCTypes::AppendEntries,
                option.hard_ttl(),
            )
            .await?;
        match append_result::<P>(reply)? {
            Ok(_) => Ok(AppendEntriesResponse::Success),
            Err(StreamAppendError::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Err(StreamAppendError::HigherVote(vote)) => Ok(AppendEntriesResponse::HigherVote(vote)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types<P::Rt>>, Rpc<P>>>, Rpc<P>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types<P::Rt>>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let shared = self.shared()?;
            // openraft's limit is one heartbeat: an honest fsync may take longer.
            let ttl = option.hard_ttl().max(shared.timing.election);
            let stream = Pipeline::<P, S> {
                shared,
                to: self.to,
                lane: self.lane,
                ttl,
                input: Some(input),
                under_way: VecDeque::new(),
                bytes: 0,
                ended: false,
            };
            let stream: BoxStream<'s, _> = Box::pin(stream);
            Ok(stream)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<P::Rt>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<P::Rt>>, Rpc<P>> {
        self.ask_vote(rpc, false, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<P::Rt>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<P::Rt>>, Rpc<P>> {
        self.ask_vote(rpc, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        _snapshot: openraft::type_config::alias::SnapshotOf<Types<P::Rt>, SnapshotSource>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<P::Rt>>, StreamingError<Types<P::Rt>>> {
        let shared = self
            .shared()
            .map_err(|_| StreamingError::Unreachable(Unreachable::from_string("stopped")))?;
        let send = Box::pin(shared.send_snapshot(self.to, vote));
        match futures::future::select(send, Box::pin(cancel)).await {
            Either::Left((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            Either::Left((Err(error), _)) => {
                let to = format!("{:x}", self.to);
                // openraft tries again twice a second for as long as the member is down.
                if matches!(error, SendError::Call(CallError::NotSent { .. })) {
                    tracing::debug!(to, %error, "a snapshot has to wait");
                } else {
                    tracing::warn!(to, %error, "a snapshot did not arrive");
                }
                Err(StreamingError::Unreachable(Unreachable::new(&error)))
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types<P::Rt>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<P::Rt>>, Rpc<P>> {
        let request = Request::TransferLeader(peerpb::TransferLeader {
            from_leader: Some(vote_to_pb(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(log_id_to_pb),
        });
        match self
            .call(
                Lane::Heartbeat,
                request,
                RPCTypes::TransferLeader,
                option.hard_ttl(),
            )
            .await?
        {
            Reply::TransferLeader(reply) if reply.refused.is_empty() => Ok(Ok(())),
            Reply::TransferLeader(_) => {
                let expected = req.last_log_id().cloned();
                Ok(Err(TransferLeaderError::LogNotFlushed {
                    expected,
                    actual: None,
                }))
            }
            other => Err(unexpected::<P>(&other)),
        }
    }
}

pub(crate) fn append_to_pb<P: Parts>(rpc: &AppendEntriesRequest<Types<P::Rt>>) -> peerpb::Append {
    peerpb::Append {
        vote: Some(vote_to_pb(&rpc.vote)),
        prev: rpc.prev_log_id.as_ref().map(log_id_to_pb),
        entries: rpc
            .entries
            .iter()
            .map(|entry| peerpb::Entry {
                id: Some(log_id_to_pb(&entry.log_id)),
                payload: encode_payload(&entry.payload),
            })
            .collect(),
        commit: rpc.leader_commit.as_ref().map(log_id_to_pb),
    }
}

fn append_result<P: Parts>(reply: Reply) -> Result<StreamAppendResult<Types<P::Rt>>, Rpc<P>> {
    use peerpb::append_reply::Result as R;
    let Reply::Append(peerpb::AppendReply {
        result: Some(result),
    }) = reply
    else {
        return Err(unexpected::<P>(&reply));
    };
    Ok(match result {
        R::Success(success) => Ok(success.matching.as_ref().map(log_id_from_pb)),
        R::Conflict(id) => Err(StreamAppendError::Conflict(log_id_from_pb(&id))),
        R::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_from_pb(&vote))),
    })
}

fn call_error<P: Parts>(error: &CallError) -> Rpc<P> {
    match error {
        CallError::NotSent { .. } => RPCError::Unreachable(Unreachable::new(error)),
        CallError::Lost { .. } => RPCError::Network(NetworkError::new(error)),
    }
}

fn unexpected<P: Parts>(reply: &Reply) -> Rpc<P> {
    let why = match reply {
        Reply::Failed(why) => why.clone(),
        _ => "an answer to another question".to_string(),
    };
    RPCError::Network(NetworkError::from_string(why))
}

type Timed<P> = Pin<Box<dyn Future<Output = Result<Reply, Rpc<P>>> + Send>>;

/// Append requests, many under way at once; replies in the order of the requests. Ends at the first that fails.
struct Pipeline<P: Parts, S> {
    shared: Arc<Shared<P>>,
    to: u64,
    lane: Lane,
    ttl: Duration,
    input: Option<S>,
    /// With the bytes of their entries.
    under_way: VecDeque<(Timed<P>, usize)>,
    bytes: usize,
    ended: bool,
}

impl<P: Parts, S> Pipeline<P, S> {
    fn start(&self, call: Call) -> Timed<P> {
        let (ttl, id, target) = (self.ttl, self.shared.id.0, self.to);
        Box::pin(async move {
            match P::Rt::timeout(ttl, call).await {
                Ok(reply) => reply.map_err(|error| call_error::<P>(&error)),
                Err(_) => Err(RPCError::Timeout(Timeout {
                    action: RPCTypes::AppendEntries,
                    id,
                    target,
                    timeout: ttl,
                })),
            }
        })
    }
}

impl<P: Parts, S> Stream for Pipeline<P, S>
where
    S: Stream<Item = AppendEntriesRequest<Types<P::Rt>>> + Send + Unpin,
{
    type Item = Result<StreamAppendResult<Types<P::Rt>>, Rpc<P>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.under_way.len() < PIPELINE && this.bytes < PIPELINE_BYTES && !this.ended {
            let Some(input) = &mut this.input else { break };
            match Pin::new(input).poll_next(cx) {
                Poll::Ready(Some(rpc)) => {
                    let append = append_to_pb::<P>(&rpc);
                    let bytes = append.entries.iter().map(|entry| entry.payload.len()).sum();
                    // Sent here, in the order of the log; awaited below.
                    let request = Request::Append(append);
                    let call = this.shared.net.call(this.to, this.lane, request);
                    let timed = this.start(call);
                    this.under_way.push_back((timed, bytes));
                    this.bytes += bytes;
                }
                Poll::Ready(None) => this.input = None,
                Poll::Pending => break,
            }
        }
        let Some((first, bytes)) = this.under_way.front_mut() else {
            return if this.ended || this.input.is_none() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        match first.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(reply) => {
                this.bytes -= *bytes;
                this.under_way.pop_front();
                let result = reply.and_then(append_result::<P>);
                if !matches!(result, Ok(Ok(_))) {
                    this.ended = true;
                    this.input = None;
                    this.under_way.clear();
                }
                Poll::Ready(Some(result))
            }
        }
    }
}

/// The log id that a request's entries end with.
pub(crate) fn last_of(prev: Option<RaftLogId>, entries: &[peerpb::Entry]) -> Option<RaftLogId> {
    entries
        .last()
        .and_then(|entry| entry.id.as_ref())
        .map(log_id_from_pb)
        .or(prev)
}
