//! Nodes: noticed when they fall silent, tainted, and relieved of their pods.
//!
//! [`health`] judges a node by its Lease and status, [`zones`] says how fast taints may be put on, [`lifecycle`] joins the
//! two into what to write; [`eviction`] says when a pod must leave a tainted node; [`pod_gc`] takes away the pods of nodes
//! that are gone. All of these are pure; [`run`](run::Nodes) looks every few seconds, and writes.

pub mod eviction;
pub mod health;
pub mod lifecycle;
pub mod pod_gc;
mod run;
pub mod taints;
#[cfg(test)]
mod tests;
pub mod zones;

pub use run::{Evictions, Nodes, PodGc};
