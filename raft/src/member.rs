//! A member: started, asked, stopped.

use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{self, BoxFuture};
use keelson_log::RaftLog;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{self, Command, Membership};
use keelson_proto::peerpb::member_change::Change;
use keelson_store::engine::EngineError;
use keelson_store::{LeaseId, MemberId, OpenError, Outcome, Reader, Store};
use keelson_watch::Hub;
use openraft::errors::{InitializeError, RaftError};
use openraft::{AsyncRuntime, Raft, ServerState, SnapshotPolicy};
use parking_lot::Mutex;

use crate::applier::{Applier, ApplyOn, OpenEngine, Surroundings};
use crate::barrier::{self, Barrier};
use crate::desk::Desk;
use crate::duties;
use crate::intake::{self, Intake};
use crate::leases::LeaseClock;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::members;
use crate::network::Network;
use crate::progress::Progress;
use crate::shared::{Parts, Shared, Timing, Upkeep, clock};
use crate::state_dir::StateDir;
use crate::transport::{Answer, Transport};
use crate::trouble::Trouble;
use crate::types::{Peer, membership_from_pb};

/// What a member is started with.
pub struct Config<P: Parts> {
    /// Its id.
    pub id: MemberId,
    /// The cluster's id.
    pub cluster_id: u64,
    /// The first membership, if this member takes part in founding the cluster: the same on every founder.
    pub found: Option<Membership>,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// When state is flushed and log is dropped.
    pub upkeep: Upkeep,
    /// The raft log.
    pub log: RaftLog<P::Dir>,
    /// Where the state machine's files are.
    pub state_dir: StateDir,
    /// Opens an engine.
    pub open_engine: OpenEngine<P::Engine>,
    /// What the state machine is told.
    pub store: keelson_store::Options,
    /// What the watch hub is told.
    pub watch: keelson_watch::Options,
    /// The peer network.
    pub net: P::Net,
    /// Where applying happens.
    pub apply_on: ApplyOn,
    /// An encoded command may be so large.
    pub max_request_bytes: usize,
    /// Logical bytes above which the store takes no more; 0 or less: no limit. It travels with each command.
    pub quota_bytes: i64,
    /// Learners that the cluster may have.
    pub max_learners: usize,
    /// Refuse membership changes that would endanger the quorum.
    pub strict_reconfig: bool,
}

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state's directory.
    #[error("the state's directory: {0}")]
    Dir(#[source] io::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state machine.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A thread.
    #[error("starting a thread: {0}")]
    Thread(#[source] io::Error),
    /// openraft.
    #[error("raft: {0}")]
    Raft(String),
}

/// How a member sees itself and the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who leads, if somebody was heard of within an election timeout.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The last index of the log.
    pub last_index: u64,
    /// The last index that is known to be committed.
    pub committed_index: u64,
    /// The last index that was applied.
    pub applied_index: u64,
    /// Neither votes nor is about to.
    pub is_learner: bool,
    /// This member leads.
    pub is_leader: bool,
    /// Why openraft stopped, if it did.
    pub failed: Option<String>,
}

/// One member of the cluster. Cheap to clone.
pub struct Member<P: Parts> {
    shared: Arc<Shared<P>>,
}

impl<P: Parts> Clone for Member<P> {
    fn clone(&self) -> Self {
        Member {
            shared: self.shared.clone(),
        }
    }
}

