//! A member's life: everything checked, sockets bound, data opened, served, and stopped in order.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use keelson_api::{Api, Metrics, Options, ServerOptions, Serves, serve};
#[cfg(not(feature = "planted"))]
use keelson_log::DiskDir;
use keelson_log::{RaftLog, ThreadedLog};
use keelson_raft::tcp::{self, TcpTransport};
use keelson_raft::{ApplyOn, Member, OpenEngine, Parts, StateDir, Timing, Upkeep};
use keelson_rocks::Held;
#[cfg(not(feature = "planted"))]
use keelson_rocks::RocksEngine;
use keelson_store::engine::EngineError;
use openraft_rt_tokio::TokioRuntime;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::bootstrap::{self, Plan};
use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::disk::{self, Room};
use crate::duties;
#[cfg(feature = "planted")]
use crate::failpoints::{FaultyDir as DiskDir, FaultyEngine as RocksEngine};
use crate::listen::{self, Sockets};
use crate::measured::{MeasuredDir, MeasuredEngine};
use crate::own_thread::OwnThread;

/// The bounds within which a peer's word about the cluster is waited for, at the first start, for an election timeout.
/// Founders that start together wait all of it, since none answers before it has asked; and an answer that comes too late
/// lets a member that has lost its data start as a new one, however short elections are.
const PROBE_PATIENCE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(2);
/// How long a peer connection may stand still.
const PEER_PATIENCE: Duration = Duration::from_secs(5);
/// How long clients may take to finish at shutdown.
const CLIENTS_DEADLINE: Duration = Duration::from_secs(5);
/// How long handing over and flushing may take at shutdown.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// The connections of other members are closed in order within this long, or else just cut.
const PEERS_DEADLINE: Duration = Duration::from_millis(500);

/// What members are made of in production.
pub struct Production;

impl Parts for Production {
    type Rt = TokioRuntime;
    type Engine = MeasuredEngine<RocksEngine>;
    type Dir = MeasuredDir<DiskDir>;
    type Net = TcpTransport;
}

/// Runs a member until it is told to stop, or cannot go on.
pub async fn run(config: Config) -> Result<()> {
    // From here on a signal is an orderly stop.
    let mut stop = Stop::listen()?;
    let data = data_dir::inspect(&config.data_dir)?;
    // A directory that has been a member's is locked before anything else; a new one is not even made until all is well.
    let mut dir = None;
    if data.is_some() {
        dir = Some(DataDir::lock(&config.data_dir)?);
    }
    disk::check_start(&config.data_dir, config.wal_dir.as_deref(), data.is_none())?;
    let sockets = listen::bind(&config)?;
    let patience = config
        .election
        .clamp(*PROBE_PATIENCE.start(), *PROBE_PATIENCE.end());
    let plan = bootstrap::plan(&config.bootstrap, data, patience).await?;
    let mut dir = match dir {
        Some(dir) => dir,
        None => DataDir::lock(&config.data_dir)?,
    };

    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new());
    let (in_use, mut closed) = mpsc::channel::<Infallible>(1);
    let open_engine = open_engine(&metrics, Arc::new(in_use));
    let opened = open(&config, &mut dir, plan, data.is_none(), &metrics)?;
    let options = Options {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_bytes: opened.quota_bytes,
        election_timeout: config.election,
        scratch_dir: dir.scratch(),
    };
    let removed = Arc::new(AtomicBool::new(false));
    let raft = OwnThread::start("raft", 16).context("the thread of consensus cannot be started")?;
    let starting = opened.start(config.clone(), open_engine, removed.clone());
    let (member, log) = raft.runtime().spawn(starting).await??;
    let Sockets { peer, client } = sockets;
    // Until this member has stopped: whoever takes over from it must be able to tell it so.
    let mut peers = JoinSet::new();
    let (serves_peers, ends) = watch::channel(());
    let mut passing_on = JoinSet::new();
    passing_on.spawn(pass_on(removed, member.clone()));
    for listener in peer {
        let listener = moved(listener, raft.runtime()).context("a socket for peers")?;
        let mut ends = ends.clone();
        let end = async move { drop(ends.changed().await) };
        peers.spawn_on(tcp::serve(listener, member.desk(), end), raft.runtime());
    }
    let outcome = take_part(&config, options, &member, client, metrics, &mut stop).await;
    if tokio::time::timeout(STOP_DEADLINE, member.stop())
        .await
        .is_err()
    {
        tracing::warn!(
            "stopping took too long; what was not flushed will be applied again from the log"
        );
    }
    // What another member asked until now is answered, or it is told that nobody has looked at it.
    drop(serves_peers);
    let served = async { while peers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(PEERS_DEADLINE, served).await;
    // Not waited for: consensus may be waiting for a disk that hangs.
    drop((peers, passing_on, member, raft));
    let closing = tokio::task::spawn_blocking(move || log.shutdown());
    let logged = match tokio::time::timeout(STOP_DEADLINE, closing).await {
        Ok(closed) => closed?.with_context(|| at("the raft log", &log_path(&config, &dir))),
        Err(_) => Err(anyhow!(
            "the disk of {} does not answer",
            at("the raft log", &log_path(&config, &dir))
        )),
    };
    // Nobody sends: this ends when the last of the engines is closed.
    let _ = tokio::time::timeout(STOP_DEADLINE, closed.recv()).await;
    // It names the file that has failed; who stopped because of it knows less.
    logged?;
    if outcome.is_ok() {
        tracing::info!("stopped");
    }
    outcome
}

