//! Seeds that run with every test run: fresh ones, and those that once found something.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_sim::regressions;
use keelson_sim::scenario::{Size, run, run_recorded};
use keelson_sim::tally::{Kind, Tally};

/// Seeds that found a defect.
const REGRESSIONS: &str = include_str!("regressions.txt");
/// As cargo runs tests in their package's directory.
const REGRESSIONS_FILE: &str = "tests/regressions.txt";

/// How many fresh seeds a test run takes.
const FRESH: u64 = 24;

/// A seed that was never used before.
fn clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_millis() as u64
}

/// Tells something whether or not the test passes: the test's own output is kept back where it does.
fn tell(what: &str) {
    let mut err = std::io::stderr().lock();
    writeln!(err, "{what}").expect("somebody listens");
}

/// Runs seeds on all cores: what they have done, and which have failed of what.
fn hold(seeds: &[u64]) -> (Tally, BTreeMap<u64, String>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Tally::default(), BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(seed, Size::default()).result;
                    let (tally, failed) = &mut *found.lock().expect("no thread panics");
                    match result {
                        Ok(report) => {
                            println!("seed {seed}: ok, {report}");
                            tally.merge(&report.tally);
                        }
                        Err(error) => {
                            failed.insert(seed, format!("{error:#}"));
                        }
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics")
}

/// Fails with what failed.
fn none_failed(failed: &BTreeMap<u64, String>) {
    let tell = |(seed, error): (&u64, &String)| {
        format!("seed {seed}: {error}\n  again: sim --from {seed} --seeds 1 --trace")
    };
    let all: Vec<String> = failed.iter().map(tell).collect();
    assert!(failed.is_empty(), "{}", all.join("\n"));
}

#[test]
fn fresh_seeds_hold_and_together_do_everything_that_runs_are_meant_to() {
    let clock = clock();
    tell(&format!(
        "simulating fresh seeds: {clock} to {}",
        clock + FRESH - 1
    ));
    let (tally, failed) = hold(&Vec::from_iter(clock..clock + FRESH));
    if !failed.is_empty() {
        regressions::save(Path::new(REGRESSIONS_FILE), &failed)
            .expect("a file that can be written");
        tell(&format!("saved in {REGRESSIONS_FILE}"));
    }
    none_failed(&failed);
    assert_eq!(tally.missing(), &[] as &[Kind]);
}

#[test]
fn seeds_that_once_found_something_hold() {
    let seeds = regressions::parse(REGRESSIONS);
    let seeds = seeds.unwrap_or_else(|line| panic!("{line:?} does not begin with a seed"));
    none_failed(&hold(&seeds).1);
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let size = Size {
        duration: Duration::from_secs(12),
        operations: 200,
        faults: 3,
        ..Size::default()
    };
    let seed = clock();
    tell(&format!("simulating seed {seed} twice"));
    let [first, second] = [(); 2].map(|()| run_recorded(seed, size, true));
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
