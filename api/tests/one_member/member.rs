//! A member with its API on a port, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keelson_api::{Api, Metrics, Options, ServerOptions, Serves, serve};
use keelson_log::{DiskDir, RaftLog, ThreadedLog};
use keelson_proto::commandpb::{ClusterInit, Command, Membership, Node, Voters, command};
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::lease_client::LeaseClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::watch_client::WatchClient;
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest};
use keelson_raft::tcp::TcpTransport;
use keelson_raft::{ApplyOn, Config, Member, Parts, StateDir, Timing, Upkeep};
use keelson_store::MemberId;
use keelson_store::memory::MemoryEngine;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub const MEMBER_ID: u64 = 5;
pub const CLUSTER_ID: u64 = 77;

pub struct InMemory;

impl Parts for InMemory {
    type Rt = openraft_rt_tokio::TokioRuntime;
    type Engine = MemoryEngine;
    type Dir = DiskDir;
    type Net = TcpTransport;
}

/// A running member. Its files go when it is dropped.
pub struct Running {
    pub api: Api<InMemory>,
    pub member: Member<InMemory>,
    pub address: SocketAddr,
    pub serving: JoinHandle<()>,
    pub scratch: tempfile::TempDir,
    _log: ThreadedLog<DiskDir>,
    _dir: tempfile::TempDir,
}

impl Running {
    pub async fn start() -> Running {
        Running::start_with(|_| ()).await
    }

    /// Starts a member whose API's options are changed.
    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Running {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let timing = Timing {
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(1000),
        };
        let node = Node {
            id: MEMBER_ID,
            peer_urls: vec!["http://127.0.0.1:1".into()],
            pending_voter: false,
        };
        let found = Membership {
            nodes: vec![node],
            configs: vec![Voters {
                ids: vec![MEMBER_ID],
            }],
        };
        let log_dir = DiskDir::open(dir.path().join("log")).unwrap();
        let (log, _) = RaftLog::open(log_dir, keelson_log::Options::default()).unwrap();
        let log = ThreadedLog::start(log).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let mut options = Options {
            scratch_dir: scratch.path().into(),
            ..Options::default()
        };
        change(&mut options);
        let member = Member::<InMemory>::start(Config {
            id: MemberId(MEMBER_ID),
            cluster_id: CLUSTER_ID,
            found: Some(found),
            timing,
            log: log.log().clone(),
            state_dir: StateDir::open(dir.path().join("state")).unwrap(),
            open_engine: Arc::new(move |_| Ok(engine.clone())),
            store: keelson_store::Options::default(),
            watch: keelson_watch::Options::new(CLUSTER_ID, MemberId(MEMBER_ID)),
            net: TcpTransport::new(MEMBER_ID, CLUSTER_ID, timing.election, || {}),
            apply_on: ApplyOn::Thread,
            max_request_bytes: options.max_request_bytes,
            quota_bytes: options.quota_bytes,
            max_learners: 1,
            strict_reconfig: true,
            upkeep: Upkeep::default(),
        })
        .await
        .unwrap();
        member.recovered().await.unwrap();
        let init = command::Request::ClusterInit(ClusterInit {
            cluster_id: CLUSTER_ID,
        });
        member
            .propose(Command {
                request: Some(init),
                ..Command::default()
            })
            .await
            .unwrap();

        let api = Api::new(member.clone(), options, Arc::new(Metrics::new()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = api.clone();
        let server = ServerOptions {
            runtimes: vec![Handle::current()],
            shutdown_deadline: Duration::from_secs(2),
            ..ServerOptions::default()
        };
        let serving = tokio::spawn(async move {
            serve(vec![(listener, Serves::Everything)], &served, server).await
        });
        Running {
            api,
            member,
            address,
            serving,
            scratch,
            _log: log,
            _dir: dir,
        }
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    pub async fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel().await)
    }

    pub async fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel().await)
    }

    pub async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel().await)
    }

    pub async fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel().await)
    }
}

pub fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

pub fn get(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}
