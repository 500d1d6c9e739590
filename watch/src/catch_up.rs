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

/// A batch from the log is up to so many times as large, while all whom it serves have room for what it has for them, and want little of
/// it: each then gets fewer and larger messages. What there was no room for would be read again.
const STRETCH_MAX: usize = 4;

/// Events that a batch may have for all its watchers together to be so much larger: it is delivered under the hub's lock.
const DELIVERIES_MAX: usize = 4096;

impl Core {
    /// Cancels those who need what has been compacted, as many as one batch may touch. Those for whom the ring has all of
    /// it are spared: a slow stream would otherwise lose its watches whenever somebody compacts up to the present.
    pub fn cancel_the_compacted(&mut self, wakes: &mut Wakes) {
        let gone = self.compacted.min(self.ring.first());
        for _ in 0..self.batch.watches {
            match self.ready.first() {
                Some(&(next, key)) if next < gone => self.cancel_compacted(key, wakes),
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
        (self.ring_cursor, _) = self.catch_up(from, &events, self.revision, wakes);
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

    /// The bounds of the next batch from the log.
    pub fn next_log_batch(&self) -> Batch {
        Batch {
            bytes: self.batch.bytes * self.stretch,
            revisions: self.batch.revisions * self.stretch,
            watches: self.batch.watches,
        }
    }

    /// One batch from the log, which was read from `from` on while the store was at the revision `at`.
    pub fn catch_up_from_log(
        &mut self,
        from: Revision,
        events: &[Event],
        at: Revision,
        wakes: &mut Wakes,
    ) {
        let (cursor, all_had_room) = self.catch_up(from, events, at, wakes);
        self.log_cursor = cursor;
        self.stretch = if !all_had_room || self.deliveries > DELIVERIES_MAX {
            1
        } else if 2 * self.deliveries <= DELIVERIES_MAX {
            (2 * self.stretch).min(STRETCH_MAX)
        } else {
            self.stretch
        };
    }

    /// Delivers `events`, which are all that happened from `from` to `at` as far as they go, to the ready watchers that
    /// need nothing before it. Returns where to go on, and whether all had room for it.
    fn catch_up(
        &mut self,
        from: Revision,
        events: &[Event],
        at: Revision,
        wakes: &mut Wakes,
    ) -> (Revision, bool) {
        // The log may be ahead of what was published; that part comes to current watchers by publishing. And it may be
        // behind, since more was published while it was read.
        let events = &events[..events.partition_point(|event| event.revision <= self.revision)];
        // Each revision but the first has an event, so a batch that ends early covers no more than its last one.
        let covered = events
            .last()
            .map_or(at.min(self.revision), |event| event.revision);

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
        let all_had_room = stopped.is_empty();
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
        (cursor, all_had_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::core::Seen;
    use crate::frame::Identity;
    use crate::testing::put;
    use keelson_proto::etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
    };
    use keelson_store::MemberId;
    use prost::Message;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::task::{Context, Poll, Waker};

    fn core(options: Options, seen: Seen) -> Core {
        let identity = Arc::new(Identity {
            cluster_id: 1,
            member_id: 1,
            term: AtomicU64::new(1),
        });
        Core::new(&options, identity, seen)
    }

    fn all_of_a() -> WatchRequest {
        let create = WatchCreateRequest {
            key: "a".into(),
            start_revision: 1,
            ..Default::default()
        };
        WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        }
    }

    #[test]
    fn batches_from_the_log_are_larger_while_there_is_room_for_what_they_have() {
        let seen = Seen {
            revision: Revision(100),
            compacted: Revision(-1),
        };
        let options = Options {
            stream_bytes: 1,
            batch_revisions: 1,
            ..Options::new(1, MemberId(1))
        };
        let mut core = core(options, seen);
        let wakes = &mut Wakes::default();
        let (stream, outbox) = core.open_stream();
        core.request(stream, all_of_a(), seen, wakes);
        let mut cx = Context::from_waker(Waker::noop());
        let mut take_all = || while outbox.poll_take(&mut cx).frame.is_ready() {};
        let mut sizes = Vec::new();
        let mut next = 2;
        for takes in [true, true, true, false, false, false] {
            if takes {
                take_all();
            }
            sizes.push(core.next_log_batch().revisions);
            let from = core.next_log_scan();
            if let Some(from) = from {
                core.catch_up_from_log(from, &[put("a", next, "v")], seen.revision, wakes);
                next += 1;
            }
        }
        assert_eq!(sizes, [1, 2, 4, 4, 1, 1]);
    }

    #[test]
    fn what_is_published_while_the_log_is_read_is_not_taken_for_read() {
        let empty = Seen {
            revision: Revision::FIRST,
            compacted: Revision(-1),
        };
        let mut core = core(Options::new(1, MemberId(1)), empty);
        let wakes = &mut Wakes::default();
        let (stream, outbox) = core.open_stream();
        core.request(stream, all_of_a(), empty, wakes);

        // The log of the empty store is read, and has nothing; then the first put comes.
        assert_eq!(core.next_log_scan(), Some(Revision(1)));
        core.publish(&[put("a", 2, "v")], Revision(2), Revision(-1), wakes);
        core.catch_up_from_log(Revision(1), &[], empty.revision, wakes);
        core.catch_up_from_ring(wakes);

        let mut cx = Context::from_waker(Waker::noop());
        let mut revisions = Vec::new();
        while let Poll::Ready(Some(frame)) = outbox.poll_take(&mut cx).frame {
            let response = WatchResponse::decode(frame.to_bytes()).expect("a valid message");
            let events = response.events.into_iter().filter_map(|event| event.kv);
            revisions.extend(events.map(|kv| kv.mod_revision));
        }
        assert_eq!(revisions, [2]);
    }
}
