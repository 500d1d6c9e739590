//! The keys and values that all workloads share: the same in every run and for every system.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// What every key begins with, and the first key after all of them.
pub const PREFIX: &str = "/bench/";
pub const PREFIX_END: &str = "/bench0";
pub const KEY_BYTES: usize = PREFIX.len() + 17;
/// Every value, unless a workload says otherwise.
pub const VALUE_BYTES: usize = 256;

/// The store of random bytes that values are cut from.
const POOL_BYTES: usize = 4 << 20;
/// Values begin with their key's number, so that one key's value is not taken for another's.
const STAMP_BYTES: usize = 8;
/// Values differ, since they begin anywhere in the first half of the pool.
pub const VALUE_BYTES_MAX: usize = POOL_BYTES / 2;

/// The key with a number: 24 bytes; neighbours in number are far apart in order.
pub fn key(number: u64) -> Bytes {
    key_of_hash(u128::from(mix(number)))
}

/// What a key is made of: at most 2^64, to be able to name the end of all.
pub fn key_of_hash(hash: u128) -> Bytes {
    let mut key = BytesMut::with_capacity(KEY_BYTES);
    write!(key, "{PREFIX}{hash:017x}").expect("a buffer takes all");
    key.freeze()
}

/// Cuts values.
#[derive(Debug)]
pub struct Values {
    bytes: usize,
    pool: Vec<u8>,
}

impl Values {
    /// For values of so many bytes.
    pub fn new(bytes: usize) -> Values {
        assert!(bytes <= VALUE_BYTES_MAX, "{bytes}");
        let mut random = Random::new(1);
        // Not compressible: a system that compresses is not to gain by our laziness.
        let pool = std::iter::repeat_with(|| random.next().to_le_bytes());
        Values {
            bytes,
            pool: pool.take(POOL_BYTES / 8).flatten().collect(),
        }
    }

    /// A value for a key, another each time.
    pub fn cut(&self, number: u64, random: &mut Random) -> Bytes {
        let begin = random.below((POOL_BYTES - VALUE_BYTES_MAX) as u64) as usize;
        let mut value = BytesMut::with_capacity(self.bytes);
        let stamp = number.to_le_bytes();
        let stamped = self.bytes.min(STAMP_BYTES);
        value.put_slice(&stamp[..stamped]);
        value.put_slice(&self.pool[begin..begin + self.bytes - stamped]);
        value.freeze()
    }

    /// Whether this can be the value of the key with a number.
    pub fn fits(&self, number: u64, value: &[u8]) -> bool {
        let stamped = self.bytes.min(STAMP_BYTES);
        value.len() == self.bytes && value.starts_with(&number.to_le_bytes()[..stamped])
    }
}

/// SplitMix64's output function, which maps numbers to numbers one to one.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// SplitMix64: the same numbers in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(mix(seed + 1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is far below 2^64, so that the bias does not matter.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_distinct_and_all_of_a_length() {
        let keys: BTreeSet<Bytes> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == KEY_BYTES));
        assert!(keys.iter().all(|key| key.as_ref() < PREFIX_END.as_bytes()));
    }

    #[test]
    fn values_have_the_size_differ_and_are_known_by_their_key() {
        let values = Values::new(256);
        let mut random = Random::new(5);
        let (one, other) = (values.cut(7, &mut random), values.cut(7, &mut random));
        assert_eq!((one.len(), other.len()), (256, 256));
        assert_ne!(one, other);
        assert!(values.fits(7, &one) && values.fits(7, &other));
        assert!(!values.fits(8, &one) && !values.fits(7, &one[..255]));
        for bytes in [0, 3, VALUE_BYTES_MAX] {
            let values = Values::new(bytes);
            assert!(values.fits(7, &values.cut(7, &mut random)), "{bytes}");
        }
    }
}
