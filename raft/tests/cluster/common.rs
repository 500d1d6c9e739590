//! Members in one process, on real files and real connections, with the engine in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::disk::{Hang, HangingDir};
use keelson_log::{DiskDir, Options as LogOptions, RaftLog, ThreadedLog};
use keelson_proto::commandpb::command::Request as Ask;
use keelson_proto::commandpb::{Command, MemberAttributes, Membership, Node, Voters};
use keelson_proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use keelson_proto::peerpb::member_change::{Add, Change};
use keelson_proto::peerpb::{Hello, HelloReply};
use keelson_raft::tcp::{self, TcpTransport};
use keelson_raft::transport::{Answer, Call, Lane, Reply, Request, Transport};
use keelson_raft::{ApplyOn, Config, Member, Parts, StateDir, Timing, Upkeep};
use keelson_store::engine::EngineError;
use keelson_store::memory::MemoryEngine;
use keelson_store::{LeaseId, MemberId};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const CLUSTER: u64 = 77;

pub const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election: Duration::from_millis(500),
};

/// Little log is kept, so that a member that comes late needs a snapshot.
pub const UPKEEP: Upkeep = Upkeep {
    flush_bytes: 64 << 10,
    flush_idle: Duration::from_millis(200),
    log_tail_bytes: 64 << 10,
};

pub struct InMemory;

impl Parts for InMemory {
    type Rt = openraft::impls::TokioRuntime;
    type Engine = MemoryEngine;
    type Dir = HangingDir;
    type Net = Wire;
}

/// A member's connections, with a switch that makes them stand still: nothing is refused, nothing breaks, and
/// nothing gets through, as with a process that is stopped.
#[derive(Clone)]
pub struct Wire {
    tcp: TcpTransport,
    hung: watch::Receiver<bool>,
}

impl Transport for Wire {
    fn call(&self, to: u64, lane: Lane, request: Request) -> Call {
        if !*self.hung.borrow() {
            return self.tcp.call(to, lane, request);
        }
        let this = self.clone();
        Box::pin(async move {
            this.clone().flows().await;
            this.tcp.call(to, lane, request).await
        })
    }

    fn set_peers(&self, peers: &[Node]) {
        self.tcp.set_peers(peers);
    }
}

impl Wire {
    async fn flows(mut self) {
        // The sender is gone only when the test is over.
        let _ = self.hung.wait_for(|hung| !hung).await;
    }
}

/// What happens when a joint membership arrives.
type Tripwire = Arc<Mutex<Option<Box<dyn Fn() + Send + Sync>>>>;

/// The other end of the same switch.
struct Guarded {
    desk: Arc<dyn Answer>,
    wire: Wire,
    tripwire: Tripwire,
    late_votes: Arc<AtomicBool>,
}

/// How late votes are that are late: less than an election.
const LATE: Duration = Duration::from_millis(150);

/// An append with a membership of two sets of voters.
fn carries_joint_membership(request: &Request) -> bool {
    let Request::Append(append) = request else {
        return false;
    };
    append.entries.iter().any(|entry| {
        let membership = entry.payload.strip_prefix(&[2]);
        let membership = membership.and_then(|bytes| Membership::decode(bytes).ok());
        membership.is_some_and(|membership| membership.configs.len() == 2)
    })
}

impl Answer for Guarded {
    fn admit(&self, hello: &Hello) -> HelloReply {
        self.desk.admit(hello)
    }

    fn answer(&self, from: u64, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        if let Some(trip) = &*self.tripwire.lock()
            && carries_joint_membership(&request)
        {
            trip();
        }
        if matches!(request, Request::Vote(_)) && self.late_votes.load(Ordering::Relaxed) {
            let desk = self.desk.clone();
            return Box::pin(async move {
                tokio::time::sleep(LATE).await;
                desk.answer(from, request).await
            });
        }
        if !*self.wire.hung.borrow() {
            return self.desk.answer(from, request);
        }
        let (desk, wire) = (self.desk.clone(), self.wire.clone());
        Box::pin(async move {
            wire.flows().await;
            desk.answer(from, request).await
        })
    }

    fn ended(&self, from: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.desk.ended(from)
    }
}

