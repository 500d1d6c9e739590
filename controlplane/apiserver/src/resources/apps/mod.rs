//! The apps group.

pub mod controller_revision;
pub mod deployment;
pub mod replica_set;
mod template;
