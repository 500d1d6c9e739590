//! One run of a seed: a cluster in use, under faults; then peace, in which it must make progress and agree; then every
//! answer is checked.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_raft::Member;
use openraft::AsyncRuntime;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::checks::watches::Record;
use crate::checks::{answers, leases, watches};
use crate::cluster::{Cluster, FOUNDERS, branch};
use crate::faults::Faults;
use crate::history::History;
use crate::net::LATEST;
use crate::node::Simulated;
use crate::operation::{Keys, Operation, Told};
use crate::runtime::{Runtime, first_panic, now, take_panics};
use crate::tally::Tally;
use crate::truth::Truth;
use crate::workload::{Site, client, holder, operator, watcher};

/// How often the machines are looked after.
const TICK: Duration = Duration::from_millis(50);
/// After the last fault, everything that must happen in peace has happened within this.
const LIVENESS: Duration = Duration::from_secs(60);
/// Lease holders.
const HOLDERS: usize = 2;
/// Watchers.
const WATCHERS: usize = 3;
/// The first of those who use the cluster at the end.
const FINAL_CLIENT: usize = 900;
/// A run that has not reached its floors is given so many times its duration.
const PATIENCE: u32 = 4;

/// How large a run is, at least.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Virtual time with faults.
    pub duration: Duration,
    /// Operations that are answered.
    pub operations: usize,
    /// Faults.
    pub faults: usize,
    /// Clients that write and read.
    pub clients: usize,
    /// Disks that say that they have synced, and have not: to see that this is found.
    pub lying_disks: bool,
}

impl Default for Size {
    fn default() -> Size {
        Size {
            duration: Duration::from_secs(60),
            operations: 2_000,
            faults: 10,
            clients: 6,
            lying_disks: false,
        }
    }
}

/// What a run was.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Operations that were answered.
    pub answered: usize,
    /// Operations whose outcome the client does not know.
    pub unknown: usize,
    /// How many faults there were.
    pub faults: usize,
    /// Members that there ever were.
    pub members: usize,
    /// Events that watchers were given.
    pub events: usize,
    /// The store's revision at the end.
    pub revision: i64,
    /// Virtual time in all, and until everything was in order after the last fault.
    pub lasted: Duration,
    /// How long that took.
    pub peace: Duration,
    /// What every watch met.
    pub watches: Vec<Record>,
    /// How often what has happened.
    pub tally: Tally,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered, {} unknown, {} faults, {} members, {} events watched, revision {}, {:.0} s, at peace after \
             {:.1} s",
            self.answered,
            self.unknown,
            self.faults,
            self.members,
            self.events,
            self.revision,
            self.lasted.as_secs_f64(),
            self.peace.as_secs_f64()
        )
    }
}

/// A run with all that is known of it.
pub struct Run {
    /// What it was, or what contradicts what.
    pub result: Result<Report>,
    /// Faults, changes of the membership, leaders: everything but the operations, in order.
    pub journal: Vec<(Duration, String)>,
    /// Every operation.
    pub operations: Vec<Operation>,
    /// The scheduler's decisions, if they were asked for.
    pub schedule: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64, size: Size) -> Run {
    run_recorded(seed, size, false)
}

/// Runs a seed, and also records the scheduler's decisions.
pub fn run_recorded(seed: u64, size: Size, record: bool) -> Run {
    take_panics();
    let mut runtime = Runtime::with_seed(seed);
    if record {
        runtime.record_trace();
    }
    let site = Site::new(Truth::default());
    let result = runtime.block_on(async { World::new(seed, size, site.clone())?.run().await });
    let schedule = runtime.take_trace();
    drop(runtime);
    let panics = take_panics();
    let result = result.and_then(|report| match panics.first() {
        Some(first) => bail!("{} panics, the first: {first}", panics.len()),
        None => Ok(report),
    });
    Run {
        result,
        journal: site.journal(),
        operations: site.operations(),
        schedule,
    }
}

struct World {
    size: Size,
    site: Site,
    rng: StdRng,
    cluster: Cluster,
    faults: Faults,
}

impl World {
    fn new(seed: u64, size: Size, site: Site) -> Result<World> {
        let mut rng = StdRng::seed_from_u64(seed);
        Ok(World {
            size,
            cluster: Cluster::new(branch(&mut rng), site.clone(), size.lying_disks)?,
            faults: Faults::new(branch(&mut rng)),
            site,
            rng,
        })
    }