impl<P: Parts> Member<P> {
    /// Opens the state, starts openraft on it, and the member's own tasks. Serves nobody yet: wait for
    /// [`Member::recovered`] before clients are let in.
    pub fn start(config: Config<P>) -> BoxFuture<'static, Result<Member<P>, StartError>> {
        // Boxed here, where the parts are still abstract: later the compiler can no longer see that it is Send.
        Box::pin(Self::open(config))
    }

    async fn open(config: Config<P>) -> Result<Member<P>, StartError> {
        let current = config.state_dir.current().map_err(StartError::Dir)?;
        let engine = (config.open_engine)(&current)?;
        let store = Store::open(engine.clone(), config.store)?;
        let reader = store.reader();
        let hub = Hub::new(reader.clone(), config.watch);
        let now = clock::<P::Rt>();
        let progress = Arc::new(Progress::default());
        let leases = Arc::new(LeaseClock::default());
        let around = Surroundings {
            hub: hub.clone(),
            progress: progress.clone(),
            leases: leases.clone(),
            now: now.clone(),
        };
        let applier = Applier::start(store, around, config.apply_on).map_err(StartError::Thread)?;
        let (barrier, rounds) = Barrier::new();
        let (intake, wakes) = Intake::new(now.clone());
        let (running, stopped) = oneshot::channel();
        let stopped = stopped.shared();
        let shared: Arc<Shared<P>> = Arc::new(Shared {
            id: config.id,
            cluster_id: config.cluster_id,
            timing: config.timing,
            upkeep: config.upkeep,
            max_request_bytes: config.max_request_bytes,
            quota_bytes: config.quota_bytes,
            max_learners: config.max_learners,
            strict_reconfig: config.strict_reconfig,
            raft: OnceLock::new(),
            net: config.net,
            log: config.log.clone(),
            reader,
            hub,
            applier,
            engine: ArcSwap::new(engine),
            open_engine: config.open_engine,
            state_dir: config.state_dir,
            progress,
            leases,
            barrier,
            intake: intake.clone(),
            incoming: Arc::default(),
            changing: Arc::default(),
            now,
            heard: Mutex::new(None),
            leaving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            running: Mutex::new(Some(running)),
            ended: AtomicU64::new(0),
            succeeding: AtomicBool::new(false),
            void: Mutex::new(None),
            removed: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        if let Some(found) = &config.found {
            shared.net.set_peers(&found.nodes);
        }
        let raft_config =
            raft_config(config.cluster_id, config.timing).map_err(StartError::Raft)?;
        let raft = Raft::new(
            config.id.0,
            Arc::new(raft_config),
            Network {
                shared: Arc::downgrade(&shared),
            },
            LogStore {
                log: config.log,
                written: Arc::new(move |index| match index {
                    Some(index) => intake.written(index),
                    None => intake.await_nothing(),
                }),
                may_wait: {
                    let shared = Arc::downgrade(&shared);
                    Arc::new(move || shared.upgrade().is_some_and(|shared| shared.may_wait()))
                },
            },
            Machine {
                shared: shared.clone(),
            },
        )
        .await
        .map_err(|error| StartError::Raft(error.to_string()))?;
        shared
            .raft
            .set(raft)
            .unwrap_or_else(|_| unreachable!("this is the only place that sets it"));

        let spawn = |task: BoxFuture<'static, ()>| {
            let failing = shared.clone();
            let task = or_fail(task, move |why| failing.fail(why));
            // Whatever a task waits for, it lets go of the member as soon as that stops.
            let task = future::select(stopped.clone(), task).map(drop);
            drop(P::Rt::spawn(task));
        };
        spawn(Box::pin(barrier::run(shared.clone(), rounds)));
        spawn(Box::pin(intake::run(shared.clone(), wakes)));
        spawn(Box::pin(duties::lead(shared.clone())));
        spawn(Box::pin(duties::finish_changes(shared.clone())));
        spawn(Box::pin(duties::notice_removal(shared.clone())));
        spawn(Box::pin(duties::upkeep(shared.clone())));
        spawn(Box::pin(duties::watch_upkeep(shared.clone())));
        spawn(Box::pin(follow_membership(shared.clone())));
        if config.apply_on == ApplyOn::Thread {
            duties::spawn_catch_up(shared.clone()).map_err(StartError::Thread)?;
        }

        let member = Member { shared };
        if let Some(found) = config.found
            && let Err(error) = initialize(member.shared.clone(), found).await
        {
            member.stop().await;
            return Err(error);
        }
        Ok(member)
    }

    /// What answers the other members.
    pub fn desk(&self) -> Arc<dyn Answer> {
        Arc::new(Desk(self.shared.clone()))
    }

    /// Its id.
    pub fn id(&self) -> MemberId {
        self.shared.id
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster_id
    }

    /// The published state.
    pub fn reader(&self) -> &Reader<P::Engine> {
        &self.shared.reader
    }

    /// The watch hub.
    pub fn hub(&self) -> &Arc<Hub<P::Engine>> {
        &self.shared.hub
    }

    /// The engine now: another one after a snapshot was installed.
    pub fn engine(&self) -> Arc<P::Engine> {
        self.shared.engine.load_full()
    }

    /// The raft log, for its sizes and counters.
    pub fn log(&self) -> &RaftLog<P::Dir> {
        &self.shared.log
    }

    /// Heartbeats and elections.
    pub fn timing(&self) -> Timing {
        self.shared.timing
    }

    /// How long a request may take.
    pub fn request_timeout(&self) -> Duration {
        self.shared.timing.request_timeout()
    }

    /// Completes when everything that this member may have applied before it was last stopped is applied again.
    pub async fn recovered(&self) -> Result<(), Trouble> {
        if on(Bug::ServesBeforeRecovered) {
            return Ok(());
        }
        self.shared
            .raft()
            .wait_for_recovery(None)
            .await
            .map(drop)
            .map_err(|_| Trouble::Stopped)
    }

    /// Proposes a command, validated by the caller, and waits until it is applied. On a follower it goes to the
    /// leader, once: [`Trouble::TimeoutConnectionLost`] and the timeouts mean that the outcome is not known.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Trouble> {
        self.shared.propose(command).await
    }

    /// Proves that somebody leads, after this was called, and waits until this member has applied what that leader
    /// had committed: afterwards [`Member::reader`] is linearizable.
    pub async fn read_barrier(&self) -> Result<(), Trouble> {
        self.shared.proof().await.map(drop)
    }

    /// Renews a lease: its seconds, 0 if there is none.
    pub async fn lease_renew(&self, id: LeaseId) -> Result<i64, Trouble> {
        self.shared.lease_renew(id).await
    }

    /// Renews a lease if this member can do so without asking anybody: its seconds.
    pub fn lease_renew_at_once(&self, id: LeaseId) -> Option<i64> {
        self.shared.lease_renew_at_once(id)
    }

    /// The seconds that a lease has left, -1 if there is none.
    pub async fn lease_remaining(&self, id: LeaseId) -> Result<i64, Trouble> {
        self.shared.lease_remaining(id).await
    }

    /// Adds, removes, updates or promotes a member; gives the new membership.
    pub async fn change_members(&self, change: Change) -> Result<Membership, Trouble> {
        self.shared.change_members(change).await
    }

    /// Hands leadership to a voter. Only the leader can.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Trouble> {
        self.shared.move_leader(to.0).await
    }

    /// The membership in force.
    pub fn membership(&self) -> Membership {
        self.shared.membership()
    }

    /// A member that neither votes nor is about to.
    pub fn is_learner(&self, id: MemberId) -> bool {
        members::is_learner(&self.membership(), id.0)
    }

    /// No contact with a leader for an election timeout.
    pub fn leader_lost(&self) -> bool {
        self.shared.leader_lost()
    }

    /// This member was removed from the cluster.
    pub fn removed(&self) -> bool {
        self.shared.removed.load(Ordering::Acquire)
    }

    /// A peer says that this member was removed from the cluster.
    pub fn tell_removed(&self) {
        self.shared.removed.store(true, Ordering::Release);
    }

    /// The term. Cheaper than [`Member::status`]: it is in every reply.
    pub fn term(&self) -> u64 {
        self.shared.metrics(|metrics| metrics.current_term)
    }

    /// How the member sees itself and the cluster.
    pub fn status(&self) -> Status {
        let lost = self.shared.leader_lost();
        let failure = self.shared.failure.lock().clone();
        self.shared.metrics(|metrics| Status {
            leader: metrics.current_leader.filter(|_| !lost).map(MemberId),
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            committed_index: metrics.local_committed.as_ref().map_or(0, |id| id.index()),
            applied_index: metrics.last_applied.as_ref().map_or(0, |id| id.index()),
            is_learner: members::is_learner(
                &crate::types::membership_to_pb(metrics.membership_config.membership()),
                self.shared.id.0,
            ),
            is_leader: metrics.state == ServerState::Leader,
            failed: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string)
                .or(failure),
        })
    }

    /// A consistent copy of the state, in the new directory `into`.
    pub async fn backup(&self, into: &Path) -> Result<commandpb::State, EngineError> {
        let into: PathBuf = into.to_owned();
        self.shared.checkpoint(into).await
    }

    /// Runs work that blocks off the executor.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.shared.blocking(work).await
    }

    /// Completes when openraft has stopped by itself: a disk or an engine failed. Gives the reason.
    pub async fn failed(&self) -> String {
        loop {
            if let Some(reason) = self.shared.stopped() {
                return reason;
            }
            let pause = self.shared.timing.heartbeat;
            self.shared.roles_may_have_changed(pause).await;
        }
    }

    /// Hands leadership over if this member leads, waits until another leads and those have their answers who proposed something here,
    /// stops taking part, and flushes the state.
    pub async fn stop(&self) {
        let successor = self.shared.hand_over().await;
        self.shared.leave(successor).await;
        // All of it at once, and before anything is waited for: who asked for this may not wait to the end.
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.barrier.close();
        self.shared.hub.close();
        self.shared.running.lock().take();
        if self.shared.raft().shutdown().await.is_err() {
            tracing::warn!("openraft did not stop cleanly");
        }
        if let Err(error) = self.shared.flush().await {
            tracing::warn!(%error, "could not flush the state; it will be replayed from the log");
        }
    }
}

