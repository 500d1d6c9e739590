//! The Watch service: a client's stream of requests on one side, the hub's ready-made messages on the other.
//!
//! Messages come from [`keelson_watch`] encoded, and are only framed here, so this is a service written by hand and not a
//! generated one. One task serves both directions of a stream: the next message is taken from the hub when the connection asks for
//! it, and a request is read only while the stream has room for its answer.
//!
//! A client that closes its half keeps receiving; a stream ends when the client leaves, when the member stops
//! (Unavailable, on which clients reconnect), or, if it asked for a leader, when there is none for three election timeouts.

use keelson_proto::etcdserverpb::WatchRequest;
use keelson_store::engine::Engine;
use keelson_watch::{Frame, Hub, WatchStream};
use prost::Message;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::{Body, Service, StdError, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

const SERVICE: &str = "etcdserverpb.Watch";
const METHOD_PATH: &str = "/etcdserverpb.Watch/Watch";
/// After so many election timeouts without a leader, a stream that asked for one ends (etcd `maxNoLeaderCnt`).
const LEADERLESS_TIMEOUTS: u32 = 3;
/// After so many requests in a row the task lets others run, though more are there.
const REQUESTS_AT_ONCE: usize = 64;
/// What a stream's buffers begin with: most streams are idle, and there may be thousands.
const BUFFER_BYTES: usize = 2 << 10;
/// Small messages that are ready are sent together, up to about this.
const SEND_TOGETHER_BYTES: usize = 16 << 10;

/// What the service asks about its member.
#[derive(Clone)]
pub struct WatchSettings {
    /// Whether the member has had no contact with a leader within an election timeout.
    pub leader_lost: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether the member is a learner: it serves no watches then, as in etcd.
    pub is_learner: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How often a stream that asked for a leader looks for one.
    pub election_timeout: Duration,
    /// The largest request that is read.
    pub request_bytes_max: usize,
}

/// The gRPC service `etcdserverpb.Watch`.
pub struct WatchService<E: Engine> {
    hub: Arc<Hub<E>>,
    settings: WatchSettings,
}

impl<E: Engine> Clone for WatchService<E> {
    fn clone(&self) -> Self {
        WatchService {
            hub: self.hub.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl<E: Engine> WatchService<E> {
    /// Serves the hub's streams.
    pub fn new(hub: Arc<Hub<E>>, settings: WatchSettings) -> Self {
        WatchService { hub, settings }
    }

    fn open(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Messages>, Status> {
        if (self.settings.is_learner)() {
            return Err(Status::failed_precondition(
                "etcdserver: rpc not supported for learner",
            ));
        }
        let needs_leader = request
            .metadata()
            .get("hasleader")
            .is_some_and(|value| value == "true");
        if needs_leader && (self.settings.leader_lost)() {
            return Err(no_leader());
        }
        Ok(Response::new(Messages {
            stream: self.hub.stream(),
            requests: Some(request.into_inner()),
            leader: needs_leader.then(|| LeaderCheck::new(&self.settings)),
        }))
    }
}

fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

impl<E: Engine> NamedService for WatchService<E> {
    const NAME: &'static str = SERVICE;
}

impl<E, B> Service<http::Request<B>> for WatchService<E>
where
    E: Engine,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != METHOD_PATH {
            return Box::pin(ready(Ok(Status::unimplemented("").into_http())));
        }
        let service = self.clone();
        let mut grpc =
            Grpc::new(Frames).max_decoding_message_size(service.settings.request_bytes_max);
        Box::pin(async move { Ok(grpc.streaming(Method(service), request).await) })
    }
}

/// The service's one method.
struct Method<E: Engine>(WatchService<E>);

impl<E: Engine> StreamingService<WatchRequest> for Method<E> {
    type Response = Frame;
    type ResponseStream = Messages;
    type Future = Ready<Result<Response<Messages>, Status>>;

    fn call(&mut self, request: Request<Streaming<WatchRequest>>) -> Self::Future {
        ready(self.0.open(request))
    }
}

/// The server's half of one stream.
struct Messages {
    stream: WatchStream,
    /// None once the client has closed its half.
    requests: Option<Streaming<WatchRequest>>,
    /// For a stream that asked for a leader.
    leader: Option<LeaderCheck>,
}

impl Messages {
    /// Takes the requests that are there, while there is room for their answers.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        for _ in 0..REQUESTS_AT_ONCE {
            let Some(requests) = self.requests.as_mut().filter(|_| !self.stream.is_full()) else {
                return Ok(());
            };
            match Pin::new(requests).poll_next(cx) {
                Poll::Ready(Some(request)) => self.stream.request(request?),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }
}

impl Stream for Messages {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self
            .leader
            .as_mut()
            .is_some_and(|leader| leader.poll_gone(cx).is_ready())
        {
            return Poll::Ready(Some(Err(no_leader())));
        }
        if let Err(status) = self.poll_requests(cx) {
            return Poll::Ready(Some(Err(status)));
        }
        let frame = ready!(self.stream.poll_next(cx));
        Poll::Ready(Some(
            frame.ok_or_else(|| Status::unavailable("etcdserver: server stopped")),
        ))
    }
}

/// Looks for a leader once in an election timeout.
struct LeaderCheck {
    lost: Arc<dyn Fn() -> bool + Send + Sync>,
    interval: Interval,
    /// How often in a row there was none.
    times: u32,
}

impl LeaderCheck {
    fn new(settings: &WatchSettings) -> LeaderCheck {
        let first = tokio::time::Instant::now() + settings.election_timeout;
        let mut interval = tokio::time::interval_at(first, settings.election_timeout);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        LeaderCheck {
            lost: settings.leader_lost.clone(),
            interval,
            times: 0,
        }
    }

    /// Ready when the leader has been gone for too long.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.times < LEADERLESS_TIMEOUTS {
            ready!(self.interval.poll_tick(cx));
            self.times = if (self.lost)() { self.times + 1 } else { 0 };
        }
        Poll::Ready(())
    }
}

/// Reads requests, and writes messages that are encoded already.
struct Frames;

impl Codec for Frames {
    type Encode = Frame;
    type Decode = WatchRequest;
    type Encoder = Frames;
    type Decoder = Frames;

    fn encoder(&mut self) -> Frames {
        Frames
    }

    fn decoder(&mut self) -> Frames {
        Frames
    }
}

impl Encoder for Frames {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(frame.message_len());
        frame.write_to(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, SEND_TOGETHER_BYTES)
    }
}

impl Decoder for Frames {
    type Item = WatchRequest;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<WatchRequest>, Status> {
        WatchRequest::decode(message)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, SEND_TOGETHER_BYTES)
    }
}

#[cfg(test)]
mod tests;
