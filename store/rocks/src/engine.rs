//! The engine: batches, flushes, checkpoints.

use bytes::Bytes;
use keelson_store::Revision;
use keelson_store::engine::{Batch, Change, Engine, EngineError, EngineSize, Family};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties;
use rocksdb::{
    BottommostLevelCompaction, Cache, CompactOptions, DB, FlushOptions, ReadOptions, ReadTier,
    WriteBatch, WriteBufferManager, WriteOptions,
};
use std::any::Any;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::directory::{self, Found, at};
use crate::options::{Options, Setup};
use crate::truncation::{Truncation, Truncations, just_below};
use crate::view::{RocksView, families};

/// What somebody wants to see dropped when a database is closed.
pub type Held = Arc<dyn Any + Send + Sync>;

/// An open database.
pub(crate) struct Database {
    db: DB,
    // Declared, and so dropped, after the database.
    _held: Held,
}

impl Deref for Database {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

/// RocksDB under the state machine. Dropping it closes the database once the last view is gone, and flushes nothing.
pub struct RocksEngine {
    db: Arc<Database>,
    path: PathBuf,
    truncations: Truncations,
    history_floor: Arc<AtomicI64>,
    cache: Cache,
    write_buffers: WriteBufferManager,
    unlogged: WriteOptions,
    persisted: ReadOptions,
}

/// What the engine is up to, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory that blocks and write buffers take, against [`Options::cache_bytes`].
    pub cache_bytes: u64,
    /// Bytes of memory written and not flushed yet, against [`Options::write_buffer_bytes`].
    pub write_buffer_bytes: u64,
    /// Bytes that compaction still has to rewrite.
    pub pending_compaction_bytes: u64,
    /// Whether writes are slowed down or stopped until compaction catches up.
    pub is_write_delayed: bool,
}

impl RocksEngine {
    /// Opens the store in the directory `path`, or begins one there if the directory is missing or empty.
    ///
    /// Refuses, and leaves as it was, a directory that holds something else, a store of a newer format,
    /// or one that a process has open.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<RocksEngine, EngineError> {
        RocksEngine::open_holding(path, options, Arc::new(()))
    }

    /// As [`RocksEngine::open`], and drops `held` when the database is closed: after the engine and its last view are
    /// gone. A process must not end before: RocksDB's threads would find their globals destroyed, and abort it.
    pub fn open_holding(
        path: impl AsRef<Path>,
        options: Options,
        held: Held,
    ) -> Result<RocksEngine, EngineError> {
        let path = path.as_ref();
        let found = directory::prepare(path)?;
        let history_floor = Arc::new(AtomicI64::new(0));
        let opened = Setup::new(&options, found == Found::New, &history_floor).and_then(|setup| {
            let db = DB::open_cf_descriptors(&setup.database, path, setup.families)?;
            Ok((db, setup.cache, setup.write_buffers))
        });
        let (db, cache, write_buffers) = opened.map_err(|error| at(path, "opening", error))?;

        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        let mut persisted = ReadOptions::default();
        persisted.set_read_tier(ReadTier::Persisted);
        Ok(RocksEngine {
            db: Arc::new(Database { db, _held: held }),
            path: path.to_path_buf(),
            truncations: Truncations::default(),
            history_floor,
            cache,
            write_buffers,
            unlogged,
            persisted,
        })
    }

    /// Deletes the store in the directory `path` and the directory itself; one that is missing is no error.
    ///
    /// Refuses a directory that holds something else, or a store that is open.
    pub fn destroy(path: impl AsRef<Path>) -> Result<(), EngineError> {
        let path = path.as_ref();
        directory::inspect(path)?;
        if !path.exists() {
            return Ok(());
        }
        DB::destroy(&rocksdb::Options::default(), path)
            .map_err(|error| at(path, "deleting", error))?;
        std::fs::remove_dir_all(path).map_err(|error| at(path, "deleting", error))
    }

    /// What the engine is up to.
    pub fn stats(&self) -> Result<Stats, EngineError> {
        Ok(Stats {
            cache_bytes: self.cache.get_usage() as u64,
            write_buffer_bytes: self.write_buffers.get_usage() as u64,
            pending_compaction_bytes: self.sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES)?,
            is_write_delayed: self.sum(properties::ACTUAL_DELAYED_WRITE_RATE)? > 0
                || self.sum(properties::IS_WRITE_STOPPED)? > 0,
        })
    }

    /// The sum of a property over all families.
    fn sum(&self, property: &properties::PropName) -> Result<u64, EngineError> {
        let mut sum = 0;
        for family in families(&self.db) {
            let value = self.db.property_int_value_cf(family, property);
            sum += value
                .map_err(|error| self.failed("measuring", error))?
                .unwrap_or(0);
        }
        Ok(sum)
    }

    /// How often flushing and compacting in the background have failed.
    fn background_errors(&self) -> Result<u64, EngineError> {
        let errors = self.db.property_int_value(properties::BACKGROUND_ERRORS);
        Ok(errors
            .map_err(|error| self.failed("measuring", error))?
            .unwrap_or(0))
    }

    fn failed(
        &self,
        doing: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> EngineError {
        at(&self.path, doing, error)
    }

    /// Takes out the files of log records that no reader can see any more.
    fn drop_truncated_files(&self) -> Result<(), EngineError> {
        let log = families(&self.db)[Family::Log as usize];
        for Truncation { from, to, .. } in self.truncations.ready() {
            let last = just_below(&to);
            self.db
                .delete_file_in_range_cf(log, &from[..], &last[..])
                .map_err(|error| self.failed("truncating the log of", error))?;
        }
        Ok(())
    }
}

