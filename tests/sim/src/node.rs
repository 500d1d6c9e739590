//! A member with its disk, which outlives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use keelson_log::{LogError, LogId, RaftLog};
use keelson_proto::commandpb::{Command, MemberAttributes, Membership, command};
use keelson_raft::{ApplyOn, Config, Member, Parts, StateDir, Timing, Trouble};
use keelson_store::MemberId;
use keelson_store::engine::EngineError;
use keelson_store::memory::MemoryEngine;
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::engine::Witnessed;
use crate::limits::Limits;
use crate::net::{MemberNet, Net};
use crate::runtime::{Runtime, Tasks, now};
use crate::tally::Kind;
use crate::truth::Truth;

/// The id of every simulated cluster.
pub const CLUSTER: u64 = 0x51;
/// How long a member waits before it tries again to introduce itself.
const RETRY: Duration = Duration::from_millis(200);

/// What a simulated member is made of.
pub struct Simulated;

impl Parts for Simulated {
    type Rt = Runtime;
    type Engine = Witnessed;
    type Dir = Disk;
    type Net = MemberNet;
}

/// The engines on a disk, by their directories.
#[derive(Clone)]
struct Engines {
    member: u64,
    truth: Truth,
    open: Arc<Mutex<BTreeMap<PathBuf, Arc<Witnessed>>>>,
}

impl Engines {
    fn open(&self, dir: &Path) -> Result<Arc<Witnessed>, EngineError> {
        if let Some(engine) = self.open.lock().get(dir) {
            return Ok(engine.clone());
        }
        // A directory with files in it is a checkpoint, or a snapshot that was received.
        let has_files = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        let engine = if has_files {
            MemoryEngine::restore(dir)?
        } else {
            MemoryEngine::new()
        };
        let engine = Arc::new(Witnessed::new(engine, self.member, self.truth.clone())?);
        self.open.lock().insert(dir.to_owned(), engine.clone());
        Ok(engine)
    }

    fn crash(&self) {
        for engine in self.open.lock().values() {
            engine.crash();
        }
    }
}

/// A disk and, unless it is down, the member that runs on it.
pub struct Node {
    /// The member's id.
    pub id: u64,
    /// A sync of its log was made to fail: the member is to stop by itself.
    pub sync_fails: bool,
    drift_ppm: i64,
    seed: u64,
    limits: Limits,
    log: Disk,
    engines: Engines,
    files: TempDir,
    life: u64,
    /// Where its log began when it last started.
    first_index: u64,
    /// Until when the disk takes no writes, in nanoseconds of virtual time.
    stalled_until: Arc<AtomicU64>,
    power: Arc<Power>,
    truth: Truth,
    running: Option<Life>,
    /// Whether it has stopped, if it was told to.
    stops: Option<Arc<AtomicBool>>,
}

/// Whether the power goes in the middle of a write.
#[derive(Default)]
struct Power {
    /// At the next write.
    fails: AtomicBool,
    /// It has gone: nothing of the member runs any more.
    is_gone: AtomicBool,
}

impl Power {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}

/// A running member.
#[derive(Clone)]
pub struct Life {
    /// The member.
    pub member: Member<Simulated>,
    /// Its tasks.
    pub tasks: Arc<Tasks>,
}

impl Node {
    /// An empty disk, and a clock that runs fast by so many parts per million.
    pub fn new(id: u64, seed: u64, drift_ppm: i64, lying_disk: bool, truth: Truth) -> Result<Node> {
        // The pointer file's syncs cost real time: not on a memory file system.
        let shm = Path::new("/dev/shm");
        let files = if shm.is_dir() {
            TempDir::new_in(shm)
        } else {
            TempDir::new()
        }
        .context("a temporary directory")?;
        Ok(Node {
            id,
            sync_fails: false,
            drift_ppm,
            seed,
            limits: Limits::of(seed),
            log: Disk::new(lying_disk),
            engines: Engines {
                member: id,
                truth: truth.clone(),
                open: Arc::default(),
            },
            files,
            life: 0,
            first_index: 0,
            stalled_until: Arc::default(),
            power: Arc::default(),
            truth,
            running: None,
            stops: None,
        })
    }

    /// The member, if it is up.
    pub fn running(&self) -> Option<&Life> {
        self.running.as_ref()
    }

