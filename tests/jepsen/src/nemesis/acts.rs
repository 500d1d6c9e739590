//! The faults themselves: whom they hit, and what they do.

use std::sync::Arc;
use std::time::Duration;

use keelson_jepsen::history::{Call, ClientId, Compact, MemberIndex, Operation, Outcome, Workload};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::catalogue::{Failure, Kind, Nemesis, Shape, Whom};
use super::proxy::{Cut, Link};
use super::{Undo, damage, membership, segment};
use crate::run::{Arena, Excuse, InForce, State, World, filler};

/// A member that starts has so long to answer before a rolling restart goes on without it.
const START_TIME: Duration = Duration::from_secs(5);
/// Megabytes. A member drops what it does not need of its log when that is twice as long as what it keeps, 128 MiB by
/// default, and only what its last flush but one has made superfluous.
const FILL_VALUES_MAX: usize = 320;
/// A disk that does not take them within this time has other things to do.
const FILL_TIME: Duration = Duration::from_secs(15);
const FILL_AT_A_TIME: usize = 8;
/// Between two moves of the leadership.
const BETWEEN_MOVES: Duration = Duration::from_millis(150);
/// A move that takes longer is not waited for: a member may be gone.
const MOVE_PATIENCE: Duration = Duration::from_secs(2);

/// Does it. What lasts is given back with what ends it; what is over, or could not be done, is not.
pub(super) async fn act(
    arena: &mut Arena,
    nemesis: Nemesis,
    random: &mut StdRng,
    end: Instant,
) -> Option<(InForce, Undo)> {
    match nemesis.kind {
        Kind::Kill(whom) => kill(arena, nemesis.name, whom, random),
        Kind::Pause(whom) => pause(arena, nemesis.name, whom, random),
        Kind::Partition(shape) => partition(arena, nemesis.name, shape, random),
        Kind::SlowLinks => slow_links(arena, nemesis.name, random),
        Kind::LossyLinks => lossy_links(arena, nemesis.name, random),
        Kind::Failpoint(failure) => fail(arena, nemesis.name, failure, random),
        Kind::TornLog => damage::tear(arena, nemesis.name, random),
        Kind::CorruptLog => {
            damage::corrupt(arena, nemesis.name, random).await;
            None
        }
        Kind::Compaction => {
            compact(arena, nemesis.name, random).await;
            None
        }
        Kind::Snapshot => {
            snapshot(arena, nemesis.name, random).await;
            None
        }
        Kind::InstallSnapshot => {
            install_snapshot(arena, nemesis.name, random, end).await;
            None
        }
        Kind::TransferLeader => Some(transfer_leader(arena, nemesis.name, random)),
        Kind::RollingRestart => {
            rolling_restart(arena, nemesis.name, random, end).await;
            None
        }
        Kind::AddMember => {
            membership::add(arena, nemesis.name).await;
            None
        }
        Kind::AddLearner => {
            membership::add_learner(arena, nemesis.name).await;
            None
        }
        Kind::RemoveMember => {
            membership::remove(arena, nemesis.name, random).await;
            None
        }
        Kind::ReplaceMember => {
            membership::replace(arena, nemesis.name, random).await;
            None
        }
    }
}

/// Some of the members that run.
fn victims(arena: &Arena, whom: Whom, random: &mut StdRng) -> Vec<MemberIndex> {
    let mut up = arena.up();
    up.shuffle(random);
    let leader = arena.world.leader().filter(|leader| up.contains(leader));
    match whom {
        Whom::One => up.truncate(1),
        Whom::Leader => up = leader.or(up.first().copied()).into_iter().collect(),
        Whom::Minority => up.truncate((arena.members().len() - 1) / 2),
        Whom::All => {}
    }
    up
}

