//! One run: members are started, clients work, faults happen, all is healed, and what everybody saw is a history.

mod arena;
pub mod filler;
mod leader;
mod status;
mod target;
mod watcher;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use keelson_jepsen::history::{
    Call, Ending, HashKv, History, Lease, MemberIndex, Outcome, Range, Record, Reply, Revision,
    Run, Workload, prefix_end,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::nemesis::{self, Nemesis, Wires};
use crate::workload::{self, Session};

pub use arena::{Arena, Excuse, State};
pub use target::Target;
pub use watcher::{Interest, Watcher};
pub use world::{InForce, World};

/// A cluster that has nothing but to start is ready within this time; the machine may be busy.
const START_TIME: Duration = Duration::from_secs(60);
/// When all faults are over, everything has to work again within this time.
const RECOVERY_TIME: Duration = Duration::from_secs(90);
/// What one request of the recovery may take.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// A watch of everything has to come to the end within this time.
const CATCH_UP_TIME: Duration = Duration::from_secs(60);
/// Other watchers may be told that there is nothing more, or not: some servers do not say so to everybody.
const LAST_WORD_TIME: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// What to run.
pub struct Plan {
    pub run: Run,
    pub target: Target,
    pub workloads: Vec<Workload>,
    pub nemeses: Vec<Nemesis>,
    pub members: u32,
    pub time: Duration,
    /// Of each workload.
    pub clients: usize,
    /// Operations a second, of all clients together.
    pub rate: u32,
}

/// Runs it, with the history and the members' files in `dir`.
pub async fn run(plan: Plan, dir: &Path) -> anyhow::Result<History> {
    let mut seeds = StdRng::seed_from_u64(plan.run.seed);
    let world = World::begin(
        plan.run.clone(),
        plan.target.answers_progress,
        &dir.join("history.jsonl"),
    )?;
    let mut arena = Arena::new(
        Arc::clone(&world),
        plan.target.clone(),
        Wires::new(seeds.random()),
        plan.members,
        &dir.join("members"),
    )
    .await?;
    let faults = nemesis::plan(seeds.random(), &plan.nemeses, plan.time);
    let mut background = JoinSet::new();
    background.spawn(status::show(Arc::clone(&world), plan.time));
    start(&mut arena).await?;
    background.spawn(leader::look_out(Arc::clone(&world)));

    let (finish, finished) = watch::channel(None);
    let mut recorders = JoinSet::new();
    for member in arena.members() {
        let recorder = Watcher::recorder(&format!("recorder-{}", member.0));
        let home = Some(member);
        recorders.spawn(watcher::watch(
            Arc::clone(&world),
            recorder,
            home,
            seeds.random(),
            finished.clone(),
        ));
    }
    let mut watchers = JoinSet::new();
    let mut clients = JoinSet::new();
    let count = plan.workloads.len() * plan.clients;
    let interval = Duration::from_secs_f64(count as f64 / f64::from(plan.rate.max(1)));
    for workload in &plan.workloads {
        for watcher in workload::watchers(*workload) {
            watchers.spawn(watcher::watch(
                Arc::clone(&world),
                watcher,
                None,
                seeds.random(),
                finished.clone(),
            ));
        }
        let mut first = Session::new(Arc::clone(&world), *workload, 0, seeds.random(), interval);
        workload::prepare(&mut first).await;
        clients.spawn(workload::run(first));
        for index in 1..plan.clients {
            let world = Arc::clone(&world);
            let session = Session::new(world, *workload, index, seeds.random(), interval);
            clients.spawn(workload::run(session));
        }
    }
    drop(finished);

    world.working();
    nemesis::torment(&mut arena, faults, plan.time).await;
    world.stop();
    heal(&mut arena);
    // A client that is in the middle of a request gives up soon.
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")?;
    }
    match recover(&mut arena).await {
        Ok(()) => {
            let mut last = Vec::new();
            for workload in &plan.workloads {
                let world = Arc::clone(&world);
                last.push(Session::new(world, *workload, 0, seeds.random(), interval));
            }
            conclude(&mut arena, last, &finish, &mut recorders, &mut watchers).await;
        }
        Err(why) => arena.find(format!(
            "the cluster did not recover within {} s after the last fault was healed: {why}",
            RECOVERY_TIME.as_secs()
        )),
    }
    drop(finish);
    // Those that still watch record what they have.
    let goodbye = async {
        while recorders.join_next().await.is_some() {}
        while watchers.join_next().await.is_some() {}
    };
    let _ = tokio::time::timeout(LAST_WORD_TIME, goodbye).await;
    background.shutdown().await;
    arena.kill_all();
    Ok(world.finish()?)
}

async fn start(arena: &mut Arena) -> anyhow::Result<()> {
    let members = arena.members();
    for member in &members {
        arena.start(*member);
    }
    for member in members {
        if !arena.answers_within(member, START_TIME).await {
            bail!(
                "m{} did not begin to serve within {} s; its log:\n{}",
                member.0,
                START_TIME.as_secs(),
                arena.log(member)
            );
        }
    }
    Ok(())
}

