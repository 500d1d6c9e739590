//! Judging a history: pure functions from what clients saw to what is wrong with it.
//!
//! The [`truth`] is the sequence of all revisions, as the recorders of the run saw it. [`replay`] goes through it once
//! and holds every acknowledged write and every read against the state at its revision; the others judge what the
//! revisions alone do not say: real time, registers without revisions, lists, sums, sets, watches, leases, endings.
//!
//! A checker reports at most [`Findings::MOST`] violations and counts the rest: one defect tends to be seen by many.

mod bank;
mod clocks;
mod difference;
mod ending;
mod lease;
mod lists;
mod pages;
mod realtime;
mod register;
mod replay;
mod set;
mod state;
mod truth;
mod watch;
pub(crate) mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{History, Micros, Operation, OperationId, Revision, StreamId};
use replay::Causes;
use truth::Truth;

/// Who judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checker {
    /// What the runner itself saw: a process that ended by itself, say.
    Run,
    /// Each reply fits its call, each id is there once.
    Form,
    /// Every write is at its revision; every read is the state at its revision.
    Replay,
    /// Revisions follow real time.
    RealTime,
    /// Each register by itself is linearizable, revisions aside.
    Register,
    /// Transactions over lists are strictly serializable.
    Lists,
    /// The sum of all accounts stays.
    Bank,
    /// Nothing that was added is lost.
    Set,
    /// Watchers see each event once, in order, whole and right.
    Watch,
    /// Leases end when they should, and locks exclude.
    Lease,
    /// Lists that are read in pages are whole, and of one revision.
    Pages,
    /// In the end all members hold the same.
    Ending,
}

impl Checker {
    /// All, in the order in which they judge.
    pub const ALL: [Checker; 12] = [
        Checker::Run,
        Checker::Form,
        Checker::Replay,
        Checker::RealTime,
        Checker::Register,
        Checker::Lists,
        Checker::Bank,
        Checker::Set,
        Checker::Watch,
        Checker::Lease,
        Checker::Pages,
        Checker::Ending,
    ];
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Checker::Run => "run",
            Checker::Form => "form",
            Checker::Replay => "replay",
            Checker::RealTime => "real time",
            Checker::Register => "register",
            Checker::Lists => "lists",
            Checker::Bank => "bank",
            Checker::Set => "set",
            Checker::Watch => "watch",
            Checker::Lease => "lease",
            Checker::Pages => "pages",
            Checker::Ending => "ending",
        })
    }
}

/// Something that a correct store would not have answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Who found it.
    pub checker: Checker,
    /// What is wrong, in a sentence for a person.
    pub sentence: String,
    /// The operations that contradict each other, the one that is most to blame first.
    pub operations: Vec<OperationId>,
    /// The watches that have part in it.
    pub watches: Vec<StreamId>,
    /// When it showed.
    pub at: Micros,
}

/// The judgement of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is wrong, by checker.
    pub violations: Vec<Violation>,
    /// How many more each checker found than are listed.
    pub omitted: BTreeMap<Checker, usize>,
    /// What could not be judged, though it should have been.
    pub inconclusive: Vec<String>,
    /// What each checker had before it, in words: one that had nothing has proved nothing.
    pub judged: BTreeMap<Checker, String>,
}

impl Verdict {
    /// Whether everything was judged, and nothing found.
    pub fn is_valid(&self) -> bool {
        self.violations.is_empty() && self.inconclusive.is_empty()
    }

    /// How many violations were found, the omitted ones included.
    pub fn count(&self) -> usize {
        self.violations.len() + self.omitted.values().sum::<usize>()
    }
}

/// Where checkers put what they find.
#[derive(Default)]
struct Findings {
    verdict: Verdict,
    found: HashMap<Checker, usize>,
}

impl Findings {
    /// How many violations of one checker are told.
    const MOST: usize = 12;

