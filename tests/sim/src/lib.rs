//! Simulation: the code that ships, in one thread, with virtual time and a seed.
//!
//! Three members run on disks that lose or tear at a crash what was not synced ([`keelson_log::SimDir`], and the
//! engine in memory), over a network that delays, loses, duplicates and cuts ([`net`]), with clocks that drift and
//! tasks that can be killed or paused where they stand ([`runtime`]). Clients write, swap, delete and read; at the end
//! faults stop, the members must agree, and every answer must fit the history ([`history`]). A seed replays to the
//! same trace.

pub mod disk;
pub mod history;
pub mod net;
pub mod node;
pub mod runtime;
pub mod scenario;
