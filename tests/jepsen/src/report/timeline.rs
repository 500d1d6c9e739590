//! What the page draws: operations as columns of numbers, and words for those that may be looked at.
//!
//! A page with every operation of a long run would be too large to open. So it holds at most [`OPERATIONS_MAX`]: all of
//! them if they are no more, else those around the violations; an overview tells how many there were everywhere.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::summary;
use crate::check::{Verdict, words};
use crate::history::{Call, History, Operation, OperationId, Outcome, Workload};

const OPERATIONS_MAX: usize = 100_000;
/// As many have words, the rest only what their columns say.
const WORDS_MAX: usize = 4_000;
const BINS: usize = 600;

/// Everything that the page's script needs.
#[derive(Serialize)]
pub struct Timeline<'a> {
    /// Microseconds.
    end: u64,
    /// How many operations ended in each part of the run: done, unknown, refused.
    bins: Vec<[u32; 3]>,
    lanes: Vec<Lane>,
    kinds: Vec<&'static str>,
    /// id, lane, start, duration, kind, member, outcome.
    operations: Vec<(u64, usize, u64, u64, usize, u32, u8)>,
    /// How many there were in all.
    all: usize,
    words: BTreeMap<u64, String>,
    faults: Vec<Fault<'a>>,
    leaders: Vec<(u64, u32, u64)>,
    watches: Vec<Watch<'a>>,
    violations: Vec<Marked<'a>>,
}

#[derive(Serialize)]
struct Lane {
    client: u32,
    workload: &'static str,
}

#[derive(Serialize)]
struct Fault<'a> {
    name: &'a str,
    members: Vec<u32>,
    detail: &'a str,
    start: u64,
    /// None if it was never healed.
    end: Option<u64>,
}

#[derive(Serialize)]
struct Watch<'a> {
    id: u64,
    watcher: &'a str,
    member: u32,
    start: u64,
    end: u64,
}

#[derive(Serialize)]
struct Marked<'a> {
    checker: String,
    sentence: &'a str,
    operations: Vec<u64>,
    watches: Vec<u64>,
    at: u64,
}

impl<'a> Timeline<'a> {
    pub fn of(history: &'a History, verdict: &'a Verdict) -> Timeline<'a> {
        let end = summary::last(history).max(1);
        let near = Near::of(history, verdict);
        let mut shown: Vec<&Operation> = history.operations.iter().collect();
        if shown.len() > OPERATIONS_MAX {
            shown.sort_by_key(|operation| near.distance(operation));
            shown.truncate(OPERATIONS_MAX);
        }
        let words = with_words(&shown, &near);
        shown.sort_by_key(|operation| (operation.start, operation.id));
        let (lanes, places) = lanes(history);
        let kinds = KINDS.to_vec();
        let operations = shown.iter().map(|operation| {
            let lane = places.get(&(operation.workload, operation.client.0));
            (
                operation.id.0,
                lane.copied().unwrap_or_default(),
                operation.start.0,
                operation.end.0.saturating_sub(operation.start.0),
                kind(&operation.call),
                operation.member.0,
                outcome(operation),
            )
        });
        Timeline {
            end,
            bins: bins(history, end),
            operations: operations.collect(),
            lanes,
            kinds,
            all: history.operations.len(),
            words,
            faults: faults(history),
            leaders: history
                .leaders
                .iter()
                .map(|leader| {
                    let member = leader.member.map_or(0, |member| member.0);
                    (leader.at.0, member, leader.term)
                })
                .collect(),
            watches: watches(history, verdict),
            violations: marked(verdict),
        }
    }
}

/// How near operations are to what is wrong.
struct Near {
    blamed: HashSet<OperationId>,
    /// When violations showed and what they blame happened, in order.
    moments: Vec<u64>,
}

impl Near {
    fn of(history: &History, verdict: &Verdict) -> Near {
        let blamed: HashSet<OperationId> = verdict
            .violations
            .iter()
            .flat_map(|violation| violation.operations.iter().copied())
            .collect();
        let mut moments: Vec<u64> = verdict.violations.iter().map(|found| found.at.0).collect();
        for operation in &history.operations {
            if blamed.contains(&operation.id) {
                moments.extend([operation.start.0, operation.end.0]);
            }
        }
        moments.sort_unstable();
        Near { blamed, moments }
    }

