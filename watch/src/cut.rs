//! Cuts the events that a group of watchers is to get into messages, and makes each message's bytes once for all of them.
//!
//! A message holds whole revisions: it ends after the revision with which it reaches [`Limits::message_bytes`].
//! One revision is one message, however large, except for watchers that asked for fragments.

use bytes::{Bytes, BytesMut};
use keelson_planted::{Bug, on};
use keelson_store::{Event, Revision};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::frame::{Entry, Notice, event_record_len, put_event_record};
use crate::outbox::{Budget, Outbox, Wakes};
use crate::span::Wants;

/// How messages are cut.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// A message of several revisions is closed when it has grown to this.
    pub message_bytes: usize,
    /// A fragment is smaller than this, unless it is a single event.
    pub fragment_bytes: usize,
}

/// The messages for the watchers of one group that want the same.
pub(crate) struct Cut<'a> {
    events: &'a [Event],
    /// The positions in `events` of those that match.
    matched: Cow<'a, [u32]>,
    wants: Wants,
    chunks: Vec<Chunk>,
    limits: &'a Limits,
    budget: &'a Arc<Budget>,
}

/// The events of one message.
struct Chunk {
    /// Positions in `matched`.
    range: Range<usize>,
    /// The size of its events as records.
    bytes: usize,
    /// Made for the first watcher that has room for them.
    pieces: Option<Pieces>,
}

impl Piece {
    fn into_entry(self, watch_id: i64, revision: Revision) -> Entry {
        let Piece {
            body,
            bare,
            fragment,
        } = self;
        Entry {
            watch_id,
            revision,
            notice: Notice::Events { bare, fragment },
            body,
        }
    }
}

/// The bodies of a chunk's messages: mostly one.
#[derive(Clone)]
struct Pieces {
    /// All but the last one: fragments.
    before: Vec<Piece>,
    last: Piece,
}

/// The body of one message: of the whole chunk, or of a fragment.
#[derive(Clone)]
struct Piece {
    body: Bytes,
    bare: bool,
    fragment: bool,
}

/// To whom a cut is delivered.
pub(crate) struct Recipient<'a> {
    pub watch_id: i64,
    /// It wants nothing before this revision.
    pub from: Revision,
    pub outbox: &'a Outbox,
}

/// How far a delivery came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// There was nothing for it.
    Nothing,
    /// It got everything.
    All,
    /// Its stream is full: it still needs everything from this revision on.
    Until(Revision),
}