/// Runs one of a member's own tasks. A runtime lets a task that panics vanish in silence, and the member would go on
/// without expiring leases, or without noticing that it was removed: it must fail instead.
fn or_fail(
    task: BoxFuture<'static, ()>,
    fail: impl FnOnce(String) + Send + 'static,
) -> BoxFuture<'static, ()> {
    let task = AssertUnwindSafe(task).catch_unwind();
    Box::pin(task.map(|ended| {
        if let Err(panic) = ended {
            fail("one of its own tasks panicked".into());
            resume_unwind(panic);
        }
    }))
}

/// Every founder initializes with the identical map; one that already is, is.
async fn initialize<P: Parts>(
    shared: Arc<Shared<P>>,
    membership: Membership,
) -> Result<(), StartError> {
    let membership = membership_from_pb(&membership);
    let nodes: std::collections::BTreeMap<u64, Peer> = membership
        .nodes()
        .map(|(id, peer)| (*id, peer.clone()))
        .collect();
    match shared.raft().initialize(nodes).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(StartError::Raft(error.to_string())),
    }
}

/// Keeps the peer network's addresses in step with the membership, and notices when this member is removed from it.
async fn follow_membership<P: Parts>(shared: Arc<Shared<P>>) {
    let mut known = Membership::default();
    while !shared.stopping() {
        let membership = shared.membership();
        if membership != known && !membership.nodes.is_empty() {
            shared.net.set_peers(&membership.nodes);
            known = membership;
        }
        // One that was never in it waits to be added; one that the applied state calls removed is out for good.
        let here = known.nodes.iter().any(|node| node.id == shared.id.0);
        if !here && is_removed(&shared) {
            shared.removed.store(true, Ordering::Release);
        }
        shared.roles_may_have_changed(shared.timing.heartbeat).await;
    }
}

