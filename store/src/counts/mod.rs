//! How many keys live in a range, without looking at them: the keys are cut into blocks of about 128 neighbours,
//! and a tree keeps the blocks' counts with their sums. A range is whole blocks, taken from the sums, and at most two
//! partial blocks at its edges, which the caller counts.
//!
//! **Guarantees**
//! - [`CountTree::count`] and [`CountTree::total`] are exact after every `add` and `remove`.
//! - A clone costs one reference count and never sees a later change: a published state keeps its own.
//! - `add` and `remove` cost O(log n) and read nothing. The first change after a clone copies one path of nodes
//!   (three for a million keys, 3 KiB together); later ones on the same path copy nothing.
//! - The same loads, adds, removes, cuts and writes give the same blocks: nothing depends on the shape of the inner nodes,
//!   which a restart rebuilds. (Members that cut their batches differently may cut blocks differently; counts agree.)
//!
//! **On disk** ([`Family::Counts`]), one record a block: the block's first key (empty for the first block) → the number
//! of its live keys, 4 bytes, big-endian. A block that has grown above 256 keys is cut into blocks of 128 to 255 by
//! [`CountTree::cut`], soon, so that edges stay small. [`CountTree::write_changes`] is asked seldom: it joins a block that has
//! fallen below 32 with a neighbour if both make less than 128 together; an empty one goes.
//!
//! **Memory**: a million keys of 40 bytes make 7,812 blocks if they came in order, and fewer otherwise. A block costs
//! 24 bytes in its leaf, 32 of bookkeeping and its first key: about 0.9 MB for the million.
//!
//! **Leaves to others**: which keys live. It is told, and asks back only for the edges and to cut a block.

mod node;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Batch, Cursor, EngineError, Family, View};
use node::{Found, Key, Node};

/// A block with more keys than this is to be cut.
const KEYS_MAX: u32 = 256;
/// What a block is cut into at least, and what joined blocks stay below. Half of [`KEYS_MAX`]: a block is not cut and joined
/// again by a few keys coming and going.
const KEYS_TARGET: u32 = 128;
/// A block with fewer keys than this is joined with a neighbour, if it can be.
const KEYS_MIN: u32 = 32;

/// The live keys, counted by blocks. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct CountTree {
    root: Arc<Node>,
    /// Keys of blocks that have grown too large since the last cut.
    large: Vec<Key>,
    /// The first key of a block that lost more keys than it had. Reported by [`CountTree::cut`], so that `remove` can stay
    /// infallible.
    underflow: Option<Key>,
}

impl CountTree {
    /// Reads the counts that [`CountTree::write_changes`] wrote: about one record for 128 keys.
    ///
    /// Fails if the engine does, or if the records cannot have been written by it.
    pub fn load<V: View>(view: &V) -> Result<CountTree, EngineError> {
        let mut blocks: Vec<(Key, u32)> = Vec::new();
        let mut cursor = view.cursor(Family::Counts, b"", None);
        while let Some((first, value)) = cursor.next()? {
            let value: [u8; 4] = value.try_into().map_err(|_| {
                let found = format!("4 bytes expected, {} found", value.len());
                EngineError::new(
                    format!(
                        "reading the count of the keys from {:?}",
                        first.escape_ascii().to_string()
                    ),
                    found,
                )
            })?;
            blocks.push((Key::from(first), u32::from_be_bytes(value)));
        }
        match blocks.first() {
            None => blocks.push((Key::from(&b""[..]), 0)),
            Some((first, _)) if first.is_empty() => {}
            Some(_) => {
                return Err(EngineError::new(
                    "reading the counts of keys",
                    "the first block is missing",
                ));
            }
        }
        Ok(CountTree {
            root: Node::build(blocks),
            large: Vec::new(),
            underflow: None,
        })
    }

    /// Counts a key that has come to life.
    pub fn add(&mut self, key: &[u8]) {
        self.adjust(key, true);
    }

    /// No longer counts a key that has died.
    pub fn remove(&mut self, key: &[u8]) {
        self.adjust(key, false);
    }

    fn adjust(&mut self, key: &[u8], up: bool) {
        match self.root.adjust(key, up) {
            // Once for each time that it outgrows the limit.
            Ok(count) if up && count == KEYS_MAX + 1 => self.large.push(Key::from(key)),
            Ok(_) => {}
            Err(_) => self.underflow = Some(self.block_of(key).first),
        }
    }

    /// Cuts the blocks that have grown too large since the last call. `first_keys` gives of the live keys of a range, all
    /// changes so far included, as many as it is asked for, from the first on in order, or all if there are not so many.
    ///
    /// After an error the tree is of no more use.
    #[allow(clippy::type_complexity)]
    pub fn cut(
        &mut self,
        first_keys: &mut dyn FnMut(&[u8], Option<&[u8]>, usize) -> Result<Vec<Bytes>, EngineError>,
    ) -> Result<(), EngineError> {
        if let Some(first) = &self.underflow {
            return Err(disagree(first, "more keys were removed than it held"));
        }
        for key in std::mem::take(&mut self.large) {
            let block = self.block_of(&key);
            if block.count > KEYS_MAX {
                // What comes after the last piece's first key need not be read: it is half of all as a rule.
                let last = starts(&block).last().unwrap_or_default();
                let keys = first_keys(&block.first, block.next.as_deref(), last + 1)?;
                self.cut_block(&block, &keys)?;
            }
        }
        Ok(())
    }