    /// Starts the member on what is on the disk; a founder knows the first membership.
    pub async fn start(&mut self, found: Option<Membership>, net: &Net) -> Result<Life> {
        assert!(
            self.running.is_none(),
            "a member that runs is not started again"
        );
        self.life += 1;
        let tasks = Tasks::new(self.seed ^ self.life, self.drift_ppm);
        let (log, opened) =
            RaftLog::open(self.log.clone(), self.limits.log.clone()).context("the raft log")?;
        self.truth.starts(self.id, log.vote(), log.last());
        if opened.cut.is_some() {
            self.truth.count(Kind::TornTail);
        }
        if log.first_index() > self.first_index {
            self.truth.count(Kind::LogPurged);
        }
        self.first_index = log.first_index();
        let engines = self.engines.clone();
        let config = Config::<Simulated> {
            id: MemberId(self.id),
            cluster_id: CLUSTER,
            found,
            timing: Timing {
                heartbeat: Duration::from_millis(100),
                election: Duration::from_millis(1_000),
            },
            log: log.clone(),
            state_dir: StateDir::open(self.files.path()).context("the state's directory")?,
            open_engine: Arc::new(move |dir| engines.open(dir)),
            store: keelson_store::Options {
                cache_bytes: self.limits.cache_bytes,
            },
            watch: self.limits.watch(self.id, self.seed),
            net: net.of(self.id),
            apply_on: ApplyOn::Caller,
            max_request_bytes: 2 << 20,
            upkeep: self.limits.upkeep,
            quota_bytes: 0,
            max_learners: 1,
            strict_reconfig: true,
        };
        let thread = LogThread {
            member: self.id,
            log,
            disk: self.log.clone(),
            tasks: tasks.clone(),
            rng: StdRng::seed_from_u64(self.seed.rotate_left(17) ^ self.life),
            stalled_until: self.stalled_until.clone(),
            power: self.power.clone(),
            truth: self.truth.clone(),
            seen: BTreeMap::new(),
        };
        drop(tasks.spawn(thread.run()));
        let member = tasks
            .spawn(Member::start(config))
            .await
            .context("the member died while starting")?;
        let member = member.with_context(|| format!("member {} does not start", self.id))?;
        drop(tasks.spawn(introduce(member.clone())));
        let told = member.clone();
        net.attach(self.id, tasks.clone(), member.desk(), move || {
            told.tell_removed()
        });
        let life = Life { member, tasks };
        self.running = Some(life.clone());
        Ok(life)
    }

    /// The process is told to stop, as by SIGTERM.
    pub fn tell_to_stop(&mut self) {
        let Some(life) = &self.running else { return };
        if self.stops.is_some() {
            return;
        }
        let has_stopped = Arc::new(AtomicBool::new(false));
        self.stops = Some(has_stopped.clone());
        let member = life.member.clone();
        drop(life.tasks.spawn(async move {
            member.stop().await;
            has_stopped.store(true, Ordering::Relaxed);
        }));
    }

    /// Whether it has, if it was told to.
    pub fn has_stopped(&self) -> Option<bool> {
        let stops = self.stops.as_ref()?;
        Some(stops.load(Ordering::Relaxed))
    }

    /// The machine loses power, or (with `seed` none) only the process is killed.
    pub fn crash(&mut self, net: &Net, power_loss: Option<u64>) {
        let Some(life) = self.running.take() else {
            return;
        };
        net.detach(self.id);
        life.tasks.kill();
        self.sync_fails = false;
        self.stops = None;
        let in_a_write = std::mem::take(&mut self.power).is_gone();
        self.log = match power_loss {
            // By every other disk, writes survive in their order.
            Some(seed) if in_a_write && seed % 2 == 0 => self.log.crash_in_last_write(seed),
            Some(seed) => self.log.crash(seed),
            None => {
                net.hang_up(self.id);
                self.log.kill()
            }
        };
        // The engine has no log of its own: either way it is back at its last flush.
        self.engines.crash();
    }

    /// The disk takes no writes for a while.
    pub fn stall(&self, until: Duration) {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.stalled_until.store(until, Ordering::Relaxed);
    }

    /// The power goes in the middle of the next write to the log.
    pub fn lose_power_in_a_write(&self) {
        self.power.fails.store(true, Ordering::Relaxed);
    }

