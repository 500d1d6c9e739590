//! The recent events, kept by bytes: who falls behind by a little catches up from here and not from the disk.

use keelson_store::{Event, Revision};
use std::collections::VecDeque;

/// What an event costs beyond its own bytes: the struct, and the books of its shared buffers.
const EVENT_OVERHEAD_BYTES: usize = size_of::<Event>() + 64;

fn cost(event: &Event) -> usize {
    event.encoded.len() + event.key.len() + EVENT_OVERHEAD_BYTES
}

pub(crate) struct Ring {
    /// In order; only whole revisions.
    events: VecDeque<Event>,
    bytes: usize,
    bytes_max: usize,
    /// Every event from this revision on, up to the newest published, is here.
    first: Revision,
}

impl Ring {
    /// An empty ring, which begins after `revision`.
    pub fn new(bytes_max: usize, revision: Revision) -> Ring {
        Ring {
            events: VecDeque::new(),
            bytes: 0,
            bytes_max,
            first: revision.next(),
        }
    }

    /// Forgets everything; the next event comes after `revision`.
    pub fn restart(&mut self, revision: Revision) {
        *self = Ring::new(self.bytes_max, revision);
    }

    pub fn first(&self) -> Revision {
        self.first
    }

    pub fn push(&mut self, events: &[Event]) {
        for event in events {
            self.bytes += cost(event);
            self.events.push_back(event.clone());
        }
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.events.front().map(|event| event.revision)
        {
            // Looking for the end of the revision among all events would cost more: most have one.
            while let Some(event) = self.events.front()
                && event.revision == oldest
            {
                self.bytes -= cost(event);
                self.events.pop_front();
            }
            self.first = oldest.next();
        }
    }

    /// Whole revisions from `from` on: at least one, and no more once either bound is reached.
    pub fn read(&self, from: Revision, bytes_max: usize, revisions_max: usize) -> Vec<Event> {
        debug_assert!(from >= self.first);
        let start = self.events.partition_point(|event| event.revision < from);
        let (mut bytes, mut revisions, mut last) = (0, 0, Revision::default());
        self.events
            .range(start..)
            .take_while(|event| {
                if event.revision != last {
                    if bytes >= bytes_max || revisions >= revisions_max {
                        return false;
                    }
                    revisions += 1;
                    last = event.revision;
                }
                bytes += event.encoded.len();
                true
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::put;

    #[test]
    fn the_oldest_revisions_leave_whole_when_the_bytes_are_over_the_bound() {
        let events = [
            put("a", 2, "1"),
            put("b", 3, "1"),
            put("c", 3, "1"),
            put("d", 4, "1"),
        ];
        let mut ring = Ring::new(cost(&events[0]) * 3, Revision(1));
        ring.push(&events[..3]);
        assert_eq!(ring.first(), Revision(2));
        ring.push(&events[3..]);
        assert_eq!(ring.first(), Revision(3));
        assert_eq!(ring.read(Revision(3), 1 << 20, 10), events[1..]);
        ring.push(&[put("e", 5, "1")]);
        assert_eq!(
            (ring.first(), ring.bytes),
            (Revision(4), cost(&events[0]) * 2)
        );
    }

    #[test]
    fn a_revision_larger_than_the_ring_leaves_it_empty() {
        let mut ring = Ring::new(10, Revision(1));
        ring.push(&[put("a", 2, "1"), put("b", 2, "1")]);
        assert_eq!(
            (ring.first(), ring.bytes, ring.events.len()),
            (Revision(3), 0, 0)
        );
    }

    #[test]
    fn a_read_stops_at_a_bound_but_never_inside_a_revision() {
        let events = [
            put("a", 2, "1"),
            put("b", 3, "1"),
            put("c", 3, "1"),
            put("d", 4, "1"),
        ];
        let mut ring = Ring::new(1 << 20, Revision(1));
        ring.push(&events);
        assert_eq!(ring.read(Revision(2), 1 << 20, 2), events[..3]);
        assert_eq!(ring.read(Revision(3), 1, 10), events[1..3]);
        assert_eq!(ring.read(Revision(5), 1, 10), []);
    }
}
