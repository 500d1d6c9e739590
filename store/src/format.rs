//! How the store's records are laid out in the engine's families. Drawn byte by byte in store/FORMAT.md;
//! what is written here is on disks, and changes only with [`VERSION`].
//!
//! **Leaves to others**: which records are written when. Numbers are big-endian where they must sort.

use bytes::{Buf, BufMut, Bytes};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use crate::engine::EngineError;
use crate::{Event, EventKind, LeaseId, MemberId, Revision};

/// The format that this version writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// Length of a key of the log family.
const LOG_KEY_LEN: usize = 12;

/// Keys of the meta family: one letter, and for some an id.
pub(crate) mod meta {
    pub const FORMAT: &[u8] = b"f";
    pub const STATE: &[u8] = b"s";
    pub const ALARM: u8 = b'a';
    pub const LEASE: u8 = b'l';
    pub const MEMBER: u8 = b'm';
    pub const REMOVED: u8 = b'r';
}

/// The key of a change in the log family.
pub(crate) fn log_key(main: Revision, sub: u32) -> Bytes {
    let mut key = Vec::with_capacity(LOG_KEY_LEN);
    key.put_i64(main.0);
    key.put_u32(sub);
    key.into()
}

/// The revision of a log key.
pub(crate) fn parse_log_key(mut key: &[u8]) -> Result<(Revision, u32), EngineError> {
    if key.len() != LOG_KEY_LEN {
        return Err(damaged("log", key));
    }
    Ok((Revision(key.get_i64()), key.get_u32()))
}

/// The key that a change of `key` leaves in the hist family.
pub(crate) fn hist_key(key: &[u8], main: Revision, sub: u32) -> Bytes {
    let mut out = Vec::with_capacity(key.len() + 2 + LOG_KEY_LEN);
    escape(key, &mut out);
    out.put_i64(main.0);
    out.put_u32(sub);
    out.into()
}

/// Escapes a user key so that escaped keys, whatever follows them, sort as the keys do: 0x00 becomes 0x00 0xFF,
/// and 0x00 0x01 ends the key.
pub(crate) fn escape(key: &[u8], out: &mut Vec<u8>) {
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

/// Takes a hist key apart: the user key goes into `key`, the revision is returned.
pub(crate) fn parse_hist_key(
    record: &[u8],
    key: &mut Vec<u8>,
) -> Result<(Revision, u32), EngineError> {
    key.clear();
    let mut rest = record;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != 0 {
            key.push(byte);
            continue;
        }
        match rest.split_first() {
            Some((0xFF, after)) => {
                key.push(0);
                rest = after;
            }
            Some((0x01, after)) if after.len() == LOG_KEY_LEN => return parse_log_key(after),
            _ => break,
        }
    }
    Err(damaged("hist", record))
}

/// The main revision of a key of the hist family: what an engine compares with its history floor. None if it is no such key.
pub fn hist_revision(record: &[u8]) -> Option<Revision> {
    let start = record.len().checked_sub(LOG_KEY_LEN)?;
    record.get(start..).map(|mut tail| Revision(tail.get_i64()))
}

/// The key by which `key` hangs on a lease, in the lease family.
pub(crate) fn lease_key(id: LeaseId, key: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(8 + key.len());
    out.put_i64(id.0);
    out.extend_from_slice(key);
    out.into()
}

/// The key of a grant, in the meta family.
pub(crate) fn grant_key(id: LeaseId) -> Bytes {
    meta_key(meta::LEASE, id.0 as u64)
}

/// The key of a member's attributes, in the meta family.
pub(crate) fn attributes_key(id: MemberId) -> Bytes {
    meta_key(meta::MEMBER, id.0)
}

/// The key that says that a member was removed, in the meta family.
pub(crate) fn removed_key(id: MemberId) -> Bytes {
    meta_key(meta::REMOVED, id.0)
}

fn meta_key(letter: u8, id: u64) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.push(letter);
    key.put_u64(id);
    key.into()
}

/// The id in a meta key.
pub(crate) fn parse_meta_key(key: &[u8]) -> Result<u64, EngineError> {
    match key.split_first() {
        Some((_, mut id)) if id.len() == 8 => Ok(id.get_u64()),
        _ => Err(damaged("meta", key)),
    }
}

/// The key of an alarm, in the meta family.
pub(crate) fn alarm_key(alarm: i32, member: u64) -> Bytes {
    let mut key = Vec::with_capacity(13);
    key.push(meta::ALARM);
    key.put_i32(alarm);
    key.put_u64(member);
    key.into()
}

/// The alarm of a meta key: its type and its member.
pub(crate) fn parse_alarm_key(key: &[u8]) -> Result<(i32, u64), EngineError> {
    match key.split_first() {
        Some((_, mut rest)) if rest.len() == 12 => Ok((rest.get_i32(), rest.get_u64())),
        _ => Err(damaged("meta", key)),
    }
}

/// The value of a grant: its time to live in seconds.
pub(crate) fn encode_ttl(ttl_s: i64) -> Bytes {
    Bytes::copy_from_slice(&ttl_s.to_be_bytes())
}

/// Reads [`encode_ttl`].
pub(crate) fn parse_ttl(value: &[u8]) -> Result<i64, EngineError> {
    let value = value.try_into().map_err(|_| damaged("meta", b"l"))?;
    Ok(i64::from_be_bytes(value))
}