    async fn run(mut self) -> Result<Report> {
        self.cluster.tick().await?;
        self.open();
        while !self.is_enough() {
            ensure!(
                now() < self.size.duration * PATIENCE,
                "only {} operations and {} faults in {:?}",
                self.site.answered(),
                self.faults.count,
                now()
            );
            self.tick().await?;
            if let Some(fault) = self.faults.tick(&mut self.cluster) {
                self.site.note(fault);
            }
        }
        let since = now();
        self.peace(since).await?;
        let peace = now() - since;
        let report = self.check(peace)?;
        self.cluster.stop();
        Ok(report)
    }

    /// The users begin.
    fn open(&mut self) {
        let site = self.site.clone();
        let mut clients = 0..;
        let mut client = || clients.next().unwrap_or(usize::MAX);
        let rng = &mut self.rng;
        for _ in 0..self.size.clients {
            site.work(client::run(site.clone(), client(), branch(rng)));
        }
        site.work(client::compact(site.clone(), client(), branch(rng)));
        for _ in 0..HOLDERS {
            site.work(holder::run(site.clone(), client(), branch(rng)));
        }
        site.work(operator::run(site.clone(), branch(rng), FOUNDERS + 1));
        for _ in 0..WATCHERS {
            site.watch(watcher::run(site.clone(), branch(rng)));
        }
    }

    fn is_enough(&self) -> bool {
        now() >= self.size.duration
            && self.faults.count >= self.size.faults
            && self.site.answered() >= self.size.operations
    }

    async fn tick(&mut self) -> Result<()> {
        Runtime::sleep(TICK).await;
        for id in self.site.take_doomed() {
            self.cluster.destroy(id);
        }
        self.cluster.tick().await?;
        if let Some(contradiction) = self.site.truth.found() {
            bail!(contradiction);
        }
        if let Some(panic) = first_panic() {
            bail!("a task panicked: {panic}");
        }
        Ok(())
    }

    /// Waits, tick by tick, until a condition holds.
    async fn until(
        &mut self,
        deadline: Duration,
        what: &str,
        holds: impl Fn(&World) -> Result<(), String>,
    ) -> Result<()> {
        loop {
            let Err(why) = holds(self) else {
                return Ok(());
            };
            ensure!(
                now() < deadline,
                "no progress: {LIVENESS:?} after the last fault, {what}: {why}"
            );
            self.tick().await?;
        }
    }

    /// Faults are over: whatever was begun comes to its end, every member makes progress, and all agree.
    async fn peace(&mut self, since: Duration) -> Result<()> {
        let deadline = since + LIVENESS;
        self.site.note("peace");
        self.cluster.heal();
        self.site.close();
        let nobody_works = |world: &World| match world.site.working() {
            0 => Ok(()),
            working => Err(format!("{working} have not")),
        };
        self.until(deadline, "users must have finished", nobody_works)
            .await?;
        self.until(
            deadline,
            "the membership must be settled",
            World::is_settled,
        )
        .await?;
        for (client, id) in (FINAL_CLIENT..).zip(self.cluster.members()) {
            let rng = branch(&mut self.rng);
            self.site
                .work(client::prove(self.site.clone(), client, id, rng));
        }
        self.until(deadline, "every member must write and read", nobody_works)
            .await?;
        // What a client has given up may still arrive, and be a grant that nobody knows of.
        let last_arrival = since + LATEST + Duration::from_secs(1);
        self.until(deadline, "the last messages must have come", |_| {
            if now() > last_arrival {
                Ok(())
            } else {
                Err("they have not".into())
            }
        })
        .await?;
        self.until(deadline, "leases must have run out", |world| {
            match world.leases()? {
                0 => Ok(()),
                left => Err(format!("{left} have not")),
            }
        })
        .await?;
        self.until(deadline, "all must have applied the same", World::is_even)
            .await?;
        // Nobody is left who could write.
        let revision = self.a_member()?.reader().now().revision.0;
        self.site.set_last_revision(revision);
        self.until(
            deadline,
            "watchers must have seen everything",
            |world| match world.site.watching() {
                0 => Ok(()),
                watching => Err(format!("{watching} have not")),
            },
        )
        .await
    }

    fn a_member(&self) -> Result<Member<Simulated>> {
        let lives = self.lives().map_err(anyhow::Error::msg)?;
        let life = lives.into_iter().next().context("a cluster has members")?;
        Ok(life)
    }

