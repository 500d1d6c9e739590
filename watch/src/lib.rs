//! From events to watch streams: the hub that fans out what the store applies, etcd's Watch semantics, and catching up.
//!
//! **Guarantees**: a watcher gets every event that it asked for, once, in order, and every revision whole; a header's revision
//! never exceeds what was sent, except `created`'s, which says at which revision the watch was registered. Publishing never
//! waits for a watcher, and an event costs its matches. Memory is bounded by [`Options`]: a stream that does not
//! take what it is sent falls back to catching up from the recent events or the store's log.
//!
//! **Leaves to others**: threads, tasks, timers and sockets. Nothing here knows a runtime or a clock: a stream is polled with a
//! [`std::task::Context`], time enters by [`Hub::tick`], and catching up is a method to call until it says that there is no
//! more ([`run_catch_up`] does so on a thread of the caller's). The same calls in the same order give the same messages.

mod catch_up;
mod core;
mod cut;
mod frame;
mod hub;
mod index;
mod intervals;
mod options;
mod outbox;
mod progress;
mod requests;
mod ring;
mod seed;
mod span;
mod states;
mod stream;
#[cfg(test)]
mod testing;

pub use frame::Frame;
pub use hub::{Hub, Stats, run_catch_up};
pub use options::Options;
pub use stream::WatchStream;