impl<'a> Cut<'a> {
    pub fn new(
        events: &'a [Event],
        matched: &'a [u32],
        wants: Wants,
        limits: &'a Limits,
        budget: &'a Arc<Budget>,
    ) -> Cut<'a> {
        let matched = if wants.accepts_all() {
            Cow::Borrowed(matched)
        } else {
            Cow::Owned(
                matched
                    .iter()
                    .copied()
                    .filter(|&at| wants.accepts(&events[at as usize]))
                    .collect(),
            )
        };
        let mut cut = Cut {
            events,
            matched,
            wants,
            chunks: Vec::new(),
            limits,
            budget,
        };
        let mut start = 0;
        while start < cut.matched.len() {
            let (end, bytes) = cut.end_of_chunk(start);
            cut.chunks.push(Chunk {
                range: start..end,
                bytes,
                pieces: None,
            });
            start = end;
        }
        cut
    }

    fn event(&self, at: usize) -> &'a Event {
        &self.events[self.matched[at] as usize]
    }

    fn event_len(&self, at: usize) -> usize {
        let event = self.event(at);
        if self.wants.prev_kv {
            event.encoded.len()
        } else {
            event.plain_len
        }
    }

    fn end_of_chunk(&self, start: usize) -> (usize, usize) {
        let (mut bytes, mut end) = (0, start);
        while end < self.matched.len() {
            let ends_a_revision =
                end > start && self.event(end).revision != self.event(end - 1).revision;
            let splits = on(Bug::WatchSplitsRevision) && end > start;
            if splits || ends_a_revision && bytes >= self.limits.message_bytes {
                break;
            }
            bytes += event_record_len(self.event_len(end));
            end += 1;
        }
        (end, bytes)
    }

    /// Queues for the recipient every message that it has not had yet, as far as its stream has room. The last one's
    /// header says `covered`: the revision through which the recipient has then been sent everything.
    pub fn deliver(
        &mut self,
        to: &Recipient<'_>,
        covered: Revision,
        wakes: &mut Wakes,
    ) -> Delivered {
        let mut start = self
            .matched
            .partition_point(|&at| self.events[at as usize].revision < to.from);
        if start == self.matched.len() {
            return Delivered::Nothing;
        }
        for number in
            self.chunks
                .partition_point(|chunk| chunk.range.end <= start)..self.chunks.len()
        {
            let range = start..self.chunks[number].range.end;
            let is_whole = range.start == self.chunks[number].range.start;
            let bytes = if is_whole {
                self.chunks[number].bytes
            } else {
                self.record_bytes(range.clone())
            };
            let is_last = range.end == self.matched.len();
            let revision = if is_last {
                covered
            } else {
                self.event(range.end - 1).revision
            };
            let entries = || {
                let pieces = if is_whole {
                    self.shared_pieces(number)
                } else {
                    self.make_pieces(range.clone(), bytes)
                };
                let all = pieces.before.into_iter().chain([pieces.last]);
                all.map(|piece| piece.into_entry(to.watch_id, revision))
            };
            if !to.outbox.offer(size_of::<Entry>() + bytes, entries, wakes) {
                return Delivered::Until(self.event(start).revision);
            }
            start = range.end;
        }
        Delivered::All
    }

    fn record_bytes(&self, range: Range<usize>) -> usize {
        range.map(|at| event_record_len(self.event_len(at))).sum()
    }

    fn shared_pieces(&mut self, number: usize) -> Pieces {
        let Chunk {
            range,
            bytes,
            pieces,
        } = &self.chunks[number];
        if let Some(pieces) = pieces {
            return pieces.clone();
        }
        let made = self.make_pieces(range.clone(), *bytes);
        self.chunks[number].pieces = Some(made.clone());
        made
    }

    fn make_pieces(&self, range: Range<usize>, bytes: usize) -> Pieces {
        let mut before = Vec::new();
        let (mut start, mut size) = (range.start, bytes);
        if self.wants.fragment && bytes >= self.limits.fragment_bytes {
            size = 0;
            for at in range.clone() {
                let record = event_record_len(self.event_len(at));
                if at > start && size + record >= self.limits.fragment_bytes {
                    before.push(self.make_piece(start..at, size, true));
                    (start, size) = (at, 0);
                }
                size += record;
            }
        }
        Pieces {
            before,
            last: self.make_piece(start..range.end, size, false),
        }
    }

    fn make_piece(&self, range: Range<usize>, bytes: usize, fragment: bool) -> Piece {
        if range.len() == 1 {
            let body = self
                .budget
                .charge(self.event(range.start).bytes(self.wants.prev_kv));
            return Piece {
                body,
                bare: true,
                fragment,
            };
        }
        let mut body = BytesMut::with_capacity(bytes);
        for at in range {
            put_event_record(&mut body, &self.event(at).encoded[..self.event_len(at)]);
        }
        debug_assert_eq!(body.len(), bytes);
        Piece {
            body: self.budget.charge(body.freeze()),
            bare: false,
            fragment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Identity;
    use crate::testing::{delete, put};
    use keelson_proto::etcdserverpb::WatchResponse;
    use prost::Message;
    use std::sync::atomic::AtomicU64;
    use std::task::{Context, Poll, Waker};

    const LIMITS: Limits = Limits {
        message_bytes: 100,
        fragment_bytes: 120,
    };

    /// How far a delivery came, and the messages that were sent.
    type Sent = (Delivered, Vec<(i64, Vec<i64>, bool)>);

    /// What a recipient that needs everything from `from` on gets: the messages' header revisions, their events'
    /// revisions, and whether they are fragments.
    fn sent(events: &[Event], wants: Wants, from: &[i64], outbox_bytes: usize) -> Vec<Sent> {
        let budget = Budget::new(1 << 20);
        let identity = Arc::new(Identity {
            cluster_id: 1,
            member_id: 1,
            term: AtomicU64::new(1),
        });
        let matched: Vec<u32> = (0..events.len() as u32).collect();
        let mut cut = Cut::new(events, &matched, wants, &LIMITS, &budget);
        from.iter()
            .map(|&from| {
                let outbox = Outbox::new(outbox_bytes, budget.clone(), identity.clone());
                let to = Recipient {
                    watch_id: 1,
                    from: Revision(from),
                    outbox: &outbox,
                };
                let delivered = cut.deliver(&to, Revision(99), &mut Wakes::default());
                let mut messages = Vec::new();
                while let Poll::Ready(Some(frame)) = outbox
                    .poll_take(&mut Context::from_waker(Waker::noop()))
                    .frame
                {
                    let message = WatchResponse::decode(frame.to_bytes()).expect("a valid message");
                    let revisions = message
                        .events
                        .iter()
                        .filter_map(|event| event.kv.as_ref())
                        .map(|kv| kv.mod_revision);
                    let header = message.header.as_ref().map_or(0, |header| header.revision);
                    messages.push((header, revisions.collect(), message.fragment));
                }
                (delivered, messages)
            })
            .collect()
    }

    #[test]
    fn messages_end_with_a_revision_once_they_are_large_and_the_last_header_says_what_is_covered() {
        let value = "v".repeat(30);
        let events = [(2, "a"), (3, "b"), (3, "c"), (3, "d"), (4, "e"), (5, "f")]
            .map(|(at, key)| put(key, at, &value));
        let all = vec![(3, vec![2, 3, 3, 3], false), (99, vec![4, 5], false)];
        let later = vec![(3, vec![3, 3, 3], false), (99, vec![4, 5], false)];
        assert_eq!(
            sent(&events, Wants::default(), &[0, 3, 5, 6], 1 << 20),
            [
                (Delivered::All, all),
                (Delivered::All, later),
                (Delivered::All, vec![(99, vec![5], false)]),
                (Delivered::Nothing, vec![])
            ]
        );
    }

    #[test]
    fn a_stream_without_room_for_the_next_message_stops_before_its_first_revision() {
        let value = "v".repeat(110);
        let events = [
            put("a", 2, &value),
            put("b", 4, &value),
            put("c", 7, &value),
        ];
        let stopped = sent(&events, Wants::default(), &[0], 300);
        assert_eq!(
            stopped,
            [(Delivered::Until(Revision(4)), vec![(2, vec![2], false)])]
        );
    }

    #[test]
    fn fragments_split_a_revision_and_a_filter_leaves_only_what_it_lets_pass() {
        let value = "v".repeat(30);
        let events = [
            put("a", 2, &value),
            put("b", 2, &value),
            put("c", 2, &value),
            delete("d", 3),
        ];
        let wants = Wants {
            fragment: true,
            ..Wants::default()
        };
        let fragments = vec![
            (2, vec![2, 2], true),
            (2, vec![2], false),
            (99, vec![3], false),
        ];
        assert_eq!(
            sent(&events, wants, &[0], 1 << 20),
            [(Delivered::All, fragments)]
        );

        let wants = Wants {
            no_put: true,
            ..Wants::default()
        };
        assert_eq!(
            sent(&events, wants, &[0, 4], 1 << 20)[0],
            (Delivered::All, vec![(99, vec![3], false)])
        );
        assert_eq!(
            sent(&events[..3], wants, &[0], 1 << 20),
            [(Delivered::Nothing, vec![])]
        );
    }
}