fn kill(arena: &mut Arena, name: &str, whom: Whom, random: &mut StdRng) -> Option<(InForce, Undo)> {
    let victims = victims(arena, whom, random);
    if victims.is_empty() {
        return None;
    }
    let record = arena
        .world
        .fault_begins(name, victims.clone(), String::new());
    for victim in &victims {
        arena.kill(*victim);
    }
    let undo = Undo {
        start: victims,
        ..Undo::default()
    };
    Some((record, undo))
}

fn pause(
    arena: &mut Arena,
    name: &str,
    whom: Whom,
    random: &mut StdRng,
) -> Option<(InForce, Undo)> {
    let victims = victims(arena, whom, random);
    if victims.is_empty() {
        return None;
    }
    let record = arena
        .world
        .fault_begins(name, victims.clone(), String::new());
    for victim in &victims {
        arena.pause(*victim);
    }
    let undo = Undo {
        resume: victims,
        ..Undo::default()
    };
    Some((record, undo))
}

fn partition(
    arena: &mut Arena,
    name: &str,
    shape: Shape,
    random: &mut StdRng,
) -> Option<(InForce, Undo)> {
    let mut members = arena.members();
    if members.len() < 2 {
        return None;
    }
    members.shuffle(random);
    let mut cut: Vec<(MemberIndex, MemberIndex)> = Vec::new();
    let mut both = |a: MemberIndex, b: MemberIndex| cut.extend([(a, b), (b, a)]);
    let (hit, detail) = match shape {
        Shape::Halves => {
            let (one, other) = members.split_at(members.len() / 2);
            for a in one {
                for b in other {
                    both(*a, *b);
                }
            }
            (one.to_vec(), format!("{} | {}", names(one), names(other)))
        }
        Shape::Leader => {
            let leader = arena
                .world
                .leader()
                .filter(|leader| members.contains(leader));
            let alone = leader.unwrap_or(members[0]);
            for other in members.iter().filter(|other| **other != alone) {
                both(alone, *other);
            }
            (vec![alone], format!("m{} alone", alone.0))
        }
        Shape::Ring => {
            let count = members.len();
            for a in 0..count {
                for b in a + 1..count {
                    let neighbours = b - a == 1 || b - a == count - 1;
                    if !neighbours {
                        both(members[a], members[b]);
                    }
                }
            }
            // Of three, all are neighbours: each hears only the one before it.
            if count == 3 {
                cut = (0..3).map(|a| (members[a], members[(a + 1) % 3])).collect();
            }
            let detail = format!("ring of {}", names(&members));
            (members, detail)
        }
        Shape::OneWay => {
            let (one, others) = members.split_first()?;
            let count = random.random_range(1..=others.len());
            let others = &others[..count];
            cut = others.iter().map(|other| (*one, *other)).collect();
            (
                vec![*one],
                format!("m{} is not heard by {}", one.0, names(others)),
            )
        }
    };
    if cut.is_empty() {
        return None;
    }
    // Half of the time the network swallows what is sent and delivers it when it heals; in the other half it refuses.
    let one_way = shape == Shape::OneWay || (shape == Shape::Ring && hit.len() == 3);
    let how = if one_way || random.random() {
        Cut::Held
    } else {
        Cut::Broken
    };
    let word = if how == Cut::Held { "held" } else { "refused" };
    let record = arena
        .world
        .fault_begins(name, hit, format!("{detail}, {word}"));
    for (from, to) in &cut {
        let link = Link {
            cut: how,
            ..Link::default()
        };
        arena.wires.set(from.0 as usize, to.0 as usize, link);
    }
    let undo = Undo {
        open: cut,
        ..Undo::default()
    };
    Some((record, undo))
}

fn names(members: &[MemberIndex]) -> String {
    let names: Vec<String> = members
        .iter()
        .map(|member| format!("m{}", member.0))
        .collect();
    names.join(" ")
}

fn slow_links(arena: &mut Arena, name: &str, random: &mut StdRng) -> Option<(InForce, Undo)> {
    let link = Link {
        delay: Duration::from_millis(random.random_range(5..250)),
        jitter: Duration::from_millis(random.random_range(1..250)),
        ..Link::default()
    };
    let detail = format!(
        "{} to {} ms",
        link.delay.as_millis(),
        (link.delay + link.jitter).as_millis()
    );
    set_some_links(arena, name, link, detail, random)
}

