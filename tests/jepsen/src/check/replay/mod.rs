//! Replays the true sequence and holds every reply against it.
//!
//! An acknowledged write must be exactly what its revision changed, by a model of etcd that runs it on the state before;
//! an acknowledged read must be what the state at its revision says. Every other revision must have a cause: an operation
//! whose outcome nobody knows, or a lease that ended. A change without a cause, or caused by what was refused, is one
//! that the store made up; two causes for one revision mean that a revision was used twice.

mod change;
mod compacted;
mod unknown;

use std::collections::HashMap;

use super::difference::{Difference, difference, read_difference};
use super::state::State;
use super::truth::{FIRST, Truth};
use super::{Checker, Findings, Violation, words};
use crate::history::{
    Call, Data, EventKind, Header, History, LeaseId, Operation, OperationId, Range, Reply,
    Revision, Step as TxnStep, Txn,
};
use change::{flags, written};
use unknown::{Open, Unknown, assign};

/// Who made each revision.
#[derive(Default)]
pub struct Causes {
    revisions: HashMap<Revision, Cause>,
    settled: HashMap<OperationId, Revision>,
}

/// Who made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An operation, acknowledged or not.
    Operation(OperationId),
    /// A lease that ended, by itself or by its revocation, and took its keys with it.
    Lease(LeaseId),
}

impl Causes {
    /// The operation that made a revision, if it was one.
    pub fn operation(&self, revision: Revision) -> Option<OperationId> {
        match self.revisions.get(&revision)? {
            Cause::Operation(id) => Some(*id),
            Cause::Lease(_) => None,
        }
    }

    /// Every revision that the end of a lease made.
    pub fn lease_ends(&self) -> impl Iterator<Item = (Revision, LeaseId)> {
        self.revisions
            .iter()
            .filter_map(|(revision, cause)| match cause {
                Cause::Lease(lease) => Some((*revision, *lease)),
                Cause::Operation(_) => None,
            })
    }

    /// The revision that an operation of unknown outcome turned out to have made.
    pub fn settled(&self, operation: OperationId) -> Option<Revision> {
        self.settled.get(&operation).copied()
    }
}

/// A reply to hold against the state at a revision.
enum Read<'a> {
    /// A read, or a step of a transaction that reads the past.
    Range(&'a Operation, &'a Range, &'a Reply),
    /// A delete or a transaction that changed nothing.
    Nothing(&'a Operation, &'a Reply),
}

