//! The raft log: what a member of the cluster has promised, on its disk.
//!
//! What it is: an append-only stream of records (entries, votes, committed ids, truncations,
//! purges) in preallocated segment files, with an index and the latest entries in memory. Requests
//! are readable at once and queued; one step writes all that is queued, syncs once, and tells all
//! who waited. docs/formats.md draws the bytes.
//!
//! What it guarantees:
//!
//! - whoever is told `Ok` finds their request after any crash (an `fdatasync` that covers it has
//!   returned), and what survives beyond that is a prefix of the stream;
//! - damage to anything that was synced is found when the log is opened or when the entry is read,
//!   and is reported with file and byte offset; only a tail that was never synced is cut;
//! - a write or sync that fails stops the log for good: it is not retried, and all who wait, and
//!   all who come later, get the error.
//!
//! What it leaves to others: one process at a time for a directory (the data directory's lock);
//! what entries mean; when to purge; terms and votes being right.
//!
//! It knows no async runtime, clock or randomness. The disk is behind [`LogDir`] and [`LogFile`]:
//! [`DiskDir`] for real files, [`SimDir`] for a disk that can crash.

mod disk;
mod error;
mod fate;
mod format;
mod index;
mod io;
mod log;
mod memory;
mod open;
mod read;
mod recover;
mod scan;
mod sim;
mod stream;
mod thread;
mod types;
mod writer;

pub use disk::{DiskDir, DiskFile};
pub use error::LogError;
pub use format::PAYLOAD_BYTES_MAX;
pub use io::{LogDir, LogFile};
pub use log::{Completions, Done, RaftLog};
pub use sim::{SimDir, SimFile};
pub use thread::ThreadedLog;
pub use types::{Cut, LogId, Opened, Options, Vote};
