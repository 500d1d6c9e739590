//! Records of the log family: an event, encoded once, and where it lies in all that was ever logged.

use bytes::{BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use super::{LOG_KEY_LEN, damaged, parse_log_key};
use crate::engine::EngineError;
use crate::{Event, EventKind, Revision};

/// A change of a key, to be logged.
pub(crate) struct Change<'a> {
    pub key: &'a [u8],
    pub main: Revision,
    pub sub: u32,
    /// The new version's record; none: the key is deleted.
    pub record: Option<&'a [u8]>,
    /// The record of the version that it replaces.
    pub prev: Option<&'a [u8]>,
    /// How many bytes were logged before it, ever.
    pub position: u64,
}

impl Change<'_> {
    /// The record for the log family, the event (which shares its bytes), and what both add to the logical size.
    pub fn encode(&self) -> (Bytes, Event, u64) {
        let mut tombstone = Vec::new();
        let (kind, record) = match self.record {
            Some(record) => (EventKind::Put, record),
            None => {
                tombstone.push(0x18);
                encode_varint(self.main.0 as u64, &mut tombstone);
                (EventKind::Delete, tombstone.as_slice())
            }
        };
        let kind_bytes: &[u8] = if kind == EventKind::Delete {
            &[0x08, 0x01]
        } else {
            &[]
        };
        let key_len = field_len(self.key.len());
        let kv_len = key_len + record.len();
        let plain_len = kind_bytes.len() + field_len(kv_len);
        let event_len = plain_len + self.prev.map_or(0, |prev| field_len(key_len + prev.len()));

        let mut out = Vec::with_capacity(2 * 10 + event_len);
        encode_varint(self.position, &mut out);
        encode_varint(plain_len as u64, &mut out);
        let event_at = out.len();
        out.extend_from_slice(kind_bytes);
        put_key_value(0x12, self.key, record, &mut out);
        debug_assert_eq!(out.len() - event_at, plain_len);
        let key_at = out.len() - record.len() - self.key.len();
        if let Some(prev) = self.prev {
            put_key_value(0x1A, self.key, prev, &mut out);
        }
        debug_assert_eq!(out.len() - event_at, event_len);

        let value = Bytes::from(out);
        let event = Event {
            key: value.slice(key_at..key_at + self.key.len()),
            revision: self.main,
            sub: self.sub,
            kind,
            encoded: value.slice(event_at..),
            plain_len,
        };
        (value, event, (LOG_KEY_LEN + event_len) as u64)
    }
}

/// Writes a KeyValue as a field: its key, then the record, which is the rest of it.
fn put_key_value(tag: u8, key: &[u8], record: &[u8], out: &mut Vec<u8>) {
    out.put_u8(tag);
    encode_varint((field_len(key.len()) + record.len()) as u64, out);
    out.put_u8(0x0A);
    encode_varint(key.len() as u64, out);
    out.extend_from_slice(key);
    out.extend_from_slice(record);
}

/// Length of a field with a one-byte tag and `len` bytes.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// A record of the log family, read in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawLog<'a> {
    pub revision: (Revision, u32),
    pub position: u64,
    pub kind: EventKind,
    pub key: &'a [u8],
    /// The replaced version's record.
    pub prev: Option<&'a [u8]>,
    encoded: &'a [u8],
    plain_len: usize,
    key_at: usize,
}

impl<'a> RawLog<'a> {
    pub fn parse(log_key: &[u8], value: &'a [u8]) -> Result<RawLog<'a>, EngineError> {
        let revision = parse_log_key(log_key)?;
        RawLog::try_parse(revision, value).ok_or_else(|| damaged("log", log_key))
    }

    fn try_parse(revision: (Revision, u32), value: &'a [u8]) -> Option<RawLog<'a>> {
        let mut encoded = value;
        let position = decode_varint(&mut encoded).ok()?;
        let plain_len = usize::try_from(decode_varint(&mut encoded).ok()?).ok()?;
        let (plain, prev_field) = encoded.split_at_checked(plain_len)?;

        let (kind, kv_field) = match plain.strip_prefix(&[0x08, 0x01]) {
            Some(rest) => (EventKind::Delete, rest),
            None => (EventKind::Put, plain),
        };
        let kv = whole_field(0x12, kv_field)?;
        let (key, record) = split_field(0x0A, kv)?;
        let key_at = plain_len - record.len() - key.len();
        let prev = if prev_field.is_empty() {
            None
        } else {
            let (prev_key, prev) = split_field(0x0A, whole_field(0x1A, prev_field)?)?;
            if prev_key != key {
                return None;
            }
            Some(prev)
        };
        Some(RawLog {
            revision,
            position,
            kind,
            key,
            prev,
            encoded,
            plain_len,
            key_at,
        })
    }

    /// The event, in bytes of its own.
    pub fn to_event(self) -> Event {
        let encoded = Bytes::copy_from_slice(self.encoded);
        let key = encoded.slice(self.key_at..self.key_at + self.key.len());
        let (revision, sub) = self.revision;
        Event {
            key,
            revision,
            sub,
            kind: self.kind,
            encoded,
            plain_len: self.plain_len,
        }
    }

    /// Whether the event brought its key to life.
    pub fn creates(&self) -> bool {
        self.kind == EventKind::Put && self.prev.is_none()
    }
}

/// The bytes of a length-delimited field and what comes after it.
fn split_field(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.strip_prefix(&[tag])?;
    let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    rest.split_at_checked(len)
}

/// The bytes of a length-delimited field that fills `bytes`.
fn whole_field(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    split_field(tag, bytes)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(field, _)| field)
}
