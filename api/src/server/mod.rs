//! The server on the client ports: gRPC and HTTP on the same sockets.
//!
//! A connection begins in whichever protocol its client speaks; HTTP/2 carries gRPC, either carries the HTTP paths.
//! These are answered at once, for probes and monitors; calls wait until the member has recovered ([`gate`]).
//! At shutdown nothing new is accepted, clients are told to go elsewhere, what is in flight is finished, and what
//! would go on for ever is ended; whoever is not done by a deadline is cut off.

mod authority;
mod coalesce;
pub(crate) mod exchange;
mod framing;
mod gate;
pub(crate) mod laid;
mod observe;
mod places;
mod router;
mod streamed;
mod turns;
mod unary;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use keelson_raft::Parts;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::Api;
use crate::context::Context;
use authority::Mended;
use coalesce::Coalesced;
use gate::Gate;
use observe::Observe;
use places::Places;
use router::Router;
use turns::{Calls, Turns};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What a stream may hold that its client does not read.
const STREAM_SEND_BYTES: usize = 64 << 10;

/// So many calls that their client has cancelled may arrive at once; more end the connection, with all its watches. The
/// HTTP/2 library's own bound is 20, which any client exceeds that cancels what it had under way.
const CANCELLED_CALLS_MAX: usize = 10_000;

/// How long nothing is accepted after accepting failed: mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client that has gone without a word is found out after about this.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// How connections are treated; the defaults are etcd's.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The most calls that a connection may have open.
    pub max_concurrent_streams: u32,
    /// How often an idle client is pinged; none: never.
    pub keepalive_interval: Option<Duration>,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// How long clients may take to finish at shutdown.
    pub shutdown_deadline: Duration,
    /// Where connections are served, each where the fewest are; without any, where [`serve`] is called.
    pub runtimes: Vec<Handle>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Some(Duration::from_secs(2 * 60 * 60)),
            keepalive_timeout: Duration::from_secs(20),
            shutdown_deadline: Duration::from_secs(5),
            runtimes: Vec::new(),
        }
    }
}

/// What a listening socket serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// gRPC and the HTTP paths.
    Everything,
    /// gRPC alone: the HTTP paths have sockets of their own.
    Grpc,
    /// The HTTP paths alone.
    Http,
}

/// Serves the API on sockets that are bound already, until the API is told to stop ([`Api::stop`]) and all
/// connections have ended, or the deadline has come.
pub async fn serve<P: Parts>(
    listeners: Vec<(TcpListener, Serves)>,
    api: &Api<P>,
    options: ServerOptions,
) {
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    let member = &api.context.member;
    let gate = Gate::new(member.request_timeout(), api.context.stopping.clone());
    let places = Arc::new(Places::new(&options.runtimes));
    for (listener, serves) in listeners {
        let service = Observe::new(
            Router::new(api, serves),
            api.context.metrics.clone(),
            gate.clone(),
            api.context.stopping.clone(),
        );
        let acceptor = Acceptor {
            service,
            context: api.context.clone(),
            options: options.clone(),
            places: places.clone(),
        };
        accepting.spawn(acceptor.run(listener, connections.clone()));
    }
    accepting.close();
    let recovering = gate.open_when(member.recovered());
    tokio::join!(accepting.wait(), recovering);
    connections.close();
    // Each connection keeps the deadline itself.
    connections.wait().await;
}

struct Acceptor<P: Parts> {
    service: Observe<Router<P>>,
    context: Arc<Context<P>>,
    options: ServerOptions,
    places: Arc<Places>,
}

impl<P: Parts> Acceptor<P> {
    async fn run(self, listener: TcpListener, connections: TaskTracker) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.context.stopping.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => {
                    if let Err(error) = self.serve(socket, &connections) {
                        tracing::warn!(%error, "a connection could not be served");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, socket: TcpStream, connections: &TaskTracker) -> std::io::Result<()> {
        let Some(place) = self.places.choose() else {
            connections.spawn(self.connection(socket));
            return Ok(());
        };
        let runtime = place.runtime().clone();
        let connection = self.connection(moved(socket, &runtime)?);
        let connection = async move {
            connection.await;
            drop(place);
        };
        connections.spawn_on(connection, &runtime);
        Ok(())
    }

    fn builder(&self, calls: Calls) -> auto::Builder<Calls> {
        let mut builder = auto::Builder::new(calls);
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            // Nobody reads the date of a call.
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(STREAM_SEND_BYTES)
            .max_pending_accept_reset_streams(CANCELLED_CALLS_MAX)
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout);
        builder
    }

    /// Serves one connection to its end.
    fn connection(&self, socket: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        let calls = Calls::default();
        let builder = self.builder(calls.clone());
        let service = TowerToHyperService::new(self.service.clone());
        let (stopping, deadline) = (
            self.context.stopping.clone(),
            self.options.shutdown_deadline,
        );
        let metrics = self.context.metrics.clone();
        async move {
            if let Err(error) = prepare(&socket) {
                tracing::debug!(%error, "a connection's options could not be set");
            }
            let (reader, writer) = socket.into_split();
            let counters = (metrics.received_bytes.clone(), metrics.sent_bytes.clone());
            let (io, outbox) = Coalesced::new(Mended::new(reader), writer, counters.0, counters.1);
            let connection = Box::pin(
                builder
                    .serve_connection(TokioIo::new(io), service)
                    .into_owned(),
            );
            let mut connection = Turns::new(connection, calls, outbox);
            let result = tokio::select! {
                result = &mut connection => result,
                () = stopping.cancelled() => {
                    connection.connection().as_mut().graceful_shutdown();
                    match tokio::time::timeout(deadline, &mut connection).await {
                        Ok(result) => result,
                        Err(_) => Err("cut off at shutdown".into()),
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!(error, "a connection ended early");
            }
        }
    }
}

/// A socket as another runtime has it.
fn moved(socket: TcpStream, runtime: &Handle) -> std::io::Result<TcpStream> {
    let socket = socket.into_std()?;
    let _there = runtime.enter();
    TcpStream::from_std(socket)
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE);
    socket2::SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
