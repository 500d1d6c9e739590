//! Consensus: one member of the cluster, on openraft.
//!
//! A [`Member`] proposes commands, proves reads, keeps the lease clock, changes the membership, and carries snapshots.
//! Committed entries go to the store in batches ([`applier`]), the store's events to the watch hub.
//!
//! **Guarantees**: a write is acknowledged when it is on the disks of a majority and applied here; a proposal of ours
//! is never sent twice; a read barrier proves leadership after it was asked for; a member whose disk or state fails
//! stops.
//!
//! **Leaves to others**: what a command means (`store`), answering clients (`api`), flags and process (`kvd`).
//!
//! Everything but [`tcp`] is generic over openraft's runtime, the log, the engine and the transport: the same code
//! runs under tokio, and under a seeded single-threaded runtime with virtual time.

mod applier;
mod barrier;
mod desk;
mod duties;
mod handover;
mod intake;
mod leadership;
mod leases;
mod log_store;
mod machine;
mod member;
mod members;
mod network;
mod progress;
mod proposals;
mod reconfiguration;
mod renewals;
mod shared;
mod snapshots;
mod state_dir;
mod succession;
pub mod tcp;
pub mod transport;
mod trouble;
mod types;

pub use applier::{ApplyOn, OpenEngine};

pub use member::{Config, Member, StartError, Status};
pub use shared::{Parts, Timing, Upkeep};
pub use state_dir::StateDir;
pub use trouble::Trouble;