fn lossy_links(arena: &mut Arena, name: &str, random: &mut StdRng) -> Option<(InForce, Undo)> {
    let link = Link {
        loss: random.random_range(0.02..0.3),
        reset: random.random_range(0.0..0.02),
        ..Link::default()
    };
    let detail = format!(
        "{:.0} % lost, {:.1} % break the connection",
        link.loss * 100.0,
        link.reset * 100.0
    );
    set_some_links(arena, name, link, detail, random)
}

/// Sets all links, or those of one member.
fn set_some_links(
    arena: &mut Arena,
    name: &str,
    link: Link,
    detail: String,
    random: &mut StdRng,
) -> Option<(InForce, Undo)> {
    let members = arena.members();
    let one = *members.choose(random)?;
    let hit = if random.random() {
        vec![one]
    } else {
        members.clone()
    };
    let mut set = Vec::new();
    for from in &members {
        for to in members.iter().filter(|to| *to != from) {
            if hit.contains(from) || hit.contains(to) {
                set.push((*from, *to));
                arena.wires.set(from.0 as usize, to.0 as usize, link);
            }
        }
    }
    let record = arena.world.fault_begins(name, hit, detail);
    let undo = Undo {
        open: set,
        ..Undo::default()
    };
    Some((record, undo))
}

fn fail(
    arena: &mut Arena,
    name: &str,
    failure: Failure,
    random: &mut StdRng,
) -> Option<(InForce, Undo)> {
    let mut up = arena.up();
    up.retain(|member| !arena.has_failpoints(*member));
    let victim = *up.choose(random)?;
    let what = match failure {
        Failure::FailingSync => "fsync=fail".to_owned(),
        Failure::SlowSync => format!("fsync=delay:{}", random.random_range(500..4000)),
        Failure::FullDisk => "write=enospc".to_owned(),
        Failure::Clock => {
            let limit = *[500, 5_000, 60_000].choose(random)?;
            let offset: i64 = random.random_range(-limit..=limit);
            format!("clock={offset:+}")
        }
    };
    let record = arena.world.fault_begins(name, vec![victim], what.clone());
    // A member whose disk fails has to stop; so it may.
    let stops = matches!(failure, Failure::FailingSync | Failure::FullDisk);
    if stops {
        arena.excuse(victim, Excuse::Broken);
    }
    arena.set_failpoints(victim, &what);
    let undo = Undo {
        repair: vec![victim],
        start: if stops { vec![victim] } else { Vec::new() },
        ..Undo::default()
    };
    Some((record, undo))
}

async fn compact(arena: &mut Arena, name: &str, random: &mut StdRng) {
    let revision = arena.world.recorded();
    let physical = random.random();
    let detail = format!("to {}", revision.0);
    let record = arena.world.fault_begins(name, Vec::new(), detail);
    if let Some(member) = arena.up().choose(random) {
        let call = Call::Compact(Compact { revision, physical });
        arena.ask(*member, call).await;
    }
    arena.world.fault_ends(record);
}

async fn snapshot(arena: &mut Arena, name: &str, random: &mut StdRng) {
    let Some(member) = arena.up().choose(random).copied() else {
        return;
    };
    let whole = random.random();
    let detail = if whole { "whole" } else { "cut short" };
    let record = arena
        .world
        .fault_begins(name, vec![member], detail.to_owned());
    if let Some(Ok(connection)) = arena.world.connect(member).await {
        // Whether they succeed is not what matters: the cluster has to bear it.
        let _ = connection.back_up(whole).await;
        let _ = connection.defragment().await;
    }
    arena.world.fault_ends(record);
}