/// Ends whatever fault there may be.
fn heal(arena: &mut Arena) {
    arena.wires.open_all();
    for member in arena.members() {
        arena.set_failpoints(member, "");
        arena.resume(member);
        arena.start(member);
    }
}

/// Waits until every member serves, and the cluster's members are those that we know.
async fn recover(arena: &mut Arena) -> Result<(), String> {
    let deadline = Instant::now() + RECOVERY_TIME;
    let mut why = "nobody answers".to_owned();
    while Instant::now() < deadline {
        arena.look_after();
        // Those that ended since they had to, come back.
        heal(arena);
        if let Err(error) = arena.reconcile(REQUEST_TIME).await {
            why = format!("the members cannot be listed and settled: {error}");
            continue;
        }
        let mut silent = None;
        for member in arena.members() {
            if !arena.answers(member).await {
                silent = Some(member);
                break;
            }
        }
        match silent {
            None => return Ok(()),
            Some(member) => why = format!("m{} does not serve", member.0),
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(why)
}

/// The last reads, the last events, and what every member holds.
async fn conclude(
    arena: &mut Arena,
    last: Vec<Session>,
    finish: &watch::Sender<Option<Revision>>,
    recorders: &mut JoinSet<()>,
    watchers: &mut JoinSet<()>,
) {
    end_leases(arena).await;
    for mut session in last {
        workload::finish(&mut session).await;
    }
    let newest = Call::Range(Range {
        key: "any".into(),
        ..Range::default()
    });
    let revision = match arena.ask_any(newest, REQUEST_TIME).await {
        Ok(operation) => match operation.outcome {
            Outcome::Done { header, .. } => header.revision,
            _ => return,
        },
        Err(why) => return arena.find(format!("no read at the end succeeded: {why}")),
    };
    finish.send_replace(Some(revision));
    let all = async { while recorders.join_next().await.is_some() {} };
    if tokio::time::timeout(CATCH_UP_TIME, all).await.is_err() {
        arena.find(format!(
            "a watch of everything came to revision {} of {} only, {} s after the last write",
            arena.world.recorded().0,
            revision.0,
            CATCH_UP_TIME.as_secs()
        ));
    }
    let all = async { while watchers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_WORD_TIME, all).await;
    endings(arena, revision).await;
}

/// Revokes all leases, so that nothing changes any more.
async fn end_leases(arena: &mut Arena) {
    loop {
        let list = Call::Lease(Lease::List);
        let leases = match arena.ask_any(list, REQUEST_TIME).await {
            Ok(operation) => match operation.outcome {
                Outcome::Done {
                    reply: Reply::Leases(leases),
                    ..
                } => leases,
                _ => return,
            },
            Err(why) => return arena.find(format!("leases cannot be listed at the end: {why}")),
        };
        if leases.is_empty() {
            return;
        }
        for id in leases {
            // One that is refused has expired meanwhile.
            if let Some(member) = arena.up().first() {
                arena.ask(*member, Call::Lease(Lease::Revoke { id })).await;
            }
        }
    }
}

/// What every member holds at a revision.
async fn endings(arena: &mut Arena, revision: Revision) {
    let deadline = Instant::now() + CATCH_UP_TIME;
    loop {
        let mut endings = Vec::new();
        let mut why = String::new();
        for member in arena.members() {
            match ending(arena, member, revision).await {
                Ok(ending) => endings.push(ending),
                Err(error) => why = format!("m{}: {error}", member.0),
            }
        }
        let complete = endings.len() == arena.members().len();
        let compacted = |ending: &Ending| ending.hash.compact_revision;
        // A compaction that was done on one member only is done on the others soon; the hashes are told apart by it.
        let comparable = endings
            .first()
            .is_some_and(|first| endings.iter().all(|e| compacted(e) == compacted(first)));
        if (complete && comparable) || Instant::now() >= deadline {
            if !complete {
                arena.find(format!(
                    "a member does not tell what it holds at the end: {why}"
                ));
            }
            for ending in endings {
                arena.world.record(Record::Ending(ending));
            }
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ending(arena: &Arena, member: MemberIndex, revision: Revision) -> Result<Ending, String> {
    let everything = Call::Range(Range {
        key: "\0".into(),
        range_end: prefix_end(b""),
        revision,
        serializable: true,
        ..Range::default()
    });
    let hash = Call::HashKv(HashKv { revision });
    let unreachable = || "it cannot be reached".to_owned();
    let hashed = arena.ask(member, hash).await.ok_or_else(unreachable)?;
    let Outcome::Done {
        reply: Reply::Hash(hash),
        ..
    } = hashed.outcome
    else {
        return Err(format!("{:?}", hashed.outcome));
    };
    let read = arena
        .ask(member, everything)
        .await
        .ok_or_else(unreachable)?;
    let Outcome::Done {
        reply: Reply::Range { kvs, .. },
        ..
    } = read.outcome
    else {
        return Err(format!("{:?}", read.outcome));
    };
    Ok(Ending {
        member,
        revision,
        hash,
        kvs,
    })
}