    /// The power stays, after all.
    pub fn keep_power(&self) {
        self.power.fails.store(false, Ordering::Relaxed);
    }

    /// The power has gone so.
    pub fn is_without_power(&self) -> bool {
        self.power.is_gone()
    }

    /// The next sync of the log fails.
    pub fn fail_sync(&mut self) {
        self.sync_fails = true;
        self.log.fail_next_sync();
    }
}

/// Tells the cluster this member's name, as the process does: a member counts as started from then on.
async fn introduce(member: Member<Simulated>) {
    let id = member.id().0;
    let attributes = MemberAttributes {
        id,
        name: format!("member-{id}"),
        client_urls: Vec::new(),
    };
    let known = || {
        let known = member.reader().now().attributes();
        known.is_ok_and(|all| all.contains(&attributes))
    };
    if member.recovered().await.is_err() {
        return;
    }
    while !known() {
        let request = Some(command::Request::MemberAttributes(attributes.clone()));
        let command = Command {
            request,
            ..Command::default()
        };
        match member.propose(command).await {
            Err(Trouble::Stopped) => return,
            Ok(_) | Err(_) => Runtime::sleep(RETRY).await,
        }
    }
}

/// The thread that writes the log, as a task: everything that waits, one sync, then those who waited.
struct LogThread {
    member: u64,
    log: RaftLog<Disk>,
    disk: Disk,
    tasks: Arc<Tasks>,
    rng: StdRng,
    stalled_until: Arc<AtomicU64>,
    power: Arc<Power>,
    truth: Truth,
    /// The terms of the entries that the truth knows, by index.
    seen: BTreeMap<u64, u64>,
}

impl LogThread {
    async fn run(mut self) {
        if let Err(error) = self.tell() {
            self.unreadable(&error);
        }
        loop {
            std::future::poll_fn(|cx| self.log.poll_work(cx)).await;
            // A disk takes its time; what is queued meanwhile is synced with it.
            Runtime::sleep(Duration::from_micros(self.rng.random_range(100..1_200))).await;
            let stalled = Duration::from_nanos(self.stalled_until.load(Ordering::Relaxed));
            if stalled > now() {
                Runtime::sleep(stalled - now()).await;
            }
            if self.power.fails.load(Ordering::Relaxed) {
                return self.break_off();
            }
            while self.log.flush_queue_len() > 0 {
                let done = self.log.step();
                if self.log.failure().is_none()
                    && let Err(error) = self.tell()
                {
                    self.unreadable(&error);
                }
                done.run();
            }
        }
    }

    /// The machine loses power in the first write of a step, or just before it is synced: nobody is told anything.
    fn break_off(mut self) {
        // What the entries are is certain already: a torn one that is taken for whole is another.
        if let Err(error) = self.tell() {
            self.unreadable(&error);
        }
        self.disk.lose_power_after(self.rng.random_range(0..2));
        drop(self.log.step());
        self.power.is_gone.store(true, Ordering::Relaxed);
        self.tasks.kill();
    }

    /// Tells of the entries that were not on the disk before.
    fn tell(&mut self) -> Result<(), LogError> {
        let Some(last) = self.log.last() else {
            self.seen.clear();
            return Ok(());
        };
        let first = self.log.first_index();
        self.seen = self.seen.split_off(&first);
        // A truncation, and what came after it, show by their terms.
        let known = self.seen.len();
        while let Some((&index, &term)) = self.seen.last_key_value()
            && self.log.term_at(index) != Some(term)
        {
            self.truth.drops(self.member, index, term);
            self.seen.remove(&index);
        }
        if self.seen.len() < known {
            self.truth.count(Kind::LogReplaced);
        }
        let from = self
            .seen
            .last_key_value()
            .map_or(first, |(index, _)| index + 1);
        if from > last.index {
            return Ok(());
        }
        let mut prev = from
            .checked_sub(1)
            .and_then(|before| self.log.term_at(before));
        for (LogId { term, index, node }, payload) in
            self.log.read(from..last.index + 1, u64::MAX)?
        {
            self.truth
                .logged(self.member, prev, LogId { term, index, node }, &payload);
            self.seen.insert(index, term);
            prev = Some(term);
        }
        Ok(())
    }

    fn unreadable(&self, error: &LogError) {
        self.truth.contradiction(format!(
            "member {} cannot read its log: {error}",
            self.member
        ));
    }
}
