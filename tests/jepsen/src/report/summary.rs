//! How many operations there were, what came of them, and how long they took.

use std::collections::BTreeMap;

use crate::history::{History, Operation, Outcome, Workload};

/// Counts and latencies of one workload's operations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub done: usize,
    pub unknown: usize,
    pub refused: usize,
    /// Of those that were answered, in microseconds: the median, the 99th percentile, the longest.
    pub latency: [u64; 3],
}

impl Row {
    pub fn all(&self) -> usize {
        self.done + self.unknown + self.refused
    }

    fn of<'a>(operations: impl Iterator<Item = &'a Operation>) -> Row {
        let mut row = Row::default();
        let mut took = Vec::new();
        for operation in operations {
            match operation.outcome {
                Outcome::Done { .. } => {
                    row.done += 1;
                    took.push(operation.end.0.saturating_sub(operation.start.0));
                }
                Outcome::Refused { .. } => row.refused += 1,
                Outcome::Unknown { .. } => row.unknown += 1,
            }
        }
        took.sort_unstable();
        let at = |percent: usize| {
            let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
            took.get(index).copied().unwrap_or_default()
        };
        row.latency = [at(50), at(99), at(100)];
        row
    }
}

/// A row for each workload that did something, and one for all.
pub fn rows(history: &History) -> (BTreeMap<Workload, Row>, Row) {
    let mut workloads: BTreeMap<Workload, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        workloads
            .entry(operation.workload)
            .or_default()
            .push(operation);
    }
    let rows = workloads
        .into_iter()
        .map(|(workload, operations)| (workload, Row::of(operations.into_iter())));
    (rows.collect(), Row::of(history.operations.iter()))
}

/// How often each kind of fault was there, and for how long in all, in microseconds.
pub fn faults(history: &History) -> BTreeMap<&str, (usize, u64)> {
    let mut faults: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    let end = last(history);
    for fault in &history.faults {
        let row = faults.entry(&fault.name).or_default();
        row.0 += 1;
        row.1 += fault
            .end
            .map_or(end, |end| end.0)
            .saturating_sub(fault.start.0);
    }
    faults
}

/// When all was over, in microseconds.
pub fn last(history: &History) -> u64 {
    let operations = history.operations.iter().map(|operation| operation.end.0);
    let watches = history.watches.iter().map(|stream| stream.end.0);
    let faults = history
        .faults
        .iter()
        .map(|fault| fault.end.unwrap_or(fault.start).0);
    operations.chain(watches).chain(faults).max().unwrap_or(1)
}

pub fn name(workload: Workload) -> &'static str {
    match workload {
        Workload::Register => "register",
        Workload::Append => "append",
        Workload::Bank => "bank",
        Workload::Set => "set",
        Workload::Watch => "watch",
        Workload::Lease => "lease",
        Workload::Membership => "membership",
        Workload::Kubernetes => "kubernetes",
        Workload::Runner => "runner",
    }
}

/// A duration as a person reads it.
pub fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        100_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!(
            "{}.{:02} s",
            micros / 1_000_000,
            micros % 1_000_000 / 10_000
        ),
    }
}

/// A count with its thousands set apart.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
