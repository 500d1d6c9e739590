//! Runs seeds of the simulation: one line a seed, exit status 0 only if all hold.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use keelson_sim::operation::Operation;
use keelson_sim::regressions;
use keelson_sim::scenario::{Run, Size, run};
use keelson_sim::tally::{Kind, Tally};

/// Simulates a cluster under faults, seed after seed.
#[derive(Parser)]
#[command(name = "sim")]
struct Flags {
    /// The first seed; without it, one from the clock.
    #[arg(long)]
    from: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// How many at once; without it, one a core.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Tell everything that happens in each: faults, members, leaders, and every operation.
    #[arg(long)]
    trace: bool,
    /// Tell at the end how often all of it has happened.
    #[arg(long)]
    tally: bool,
    /// Append the seeds that fail to this file, as tests/sim/tests/regressions.txt has them.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// What the threads share.
struct Progress {
    start: Instant,
    seeds: u64,
    done: AtomicU64,
    failed: Mutex<BTreeMap<u64, String>>,
    tally: Mutex<Tally>,
    /// Lines are written whole.
    terminal: Mutex<bool>,
}

/// The program.
pub fn main() -> ExitCode {
    let flags = Flags::parse();
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    };
    let from = flags.from.unwrap_or_else(clock);
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let jobs = flags.jobs.unwrap_or_else(cores).min(flags.seeds);
    // A panic of a task is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));

    let progress = Progress {
        start: Instant::now(),
        seeds: flags.seeds,
        done: AtomicU64::new(0),
        failed: Mutex::default(),
        tally: Mutex::default(),
        terminal: Mutex::new(std::io::stderr().is_terminal() && flags.seeds > 1),
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= flags.seeds {
                        return;
                    }
                    let seed = from.wrapping_add(number);
                    let start = Instant::now();
                    let run = run(seed, Size::default());
                    progress.tell(seed, &run, start.elapsed(), flags.trace);
                }
            });
        }
    });
    if flags.tally {
        let tally = lock(&progress.tally);
        for kind in Kind::ALL {
            println!("{:>9} {}", tally.of(*kind), kind.text());
        }
    }
    let failed = lock(&progress.failed);
    println!(
        "{} seeds in {:.0} s, {} failed",
        flags.seeds,
        progress.start.elapsed().as_secs_f64(),
        failed.len()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    let seeds: Vec<String> = failed.keys().map(u64::to_string).collect();
    println!("failed: {}", seeds.join(" "));
    if let Some(path) = &flags.save {
        match regressions::save(path, &failed) {
            Ok(()) => println!("saved in {}", path.display()),
            Err(error) => println!("they cannot be saved in {}: {error}", path.display()),
        }
    }
    ExitCode::FAILURE
}

/// What no thread leaves half done.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Progress {
    fn tell(&self, seed: u64, run: &Run, took: Duration, trace: bool) {
        let terminal = lock(&self.terminal);
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut out = String::new();
        if trace {
            out += &timeline(run);
        }
        match &run.result {
            Ok(report) => {
                lock(&self.tally).merge(&report.tally);
                out += &format!(
                    "seed {seed}: ok, {report}, took {:.2} s\n",
                    took.as_secs_f64()
                );
            }
            Err(error) => {
                lock(&self.failed).insert(seed, format!("{error:#}"));
                out += &format!("seed {seed}: FAILED: {error:#}\n");
                if !trace {
                    let tail = run.journal.len().saturating_sub(25);
                    for (at, what) in run.journal.iter().skip(tail) {
                        out += &format!("  {:9.3} s  {what}\n", at.as_secs_f64());
                    }
                }
                out += &format!(
                    "  again, with everything that happens: sim --from {seed} --seeds 1 --trace\n"
                );
            }
        }
        if *terminal {
            eprint!("\r\x1b[K");
        }
        print!("{out}");
        let _ = std::io::stdout().flush();
        if *terminal && done < self.seeds {
            let elapsed = self.start.elapsed().as_secs_f64();
            let left = elapsed / done as f64 * (self.seeds - done) as f64;
            eprint!(
                "{done} of {} seeds, {} failed, {left:.0} s left",
                self.seeds,
                lock(&self.failed).len()
            );
        }
    }
}

/// Everything that happened, in the order of its end.
fn timeline(run: &Run) -> String {
    let shown = |operation: &Operation| {
        let Operation {
            client,
            member,
            ask,
            start,
            told,
            ..
        } = operation;
        let start = start.as_secs_f64();
        format!("client {client} at member {member}, since {start:.3}: {ask:?}: {told:?}")
    };
    let mut lines: Vec<(Duration, String)> = run.journal.clone();
    lines.extend(
        run.operations
            .iter()
            .map(|operation| (operation.end, shown(operation))),
    );
    lines.sort_by_key(|(at, _)| *at);
    lines
        .into_iter()
        .map(|(at, what)| format!("  {:9.3} s  {what}\n", at.as_secs_f64()))
        .collect()
}
