//! The dialling end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use keelson_proto::commandpb::Node;
use keelson_proto::peerpb::{Hello, hello_reply::Verdict};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::connect::connect;
use super::frame::{self, Frames};
use crate::transport::{Call, CallError, Lane, PROTOCOL, Reply, Request, Transport};

/// Calls that may wait for one connection to be made, or for it to take them.
const QUEUE: usize = 4_096;
/// Bytes of such calls, unless it is one alone.
const QUEUE_BYTES: usize = 64 << 20;
/// Calls whose replies are waited for, above which those that nobody waits for any more are looked for.
const PENDING: usize = 1_024;
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// The connections to the other members. Cheap to clone; they are closed when the last clone is dropped.
#[derive(Clone)]
pub struct TcpTransport {
    runtime: tokio::runtime::Handle,
    caller: Arc<Caller>,
    lines: Arc<Mutex<BTreeMap<(u64, Lane), Line>>>,
}

/// Who this member is and whom it knows. No line is held here: a line holds this.
struct Caller {
    me: u64,
    cluster_id: u64,
    /// To connect, and for sent data to be acknowledged by the other machine.
    patience: Duration,
    peers: ArcSwap<BTreeMap<u64, Vec<String>>>,
    removed: Box<dyn Fn() + Send + Sync>,
}

/// The way to one member's lane.
struct Line {
    queue: mpsc::Sender<Outgoing>,
    /// What is in the queue.
    bytes: Arc<AtomicUsize>,
}

struct Outgoing {
    message: Bytes,
    reply: oneshot::Sender<Result<Reply, CallError>>,
    _room: Room,
}

/// Bytes in a line's queue, given back when the message leaves it.
struct Room {
    line: Arc<AtomicUsize>,
    bytes: usize,
}

