//! A hash over logical versions, so that members can be compared and damage shows.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::engine::{Cursor, EngineError, Family, View};
use crate::format::{RawLog, Version, log_key};
use crate::{EventKind, Revision};

/// The answer to HashKV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The compacted revision from which on it counts; -1: never compacted.
    pub compact_revision: Revision,
    /// The revision up to which it counts.
    pub hash_revision: Revision,
}

/// Sets tombstones apart from versions.
const TOMBSTONE: u64 = 0x746f_6d62_7374_6f6e;

/// Sums, in no order, the hashes of every version that can be read between `compacted` and `at`, and of every delete
/// after `compacted` up to `at`. Each version is met once: as the current one, or where it was replaced.
pub(crate) fn hash_kv<V: View>(
    view: &V,
    compacted: Revision,
    at: Revision,
) -> Result<u32, EngineError> {
    let mut sum = 0_u64;
    let mut add = |key: &[u8], record: &[u8]| -> Result<(), EngineError> {
        if Version::parse(record)?.modified <= at {
            sum = sum.wrapping_add(xxh3_64_with_seed(record, xxh3_64(key)));
        }
        Ok(())
    };

    let mut latest = view.cursor(Family::Latest, b"", None);
    while let Some((key, record)) = latest.next()? {
        add(key, record)?;
    }
    // What was replaced at the compacted revision itself can no longer be read.
    let mut log = view.cursor(Family::Log, &log_key(compacted.next(), 0), None);
    let mut tombstones = 0_u64;
    while let Some((log_key, value)) = log.next()? {
        let record = RawLog::parse(log_key, value)?;
        if let Some(prev) = record.prev {
            add(record.key, prev)?;
        }
        if record.kind == EventKind::Delete && record.revision.0 <= at {
            tombstones = tombstones
                .wrapping_add(xxh3_64_with_seed(log_key, xxh3_64(record.key) ^ TOMBSTONE));
        }
    }
    let sum = sum.wrapping_add(tombstones);
    Ok((sum ^ (sum >> 32)) as u32)
}
