//! Accepting connections, and ending them in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::auth::Caller;
use super::body::ReplyBody;

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long requests that are under way may take when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// What is sent ahead of a slow client's reading, for each of its streams.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// How many connections there may be of each sort, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Whose handshake is under way. More wait where the system queues them.
    pub handshakes: usize,
    /// Of clients that showed no certificate.
    pub strangers: usize,
    /// How long one of those lasts: they can only ask for health and version.
    pub strangers_stay: Duration,
    /// Of clients that showed one.
    pub known: usize,
}

impl Limits {
    /// The usual ones, with so many clients that are known.
    pub fn of_known(known: usize) -> Limits {
        Limits {
            handshakes: 1_000,
            strangers: 1_000,
            strangers_stay: Duration::from_secs(60),
            known,
        }
    }
}

/// The places that are free. Each sort is counted by itself, so that strangers, who may hold connections open for
/// nothing, never keep out who is known: a place is taken for the handshake, which is short, and given back for one of
/// the other two.
#[derive(Clone)]
struct Seats {
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

/// A place for one connection, until it is dropped.
struct Seat(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Seats {
    fn new(limits: Limits) -> Seats {
        let places = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Seats {
            handshakes: places(limits.handshakes),
            strangers: places(limits.strangers),
            known: places(limits.known),
        }
    }

    /// Waits for a place for one who has not said who he is.
    async fn handshake(&self) -> Option<Seat> {
        let place = self.handshakes.clone().acquire_owned().await;
        place.ok().map(Seat)
    }

    /// A place for one who has, or has not after all; none if there are too many.
    fn after(&self, handshake: Seat, is_known: bool) -> Option<Seat> {
        drop(handshake);
        let places = match is_known {
            true => &self.known,
            false => &self.strangers,
        };
        places.clone().try_acquire_owned().ok().map(Seat)
    }
}

/// What answers requests.
pub trait Answer: Send + Sync + 'static {
    /// Answers one.
    fn answer(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
    ) -> impl Future<Output = Response<ReplyBody>> + Send;
}

/// Serves until `stop`, and then until requests that are under way are through.
pub async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    server: Arc<impl Answer>,
    limits: Limits,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut connections = JoinSet::new();
    let seats = Seats::new(limits);
    loop {
        // First a place, and then a connection for it: those that come together after a restart wait in the queue.
        let next = async { (seats.handshake().await, listener.accept().await) };
        let (seat, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        // Those that have ended.
        while connections.try_join_next().is_some() {}
        match (seat, accepted) {
            (Some(seat), Ok((socket, from))) => {
                let connection = Connection {
                    from,
                    seats: seats.clone(),
                    strangers_stay: limits.strangers_stay,
                    server: server.clone(),
                    stop: stop.clone(),
                };
                connections.spawn(connection.run(socket, seat, acceptor.clone()));
            }
            (None, _) => break,
            (_, Err(error)) => {
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

/// What a connection needs.
struct Connection<A> {
    from: SocketAddr,
    seats: Seats,
    strangers_stay: Duration,
    server: Arc<A>,
    stop: CancellationToken,
}

impl<A: Answer> Connection<A> {
    async fn run(self, socket: TcpStream, seat: Seat, acceptor: TlsAcceptor) {
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
        let Some(_seat) = self.seats.after(seat, caller.is_some()) else {
            debug!(from = %self.from, "too many connections; one more was closed");
            return;
        };
        match caller {
            Some(caller) => self.serve(stream, caller, self.stop.cancelled()).await,
            None => {
                let end = async {
                    let stay = tokio::time::sleep(self.strangers_stay);
                    tokio::select! { () = stay => {}, () = self.stop.cancelled() => {} }
                };
                self.serve(stream, Caller::stranger(), end).await;
            }
        }
    }

    /// Serves until the client leaves, or until `end` and what was under way then is through.
    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        caller: Caller,
        end: impl Future<Output = ()>,
    ) {
        let caller = Arc::new(caller);
        let server = self.server.clone();
        let service = service_fn(move |request: Request<Incoming>| {
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
            () = end => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(FAREWELL, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pki;
    use super::super::http::text_response;
    use super::super::tls;
    use super::*;
    use http::StatusCode;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream as ClientStream;
    use tokio_util::sync::DropGuard;

    /// Says who asks.
    struct Name;

    impl Answer for Name {
        async fn answer(&self, _: Request<Incoming>, caller: &Caller) -> Response<ReplyBody> {
            let name = caller.user(0).map_or("", |user| user.name.as_str());
            text_response(StatusCode::OK, name, "text/plain")
        }
    }

    /// A listener, and who may connect to it.
    struct Served {
        _dir: tempfile::TempDir,
        pki: Pki,
        address: SocketAddr,
        _stop: DropGuard,
    }

    async fn served(strangers_stay: Duration) -> Served {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let signed = pki.server(&["localhost".to_owned()], &[]).unwrap();
        let config = tls::config(&signed.certificate, &signed.key, &pki.ca).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = Limits {
            handshakes: 1,
            strangers: 1,
            strangers_stay,
            known: 1,
        };
        tokio::spawn(serve(
            listener,
            config,
            Arc::new(Name),
            limits,
            stop.clone(),
        ));
        Served {
            _dir: dir,
            pki,
            address,
            _stop: stop.drop_guard(),
        }
    }

    impl Served {
        async fn connect(&self, name: Option<&str>) -> ClientStream<TcpStream> {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(self.pki.ca.as_bytes()).unwrap())
                .unwrap();
            let builder = ClientConfig::builder_with_provider(tls::provider())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            let config = match name {
                None => builder.with_no_client_auth(),
                Some(name) => {
                    let signed = self.pki.client(name, name, "").unwrap();
                    let chain = tls::certificates(&signed.certificate).unwrap();
                    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
                    builder.with_client_auth_cert(chain, key).unwrap()
                }
            };
            let socket = TcpStream::connect(self.address).await.unwrap();
            let server = ServerName::try_from("localhost").unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            connector.connect(server, socket).await.unwrap()
        }
    }

    /// Whom the server takes the client for; none if it has closed the connection.
    async fn asks(stream: &mut ClientStream<TcpStream>) -> Option<String> {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.ok()?;
        let mut reply = vec![0; 4096];
        let count = stream
            .read(&mut reply)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        let text = String::from_utf8_lossy(&reply[..count]).into_owned();
        Some(text.split("\r\n\r\n").nth(1)?.to_owned())
    }

    #[tokio::test]
    async fn strangers_do_not_keep_out_who_is_known() {
        let served = served(Duration::from_secs(600)).await;
        let mut first = served.connect(None).await;
        assert_eq!(asks(&mut first).await.as_deref(), Some("system:anonymous"));
        let mut second = served.connect(None).await;
        assert_eq!(asks(&mut second).await, None);
        let mut jane = served.connect(Some("jane")).await;
        assert_eq!(asks(&mut jane).await.as_deref(), Some("jane"));
        let mut joe = served.connect(Some("joe")).await;
        assert_eq!(asks(&mut joe).await, None);
        assert_eq!(asks(&mut first).await.as_deref(), Some("system:anonymous"));
    }

    #[tokio::test]
    async fn a_stranger_does_not_stay_and_who_is_known_does() {
        let served = served(Duration::from_millis(50)).await;
        let mut jane = served.connect(Some("jane")).await;
        assert!(asks(&mut jane).await.is_some());
        let mut silent = served.connect(None).await;
        let mut nothing = [0; 1];
        let end = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut nothing));
        let end = end.await.expect("he is sent away");
        assert_eq!(end.unwrap_or(0), 0);
        assert!(asks(&mut jane).await.is_some());
    }
}
