//! A second opinion on registers, which does not look at revisions: is there any order of the operations on a key that
//! fits what each was told, and real time? (Wing and Gong's search, in Lowe's form: linearize just in time.)
//!
//! This module tells what each operation means for a register, without revisions; `search` looks for the order.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

mod search;

use super::{Case, Checker, Findings, words};
use crate::history::{
    Call, Compare, CompareResult, Data, Kv, Operation, Reply, Revision, Step, Target, Workload,
};

use search::{Act, Condition, Op, Search, search};

/// Judges.
pub fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut keys: BTreeMap<&Data, Vec<&Operation>> = BTreeMap::new();
    for operation in &case.history.operations {
        if operation.workload == Workload::Register && operation.refused().is_none() {
            for key in touched(&operation.call) {
                keys.entry(key).or_default().push(operation);
            }
        }
    }
    let mut searched = 0;
    let mut operations = 0;
    let mut left = Vec::new();
    for (key, mut on_key) in keys {
        // Of those on the same key, the one that began first is first.
        on_key.sort_by_key(|operation| (operation.start, operation.id));
        let names = names(&on_key);
        let ops: Option<Vec<Option<Op<'_>>>> = on_key
            .iter()
            .map(|operation| op(key, operation, &names))
            .collect();
        let Some(ops) = ops else {
            left.push(key.to_string());
            continue;
        };
        let ops: Vec<Op<'_>> = ops.into_iter().flatten().collect();
        operations += ops.len();
        searched += 1;
        match search(&without_unseen(ops)) {
            Search::Linearizable => {}
            Search::GaveUp => findings.inconclusive(format!(
                "The search for an order of the operations on register {key} was given up: too many were pending at once."
            )),
            Search::Not { returned, pending } => {
                let others: Vec<String> = pending
                    .iter()
                    .take(4)
                    .map(|operation| words::operation(operation))
                    .collect();
                let beside = if others.is_empty() {
                    String::new()
                } else {
                    format!(" Beside it there were {}.", others.join(", "))
                };
                let sentence = format!(
                    "Register {key}: no order of the operations explains {}.{beside}",
                    words::operation(returned)
                );
                let mut blamed = vec![returned];
                blamed.extend(pending.iter().take(8));
                findings.by(Checker::Register, &blamed, sentence);
            }
        }
    }
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(
            " (left out, since not all of their operations can be told without revisions: {})",
            left.join(", ")
        )
    };
    findings.judged(
        Checker::Register,
        format!("{operations} operations on {searched} registers{left}"),
    );
}

/// The single keys that a call reads or writes.
fn touched(call: &Call) -> Vec<&Data> {
    match call {
        Call::Range(range) => vec![&range.key],
        Call::Put(put) => vec![&put.key],
        Call::Delete(delete) => vec![&delete.key],
        Call::Txn(txn) => {
            let mut keys: Vec<&Data> = txn.compares.iter().map(|compare| &compare.key).collect();
            keys.extend(txn.all_steps().into_iter().filter_map(|step| match step {
                Step::Range(range) => Some(&range.key),
                Step::Put(put) => Some(&put.key),
                Step::Delete(delete) => Some(&delete.key),
                Step::Txn(_) => None,
            }));
            keys.sort();
            keys.dedup();
            keys
        }
        _ => Vec::new(),
    }
}

/// What an operation means for a register: `Some(None)` if nothing, `None` if it cannot be told without revisions.
fn op<'a>(key: &'a Data, operation: &'a Operation, names: &Names<'a>) -> Option<Option<Op<'a>>> {
    let reply = operation.done().map(|(_, reply)| reply);
    let act = match &operation.call {
        Call::Range(range) => {
            if range.serializable || range.revision != Revision(0) {
                return Some(None);
            }
            let Some(Reply::Range { kvs, .. }) = reply else {
                return Some(None);
            };
            if !range.range_end.is_empty() || range.keys_only || range.count_only {
                return None;
            }
            Act::Read(value(kvs.first()))
        }
        Call::Put(put) => match reply {
            Some(Reply::Put { prev_kv }) if put.prev_kv => {
                replaced(prev_kv.as_ref(), Some(&put.value))
            }
            _ => Act::Write(Some(&put.value)),
        },
        Call::Delete(delete) if delete.range_end.is_empty() => match reply {
            Some(Reply::Delete { deleted: 0, .. }) => Act::Read(None),
            Some(Reply::Delete { prev_kvs, .. }) if !prev_kvs.is_empty() => {
                replaced(prev_kvs.first(), None)
            }
            Some(_) => Act::Delete,
            None => Act::Write(None),
        },
        Call::Txn(txn) => {
            let [compare] = txn.compares.as_slice() else {
                return None;
            };
            if compare.key != *key || !compare.range_end.is_empty() {
                return None;
            }
            let condition = condition(compare, names)?;
            let held = match reply {
                Some(Reply::Txn { succeeded, .. }) => Some(*succeeded),
                _ => None,
            };
            let write = match txn.success.as_slice() {
                [] | [Step::Range(_)] => None,
                [Step::Put(put)] if put.key == *key => Some(&put.value),
                _ => return None,
            };
            if txn
                .failure
                .iter()
                .any(|step| !matches!(step, Step::Range(_)))
            {
                return None;
            }
            Act::Swap {
                condition,
                held,
                write: write.filter(|_| held != Some(false)).map(Some),
                read: reply.and_then(|reply| seen(key, reply)),
            }
        }
        _ => return None,
    };
    let pointless =
        operation.is_unknown() && matches!(&act, Act::Read(_) | Act::Swap { write: None, .. });
    Some((!pointless).then_some(Op { operation, act }))
}

