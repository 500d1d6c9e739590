//! Seeds that run with every test run: fresh ones, and those that once found something.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_sim::scenario::{Size, run, run_recorded};

/// Seeds that found a defect, a line each: the seed, and what it was. A seed means the run that the simulation made of
/// it when it was written down; a later change of the simulation makes another run of it.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// How many fresh seeds a test run takes.
const FRESH: u64 = 24;

/// Runs seeds on all cores, and panics with those that fail.
fn hold(seeds: &[u64]) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(seed, Size::default()).result {
                        Ok(report) => println!("seed {seed}: ok, {report}"),
                        Err(error) => {
                            let again = format!("sim --from {seed} --seeds 1 --trace");
                            let failure = format!("seed {seed}: {error:#}\n  again: {again}");
                            failures.lock().expect("no thread panics").push(failure);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn fresh_seeds_hold() {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_millis() as u64;
    println!("seeds {clock} to {}", clock + FRESH - 1);
    hold(&Vec::from_iter(clock..clock + FRESH));
}

#[test]
fn seeds_that_once_found_something_hold() {
    let seeds = REGRESSIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let seed = |line: &str| {
        let number = line
            .split_whitespace()
            .next()
            .and_then(|seed| seed.parse().ok());
        number.unwrap_or_else(|| panic!("regressions.txt: {line:?} does not begin with a seed"))
    };
    hold(&Vec::from_iter(seeds.map(seed)));
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let size = Size {
        duration: Duration::from_secs(12),
        operations: 200,
        faults: 3,
        ..Size::default()
    };
    let [first, second] = [(); 2].map(|()| run_recorded(42, size, true));
    let report = |result: anyhow::Result<_>| result.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(
        !first.schedule.is_empty(),
        "a trace of nothing proves nothing"
    );
    let differs = first
        .schedule
        .iter()
        .zip(&second.schedule)
        .position(|(a, b)| a != b);
    assert_eq!(differs, None, "the schedules part here");
    assert_eq!(first.schedule.len(), second.schedule.len());
    assert_eq!(first.journal, second.journal);
    assert_eq!(first.operations, second.operations);
    assert_eq!(report(first.result), report(second.result));
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    let size = Size {
        lying_disks: true,
        ..Size::default()
    };
    let found = (0..40).find_map(|seed| run(seed, size).result.err());
    let error = found.expect("acknowledged writes must be lost, and the loss must be seen");
    println!("as it should: {error:#}");
}
