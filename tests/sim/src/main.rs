//! Runs seeds of the simulation: one line a seed, exit status 0 only if all hold.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use keelson_sim::scenario::{Size, run};

/// Simulates a cluster under faults, seed after seed.
#[derive(Parser)]
#[command(name = "sim")]
struct Flags {
    /// The first seed; without it, one from the clock.
    #[arg(long)]
    from: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Virtual seconds with faults in each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    };
    let from = flags.from.unwrap_or_else(clock);
    let size = Size {
        duration: Duration::from_secs(flags.seconds),
        ..Size::default()
    };
    let mut failed = 0;
    for seed in from..from.saturating_add(flags.seeds) {
        let start = Instant::now();
        match run(seed, size) {
            Ok(report) => println!(
                "seed {seed}: ok, {report}, {:.2} s",
                start.elapsed().as_secs_f64()
            ),
            Err(error) => {
                failed += 1;
                println!(
                    "seed {seed}: FAILED: {error:#}\n  again: sim --from {seed} --seeds 1 --seconds {}",
                    flags.seconds
                );
            }
        }
    }
    println!("{} seeds, {failed} failed", flags.seeds);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