    /// 0 of what is blamed; else microseconds, and one more.
    fn distance(&self, operation: &Operation) -> u64 {
        if self.blamed.contains(&operation.id) {
            return 0;
        }
        let (start, end) = (operation.start.0, operation.end.0);
        let next = self.moments.partition_point(|moment| *moment < start);
        let before = next.checked_sub(1).and_then(|at| self.moments.get(at));
        let after = self.moments.get(next);
        let before = before.map_or(u64::MAX, |moment| start - moment);
        let after = after.map_or(u64::MAX, |moment| moment.saturating_sub(end));
        before.min(after).saturating_add(1)
    }
}

fn with_words(shown: &[&Operation], near: &Near) -> BTreeMap<u64, String> {
    let mut nearest: Vec<&Operation> = shown.to_vec();
    nearest.sort_by_key(|operation| near.distance(operation));
    nearest.truncate(WORDS_MAX);
    let told = nearest.into_iter().map(|operation| {
        let told = format!(
            "{} → {}",
            words::call(&operation.call),
            words::outcome(operation)
        );
        (operation.id.0, told)
    });
    told.collect()
}

/// A lane for each client of each workload, those of one workload beside each other.
fn lanes(history: &History) -> (Vec<Lane>, HashMap<(Workload, u32), usize>) {
    let mut clients: Vec<(Workload, u32)> = history
        .operations
        .iter()
        .map(|operation| (operation.workload, operation.client.0))
        .collect();
    clients.sort_unstable();
    clients.dedup();
    let places = clients.iter().enumerate().map(|(place, who)| (*who, place));
    let places = places.collect();
    let lanes = clients.iter().map(|(workload, client)| Lane {
        client: *client,
        workload: summary::name(*workload),
    });
    (lanes.collect(), places)
}

fn bins(history: &History, end: u64) -> Vec<[u32; 3]> {
    let mut bins = vec![[0; 3]; BINS];
    for operation in &history.operations {
        let bin = operation.end.0.saturating_mul(BINS as u64) / (end + 1);
        let bin = usize::try_from(bin).ok().and_then(|bin| bins.get_mut(bin));
        if let Some(count) = bin.and_then(|bin| bin.get_mut(usize::from(outcome(operation)))) {
            *count += 1;
        }
    }
    bins
}

fn outcome(operation: &Operation) -> u8 {
    match operation.outcome {
        Outcome::Done { .. } => 0,
        Outcome::Unknown { .. } => 1,
        Outcome::Refused { .. } => 2,
    }
}

const KINDS: [&str; 12] = [
    "read",
    "serializable read",
    "put",
    "delete",
    "txn",
    "compact",
    "lease",
    "membership",
    "members",
    "move leader",
    "hash",
    "read-only txn",
];

fn kind(call: &Call) -> usize {
    match call {
        Call::Range(range) if range.serializable => 1,
        Call::Range(_) => 0,
        Call::Put(_) => 2,
        Call::Delete(_) => 3,
        Call::Txn(_) if call.may_write() => 4,
        Call::Txn(_) => 11,
        Call::Compact(_) => 5,
        Call::Lease(_) => 6,
        Call::Member(_) => 7,
        Call::MemberList { .. } => 8,
        Call::MoveLeader { .. } => 9,
        Call::HashKv(_) => 10,
    }
}

fn faults(history: &History) -> Vec<Fault<'_>> {
    let mut faults: Vec<Fault<'_>> = history
        .faults
        .iter()
        .map(|fault| Fault {
            name: &fault.name,
            members: fault.members.iter().map(|member| member.0).collect(),
            detail: &fault.detail,
            start: fault.start.0,
            end: fault.end.map(|end| end.0),
        })
        .collect();
    faults.sort_by_key(|fault| fault.start);
    faults
}

/// The watches that have part in a violation.
fn watches<'a>(history: &'a History, verdict: &Verdict) -> Vec<Watch<'a>> {
    let blamed: HashSet<_> = verdict
        .violations
        .iter()
        .flat_map(|violation| &violation.watches)
        .collect();
    let streams = history.watches.iter();
    let streams = streams.filter(|stream| blamed.contains(&stream.id));
    let watches = streams.map(|stream| Watch {
        id: stream.id.0,
        watcher: &stream.watcher,
        member: stream.member.0,
        start: stream.start.0,
        end: stream.end.0,
    });
    watches.collect()
}

fn marked(verdict: &Verdict) -> Vec<Marked<'_>> {
    let violations = verdict.violations.iter().map(|violation| Marked {
        checker: violation.checker.to_string(),
        sentence: &violation.sentence,
        operations: violation.operations.iter().map(|id| id.0).collect(),
        watches: violation.watches.iter().map(|id| id.0).collect(),
        at: violation.at.0,
    });
    violations.collect()
}