/// The engines of a member, by their directories: all that were ever opened.
#[derive(Clone, Default)]
pub struct Engines(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryEngine>>>>);

impl Engines {
    fn open(&self, dir: &Path) -> Result<Arc<MemoryEngine>, EngineError> {
        if let Some(engine) = self.0.lock().get(dir) {
            return Ok(engine.clone());
        }
        let has_files = std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some());
        let engine = Arc::new(if has_files {
            MemoryEngine::restore(dir)?
        } else {
            MemoryEngine::new()
        });
        self.0.lock().insert(dir.to_owned(), engine.clone());
        Ok(engine)
    }

    /// Nobody uses any of them.
    pub fn are_let_go(&self) -> bool {
        let engines = self.0.lock();
        engines
            .values()
            .all(|engine| Arc::strong_count(engine) == 1)
    }

    /// How many checkpoints were made to be sent.
    pub fn sent(&self) -> usize {
        let name = |dir: &PathBuf| dir.file_name()?.to_str().map(str::to_owned);
        let dirs = self.0.lock();
        let names = dirs.keys().filter_map(name);
        names.filter(|name| name.starts_with("outgoing")).count()
    }
}

pub struct Running {
    pub member: Member<InMemory>,
    pub dir: PathBuf,
    pub engines: Engines,
    wire: Wire,
    hang: watch::Sender<bool>,
    tripwire: Tripwire,
    late_votes: Arc<AtomicBool>,
    server: JoinHandle<()>,
    /// Told to end the server in order.
    serves: watch::Sender<()>,
    /// Makes its disk hang.
    pub disk: Hang,
    log: ThreadedLog<HangingDir>,
}

impl Running {
    /// Starts a member: one of the founders, or one that waits to be added.
    pub async fn start(id: u64, dir: &Path, at: TcpListener, found: Option<Membership>) -> Running {
        let dir = dir.join(id.to_string());
        let log_dir = dir.join("log");
        std::fs::create_dir_all(&log_dir).expect("a directory");
        let disk = Hang::default();
        let files = HangingDir {
            dir: DiskDir::open(&log_dir).expect("a directory"),
            hang: disk.clone(),
        };
        let options = LogOptions {
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        let (log, _) = RaftLog::open(files, options).expect("a new log opens");
        let threaded = ThreadedLog::start(log.clone()).expect("a thread");
        #[expect(
            clippy::disallowed_methods,
            reason = "on tokio, where nothing has to replay"
        )]
        let (hang, hung) = watch::channel(false);
        let wire = Wire {
            tcp: TcpTransport::new(id, CLUSTER, Duration::from_secs(1), || {}),
            hung,
        };
        let engines = Engines::default();
        let opened = engines.clone();
        let member = Member::start(Config::<InMemory> {
            id: MemberId(id),
            cluster_id: CLUSTER,
            found,
            timing: TIMING,
            log,
            state_dir: StateDir::open(dir.join("state")).expect("a directory"),
            open_engine: Arc::new(move |dir| opened.open(dir)),
            store: keelson_store::Options::default(),
            watch: keelson_watch::Options::new(CLUSTER, MemberId(id)),
            net: wire.clone(),
            apply_on: ApplyOn::Thread,
            max_request_bytes: 2 << 20,
            quota_bytes: 0,
            max_learners: 1,
            strict_reconfig: true,
            upkeep: UPKEEP,
        })
        .await
        .expect("a member starts");
        let tripwire = Tripwire::default();
        let late_votes = Arc::<AtomicBool>::default();
        let guarded = Guarded {
            desk: member.desk(),
            wire: wire.clone(),
            tripwire: tripwire.clone(),
            late_votes: late_votes.clone(),
        };
        let (server, serves) = serve(at, guarded);
        Running {
            serves,
            disk,
            member,
            dir,
            engines,
            wire,
            hang,
            tripwire,
            late_votes,
            server,
            log: threaded,
        }
    }

    /// Its connections stand still, or flow again.
    pub fn hang(&self, hung: bool) {
        self.hang.send_replace(hung);
    }

    /// Lets another member hang as soon as this one has been sent a joint membership, before it has answered.
    pub fn when_joint_hang(&self, other: &Running) {
        let hang = other.hang.clone();
        self.when_joint(move || {
            hang.send_replace(true);
        });
    }

    /// Does something whenever this member is sent a joint membership, before it answers.
    pub fn when_joint(&self, action: impl Fn() + Send + Sync + 'static) {
        *self.tripwire.lock() = Some(Box::new(action));
    }

    /// Requests for its vote reach it late, as over a slow connection.
    pub fn votes_late(&self) {
        self.late_votes.store(true, Ordering::Relaxed);
    }

    /// Is reached at another place from now on; where it was before, nobody answers any more.
    pub fn move_to(&mut self, at: TcpListener) {
        let guarded = Guarded {
            desk: self.member.desk(),
            wire: self.wire.clone(),
            tripwire: self.tripwire.clone(),
            late_votes: self.late_votes.clone(),
        };
        self.server.abort();
        (self.server, self.serves) = serve(at, guarded);
    }

    /// Says its name, as a process does when it has started.
    pub async fn introduce(&self) {
        let attributes = MemberAttributes {
            id: self.member.id().0,
            name: self.member.id().to_string(),
            client_urls: Vec::new(),
        };
        let command = Command {
            request: Some(Ask::MemberAttributes(attributes)),
            ..Command::default()
        };
        self.member
            .propose(command)
            .await
            .expect("a quorum is there");
    }

    /// Stops it in order, as a process does that is told to.
    pub async fn stop(mut self) {
        self.member.stop().await;
        self.serves.send_replace(());
        let served = (&mut self.server).await;
        served.expect("its connections are closed in order");
        self.end();
    }

    /// Ends what is left of a member that was stopped.
    pub fn end(self) {
        self.server.abort();
        drop(self.member);
        self.log.shutdown().expect("the log has not failed");
    }
}

