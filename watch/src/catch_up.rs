//! Catching up: one scan serves all the watchers that it passes.
//!
//! A scan moves like a lift: it goes on from where it stopped, takes along whoever waits for a revision that it reads,
//! and starts over from the lowest when nobody is left above. So one watcher that begins far back does not hold up those
//! that are nearly there. The ring has a scan of its own, so that nobody waits for the disk without need.

use keelson_store::{Event, Revision};

use crate::core::{Core, State};
use crate::index::WatcherKey;
use crate::outbox::Wakes;

/// Bounds of one batch; see [`crate::Options`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub bytes: usize,
    pub revisions: usize,
    pub watches: usize,
}

impl Core {
    /// Cancels those who need what has been compacted, as many as one batch may touch.
    pub fn cancel_the_compacted(&mut self, wakes: &mut Wakes) {
        for _ in 0..self.batch.watches {
            match self.ready.first() {
                Some(&(next, key)) if next < self.compacted => self.cancel_compacted(key, wakes),
                _ => break,
            }
        }
    }

    /// One batch for those who miss only what is in the ring.
    pub fn catch_up_from_ring(&mut self, wakes: &mut Wakes) {
        let first = self.ring.first();
        let after = |from: Revision| self.ready.range((from, 0)..).next().map(|(next, _)| *next);
        let Some(from) = after(self.ring_cursor.max(first)).or_else(|| after(first)) else {
            return;
        };
        let events = self.ring.read(from, self.batch.bytes, self.batch.revisions);
        self.ring_cursor = self.catch_up(from, &events, wakes);
    }

    /// From which revision the log is to be read next, if anybody needs it.
    pub fn next_log_scan(&self) -> Option<Revision> {
        let first = self.ring.first();
        let after = |from: Revision| {
            self.ready
                .range((from, 0)..(first, 0))
                .next()
                .map(|(next, _)| *next)
        };
        let above = (self.log_cursor < first)
            .then(|| after(self.log_cursor))
            .flatten();
        above.or_else(|| after(Revision::default()))
    }

    /// One batch from the log, which was read from `from` on.
    pub fn catch_up_from_log(&mut self, from: Revision, events: &[Event], wakes: &mut Wakes) {
        self.log_cursor = self.catch_up(from, events, wakes);
    }

    /// Delivers `events`, which are all that happened since `from` as far as they go, to the ready watchers that need
    /// nothing before it. Returns where to go on.
    fn catch_up(&mut self, from: Revision, events: &[Event], wakes: &mut Wakes) -> Revision {
        // The log may be ahead of what was published; that part comes to current watchers by publishing.
        let events = &events[..events.partition_point(|event| event.revision <= self.revision)];
        // Each revision has an event, so a batch that ends early covers no more than its last one.
        let covered = events.last().map_or(self.revision, |event| event.revision);

        self.round += 1;
        let mut passengers = self
            .ready
            .range((from, 0)..=(covered, WatcherKey::MAX))
            .copied();
        let served: Vec<WatcherKey> = passengers
            .by_ref()
            .take(self.batch.watches)
            .map(|(_, key)| key)
            .collect();
        let cursor = passengers.next().map_or(covered.next(), |(next, _)| next);
        for &key in &served {
            self.watchers[key].round = self.round;
        }
        let stopped = self.fan_out(State::Ready, events, covered, wakes);
        for (key, next) in stopped {
            self.block(key, next);
        }
        let mut last_stream = None;
        for key in served {
            if self.watchers[key].state == State::Ready {
                self.advance(key, covered.next());
            }
            // Others of its stream may be waiting for their turn.
            let stream = self.watchers[key].stream;
            if last_stream.replace(stream) != Some(stream) {
                self.unblock(stream);
            }
        }
        cursor
    }
}
