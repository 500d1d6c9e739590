//! Frames on a peer connection.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Larger than any message that members exchange: an append carries a few megabytes, a chunk one.
const FRAME_BYTES_MAX: usize = 128 << 20;
const HEAD_BYTES: usize = 4 + 8;

/// Appends a frame to a buffer.
pub(super) fn put(buffer: &mut BytesMut, call: u64, message: &[u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&call.to_be_bytes()), message);
    buffer.reserve(4 + HEAD_BYTES + message.len());
    buffer.put_u32((HEAD_BYTES + message.len()) as u32);
    buffer.put_u32(crc);
    buffer.put_u64(call);
    buffer.put_slice(message);
}

/// Appends the frame of a member that ends: it has read the calls up to this one, and answers them, but reads no more.
pub(super) fn put_end(buffer: &mut BytesMut, last_read: u64) {
    put(buffer, 0, &last_read.to_be_bytes());
}

/// The last call that the other end has read, if a frame with such a call and message says that it ends.
pub(super) fn end(call: u64, message: &[u8]) -> Option<u64> {
    let last_read = message.try_into().map(u64::from_be_bytes);
    last_read.ok().filter(|_| call == 0)
}

/// A frame with a handshake message.
pub(super) fn of(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::new();
    put(&mut buffer, 0, &message.encode_to_vec());
    buffer.freeze()
}

/// Reads frame after frame.
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(reader: R) -> Self {
        Frames {
            reader,
            buffer: BytesMut::with_capacity(64 << 10),
        }
    }

    /// The next frame's call id and message; none when the other end has closed.
    pub(super) async fn next(&mut self) -> io::Result<Option<(u64, Bytes)>> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(64 << 10);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<(u64, Bytes)>> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if !(HEAD_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(bad(
                "a frame of an impossible length: not a member of a cluster?",
            ));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut frame = self.buffer.split_to(length).freeze();
        let crc = frame.get_u32();
        if crc32c::crc32c(&frame) != crc {
            return Err(bad("a frame whose checksum does not match"));
        }
        let call = frame.get_u64();
        Ok(Some((call, frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_whole_and_in_order_however_they_are_cut() {
        let mut wire = BytesMut::new();
        put(&mut wire, 7, b"seven");
        put(&mut wire, 8, b"");
        let (start, rest) = wire.split_at(9);
        let mut frames = Frames::new(tokio::io::AsyncReadExt::chain(start, rest));
        assert_eq!(
            frames.next().await.expect("whole"),
            Some((7, Bytes::from_static(b"seven")))
        );
        assert_eq!(frames.next().await.expect("whole"), Some((8, Bytes::new())));
        assert_eq!(frames.next().await.expect("the end"), None);
    }

    #[tokio::test]
    async fn a_flipped_bit_or_a_stranger_ends_the_connection() {
        let mut wire = BytesMut::new();
        put(&mut wire, 7, b"seven");
        let last = wire.len() - 1;
        wire[last] ^= 1;
        assert!(Frames::new(&wire[..]).next().await.is_err());
        assert!(
            Frames::new(&b"GET / HTTP/1.1\r\n\r\n"[..])
                .next()
                .await
                .is_err()
        );
    }
}