/// A listener as another runtime has it.
fn moved(listener: TcpListener, runtime: &Handle) -> std::io::Result<TcpListener> {
    let listener = listener.into_std()?;
    let _there = runtime.enter();
    TcpListener::from_std(listener)
}

/// What asks a process to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Stop> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Stop {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A member's data, open, and who it is.
struct Opened {
    plan: Plan,
    log: ThreadedLog<MeasuredDir<DiskDir>>,
    state_dir: StateDir,
    quota_bytes: i64,
}

fn log_path(config: &Config, dir: &DataDir) -> PathBuf {
    config.wal_dir.clone().unwrap_or_else(|| dir.log())
}

/// Names a part of a member's data.
fn at(what: &str, path: &Path) -> String {
    format!("{what} in {}", path.display())
}

fn open(
    config: &Config,
    dir: &mut DataDir,
    plan: Plan,
    first_start: bool,
    metrics: &Metrics,
) -> Result<Opened> {
    dir.empty_scratch()?;
    let log_path = log_path(config, dir);
    if !first_start && !has_segments(&log_path) {
        // Going on without the votes and entries that it has promised to keep could lose acknowledged writes.
        bail!(
            "the raft log in {} is gone: remove this member from the cluster, and add it again",
            log_path.display()
        );
    }
    let log_dir = DiskDir::open(&log_path).with_context(|| at("the raft log", &log_path))?;
    dir.lock_log(&log_path)?;
    let log_dir = MeasuredDir {
        dir: log_dir,
        sync_seconds: metrics.wal_fsync_seconds.clone(),
    };
    let (log, found) = RaftLog::open(log_dir, keelson_log::Options::default())
        .with_context(|| at("the raft log", &log_path))?;
    if first_start && (found.vote.is_some() || found.last.is_some()) {
        bail!(
            "the raft log in {} is another member's: choose another --wal-dir",
            log_path.display()
        );
    }
    let log = ThreadedLog::start(log)?;
    let state_path = dir.state();
    if found.purged.is_some() && !StateDir::is_at(&state_path) {
        bail!(
            "the state in {} is gone, and the raft log no longer holds all of it: remove this member from the cluster, \
             and add it again",
            state_path.display()
        );
    }
    let state_dir = StateDir::open(&state_path).with_context(|| at("the state", &state_path))?;
    if first_start {
        dir.identify(plan.identity)?;
    }
    let quota_bytes = match config.quota_bytes {
        0 => Room::at(&config.data_dir)
            .context("the size of the disk is not known")?
            .default_quota_bytes(),
        bytes => bytes.max(0),
    };
    // Founding is for a log in which nothing has happened; every other one knows its members.
    let found = plan
        .found
        .filter(|_| found.vote.is_none() && found.last.is_none());
    Ok(Opened {
        plan: Plan { found, ..plan },
        log,
        state_dir,
        quota_bytes,
    })
}

/// Whether there is anything of a raft log in a directory: opening one that is not there would begin a new one.
fn has_segments(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|entries| {
        let is_segment =
            |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "seg");
        entries.flatten().any(is_segment)
    })
}

