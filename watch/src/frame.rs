//! Encodes `etcdserverpb.WatchResponse` around events that are encoded already.
//!
//! Field numbers are etcd's: header = 1 {cluster_id = 1, member_id = 2, revision = 3, raft_term = 4}, watch_id = 2,
//! created = 3, canceled = 4, compact_revision = 5, cancel_reason = 6, fragment = 7, events = 11. Zero values are left out,
//! as proto3 does. All that differs between two watchers of the same keys stands in the head, which is a few dozen bytes
//! on the stack; the body (the events with their tags and lengths) is shared between them.

use bytes::{BufMut, Bytes, BytesMut};
use keelson_store::Revision;
use prost::encoding::{encode_varint, encoded_len_varint};
use std::sync::atomic::{AtomicU64, Ordering};

/// Field 11, length-delimited.
const EVENTS_TAG: u8 = 0x5a;
/// Field 6, length-delimited.
const CANCEL_REASON_TAG: u8 = 0x32;

/// Every field of a head at its longest: the header's 2 + 4 × 11, three numbers of 11, three flags of 2, and an event's
/// tag and length of 11.
const HEAD_BYTES_MAX: usize = 2 + 4 * 11 + 3 * 11 + 3 * 2 + 11;

/// Who speaks: the part of every header that is the same on all streams of a member.
#[derive(Debug)]
pub(crate) struct Identity {
    pub cluster_id: u64,
    pub member_id: u64,
    pub term: AtomicU64,
}

/// What a message says, apart from its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Events: the body.
    Events {
        /// The body is one bare event, and its tag and length are still to be written.
        bare: bool,
        /// More of the same revision follows.
        fragment: bool,
    },
    Created,
    /// A request that made no watch: created and canceled at once. The body has the reason.
    Refused,
    Canceled,
    /// The watch cannot go on, since what it needs was compacted. As in etcd, the header has no revision then.
    Compacted(Revision),
    /// Everything up to the header's revision was sent.
    Progress,
}

/// A message in a stream's queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub watch_id: i64,
    pub revision: Revision,
    pub notice: Notice,
    pub body: Bytes,
}

impl Entry {
    /// What the entry takes of a stream's queue.
    pub fn cost(&self) -> usize {
        size_of::<Entry>() + self.body.len()
    }

    pub fn encode(self, identity: &Identity) -> Frame {
        let mut frame = Frame {
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            body: self.body,
        };
        let mut out = &mut frame.head[..];
        let (mut created, mut canceled, mut compacted, mut is_fragment, mut bare_event) =
            (false, false, 0, false, false);
        let mut revision = self.revision.0;
        match self.notice {
            Notice::Events { bare, fragment } => (bare_event, is_fragment) = (bare, fragment),
            Notice::Created => created = true,
            Notice::Refused => (created, canceled) = (true, true),
            Notice::Canceled => canceled = true,
            Notice::Compacted(at) => (canceled, compacted, revision) = (true, at.0, 0),
            Notice::Progress => {}
        }

        let header = [
            identity.cluster_id,
            identity.member_id,
            revision as u64,
            identity.term.load(Ordering::Relaxed),
        ];
        out.put_u8(0x0a);
        out.put_u8(header.iter().map(|&value| number_len(value)).sum::<usize>() as u8);
        for (tag, value) in [0x08, 0x10, 0x18, 0x20].into_iter().zip(header) {
            put_number(&mut out, tag, value);
        }
        put_number(&mut out, 0x10, self.watch_id as u64);
        put_number(&mut out, 0x18, created.into());
        put_number(&mut out, 0x20, canceled.into());
        put_number(&mut out, 0x28, compacted as u64);
        put_number(&mut out, 0x38, is_fragment.into());
        if bare_event {
            out.put_u8(EVENTS_TAG);
            encode_varint(frame.body.len() as u64, &mut out);
        }
        let left = out.len();
        frame.head_len = (HEAD_BYTES_MAX - left) as u8;
        frame
    }
}

/// The bytes of a number with a tag of one byte, or nothing for zero.
fn number_len(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + encoded_len_varint(value)
    }
}

fn put_number(out: &mut impl BufMut, tag: u8, value: u64) {
    if value != 0 {
        out.put_u8(tag);
        encode_varint(value, out);
    }
}

