//! What a range gives, as it goes over the wire: laid out as it is read, with no message in between.
//!
//! A record is a `mvccpb.KeyValue` but for its key, so that each value is copied once, from the engine's block to what is sent. It
//! comes in pieces, so that a large reply is not one allocation, and lets go of each piece when it has been sent.

use std::iter::{Chain, Once, once};

use bytes::{Buf, Bytes};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::Revision;
use crate::engine::EngineError;
use crate::format::{Version, damaged};
use crate::kvs::Kvs;

/// Room that is left before a range for what comes before it: a response's header, and what frames the message.
pub const HEAD_BYTES: usize = 64;

/// The first piece begins with this: enough for a small key.
const PIECE_BYTES_MIN: usize = 512;

/// A piece is full once it has this many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// The fields of a `RangeResponse` that follow its header, encoded.
#[derive(Debug)]
pub struct EncodedRange {
    /// The first piece, after the room for the head.
    first: Vec<u8>,
    rest: Vec<Bytes>,
    length: usize,
}

impl EncodedRange {
    /// How many bytes there are, without the head.
    pub fn encoded_len(&self) -> usize {
        self.length
    }

    /// All of it, with at most [`HEAD_BYTES`] before it.
    pub fn into_pieces(mut self, head: &[u8]) -> Pieces {
        let start = HEAD_BYTES - head.len();
        self.first[start..HEAD_BYTES].copy_from_slice(head);
        let mut first = Bytes::from(self.first);
        first.advance(start);
        once(first).chain(self.rest)
    }
}

/// The pieces of a message, in their order.
pub type Pieces = Chain<Once<Bytes>, std::vec::IntoIter<Bytes>>;

/// A part of a range that is given in chunks.
#[derive(Debug)]
pub struct Chunk {
    /// What it has.
    pub range: EncodedRange,
    /// The revision of the whole, which the header of the last chunk bears. The others have no header.
    pub last_of: Option<Revision>,
}

/// Lays out a range.
pub(crate) struct Wire {
    full: Vec<Vec<u8>>,
    piece: Vec<u8>,
    length: usize,
}

impl Default for Wire {
    fn default() -> Wire {
        let mut piece = Vec::with_capacity(PIECE_BYTES_MIN);
        piece.resize(HEAD_BYTES, 0);
        Wire {
            full: Vec::new(),
            piece,
            length: 0,
        }
    }
}

impl Wire {
    const KVS: u8 = 0x12;
    const MORE: u8 = 0x18;
    const COUNT: u8 = 0x20;
    const KEY: u8 = 0x0A;

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Has room for so many bytes in one piece.
    fn room(&mut self, bytes: usize) {
        if self.piece.len() + bytes > PIECE_BYTES && self.piece.len() > HEAD_BYTES {
            let next = Vec::with_capacity(bytes.max(PIECE_BYTES));
            self.full.push(std::mem::replace(&mut self.piece, next));
        } else {
            self.piece.reserve(bytes);
        }
    }

    /// Adds a key, whose other fields take so many bytes and are added by `fields`.
    fn add(&mut self, key: &[u8], fields_len: usize, fields: impl FnOnce(&mut Vec<u8>)) {
        let key_len = key.len() as u64;
        let kv_len = (1 + encoded_len_varint(key_len) + key.len() + fields_len) as u64;
        let whole_len = 1 + encoded_len_varint(kv_len) + kv_len as usize;
        self.room(whole_len);
        let piece = &mut self.piece;
        let before = piece.len();
        piece.push(Wire::KVS);
        encode_varint(kv_len, piece);
        piece.push(Wire::KEY);
        encode_varint(key_len, piece);
        piece.extend_from_slice(key);
        fields(piece);
        debug_assert_eq!(piece.len() - before, whole_len);
        self.length += whole_len;
    }

    /// Ends it with the fields that follow the keys.
    pub fn finish(mut self, more: bool, count: u64) -> EncodedRange {
        self.room(1 + 1 + 1 + 10);
        let before = self.piece.len();
        if more {
            self.piece.extend_from_slice(&[Wire::MORE, 1]);
        }
        if count > 0 {
            self.piece.push(Wire::COUNT);
            encode_varint(count, &mut self.piece);
        }
        let length = self.length + self.piece.len() - before;
        let mut pieces = self.full.into_iter().chain([self.piece]);
        EncodedRange {
            first: pieces.next().unwrap_or_default(),
            rest: pieces.map(Bytes::from).collect(),
            length,
        }
    }
}

