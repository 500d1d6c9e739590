//! In the end, the faults healed and the writes done, all members hold the same, and it is what the sequence of all
//! revisions makes.

use super::state::State;
use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Ending, Kv, Micros};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let endings = &case.history.endings;
    findings.judged(Checker::Ending, format!("{} members", endings.len()));
    let Some((first, others)) = endings.split_first() else {
        findings.inconclusive(
            "Nobody could be asked what the members hold in the end: the cluster did not recover, or the run was cut."
                .to_owned(),
        );
        return;
    };
    let mut tell = |sentence: String| {
        findings.add(Violation {
            checker: Checker::Ending,
            sentence,
            operations: Vec::new(),
            watches: Vec::new(),
            at: end(case),
        });
    };
    for other in others {
        let (a, b) = (first.member.0, other.member.0);
        if first.revision != other.revision {
            tell(format!(
                "m{a} was asked at revision {} and m{b} at {}.",
                first.revision.0, other.revision.0
            ));
            continue;
        }
        if let Some(difference) = difference(first, other) {
            tell(difference);
        }
        let comparable = first.hash.compact_revision == other.hash.compact_revision;
        if comparable && first.hash.hash != other.hash.hash {
            tell(format!(
                "HashKV at revision {} is {:08x} on m{a} and {:08x} on m{b}.",
                first.revision.0, first.hash.hash, other.hash.hash
            ));
        }
    }
    let subjects = endings.iter().map(|ending| (ending.revision, ending));
    let unknown = case.truth.visit(subjects.collect(), |state, _, ending| {
        if let Some(difference) = against(state, ending) {
            tell(difference);
        }
    });
    for (revision, ending) in unknown {
        if case.truth.is_complete() {
            tell(format!(
                "m{} ended at revision {}, and the watch of everything at {}.",
                ending.member.0,
                revision.0,
                case.truth.end().0
            ));
        }
    }
}

fn end(case: &Case<'_>) -> Micros {
    let ends = case
        .history
        .operations
        .iter()
        .map(|operation| operation.end);
    ends.max().unwrap_or_default()
}

fn difference(a: &Ending, b: &Ending) -> Option<String> {
    let differs = first_difference(a.kvs.iter(), b.kvs.iter())?;
    Some(format!(
        "At the end m{} has {}, and m{} has {}.",
        a.member.0,
        name(differs.0),
        b.member.0,
        name(differs.1)
    ))
}

fn against(state: &State, ending: &Ending) -> Option<String> {
    let differs = first_difference(state.iter(), ending.kvs.iter())?;
    Some(format!(
        "At the end m{} has {} where all that was written makes {}.",
        ending.member.0,
        name(differs.1),
        name(differs.0)
    ))
}

fn name(kv: Option<&Kv>) -> String {
    kv.map_or_else(|| "nothing there".to_owned(), words::kv)
}

/// The first key, in order, at which two states differ, as each has it.
fn first_difference<'a>(
    mut a: impl Iterator<Item = &'a Kv>,
    mut b: impl Iterator<Item = &'a Kv>,
) -> Option<(Option<&'a Kv>, Option<&'a Kv>)> {
    loop {
        return match (a.next(), b.next()) {
            (None, None) => None,
            (Some(a), Some(b)) if a == b => continue,
            (Some(a), Some(b)) if a.key < b.key => Some((Some(a), None)),
            (Some(a), Some(b)) if a.key > b.key => Some((None, Some(b))),
            differs => Some(differs),
        };
    }
}
