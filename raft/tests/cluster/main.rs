//! Clusters in one process, on real files and sockets. One program, since all that a member is made of is compiled anew
//! for each.

#![allow(
    clippy::disallowed_methods,
    reason = "on tokio and its clock, where nothing has to replay"
)]

mod common;
mod disk;
mod hung;
mod membership;
mod promises;
mod snapshots;
mod stopping;
