//! The wires between the members, as an attacker holds them.
//!
//! Each member advertises the port of a proxy in front of its peer port, so everything that members say to each other
//! comes through here. Members are given one list of addresses for all, hence a proxy has to find out who dialled: it
//! asks the kernel which process owns the other end of the connection. That works before the first byte, for any peer
//! protocol, and needs no privileges.
//!
//! A link is directed. What `a` says to `b` travels on the connections that `a` dialled and, as answers, on those that
//! `b` dialled; both obey the link from `a` to `b`. Bytes are never lost in the middle of a stream, since TCP does not
//! lose them either: a lossy link delays what comes after a lost packet, as retransmission does, or breaks the
//! connection.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::peer_process;

/// What is read at once, and thus what one loss or one delay concerns.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks on the way in one direction of a connection; when so many are, the sender feels it.
const UNDER_WAY: usize = 256;
/// A lost packet is sent again after so long, and after twice as long if it is lost again.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How a directed link behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Whether anything arrives.
    pub cut: Cut,
    /// Every chunk takes so long.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// The part of the chunks that have to be sent again.
    pub loss: f64,
    /// The part of the chunks at which the connection breaks.
    pub reset: f64,
}

/// Whether a link lets anything through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// It does.
    #[default]
    Open,
    /// Nothing arrives until the link is open again, and then all of it, late.
    Held,
    /// Connections break, and new ones as well.
    Broken,
}

/// All proxies of a cluster. Clones are the same wires; the proxies end with the last.
#[derive(Clone, Debug)]
pub struct Wires {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    links: Mutex<BTreeMap<(usize, usize), Link>>,
    /// The processes of the members, by place.
    processes: Mutex<BTreeMap<usize, u32>>,
    /// Counts changes of `links`, so that whoever waits for one looks again.
    changes: watch::Sender<u64>,
    seeds: Mutex<StdRng>,
    proxies: Mutex<JoinSet<()>>,
}

impl Wires {
    /// Wires that are all open. Delays and losses are drawn from `seed`.
    pub fn new(seed: u64) -> Wires {
        let inner = Inner {
            links: Mutex::default(),
            processes: Mutex::default(),
            changes: watch::Sender::new(0),
            seeds: Mutex::new(StdRng::seed_from_u64(seed)),
            proxies: Mutex::default(),
        };
        Wires {
            inner: Arc::new(inner),
        }
    }

    /// Takes connections on `listener` for the member at `place`, which listens on `port` of loopback.
    pub fn lead_to(&self, place: usize, listener: TcpListener, port: u16) {
        let inner = Arc::downgrade(&self.inner);
        let accepting = async move {
            let mut listener = listener;
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    Some(ended) = connections.join_next() => {
                        if let (Ok(End::Refused), Ok(address)) = (ended, listener.local_addr()) {
                            drop(listener);
                            listener = once_it_listens(port, address).await;
                        }
                        continue;
                    }
                };
                let Some(inner) = inner.upgrade() else { return };
                match accepted {
                    Ok((dialled, _)) => {
                        connections.spawn(connect(inner, dialled, place, port));
                    }
                    // Out of descriptors: accepting again at once would only burn the processor.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        lock(&self.inner.proxies).spawn(accepting);
    }

    /// Says which process the member at `place` is now, so that its connections are known.
    pub fn process(&self, place: usize, id: u32) {
        lock(&self.inner.processes).insert(place, id);
    }

    /// Makes the link from one member to another behave as said.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        lock(&self.inner.links).insert((from, to), link);
        self.inner.changes.send_modify(|count| *count += 1);
    }

    /// Opens the link from one member to another.
    pub fn open(&self, from: usize, to: usize) {
        self.set(from, to, Link::default());
    }

    /// Opens all links.
    pub fn open_all(&self) {
        lock(&self.inner.links).clear();
        self.inner.changes.send_modify(|count| *count += 1);
    }
}

impl Inner {
    /// Of an unknown dialler, such as one that died just then, nothing is held back.
    fn link(&self, from: Option<usize>, to: Option<usize>) -> Link {
        let (Some(from), Some(to)) = (from, to) else {
            return Link::default();
        };
        lock(&self.links)
            .get(&(from, to))
            .copied()
            .unwrap_or_default()
    }

    /// Waits until something may pass, and fails if the link is broken.
    async fn passage(&self, from: Option<usize>, to: Option<usize>) -> io::Result<()> {
        let mut changes = self.changes.subscribe();
        loop {
            match self.link(from, to).cut {
                Cut::Open => return Ok(()),
                Cut::Broken => return Err(io::ErrorKind::ConnectionReset.into()),
                // It cannot be closed: `self` holds the other end.
                Cut::Held => drop(changes.changed().await),
            }
        }
    }

    async fn broken(&self, from: Option<usize>, to: Option<usize>) {
        let mut changes = self.changes.subscribe();
        while self.link(from, to).cut != Cut::Broken {
            let _ = changes.changed().await;
        }
    }
}