impl Engine for RocksEngine {
    type View = RocksView;

    fn view(&self) -> Result<RocksView, EngineError> {
        Ok(RocksView::new(&self.db, &self.truncations))
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let families = families(&self.db);
        let mut truncations: Vec<(&Bytes, &Bytes)> = Vec::new();
        let mut out = WriteBatch::with_capacity_bytes(batch.changes.iter().map(encoded_len).sum());
        for change in &batch.changes {
            match change {
                Change::Put(family, key, value) => {
                    out.put_cf(families[*family as usize], key, value)
                }
                Change::Delete(family, key) => out.delete_cf(families[*family as usize], key),
                // RocksDB refuses the whole batch for an empty range.
                Change::DeleteRange(_, from, to) if from >= to => {}
                Change::DeleteRange(family, from, to) => {
                    out.delete_range_cf(families[*family as usize], from, to);
                    if *family == Family::Log {
                        truncations.push((from, to));
                    }
                }
            }
        }
        self.db
            .write_opt(out, &self.unlogged)
            .map_err(|error| self.failed("writing to", error))?;

        let sequence = self.db.latest_sequence_number();
        for (from, to) in truncations {
            // Copied: a slice would keep the whole batch's bytes.
            let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
            self.truncations.written(Truncation { from, to, sequence });
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let truncations = self.truncations.before_flush();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = families(&self.db);
        self.db
            .flush_cfs_opt(&families.each_ref().map(|family| *family), &options)
            .map_err(|error| self.failed("flushing", error))?;
        self.truncations.flushed(truncations);
        self.drop_truncated_files()
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value =
            self.db
                .get_pinned_cf_opt(families(&self.db)[family as usize], key, &self.persisted);
        let value = value.map_err(|error| self.failed("reading what is on the disk of", error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Flushes, and links the files: costs no more than a flush, however large the store is. `into` must not exist,
    /// and must lie on the same file system for the files to be linked.
    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        let doing = format!("writing to {} a checkpoint of", into.display());
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(into))
            .map_err(|error| self.failed(&doing, error))?;
        directory::mark(into)
            .and_then(|()| directory::sync_parent(into))
            .map_err(|error| self.failed(&doing, error))
    }

    fn set_history_floor(&self, revision: Revision) {
        self.history_floor.fetch_max(revision.0, Ordering::AcqRel);
    }

    fn compact_files(&self) -> Result<(), EngineError> {
        let errors_before = self.background_errors()?;
        let mut options = CompactOptions::default();
        // Does not wait for, nor hold up, the compactions that RocksDB finds necessary.
        options.set_exclusive_manual_compaction(false);
        // Without it the files of the last level, and with them most of the history, are left as they are.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.drop_truncated_files()?;
        for family in families(&self.db) {
            self.db
                .compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        // The call itself tells nothing.
        match self.background_errors()? {
            errors if errors > errors_before => Err(self.failed(
                "compacting the files of",
                "RocksDB failed; its LOG file there says why",
            )),
            _ => Ok(()),
        }
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        let mut on_disk = 0;
        for entry in
            std::fs::read_dir(&self.path).map_err(|error| self.failed("measuring", error))?
        {
            let entry = entry.map_err(|error| self.failed("measuring", error))?;
            // A file may be gone since it was listed.
            on_disk += entry.metadata().map_or(0, |metadata| metadata.len());
        }
        let in_use = self.sum(properties::ESTIMATE_LIVE_DATA_SIZE)?.min(on_disk);
        Ok(EngineSize { on_disk, in_use })
    }
}

/// About how many bytes a change takes in RocksDB's batch.
fn encoded_len(change: &Change) -> usize {
    // A tag, the family, and two lengths.
    const OVERHEAD: usize = 12;
    match change {
        Change::Put(_, key, value) => OVERHEAD + key.len() + value.len(),
        Change::Delete(_, key) => OVERHEAD + key.len(),
        Change::DeleteRange(_, from, to) => OVERHEAD + from.len() + to.len(),
    }
}