fn is_removed<P: Parts>(shared: &Shared<P>) -> bool {
    let removed = shared.reader.now().removed_members();
    removed.is_ok_and(|removed| removed.contains(&shared.id))
}

fn raft_config(cluster_id: u64, timing: Timing) -> Result<openraft::Config, String> {
    let election = timing.election.as_millis() as u64;
    let heartbeat = timing.heartbeat.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: format!("{cluster_id:x}"),
        heartbeat_interval: heartbeat,
        // openraft waits for the lease and then a random part again: so that a follower stands within `election`.
        election_timeout_min: (election * 35 / 100).max(heartbeat + 1),
        election_timeout_max: timing.lease().as_millis() as u64,
        enable_leader_restore: Some(on(Bug::ServesBeforeRecovered)),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        // Purging goes by bytes, in `duties`.
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 600_000,
        max_payload_entries: 512,
        state_machine_channel_size: Some(65_536),
        backoff: "20ms 40ms 80ms ..500ms".to_string(),
        ..openraft::Config::default()
    };
    config.validate().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_task_that_panics_is_the_members_end() {
        let (told, failure) = oneshot::channel();
        let task = or_fail(Box::pin(async { panic!("on purpose") }), |why| {
            drop(told.send(why))
        });
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| block_on(task)));
        assert!(ended.is_err(), "the runtime sees it too");
        assert!(block_on(failure).is_ok(), "the member was not told");
    }
}
