//! Lets history go while RocksDB rewrites files anyway: a compaction filter that drops the records of
//! [`keelson_store::engine::Family::Hist`] at or below the history floor. Costs no pass of its own and nothing waits for it.

use keelson_store::format::hist_revision;
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Makes a filter for each compaction.
pub(crate) struct HistoryFilterFactory {
    pub floor: Arc<AtomicI64>,
}

/// Drops what is at or below the floor that it was made with. RocksDB asks it about the newest version of a record only,
/// and heeds no snapshot: whoever raises the floor has seen to it that no reader needs what lies below.
pub(crate) struct HistoryFilter {
    floor: i64,
}

impl CompactionFilterFactory for HistoryFilterFactory {
    type Filter = HistoryFilter;

    fn create(&mut self, _: CompactionFilterContext) -> HistoryFilter {
        HistoryFilter {
            floor: self.floor.load(Ordering::Acquire),
        }
    }

    fn name(&self) -> &CStr {
        c"keelson.history"
    }
}

impl CompactionFilter for HistoryFilter {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> CompactionDecision {
        match hist_revision(key) {
            Some(revision) if revision.0 <= self.floor => CompactionDecision::Remove,
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"keelson.history"
    }
}
