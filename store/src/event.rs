//! Events as they are kept on disk, fanned out and sent: encoded once, when they are applied.

use bytes::Bytes;

use crate::Revision;

/// One change of one key, encoded as `mvccpb.Event` with its previous version, if it had one, as the last field:
/// the whole is the event with `prev_kv`, its first part is the event without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The main revision of the change.
    pub revision: Revision,
    /// The change's place within its revision, from 0.
    pub sub: u32,
    /// Put or delete.
    pub kind: EventKind,
    /// The encoded `mvccpb.Event`: type, kv, then prev_kv.
    pub encoded: Bytes,
    /// How many bytes of [`Event::encoded`] are the event without `prev_kv`.
    pub plain_len: usize,
}

/// What happened to the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Created or overwritten.
    Put,
    /// Deleted, also by the end of its lease.
    Delete,
}

impl Event {
    /// The event as `mvccpb.Event`, with or without the previous version.
    pub fn bytes(&self, prev_kv: bool) -> Bytes {
        if prev_kv {
            self.encoded.clone()
        } else {
            self.encoded.slice(..self.plain_len)
        }
    }
}
