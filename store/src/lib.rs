//! The state machine: commands in, outcomes and events out. Revisions, ranges, txns, leases and compaction,
//! over an ordered key-value [`engine::Engine`].
//!
//! **Guarantees**: the same commands from the same state give the same state, outcomes and events on every member;
//! applying never fails but by the engine, and never panics; a reader sees one published state, whole.
//!
//! **Leaves to others**: consensus, time (it enters as a command), networking, threads, and answering clients.
//! This crate knows no async, no clock, no randomness and no hash-map iteration.

mod apply;
mod arena;
mod cache;
pub mod check;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod counts;
pub mod engine;
mod error;
mod event;
pub mod format;
mod hash;
mod ids;
mod kvs;
pub mod memory;
#[cfg(feature = "conformance")]
pub mod model;
mod published;
mod read;
mod refound;
mod refusal;
mod roots;
mod snapshot;
mod source;
mod state;
mod store;
mod stream;
mod wire;

pub use command::{Entry, Outcome, Payload, Reply};
pub use error::{OpenError, ReadError};
pub use event::{Event, EventKind};
pub use hash::HashKv;
pub use ids::{LeaseId, LogId, LogIndex, MemberId, Revision};
pub use published::{Published, Reader};
pub use refound::refound;
pub use refusal::Refusal;
pub use state::read_state;
pub use store::{Applied, LeaseChange, Options, Store};
pub use stream::RangeStream;
pub use wire::{Chunk, EncodedRange, HEAD_BYTES, Pieces};
