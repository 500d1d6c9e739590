//! The search for an order of the operations on one register.
//!
//! It keeps every configuration that is possible after what has happened so far: the register's value, and which of the
//! pending operations have taken effect already. When an operation returns, each configuration is extended, by pending
//! operations in any order, until that operation has taken effect; if none can be, the history is wrong.
//!
//! Operations of unknown outcome stay pending for ever. What keeps that small: one of them only matters if what takes
//! effect next observes it; of those that are alike the first goes first; and a configuration that has used more of them
//! than another, and is the same otherwise, can do nothing that the other cannot.

use std::collections::{HashMap, HashSet};

use crate::history::{Data, Operation};

/// More configurations at once than this, or more extensions of them in all, and the search gives up.
const CONFIGURATIONS_MAX: usize = 100_000;
const EXTENSIONS_MAX: usize = 20_000_000;

/// What an operation means for one register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act<'a> {
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
        write: Option<Option<&'a Data>>,
        read: Option<Option<&'a Data>>,
    },
}

/// What a swap wants the value to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition<'a> {
    Is(&'a Data),
    Absent,
    Present,
}

/// An operation of the search.
pub struct Op<'a> {
    pub operation: &'a Operation,
    pub act: Act<'a>,
}

/// How a search ended.
pub enum Search<'a> {
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
    /// Pending operations that have taken effect and will return, in order of their numbers.
    done: Vec<usize>,
    /// Those of unknown outcome that have taken effect, in order of their numbers, but for those that have in every
    /// configuration.
    used: Vec<usize>,
    /// Whether the last to take effect was one of those, which something must observe next.
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
                if held.unwrap_or(true) != holds || read.is_some_and(|read| read != self.value) {
                    return None;
                }
                let write = write.filter(|_| holds);
                (write.unwrap_or(self.value), true)
            }
        };
        if self.unobserved && !observes {
            return None;
        }
        let unobserved = op.operation.is_unknown();
        let mut next = Configuration {
            value,
            unobserved,
            ..self.clone()
        };
        let list = if unobserved {
            &mut next.used
        } else {
            &mut next.done
        };
        let at = list.binary_search(&number).err()?;
        list.insert(at, number);
        Some(next)
    }

    fn has_used(&self, number: usize) -> bool {
        self.used.binary_search(&number).is_ok()
    }
}

/// Searches; `ops` in the order of their starts.
pub fn search<'a>(ops: &[Op<'a>]) -> Search<'a> {
    // Calls come before returns of the same microsecond: then they count as concurrent.
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(ops.len() * 2);
    for (number, op) in ops.iter().enumerate() {
        moments.push((op.operation.start.0, false, number));
        if op.operation.done().is_some() {
            moments.push((op.operation.end.0, true, number));
        }
    }
    moments.sort_unstable();
    let twins = twins(ops);
    let mut pending: Vec<usize> = Vec::new();
    // Of unknown outcome, and used in every configuration.
    let mut settled = vec![false; ops.len()];
    let mut configurations = vec![Configuration {
        value: None,
        done: Vec::new(),
        used: Vec::new(),
        unobserved: false,
    }];
    let mut extensions = 0;
    for (_, returns, number) in moments {
        if !returns {
            pending.push(number);
            continue;
        }
        let mut next: Vec<Configuration<'_>> = Vec::new();
        let mut seen: HashSet<Configuration<'_>> = configurations.iter().cloned().collect();
        let mut work = configurations;
        while let Some(mut configuration) = work.pop() {
            if let Ok(at) = configuration.done.binary_search(&number)
                && !configuration.unobserved
            {
                configuration.done.remove(at);
                next.push(configuration);
                continue;
            }
            for other in &pending {
                // Of writes that are alike, the one that was asked for first takes effect first.
                let twin = twins.get(*other).copied().flatten();
                if twin.is_some_and(|twin| !settled[twin] && !configuration.has_used(twin)) {
                    continue;
                }
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
        configurations = undominated(next);
        if configurations.is_empty() {
            return Search::Not {
                returned: ops[number].operation,
                pending: pending.iter().map(|other| ops[*other].operation).collect(),
            };
        }
        settle(&mut configurations, &mut pending, &mut settled);
    }
    Search::Linearizable
}

/// What every configuration has used need not be carried on.
fn settle(
    configurations: &mut [Configuration<'_>],
    pending: &mut Vec<usize>,
    settled: &mut [bool],
) {
    let Some((first, others)) = configurations.split_first() else {
        return;
    };
    let by_all = first.used.iter().copied();
    let by_all: Vec<usize> = by_all
        .filter(|number| others.iter().all(|other| other.has_used(*number)))
        .collect();
    if by_all.is_empty() {
        return;
    }
    for number in &by_all {
        settled[*number] = true;
    }
    pending.retain(|number| !settled[*number]);
    for configuration in configurations {
        configuration.used.retain(|number| !settled[*number]);
    }
}

/// For each operation of unknown outcome, the one before it that is just like it: which of them took effect makes no
/// difference, so that not every choice has to be tried.
fn twins(ops: &[Op<'_>]) -> Vec<Option<usize>> {
    let mut last: HashMap<&Act<'_>, usize> = HashMap::new();
    let twins = ops.iter().enumerate().map(|(number, op)| {
        let unknown = op.operation.is_unknown();
        unknown.then(|| last.insert(&op.act, number)).flatten()
    });
    twins.collect()
}

/// Leaves out what another configuration can do as well, with more left to use.
fn undominated(configurations: Vec<Configuration<'_>>) -> Vec<Configuration<'_>> {
    type Alike<'a> = (Option<&'a Data>, Vec<usize>);
    let mut groups: HashMap<Alike<'_>, Vec<Configuration<'_>>> = HashMap::new();
    for configuration in configurations {
        let alike = (configuration.value, configuration.done.clone());
        let group = groups.entry(alike).or_default();
        if group.iter().any(|other| uses_all_of(&configuration, other)) {
            continue;
        }
        group.retain(|other| !uses_all_of(other, &configuration));
        group.push(configuration);
    }
    groups.into_values().flatten().collect()
}

fn uses_all_of(more: &Configuration<'_>, less: &Configuration<'_>) -> bool {
    less.used.len() <= more.used.len() && less.used.iter().all(|number| more.has_used(*number))
}
