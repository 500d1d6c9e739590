//! What the parts of a member share.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::channel::oneshot;
use keelson_proto::commandpb;
use keelson_store::engine::Engine;
use keelson_store::{MemberId, Reader};
use keelson_watch::Hub;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{AsyncRuntime, Instant, Raft, ServerState};
use parking_lot::Mutex;

use crate::applier::{Applier, Now, OpenEngine};
use crate::barrier::Barrier;
use crate::intake::Intake;
use crate::leases::LeaseClock;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::proposals::Offer;
use crate::snapshots::Incoming;
use crate::state_dir::StateDir;
use crate::succession::Void;
use crate::transport::Transport;
use crate::types::{RaftMembership, Types, membership_to_pb};
use keelson_log::{LogDir, RaftLog};

/// What a member is made of: chosen once for production, once for simulation.
pub trait Parts: Send + Sync + 'static {
    /// The runtime: timers, tasks, channels.
    type Rt: AsyncRuntime;
    /// The state machine's engine.
    type Engine: Engine;
    /// Where the raft log is.
    type Dir: LogDir;
    /// The peer network.
    type Net: Transport;
}

/// The times that a member lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader says that it is alive.
    pub heartbeat: Duration,
    /// After how long without a word from it a follower stands for election, at the latest.
    pub election: Duration,
}

impl Timing {
    /// For how long after a leader's last word a follower helps nobody else to lead.
    pub fn lease(&self) -> Duration {
        (self.election * 45 / 100).max(self.heartbeat + Duration::from_millis(2))
    }

    /// How long a request may take: etcd's five seconds and twice the election timeout.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }
}

/// When state is flushed and log is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// A flush after so many bytes of log, so that a restart replays little.
    pub flush_bytes: u64,
    /// A flush after so long without a write.
    pub flush_idle: Duration,
    /// Bytes of log that are kept for members that are behind.
    pub log_tail_bytes: u64,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            flush_bytes: 32 << 20,
            flush_idle: Duration::from_millis(500),
            log_tail_bytes: 64 << 20,
        }
    }
}

pub(crate) type RaftOf<P> = Raft<Types<<P as Parts>::Rt>, Machine<P>>;
pub(crate) type MetricsOf<P> = openraft::RaftMetrics<Types<<P as Parts>::Rt>>;
type RolesOf<P> = openraft::metrics::RaftServerMetrics<Types<<P as Parts>::Rt>>;

/// Everything of a running member.
pub(crate) struct Shared<P: Parts> {
    pub(crate) id: MemberId,
    pub(crate) cluster_id: u64,
    pub(crate) timing: Timing,
    pub(crate) upkeep: Upkeep,
    pub(crate) max_request_bytes: usize,
    pub(crate) quota_bytes: i64,
    pub(crate) max_learners: usize,
    pub(crate) strict_reconfig: bool,
    /// Set once, right after openraft has started.
    pub(crate) raft: OnceLock<RaftOf<P>>,
    pub(crate) net: P::Net,
    pub(crate) log: RaftLog<P::Dir>,
    pub(crate) reader: Reader<P::Engine>,
    pub(crate) hub: Arc<Hub<P::Engine>>,
    pub(crate) applier: Arc<Applier<P::Engine>>,
    pub(crate) engine: ArcSwap<P::Engine>,
    pub(crate) open_engine: OpenEngine<P::Engine>,
    pub(crate) state_dir: StateDir,
    pub(crate) progress: Arc<Progress>,
    pub(crate) leases: Arc<LeaseClock>,
    pub(crate) barrier: Barrier,
    pub(crate) intake: Arc<Intake<Offer<P::Rt>>>,
    /// The snapshot that is being received.
    pub(crate) incoming: Arc<Mutex<Option<Incoming>>>,
    /// One change of the membership at a time.
    pub(crate) changing: Arc<futures::lock::Mutex<()>>,
    pub(crate) now: Now,
    /// When a leader was last heard of.
    pub(crate) heard: Mutex<Option<Duration>>,
    /// The member is about to stop, and only sees to it that those who wait get their answers.
    pub(crate) leaving: AtomicBool,
    pub(crate) stopping: AtomicBool,
    /// Dropped to end the member's own tasks.
    pub(crate) running: Mutex<Option<oneshot::Sender<Infallible>>>,
    /// How many connections of leaders have ended.
    pub(crate) ended: AtomicU64,
    /// The leader's end is being looked into.
    pub(crate) succeeding: AtomicBool,
    /// The last leader's lease that was void before its time.
    pub(crate) void: Mutex<Option<Void>>,
    /// This member was removed from the cluster, as a peer says or as it has applied itself.
    pub(crate) removed: AtomicBool,
    /// Why this member cannot go on, when it is not openraft that says so.
    pub(crate) failure: Mutex<Option<String>>,
}

impl<P: Parts> Shared<P> {
    pub(crate) fn raft(&self) -> &RaftOf<P> {
        self.raft
            .get()
            .expect("set before anything that uses it is spawned")
    }