/// The first key after every key that begins with `prefix`; none if there is no such key.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xFF {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// A current or past version of a key, as its record in the latest family holds it: `mvccpb.KeyValue` without the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version<'a> {
    pub create: Revision,
    pub modified: Revision,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: LeaseId,
}

impl<'a> Version<'a> {
    /// Reads a record.
    pub fn parse(record: &'a [u8]) -> Result<Version<'a>, EngineError> {
        Version::try_parse(record).ok_or_else(|| damaged("latest", record))
    }

    fn try_parse(mut rest: &'a [u8]) -> Option<Version<'a>> {
        let mut out = Version {
            create: Revision(0),
            modified: Revision(0),
            version: 0,
            value: b"",
            lease: LeaseId(0),
        };
        while rest.has_remaining() {
            let tag = rest.get_u8();
            let number = decode_varint(&mut rest).ok()?;
            match tag {
                0x10 => out.create = Revision(number as i64),
                0x18 => out.modified = Revision(number as i64),
                0x20 => out.version = number as i64,
                0x2A => {
                    let (value, after) = rest.split_at_checked(usize::try_from(number).ok()?)?;
                    out.value = value;
                    rest = after;
                }
                0x30 => out.lease = LeaseId(number as i64),
                _ => return None,
            }
        }
        (out.modified.0 > 0).then_some(out)
    }

    /// Writes a record.
    pub fn encode(&self) -> Bytes {
        let kv = KeyValue {
            key: Bytes::new(),
            create_revision: self.create.0,
            mod_revision: self.modified.0,
            version: self.version,
            value: Bytes::copy_from_slice(self.value),
            lease: self.lease.0,
        };
        kv.encode_to_vec().into()
    }

    /// The version as clients get it.
    pub fn key_value(&self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: self.create.0,
            mod_revision: self.modified.0,
            version: self.version,
            value: Bytes::copy_from_slice(self.value),
            lease: self.lease.0,
        }
    }
}

/// What a live key adds to the logical size.
pub(crate) fn latest_bytes(key: &[u8], record: &[u8]) -> i64 {
    (key.len() + record.len()) as i64
}

/// What an event adds to the logical size.
pub(crate) fn log_bytes(event: &Event) -> u64 {
    (LOG_KEY_LEN + event.encoded.len()) as u64
}

/// Encodes an event: `record` is the new version (none: the key is deleted), `prev` the one that it replaces.
pub(crate) fn encode_event(
    key: &[u8],
    main: Revision,
    sub: u32,
    record: Option<&[u8]>,
    prev: Option<&[u8]>,
) -> Event {
    let key_len = field_len(key.len());
    let kind = if record.is_some() {
        EventKind::Put
    } else {
        EventKind::Delete
    };
    let mut tombstone = [0; 11];
    let record = record.unwrap_or_else(|| {
        let mut rest = &mut tombstone[..];
        rest.put_u8(0x18);
        encode_varint(main.0 as u64, &mut rest);
        let unused = rest.len();
        &tombstone[..11 - unused]
    });

    let kv_len = key_len + record.len();
    let prev_len = prev.map(|prev| key_len + prev.len());
    let mut out = Vec::with_capacity(2 + field_len(kv_len) + prev_len.map_or(0, field_len));
    if kind == EventKind::Delete {
        out.extend_from_slice(&[0x08, 0x01]);
    }
    out.push(0x12);
    encode_varint(kv_len as u64, &mut out);
    out.push(0x0A);
    encode_varint(key.len() as u64, &mut out);
    let key_at = out.len();
    out.extend_from_slice(key);
    out.extend_from_slice(record);
    let plain_len = out.len();
    if let Some((prev, len)) = prev.zip(prev_len) {
        out.push(0x1A);
        encode_varint(len as u64, &mut out);
        out.push(0x0A);
        encode_varint(key.len() as u64, &mut out);
        out.extend_from_slice(key);
        out.extend_from_slice(prev);
    }
    let encoded = Bytes::from(out);
    Event {
        key: encoded.slice(key_at..key_at + key.len()),
        revision: main,
        sub,
        kind,
        encoded,
        plain_len,
    }
}

/// Length of a field with a one-byte tag and `len` bytes.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// A record of the log family: where it lies in all that was ever logged, and the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    /// How many bytes ([`log_bytes`]) were logged before it, ever.
    pub position: u64,
    pub event: Event,
}

impl LogRecord {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(20 + self.event.encoded.len());
        encode_varint(self.position, &mut out);
        encode_varint(self.event.plain_len as u64, &mut out);
        out.extend_from_slice(&self.event.encoded);
        out.into()
    }

    pub fn decode(key: &[u8], value: &[u8]) -> Result<LogRecord, EngineError> {
        let raw = RawLog::parse(key, value)?;
        let encoded = Bytes::copy_from_slice(raw.encoded);
        let event = Event {
            key: encoded.slice(raw.key_at..raw.key_at + raw.key.len()),
            revision: raw.revision.0,
            sub: raw.revision.1,
            kind: raw.kind,
            encoded,
            plain_len: raw.plain_len,
        };
        Ok(LogRecord {
            position: raw.position,
            event,
        })
    }
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

/// A record that nothing of ours can have written.
pub(crate) fn damaged(family: &str, at: &[u8]) -> EngineError {
    EngineError::new(
        format!(
            "reading {family} at \"{}\"",
            at.get(..at.len().min(64)).unwrap_or(at).escape_ascii()
        ),
        "the record is damaged",
    )
}
