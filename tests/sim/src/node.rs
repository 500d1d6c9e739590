//! A member with its disk, which outlives it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use keelson_log::{Options as LogOptions, RaftLog};
use keelson_proto::commandpb::Membership;
use keelson_raft::{ApplyOn, Config, Member, Parts, StateDir, Timing, Upkeep};
use keelson_store::MemberId;
use keelson_store::engine::EngineError;
use keelson_store::memory::MemoryEngine;
use openraft::AsyncRuntime;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::disk::Disk;
use crate::net::{MemberNet, Net};
use crate::runtime::{Runtime, Tasks};

/// The id of every simulated cluster.
pub const CLUSTER: u64 = 0x51;

/// What a simulated member is made of.
pub struct Simulated;

impl Parts for Simulated {
    type Rt = Runtime;
    type Engine = MemoryEngine;
    type Dir = Disk;
    type Net = MemberNet;
}

/// The engines on a disk, by their directories.
#[derive(Clone, Default)]
struct Engines(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryEngine>>>>);

impl Engines {
    fn open(&self, dir: &Path) -> Result<Arc<MemoryEngine>, EngineError> {
        if let Some(engine) = self.0.lock().get(dir) {
            return Ok(engine.clone());
        }
        // A directory with files in it is a checkpoint, or a snapshot that was received.
        let has_files = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        let engine = Arc::new(if has_files {
            MemoryEngine::restore(dir)?
        } else {
            MemoryEngine::new()
        });
        self.0.lock().insert(dir.to_owned(), engine.clone());
        Ok(engine)
    }

    fn crash(&self) {
        for engine in self.0.lock().values() {
            engine.crash();
        }
    }
}

/// A disk and, unless it is down, the member that runs on it.
pub struct Node {
    /// The member's id.
    pub id: u64,
    log: Disk,
    engines: Engines,
    files: TempDir,
    life: u64,
    running: Option<Life>,
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
    /// An empty disk.
    pub fn new(id: u64, lying_disk: bool) -> Result<Node> {
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
            log: Disk::new(lying_disk),
            engines: Engines::default(),
            files,
            life: 0,
            running: None,
        })
    }

    /// The member, if it is up.
    pub fn running(&self) -> Option<&Life> {
        self.running.as_ref()
    }

    /// Starts the member on what is on the disk.
    pub async fn start(
        &mut self,
        seed: u64,
        drift_ppm: i64,
        found: Membership,
        net: &Net,
    ) -> Result<()> {
        assert!(
            self.running.is_none(),
            "a member that runs is not started again"
        );
        self.life += 1;
        let tasks = Tasks::new(seed ^ self.life, drift_ppm);
        let options = LogOptions {
            segment_bytes: 64 << 10,
            cache_bytes: 16 << 10,
            ..LogOptions::default()
        };
        let (log, _) = RaftLog::open(self.log.clone(), options).context("the raft log")?;
        let engines = self.engines.clone();
        let mut watch = keelson_watch::Options::new(CLUSTER, MemberId(self.id));
        watch.seed = seed;
        let config = Config::<Simulated> {
            id: MemberId(self.id),
            cluster_id: CLUSTER,
            found: Some(found),
            timing: Timing {
                heartbeat: Duration::from_millis(100),
                election: Duration::from_millis(1_000),
            },
            log: log.clone(),
            state_dir: StateDir::open(self.files.path()).context("the state's directory")?,
            open_engine: Arc::new(move |dir| engines.open(dir)),
            store: keelson_store::Options {
                cache_bytes: 64 << 10,
            },
            watch,
            net: net.of(self.id),
            apply_on: ApplyOn::Caller,
            max_request_bytes: 2 << 20,
            upkeep: Upkeep {
                flush_bytes: 8 << 10,
                flush_idle: Duration::from_millis(700),
                // Small, so that a member that was away for a while needs a snapshot.
                log_tail_bytes: 2 << 10,
            },
            quota_bytes: 0,
            max_learners: 1,
            strict_reconfig: true,
        };
        drop(tasks.spawn(write_log(
            log,
            StdRng::seed_from_u64(seed.rotate_left(17) ^ self.life),
        )));
        let member = tasks
            .spawn(Member::start(config))
            .await
            .context("the member died while starting")?;
        let member = member.with_context(|| format!("member {} does not start", self.id))?;
        net.attach(self.id, tasks.clone(), member.desk());
        self.running = Some(Life { member, tasks });
        Ok(())
    }

    /// The machine loses power, or (with `seed` none) only the process is killed.
    pub fn crash(&mut self, net: &Net, power_loss: Option<u64>) {
        let Some(life) = self.running.take() else {
            return;
        };
        net.detach(self.id);
        life.tasks.kill();
        self.log = match power_loss {
            Some(seed) => self.log.crash(seed),
            None => self.log.kill(),
        };
        // The engine has no log of its own: either way it is back at its last flush.
        self.engines.crash();
    }
}

/// The thread that writes the log, as a task: everything that waits, one sync, then those who waited.
async fn write_log(log: RaftLog<Disk>, mut rng: StdRng) {
    loop {
        Runtime::sleep(Duration::from_micros(rng.random_range(100..1_200))).await;
        while log.flush_queue_len() > 0 {
            log.step().run();
        }
    }
}
