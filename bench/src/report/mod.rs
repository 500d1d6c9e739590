//! What was measured: kept as JSON ([`results`]), told in tables ([`markdown`]).

pub mod markdown;
pub mod results;

pub use results::Results;
