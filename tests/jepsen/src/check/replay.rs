//! Replays the true sequence and holds every reply against it.
//!
//! An acknowledged write must be exactly what its revision changed, by a model of etcd that runs it on the state before;
//! an acknowledged read must be what the state at its revision says. Every other revision must have a cause: an operation
//! whose outcome nobody knows, or a lease that ended. A change without a cause, or caused by what was refused, is one
//! that the store made up; two causes for one revision mean that a revision was used twice.

use std::collections::{HashMap, HashSet};

use super::state::{self, Ran, State};
use super::truth::{FIRST, Step, Truth};
use super::{Checker, Findings, Violation, words};
use crate::history::{
    Call, Data, Event, EventKind, Header, History, Kv, LeaseId, Micros, Operation, OperationId,
    Range, Reply, Revision, Step as TxnStep, Txn,
};

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
pub fn check(history: &History, truth: &Truth, findings: &mut Findings) -> Causes {
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
        truth,
        writes,
        unknown: Unknown::of(history),
        open: Vec::new(),
        causes: Causes::default(),
        findings,
    };
    replay.writes();
    replay.reads(reads);
    replay.lost(&beyond);
    replay.settle(history);
    compacted(history, replay.findings);
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
    truth: &'a Truth,
    writes: HashMap<Revision, Vec<&'a Operation>>,
    unknown: Unknown<'a>,
    /// Revisions that nobody acknowledged, with the unknown operations that could have made each.
    open: Vec<Open>,
    causes: Causes,
    findings: &'f mut Findings,
}