/// How many bytes an encoded event takes as one of a message's events.
pub(crate) fn event_record_len(event_len: usize) -> usize {
    1 + encoded_len_varint(event_len as u64) + event_len
}

/// Appends an encoded event as one of a message's events.
pub(crate) fn put_event_record(out: &mut impl BufMut, event: &[u8]) {
    out.put_u8(EVENTS_TAG);
    encode_varint(event.len() as u64, out);
    out.put_slice(event);
}

/// The body of a refusal.
pub(crate) fn cancel_reason(text: &str) -> Bytes {
    let mut body = BytesMut::with_capacity(text.len() + 4);
    body.put_u8(CANCEL_REASON_TAG);
    encode_varint(text.len() as u64, &mut body);
    body.put_slice(text.as_bytes());
    body.freeze()
}

/// One encoded `etcdserverpb.WatchResponse`: its head, then its body.
#[derive(Clone, Debug)]
pub struct Frame {
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    body: Bytes,
}

impl Frame {
    /// The first part of the message: this watcher's own.
    pub fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_len)).unwrap_or(&[])
    }

    /// The rest of it, shared with every watcher that gets the same events.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The length of the message in bytes.
    pub fn message_len(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Appends the message.
    pub fn write_to(&self, out: &mut impl BufMut) {
        out.put_slice(self.head());
        out.put_slice(&self.body);
    }

    /// The message in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.message_len());
        self.write_to(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::put;
    use keelson_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use keelson_proto::mvccpb;
    use prost::Message;

    fn identity() -> Identity {
        Identity {
            cluster_id: u64::MAX,
            member_id: 7,
            term: AtomicU64::new(u64::MAX),
        }
    }

    fn decoded(watch_id: i64, revision: i64, notice: Notice, body: Bytes) -> WatchResponse {
        let frame = Entry {
            watch_id,
            revision: Revision(revision),
            notice,
            body,
        }
        .encode(&identity());
        let response = WatchResponse::decode(frame.to_bytes()).expect("a valid message");
        assert_eq!(
            response.encode_to_vec(),
            frame.to_bytes(),
            "the encoding differs from prost's"
        );
        response
    }

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 7,
            revision,
            raft_term: u64::MAX,
        })
    }

    #[test]
    fn each_notice_is_the_message_that_etcd_sends_for_it() {
        let blank = WatchResponse {
            header: header(9),
            watch_id: 3,
            ..Default::default()
        };
        assert_eq!(decoded(3, 9, Notice::Progress, Bytes::new()), blank);
        assert_eq!(
            decoded(3, 9, Notice::Created, Bytes::new()),
            WatchResponse {
                created: true,
                ..blank.clone()
            }
        );
        assert_eq!(
            decoded(3, 9, Notice::Canceled, Bytes::new()),
            WatchResponse {
                canceled: true,
                ..blank.clone()
            }
        );
        assert_eq!(
            decoded(3, 9, Notice::Compacted(Revision(12)), Bytes::new()),
            WatchResponse {
                canceled: true,
                compact_revision: 12,
                header: header(0),
                ..blank.clone()
            }
        );
        assert_eq!(
            decoded(-1, i64::MAX, Notice::Refused, cancel_reason("no")),
            WatchResponse {
                header: header(i64::MAX),
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: "no".into(),
                ..blank
            }
        );
    }

    #[test]
    fn events_come_through_bare_or_as_records_and_the_longest_head_fits() {
        let event = put("k", 5, &"v".repeat(300)).encoded;
        let expected = mvccpb::Event::decode(event.clone()).expect("a valid event");
        let response = decoded(
            i64::MIN,
            i64::MAX,
            Notice::Events {
                bare: true,
                fragment: true,
            },
            event.clone(),
        );
        assert_eq!(
            (response.events, response.fragment),
            (vec![expected.clone()], true)
        );

        let mut body = BytesMut::new();
        put_event_record(&mut body, &event);
        put_event_record(&mut body, &event);
        assert_eq!(body.len(), 2 * event_record_len(event.len()));
        let response = decoded(
            0,
            5,
            Notice::Events {
                bare: false,
                fragment: false,
            },
            body.freeze(),
        );
        assert_eq!(response.events, [expected.clone(), expected]);
    }
}
