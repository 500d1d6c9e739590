//! The garbage collector: what its owners leave behind goes too.
//!
//! [`graph`] knows who owns whom, as the watches tell; [`decide`] says what to do about one object; [`run`](run::Collector)
//! looks at it live, and does it. The graph may be behind: nothing is deleted before its owners were looked for by name and
//! UID, and nothing but the very object that was looked at.

pub mod decide;
pub mod graph;
mod run;

pub use run::Collector;

/// The finalizer of an owner that goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that leaves its dependents behind.
pub const ORPHAN: &str = "orphan";