/// A revision in search of its cause.
struct Open {
    revision: Revision,
    candidates: Vec<OperationId>,
    /// The lease whose end it could be.
    lease: Option<LeaseId>,
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
            writes,
            ..
        } = self;
        truth.visit(reads, |state, revision, read| {
            let (operation, difference) = match read {
                Read::Range(operation, range, reply) => {
                    let difference = state::read_difference(range, &state.read(range), reply);
                    (operation, difference)
                }
                Read::Nothing(operation, reply) => {
                    let difference = state.run(&operation.call, revision).and_then(|ran| {
                        state::difference(&operation.call, &ran.reply, reply).or_else(|| {
                            (!ran.events.is_empty())
                                .then(|| "was told that nothing changed, and it would have".into())
                        })
                    });
                    (operation, difference)
                }
            };
            let Some(difference) = difference else {
                return;
            };
            // The write that made the revision is what it most likely missed, or saw half of.
            let writer = causes
                .revisions
                .get(&revision)
                .and_then(|_| writes.get(&revision))
                .and_then(|writers| writers.first().copied());
            let mut sentence = format!(
                "At revision {}, {} {difference}",
                revision.0,
                words::operation(operation)
            );
            let mut operations = vec![operation];
            if let Some(writer) = writer.filter(|writer| writer.id != operation.id) {
                sentence += &format!("; the revision was made by {}", words::operation(writer));
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

/// An acknowledged write must be exactly what its revision changed, and have been told the truth.
fn written(
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
    let difference = state::difference(&operation.call, &should, reply);
    let same = first_change(&events, &step.events).is_none();
    let sentence = match difference {
        Some(difference) => format!(
            "{} {difference}, at revision {}.",
            words::capital(&words::operation(operation)),
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
fn first_change<'e>(
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
fn flags(
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

/// The operations whose outcome nobody knows, to be found by what they would have changed.
struct Unknown<'a> {
    puts: HashMap<(&'a Data, &'a Data), Vec<&'a Operation>>,
    deletes: Vec<&'a Operation>,
    /// By when someone had been told of a revision or a later one: grows with the revision.
    told: Vec<(Revision, Micros)>,
}

impl<'a> Unknown<'a> {
    fn of(history: &'a History) -> Unknown<'a> {
        let mut unknown = Unknown {
            puts: HashMap::new(),
            deletes: Vec::new(),
            told: told(history),
        };
        for operation in history.operations.iter().filter(|op| op.is_unknown()) {
            match &operation.call {
                Call::Put(put) => unknown
                    .puts
                    .entry((&put.key, &put.value))
                    .or_default()
                    .push(operation),
                Call::Delete(_) => unknown.deletes.push(operation),
                Call::Txn(txn) => {
                    for step in txn.all_steps() {
                        match step {
                            TxnStep::Put(put) => unknown
                                .puts
                                .entry((&put.key, &put.value))
                                .or_default()
                                .push(operation),
                            TxnStep::Delete(_) => unknown.deletes.push(operation),
                            TxnStep::Range(_) | TxnStep::Txn(_) => {}
                        }
                    }
                }
                _ => {}
            }
        }
        unknown.deletes.dedup_by_key(|operation| operation.id);
        unknown
    }

    /// Who could have made a revision.
    fn open(&self, before: &State, revision: Revision, step: &Step) -> Open {
        let put = step
            .events
            .iter()
            .find(|event| event.kind == EventKind::Put);
        let asked = match put {
            Some(event) => self
                .puts
                .get(&(&event.kv.key, &event.kv.value))
                .map_or(&[][..], Vec::as_slice),
            None => &self.deletes,
        };
        // A put tells whose it is, also where it cannot be; of deletes, only one that was asked for by then can be it.
        let told = self.told.partition_point(|(told, _)| *told < revision);
        let told = self.told.get(told).map(|(_, at)| *at);
        let in_time = |operation: &Operation| {
            put.is_some() || told.is_none_or(|told| operation.start <= told)
        };
        let candidates = asked.iter().filter(|operation| {
            in_time(operation)
                && concerns(&operation.call, step)
                && before
                    .run(&operation.call, revision)
                    .is_some_and(|ran| first_change(&ran.events, &step.events).is_none())
        });
        Open {
            revision,
            candidates: candidates.map(|operation| operation.id).collect(),
            lease: lease_end(before, step),
        }
    }
}

/// Of each revision that someone was told, the first time that it or a later one was told.
fn told(history: &History) -> Vec<(Revision, Micros)> {
    let replies = history.operations.iter().filter_map(|operation| {
        let (header, _) = operation.done()?;
        Some((header.revision, operation.end))
    });
    let responses = history.watches.iter().flat_map(|watch| &watch.responses);
    let responses = responses.map(|response| (response.revision, response.at));
    let mut told: Vec<(Revision, Micros)> = replies.chain(responses).collect();
    told.sort_unstable();
    told.dedup_by_key(|(revision, _)| *revision);
    let mut first = Micros(u64::MAX);
    for (_, at) in told.iter_mut().rev() {
        first = first.min(*at);
        *at = first;
    }
    told
}

/// The lease whose keys, all of them and nothing else, a revision deleted.
fn lease_end(before: &State, step: &Step) -> Option<LeaseId> {
    let lease = step.events.first()?.prev_kv.as_ref()?.lease;
    if lease.is_none() || step.events.iter().any(|event| event.kind == EventKind::Put) {
        return None;
    }
    let deleted = step.events.iter().map(|event| &event.kv.key);
    before.of_lease(lease).eq(deleted).then_some(lease)
}

/// Whether a call writes or deletes the first key that a revision changed: a cheap look before the call is run.
fn concerns(call: &Call, step: &Step) -> bool {
    let Some(first) = step.events.first() else {
        return false;
    };
    let key = &first.kv.key;
    match call {
        Call::Put(put) => put.key == *key,
        Call::Delete(delete) => state::within(key, &delete.key, &delete.range_end),
        Call::Txn(txn) => txn.all_steps().iter().any(|step| match step {
            TxnStep::Put(put) => put.key == *key,
            TxnStep::Delete(delete) => state::within(key, &delete.key, &delete.range_end),
            TxnStep::Range(_) | TxnStep::Txn(_) => false,
        }),
        _ => false,
    }
}

/// Gives each open revision a cause of its own, as many as can have one: a maximum matching, by augmenting paths. Those
/// that the end of a lease explains as well come last, and take what is left.
fn assign(open: &[Open]) -> HashMap<usize, OperationId> {
    fn augment(
        at: usize,
        open: &[Open],
        taken: &mut HashMap<OperationId, usize>,
        tried: &mut HashSet<OperationId>,
    ) -> bool {
        let candidates = &open[at].candidates;
        if let Some(free) = candidates.iter().find(|id| !taken.contains_key(id)) {
            taken.insert(*free, at);
            return true;
        }
        for candidate in candidates {
            if !tried.insert(*candidate) {
                continue;
            }
            let moved = match taken.get(candidate).copied() {
                None => true,
                Some(other) => augment(other, open, taken, tried),
            };
            if moved {
                taken.insert(*candidate, at);
                return true;
            }
        }
        false
    }
    let mut taken = HashMap::new();
    let (last, first): (Vec<usize>, Vec<usize>) =
        (0..open.len()).partition(|at| open[*at].lease.is_some());
    for at in first.into_iter().chain(last) {
        augment(at, open, &mut taken, &mut HashSet::new());
    }
    taken.into_iter().map(|(id, at)| (at, id)).collect()
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

/// A read that was refused because its revision is compacted needs a compaction that was asked for by then; and one that
/// began after a compaction had been acknowledged must not be answered from below it, unless it may be old.
fn compacted(history: &History, findings: &mut Findings) {
    let compactions: Vec<(&Operation, Revision)> = history
        .operations
        .iter()
        .filter_map(|operation| match &operation.call {
            Call::Compact(compact) if operation.refused().is_none() => {
                Some((operation, compact.revision))
            }
            _ => None,
        })
        .collect();
    for operation in &history.operations {
        let Call::Range(range) = &operation.call else {
            continue;
        };
        if range.revision.0 <= 0 {
            continue;
        }
        if operation
            .refused()
            .is_some_and(|error| error.contains("has been compacted"))
        {
            let justified = compactions.iter().any(|(compaction, revision)| {
                *revision > range.revision && compaction.start <= operation.end
            });
            if !justified {
                let sentence = format!(
                    "{} was refused as compacted, and nobody had compacted above its revision.",
                    words::capital(&words::operation(operation))
                );
                findings.by(Checker::Replay, &[operation], sentence);
            }
        }
        if operation.done().is_none() || range.serializable {
            continue;
        }
        let above = compactions.iter().find(|(compaction, revision)| {
            compaction.done().is_some()
                && *revision > range.revision
                && compaction.end < operation.start
        });
        if let Some((compaction, _)) = above {
            let sentence = format!(
                "{} was answered, though {} had been acknowledged before.",
                words::capital(&words::operation(operation)),
                words::operation(compaction)
            );
            findings.by(Checker::Replay, &[operation, compaction], sentence);
        }
    }
}