    /// The members of the newest membership, all of which run.
    fn lives(&self) -> Result<Vec<Member<Simulated>>, String> {
        let life = |id: u64| {
            let life = self.cluster.life(id);
            life.map(|life| life.member.clone())
                .ok_or_else(|| format!("member {id} does not run"))
        };
        self.cluster.members().into_iter().map(life).collect()
    }

    /// No change of the membership is half made, all members run, and who is none any more knows it.
    fn is_settled(&self) -> Result<(), String> {
        let membership = self.site.truth.membership();
        if membership.configs.len() != 1 || membership.nodes.iter().any(|node| node.pending_voter) {
            return Err(format!("it is half made: {membership:?}"));
        }
        self.lives()?;
        let members = self.cluster.members();
        for id in self.cluster.ids() {
            let Some(life) = self.cluster.life(id) else {
                continue;
            };
            // One that has never heard of a member of today has nobody to ask.
            let known = life.member.membership().nodes;
            let can_ask = known
                .iter()
                .any(|node| node.id != id && members.contains(&node.id));
            if !members.contains(&id) && can_ask && !life.member.removed() {
                return Err(format!("member {id} does not know that it was removed"));
            }
        }
        Ok(())
    }

    /// How many leases there are, at the member that has the most.
    fn leases(&self) -> Result<usize, String> {
        let mut most = 0;
        for member in self.lives()? {
            let leases = member.reader().now().leases();
            most = most.max(leases.map_err(|error| error.to_string())?.len());
        }
        Ok(most)
    }

    /// All members have applied everything.
    fn is_even(&self) -> Result<(), String> {
        let lives = self.lives()?;
        let indexes: Vec<(u64, u64)> = lives
            .iter()
            .map(|member| (member.reader().now().applied.0, member.status().last_index))
            .collect();
        let first = indexes.first().map_or(0, |(applied, _)| *applied);
        let even = indexes
            .iter()
            .all(|(applied, last)| *applied == first && *last == first);
        even.then_some(())
            .ok_or_else(|| format!("applied and last indexes are {indexes:?}"))
    }

    /// Everything that anybody was told fits what has really happened.
    fn check(&self, peace: Duration) -> Result<Report> {
        let history = History::of(&self.site.truth.events()).map_err(anyhow::Error::msg)?;
        self.check_state(&history)?;
        let committed = self.site.truth.committed();
        let operations = self.site.operations();
        answers::check(&operations, &history, &committed).map_err(anyhow::Error::msg)?;
        leases::check(&operations, &committed).map_err(anyhow::Error::msg)?;
        let watches = self.site.watches();
        for record in &watches {
            watches::check(record, history.revision(), &history, &committed)
                .map_err(anyhow::Error::msg)?;
        }
        let unknown = operations
            .iter()
            .filter(|operation| operation.told == Told::Unknown)
            .count();
        let mut tally = self.site.truth.tally();
        tally.add_uses(&operations, &committed, &watches);
        let report = Report {
            answered: operations.len() - unknown,
            unknown,
            faults: self.faults.count,
            members: self.cluster.ever(),
            events: watches.iter().map(Record::events).sum(),
            revision: history.revision(),
            lasted: now(),
            peace,
            watches,
            tally,
        };
        // What is less proves less.
        ensure!(
            report.lasted >= self.size.duration
                && report.answered >= self.size.operations
                && report.faults >= self.size.faults,
            "the run is too small: {report}"
        );
        Ok(report)
    }

    /// The members hold the same data, which is what the history comes to.
    fn check_state(&self, history: &History) -> Result<()> {
        let everything = Keys {
            from: "a".into(),
            to: Some("z".into()),
        };
        let expected = history.at(&everything, history.revision());
        let range = RangeRequest {
            key: everything.from.clone().into(),
            range_end: everything.end().into(),
            ..Default::default()
        };
        let mut hashes = Vec::new();
        for member in self.lives().map_err(anyhow::Error::msg)? {
            let view = member.reader().now();
            let found = view.range(&range)?.kvs;
            ensure!(
                found == expected && view.revision.0 == history.revision(),
                "member {} holds {found:?} at revision {}, and the history comes to {expected:?} at {}",
                member.id(),
                view.revision,
                history.revision()
            );
            hashes.push((member.id(), view.hash_kv(None)?));
        }
        ensure!(
            hashes.windows(2).all(|pair| pair[0].1 == pair[1].1),
            "members hold different data: {hashes:?}"
        );
        Ok(())
    }
}
