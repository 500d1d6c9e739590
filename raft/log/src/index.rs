//! What the log keeps in memory: where each entry is, and the payloads of the latest.
//!
//! Each entry that is not purged costs 12 bytes here (segment, offset, length); terms are kept
//! once for each run of entries from the same leader (24 bytes a run). A million entries are 12 MB.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::LogId;

/// Where an entry's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Segment number; 0, which no segment has, while the entry waits to be written.
    pub segment: u32,
    /// Offset of the record in the segment.
    pub offset: u32,
    /// Bytes of the payload.
    pub len: u32,
}

impl Slot {
    /// The slot of an entry that is queued.
    pub(crate) fn unwritten(len: u32) -> Self {
        Slot {
            segment: 0,
            offset: 0,
            len,
        }
    }

    pub(crate) fn is_written(self) -> bool {
        self.segment != 0
    }
}

/// Consecutive entries of one leader.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    term: u64,
    node: u64,
}

/// The entries present: an unbroken range of indexes.
#[derive(Debug, Default)]
pub(crate) struct EntryIndex {
    first: u64,
    slots: VecDeque<Slot>,
    /// Sorted by `first`; the first run may begin before `self.first`.
    runs: VecDeque<Run>,
}

impl EntryIndex {
    /// An empty index whose first entry will be `first`.
    pub(crate) fn starting_at(first: u64) -> Self {
        EntryIndex {
            first,
            ..EntryIndex::default()
        }
    }

    /// Index of the first entry, or of the next one if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Index after the last entry.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Adds an entry, whose index must be [`EntryIndex::next`].
    pub(crate) fn push(&mut self, id: LogId, slot: Slot) {
        debug_assert_eq!(id.index, self.next());
        if self
            .runs
            .back()
            .is_none_or(|run| (run.term, run.node) != (id.term, id.node))
        {
            self.runs.push_back(Run {
                first: id.index,
                term: id.term,
                node: id.node,
            });
        }
        self.slots.push_back(slot);
    }

    /// Drops the entries at `next` and above. May lower [`EntryIndex::first`].
    pub(crate) fn truncate(&mut self, next: u64) {
        self.slots
            .truncate(usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX));
        self.first = self.first.min(next);
        while self.runs.back().is_some_and(|run| run.first >= next) {
            self.runs.pop_back();
        }
    }

    /// Drops the entries below `first`. If that is all, the next entry will be `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        if first <= self.first {
            return;
        }
        let gone = usize::try_from(first - self.first)
            .unwrap_or(usize::MAX)
            .min(self.slots.len());
        self.slots.drain(..gone);
        self.first = first;
        if self.slots.is_empty() {
            self.runs.clear();
        }
        while self.runs.get(1).is_some_and(|run| run.first <= first) {
            self.runs.pop_front();
        }
        // A log is purged in large steps; give the memory back.
        if self.slots.capacity() > 2 * self.slots.len() + 4096 {
            self.slots.shrink_to(self.slots.len() + 1024);
        }
    }

    pub(crate) fn slot(&self, index: u64) -> Option<Slot> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get(at).copied()
    }

    /// Sets where the entry `index` is, if it is present.
    pub(crate) fn set_slot(&mut self, index: u64, slot: Slot) {
        let at = index
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(old) = at.and_then(|at| self.slots.get_mut(at)) {
            *old = slot;
        }
    }

    pub(crate) fn id(&self, index: u64) -> Option<LogId> {
        self.slot(index)?;
        let after = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(after.checked_sub(1)?)?;
        Some(LogId {
            term: run.term,
            node: run.node,
            index,
        })
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.next().checked_sub(1).and_then(|index| self.id(index))
    }
}

/// What a payload takes beside its bytes, roughly: its place, the books of its buffer, and what the allocator rounds up.
const PAYLOAD_OVERHEAD_BYTES: usize = 96;

fn cost(payload: &Bytes) -> usize {
    payload.len() + PAYLOAD_OVERHEAD_BYTES
}

/// Payloads of the latest entries, up to the last one.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    first: u64,
    payloads: VecDeque<Bytes>,
    bytes: usize,
}

