//! A second opinion on registers, which does not look at revisions: is there any order of the operations on a key that
//! fits what each was told, and real time? (Wing and Gong's search, in Lowe's form: linearize just in time.)
//!
//! The search keeps every configuration that is possible after what has happened so far: the register's value, and which
//! of the pending operations have taken effect already. When an operation returns, each configuration is extended, by
//! pending operations in any order, until that operation has taken effect; if none can be, the history is wrong.
//! Operations of unknown outcome stay pending for ever. Two things keep that small: a write of unknown outcome only
//! matters if what takes effect next observes it, and one whose value nobody ever saw cannot matter at all.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Case, Checker, Findings, words};
use crate::history::{
    Call, Compare, CompareResult, Data, Kv, Operation, Reply, Revision, Step, Target, Workload,
};

/// More configurations at once than this, or more extensions of them in all, and the search gives up.
const CONFIGURATIONS_MAX: usize = 100_000;
const EXTENSIONS_MAX: usize = 20_000_000;

/// What an operation means for one register.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act<'a> {
    /// The value becomes this, whatever it was.
    Write(Option<&'a Data>),
    /// The value is this.
    Read(Option<&'a Data>),
    /// There was a value, and is none now.
    Delete,
    /// If the condition's outcome is `held`, then `read` (if known) is seen and `write` (if any) is done.
    Swap {
        condition: Condition<'a>,
        /// None if nobody knows: then both are possible, and only success has an effect.
        held: Option<bool>,
        write: Option<&'a Data>,
        read: Option<Option<&'a Data>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition<'a> {
    Is(&'a Data),
    Absent,
    Present,
}

/// An operation of the search.
struct Op<'a> {
    operation: &'a Operation,
    act: Act<'a>,
}

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
        Call::Put(put) => Act::Write(Some(&put.value)),
        Call::Delete(delete) if delete.range_end.is_empty() => match reply {
            Some(Reply::Delete { deleted: 0, .. }) => Act::Read(None),
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
                write: write.filter(|_| held != Some(false)),
                read: reply.and_then(|reply| seen(key, reply)),
            }
        }
        _ => return None,
    };
    let pointless =
        operation.is_unknown() && matches!(&act, Act::Read(_) | Act::Swap { write: None, .. });
    Some((!pointless).then_some(Op { operation, act }))
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

/// Leaves out writes of unknown outcome whose value nobody saw, if all others tell exactly what they saw.
fn without_unseen(ops: Vec<Op<'_>>) -> Vec<Op<'_>> {
    let vague = ops.iter().any(|op| {
        matches!(
            op.act,
            Act::Delete
                | Act::Swap {
                    held: Some(false),
                    read: None,
                    ..
                }
                | Act::Swap {
                    condition: Condition::Present,
                    ..
                }
        )
    });
    if vague {
        return ops;
    }
    let mut observed: HashSet<Option<&Data>> = HashSet::new();
    for op in &ops {
        match &op.act {
            Act::Read(value) => {
                observed.insert(*value);
            }
            Act::Swap {
                condition, read, ..
            } => {
                observed.extend(read);
                match condition {
                    Condition::Is(value) => observed.insert(Some(value)),
                    Condition::Absent | Condition::Present => observed.insert(None),
                };
            }
            Act::Write(_) | Act::Delete => {}
        }
    }
    ops.into_iter()
        .filter(|op| {
            let writes = match &op.act {
                Act::Write(value) => *value,
                Act::Swap {
                    write: Some(value), ..
                } => Some(*value),
                _ => return true,
            };
            !op.operation.is_unknown() || observed.contains(&writes)
        })
        .collect()
}

/// How a search ended.
enum Search<'a> {
    Linearizable,
    GaveUp,
    Not {
        /// What had to have taken effect, and cannot have.
        returned: &'a Operation,
        /// What was pending then.
        pending: Vec<&'a Operation>,
    },
}

/// A possible state of things.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<'a> {
    value: Option<&'a Data>,
    /// Pending operations that have taken effect, in order of their numbers.
    done: Vec<usize>,
    /// Whether the last to take effect was a write of unknown outcome, which something must observe next.
    unobserved: bool,
}

impl<'a> Configuration<'a> {
    /// After an operation takes effect; none if it cannot, being told what it was.
    fn with(&self, number: usize, op: &Op<'a>) -> Option<Configuration<'a>> {
        let (value, observes) = match &op.act {
            Act::Write(value) => (*value, false),
            Act::Read(value) => (self.value == *value).then_some((self.value, true))?,
            Act::Delete => self.value.is_some().then_some((None, true))?,
            Act::Swap {
                condition,
                held,
                write,
                read,
            } => {
                let holds = match condition {
                    Condition::Is(value) => self.value == Some(*value),
                    Condition::Absent => self.value.is_none(),
                    Condition::Present => self.value.is_some(),
                };
                let fits = match held {
                    Some(held) => *held == holds,
                    None => holds,
                };
                if !fits || read.is_some_and(|read| read != self.value) {
                    return None;
                }
                let value = if holds {
                    write.map_or(self.value, Some)
                } else {
                    self.value
                };
                (value, true)
            }
        };
        if self.unobserved && !observes {
            return None;
        }
        let mut done = self.done.clone();
        let at = done.binary_search(&number).err()?;
        done.insert(at, number);
        Some(Configuration {
            value,
            done,
            unobserved: op.operation.is_unknown(),
        })
    }
}

fn search<'a>(ops: &[Op<'a>]) -> Search<'a> {
    // Calls come before returns of the same microsecond: then they count as concurrent.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
    for (number, op) in ops.iter().enumerate() {
        moments.push((op.operation.start.0, false, number));
        if op.operation.done().is_some() {
            moments.push((op.operation.end.0, true, number));
        }
    }
    moments.sort_unstable();
    let mut pending: Vec<usize> = Vec::new();
    let mut configurations = vec![Configuration {
        value: None,
        done: Vec::new(),
        unobserved: false,
    }];
    let mut extensions = 0;
    for (_, returns, number) in moments {
        if !returns {
            pending.push(number);
            continue;
        }
        let mut next: HashSet<Configuration<'_>> = HashSet::new();
        let mut seen: HashSet<Configuration<'_>> = configurations.iter().cloned().collect();
        let mut work = configurations;
        while let Some(configuration) = work.pop() {
            if let Ok(at) = configuration.done.binary_search(&number)
                && !configuration.unobserved
            {
                let mut configuration = configuration;
                configuration.done.remove(at);
                next.insert(configuration);
                continue;
            }
            for other in &pending {
                extensions += 1;
                let extended = ops
                    .get(*other)
                    .and_then(|op| configuration.with(*other, op));
                if let Some(extended) = extended.filter(|extended| seen.insert(extended.clone())) {
                    work.push(extended);
                }
            }
            if extensions > EXTENSIONS_MAX || seen.len() > CONFIGURATIONS_MAX {
                return Search::GaveUp;
            }
        }
        pending.retain(|other| *other != number);
        if next.is_empty() {
            return Search::Not {
                returned: ops[number].operation,
                pending: pending.iter().map(|other| ops[*other].operation).collect(),
            };
        }
        configurations = next.into_iter().collect();
    }
    Search::Linearizable
}
