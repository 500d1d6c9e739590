//! Objects in an etcd: created if absent, replaced if unchanged, listed at one revision, watched from one on.
//!
//! **Guarantees**: every write is one transaction that compares first, so that no write of another is ever lost, and
//! is sent once only. What must be unique beside the object itself (a cluster IP, a node port) is a *claim*: a key of
//! its own, written and deleted in the object's transaction. So claims never leak and races are the store's to
//! settle; upstream allocates before it stores, and needs loops that repair what was left behind.
//!
//! **Leaves to others**: what the bytes mean.

mod compact;
mod errors;
mod events_lease;
mod masters;
mod rounds;
mod store;
mod token;
mod watch;

pub use compact::keep_compacting;
pub use errors::StoreError;
pub use events_lease::ExpiryLeases;
pub use masters::MasterLease;
pub use rounds::Rounds;
pub use store::{
    Claim, Connection, ConnectionTls, Found, Guard, ListPage, Put, Store, Stored, Written,
};
pub use token::{Continue, ContinueError};
pub use watch::{Change, ChangeKind, StoreWatch, WatchBatch};

/// A store revision, which is an object's or a list's resource version.
pub type Revision = i64;

/// A lease of the store's, with which what is written goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseId(i64);

/// Where Kubernetes keeps its objects.
pub const ROOT: &str = "/registry";