/// Answers other members, until what is given back is told, or dropped.
fn serve(at: TcpListener, guarded: Guarded) -> (JoinHandle<()>, watch::Sender<()>) {
    let (serves, mut ends) = watch::channel(());
    let end = async move { drop(ends.changed().await) };
    (tokio::spawn(tcp::serve(at, Arc::new(guarded), end)), serves)
}

/// A place to listen at, and its URL.
pub async fn place() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

/// A cluster of members 1 to `size`.
pub async fn cluster(dir: &Path, size: u64) -> Vec<Running> {
    let mut places = Vec::new();
    for id in 1..=size {
        places.push((id, place().await));
    }
    let nodes = places.iter().map(|(id, (_, url))| Node {
        id: *id,
        peer_urls: vec![url.clone()],
        pending_voter: false,
    });
    let membership = Membership {
        nodes: nodes.collect(),
        configs: vec![Voters {
            ids: (1..=size).collect(),
        }],
    };
    let mut members = Vec::new();
    for (id, (listener, _)) in places {
        members.push(Running::start(id, dir, listener, Some(membership.clone())).await);
    }
    members
}

/// Adds a member that has nothing yet; it votes once it has caught up.
pub async fn add(dir: &Path, members: &mut Vec<Running>, id: u64, learner: bool) {
    let (listener, url) = place().await;
    members.push(Running::start(id, dir, listener, None).await);
    let add = Change::Add(Add {
        id,
        peer_urls: vec![url],
        learner,
    });
    let asked = &members[leader(members).await].member;
    asked
        .change_members(add)
        .await
        .expect("the others are there");
}

/// The member that leads, once one does.
pub async fn leader(members: &[Running]) -> usize {
    let leads = |running: &Running| {
        let status = running.member.status();
        status.is_leader && status.leader == Some(running.member.id())
    };
    until("somebody leads", || members.iter().position(leads)).await
}

/// Waits until something holds, and gives it.
pub async fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = holds() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), waiting).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within half a minute"),
    }
}

pub fn put(key: &str, value: &str) -> Command {
    let put = PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(Ask::Put(put)),
        ..Command::default()
    }
}

pub fn grant(id: LeaseId, ttl: i64) -> Command {
    let grant = LeaseGrantRequest { id: id.0, ttl };
    Command {
        request: Some(Ask::LeaseGrant(grant)),
        ..Command::default()
    }
}