/// A write that was told what it replaced.
fn replaced<'a>(before: Option<&'a Kv>, after: Option<&'a Data>) -> Act<'a> {
    Act::Swap {
        condition: before.map_or(Condition::Absent, |kv| Condition::Is(&kv.value)),
        held: Some(true),
        write: Some(after),
        read: None,
    }
}

fn value(kv: Option<&Kv>) -> Option<&Data> {
    kv.map(|kv| &kv.value)
}

/// A condition as one on the value.
fn condition<'a>(compare: &'a Compare, names: &Names<'a>) -> Option<Condition<'a>> {
    match (compare.result, &compare.target) {
        (CompareResult::Equal, Target::Value(value)) => Some(Condition::Is(value)),
        (result, Target::Version(0) | Target::Create(Revision(0)) | Target::Mod(Revision(0))) => {
            match result {
                CompareResult::Equal => Some(Condition::Absent),
                CompareResult::NotEqual | CompareResult::Greater => Some(Condition::Present),
                CompareResult::Less => None,
            }
        }
        (CompareResult::Equal, Target::Mod(revision)) => {
            let value = names.get(&(&compare.key, *revision))?;
            Some(Condition::Is(value))
        }
        _ => None,
    }
}

/// A mod revision that a client was told together with a value names that value, since no value is written twice: so a
/// condition on it is one on the value, and the order of revisions is not believed.
type Names<'a> = HashMap<(&'a Data, Revision), &'a Data>;

fn names<'a>(operations: &[&'a Operation]) -> Names<'a> {
    fn collect<'a>(reply: &'a Reply, kvs: &mut Vec<&'a Kv>) {
        match reply {
            Reply::Range { kvs: told, .. } => kvs.extend(told),
            Reply::Put { prev_kv } => kvs.extend(prev_kv),
            Reply::Delete { prev_kvs, .. } => kvs.extend(prev_kvs),
            Reply::Txn { responses, .. } => {
                responses.iter().for_each(|reply| collect(reply, kvs));
            }
            _ => {}
        }
    }
    let mut kvs = Vec::new();
    for (_, reply) in operations.iter().filter_map(|operation| operation.done()) {
        collect(reply, &mut kvs);
    }
    kvs.into_iter()
        .map(|kv| ((&kv.key, kv.mod_revision), &kv.value))
        .collect()
}

/// The value that a read within a transaction saw, if there was one and it was before any write.
fn seen<'a>(key: &Data, reply: &'a Reply) -> Option<Option<&'a Data>> {
    let Reply::Txn { responses, .. } = reply else {
        return None;
    };
    match responses.first()? {
        Reply::Range { kvs, .. } if kvs.iter().all(|kv| kv.key == *key) => Some(value(kvs.first())),
        _ => None,
    }
}

/// Stands for every value that nobody saw.
static UNSEEN: Data = Data(Bytes::from_static(b"\0 a value that nobody saw"));

/// Leaves out those writes of unknown outcome that cannot matter, or makes them all alike, which is as good: whether one
/// whose value nobody saw took effect shows only in that there was some value, or another one.
fn without_unseen(ops: Vec<Op<'_>>) -> Vec<Op<'_>> {
    let mut seen: HashSet<Option<&Data>> = HashSet::new();
    // Someone saw only that there was a value, or only that it was not a certain one.
    let (mut some, mut other) = (false, false);
    for op in &ops {
        match &op.act {
            Act::Write(_) => {}
            Act::Read(value) => {
                seen.insert(*value);
            }
            Act::Delete => some = true,
            Act::Swap {
                condition,
                held,
                read,
                ..
            } => {
                seen.extend(read);
                match condition {
                    Condition::Is(value) => drop(seen.insert(Some(value))),
                    Condition::Absent => drop(seen.insert(None)),
                    Condition::Present => some = true,
                }
                other |= *held == Some(false) && read.is_none();
            }
        }
    }
    let mut kept = Vec::with_capacity(ops.len());
    for mut op in ops {
        if op.operation.is_unknown() {
            match &mut op.act {
                Act::Write(value) if !seen.contains(value) => {
                    if !some && !other {
                        continue;
                    }
                    if value.is_some() {
                        *value = Some(&UNSEEN);
                    }
                }
                // Where it finds a value there is one already.
                Act::Swap {
                    condition,
                    write: Some(value),
                    ..
                } if !seen.contains(value) && !other && *condition != Condition::Absent => {
                    continue;
                }
                _ => {}
            }
        }
        kept.push(op);
    }
    kept
}
