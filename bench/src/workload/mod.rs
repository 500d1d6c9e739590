//! Workloads. Each is an entry of [`list`]: its name, what is there before, what is done, and which ratios are marks.

mod arrivals;
mod closed;
pub mod controlplane;
mod disturbed;
mod expiry;
mod keepalive;
pub mod keys;
mod leader;
pub mod list;
pub mod load;
mod memory;
mod offered;
pub mod operation;
mod phases;
mod reconnect;
pub mod run;
mod watch;

use serde::{Deserialize, Serialize};

use self::controlplane::Aspect;
use self::disturbed::Disturbance;
use self::expiry::Expiry;
use self::leader::Loss;
use self::load::Manner;
use self::operation::Operation;
use self::reconnect::Reconnect;
use self::watch::Watchers;
use crate::measure::figures::named;
use crate::system::Timing;

/// One thing that is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    /// Which keys, new or overwritten, and how many.
    pub about: String,
    pub members: usize,
    pub timing: Timing,
    /// What is there before.
    pub state: State,
    pub work: Work,
    pub marks: Vec<Mark>,
    /// Each run is itself many, or long, so that few pairs tell enough, unless more are asked for.
    pub pairs_max: usize,
    /// Takes so long, or tells so little that is new, that only `--long` includes it.
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// So many clients, each asking again when it is answered; beside them so many puts a second over the same keys.
    Closed {
        operation: Operation,
        clients: usize,
        beside: Option<f64>,
        bytes: usize,
    },
    /// Puts over so many keys at parts of etcd's top rate.
    Offered {
        keys: u64,
        bytes: usize,
    },
    Watch(Watchers),
    Reconnect(Reconnect),
    /// So many leases, kept alive.
    KeepAlive {
        leases: u64,
    },
    Expiry(Expiry),
    /// So many keys.
    Memory {
        keys: u64,
    },
    /// After so many revisions.
    Disturbed {
        by: Disturbance,
        revisions: u64,
    },
    /// The leader is lost so often.
    Leader {
        loss: Loss,
        times: usize,
    },
    ControlPlane(Aspect),
}

impl Work {
    /// Whether another workload that needs the same state can follow on the same cluster.
    pub fn only_reads(&self) -> bool {
        match self {
            Work::Closed {
                operation, beside, ..
            } => beside.is_none() && operation.only_reads(),
            _ => false,
        }
    }
}

/// An aim, or none: then the figure is compared all the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Aim {
    /// The figure's ratio to etcd's.
    Ratio(f64),
    /// The figure itself.
    Value(f64),
    None,
}

/// An aim for a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub figure: String,
    pub aim: Aim,
}

impl Mark {
    fn new(figure: &str, aim: Aim) -> Mark {
        Mark {
            figure: named(figure).name.to_owned(),
            aim,
        }
    }

    pub fn ratio(figure: &str, ratio: f64) -> Mark {
        Mark::new(figure, Aim::Ratio(ratio))
    }

    pub fn none(figure: &str) -> Mark {
        Mark::new(figure, Aim::None)
    }

    pub fn value(figure: &str, value: f64) -> Mark {
        Mark::new(figure, Aim::Value(value))
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