    pub(crate) fn metrics<T>(&self, read: impl FnOnce(&MetricsOf<P>) -> T) -> T {
        read(&self.raft().metrics().borrow_watched())
    }

    /// The part of the metrics whose changes [`Shared::roles_may_have_changed`] waits for. The whole follows a moment
    /// later: who was woken by a change could miss it there.
    fn roles<T>(&self, read: impl FnOnce(&RolesOf<P>) -> T) -> T {
        read(&self.raft().server_metrics().borrow_watched())
    }

    /// The leader that openraft names: it may be gone.
    pub(crate) fn named_leader(&self) -> Option<u64> {
        self.roles(|roles| roles.current_leader)
    }

    /// This member leads, as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.roles(|roles| roles.state == ServerState::Leader)
            && self.metrics(|metrics| metrics.running_state.is_ok())
    }

    /// Whether this member leads, and the term: both of one moment.
    pub(crate) fn leads_in(&self) -> (bool, u64) {
        self.metrics(|metrics| {
            let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
            (leads, metrics.current_term)
        })
    }

    /// This member leads, nobody else votes, and it has applied an entry of its term, so all that came before. Nobody can lead
    /// in its place without its own vote, and whatever was acknowledged is applied here: it may read without asking.
    ///
    /// That what openraft reports lags by a turn of its loop does no harm: another leader needs a vote, and each of its
    /// commits an append, of this very loop.
    pub(crate) fn leads_alone(&self) -> bool {
        self.metrics(|metrics| {
            let configs = metrics.membership_config.membership().get_joint_config();
            metrics.state == ServerState::Leader
                && metrics.running_state.is_ok()
                && matches!(&configs[..], [voters] if voters.iter().eq([&self.id.0]))
                && metrics
                    .last_applied
                    .as_ref()
                    .is_some_and(|id| id.committed_leader_id().term == metrics.current_term)
        })
    }

    /// Whether consensus may wait for this member's disk and state machine itself, rather than hand the work to their threads and
    /// go on: where it has nobody else to answer meanwhile, not even a learner.
    pub(crate) fn may_wait(&self) -> bool {
        !self.applier.is_inline()
            && self.raft.get().is_some()
            && self.leads_alone()
            && self.metrics(|metrics| metrics.membership_config.nodes().count() == 1)
    }

    /// No word from a leader, or as a leader from a quorum, for an election timeout: openraft would go on naming it.
    pub(crate) fn leader_lost(&self) -> bool {
        let (leader, quorum_lost) =
            self.metrics(|metrics| (metrics.current_leader, self.quorum_lost(metrics)));
        match leader {
            None => true,
            Some(id) if id == self.id.0 => quorum_lost,
            Some(_) => self
                .heard
                .lock()
                .is_none_or(|heard| (self.now)().saturating_sub(heard) > self.timing.election),
        }
    }

    /// This member does not lead, or no quorum has answered it for an election timeout.
    fn quorum_lost(&self, metrics: &MetricsOf<P>) -> bool {
        if metrics.state != ServerState::Leader {
            return true;
        }
        // A lone voter asks nobody: nothing that openraft could date ever answers it.
        if metrics.membership_config.voter_ids().eq([self.id.0]) {
            return false;
        }
        let acked = metrics.last_quorum_acked.as_ref();
        acked.is_none_or(|acked| acked.elapsed() > self.timing.election)
    }

    pub(crate) fn heard_from_leader(&self) {
        *self.heard.lock() = Some((self.now)());
    }

    pub(crate) fn membership(&self) -> commandpb::Membership {
        self.roles(|roles| membership_to_pb(roles.membership_config.membership()))
    }

    /// The membership in force, with its addresses: the latest in the log, committed or not.
    pub(crate) fn raft_membership(&self) -> RaftMembership {
        self.roles(|roles| roles.membership_config.membership().clone())
    }

    /// This member cannot go on.
    pub(crate) fn fail(&self, why: String) {
        tracing::error!(why, "this member stops");
        self.failure.lock().get_or_insert(why);
    }

    /// Why openraft has stopped, or this member cannot go on; none while all is well.
    pub(crate) fn stopped(&self) -> Option<String> {
        let stopped = self.metrics(|metrics| {
            let running = metrics.running_state.as_ref();
            running.err().map(ToString::to_string)
        });
        stopped.or_else(|| self.failure.lock().clone())
    }

    /// Nobody should hand leadership to this member any more, nor may it take it. True until the end.
    pub(crate) fn leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot_dir(&self, name: &str) -> PathBuf {
        self.state_dir.path().join(name)
    }
}

/// Reads the time since now on a runtime's clock.
pub(crate) fn clock<RT: AsyncRuntime>() -> Now {
    let start = RT::Instant::now();
    Arc::new(move || keelson_planted::clock(RT::Instant::now().saturating_duration_since(start)))
}
