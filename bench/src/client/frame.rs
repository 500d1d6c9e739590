//! HTTP/2 frames (RFC 9113, section 4 and 6): nine bytes of head, then the payload.

use bytes::{Buf, BufMut};

/// What a client says before its first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEAD_BYTES: usize = 9;
/// No peer may send a larger payload, since we do not allow it; no peer must take a larger one.
pub const PAYLOAD_BYTES_MAX: usize = 16_384;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY: u8 = 0x20;

pub const SETTING_INITIAL_WINDOW_SIZE: u16 = 4;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    /// None if not all of it is there.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, rest @ ..] = bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Head {
            length: usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c),
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*rest) & 0x7fff_ffff,
        })
    }

    pub fn write(self, to: &mut impl BufMut) {
        assert!(self.length <= PAYLOAD_BYTES_MAX, "{self:?}");
        to.put_uint(self.length as u64, 3);
        to.put_u8(self.kind);
        to.put_u8(self.flags);
        to.put_u32(self.stream);
    }

    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority. None if it is malformed.
    pub fn unpadded(self, mut payload: &[u8]) -> Option<&[u8]> {
        if self.has(PADDED) {
            let padding = usize::from(*payload.split_off_first()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            payload = payload.get(5..)?;
        }
        Some(payload)
    }
}

/// The settings in a frame of them.
pub fn settings(mut payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    std::iter::from_fn(move || (payload.len() >= 6).then(|| (payload.get_u16(), payload.get_u32())))
}

/// The number that a WINDOW_UPDATE, RST_STREAM or the second word of a GOAWAY consists of.
pub fn word(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*payload.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let head = Head {
            length: 0x3fff,
            kind: HEADERS,
            flags: END_HEADERS | END_STREAM,
            stream: 0x7fff_fff1,
        };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::read(&bytes), Some(head));
        assert_eq!(Head::read(&bytes[..8]), None);
    }

    #[test]
    fn padding_and_priority_are_no_part_of_a_payload() {
        let head = |kind, flags| Head {
            length: 0,
            kind,
            flags,
            stream: 1,
        };
        let padded = [2, b'a', b'b', 0, 0];
        assert_eq!(head(DATA, PADDED).unpadded(&padded), Some(&b"ab"[..]));
        assert_eq!(head(DATA, PADDED).unpadded(&[9, 1]), None);
        let both = [1, 0, 0, 0, 0, 16, b'h', 0];
        assert_eq!(
            head(HEADERS, PADDED | PRIORITY).unpadded(&both),
            Some(&b"h"[..])
        );
    }

    #[test]
    fn settings_come_in_pairs() {
        let payload = [0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0, 100];
        let all: Vec<_> = settings(&payload).collect();
        assert_eq!(all, [(SETTING_INITIAL_WINDOW_SIZE, 65_536), (3, 100)]);
    }
}
