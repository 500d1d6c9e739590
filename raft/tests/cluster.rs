//! Members in one process, on real files and real connections, with the engine in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keelson_log::{DiskDir, Options as LogOptions, RaftLog, ThreadedLog};
use keelson_proto::commandpb::{self, Command, Membership, Node, Voters, command::Request};
use keelson_proto::etcdserverpb::PutRequest;
use keelson_raft::tcp::{self, TcpTransport};
use keelson_raft::{ApplyOn, Config, Member, Parts, StateDir, Timing, Upkeep};
use keelson_store::memory::MemoryEngine;
use keelson_store::{MemberId, Revision};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

struct InMemory;

impl Parts for InMemory {
    type Rt = openraft::impls::TokioRuntime;
    type Engine = MemoryEngine;
    type Dir = DiskDir;
    type Net = TcpTransport;
}

const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(50),
    election: Duration::from_millis(500),
};

struct Running {
    member: Member<InMemory>,
    server: JoinHandle<()>,
    log: ThreadedLog<DiskDir>,
}

impl Running {
    async fn start(id: u64, dir: &Path, listener: TcpListener, found: Membership) -> Running {
        let log_dir = dir.join("log");
        std::fs::create_dir_all(&log_dir).expect("a directory");
        let (log, _) = RaftLog::open(
            DiskDir::open(&log_dir).expect("a directory"),
            LogOptions::default(),
        )
        .expect("a new log opens");
        let threaded = ThreadedLog::start(log.clone()).expect("a thread");
        let engine = Arc::new(MemoryEngine::new());
        let config = Config::<InMemory> {
            id: MemberId(id),
            cluster_id: 77,
            found: Some(found),
            timing: TIMING,
            log,
            state_dir: StateDir::open(dir.join("state")).expect("a directory"),
            open_engine: Arc::new(move |_| Ok(engine.clone())),
            store: keelson_store::Options::default(),
            watch: keelson_watch::Options::new(77, MemberId(id)),
            net: TcpTransport::new(id, 77, Duration::from_secs(1), || {}),
            apply_on: ApplyOn::Thread,
            max_request_bytes: 2 << 20,
            quota_bytes: 0,
            max_learners: 1,
            strict_reconfig: true,
            upkeep: Upkeep::default(),
        };
        let member = Member::start(config).await.expect("a member starts");
        let server = tokio::spawn(tcp::serve(listener, member.desk()));
        Running {
            member,
            server,
            log: threaded,
        }
    }

    async fn stop(self) {
        self.member.stop().await;
        self.server.abort();
        self.log.shutdown().expect("the log has not failed");
    }
}

async fn cluster(dir: &Path, size: u64) -> Vec<Running> {
    let mut listeners = Vec::new();
    for _ in 0..size {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    let nodes = listeners.iter().zip(1..).map(|(listener, id)| {
        let address = listener.local_addr().expect("bound");
        Node {
            id,
            peer_urls: vec![format!("http://{address}")],
            pending_voter: false,
        }
    });
    let membership = Membership {
        nodes: nodes.collect(),
        configs: vec![Voters {
            ids: (1..=size).collect(),
        }],
    };
    let mut members = Vec::new();
    for (listener, id) in listeners.into_iter().zip(1..) {
        members.push(
            Running::start(id, &dir.join(id.to_string()), listener, membership.clone()).await,
        );
    }
    members
}

fn put(key: &str, value: &str) -> Command {
    let put = PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    };
    Command {
        request: Some(Request::Put(put)),
        ..Command::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_writes_and_serves_linearizable_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let members = cluster(dir.path(), 3).await;
    for (number, running) in members.iter().enumerate() {
        let outcome = running
            .member
            .propose(put(&format!("key{number}"), "value"))
            .await
            .expect("a quorum is there");
        assert_eq!(outcome.revision, Revision(2 + number as i64));
        assert!(matches!(
            outcome.result,
            Ok(commandpb::outcome::Result::Put(_))
        ));
    }
    for running in &members {
        running
            .member
            .read_barrier()
            .await
            .expect("a quorum is there");
        let published = running.member.reader().now();
        assert_eq!(published.revision, Revision(4));
        assert!(published.get(b"key2").expect("readable").is_some());
    }
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_and_the_cluster_goes_on_when_the_leader_stops() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let leader = members
        .iter()
        .position(|running| running.member.status().is_leader)
        .expect("somebody leads");
    let to = members[(leader + 1) % 3].member.id();
    members[leader]
        .member
        .move_leader(to)
        .await
        .expect("the other is up to date");
    members[leader]
        .member
        .propose(put("b", "2"))
        .await
        .expect("a quorum is there");

    let leader = members
        .iter()
        .position(|running| running.member.status().is_leader)
        .expect("somebody leads");
    members.remove(leader).stop().await;
    let outcome = members[0]
        .member
        .propose(put("c", "3"))
        .await
        .expect("two of three are a quorum");
    assert_eq!(outcome.revision, Revision(4));
    for running in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_member_without_its_peers_says_that_there_is_no_leader() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut members = cluster(dir.path(), 3).await;
    members[0]
        .member
        .propose(put("a", "1"))
        .await
        .expect("a quorum is there");
    let last = members.pop().expect("three");
    for running in members {
        running.stop().await;
    }
    let error = last
        .member
        .read_barrier()
        .await
        .expect_err("no quorum is left");
    assert!(error.to_string().starts_with("etcdserver: "), "{error}");
    assert!(last.member.leader_lost());
    last.stop().await;
}
