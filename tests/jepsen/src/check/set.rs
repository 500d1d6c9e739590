//! Nothing that was added and acknowledged is lost, and nothing appears that was never added.

use std::collections::{HashMap, HashSet};

use super::{Case, Checker, Findings, Violation, words};
use crate::history::{Act, Deed, Micros, Settled};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut adds: HashMap<u64, &Act> = HashMap::new();
    let mut reads = Vec::new();
    for act in &case.history.acts {
        match &act.deed {
            Deed::SetAdd(element) => {
                adds.insert(*element, act);
            }
            Deed::SetRead { elements, last } if act.settled == Settled::Done => {
                reads.push((act, elements, *last));
            }
            _ => {}
        }
    }
    if !adds.is_empty() && !reads.iter().any(|(_, _, last)| *last) {
        findings.inconclusive(
            "The set was not read in the end: nobody knows what is left of it.".to_owned(),
        );
    }
    let mut acknowledged: Vec<(Micros, u64)> = adds
        .iter()
        .filter(|(_, act)| act.settled == Settled::Done)
        .map(|(element, act)| (act.end, *element))
        .collect();
    acknowledged.sort_unstable();
    for (read, elements, last) in &reads {
        let held: HashSet<u64> = elements.iter().copied().collect();
        if held.len() < elements.len() {
            let sentence = format!("{} holds an element twice.", name(read));
            tell(findings, read, None, sentence);
        }
        for element in elements.iter() {
            let Some(add) = adds.get(element) else {
                let sentence = format!("{} holds {element}, which nobody added.", name(read));
                tell(findings, read, None, sentence);
                continue;
            };
            if add.settled == Settled::Not {
                let sentence = format!("{} holds {element}, whose adding was refused.", name(read));
                tell(findings, read, Some(add), sentence);
            } else if add.start > read.end {
                let sentence = format!(
                    "{} holds {element}, which was added only later.",
                    name(read)
                );
                tell(findings, read, Some(add), sentence);
            }
        }
        if !last && may_be_old(case, read) {
            continue;
        }
        let due = acknowledged.partition_point(|(end, _)| *end < read.start);
        for (_, element) in acknowledged.get(..due).unwrap_or_default() {
            if held.contains(element) {
                continue;
            }
            let add = adds[element];
            let sentence = format!(
                "{} does not hold {element}, whose adding by client {} had been acknowledged at {}: it is lost.",
                name(read),
                add.client.0,
                words::time(add.end)
            );
            tell(findings, read, Some(add), sentence);
        }
    }
    findings.judged(
        Checker::Set,
        format!(
            "{} adds ({} acknowledged), {} reads",
            adds.len(),
            acknowledged.len(),
            reads.len()
        ),
    );
}

fn name(read: &Act) -> String {
    format!(
        "The set that client {} read at {}",
        read.client.0,
        words::time(read.start)
    )
}

/// Whether a read was served from what one member had.
fn may_be_old(case: &Case<'_>, read: &Act) -> bool {
    read.operations
        .iter()
        .filter_map(|id| case.operations.get(id))
        .any(|operation| operation.is_serializable())
}

fn tell(findings: &mut Findings, read: &Act, add: Option<&Act>, sentence: String) {
    let mut operations = read.operations.clone();
    operations.extend(add.iter().flat_map(|add| &add.operations));
    findings.add(Violation {
        checker: Checker::Set,
        sentence,
        operations,
        watches: Vec::new(),
        at: read.end,
    });
}