/// Listens on `address` as soon as somebody does on `port`: whoever dials meanwhile is refused, as where no member runs.
async fn once_it_listens(port: u16, address: SocketAddr) -> TcpListener {
    loop {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            && let Ok(listener) = TcpListener::bind(address).await
        {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    /// The member does not run.
    Refused,
}

/// Serves one connection to the member at `to` until either end closes it or a link breaks it.
async fn connect(inner: Arc<Inner>, dialled: TcpStream, to: usize, port: u16) -> End {
    let from = {
        let processes = lock(&inner.processes).clone();
        let (Ok(theirs), Ok(ours)) = (dialled.peer_addr(), dialled.local_addr()) else {
            return End::Closed;
        };
        let found = tokio::task::spawn_blocking(move || {
            peer_process::owner(theirs.port(), ours.port(), &processes)
        });
        found.await.ok().flatten()
    };
    let to = Some(to);
    if inner.link(from, to).cut == Cut::Broken || inner.link(to, from).cut == Cut::Broken {
        return End::Closed;
    }
    // A member that does not listen refuses; this one comes too late for that, and is closed.
    let Ok(member) = TcpStream::connect(("127.0.0.1", port)).await else {
        return End::Refused;
    };
    let _ = (dialled.set_nodelay(true), member.set_nodelay(true));
    let (dialled_read, dialled_write) = dialled.into_split();
    let (member_read, member_write) = member.into_split();
    let there = pump(&inner, from, to, dialled_read, member_write);
    let back = pump(&inner, to, from, member_read, dialled_write);
    tokio::select! {
        // Each direction closes by itself; an error ends both.
        _ = async { tokio::try_join!(there, back) } => {}
        () = inner.broken(from, to) => {}
        () = inner.broken(to, from) => {}
    }
    End::Closed
}

/// One direction of a connection.
async fn pump(
    inner: &Inner,
    from: Option<usize>,
    to: Option<usize>,
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(lock(&inner.seeds).random());
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let take = async {
        let mut due = Instant::now();
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            if reader.read_buf(&mut chunk).await? == 0 {
                break;
            }
            let link = inner.link(from, to);
            if link.reset > 0.0 && random.random_bool(link.reset) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            // What comes later does not overtake.
            due = due.max(Instant::now() + travel_time(&link, &mut random));
            if sender.send((due, chunk)).await.is_err() {
                break;
            }
        }
        drop(sender);
        Ok(())
    };
    let give = async {
        while let Some((due, chunk)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            inner.passage(from, to).await?;
            writer.write_all(&chunk).await?;
        }
        inner.passage(from, to).await?;
        writer.shutdown().await
    };
    tokio::try_join!(take, give).map(drop)
}

fn travel_time(link: &Link, random: &mut StdRng) -> Duration {
    let mut time = link.delay;
    if !link.jitter.is_zero() {
        time += random.random_range(Duration::ZERO..link.jitter);
    }
    let mut again = RETRANSMISSION;
    while link.loss > 0.0 && random.random_bool(link.loss.min(0.9)) {
        time += again;
        again *= 2;
    }
    time
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds the lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that sends back what it receives, and wires to it, on which this process is the member at place 0.
    async fn echo() -> (Wires, u16) {
        let member = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = member.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = member.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        let wires = Wires::new(1);
        let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy_port = proxy.local_addr().expect("it is bound").port();
        wires.lead_to(1, proxy, port);
        wires.process(0, std::process::id());
        (wires, proxy_port)
    }

    async fn dial(port: u16) -> TcpStream {
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the proxy listens")
    }

    async fn answer(stream: &mut TcpStream) -> io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map(|_| answer)
    }

    const LONG: Duration = Duration::from_secs(20);
    const A_WHILE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn an_open_link_carries_bytes_both_ways() {
        let (_wires, port) = echo().await;
        let mut stream = dial(port).await;
        stream.write_all(b"ping").await.expect("it is open");
        assert_eq!(&answer(&mut stream).await.expect("an answer"), b"ping");
    }

    #[tokio::test]
    async fn a_link_that_is_held_in_one_direction_delivers_late_and_loses_nothing() {
        for direction in [(0, 1), (1, 0)] {
            let (wires, port) = echo().await;
            let mut stream = dial(port).await;
            let held = Link {
                cut: Cut::Held,
                ..Link::default()
            };
            wires.set(direction.0, direction.1, held);
            stream.write_all(b"ping").await.expect("the proxy takes it");
            let early = tokio::time::timeout(A_WHILE, answer(&mut stream)).await;
            assert!(early.is_err(), "nothing passes {direction:?}: {early:?}");
            wires.open_all();
            let late = tokio::time::timeout(LONG, answer(&mut stream)).await;
            assert_eq!(
                &late.expect("it is open again").expect("an answer"),
                b"ping"
            );
        }
    }

    #[tokio::test]
    async fn links_between_other_members_do_not_matter() {
        let (wires, port) = echo().await;
        let broken = Link {
            cut: Cut::Broken,
            ..Link::default()
        };
        wires.set(2, 1, broken);
        wires.set(0, 2, broken);
        let mut stream = dial(port).await;
        stream.write_all(b"ping").await.expect("it is open");
        assert_eq!(&answer(&mut stream).await.expect("an answer"), b"ping");
    }

    #[tokio::test]
    async fn a_broken_link_ends_connections_old_and_new() {
        let (wires, port) = echo().await;
        let mut old = dial(port).await;
        old.write_all(b"ping").await.expect("it is open");
        answer(&mut old).await.expect("an answer");
        let broken = Link {
            cut: Cut::Broken,
            ..Link::default()
        };
        wires.set(1, 0, broken);
        let ended = tokio::time::timeout(LONG, answer(&mut old)).await;
        assert!(ended.expect("it ends").is_err());
        let mut new = dial(port).await;
        let ended = tokio::time::timeout(LONG, answer(&mut new)).await;
        assert!(ended.expect("it ends").is_err());
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time() {
        let (wires, port) = echo().await;
        let slow = Link {
            delay: Duration::from_millis(300),
            ..Link::default()
        };
        wires.set(0, 1, slow);
        let mut stream = dial(port).await;
        let start = Instant::now();
        stream.write_all(b"ping").await.expect("it is open");
        answer(&mut stream).await.expect("an answer");
        assert!(start.elapsed() >= slow.delay);
    }
}
