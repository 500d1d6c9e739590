//! Replies, looked at where they lie: the few fields that tell whether a reply holds what was asked for.
//!
//! The numbers of fields are those of etcd's `rpc.proto` and `kv.proto`. None means that a message is malformed.

/// The fields of a protobuf message, in order.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

/// What a field holds, as far as these messages have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    /// The next field: Some(None) at the end.
    fn step(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                Value::Bytes(self.0.split_off(..length)?)
            }
            _ => return None,
        };
        Some(Some((tag >> 3, value)))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Calls `with` for every field. None if the message is malformed, or `with` says so.
pub fn each<'a>(
    message: &'a [u8],
    mut with: impl FnMut(u64, Value<'a>) -> Option<()>,
) -> Option<()> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.step()? {
        with(number, value)?;
    }
    Some(())
}

/// The field with this number that is a message or a string.
pub fn bytes(message: &[u8], field: u64) -> Option<&[u8]> {
    let mut found = None;
    each(message, |number, value| {
        if let (true, Value::Bytes(bytes)) = (number == field, value) {
            found = Some(bytes);
        }
        Some(())
    })?;
    found
}

/// The field with this number that is a number: 0 if it is not there, as protobuf has it.
pub fn number(message: &[u8], field: u64) -> Option<u64> {
    let mut found = 0;
    each(message, |number, value| {
        if let (true, Value::Number(value)) = (number == field, value) {
            found = value;
        }
        Some(())
    })?;
    Some(found)
}

/// The revision that a reply's header, its first field, bears.
pub fn revision(reply: &[u8]) -> Option<u64> {
    number(bytes(reply, 1)?, 3).filter(|revision| *revision > 0)
}

/// A key with its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    pub key: &'a [u8],
    pub mod_revision: u64,
    pub value: &'a [u8],
}

pub fn key_value(message: &[u8]) -> Option<KeyValue<'_>> {
    let mut found = KeyValue::default();
    each(message, |number, value| {
        match (number, value) {
            (1, Value::Bytes(key)) => found.key = key,
            (3, Value::Number(revision)) => found.mod_revision = revision,
            (5, Value::Bytes(value)) => found.value = value,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

/// What a RangeResponse holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range<'a> {
    /// How many keys came, and how many there are.
    pub keys: u64,
    pub count: u64,
    pub more: bool,
    pub first: Option<&'a [u8]>,
    pub last: Option<&'a [u8]>,
}

pub fn range(reply: &[u8]) -> Option<Range<'_>> {
    let mut found = Range::default();
    each(reply, |number, value| {
        match (number, value) {
            (2, Value::Bytes(key_value)) => {
                found.keys += 1;
                found.first = found.first.or(Some(key_value));
                found.last = Some(key_value);
            }
            (3, Value::Number(more)) => found.more = more != 0,
            (4, Value::Number(count)) => found.count = count,
            _ => {}
        }
        Some(())
    })?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use keelson_proto::mvccpb;
    use prost::Message;

    use super::*;

    fn reply() -> Vec<u8> {
        let key = |key: &str, mod_revision| mvccpb::KeyValue {
            key: key.to_owned().into(),
            value: "v".into(),
            mod_revision,
            ..mvccpb::KeyValue::default()
        };
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            revision: 300,
            ..ResponseHeader::default()
        };
        RangeResponse {
            header: Some(header),
            kvs: vec![key("a", 7), key("b", 1 << 40)],
            more: true,
            count: 5,
        }
        .encode_to_vec()
    }

    #[test]
    fn a_range_is_read_without_decoding_it() {
        let reply = reply();
        assert_eq!(revision(&reply), Some(300));
        let range = range(&reply).unwrap();
        assert_eq!((range.keys, range.count, range.more), (2, 5, true));
        let expected = KeyValue {
            key: b"b",
            mod_revision: 1 << 40,
            value: b"v",
        };
        assert_eq!(key_value(range.last.unwrap()), Some(expected));
    }

    #[test]
    fn a_reply_that_is_cut_is_malformed() {
        let reply = reply();
        for length in 1..reply.len() {
            let cut = &reply[..length];
            let whole = range(cut).is_some_and(|range| range.count == 5);
            assert!(!whole, "cut to {length}");
        }
        assert_eq!(revision(b""), None, "no header is no reply");
    }
}
