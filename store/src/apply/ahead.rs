//! Reads what a batch's keys held before it, many together: an engine answers them for much less than one by one.
//!
//! **Guarantees**: never changes a result. What it has not read is read when it is needed.

use bytes::Bytes;
use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::TxnRequest;
use keelson_proto::etcdserverpb::request_op;

use crate::engine::{EngineError, Family, View};
use crate::source::{Cached, Source};

/// So many keys are read together before anything is known about how large their records are, and so many afterwards: more would
/// hardly cost less each.
const FIRST_KEYS: usize = 16;
const TOGETHER_KEYS: usize = 32;

/// Bytes of records that are read ahead, about. Small records are what it is good for.
const AHEAD_BYTES: usize = 4 << 20;

/// Records of [`Family::Latest`] before a batch, by key and in its order.
#[derive(Default)]
pub(super) struct Ahead(Vec<(Bytes, Option<Bytes>)>);

impl Ahead {
    /// Reads the keys that the commands are going to read by all appearances.
    pub fn read<V: View>(
        before: Cached<'_, V>,
        commands: &[Option<Command>],
    ) -> Result<Ahead, EngineError> {
        let mut keys = Vec::with_capacity(commands.len());
        for command in commands.iter().flatten() {
            match &command.request {
                Some(Request::Put(r)) => keys.push(&r.key),
                Some(Request::Txn(r)) => keys_of_txn(r, &mut keys),
                _ => {}
            }
        }
        keys.sort_unstable();
        keys.dedup();
        let mut records = Vec::with_capacity(keys.len());
        let (mut left, mut bytes) = (&keys[..], 0);
        while !left.is_empty() && bytes < AHEAD_BYTES {
            let fit = match records.len() {
                0 => FIRST_KEYS,
                read => (AHEAD_BYTES - bytes) / (bytes / read).max(1),
            };
            let (together, rest) = left.split_at(fit.clamp(1, TOGETHER_KEYS).min(left.len()));
            let read = before.get_many(together)?;
            let sizes = read
                .iter()
                .map(|(_, record)| record.as_ref().map_or(0, Bytes::len));
            bytes += sizes.sum::<usize>();
            records.extend(read);
            left = rest;
        }
        Ok(Ahead(records))
    }

    fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        at.ok().map(|at| &self.0[at].1)
    }
}

/// The keys that a txn compares, and that it puts if the compares hold. Of the rest, which it may not come to, those that matter are
/// among them as a rule.
fn keys_of_txn<'r>(r: &'r TxnRequest, keys: &mut Vec<&'r Bytes>) {
    let compared = r.compare.iter().filter(|one| one.range_end.is_empty());
    keys.extend(compared.map(|one| &one.key));
    keys.extend(r.success.iter().filter_map(|op| match &op.request {
        Some(request_op::Request::RequestPut(put)) => Some(&put.key),
        _ => None,
    }));
}

/// The state before a batch, with what was read of it ahead.
#[derive(Clone, Copy)]
pub(super) struct Known<'a, V> {
    pub ahead: &'a Ahead,
    pub base: Cached<'a, V>,
}

impl<V: View> Source for Known<'_, V> {
    type Cursor<'a>
        = V::Cursor<'a>
    where
        Self: 'a;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.ahead.get(key) {
            Some(found) if family == Family::Latest => Ok(found.clone()),
            _ => self.base.get(family, key),
        }
    }

    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> V::Cursor<'_> {
        self.base.cursor(family, from, to)
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::PutRequest;

    use super::*;
    use crate::Revision;
    use crate::cache::Cache;
    use crate::engine::{Batch, Engine};
    use crate::memory::MemoryEngine;

    #[test]
    fn large_records_are_not_all_read_ahead() {
        for (size, expected) in [(1 << 10, 200), (100 << 10, 41), (1 << 20, FIRST_KEYS)] {
            let engine = MemoryEngine::new();
            let mut batch = Batch::default();
            let keys: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
            for key in &keys {
                batch.put(Family::Latest, key.clone(), vec![0; size]);
            }
            engine.write(&batch).expect("memory can be written");
            let put = |key: &String| Command {
                request: Some(Request::Put(PutRequest {
                    key: key.clone().into(),
                    ..PutRequest::default()
                })),
                ..Command::default()
            };
            let commands: Vec<_> = keys.iter().map(|key| Some(put(key))).collect();
            let before = Cached {
                view: &engine.view().expect("memory can be read"),
                cache: &Cache::new(0),
                revision: Revision(1),
            };
            let ahead = Ahead::read(before, &commands).expect("memory can be read");
            assert_eq!(ahead.0.len(), expected, "of {size} bytes");
            assert!(ahead.get(b"000").is_some_and(Option::is_some));
            assert_eq!(ahead.get(b"199").is_some(), expected == 200);
        }
    }
}