/// Writes more than members keep of their logs while one of them is down.
async fn install_snapshot(arena: &mut Arena, name: &str, random: &mut StdRng, end: Instant) {
    if !arena.may_fill() || !all_up(arena) || arena.members().len() < 3 {
        return;
    }
    let Some(away) = arena.up().choose(random).copied() else {
        return;
    };
    let record = arena.world.fault_begins(name, vec![away], String::new());
    arena.kill(away);
    let others = arena.up();
    let segments = |member: &MemberIndex| segment::numbers(&arena.log_dir(*member));
    let newest = others.iter().flat_map(segments).max();
    let mut written = 0;
    let end = end.min(Instant::now() + FILL_TIME);
    while written < FILL_VALUES_MAX && Instant::now() < end {
        let oldest = others.iter().flat_map(segments).min();
        if oldest > newest {
            break;
        }
        written += fill(arena, random).await;
    }
    arena.start(away);
    arena.answers_within(away, START_TIME).await;
    arena.world.fault_ends(record);
}

/// Writes a few values at a time, as one client after another would not be fast enough. Gives how many were acknowledged.
async fn fill(arena: &Arena, random: &mut StdRng) -> usize {
    let members = arena.up();
    let leader = arena.world.leader().filter(|leader| arena.is_up(*leader));
    let Some(member) = leader.or_else(|| members.choose(random).copied()) else {
        return 0;
    };
    let Some(Ok(connection)) = arena.world.connect(member).await else {
        tokio::time::sleep(BETWEEN_MOVES).await;
        return 0;
    };
    let puts = (0..FILL_AT_A_TIME).map(|_| filler::put(&arena.world, arena.client(), &connection));
    let done = |put: &Operation| matches!(put.outcome, Outcome::Done { .. });
    let puts = futures::future::join_all(puts).await;
    puts.iter().filter(|put| done(put)).count()
}

/// Moves the leadership again and again, until it is told to stop.
fn transfer_leader(arena: &Arena, name: &str, random: &mut StdRng) -> (InForce, Undo) {
    let record = arena.world.fault_begins(name, Vec::new(), String::new());
    let world = Arc::clone(&arena.world);
    let client = arena.client();
    let mut random = StdRng::seed_from_u64(random.random());
    let storm = tokio::spawn(async move {
        loop {
            move_leader(&world, client, &mut random).await;
            tokio::time::sleep(BETWEEN_MOVES).await;
        }
    });
    let undo = Undo {
        task: Some(storm.abort_handle()),
        ..Undo::default()
    };
    (record, undo)
}

/// Asks the leader to hand over to any other member.
async fn move_leader(world: &World, client: ClientId, random: &mut StdRng) -> Option<()> {
    let leader = world.leader()?;
    let mut others = world.member_ids();
    let members = world.members();
    others.retain(|_, member| *member != leader && members.contains(member));
    let ids: Vec<u64> = others.keys().copied().collect();
    let target = *ids.choose(random)?;
    let connection = world.connect(leader).await?.ok()?;
    let moved = world
        .operate(
            Workload::Runner,
            client,
            &connection,
            Call::MoveLeader { target },
            MOVE_PATIENCE,
        )
        .await;
    if matches!(moved.outcome, Outcome::Done { .. }) {
        // So that the next move is asked of the right one.
        world.leader_moved(others.get(&target).copied());
    }
    Some(())
}

async fn rolling_restart(arena: &mut Arena, name: &str, random: &mut StdRng, end: Instant) {
    let mut members = arena.up();
    members.shuffle(random);
    let record = arena
        .world
        .fault_begins(name, members.clone(), String::new());
    for member in members {
        if !arena.is_up(member) || Instant::now() >= end {
            continue;
        }
        arena.terminate(member).await;
        arena.start(member);
        arena.answers_within(member, START_TIME).await;
    }
    arena.world.fault_ends(record);
}

/// Whether nobody is missing.
pub(super) fn all_up(arena: &Arena) -> bool {
    arena.in_states(&[State::Paused, State::Down]).is_empty()
}
