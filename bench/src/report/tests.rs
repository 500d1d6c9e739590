//! What is kept of runs, and what people are told of it.

use super::super::results::{Measured, Results, Run, Setting};
use super::*;
use crate::measure::Outcome;

fn run(system: &str, pair: usize, rate: f64) -> Run {
    let mut outcome = Outcome::new();
    outcome.set("rate", rate);
    outcome.set("p99_ms", 1000.0 / rate);
    Run {
        system: system.to_owned(),
        pair,
        outcome,
    }
}

fn results() -> Results {
    let pairs = [(10.0, 30.0), (20.0, 40.0), (10.0, 50.0)];
    let runs = pairs
        .iter()
        .enumerate()
        .flat_map(|(pair, (etcd, kvd))| [run("etcd", pair + 1, *etcd), run("kvd", pair + 1, *kvd)]);
    let measured = Measured {
        name: "put-1-100".to_owned(),
        about: "puts".to_owned(),
        members: 1,
        marks: vec![Mark::ratio("rate", 2.5), Mark::value("p99_ms", 20.0)],
        runs: runs.collect(),
    };
    let systems = [("etcd", "3.5"), ("kvd", "0.1")];
    Results {
        setting: Setting {
            systems: systems
                .map(|(name, version)| (name.to_owned(), version.to_owned()))
                .to_vec(),
            ..Setting::default()
        },
        workloads: vec![measured],
    }
}

#[test]
fn a_mark_is_reached_by_the_median_of_the_pairs() {
    let results = results();
    let workload = &results.workloads[0];
    let ratio = workload.ratio("rate").unwrap();
    assert_eq!((ratio.min, ratio.median, ratio.max), (2.0, 3.0, 5.0));
    assert_eq!(workload.reaches(&workload.marks[0]), Some(true));
    assert_eq!(
        workload.reaches(&workload.marks[1]),
        Some(false),
        "its p99 is 25 ms"
    );
    let other = Mark::ratio("gap_max_ms", 1.0);
    assert_eq!(workload.reaches(&other), None, "it was not measured");
}

#[test]
fn a_pair_that_is_not_whole_does_not_count() {
    let mut results = results();
    results.workloads[0].runs.push(run("kvd", 4, 9000.0));
    assert_eq!(results.workloads[0].ratio("rate").unwrap().max, 5.0);
}

#[test]
fn the_page_tells_of_each_mark() {
    let page = page(&results());
    let line = page
        .lines()
        .find(|line| line.contains("at least 2.50 times"))
        .unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let expected = [
        "",
        "put-1-100",
        "rate",
        "10.0",
        "40.0",
        "3.00",
        "2.00 to 5.00",
        "3",
        "at least 2.50 times",
        "yes",
        "",
    ];
    assert_eq!(cells, expected);
    assert!(page.contains("at most 20.0 ms"), "{page}");
}

#[test]
fn what_is_kept_is_read_as_it_was() {
    let results = results();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.json");
    results.save(&path).unwrap();
    let empty = Results {
        workloads: Vec::new(),
        ..results.clone()
    };
    assert_eq!(empty.clone().go_on(&path).unwrap(), results);
    let mut failed = results.clone();
    failed.workloads[0].runs[0].outcome = Outcome {
        failures: 1,
        ..Outcome::default()
    };
    failed.save(&path).unwrap();
    let kept = empty.clone().go_on(&path).unwrap();
    assert_eq!(
        kept.workloads[0].runs,
        results.workloads[0].runs[1..],
        "a failed run is made again"
    );
    let mut other = empty;
    other.setting.seconds += 1.0;
    assert!(other.go_on(&path).is_err(), "of other flags");
}

#[test]
fn costs_are_compared_from_size_to_size() {
    let size = |name: &str, keys: f64, mib: f64| {
        let mut outcome = Outcome::new();
        outcome.set("keys", keys);
        outcome.set("loaded_mib", mib);
        let run = Run {
            system: "kvd".to_owned(),
            pair: 1,
            outcome,
        };
        Measured {
            name: name.to_owned(),
            about: String::new(),
            members: 1,
            marks: Vec::new(),
            runs: vec![run],
        }
    };
    let mut results = results();
    results.workloads = vec![
        size("large", 1e6, 300.0),
        size("small", 1e5, 200.0),
        size("huge", 1e7, 900.0),
    ];
    let text = growth(&results).to_string();
    let line = text
        .lines()
        .find(|line| line.contains("100000 to 1000000"))
        .unwrap();
    assert!(line.contains("1.50×"), "{text}");
    assert!(text.contains("memory at most 2.00×: no"), "{text}");
}

#[test]
fn numbers_have_the_digits_that_matter() {
    let texts: Vec<String> = [0.123, 9.876, 12.34, 123.4, 98_765.4]
        .into_iter()
        .map(number)
        .collect();
    assert_eq!(texts, ["0.12", "9.88", "12.3", "123", "98765"]);
}
