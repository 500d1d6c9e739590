//! How the store's records are laid out in the engine's families. Drawn byte by byte in docs/formats.md;
//! what is written here is on disks, and changes only with [`VERSION`].
//!
//! **Leaves to others**: which records are written when. Numbers are big-endian where they must sort.

mod log;

use bytes::{Buf, BufMut, Bytes};
use keelson_proto::mvccpb::KeyValue;
use prost::encoding::{decode_varint, encode_varint};

use crate::arena::Arena;
use crate::engine::EngineError;
use crate::{LeaseId, MemberId, Revision};
pub(crate) use log::{Change, RawLog};

/// The format that this version writes, and the newest it reads.
pub const VERSION: u32 = 2;

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

    /// Whether bytes begin as every record does: with the revision at which the key was created.
    pub fn may_be(record: &[u8]) -> bool {
        record.first() == Some(&0x10)
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
        let mut out = Vec::with_capacity(self.encoded_len_max());
        self.write(&mut out);
        out.into()
    }

    /// What a record takes at most.
    pub fn encoded_len_max(&self) -> usize {
        5 * 11 + self.value.len()
    }

    /// Adds a record.
    pub fn write(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, tag: u8, number: i64| {
            if number != 0 {
                out.push(tag);
                encode_varint(number as u64, out);
            }
        };
        number(out, 0x10, self.create.0);
        number(out, 0x18, self.modified.0);
        number(out, 0x20, self.version);
        if !self.value.is_empty() {
            number(out, 0x2A, self.value.len() as i64);
            out.extend_from_slice(self.value);
        }
        number(out, 0x30, self.lease.0);
    }

    /// The version that clients got.
    pub fn of(kv: &'a KeyValue) -> Version<'a> {
        Version {
            create: Revision(kv.create_revision),
            modified: Revision(kv.mod_revision),
            version: kv.version,
            value: &kv.value,
            lease: LeaseId(kv.lease),
        }
    }

    /// The version as clients get it.
    pub fn key_value(&self, key: &[u8], arena: &mut Arena) -> KeyValue {
        KeyValue {
            key: arena.copy(key),
            create_revision: self.create.0,
            mod_revision: self.modified.0,
            version: self.version,
            value: arena.copy(self.value),
            lease: self.lease.0,
        }
    }
}

/// What a live key adds to the logical size.
pub(crate) fn latest_bytes(key: &[u8], record: &[u8]) -> i64 {
    (key.len() + record.len()) as i64
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(
            prop_oneof![Just(0), Just(1), Just(0xFE), Just(0xFF), any::<u8>()],
            0..6,
        )
    }

    proptest! {
        #[test]
        fn hist_keys_sort_by_key_then_revision_and_read_back(
            a in (key(), 0_i64..i64::MAX, any::<u32>()),
            b in (key(), 0_i64..i64::MAX, any::<u32>()),
        ) {
            let encode = |(key, main, sub): &(Vec<u8>, i64, u32)| hist_key(key, Revision(*main), *sub);
            prop_assert_eq!(encode(&a).cmp(&encode(&b)), a.cmp(&b));
            let mut key = Vec::new();
            prop_assert_eq!(parse_hist_key(&encode(&a), &mut key).unwrap(), (Revision(a.1), a.2));
            prop_assert_eq!(&key, &a.0);
            prop_assert_eq!(hist_revision(&encode(&a)), Some(Revision(a.1)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Version::parse(&bytes);
            let _ = RawLog::parse(&[0; 12], &bytes).map(RawLog::to_event);
            let _ = parse_hist_key(&bytes, &mut Vec::new());
            let _ = (parse_log_key(&bytes), parse_meta_key(&bytes), parse_alarm_key(&bytes), parse_ttl(&bytes));
            let _ = hist_revision(&bytes);
        }
    }

    #[test]
    fn the_end_of_a_prefix_comes_after_all_that_begin_with_it() {
        assert_eq!(prefix_end(b"a"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
    }
}
