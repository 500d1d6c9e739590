//! What the state machine asks of a storage engine: ordered families of bytes, atomic batches,
//! consistent views, and a flush. Two engines implement it: RocksDB (`keelson-rocks`) and the twin in
//! memory ([`crate::memory`]), and one suite of tests runs against both.
//!
//! An engine has no write-ahead log: what was written since the last flush is lost in a crash, all of it or a
//! suffix of whole batches, and is applied again from the raft log. An error is fatal to the member: nothing is retried.

use bytes::Bytes;
use std::path::Path;

use crate::Revision;

/// The ordered maps of an engine. What each holds is drawn in docs/formats.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// User key → its current version.
    Latest,
    /// Revision (main, sub) → the event, and the version that it replaced.
    Log,
    /// User key and the revision of an overwrite or delete → nothing.
    Hist,
    /// Lease and user key → nothing.
    Lease,
    /// First key of a block of about 128 keys → how many keys the block holds.
    Counts,
    /// The state machine's own state.
    Meta,
}

impl Family {
    /// Every family, in the order of their declaration.
    pub const ALL: [Family; 6] = [
        Family::Latest,
        Family::Log,
        Family::Hist,
        Family::Lease,
        Family::Counts,
        Family::Meta,
    ];

    /// The family's name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Family::Latest => "latest",
            Family::Log => "log",
            Family::Hist => "hist",
            Family::Lease => "lease",
            Family::Counts => "counts",
            Family::Meta => "meta",
        }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Family, Bytes, Bytes),
    /// Removes a key.
    Delete(Family, Bytes),
    /// Removes every key from the first (inclusive) to the second (exclusive).
    DeleteRange(Family, Bytes, Bytes),
}

/// Changes that take effect together, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes
            .push(Change::Put(family, key.into(), value.into()));
    }

    /// Removes a key; one that is not there is no error.
    pub fn delete(&mut self, family: Family, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete(family, key.into()));
    }

    /// Removes the keys in `from..to`. For whole prefixes only: many small ones slow every iterator down.
    pub fn delete_range(&mut self, family: Family, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.changes
            .push(Change::DeleteRange(family, from.into(), to.into()));
    }
}

/// An engine's failure. The member that meets one stops: it neither guesses nor retries.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct EngineError {
    /// What was being done, and to which file where it is known.
    pub context: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl EngineError {
    /// Wraps a cause.
    pub fn new(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        EngineError {
            context: context.into(),
            source: source.into(),
        }
    }
}

/// What an engine takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// Bytes of all files.
    pub on_disk: u64,
    /// Bytes of them that live data takes, as far as the engine can tell.
    pub in_use: u64,
}

/// An ordered key-value engine. All methods may be called from any thread; only one caller writes.
pub trait Engine: Send + Sync + 'static {
    /// A consistent view.
    type View: View;

    /// A view of everything written so far.
    fn view(&self) -> Result<Self::View, EngineError>;

    /// Writes a batch atomically, without syncing it.
    fn write(&self, batch: &Batch) -> Result<(), EngineError>;

    /// Returns when everything written before the call is on the disk, all families together.
    fn flush(&self) -> Result<(), EngineError>;

    /// Reads a key as it would be found after a crash now.
    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Makes a copy of a consistent state in the new directory `into`, as files that [`Family`]'s engine can open
    /// (hard links where it can). Need not be the newest state: what it holds is read from the copy itself.
    fn checkpoint(&self, into: &Path) -> Result<(), EngineError>;

    /// From now on, records of [`Family::Hist`] at or below `revision` may be dropped whenever it suits the engine.
    fn set_history_floor(&self, revision: Revision);

    /// Rewrites the files so that dropped data frees its space. May take long; blocks no reader and no writer.
    fn compact_files(&self) -> Result<(), EngineError>;

    /// How large the engine's files are.
    fn size(&self) -> Result<EngineSize, EngineError>;
}

/// A consistent, immutable view of an engine. Cheap to clone; holding one keeps old data alive, so let go soon.
pub trait View: Clone + Send + Sync + 'static {
    /// A cursor over one family.
    type Cursor<'a>: Cursor
    where
        Self: 'a;

    /// Reads one key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Reads several keys, which are in order, each as [`View::get`] does.
    fn get_many(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, EngineError> {
        keys.iter().map(|key| self.get(family, key)).collect()
    }

    /// A cursor over the keys of `from..to` (`to` none: to the end), standing before the first.
    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Self::Cursor<'_>;
}

/// Walks a range of a family in key order.
pub trait Cursor {
    /// Steps to the next entry and returns it; none at the end.
    #[allow(clippy::type_complexity)]
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, EngineError>;

    /// Moves forward so that [`Cursor::next`] gives the first entry at or after `key`. Never moves backward.
    fn seek(&mut self, key: &[u8]);
}