    /// Puts into `batch` what has changed since the last call, and joins blocks that have become too small. What has grown too
    /// large has been cut.
    pub fn write_changes(&mut self, batch: &mut Batch) {
        debug_assert!(self.large.is_empty(), "cut first");
        let mut changed = Vec::new();
        self.root.take_changed(&mut changed);

        let mut records: BTreeMap<Key, Option<u32>> = BTreeMap::new();
        for first in changed {
            let block = self.block_of(&first);
            // Otherwise it was joined with its left neighbour, which came before.
            if block.first == first {
                self.join(block, &mut records);
            }
        }
        // What joining has changed is among the records.
        self.root.take_changed(&mut Vec::new());
        for (first, count) in records {
            let first = Bytes::copy_from_slice(&first);
            match count {
                Some(count) => batch.put(Family::Counts, first, count.to_be_bytes().to_vec()),
                None => batch.delete(Family::Counts, first),
            }
        }
    }

    /// How many keys live.
    pub fn total(&self) -> u64 {
        self.root.sum()
    }

    /// How many keys live in `from..to` (`to` none: to the end). `edge` counts the keys of a range that lies within
    /// one block; it is called at most twice.
    pub fn count<F>(&self, from: &[u8], to: Option<&[u8]>, mut edge: F) -> Result<u64, EngineError>
    where
        F: FnMut(&[u8], Option<&[u8]>) -> Result<u64, EngineError>,
    {
        if to.is_some_and(|to| to <= from) {
            return Ok(0);
        }
        let low = self.block_of(from);
        let high = to.map(|to| self.block_of(to));
        if high.as_ref().is_some_and(|high| high.first == low.first) {
            return if low.count == 0 {
                Ok(0)
            } else {
                edge(from, to)
            };
        }

        let starts_within = *low.first != *from;
        let whole_from = if starts_within {
            low.before + u64::from(low.count)
        } else {
            low.before
        };
        let whole_to = high
            .as_ref()
            .map_or_else(|| self.total(), |high| high.before);
        let mut count = whole_to - whole_from;
        if starts_within && low.count > 0 {
            count += edge(from, low.next.as_deref())?;
        }
        if let Some(high) = high.filter(|high| Some(&*high.first) != to && high.count > 0) {
            count += edge(&high.first, to)?;
        }
        Ok(count)
    }

    fn block_of(&self, key: &[u8]) -> Found {
        self.root
            .floor(key, true)
            .expect("the first block begins at the empty key, at or before any key")
    }

    /// Cuts a block evenly, given its keys as far as pieces begin. The first piece keeps the block's first key, which need
    /// not be a live one.
    fn cut_block(&mut self, block: &Found, keys: &[Bytes]) -> Result<(), EngineError> {
        let ends = starts(block).skip(1).chain([block.count as usize]);
        for (start, end) in starts(block).zip(ends) {
            let Some(key) = keys.get(start) else {
                let (count, live) = (block.count, keys.len());
                let why = format!("its count is {count}, but {live} keys live in it");
                return Err(disagree(&block.first, &why));
            };
            let first = if start == 0 {
                block.first.clone()
            } else {
                Key::from(&key[..])
            };
            self.root.set(&first, (end - start) as u32);
        }
        Ok(())
    }

    /// Joins a changed block with its neighbours until it need not or cannot be joined, and records it.
    fn join(&mut self, mut block: Found, records: &mut BTreeMap<Key, Option<u32>>) {
        loop {
            let left = self.root.floor(&block.first, false);
            let right = block.next.as_deref().map(|next| self.block_of(next));
            let (into, gone) = match (left, right) {
                (Some(left), _) if may_join(left.count, block.count) => (left, block),
                (_, Some(right)) if may_join(block.count, right.count) => (block, right),
                _ => break,
            };
            let count = into.count + gone.count;
            self.root.remove(&gone.first);
            self.root.set(&into.first, count);
            records.insert(gone.first, None);
            block = self.block_of(&into.first);
        }
        records.insert(block.first, Some(block.count));
    }
}

/// Which of a large block's keys are the first of a piece.
fn starts(block: &Found) -> impl Iterator<Item = usize> + use<> {
    let keys = block.count as usize;
    let pieces = keys / KEYS_TARGET as usize;
    (0..pieces).map(move |piece| piece * keys / pieces)
}

/// Whether two neighbours become one block. An empty block goes whatever its left neighbour holds, even if that one
/// is about to be cut.
fn may_join(left: u32, right: u32) -> bool {
    right == 0 || (left.min(right) < KEYS_MIN && left.saturating_add(right) < KEYS_TARGET)
}

fn disagree(first: &[u8], why: &str) -> EngineError {
    EngineError::new(
        format!(
            "counting the keys from {:?}",
            first.escape_ascii().to_string()
        ),
        why.to_owned(),
    )
}
