//! The list of workloads, in the order in which they run: those that need the same state stand together, so that one
//! loaded cluster serves them all.

mod reads;
mod streams;
mod upkeep;
mod whole;
mod writes;

use super::keys::VALUE_BYTES;
use super::load::Manner;
use super::operation::Operation;
use super::{Mark, State, Work, Workload};
use crate::system::Timing;

const LIST_VALUE_BYTES: usize = 1024;
const LISTED_KEYS: u64 = 10_000;
/// Keys that are overwritten, and keys that are read over and over.
const OVERWRITTEN: u64 = 100_000;
const HOT_KEYS: u64 = 10_000;
/// Keys a txn while they are laid down.
const IN_TXNS: Manner = Manner::Txns(50);

/// Pairs of a workload whose every run takes minutes.
const FEW_PAIRS: usize = 2;

/// How large the workloads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// A tenth of the large numbers, to see that all works.
    pub quick: bool,
}

impl Scale {
    /// A large number, as it is at this scale.
    fn many(self, number: u64) -> u64 {
        if self.quick { number / 10 } else { number }
    }
}

/// All of them.
pub fn list(scale: Scale) -> Vec<Workload> {
    let mut all = Vec::new();
    for members in [1, 3] {
        all.extend(writes::puts(members));
        all.extend(writes::txns(members));
        all.extend(reads::hot(members));
        all.extend(reads::large(members, scale));
        all.extend(reads::lists(members));
        all.extend(streams::leases(members, scale));
        all.push(writes::offered(members));
        all.extend(streams::watches(members));
    }
    all.extend(streams::reconnects(scale));
    let slow = [
        upkeep::memory(scale),
        upkeep::disturbances(scale),
        upkeep::leader(scale),
    ];
    all.extend(slow.into_iter().flatten().map(Workload::in_few_pairs));
    all.extend(whole::control_plane(scale));
    all
}

/// One that is not clients of one kind.
fn other(name: String, about: String, members: usize, work: Work, marks: Vec<Mark>) -> Workload {
    Workload {
        name,
        about,
        members,
        timing: Timing::default(),
        state: State::Empty,
        work,
        marks,
        pairs_max: usize::MAX,
        long: false,
    }
}

fn keys(keys: u64, bytes: usize) -> State {
    State::Keys {
        keys,
        bytes,
        manner: IN_TXNS,
    }
}

/// Clients of one kind, and nothing else.
fn closed(
    name: &str,
    about: String,
    members: usize,
    state: State,
    operation: Operation,
    clients: usize,
) -> Workload {
    let bytes = match state {
        State::Keys { bytes, .. } => bytes,
        State::Empty => VALUE_BYTES,
    };
    Workload {
        name: format!("{name}-{members}-{clients}"),
        about,
        members,
        timing: Timing::default(),
        state,
        work: Work::Closed {
            operation,
            clients,
            beside: None,
            bytes,
        },
        marks: Vec::new(),
        pairs_max: usize::MAX,
        long: false,
    }
}

impl Workload {
    /// With marks: how many times etcd's rate, and what part of its servers' CPU.
    fn marked(mut self, rate: f64, cpu: Option<f64>) -> Workload {
        self.marks.push(Mark::ratio("rate", rate));
        self.marks
            .extend(cpu.map(|cpu| Mark::ratio("server_cpu_us", cpu)));
        self
    }

    fn with(mut self, mark: Mark) -> Workload {
        self.marks.push(mark);
        self
    }

    /// With figures that have no marks, and that tell what else the rate costs.
    fn compared(mut self, figures: &[&str]) -> Workload {
        self.marks
            .extend(figures.iter().map(|figure| Mark::none(figure)));
        self
    }

    fn in_few_pairs(mut self) -> Workload {
        self.pairs_max = FEW_PAIRS;
        self
    }

    fn long(mut self) -> Workload {
        self.long = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_tell_nothing_twice() {
        for quick in [false, true] {
            let all = list(Scale { quick });
            let names: BTreeSet<&str> = all.iter().map(|workload| workload.name.as_str()).collect();
            assert_eq!(names.len(), all.len());
        }
    }

    #[test]
    fn quick_runs_have_the_same_workloads_at_a_tenth_of_the_size() {
        let names = |quick| -> Vec<String> {
            list(Scale { quick })
                .into_iter()
                .map(|workload| workload.name)
                .collect()
        };
        assert_eq!(names(false), names(true));
    }
}
