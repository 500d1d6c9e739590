//! Simulation: the code that ships, in one thread, with virtual time and a seed.
//!
//! Three to five members run on disks that lose or tear at a crash what was not synced ([`disk`], and the engine in
//! memory), over a network that delays, loses, duplicates, reorders and cuts ([`net`]), with clocks that drift and
//! tasks that can be killed or paused where they stand ([`runtime`]). Members come and go ([`cluster`]), things go
//! wrong ([`faults`]), and meanwhile clients, lease holders, watchers and an operator use the cluster ([`workload`]).
//!
//! What the members write, apply and say is compared at every step ([`truth`]); when faults have stopped, the cluster
//! must make progress and agree ([`scenario`]), and then every answer must fit the history ([`checks`]). What a run has
//! really exercised is counted ([`tally`]). A seed replays to the same trace.

use mimalloc::MiMalloc;

/// Simulating is to a good part allocating.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

pub mod checks;
pub mod cluster;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod history;
pub mod limits;
pub mod net;
pub mod node;
pub mod operation;
pub mod regressions;
pub mod runtime;
pub mod scenario;
pub mod tally;
pub mod truth;
pub mod workload;
