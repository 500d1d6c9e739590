//! What was measured: kept as JSON ([`results`]), told in tables ([`markdown`]), drawn as SVG ([`charts`]).

pub mod charts;
mod growth;
pub mod markdown;
mod plots;
pub mod results;

pub use results::Results;
