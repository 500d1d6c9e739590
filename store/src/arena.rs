//! Many small byte strings in few allocations: the keys and values of one reply.

use bytes::{Bytes, BytesMut};

/// The first block. A reply of one small version does not take more.
const BLOCK_BYTES_MIN: usize = 512;
/// Blocks double up to this.
const BLOCK_BYTES_MAX: usize = 256 * 1024;

/// Copies byte strings side by side. Each lives as long as any of its block: they should have one life.
#[derive(Default)]
pub(crate) struct Arena {
    block: BytesMut,
    next_bytes: usize,
}

impl Arena {
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > BLOCK_BYTES_MAX / 4 {
            return Bytes::copy_from_slice(bytes); // Large enough for an allocation of its own.
        }
        if self.block.capacity() < bytes.len() {
            self.next_bytes = (self.next_bytes * 2).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
            self.block = BytesMut::with_capacity(self.next_bytes.max(bytes.len()));
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_stays_as_it_was_whatever_comes_after() {
        let mut arena = Arena::default();
        let strings: Vec<Vec<u8>> = (0..3_000_usize)
            .map(|n| vec![n as u8; n * 37 % 1_500])
            .collect();
        let copies: Vec<Bytes> = strings.iter().map(|string| arena.copy(string)).collect();
        assert_eq!(copies, strings);
        let large = vec![7; 3 * BLOCK_BYTES_MAX];
        assert_eq!(arena.copy(&large), large);
    }

    #[test]
    fn small_strings_share_a_block() {
        let mut arena = Arena::default();
        let (a, b) = (arena.copy(b"key"), arena.copy(b"value"));
        assert_eq!(a.as_ptr() as usize + a.len(), b.as_ptr() as usize);
    }
}
