//! The controllers: each brings one kind's actual state closer to the desired one, whenever it looks.
//!
//! **Guarantees**: each is a pure `reconcile(observed) -> actions` with a thin loop around it: level-triggered and
//! idempotent, so that being killed between any two actions loses nothing and does nothing twice.
//!
//! **Leaves to others**: storing and validating (the API server), placing pods (the scheduler), running them (the node).

mod args;
pub mod common;
mod context;
pub mod deployment;
mod discovery;
pub mod endpoints;
pub mod gc;
mod informers;
pub mod namespace;
pub mod nodes;
pub mod replicaset;
mod run;
#[cfg(test)]
mod testing;

pub use args::{Args, NAMES};
pub use run::{COMPONENT, run};
