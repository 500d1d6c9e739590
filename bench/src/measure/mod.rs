//! What is measured, and how: latencies and failures of clients ([`meter`]), what processes cost ([`usage`]), what the
//! disk can do ([`disk`]), and what several pairs of runs say together ([`stats`]).

pub mod disk;
pub mod figures;
pub mod meter;
pub mod stats;
pub mod usage;

pub use disk::Syncs;
pub use figures::Outcome;
pub use meter::Meter;
pub use usage::Usage;

/// Bytes.
pub const MIB: f64 = (1 << 20) as f64;