impl Line {
    /// Puts a message into the queue, if there is room for it.
    fn send(
        &self,
        message: Bytes,
        reply: oneshot::Sender<Result<Reply, CallError>>,
    ) -> Result<(), ()> {
        let bytes = message.len();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room {
            line: self.bytes.clone(),
            bytes,
        };
        if before > 0 && before + bytes > QUEUE_BYTES {
            return Err(());
        }
        let outgoing = Outgoing {
            message,
            reply,
            _room: room,
        };
        self.queue.try_send(outgoing).map_err(drop)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.line.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl TcpTransport {
    /// A transport for member `me`. `patience` is how long a connection may take to be made or to stand still;
    /// `removed` is called when a peer says that this member was removed from the cluster.
    /// Must be called on the runtime that is to carry the connections.
    pub fn new(
        me: u64,
        cluster_id: u64,
        patience: Duration,
        removed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let caller = Caller {
            me,
            cluster_id,
            patience,
            peers: ArcSwap::default(),
            removed: Box::new(removed),
        };
        TcpTransport {
            runtime: tokio::runtime::Handle::current(),
            caller: Arc::new(caller),
            lines: Arc::default(),
        }
    }
}

impl Transport for TcpTransport {
    fn call(&self, to: u64, lane: Lane, request: Request) -> Call {
        let (reply, answered) = oneshot::channel();
        let message = request.encode();
        let sent = {
            let mut lines = self.lines.lock();
            if !self.caller.peers.load().contains_key(&to) {
                // Nor does a line to it stay behind, for one that was removed.
                return Box::pin(std::future::ready(Err(CallError::NotSent {
                    to,
                    why: "its address is not known".into(),
                    is_refused: false,
                })));
            }
            let line = lines.entry((to, lane)).or_insert_with(|| {
                let (queue, receiver) = mpsc::channel(QUEUE);
                let bytes = Arc::default();
                let line = line(self.caller.clone(), to, receiver);
                self.runtime.spawn(line);
                Line { queue, bytes }
            });
            line.send(message, reply)
        };
        Box::pin(async move {
            if sent.is_err() {
                return Err(CallError::NotSent {
                    to,
                    why: "too many calls wait for the connection".into(),
                    is_refused: false,
                });
            }
            answered.await.unwrap_or_else(|_| {
                Err(CallError::Lost {
                    to,
                    why: "this member stops".into(),
                })
            })
        })
    }

    fn set_peers(&self, peers: &[Node]) {
        let peers: BTreeMap<u64, Vec<String>> = peers
            .iter()
            .filter(|peer| peer.id != self.caller.me)
            .map(|peer| (peer.id, peer.peer_urls.clone()))
            .collect();
        // A line to who is no longer a member ends when its sender goes; a moved member is found at the next dial.
        let mut lines = self.lines.lock();
        lines.retain(|(id, _), _| peers.contains_key(id));
        self.caller.peers.store(Arc::new(peers));
    }
}

/// One member and lane: dials when there is something to send, again after the connection broke.
async fn line(caller: Arc<Caller>, to: u64, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(first) = queue.recv().await {
        match dial(&caller, to).await {
            Ok((reader, writer)) => talk(to, first, &mut queue, reader, writer).await,
            Err(Unreached { why, is_refused }) => {
                let mut failed = Some(first);
                // Everything that waits now waited for this attempt.
                while let Some(outgoing) = failed {
                    let _ = outgoing.reply.send(Err(CallError::NotSent {
                        to,
                        why: why.clone(),
                        is_refused,
                    }));
                    failed = queue.try_recv().ok();
                }
            }
        }
    }
}

/// Why there is no connection to a member.
struct Unreached {
    why: String,
    /// See [`CallError::NotSent`].
    is_refused: bool,
}

async fn dial(
    caller: &Caller,
    to: u64,
) -> Result<(Frames<OwnedReadHalf>, OwnedWriteHalf), Unreached> {
    let urls = caller.peers.load().get(&to).cloned().unwrap_or_default();
    let hello = Hello {
        protocol: PROTOCOL,
        cluster_id: caller.cluster_id,
        from: caller.me,
        to,
    };
    let mut why = "it has no address".to_string();
    let mut is_refused = !urls.is_empty();
    for url in urls {
        let mut refuses = false;
        match tokio::time::timeout(caller.patience, connect(&url, &hello, caller.patience)).await {
            Err(_) => why = format!("{url} does not answer"),
            Ok(Err(error)) => {
                refuses = error.kind() == io::ErrorKind::ConnectionRefused;
                why = format!("{url}: {error}");
            }
            Ok(Ok((reply, reader, writer))) => match reply.verdict() {
                Verdict::Welcome => return Ok((reader, writer)),
                Verdict::Removed => {
                    (caller.removed)();
                    why = "this member was removed from the cluster".into();
                }
                verdict => why = format!("{url} refused: {}", verdict.as_str_name()),
            },
        }
        is_refused &= refuses;
    }
    Err(Unreached { why, is_refused })
}

type Pending = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Reply, CallError>>>>>;

/// Carries calls over a connection until it breaks or nobody needs it.
async fn talk(
    to: u64,
    first: Outgoing,
    queue: &mut mpsc::Receiver<Outgoing>,
    reader: Frames<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
) {
    let pending = Pending::default();
    let mut listen = tokio::spawn(listen(reader, pending.clone()));
    let mut next_call = 1;
    let mut prune_at = PENDING;
    let mut next = Some(first);
    let mut buffer = BytesMut::new();
    let ended = loop {
        while let Some(outgoing) = next {
            // Who no longer waits need not be asked for.
            if !outgoing.reply.is_closed() {
                frame::put(&mut buffer, next_call, &outgoing.message);
                let mut pending = pending.lock();
                pending.insert(next_call, outgoing.reply);
                next_call += 1;
                // A peer that hangs answers nothing, and its callers give up one after the other.
                if pending.len() >= prune_at {
                    pending.retain(|_, reply| !reply.is_closed());
                    prune_at = (2 * pending.len()).max(PENDING);
                }
            }
            next = if buffer.len() < WRITE_BYTES {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        if let Err(error) = writer.write_all(&buffer).await {
            break Ended::because(error);
        }
        buffer.clear();
        tokio::select! {
            biased;
            ended = &mut listen => break ended.unwrap_or_else(Ended::because),
            outgoing = queue.recv() => match outgoing {
                Some(outgoing) => next = Some(outgoing),
                None => break Ended::because("the member is no longer in the cluster"),
            },
        }
    };
    listen.abort();
    let Some((last_read, reader)) = ended.read_until else {
        return lose(to, &ended.why, &pending);
    };
    let not_read = pending.lock().split_off(&(last_read + 1));
    for (_, reply) in not_read {
        let _ = reply.send(Err(CallError::NotSent {
            to,
            why: ended.why.clone(),
            is_refused: false,
        }));
    }
    // What it has read, it still answers. Other calls need not wait for that: they need another connection.
    tokio::spawn(async move {
        let ended = self::listen(reader, pending.clone()).await;
        lose(to, &ended.why, &pending);
    });
}

/// Tells those who wait that there will be no answer.
fn lose(to: u64, why: &str, pending: &Pending) {
    for (_, reply) in std::mem::take(&mut *pending.lock()) {
        let why = why.to_string();
        let _ = reply.send(Err(CallError::Lost { to, why }));
    }
}

/// How a connection ended.
struct Ended {
    why: String,
    /// The last call that the other end has read, if it has said so. It still answers those.
    read_until: Option<(u64, Frames<OwnedReadHalf>)>,
}

impl Ended {
    fn because(why: impl ToString) -> Ended {
        Ended {
            why: why.to_string(),
            read_until: None,
        }
    }
}

/// Hands replies to those who wait, until the connection ends.
async fn listen(mut reader: Frames<OwnedReadHalf>, pending: Pending) -> Ended {
    loop {
        match reader.next().await {
            Ok(Some((call, message))) => {
                if let Some(last_read) = frame::end(call, &message) {
                    return Ended {
                        why: "the member stops".into(),
                        read_until: Some((last_read, reader)),
                    };
                }
                let waiting = pending.lock().remove(&call);
                match (waiting, Reply::decode(message)) {
                    (Some(waiting), Ok(reply)) => drop(waiting.send(Ok(reply))),
                    (None, Ok(_)) => {}
                    (_, Err(error)) => return Ended::because(error),
                }
            }
            Ok(None) => return Ended::because("the connection was closed"),
            Err(error) => return Ended::because(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt;
    use futures::future::Shared;
    use keelson_proto::peerpb::{self, HelloReply};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::tcp::serve;
    use crate::transport::Answer;

    /// An append of about so many bytes.
    fn append(bytes: usize) -> Request {
        let entry = peerpb::Entry {
            id: None,
            payload: vec![0; bytes].into(),
        };
        Request::Append(peerpb::Append {
            entries: vec![entry],
            ..peerpb::Append::default()
        })
    }

    /// Member 1 of cluster 7, which knows where member 2 is.
    fn knows(address: SocketAddr) -> TcpTransport {
        let transport = TcpTransport::new(1, 7, Duration::from_secs(60), || {});
        transport.set_peers(&[Node {
            id: 2,
            peer_urls: vec![format!("http://{address}")],
            pending_voter: false,
        }]);
        transport
    }

    #[tokio::test]
    async fn only_where_nobody_listens_a_call_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let transport = knows(address);
        let closing = async {
            let (peer, _) = listener.accept().await.expect("a connection");
            drop(peer);
        };
        let (answer, ()) = tokio::join!(transport.call(2, Lane::Heartbeat, append(1)), closing);
        let refused = |answer| match answer {
            Err(CallError::NotSent { is_refused, .. }) => is_refused,
            other => panic!("it cannot have been sent: {other:?}"),
        };
        assert!(!refused(answer), "somebody listened");
        drop(listener);
        assert!(refused(transport.call(2, Lane::Heartbeat, append(1)).await));
        assert!(
            !refused(transport.call(3, Lane::Heartbeat, append(1)).await),
            "nobody"
        );
    }

    /// Counts what it is asked, and answers when it may.
    struct Desk {
        asked: AtomicU64,
        may: Shared<oneshot::Receiver<()>>,
    }

    impl Answer for Desk {
        fn admit(&self, _: &Hello) -> HelloReply {
            HelloReply::default()
        }

        fn answer(&self, _: u64, _: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let may = self.may.clone();
            Box::pin(async move {
                may.await.expect("it will be let");
                Reply::Failed("answered".into())
            })
        }

        fn ended(&self, _: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    /// A member that answers.
    struct Serving {
        address: SocketAddr,
        desk: Arc<Desk>,
        may: oneshot::Sender<()>,
        end: oneshot::Sender<()>,
        server: JoinHandle<()>,
    }

    async fn serving() -> Serving {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (may, let_it) = oneshot::channel();
        let desk = Arc::new(Desk {
            asked: AtomicU64::new(0),
            may: let_it.shared(),
        });
        let (end, ends) = oneshot::channel();
        let ends = async move { drop(ends.await) };
        let server = tokio::spawn(serve(listener, desk.clone(), ends));
        Serving {
            address,
            desk,
            may,
            end,
            server,
        }
    }

    #[tokio::test]
    async fn who_ends_answers_what_it_has_read_and_the_rest_was_not_sent() {
        let serving = serving().await;
        let transport = knows(serving.address);
        let read = transport.call(2, Lane::Forward, append(1));
        while serving.desk.asked.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        drop(serving.end);
        while TcpStream::connect(serving.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let not_read = transport.call(2, Lane::Forward, append(1));
        serving.may.send(()).expect("it waits");
        let answered = Reply::Failed("answered".into());
        assert_eq!(read.await.expect("it has read that"), answered);
        let not_read = not_read.await;
        assert!(
            matches!(not_read, Err(CallError::NotSent { .. })),
            "{not_read:?}"
        );
        serving.server.await.expect("all are gone");
        assert_eq!(serving.desk.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whenever_one_ends_what_it_was_asked_is_answered_and_nothing_else() {
        const CALLS: usize = 1_000;
        for end_at in (0..CALLS).step_by(50) {
            let serving = serving().await;
            serving.may.send(()).expect("its desk is there");
            let transport = knows(serving.address);
            let mut end = Some(serving.end);
            let mut calls = Vec::new();
            for number in 0..CALLS {
                calls.push(transport.call(2, Lane::Forward, append(1)));
                if number % 10 == 0 {
                    tokio::task::yield_now().await;
                }
                if number >= end_at {
                    drop(end.take());
                }
            }
            let mut answered = 0;
            for call in calls {
                match call.await {
                    Ok(_) => answered += 1,
                    Err(CallError::NotSent { .. }) => {}
                    Err(lost) => panic!("{lost}"),
                }
            }
            serving.server.await.expect("all are gone");
            assert_eq!(answered, serving.desk.asked.load(Ordering::Relaxed));
        }
    }

    #[tokio::test]
    async fn connections_are_closed_when_nobody_is_left_to_use_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let transport = knows(listener.local_addr().expect("bound"));
        let call = transport.call(2, Lane::Heartbeat, append(1));
        let (mut peer, _) = listener.accept().await.expect("a connection");
        let welcome = frame::of(&HelloReply::default());
        peer.write_all(&welcome).await.expect("it listens");
        drop((transport, call));
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(
            Duration::from_secs(30),
            tokio::io::AsyncReadExt::read_to_end(&mut peer, &mut rest),
        );
        closed.await.expect("it is closed").expect("in order");
    }

    #[tokio::test]
    async fn a_peer_that_accepts_and_says_nothing_costs_a_bounded_amount_of_memory() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let transport = knows(silent.local_addr().expect("bound"));
        let large = QUEUE_BYTES / 8;
        let calls: Vec<Call> = (0..16)
            .map(|_| transport.call(2, Lane::Append, append(large)))
            .collect();
        let mut refused = 0;
        for call in calls {
            match call.now_or_never() {
                None => {}
                Some(Err(CallError::NotSent { .. })) => refused += 1,
                Some(other) => panic!("nobody has answered: {other:?}"),
            }
        }
        assert!((8..=9).contains(&refused), "{refused} of 16 were refused");
        // Another lane is not concerned.
        let vote = transport.call(2, Lane::Heartbeat, append(large));
        assert!(vote.now_or_never().is_none());
    }
}
