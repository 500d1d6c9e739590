//! Protobuf's wire format: varints, and fields as pairs of a key and a value.

use crate::decode::Error;

/// The value of one field as it stands in a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Reads a message's fields, in the order in which they stand.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Fields { rest: message }
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or_else(cut_off)?;
            self.rest = rest;
            // The tenth byte has room for one bit only.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("proto: integer overflow"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| cut_off())?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Raw<'a>), Error> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number != 0);
        let number = number.ok_or_else(|| malformed("proto: illegal tag"))?;
        let raw = match key & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(u64::from_le_bytes(
                self.take(8)?.try_into().map_err(|_| cut_off())?,
            )),
            2 => {
                let length = self.varint()?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Fixed32(u32::from_le_bytes(
                self.take(4)?.try_into().map_err(|_| cut_off())?,
            )),
            other => return Err(Error::Malformed(format!("proto: illegal wireType {other}"))),
        };
        Ok((number, raw))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

fn cut_off() -> Error {
    malformed("unexpected EOF")
}

fn malformed(what: &str) -> Error {
    Error::Malformed(what.to_owned())
}

/// Writes fields behind each other.
#[derive(Default)]
pub(super) struct Message {
    pub bytes: Vec<u8>,
}

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn key(&mut self, number: u32, wire_type: u64) {
        self.raw_varint(u64::from(number) << 3 | wire_type);
    }

    pub fn varint(&mut self, number: u32, value: u64) {
        self.key(number, 0);
        self.raw_varint(value);
    }

    pub fn fixed64(&mut self, number: u32, value: u64) {
        self.key(number, 1);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.key(number, 2);
        self.raw_varint(value.len() as u64);
        self.bytes.extend(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_reads_as_it_was_written() {
        let mut message = Message::default();
        for value in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            message.varint(1000, value);
            message.fixed64(1, value);
        }
        message.bytes(15, b"text");
        let fields: Result<Vec<_>, _> = Fields::of(&message.bytes).collect();
        let fields = fields.expect("a message");
        assert_eq!(fields.len(), 13);
        assert_eq!(fields[10], (1000, Raw::Varint(u64::MAX)));
        assert_eq!(fields[11], (1, Raw::Fixed64(u64::MAX)));
        assert_eq!(fields[12], (15, Raw::Bytes(b"text")));
    }

    #[test]
    fn a_message_that_is_cut_off_anywhere_is_refused_or_ends_with_a_field() {
        let mut message = Message::default();
        message.varint(1, 300);
        message.bytes(2, b"text");
        for length in 0..message.bytes.len() {
            let fields: Result<Vec<_>, _> = Fields::of(&message.bytes[..length]).collect();
            let whole = matches!(length, 0 | 3);
            assert_eq!(fields.is_ok(), whole, "{length}");
        }
        assert!(Fields::of(&[0xff; 20]).any(|field| field.is_err()));
    }
}