impl Cache {
    /// An empty cache, before the entry `first`.
    pub(crate) fn starting_at(first: u64) -> Self {
        Cache {
            first,
            ..Cache::default()
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Bytes> {
        self.payloads
            .get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Adds the payload of the entry after the last.
    pub(crate) fn push(&mut self, payload: Bytes) {
        self.bytes += cost(&payload);
        self.payloads.push_back(payload);
    }

    /// Drops the entries at `next` and above.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self.first + self.payloads.len() as u64 > next {
            match self.payloads.pop_back() {
                Some(payload) => self.bytes -= cost(&payload),
                None => self.first = next,
            }
        }
    }

    /// Drops the entries below `first`.
    pub(crate) fn purge(&mut self, first: u64) {
        while self.first < first {
            match self.payloads.pop_front() {
                Some(payload) => {
                    self.bytes -= cost(&payload);
                    self.first += 1;
                }
                None => self.first = first,
            }
        }
    }

    /// Drops the oldest until at most `bytes_max` are left, but none that is not yet written.
    pub(crate) fn evict(&mut self, bytes_max: usize, index: &EntryIndex) {
        while self.bytes > bytes_max && index.slot(self.first).is_some_and(Slot::is_written) {
            self.purge(self.first + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term,
            node: term % 3,
            index,
        }
    }

    fn slot(n: u32) -> Slot {
        Slot {
            segment: 1,
            offset: n,
            len: n,
        }
    }

    #[test]
    fn ids_follow_truncation_and_purge() {
        let mut index = EntryIndex::starting_at(5);
        for (term, i) in [(1, 5), (1, 6), (2, 7), (4, 8), (4, 9)] {
            index.push(id(term, i), slot(i as u32));
        }
        assert_eq!(index.last(), Some(id(4, 9)));
        index.truncate(8);
        assert_eq!((index.last(), index.id(8)), (Some(id(2, 7)), None));
        index.push(id(5, 8), slot(80));
        index.purge(7);
        assert_eq!((index.first(), index.next()), (7, 9));
        assert_eq!(
            [index.id(6), index.id(7), index.id(8)],
            [None, Some(id(2, 7)), Some(id(5, 8))]
        );
        assert_eq!(index.slot(8), Some(slot(80)));
    }

    #[test]
    fn purging_beyond_the_end_moves_the_next_index() {
        let mut index = EntryIndex::starting_at(0);
        index.push(id(1, 0), slot(0));
        index.purge(10);
        assert_eq!((index.first(), index.next(), index.last()), (10, 10, None));
        index.push(id(3, 10), slot(10));
        assert_eq!(index.last(), Some(id(3, 10)));
    }

    #[test]
    fn an_unwritten_entry_is_never_evicted() {
        let mut index = EntryIndex::starting_at(0);
        let mut cache = Cache::starting_at(0);
        for i in 0..4 {
            index.push(id(1, i), if i < 2 { slot(1) } else { Slot::unwritten(4) });
            cache.push(Bytes::from_static(b"four"));
        }
        cache.evict(0, &index);
        assert_eq!(
            [0, 1, 2, 3].map(|i| cache.get(i).is_some()),
            [false, false, true, true]
        );
    }

    #[test]
    fn small_payloads_do_not_take_more_than_they_may() {
        let mut index = EntryIndex::starting_at(0);
        let mut cache = Cache::starting_at(0);
        for i in 0..100 {
            index.push(id(1, i), slot(1));
            cache.push(Bytes::from_static(b"four"));
        }
        cache.evict(1_000, &index);
        assert_eq!(cache.payloads.len(), 10);
    }

    #[test]
    fn the_cache_ends_where_the_log_ends() {
        let mut cache = Cache::starting_at(3);
        for _ in 3..8 {
            cache.push(Bytes::from_static(b"x"));
        }
        cache.truncate(6);
        assert!(cache.get(5).is_some() && cache.get(6).is_none());
        cache.purge(20);
        assert_eq!(cache.bytes, 0);
        cache.push(Bytes::from_static(b"y"));
        assert!(cache.get(20).is_some());
    }
}
