//! What every client of the API server shares: a client from a kubeconfig, leader election by a Lease, work queues over
//! informers, events, health; and the rules of Kubernetes' objects that several of them go by.
//!
//! **Guarantees**: of all processes that share a Lease's name, one at a time works, and stops before another begins. A
//! reader of a [`Store`] that has synced misses nothing that was there when the process started. An item of a
//! [`Queue`] is worked on by one worker at a time, and one that fails holds up nobody but itself.
//!
//! **Leaves to others**: what the work is.

mod client;
mod correlator;
pub mod election;
pub mod error;
mod events;
mod follow;
mod health;
mod informer;
mod limit;
mod patch;
mod queue;
mod store;
mod taints;
mod worker;

pub use client::{Connect, ConnectArgs};
pub use correlator::{Correlator, Occurrence, Write};
pub use events::{EventType, Recorder, reference};
pub use health::{Health, serve_health};
pub use informer::Informer;
pub use patch::{changes, merge_patch};
pub use queue::Queue;
pub use store::{Change, Key, Store};
pub use taints::tolerates;
pub use worker::{Outcome, finish, work};
