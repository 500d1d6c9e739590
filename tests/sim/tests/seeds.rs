//! Seeds that run with every test run: fresh ones, and those that once found something.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keelson_sim::scenario::{Size, run, run_traced};

/// Seeds that found a defect, each with what it was.
const REGRESSIONS: [u64; 0] = [];

fn short() -> Size {
    Size {
        duration: Duration::from_secs(20),
        ..Size::default()
    }
}

#[test]
fn fresh_seeds_hold() {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_millis() as u64;
    for seed in clock..clock + 15 {
        println!("seed {seed}");
        let report = run(seed, short()).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(
            report.answered > 0,
            "a run in which nothing was answered proves nothing"
        );
    }
}

#[test]
fn seeds_that_once_found_something_hold() {
    for seed in REGRESSIONS {
        run(seed, Size::default()).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn a_seed_replays_to_the_same_trace() {
    let size = Size {
        duration: Duration::from_secs(8),
        ..Size::default()
    };
    let (first, first_trace) =
        run_traced(42, size, true).unwrap_or_else(|error| panic!("{error:#}"));
    let (second, second_trace) =
        run_traced(42, size, true).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(first, second);
    let differs = first_trace
        .iter()
        .zip(&second_trace)
        .position(|(a, b)| a != b);
    assert_eq!(differs, None, "the traces part here");
    assert_eq!(first_trace.len(), second_trace.len());
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    let size = Size {
        lying_disks: true,
        ..short()
    };
    let found = (0..40).find_map(|seed| run(seed, size).err());
    let error = found.expect("acknowledged writes must be lost, and the loss must be seen");
    println!("as it should: {error:#}");
}
