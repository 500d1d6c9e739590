//! What is measured, and how: latencies and failures of clients ([`meter`]), what processes cost ([`usage`]), and
//! what several pairs of runs say together ([`stats`]).

pub mod figures;
pub mod meter;
pub mod stats;
pub mod usage;

pub use figures::Outcome;
pub use meter::Meter;
pub use usage::Usage;

/// Bytes.
pub const MIB: f64 = (1 << 20) as f64;