/// Replays.
pub fn check<'a>(
    history: &'a History,
    operations: &HashMap<OperationId, &'a Operation>,
    truth: &Truth,
    findings: &mut Findings,
) -> Causes {
    let mut writes: HashMap<Revision, Vec<&Operation>> = HashMap::new();
    let mut reads: Vec<(Revision, Read<'_>)> = Vec::new();
    let mut beyond: Vec<&Operation> = Vec::new();
    for operation in &history.operations {
        let Some((header, reply)) = operation.done() else {
            continue;
        };
        if let Some(revision) = operation.wrote() {
            writes.entry(revision).or_default().push(operation);
        }
        past_reads(operation, header, reply, &mut reads);
        if header.revision > truth.end() {
            beyond.push(operation);
        }
    }
    let judged = format!("{} revisions, {} reads", truth.end().0, reads.len());
    let mut replay = Replay {
        operations,
        truth,
        writes,
        unknown: Unknown::of(history),
        open: Vec::new(),
        causes: Causes::default(),
        findings,
    };
    replay.writes();
    replay.settle(history);
    replay.reads(reads);
    replay.lost(&beyond);
    compacted::check(history, replay.findings);
    let causes = replay.causes;
    let judged = format!(
        "{judged}, {} unknown outcomes settled",
        causes.settled.len()
    );
    findings.judged(Checker::Replay, judged);
    causes
}

/// Everything of an operation that is judged by a state, and not by a change.
fn past_reads<'a>(
    operation: &'a Operation,
    header: &Header,
    reply: &'a Reply,
    reads: &mut Vec<(Revision, Read<'a>)>,
) {
    match &operation.call {
        Call::Range(range) if range.revision.0 > 0 => {
            reads.push((range.revision, Read::Range(operation, range, reply)));
        }
        Call::Range(range) => {
            reads.push((header.revision, Read::Range(operation, range, reply)));
        }
        Call::Delete(_) if operation.wrote().is_none() => {
            reads.push((header.revision, Read::Nothing(operation, reply)));
        }
        Call::Txn(txn) => {
            if operation.wrote().is_none() {
                reads.push((header.revision, Read::Nothing(operation, reply)));
            }
            past_steps(operation, txn, reply, reads);
        }
        _ => {}
    }
}

fn past_steps<'a>(
    operation: &'a Operation,
    txn: &'a Txn,
    reply: &'a Reply,
    reads: &mut Vec<(Revision, Read<'a>)>,
) {
    let Reply::Txn {
        succeeded,
        responses,
    } = reply
    else {
        return;
    };
    let steps = if *succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    for (step, reply) in steps.iter().zip(responses) {
        match step {
            TxnStep::Range(range) if range.revision.0 > 0 => {
                reads.push((range.revision, Read::Range(operation, range, reply)));
            }
            TxnStep::Txn(txn) => past_steps(operation, txn, reply, reads),
            _ => {}
        }
    }
}

struct Replay<'a, 'f> {
    operations: &'f HashMap<OperationId, &'a Operation>,
    truth: &'f Truth,
    writes: HashMap<Revision, Vec<&'a Operation>>,
    unknown: Unknown<'a>,
    /// Revisions that nobody acknowledged, with the unknown operations that could have made each.
    open: Vec<Open>,
    causes: Causes,
    findings: &'f mut Findings,
}

impl<'a> Replay<'a, '_> {
    fn writes(&mut self) {
        let mut state = State::default();
        for (revision, step) in self.truth.steps() {
            let writers = self.writes.get(&revision).map_or(&[][..], Vec::as_slice);
            match writers {
                [] => self.open.push(self.unknown.open(&state, revision, step)),
                [first, others @ ..] => {
                    self.causes
                        .revisions
                        .insert(revision, Cause::Operation(first.id));
                    for other in others {
                        let sentence = format!(
                            "Revision {} was used twice: by {} and by {}.",
                            revision.0,
                            words::operation(first),
                            words::operation(other)
                        );
                        self.findings.by(Checker::Replay, &[first, other], sentence);
                    }
                    written(&state, first, revision, step, self.findings);
                }
            }
            flags(&state, revision, step, writers, self.findings);
            step.events.iter().for_each(|event| state.apply(event));
        }
        // Revisions that the truth does not reach may be used twice as well.
        let end = self.truth.end();
        let mut twice: Vec<_> = self
            .writes
            .iter()
            .filter(|(revision, writers)| **revision > end && writers.len() > 1)
            .collect();
        twice.sort_by_key(|(revision, _)| **revision);
        for (revision, writers) in twice {
            let sentence = format!(
                "Revision {} was told to {} writes, the first of them {}.",
                revision.0,
                writers.len(),
                words::operation(writers[0])
            );
            self.findings.by(Checker::Replay, writers, sentence);
        }
    }

    fn reads(&mut self, reads: Vec<(Revision, Read<'a>)>) {
        let Replay {
            truth,
            causes,
            findings,
            operations: all,
            ..
        } = self;
        truth.visit(reads, |state, revision, read| {
            let (operation, difference) = match read {
                Read::Range(operation, range, reply) => {
                    let difference = read_difference(range, &state.read(range), reply);
                    (operation, difference)
                }
                Read::Nothing(operation, reply) => {
                    let difference = state.run(&operation.call, revision).and_then(|ran| {
                        difference(&operation.call, &ran.reply, reply).or_else(|| {
                            (!ran.events.is_empty()).then(|| {
                                Difference::from("was told that nothing changed, and it would have")
                            })
                        })
                    });
                    (operation, difference)
                }
            };
            let Some(difference) = difference else {
                return;
            };
            // Whoever wrote what it missed, or should have missed; else the latest that it can have seen.
            let about = difference.about.unwrap_or(revision);
            let writer = causes.operation(about).and_then(|id| all.get(&id).copied());
            let mut sentence = format!(
                "At revision {}, {} {}",
                revision.0,
                words::operation(operation),
                difference.words
            );
            let mut operations = vec![operation];
            if let Some(writer) = writer.filter(|writer| writer.id != operation.id) {
                sentence += &format!(
                    "; revision {} was made by {}",
                    about.0,
                    words::operation(writer)
                );
                operations.push(writer);
            }
            findings.by(Checker::Replay, &operations, sentence + ".");
        });
    }

    /// What was told of revisions that never came.
    fn lost(&mut self, beyond: &[&Operation]) {
        let end = self.truth.end();
        if beyond.is_empty() {
            return;
        }
        if !self.truth.is_complete() {
            self.findings.inconclusive(format!(
                "{} operations were told of revisions after {}, where the recording ends.",
                beyond.len(),
                end.0
            ));
            return;
        }
        for operation in beyond {
            let told = operation
                .done()
                .map_or(FIRST, |(header, _)| header.revision);
            let what = if operation.wrote().is_some() {
                "the write is lost"
            } else {
                "it saw what was lost"
            };
            let sentence = format!(
                "{} was told revision {}, but the store never went beyond {}: {what}.",
                words::capital(&words::operation(operation)),
                told.0,
                end.0
            );
            self.findings.by(Checker::Replay, &[operation], sentence);
        }
    }

    /// Finds a cause for each revision that nobody acknowledged.
    fn settle(&mut self, history: &History) {
        let open = std::mem::take(&mut self.open);
        let matched = assign(&open);
        for (index, open) in open.iter().enumerate() {
            let cause = match (matched.get(&index), open.lease) {
                (Some(id), _) => {
                    self.causes.settled.insert(*id, open.revision);
                    Cause::Operation(*id)
                }
                (None, Some(lease)) => Cause::Lease(lease),
                (None, None) => {
                    self.uncaused(history, open);
                    continue;
                }
            };
            self.causes.revisions.insert(open.revision, cause);
        }
    }

    /// A change that nobody can have made.
    fn uncaused(&mut self, history: &History, open: &Open) {
        let Some(step) = self.truth.step(open.revision) else {
            return;
        };
        let what: Vec<String> = step
            .events
            .iter()
            .take(3)
            .map(|event| match event.kind {
                EventKind::Put => {
                    format!("put {} = {}", event.kv.key, words::value(&event.kv.value))
                }
                EventKind::Delete => format!("deleted {}", event.kv.key),
            })
            .collect();
        let mut sentence = format!("Revision {} {}", open.revision.0, what.join(", "));
        let mut blamed = Vec::new();
        let put = step
            .events
            .iter()
            .find(|event| event.kind == EventKind::Put);
        let writer = put.and_then(|event| {
            history
                .operations
                .iter()
                .filter(|operation| puts(&operation.call, &event.kv.key, &event.kv.value))
                .max_by_key(|operation| operation.refused().is_some())
        });
        match writer {
            Some(writer) => {
                sentence += &match (
                    &writer.refused(),
                    writer.wrote(),
                    self.causes.settled(writer.id),
                ) {
                    (Some(error), _, _) => format!(
                        ", which only {} asked for, and that was refused with “{error}”",
                        words::operation(writer)
                    ),
                    (None, Some(at), _) | (None, None, Some(at)) => format!(
                        ", which {} did at revision {} already: it was applied twice",
                        words::operation(writer),
                        at.0
                    ),
                    (None, None, None) => format!(
                        ", which is not what {} would have done then",
                        words::operation(writer)
                    ),
                };
                blamed.push(writer);
            }
            None if put.is_some() => sentence += ", which no client asked for",
            None => {
                sentence +=
                    ", which no client asked for, and which is not the end of one whole lease";
            }
        }
        self.findings.add(Violation {
            checker: Checker::Replay,
            sentence: sentence + ".",
            operations: blamed.iter().map(|operation| operation.id).collect(),
            watches: Vec::new(),
            at: step.known,
        });
    }
}

/// Whether a call would put a key to a value.
fn puts(call: &Call, key: &Data, value: &Data) -> bool {
    match call {
        Call::Put(put) => put.key == *key && put.value == *value,
        Call::Txn(txn) => txn.all_steps().iter().any(
            |step| matches!(step, TxnStep::Put(put) if put.key == *key && put.value == *value),
        ),
        _ => false,
    }
}
