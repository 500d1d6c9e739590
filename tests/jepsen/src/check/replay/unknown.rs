//! Who made a revision that nobody was told to have made.

use std::collections::{HashMap, HashSet};

use super::super::state::{self, State};
use super::super::truth::Step;
use super::change::first_change;
use crate::history::{
    Call, Data, EventKind, History, LeaseId, Micros, Operation, OperationId, Revision,
    Step as TxnStep,
};

/// A revision in search of its cause.
pub struct Open {
    pub revision: Revision,
    pub candidates: Vec<OperationId>,
    /// The lease whose end it could be.
    pub lease: Option<LeaseId>,
}

/// The operations whose outcome nobody knows, to be found by what they would have changed.
pub struct Unknown<'a> {
    puts: HashMap<(&'a Data, &'a Data), Vec<&'a Operation>>,
    deletes: Vec<&'a Operation>,
    /// By when someone had been told of a revision or a later one: grows with the revision.
    told: Vec<(Revision, Micros)>,
}

impl<'a> Unknown<'a> {
    pub fn of(history: &'a History) -> Unknown<'a> {
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
    pub fn open(&self, before: &State, revision: Revision, step: &Step) -> Open {
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
pub fn assign(open: &[Open]) -> HashMap<usize, OperationId> {
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
