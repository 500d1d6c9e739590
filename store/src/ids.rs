//! The numbers that must not be mixed up, each in a type of its own.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The store's logical clock: an empty store is at 1, each change of the keys adds one.
    Revision(i64)
}
number! {
    /// A lease's id; 0 means no lease.
    LeaseId(i64)
}
number! {
    /// A member's id, as etcd computes it.
    MemberId(u64)
}
number! {
    /// A position in the raft log.
    LogIndex(u64)
}

impl Revision {
    /// The revision of a store that has never been written to.
    pub const FIRST: Revision = Revision(1);

    /// The next revision.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// A log position: openraft's `LogId` in plain numbers. There is one leader a term, so the term names the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term in which the entry was appended.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
}
