//! What planted bugs of applying do, where a line is not enough: in no shipped program (see `keelson-planted`).

use bytes::Bytes;
use keelson_proto::commandpb::State;
use std::collections::HashSet;

use super::Work;
use crate::Revision;
use crate::engine::{Cursor, EngineError, Family, View};
use crate::format::Version;
use crate::source::Source;

impl<V: View> Work<'_, V> {
    /// The key's record before this batch.
    pub(super) fn before_batch(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        View::get(self.view, Family::Latest, key)
    }

    /// Drops the first key that was not written since `since`.
    pub(super) fn drop_oldest_key(&mut self, since: Revision) -> Result<(), EngineError> {
        let mut oldest = None;
        {
            let source = self.source();
            let mut cursor = source.cursor(Family::Latest, b"", None);
            while let Some((key, record)) = cursor.next()? {
                if Version::parse(record)?.modified < since {
                    oldest = Some(Bytes::copy_from_slice(key));
                    break;
                }
            }
        }
        if let Some(key) = oldest {
            self.pending.delete(Family::Latest, key);
        }
        Ok(())
    }
}

/// The keys in an order that differs from member to member.
pub(super) fn in_map_order(keys: Vec<Bytes>) -> Vec<Bytes> {
    let keys: HashSet<Bytes> = keys.into_iter().collect();
    keys.into_iter().collect()
}

/// A state that says that its last entry was not applied.
pub(super) fn applied_one_late(state: &State) -> State {
    let mut late = state.clone();
    if let Some(applied) = &mut late.applied {
        applied.index = applied.index.saturating_sub(1);
    }
    late
}
