//! Workloads. Each is an entry of [`list`]: its name, what is there before, what is done, and which ratios are marks.

pub mod closed;
pub mod keys;
pub mod list;
pub mod load;
pub mod operation;
pub mod run;

use self::load::Manner;
use self::operation::Operation;
use crate::measure::figures::named;

/// One thing that is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    /// Which keys, new or overwritten, and how many.
    pub about: String,
    pub members: usize,
    /// What is there before.
    pub state: State,
    pub work: Work,
    pub marks: Vec<Mark>,
    /// Takes so long that only `--long` includes it.
    pub long: bool,
}

/// What a cluster holds before a workload begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Empty,
    /// Keys with the numbers from 0.
    Keys {
        keys: u64,
        bytes: usize,
        manner: Manner,
    },
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// So many clients, each asking again when it is answered; beside them others, which are not measured.
    Closed {
        operation: Operation,
        clients: usize,
        beside: Option<(Operation, usize)>,
        bytes: usize,
    },
}

impl Work {
    /// Whether another workload that needs the same state can follow on the same cluster.
    pub fn only_reads(&self) -> bool {
        match self {
            Work::Closed {
                operation, beside, ..
            } => beside.is_none() && operation.only_reads(),
        }
    }
}

/// An aim: the ratio of a figure to etcd's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    pub figure: &'static str,
    pub ratio: f64,
}

impl Mark {
    pub fn new(figure: &'static str, ratio: f64) -> Mark {
        Mark {
            figure: named(figure).name,
            ratio,
        }
    }
}

/// Which workloads a word on the command line means: the one of that name, or all whose names go on after it.
pub fn matches(name: &str, word: &str) -> bool {
    name.strip_prefix(word)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_a_name_or_the_names_that_go_on_after_it() {
        assert!(matches("put-3-100", "put-3-100"));
        assert!(matches("put-3-100", "put"));
        assert!(!matches("put-3-1000", "put-3-100"));
        assert!(!matches("put-3-100", "pu"));
    }
}
