//! What is done to the cluster while clients work.
//!
//! A seed makes a [`plan`]: which fault comes when, for how long, and with which chance of its own; whom it hits depends
//! on who is there and who leads at that time. [`torment`] carries it out. Faults overlap: a member may be killed while
//! another one is cut off.

mod acts;
mod catalogue;
mod damage;
mod membership;
mod peer_process;
mod proxy;
mod segment;

use std::time::Duration;

use keelson_jepsen::history::MemberIndex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::run::Arena;
use crate::run::InForce;

pub use catalogue::{ALL, Needs, Nemesis, named};
pub use proxy::Wires;

/// From the beginning of one fault to that of the next.
const BETWEEN: std::ops::Range<f64> = 0.5..4.0;
/// How long a fault lasts, if it lasts at all.
const HOLD: std::ops::Range<f64> = 1.0..6.0;
/// Faults that last, at a time.
const HELD_MAX: usize = 2;
/// How often the nemesis looks whether all processes are there that should be.
const TICK: Duration = Duration::from_millis(200);
/// Clients get so long before the first fault, so that there is something to lose.
const FIRST: f64 = 1.5;

/// A fault to come.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// So long after the one before it has begun, or is over, if it was such as is over when it is done.
    after: Duration,
    nemesis: Nemesis,
    /// For how long.
    hold: Duration,
    /// Its own chance.
    seed: u64,
}

/// Faults for the time that clients work. Each of `nemeses` comes before any comes a second time.
pub fn plan(seed: u64, nemeses: &[Nemesis], time: Duration) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Vec::new();
    let mut after = FIRST;
    let mut total = 0.0;
    let mut deck: Vec<Nemesis> = Vec::new();
    while !nemeses.is_empty() && total < time.as_secs_f64() {
        if deck.is_empty() {
            deck = nemeses.to_vec();
            deck.shuffle(&mut random);
        }
        let Some(nemesis) = deck.pop() else { break };
        plan.push(Planned {
            after: Duration::from_secs_f64(after),
            nemesis,
            hold: Duration::from_secs_f64(random.random_range(HOLD)),
            seed: random.random(),
        });
        total += after;
        after = random.random_range(BETWEEN);
    }
    plan
}

/// A fault in force, and what ends it.
struct Held {
    until: Instant,
    record: InForce,
    undo: Undo,
}

/// How a fault is ended.
#[derive(Debug, Default)]
struct Undo {
    /// Members to be started.
    start: Vec<MemberIndex>,
    /// Members to be woken.
    resume: Vec<MemberIndex>,
    /// Links to be opened, from one to another.
    open: Vec<(MemberIndex, MemberIndex)>,
    /// Members in which nothing shall fail any more.
    repair: Vec<MemberIndex>,
    /// What goes on until then.
    task: Option<AbortHandle>,
}

/// Carries out the plan until `time` is over, and ends all faults that still last.
pub async fn torment(arena: &mut Arena, plan: Vec<Planned>, time: Duration) {
    let began = Instant::now();
    let end = began + time;
    let mut held: Vec<Held> = Vec::new();
    let mut plan = plan.into_iter().peekable();
    let mut last = began;
    while Instant::now() < end {
        arena.look_after();
        while let Some(over) = held.iter().position(|held| held.until <= Instant::now()) {
            release(arena, held.swap_remove(over));
        }
        let due = plan.next_if(|next| last + next.after <= Instant::now());
        if let Some(planned) = due {
            if held.len() >= HELD_MAX
                && let Some(oldest) = (0..held.len()).min_by_key(|at| held[*at].until)
            {
                release(arena, held.swap_remove(oldest));
            }
            begin(arena, planned, &mut held, end).await;
            last = Instant::now();
            continue;
        }
        let next = [
            Some(end),
            Some(Instant::now() + TICK),
            plan.peek().map(|next| last + next.after),
            held.iter().map(|held| held.until).min(),
        ];
        if let Some(next) = next.into_iter().flatten().min() {
            tokio::time::sleep_until(next).await;
        }
    }
    for held in held {
        release(arena, held);
    }
}

async fn begin(arena: &mut Arena, planned: Planned, held: &mut Vec<Held>, end: Instant) {
    if planned.nemesis.alone {
        for held in std::mem::take(held) {
            release(arena, held);
        }
    }
    // Links and failpoints have one state each: what changes them comes after what has changed them before.
    let touches_links = planned.nemesis.touches_links;
    while let Some(other) = held
        .iter()
        .position(|held| touches_links && !held.undo.open.is_empty())
    {
        release(arena, held.swap_remove(other));
    }
    let mut random = StdRng::seed_from_u64(planned.seed);
    let until = (Instant::now() + planned.hold).min(end);
    if let Some((record, undo)) = acts::act(arena, planned.nemesis, &mut random, end).await {
        held.push(Held {
            until,
            record,
            undo,
        });
    }
}

fn release(arena: &mut Arena, held: Held) {
    if let Some(task) = held.undo.task {
        task.abort();
    }
    for (from, to) in held.undo.open {
        arena.wires.open(from.0 as usize, to.0 as usize);
    }
    for member in held.undo.repair {
        arena.set_failpoints(member, "");
    }
    // Those that ended by a fault are known to be down.
    arena.look_after();
    for member in held.undo.resume {
        arena.resume(member);
    }
    for member in held.undo.start {
        arena.start(member);
    }
    arena.world.fault_ends(held.record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_seed_another() {
        let all: Vec<Nemesis> = ALL.to_vec();
        let plan = |seed| format!("{:?}", super::plan(seed, &all, Duration::from_secs(60)));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn every_nemesis_has_its_turn_before_one_comes_again() {
        let all: Vec<Nemesis> = ALL.to_vec();
        let names = plan(3, &all, Duration::from_secs(600));
        let mut names: Vec<&str> = names.iter().map(|next| next.nemesis.name).collect();
        names.truncate(all.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
