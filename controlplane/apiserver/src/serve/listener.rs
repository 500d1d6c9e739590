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
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Server;
use super::auth::user_of_certificate;
use crate::rest::User;

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is sent ahead of a slow client's reading, for each of its streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Serves until `stop`, and then until requests that are under way are through.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    server: Arc<Server>,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((socket, _)) => {
                connections.spawn(connection(
                    socket,
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
    let user = certificate.and_then(|certificate| user_of_certificate(certificate));
    let user = Arc::new(user.unwrap_or_else(User::anonymous));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, Infallible>(server.answer(request, &user).await) }
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
