//! How the run goes, for a person who waits: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::World;

const ON_A_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(10);
/// The line must not wrap, or it could not be written over.
const COLUMNS: usize = 110;

/// Shows it until it is dropped.
pub async fn show(world: Arc<World>, time: Duration) {
    let terminal = std::io::stderr().is_terminal();
    let _cleared = terminal.then(|| Cleared);
    let every = if terminal { ON_A_TERMINAL } else { ELSEWHERE };
    let mut before = Counted::of(&world);
    loop {
        tokio::time::sleep(every).await;
        let now = Counted::of(&world);
        let line = line(&world, &before, &now, time);
        before = now;
        // Whoever has closed stderr does not want to know.
        let mut out = std::io::stderr();
        let _ = if terminal {
            let short: String = line.chars().take(COLUMNS).collect();
            write!(out, "\r\x1b[K{short}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
    }
}

/// Takes the line away.
struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

struct Counted {
    at: Instant,
    done: u64,
    unknown: u64,
    refused: u64,
}

impl Counted {
    fn of(world: &World) -> Counted {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            at: Instant::now(),
            done: count(&world.counts.done),
            unknown: count(&world.counts.unknown),
            refused: count(&world.counts.refused),
        }
    }
}

fn line(world: &World, before: &Counted, now: &Counted, time: Duration) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
    let phase = match world.working_for() {
        None => "starting".to_owned(),
        Some(_) if world.stopping() => "recovering".to_owned(),
        Some(elapsed) => format!("{} of {} s", elapsed.as_secs(), time.as_secs()),
    };
    let leader = match world.leader() {
        Some(leader) => format!("m{} leads", leader.0),
        None => "no leader".to_owned(),
    };
    let faults = world.faults_in_force();
    let faults = if faults.is_empty() {
        "no fault".to_owned()
    } else {
        faults.join(" + ")
    };
    format!(
        "{phase} | {:.0}/s ok, {:.0} unknown, {:.0} refused | {leader} | {faults}",
        rate(now.done, before.done),
        rate(now.unknown, before.unknown),
        rate(now.refused, before.refused),
    )
}
