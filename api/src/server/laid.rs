//! Messages that hold what a range gave, laid out as they go over the wire.
//!
//! The store has laid out the keys already, and left room before them: here that is filled with what gRPC and the message around
//! them want.

use keelson_proto::etcdserverpb::ResponseHeader;
use keelson_store::{EncodedRange, HEAD_BYTES, Pieces};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};
use tonic::Status;

use super::framing::put_prefix;

/// The field of a `RangeResponse` that holds its header: the first.
const HEADER: u32 = 1;
/// The field of a `RangeStreamResponse` that holds a part.
const PART: u32 = 1;

/// A message with its prefix, in pieces.
pub(crate) struct Laid(Pieces);

impl Laid {
    /// A `RangeResponse`.
    pub(crate) fn reply(range: EncodedRange, header: &ResponseHeader) -> Result<Laid, Status> {
        let header_len = message::encoded_len(HEADER, header);
        lay(range, |range_len, head| {
            put_prefix(header_len + range_len, head)?;
            message::encode(HEADER, header, head);
            Ok(())
        })
    }

    /// A `RangeStreamResponse`.
    pub(crate) fn part(
        range: EncodedRange,
        header: Option<&ResponseHeader>,
    ) -> Result<Laid, Status> {
        let header_len = header.map_or(0, |header| message::encoded_len(HEADER, header));
        lay(range, |range_len, head| {
            let part_len = header_len + range_len;
            let before = key_len(PART) + encoded_len_varint(part_len as u64);
            put_prefix(before + part_len, head)?;
            encode_key(PART, WireType::LengthDelimited, head);
            encode_varint(part_len as u64, head);
            if let Some(header) = header {
                message::encode(HEADER, header, head);
            }
            Ok(())
        })
    }

    pub(super) fn into_pieces(self) -> Pieces {
        self.0
    }
}

/// Puts before a range what `write` writes, which is told how long it is.
fn lay(
    range: EncodedRange,
    write: impl FnOnce(usize, &mut &mut [u8]) -> Result<(), Status>,
) -> Result<Laid, Status> {
    let mut head = [0; HEAD_BYTES];
    let mut room = &mut head[..];
    write(range.encoded_len(), &mut room)?;
    let written = HEAD_BYTES - room.len();
    Ok(Laid(range.into_pieces(&head[..written])))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
    use keelson_store::memory::MemoryEngine;
    use keelson_store::{Options, Store};
    use prost::Message;

    use super::super::framing::PREFIX_BYTES;
    use super::*;

    fn nothing() -> EncodedRange {
        let engine = std::sync::Arc::new(MemoryEngine::new());
        let store = Store::open(engine, Options { cache_bytes: 0 }).unwrap();
        let count = RangeRequest {
            key: Bytes::from_static(b"a"),
            ..RangeRequest::default()
        };
        store.reader().now().range_encoded(&count).unwrap()
    }

    fn largest() -> ResponseHeader {
        ResponseHeader {
            cluster_id: u64::MAX,
            member_id: u64::MAX,
            revision: i64::MAX,
            raft_term: u64::MAX,
        }
    }

    fn message(laid: Laid) -> Vec<u8> {
        let bytes = laid.into_pieces().collect::<Vec<Bytes>>().concat();
        let (prefix, message) = bytes.split_at(PREFIX_BYTES);
        assert_eq!(prefix[0], 0);
        assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
        message.to_vec()
    }

    #[test]
    fn the_largest_header_fits_before_a_range() {
        let found = message(Laid::reply(nothing(), &largest()).unwrap());
        let found = RangeResponse::decode(found.as_slice()).unwrap();
        assert_eq!(found.header, Some(largest()));
        let found = message(Laid::part(nothing(), Some(&largest())).unwrap());
        let found = RangeStreamResponse::decode(found.as_slice()).unwrap();
        assert_eq!(found.range_response.unwrap().header, Some(largest()));
    }

    #[test]
    fn a_part_without_a_header_has_none() {
        let found = message(Laid::part(nothing(), None).unwrap());
        let found = RangeStreamResponse::decode(found.as_slice()).unwrap();
        assert_eq!(found.range_response, Some(RangeResponse::default()));
    }
}