impl Kvs for Wire {
    fn record(&mut self, key: &[u8], record: &[u8]) -> Result<(), EngineError> {
        // The engine has proved the bytes by their checksum. That they begin as ours do shows that they are a record.
        if !Version::may_be(record) {
            return Err(damaged("latest", record));
        }
        self.add(key, record.len(), |piece| piece.extend_from_slice(record));
        Ok(())
    }

    fn version(&mut self, key: &[u8], version: Version<'_>) {
        let mut record = Vec::with_capacity(version.encoded_len_max());
        version.write(&mut record);
        self.add(key, record.len(), |piece| piece.extend_from_slice(&record));
    }
}

#[cfg(test)]
mod tests {
    use keelson_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use keelson_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::*;
    use crate::LeaseId;

    fn kv(number: usize, value_len: usize) -> KeyValue {
        KeyValue {
            key: format!("key-{number}").into(),
            create_revision: 1 + number as i64,
            mod_revision: 300 + number as i64,
            version: 3,
            value: vec![number as u8; value_len].into(),
            lease: number as i64 % 2,
        }
    }

    #[test]
    fn a_range_is_laid_out_as_the_message_would_be_encoded() {
        let lengths = [
            0, 1, 100, 130, 20_000, 70_000, 16_400, 40_000, 9_000, 200_000, 5,
        ];
        for taken in 0..=lengths.len() {
            let response = RangeResponse {
                header: Some(ResponseHeader {
                    revision: 7,
                    ..ResponseHeader::default()
                }),
                kvs: (0..taken).map(|n| kv(n, lengths[n])).collect(),
                more: taken % 2 == 1,
                count: 1_000 * taken as i64,
            };
            let mut wire = Wire::default();
            for (number, kv) in response.kvs.iter().enumerate() {
                let version = Version::of(kv);
                if number % 3 == 0 {
                    wire.version(&kv.key, version);
                } else {
                    wire.record(&kv.key, &version.encode()).unwrap();
                }
            }
            let range = wire.finish(response.more, response.count as u64);
            let head = RangeResponse {
                header: response.header,
                ..RangeResponse::default()
            };
            let head = head.encode_to_vec();
            assert_eq!(range.encoded_len() + head.len(), response.encoded_len());
            let pieces: Vec<Bytes> = range.into_pieces(&head).collect();
            assert_eq!(pieces.concat(), response.encode_to_vec(), "{taken} keys");
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.len() < PIECE_BYTES + 200_000)
            );
        }
    }

    #[test]
    fn many_keys_come_in_pieces_of_a_size_and_one_in_a_piece_of_its_own() {
        let record = Version::of(&kv(1, 1_000)).encode();
        let mut wire = Wire::default();
        for _ in 0..1_000 {
            wire.record(b"key", &record).unwrap();
        }
        let pieces: Vec<usize> = wire
            .finish(false, 1_000)
            .into_pieces(&[])
            .map(|piece| piece.len())
            .collect();
        let (_, full) = pieces.split_last().unwrap();
        assert!(full.len() > 10);
        assert!(
            full.iter()
                .all(|length| (PIECE_BYTES - 2_000..=PIECE_BYTES).contains(length))
        );

        let mut wire = Wire::default();
        wire.record(b"key", &record).unwrap();
        assert_eq!(wire.finish(false, 1).into_pieces(&[]).count(), 1);
    }

    #[test]
    fn what_cannot_be_a_record_is_not_sent() {
        let mut wire = Wire::default();
        for damaged in [&b""[..], &b"\x18\x01"[..]] {
            assert!(wire.record(b"key", damaged).is_err());
        }
        let version = Version {
            create: crate::Revision(1),
            modified: crate::Revision(1),
            version: 1,
            value: b"",
            lease: LeaseId(0),
        };
        assert!(wire.record(b"key", &version.encode()).is_ok());
    }
}
