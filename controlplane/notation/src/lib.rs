//! How Kubernetes writes amounts and lengths of time: [`quantity`], as in `1500m` and `2Gi`, and [`duration`], as in `1m30s`.
//!
//! A crate of its own, since both sides of the API read them, and neither knows the other.

pub mod duration;
pub mod quantity;
