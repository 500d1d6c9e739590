//! Watch streams: what any server owes its watchers, and what one watch must bring.
//!
//! How a server cuts events into responses is its own affair; that each event comes once, in order, whole
//! revisions at a time and after `created`, is not. [`record`] asserts that of every response, [`session`] is a
//! stream that is recorded so, and [`expect`] says what of a history a watch must bring.

pub mod expect;
pub mod record;
pub mod session;

use keelson_proto::mvccpb::Event;

/// The revision at which an event happened.
pub fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
