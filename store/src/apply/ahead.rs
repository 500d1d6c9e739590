//! Reads what a batch's keys held before it, all together: an engine answers many keys for much less than one by one.
//!
//! **Guarantees**: never changes a result. What it has not read is read when it is needed.

use bytes::Bytes;
use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::TxnRequest;
use keelson_proto::etcdserverpb::request_op;

use crate::engine::{EngineError, Family, View};
use crate::source::{Cached, Source};

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
        before.get_many(&keys).map(Ahead)
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
