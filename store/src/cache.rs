//! Recently written records of `latest`, bounded by bytes: they save the read before a write, and many gets.
//!
//! **Guarantees**: never changes a result. It holds a key's newest record or nothing, is filled only by applying, and
//! a reader takes from it only what is not younger than the state that it reads.
//!
//! Two generations, so that nothing need be ordered by age: when the young one is full, it becomes the old one, and the old one goes.

use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;
use xxhash_rust::xxh3::{Xxh3DefaultBuilder, xxh3_64};

/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 160;
/// A power of two, so that writers and readers seldom meet.
const SHARDS: usize = 16;

/// Only looked up, never walked: its order does not matter. The hash is a fixed one.
type Records = HashMap<Bytes, Bytes, Xxh3DefaultBuilder>;

/// A cache of current records by key.
pub(crate) struct Cache {
    shards: Vec<RwLock<Shard>>,
    /// How many bytes the young half of a shard may take.
    young_bytes_max: usize,
}

#[derive(Default)]
struct Shard {
    young: Records,
    old: Records,
    young_bytes: usize,
}

impl Cache {
    /// A cache of about `bytes`; 0 keeps nothing.
    pub fn new(bytes: usize) -> Cache {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Cache {
            shards,
            young_bytes_max: bytes / SHARDS / 2,
        }
    }

    /// The key's newest record, if it is kept here.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        let shard = self.shard(key).read();
        shard.young.get(key).or_else(|| shard.old.get(key)).cloned()
    }

    /// Keeps the key's newest record, or forgets the key that was deleted.
    pub fn set(&self, key: &[u8], record: Option<&Bytes>) {
        let mut shard = self.shard(key).write();
        if let Some(gone) = shard.young.remove(key) {
            shard.young_bytes -= size(key, &gone);
        }
        shard.old.remove(key);
        let Some(record) = record else { return };
        let size = size(key, record);
        if size > self.young_bytes_max {
            return;
        }
        if shard.young_bytes + size > self.young_bytes_max {
            shard.old = std::mem::take(&mut shard.young);
            shard.young_bytes = 0;
        }
        // The key may be a slice of a large request, which it would keep.
        shard
            .young
            .insert(Bytes::copy_from_slice(key), record.clone());
        shard.young_bytes += size;
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        &self.shards[xxh3_64(key) as usize % SHARDS]
    }
}

fn size(key: &[u8], record: &Bytes) -> usize {
    key.len() + record.len() + ENTRY_BYTES
}