impl Opened {
    async fn start(
        self,
        config: Arc<Config>,
        open_engine: OpenEngine<MeasuredEngine<RocksEngine>>,
        removed: Arc<AtomicBool>,
    ) -> Result<(Member<Production>, ThreadedLog<MeasuredDir<DiskDir>>)> {
        let identity = self.plan.identity;
        tracing::info!(
            name = config.name,
            member = format!("{:x}", identity.member_id.0),
            cluster = format!("{:x}", identity.cluster_id),
            data_dir = %config.data_dir.display(),
            quota_bytes = self.quota_bytes,
            "starting a member"
        );
        // The network is there before the member is; what it hears of the member's removal waits for it here.
        let tell_removed = move || removed.store(true, Ordering::Release);
        let net = TcpTransport::new(
            identity.member_id.0,
            identity.cluster_id,
            PEER_PATIENCE,
            tell_removed,
        );
        let mut watch = keelson_watch::Options::new(identity.cluster_id, identity.member_id);
        watch.progress_interval_ms =
            u64::try_from(config.watch_progress.as_millis()).unwrap_or(u64::MAX);
        watch.seed = rand::random();
        let member = Member::<Production>::start(keelson_raft::Config {
            id: identity.member_id,
            cluster_id: identity.cluster_id,
            found: self.plan.found,
            timing: Timing {
                heartbeat: config.heartbeat,
                election: config.election,
            },
            log: self.log.log().clone(),
            state_dir: self.state_dir,
            open_engine,
            store: keelson_store::Options::default(),
            watch,
            net,
            apply_on: ApplyOn::Thread,
            max_request_bytes: config.max_request_bytes,
            quota_bytes: self.quota_bytes,
            max_learners: config.max_learners,
            strict_reconfig: config.strict_reconfig,
            upkeep: Upkeep::default(),
        })
        .await?;
        Ok((member, self.log))
    }
}

/// Tells a member that a peer said that it was removed.
async fn pass_on(removed: Arc<AtomicBool>, member: Member<Production>) {
    while !removed.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    member.tell_removed();
}

/// Opens engines that hold `in_use` until they are closed.
fn open_engine(metrics: &Metrics, in_use: Held) -> OpenEngine<MeasuredEngine<RocksEngine>> {
    let write_seconds = metrics.backend_commit_seconds.clone();
    Arc::new(move |path: &Path| -> Result<_, EngineError> {
        let engine =
            RocksEngine::open_holding(path, keelson_rocks::Options::default(), in_use.clone())?;
        Ok(Arc::new(MeasuredEngine {
            engine,
            write_seconds: write_seconds.clone(),
        }))
    })
}

/// Serves clients until this member is to stop. They have been let go when it returns.
async fn take_part(
    config: &Config,
    options: Options,
    member: &Member<Production>,
    sockets: Vec<(TcpListener, Serves)>,
    metrics: Arc<Metrics>,
    stop: &mut Stop,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    // From the start: probes and monitors are answered before the member has recovered, and calls wait for that.
    let api = Api::new(member.clone(), options, metrics.clone());
    tasks.spawn(duties::count_leaders(member.clone(), metrics));
    let places = [Some(&config.data_dir), config.wal_dir.as_ref()];
    let places = places.into_iter().flatten().cloned().collect();
    tasks.spawn(duties::watch_the_disks(api.clone(), places));
    if let Some(retention) = config.retention {
        tasks.spawn(duties::compact_by_policy(
            member.clone(),
            api.clone(),
            retention,
        ));
    }
    let threads = OwnThread::one_a_core("serve")
        .context("the threads that serve clients cannot be started")?;
    let runtimes = threads.iter().map(|thread| thread.runtime().clone());
    let server_options = ServerOptions {
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
        shutdown_deadline: CLIENTS_DEADLINE,
        runtimes: runtimes.collect(),
    };
    let serving = serve(sockets, &api, server_options);
    let living = async {
        let outcome = live(config, member, stop).await;
        // Clients go elsewhere while this member still leads, if it does: their last requests are answered. Those of one
        // that failed are told so.
        api.stop();
        outcome
    };
    let (outcome, ()) = tokio::join!(living, serving);
    outcome
}

/// Lasts as long as this member is to take part.
async fn live(config: &Config, member: &Member<Production>, stop: &mut Stop) -> Result<()> {
    let introduced = async {
        if member.recovered().await.is_ok()
            && duties::introduce(member, &config.name, &config.advertise_client)
                .await
                .is_ok()
        {
            let urls: Vec<&str> = config
                .listen_client
                .iter()
                .map(|place| place.url.as_str())
                .collect();
            tracing::info!(urls = urls.join(","), "ready to serve client requests");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = introduced => Ok(()),
        // One that was removed before it was stopped hears from nobody, and would recover for ever.
        () = duties::removed(member) => said_removed(),
        why = stop.asked() => said(why),
        reason = member.failed() => Err(anyhow!("this member cannot go on: {reason}")),
    }
}

/// etcd's words.
fn said_removed() -> Result<()> {
    tracing::warn!("the member has been permanently removed from the cluster");
    Ok(())
}

fn said(why: &'static str) -> Result<()> {
    tracing::info!(signal = why, "stopping");
    Ok(())
}
