//! What a watcher asked for, and everything that it was sent.

use serde::{Deserialize, Serialize};

use super::{ConnectionId, Data, Kv, MemberIndex, Micros, Revision, StreamId, Workload};

/// One watch on one connection. A watcher that reconnects makes one after another, of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchStream {
    /// Its name.
    pub id: StreamId,
    /// The name of the watcher: one that goes on where it was when it reconnects.
    pub watcher: String,
    /// The workload that it belongs to.
    pub workload: Workload,
    /// Whether this is a watch of everything (`\0` to the end, from revision 1, with previous values, without filters),
    /// which tells the order of all writes. There may be several recorders, one for each member, say.
    pub recorder: bool,
    /// The member that serves it.
    pub member: MemberIndex,
    /// The connection that it runs on.
    pub connection: ConnectionId,
    /// The first key.
    pub key: Data,
    /// Empty: only the key. `\0`: to the end.
    pub range_end: Data,
    /// From which revision; 0 is from now.
    pub start_revision: Revision,
    /// Whether events shall tell what was there before.
    pub prev_kv: bool,
    /// Whether puts are left out.
    pub no_put: bool,
    /// Whether deletes are left out.
    pub no_delete: bool,
    /// Whether it asked for notes on progress.
    pub progress_notify: bool,
    /// Whether it allowed that large responses be cut.
    pub fragment: bool,
    /// When it was asked for.
    pub start: Micros,
    /// When it ended, or the run did.
    pub end: Micros,
    /// Why it ended: an error's text, or what the watcher itself did. None if it ran until the end of the run, which waits
    /// until every watch that is open has delivered the last revision: of such a watch nothing may be missing.
    pub ended: Option<String>,
    /// What it was sent, in order.
    pub responses: Vec<WatchResponse>,
}

/// A response of a watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchResponse {
    /// When it arrived.
    pub at: Micros,
    /// The header's revision. Without events, and neither created nor cancelled, it is a note on progress: everything
    /// up to it was sent.
    pub revision: Revision,
    /// The header's raft term.
    pub term: u64,
    /// The id of the watch; −1 if it is meant for all of the connection.
    pub watch_id: i64,
    /// Whether it says that the watch was made.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// Whether it says that the watch is over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub canceled: bool,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cancel_reason: String,
    /// The compacted revision, if it is over because what it asked for is compacted; else 0.
    #[serde(skip_serializing_if = "Revision::is_zero")]
    pub compact_revision: Revision,
    /// Whether the next response goes on with it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fragment: bool,
    /// What happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

impl WatchResponse {
    /// Whether it is a note on progress.
    pub fn is_progress(&self) -> bool {
        !self.created && !self.canceled && self.events.is_empty()
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it was.
    pub kind: EventKind,
    /// The key after it. Of a delete only the key and `mod_revision`, the revision of the delete.
    pub kv: Kv,
    /// The key before it, if asked for and there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_kv: Option<Kv>,
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The key was put.
    Put,
    /// The key was deleted.
    Delete,
}
