//! What reading works on: a published view, or a view with the changes that are still being applied laid over it.
//! The same code reads both, so that a range inside a txn means what a range outside means.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Bound;

use crate::Revision;
use crate::cache::Cache;
use crate::engine::{Batch, Cursor, EngineError, Family, View};
use crate::format::Version;

/// Ordered families of bytes to read from.
pub(crate) trait Source {
    type Cursor<'a>: Cursor
    where
        Self: 'a;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Self::Cursor<'_>;
}

impl<V: View> Source for V {
    type Cursor<'a> = V::Cursor<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        View::get(self, family, key)
    }

    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> V::Cursor<'_> {
        View::cursor(self, family, from, to)
    }
}

/// A published view, with the cache that knows its newest records.
#[derive(Clone, Copy)]
pub(crate) struct Cached<'a, V> {
    pub view: &'a V,
    pub cache: &'a Cache,
    /// The view's revision: what the cache has of later ones is not of this view.
    pub revision: Revision,
}

impl<V: View> Cached<'_, V> {
    /// The key's current record, if it need not be read.
    fn kept(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.cache.get(key) {
            Some(record) if Version::parse(&record)?.modified <= self.revision => Ok(Some(record)),
            _ => Ok(None),
        }
    }

    /// The current records of keys, which are in order.
    pub fn get_many(&self, keys: &[&Bytes]) -> Result<Vec<(Bytes, Option<Bytes>)>, EngineError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for (at, &key) in keys.iter().enumerate() {
            let kept = self.kept(key)?;
            if kept.is_none() {
                missing.push(at);
            }
            found.push((key.clone(), kept));
        }
        let keys: Vec<&[u8]> = missing.iter().map(|&at| &keys[at][..]).collect();
        let read = self.view.get_many(Family::Latest, &keys)?;
        for (at, record) in missing.into_iter().zip(read) {
            found[at].1 = record;
        }
        Ok(found)
    }
}

impl<V: View> Source for Cached<'_, V> {
    type Cursor<'a>
        = V::Cursor<'a>
    where
        Self: 'a;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if family == Family::Latest
            && let Some(record) = self.kept(key)?
        {
            return Ok(Some(record));
        }
        self.view.get(family, key)
    }

    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> V::Cursor<'_> {
        self.view.cursor(family, from, to)
    }
}

type Map = BTreeMap<Bytes, Option<Bytes>>;

/// Changes not yet written, in key order: what a key is set to, or that it is removed.
#[derive(Default)]
pub(crate) struct Pending {
    families: [Map; Family::ALL.len()],
    /// Log records of the view below this key are gone.
    pub log_from: Option<Bytes>,
}

impl Pending {
    pub fn put(&mut self, family: Family, key: Bytes, value: Bytes) {
        self.of_mut(family).insert(key, Some(value));
    }

    pub fn delete(&mut self, family: Family, key: Bytes) {
        self.of_mut(family).insert(key, None);
    }

    /// Removes the log below `from`.
    pub fn truncate_log(&mut self, from: Bytes) {
        let log = self.of_mut(Family::Log);
        *log = log.split_off(&from);
        debug_assert!(
            self.log_from.as_ref() <= Some(&from),
            "compaction only goes forward"
        );
        self.log_from = Some(from);
    }

    pub fn of(&self, family: Family) -> &Map {
        &self.families[family as usize]
    }

    fn of_mut(&mut self, family: Family) -> &mut Map {
        &mut self.families[family as usize]
    }

    /// Adds all changes to a batch, in key order within each family.
    pub fn write(&self, batch: &mut Batch) {
        if let Some(from) = &self.log_from {
            batch.delete_range(Family::Log, Bytes::new(), from.clone());
        }
        for family in Family::ALL {
            for (key, value) in self.of(family) {
                match value {
                    Some(value) => batch.put(family, key.clone(), value.clone()),
                    None => batch.delete(family, key.clone()),
                }
            }
        }
    }
}

/// A source with pending changes over it.
pub(crate) struct Layered<'a, S> {
    pub base: S,
    pub pending: &'a Pending,
}

impl<S: Source> Source for Layered<'_, S> {
    type Cursor<'a>
        = LayeredCursor<'a, S::Cursor<'a>>
    where
        Self: 'a;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if let Some(change) = self.pending.of(family).get(key) {
            return Ok(change.clone());
        }
        if family == Family::Log
            && self
                .pending
                .log_from
                .as_deref()
                .is_some_and(|from| key < from)
        {
            return Ok(None);
        }
        self.base.get(family, key)
    }

    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Self::Cursor<'_> {
        let from = match &self.pending.log_from {
            Some(log_from) if family == Family::Log => from.max(log_from),
            _ => from,
        };
        let to = to.map(|to| to.max(from));
        let changes = self.pending.of(family);
        LayeredCursor {
            base: self.base.cursor(family, from, to),
            head: Head::Unread,
            key: Vec::new(),
            value: Vec::new(),
            changes,
            to: to.map(<[u8]>::to_vec),
            iter: range(changes, from, to),
        }
    }
}

