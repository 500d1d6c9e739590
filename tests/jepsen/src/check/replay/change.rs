//! What a revision changed, against what it should have changed.

use super::super::difference::difference;
use super::super::state::{Ran, State};
use super::super::truth::Step;
use super::super::{Checker, Findings, Violation, words};
use crate::history::{Event, EventKind, Kv, Operation, Revision};

/// An acknowledged write must be exactly what its revision changed, and have been told the truth.
pub fn written(
    state: &State,
    operation: &Operation,
    revision: Revision,
    step: &Step,
    findings: &mut Findings,
) {
    let Some((_, reply)) = operation.done() else {
        return;
    };
    let Some(Ran {
        reply: should,
        events,
    }) = state.run(&operation.call, revision)
    else {
        return;
    };
    let difference = difference(&operation.call, &should, reply);
    let same = first_change(&events, &step.events).is_none();
    let sentence = match difference {
        Some(difference) => format!(
            "{} {}, at revision {}.",
            words::capital(&words::operation(operation)),
            difference.words,
            revision.0
        ),
        None if !same => format!(
            "{} was acknowledged at revision {}, but that revision {}.",
            words::capital(&words::operation(operation)),
            revision.0,
            instead(&events, &step.events)
        ),
        None => return,
    };
    findings.by(Checker::Replay, &[operation], sentence);
}

/// Where two lists of changes differ first; what follows from the state (create revision, version) is left out.
pub fn first_change<'e>(
    should: &'e [Event],
    is: &'e [Event],
) -> Option<(Option<&'e Event>, Option<&'e Event>)> {
    let same = |a: &Event, b: &Event| {
        a.kind == b.kind
            && a.kv.key == b.kv.key
            && a.kv.value == b.kv.value
            && a.kv.lease == b.kv.lease
    };
    (0..should.len().max(is.len()))
        .map(|at| (should.get(at), is.get(at)))
        .find(|pair| !matches!(pair, (Some(a), Some(b)) if same(a, b)))
}

/// What a revision did instead of what it should have, in words.
fn instead(should: &[Event], is: &[Event]) -> String {
    let tell = |event: Option<&Event>| match event {
        None => "nothing".to_owned(),
        Some(event) if event.kind == EventKind::Delete => format!("delete of {}", event.kv.key),
        Some(event) => format!(
            "put of {} = {} on lease {:x}",
            event.kv.key,
            words::value(&event.kv.value),
            event.kv.lease.0
        ),
    };
    let (should, is) = first_change(should, is).unwrap_or_default();
    format!("has {} instead of {}", tell(is), tell(should))
}

/// What an event says of its key's life must follow from what was before.
pub fn flags(
    state: &State,
    revision: Revision,
    step: &Step,
    writers: &[&Operation],
    findings: &mut Findings,
) {
    for event in &step.events {
        let should = match event.kind {
            EventKind::Put => {
                state.after_put(&event.kv.key, &event.kv.value, event.kv.lease, revision)
            }
            EventKind::Delete => Kv {
                key: event.kv.key.clone(),
                mod_revision: revision,
                ..Default::default()
            },
        };
        let sentence = if event.kind == EventKind::Delete && event.prev_kv.is_none() {
            format!(
                "Revision {} deleted {}, which was not there.",
                revision.0, event.kv.key
            )
        } else if should != event.kv {
            format!(
                "Revision {} says {}, but it follows from what was before that it is {}.",
                revision.0,
                words::kv(&event.kv),
                words::kv(&should)
            )
        } else {
            continue;
        };
        findings.add(Violation {
            checker: Checker::Replay,
            sentence,
            operations: writers.iter().map(|operation| operation.id).collect(),
            watches: Vec::new(),
            at: step.known,
        });
    }
}
