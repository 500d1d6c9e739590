//! The garbage collector: what its owners leave behind goes too.
//!
//! [`graph`] knows who owns whom, as the watches tell; [`decide`] says what to do about one object; [`run`](run::Collector)
//! does it. The graph may be behind: nothing is deleted before an owner that the graph does not know was looked for, live, by
//! name and UID, and nothing but the very object at the very version that was decided on.

pub mod decide;
pub mod graph;
mod kinds;
mod run;

pub use run::Collector;

/// The finalizer of an owner that goes after its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner that leaves its dependents behind.
pub const ORPHAN: &str = "orphan";
