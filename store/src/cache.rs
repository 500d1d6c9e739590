//! Recently written records of `latest`, bounded by bytes: they save the read before a write, and many gets.
//!
//! **Guarantees**: never changes a result. It holds a key's newest record or nothing, is filled only by applying, and
//! a reader takes from it only what is not younger than the state that it reads.
//!
//! Two generations, so that nothing need be ordered by age: when the young one is full, it becomes the old one, and the old one goes.

use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 160;
/// A power of two, so that writers and readers seldom meet.
const SHARDS: usize = 16;

/// Only looked up, never walked: its order does not matter. The hash is a fixed one.
type Records = HashMap<Bytes, Bytes, BuildHasherDefault<KeyHasher>>;

/// Hashes a key at once. xxhash's own hasher is made for what comes in pieces, and to be ready for them costs more than hashing a key.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The length that goes before the bytes.
    fn write_usize(&mut self, len: usize) {
        self.0 ^= len as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

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
        let shard = &mut *shard;
        let new_bytes = record.map_or(0, |record| size(key, record));
        if let Some(known) = shard.young.get_mut(key) {
            let other_bytes = shard.young_bytes - size(key, known);
            shard.young_bytes = other_bytes + new_bytes;
            match record {
                Some(record) if shard.young_bytes <= self.young_bytes_max => {
                    *known = record.clone();
                    return;
                }
                _ => {
                    shard.young.remove(key);
                    shard.young_bytes = other_bytes;
                }
            }
        } else {
            shard.old.remove(key);
        }
        let Some(record) = record else { return };
        if new_bytes > self.young_bytes_max {
            return;
        }
        if shard.young_bytes + new_bytes > self.young_bytes_max {
            shard.old = std::mem::take(&mut shard.young);
            shard.young_bytes = 0;
        }
        // The key may be a slice of a large request, which it would keep.
        shard
            .young
            .insert(Bytes::copy_from_slice(key), record.clone());
        shard.young_bytes += new_bytes;
    }

    fn shard(&self, key: &[u8]) -> &RwLock<Shard> {
        &self.shards[xxh3_64(key) as usize % SHARDS]
    }
}

fn size(key: &[u8], record: &Bytes) -> usize {
    key.len() + record.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    #[test]
    fn the_newest_record_is_found_and_a_deleted_key_is_not() {
        let cache = Cache::new(1 << 20);
        cache.set(b"a", Some(&record(1, 10)));
        cache.set(b"a", Some(&record(2, 10)));
        assert_eq!(cache.get(b"a"), Some(record(2, 10)));
        cache.set(b"a", None);
        assert_eq!(cache.get(b"a"), None);
    }

    #[test]
    fn a_record_that_was_replaced_after_it_grew_old_does_not_come_back() {
        let cache = Cache::new(SHARDS * 2 * 1_000);
        let rotate = |cache: &Cache| {
            (0..200_u32).for_each(|n| cache.set(&n.to_be_bytes(), Some(&record(0, 100))))
        };
        cache.set(b"a", Some(&record(1, 10)));
        while cache.shard(b"a").read().old.is_empty() {
            rotate(&cache);
            cache.set(b"a", Some(&record(1, 10)));
        }
        cache.set(b"a", Some(&record(2, 2_000)));
        assert_eq!(
            cache.get(b"a"),
            None,
            "too large to keep, but the older one is gone all the same"
        );
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let cache = Cache::new(64 * 1024);
        for n in 0..10_000_u32 {
            cache.set(
                &(n % 3_000).to_be_bytes(),
                Some(&record(0, (n % 700) as usize)),
            );
        }
        let taken: usize = cache
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.read();
                let sum = |records: &Records| -> usize {
                    (0..3_000_u32)
                        .filter_map(|n| records.get(&n.to_be_bytes()[..]))
                        .map(|r| size(b"four", r))
                        .sum()
                };
                assert_eq!(sum(&shard.young), shard.young_bytes);
                sum(&shard.young) + sum(&shard.old)
            })
            .sum();
        assert!((16 * 1024..=64 * 1024).contains(&taken), "{taken} bytes");
    }

    #[test]
    fn no_bytes_keep_nothing() {
        let cache = Cache::new(0);
        cache.set(b"a", Some(&record(1, 0)));
        assert_eq!(cache.get(b"a"), None);
    }
}
