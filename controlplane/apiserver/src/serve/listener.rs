//! Accepting connections, and ending them in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Server;
use super::auth::Caller;

/// How many connections of strangers there may be, those whose handshake is under way included.
const STRANGERS_MAX: usize = 1_000;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is sent ahead of a slow client's reading, for each of its streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How many connections there may be. Who shows a certificate is counted by himself, so that strangers, who may hold
/// connections open for nothing, do not keep him out.
#[derive(Clone)]
struct Seats {
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

/// A place for one connection, until it is dropped.
struct Seat(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Seats {
    fn new(strangers_max: usize, known_max: usize) -> Seats {
        Seats {
            strangers: Arc::new(Semaphore::new(strangers_max)),
            known: Arc::new(Semaphore::new(known_max)),
        }
    }

    /// A place for one who has not said who he is; none if there are too many.
    fn stranger(&self) -> Option<Seat> {
        self.strangers.clone().try_acquire_owned().ok().map(Seat)
    }

    /// Another place for one who has, in exchange for that; none if there are too many.
    fn known(&self, strangers: Seat) -> Option<Seat> {
        drop(strangers);
        self.known.clone().try_acquire_owned().ok().map(Seat)
    }
}

/// Serves until `stop`, and then until requests that are under way are through.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    server: Arc<Server>,
    connections_max: usize,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    let seats = Seats::new(STRANGERS_MAX, connections_max);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, from)) => {
                let Some(seat) = seats.stranger() else {
                    debug!(%from, "too many connections; one more was closed");
                    continue;
                };
                connections.spawn(connection(
                    socket,
                    seat,
                    seats.clone(),
                    acceptor.clone(),
                    server.clone(),
                    stop.clone(),
                ));
            }
            Err(error) => {
                // Out of file descriptors, most likely.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        warn!("some requests were not through when the server stopped");
    }
}

async fn connection(
    socket: TcpStream,
    seat: Seat,
    seats: Seats,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    stop: CancellationToken,
) {
    let _ = socket.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    // A certificate that names nobody is nobody's.
    let caller = certificate.and_then(|certificate| Caller::of_certificate(certificate));
    let Some(_seat) = (match caller.is_some() {
        true => seats.known(seat),
        false => Some(seat),
    }) else {
        return;
    };
    let caller = Arc::new(caller.unwrap_or_else(Caller::stranger));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (server, caller) = (server.clone(), caller.clone());
        async move { Ok::<_, Infallible>(server.answer(request, &caller).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1_000)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_keep_out_who_is_known() {
        let seats = Seats::new(2, 1);
        let held = [seats.stranger().unwrap(), seats.stranger().unwrap()];
        assert!(seats.stranger().is_none());
        let [idle, one] = held;
        let one = seats.known(one).unwrap();
        let another = seats.stranger().unwrap();
        assert!(seats.known(another).is_none());
        drop((idle, one));
        assert!(
            seats
                .stranger()
                .and_then(|seat| seats.known(seat))
                .is_some()
        );
    }
}