type Iter<'a> = Peekable<btree_map::Range<'a, Bytes, Option<Bytes>>>;

fn range<'a>(changes: &'a Map, from: &[u8], to: Option<&[u8]>) -> Iter<'a> {
    // Where BTreeMap would panic: a seek past the end.
    let to = to.map(|to| to.max(from));
    changes
        .range::<[u8], _>((
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        ))
        .peekable()
}

/// What is known of the base cursor's next entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Unread,
    Read,
    End,
}

/// Merges a view's cursor with pending changes, which win.
pub(crate) struct LayeredCursor<'a, C> {
    base: C,
    head: Head,
    /// The base's next entry, if [`Head::Read`]; copied, since the cursor lends it only until its next step.
    key: Vec<u8>,
    value: Vec<u8>,
    changes: &'a Map,
    to: Option<Vec<u8>>,
    iter: Iter<'a>,
}

impl<C: Cursor> LayeredCursor<'_, C> {
    fn read_head(&mut self) -> Result<(), EngineError> {
        if self.head == Head::Unread {
            self.head = match self.base.next()? {
                Some((key, value)) => {
                    self.key.clear();
                    self.key.extend_from_slice(key);
                    self.value.clear();
                    self.value.extend_from_slice(value);
                    Head::Read
                }
                None => Head::End,
            };
        }
        Ok(())
    }
}

impl<C: Cursor> Cursor for LayeredCursor<'_, C> {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, EngineError> {
        loop {
            self.read_head()?;
            let base = (self.head == Head::Read).then_some(self.key.as_slice());
            let Some(&(changed, change)) = self.iter.peek() else {
                if base.is_none() {
                    return Ok(None);
                }
                self.head = Head::Unread;
                return Ok(Some((&self.key, &self.value)));
            };
            match base {
                Some(base) if base < changed.as_ref() => {
                    self.head = Head::Unread;
                    return Ok(Some((&self.key, &self.value)));
                }
                Some(base) if base == changed.as_ref() => self.head = Head::Unread,
                _ => {}
            }
            self.iter.next();
            if let Some(value) = change {
                return Ok(Some((changed, value)));
            }
        }
    }

    fn seek(&mut self, key: &[u8]) {
        if self.head == Head::Unread || (self.head == Head::Read && self.key.as_slice() < key) {
            self.base.seek(key);
            self.head = Head::Unread;
        }
        if self
            .iter
            .peek()
            .is_some_and(|(next, _)| next.as_ref() < key)
        {
            self.iter = range(self.changes, key, self.to.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::memory::MemoryEngine;
    use proptest::prelude::*;

    /// What the walk of a cursor gives, seeking on the way.
    fn walk(mut cursor: impl Cursor, seeks: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut seeks = seeks.iter();
        while let Some((key, value)) = cursor.next().expect("memory can be read") {
            found.push((key.to_vec(), value.to_vec()));
            if let Some(seek) = seeks.next() {
                cursor.seek(&[*seek]);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn pending_changes_read_as_if_they_were_written(
            before in prop::collection::vec((0_u8..20, any::<u8>()), 0..12),
            changes in prop::collection::vec((0_u8..20, prop::option::of(any::<u8>())), 0..12),
            log_from in prop::option::of(0_u8..20),
            span in (0_u8..20, prop::option::of(0_u8..20)),
            seeks in prop::collection::vec(0_u8..20, 0..6),
        ) {
            let engine = MemoryEngine::new();
            let mut batch = Batch::default();
            for (key, value) in before {
                batch.put(Family::Log, vec![key], vec![value]);
            }
            engine.write(&batch).unwrap();
            let view = engine.view().unwrap();

            let mut pending = Pending::default();
            for (key, value) in changes {
                match value {
                    Some(value) => pending.put(Family::Log, vec![key].into(), vec![value].into()),
                    None => pending.delete(Family::Log, vec![key].into()),
                }
            }
            if let Some(from) = log_from {
                pending.truncate_log(vec![from].into());
            }
            let mut batch = Batch::default();
            pending.write(&mut batch);
            engine.write(&batch).unwrap();
            let written = engine.view().unwrap();

            let layered = Layered { base: view, pending: &pending };
            let (from, to) = ([span.0], span.1.map(|to| [to]));
            let to = to.as_ref().map(|to| &to[..]);
            let found = walk(layered.cursor(Family::Log, &from, to), &seeks);
            prop_assert_eq!(found, walk(View::cursor(&written, Family::Log, &from, to), &seeks));
            for key in 0..20 {
                let found = layered.get(Family::Log, &[key]).unwrap();
                prop_assert_eq!(found, View::get(&written, Family::Log, &[key]).unwrap());
            }
        }
    }
}