    fn add(&mut self, violation: Violation) {
        let found = self.found.entry(violation.checker).or_default();
        *found += 1;
        if *found <= Findings::MOST {
            self.verdict.violations.push(violation);
        } else {
            *self.verdict.omitted.entry(violation.checker).or_default() += 1;
        }
    }

    /// A violation by operations; it showed when the last of them ended.
    fn by(&mut self, checker: Checker, operations: &[&Operation], sentence: String) {
        self.add(Violation {
            checker,
            sentence,
            operations: operations.iter().map(|operation| operation.id).collect(),
            watches: Vec::new(),
            at: operations
                .iter()
                .map(|operation| operation.end)
                .max()
                .unwrap_or_default(),
        });
    }

    fn inconclusive(&mut self, sentence: String) {
        self.verdict.inconclusive.push(sentence);
    }

    fn judged(&mut self, checker: Checker, what: String) {
        self.verdict.judged.insert(checker, what);
    }
}

/// What the checkers know.
struct Case<'a> {
    history: &'a History,
    operations: HashMap<OperationId, &'a Operation>,
    truth: Truth,
    causes: Causes,
}

impl<'a> Case<'a> {
    /// The operation that wrote a revision, if one is known.
    fn writer(&self, revision: Revision) -> Option<&'a Operation> {
        let id = self.causes.operation(revision)?;
        self.operations.get(&id).copied()
    }
}

/// Judges a history.
pub fn judge(history: &History) -> Verdict {
    let mut findings = Findings::default();
    run(history, &mut findings);
    let operations = form(history, &mut findings);
    let truth = Truth::of(history, &mut findings);
    let causes = replay::check(history, &operations, &truth, &mut findings);
    let case = Case {
        history,
        operations,
        truth,
        causes,
    };
    realtime::check(&case, &mut findings);
    register::check(&case, &mut findings);
    lists::check(&case, &mut findings);
    bank::check(&case, &mut findings);
    set::check(&case, &mut findings);
    watch::check(&case, &mut findings);
    lease::check(&case, &mut findings);
    pages::check(&case, &mut findings);
    ending::check(&case, &mut findings);
    let mut verdict = findings.verdict;
    verdict
        .violations
        .sort_by_key(|violation| (violation.checker, violation.at));
    verdict
}

/// What the runner itself saw counts as well.
fn run(history: &History, findings: &mut Findings) {
    let ends = history.operations.iter().map(|operation| operation.end);
    let at = ends.max().unwrap_or_default();
    for found in &history.found {
        findings.add(Violation {
            checker: Checker::Run,
            sentence: found.clone(),
            operations: Vec::new(),
            watches: Vec::new(),
            at,
        });
    }
    let judged = format!("{} faults", history.faults.len());
    findings.judged(Checker::Run, judged);
}

/// What the other checkers take for granted.
fn form<'a>(history: &'a History, findings: &mut Findings) -> HashMap<OperationId, &'a Operation> {
    let mut operations = HashMap::with_capacity(history.operations.len());
    for operation in &history.operations {
        if let Some(other) = operations.insert(operation.id, operation) {
            let sentence = format!("Two operations have the id {}.", operation.id.0);
            findings.by(Checker::Form, &[operation, other], sentence);
        }
        if operation.end < operation.start {
            let sentence = format!("{} ended before it began.", words::operation(operation));
            findings.by(Checker::Form, &[operation], sentence);
        }
        if !operation.reply_fits() {
            let sentence = format!(
                "{} was answered by something that is no answer to it.",
                words::operation(operation)
            );
            findings.by(Checker::Form, &[operation], sentence);
        }
    }
    for act in &history.acts {
        if act.operations.is_empty() || act.operations.iter().any(|id| !operations.contains_key(id))
        {
            findings.inconclusive(format!(
                "An act of client {} at {} names operations that are not in the history.",
                act.client.0,
                words::time(act.start)
            ));
        }
    }
    findings.judged(
        Checker::Form,
        format!(
            "{} operations, {} acts",
            history.operations.len(),
            history.acts.len()
        ),
    );
    operations
}
