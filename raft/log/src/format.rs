//! The bytes: a segment's header, a record's header and payload, and the state that opens each
//! segment. docs/formats.md draws them. Nothing here does I/O or decides what damage means.
//!
//! All integers are little-endian. Checksums are CRC-32C.

use crate::types::{LogId, Vote};

/// The version this program writes, and the highest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER_LEN: u32 = 48;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER_LEN: u32 = 48;
/// Records begin at multiples of this, so that a search for one after damage has few places to try.
pub(crate) const ALIGN: u32 = 8;
/// Longest payload of one entry.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"KEELSLOG";
const RECORD_MAGIC: [u8; 2] = *b"KL";
const STATE_LEN: usize = 96;
const ID_LEN: usize = 24;

/// Bytes of a record without payload: a seal or a sync mark among others.
pub(crate) const BARE_LEN: u32 = RECORD_HEADER_LEN;
/// Bytes of a segment header and the state record after it.
pub(crate) const HEAD_LEN: u32 = SEGMENT_HEADER_LEN + RECORD_HEADER_LEN + STATE_LEN as u32;
/// Kept free behind every record: a sync mark and the seal always fit.
pub(crate) const RESERVED_LEN: u32 = 2 * BARE_LEN;

/// Name of the segment numbered `seq`.
pub(crate) fn segment_name(seq: u32) -> String {
    format!("{seq:010}.seg")
}

/// Name under which a segment is prepared before it is renamed into place.
pub(crate) fn new_segment_name(seq: u32) -> String {
    format!("{seq:010}.new")
}

/// The number in a segment's name, if it is one.
pub(crate) fn parse_segment_name(name: &str) -> Option<u32> {
    let seq = name.strip_suffix(".seg")?.parse().ok()?;
    (segment_name(seq) == name).then_some(seq)
}

/// The first bytes of every segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Number of the segment, also in its name.
    pub seq: u32,
    /// Length of the file. It is synced before the file gets its name, so another length is damage.
    pub file_len: u32,
    /// Where the segment before ends, its seal included; 0 in the log's first segment.
    pub prev_end: u32,
    /// Index that an entry gets if it is the first record of this segment.
    pub first_index: u64,
}

/// Why a segment header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Sound, and of a version above [`FORMAT_VERSION`].
    Newer(u32),
    /// Damaged.
    Bad(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        // The version has a checksum of its own, in the same place in every version, so that a
        // flipped bit is never taken for a newer format.
        let version_crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&version_crc.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.file_len.to_le_bytes());
        out.extend_from_slice(&self.prev_end.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.first_index.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.get(..SEGMENT_HEADER_LEN as usize) else {
            return Err(HeaderError::Bad(
                "the file is shorter than a segment header",
            ));
        };
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::Bad("not the magic number of a segment"));
        }
        if u32_at(bytes, 12) != crc32c::crc32c(&bytes[..12]) {
            return Err(HeaderError::Bad("checksum of the format version"));
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            newer if newer > FORMAT_VERSION => return Err(HeaderError::Newer(newer)),
            _ => return Err(HeaderError::Bad("format version 0")),
        }
        if u32_at(bytes, 44) != crc32c::crc32c(&bytes[..44]) {
            return Err(HeaderError::Bad("checksum of the segment header"));
        }
        Ok(SegmentHeader {
            seq: u32_at(bytes, 16),
            file_len: u32_at(bytes, 20),
            prev_end: u32_at(bytes, 24),
            first_index: u64_at(bytes, 32),
        })
    }
}

/// All that the log must remember besides its entries, as of one point of the stream. Every
/// segment opens with it, so that the segments before can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// Segments numbered below this hold nothing that is needed.
    pub keep_from: u32,
}

impl State {
    /// Index that the next entry must have.
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let present = u32::from(self.vote.is_some())
            | u32::from(self.vote.is_some_and(|v| v.committed)) << 1
            | u32::from(self.committed.is_some()) << 2
            | u32::from(self.purged.is_some()) << 3
            | u32::from(self.last.is_some()) << 4;
        out.extend_from_slice(&self.keep_from.to_le_bytes());
        out.extend_from_slice(&present.to_le_bytes());
        out.extend_from_slice(&self.vote.map_or(0, |v| v.term).to_le_bytes());
        out.extend_from_slice(&self.vote.map_or(0, |v| v.node).to_le_bytes());
        for id in [self.committed, self.purged, self.last] {
            out.extend_from_slice(&encode_id(id));
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STATE_LEN] = bytes.try_into().ok()?;
        let present = u32_at(bytes, 4);
        if present >> 5 != 0 {
            return None;
        }
        let has = |bit: u32| present >> bit & 1 == 1;
        let id = |bit, at| has(bit).then(|| decode_id(&bytes[at..at + ID_LEN]));
        Some(State {
            vote: has(0).then(|| Vote {
                term: u64_at(bytes, 8),
                node: u64_at(bytes, 16),
                committed: has(1),
            }),
            committed: id(2, 24),
            purged: id(3, 48),
            last: id(4, 72),
            keep_from: u32_at(bytes, 0),
        })
    }
}

/// One record of the stream. Entries borrow their payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An entry of the replicated log.
    Entry(LogId, &'a [u8]),
    /// A vote, replacing the one before.
    Vote(Vote),
    /// The committed id, replacing the one before.
    Committed(Option<LogId>),
    /// Entries above the id are gone; all of them, if there is none.
    TruncateAfter(Option<LogId>),
    /// Entries up to the id are gone, and so may be the segments below `keep_from`.
    Purged { upto: LogId, keep_from: u32 },
    /// Opens a segment.
    State(State),
    /// Written after a sync returned, so that what it covered is known to have been on disk.
    Synced,
    /// Ends a segment: the next one exists.
    Seal,
}

impl Record<'_> {
    fn kind(&self) -> u8 {
        match self {
            Record::Entry(..) => 1,
            Record::Vote(_) => 2,
            Record::Committed(_) => 3,
            Record::TruncateAfter(_) => 4,
            Record::Purged { .. } => 5,
            Record::State(_) => 6,
            Record::Synced => 7,
            Record::Seal => 8,
        }
    }

    /// Bytes of the payload, without padding.
    fn payload_len(&self) -> usize {
        match self {
            Record::Entry(_, payload) => payload.len(),
            Record::Purged { .. } => 4,
            Record::State(_) => STATE_LEN,
            _ => 0,
        }
    }

    /// Bytes in the stream.
    pub(crate) fn encoded_len(&self) -> u32 {
        record_len(
            u32::try_from(self.payload_len())
                .expect("PAYLOAD_BYTES_MAX is checked when an entry is queued"),
        )
    }
}

/// Bytes in the stream of a record with a payload of `payload_len`, which must not be above
/// [`PAYLOAD_BYTES_MAX`].
pub(crate) fn record_len(payload_len: u32) -> u32 {
    RECORD_HEADER_LEN + payload_len.next_multiple_of(ALIGN)
}

/// Where a record stands. All of it enters the record's checksum, so that bytes of another
/// segment, or of another place in this one, are never taken for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// Offset in the segment file.
    pub offset: u32,
    /// Everything below this offset of the segment had been synced when the record was written.
    pub synced_to: u32,
}

/// Appends the bytes of `record` to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, place: Place, record: &Record<'_>) {
    let start = out.len();
    let payload_at = start + RECORD_HEADER_LEN as usize;
    out.resize(payload_at, 0);
    match record {
        Record::Entry(_, payload) => out.extend_from_slice(payload),
        Record::Purged { keep_from, .. } => out.extend_from_slice(&keep_from.to_le_bytes()),
        Record::State(state) => state.encode(out),
        _ => {}
    }
    let payload_len = (out.len() - payload_at) as u32;
    out.resize(start + record_len(payload_len) as usize, 0);
    let payload_crc = crc32c::crc32c(&out[payload_at..]);

    let (flag, id) = match record {
        Record::Entry(id, _) | Record::Purged { upto: id, .. } => (true, Some(*id)),
        Record::Committed(id) | Record::TruncateAfter(id) => (id.is_some(), *id),
        Record::Vote(vote) => (
            vote.committed,
            Some(LogId {
                term: vote.term,
                node: vote.node,
                index: 0,
            }),
        ),
        Record::State(_) | Record::Synced | Record::Seal => (false, None),
    };
    let header = &mut out[start..payload_at];
    header[..2].copy_from_slice(&RECORD_MAGIC);
    header[2] = record.kind();
    header[3] = u8::from(flag);
    header[8..12].copy_from_slice(&payload_len.to_le_bytes());
    header[12..16].copy_from_slice(&payload_crc.to_le_bytes());
    header[16..20].copy_from_slice(&place.segment.to_le_bytes());
    header[20..24].copy_from_slice(&place.synced_to.to_le_bytes());
    header[24..48].copy_from_slice(&encode_id(id));
    let header_crc = header_checksum(header, place.offset);
    header[4..8].copy_from_slice(&header_crc.to_le_bytes());
}

/// A record header whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    kind: u8,
    flag: bool,
    payload_len: u32,
    payload_crc: u32,
    /// See [`Place::synced_to`].
    pub synced_to: u32,
    id: LogId,
}

impl RecordHeader {
    /// Reads the header at the start of `bytes`, which stand at `offset` of segment `segment`.
    /// `None` if there is no sound header.
    pub(crate) fn decode(bytes: &[u8], segment: u32, offset: u32) -> Option<Self> {
        let header = bytes.get(..RECORD_HEADER_LEN as usize)?;
        if header[..2] != RECORD_MAGIC
            || u32_at(header, 16) != segment
            || u32_at(header, 4) != header_checksum(header, offset)
        {
            return None;
        }
        Some(RecordHeader {
            kind: header[2],
            flag: header[3] & 1 == 1,
            payload_len: u32_at(header, 8),
            payload_crc: u32_at(header, 12),
            synced_to: u32_at(header, 20),
            id: decode_id(&header[24..48]),
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        u64::from(RECORD_HEADER_LEN)
            + u64::from(self.payload_len).next_multiple_of(u64::from(ALIGN))
    }

    /// Checks the payload of the record that starts `bytes`, and interprets it.
    pub(crate) fn record<'a>(&self, bytes: &'a [u8]) -> Result<Record<'a>, PayloadError> {
        let end = usize::try_from(self.record_len()).map_err(|_| PayloadError::Torn)?;
        let padded = bytes
            .get(RECORD_HEADER_LEN as usize..end)
            .ok_or(PayloadError::Torn)?;
        if crc32c::crc32c(padded) != self.payload_crc
            && !keelson_planted::on(keelson_planted::Bug::TornTailAccepted)
        {
            return Err(PayloadError::Torn);
        }
        let payload = &padded[..self.payload_len as usize];
        let id = self.flag.then_some(self.id);
        Ok(match (self.kind, payload.len()) {
            (1, _) => Record::Entry(self.id, payload),
            (2, 0) => Record::Vote(Vote {
                term: self.id.term,
                node: self.id.node,
                committed: self.flag,
            }),
            (3, 0) => Record::Committed(id),
            (4, 0) => Record::TruncateAfter(id),
            (5, 4) => Record::Purged {
                upto: self.id,
                keep_from: u32_at(payload, 0),
            },
            (6, STATE_LEN) => Record::State(State::decode(payload).ok_or(PayloadError::Unknown)?),
            (7, 0) => Record::Synced,
            (8, 0) => Record::Seal,
            _ => return Err(PayloadError::Unknown),
        })
    }
}

/// Why a record with a sound header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadError {
    /// The payload's checksum does not hold: what a torn write leaves, or damage.
    Torn,
    /// Both checksums hold and the content has no meaning: never the work of a torn write.
    Unknown,
}

fn header_checksum(header: &[u8], offset: u32) -> u32 {
    let crc = crc32c::crc32c(&header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    crc32c::crc32c_append(crc, &offset.to_le_bytes())
}

fn encode_id(id: Option<LogId>) -> [u8; ID_LEN] {
    let mut out = [0; ID_LEN];
    if let Some(id) = id {
        out[..8].copy_from_slice(&id.term.to_le_bytes());
        out[8..16].copy_from_slice(&id.node.to_le_bytes());
        out[16..].copy_from_slice(&id.index.to_le_bytes());
    }
    out
}

fn decode_id(bytes: &[u8]) -> LogId {
    LogId {
        term: u64_at(bytes, 0),
        node: u64_at(bytes, 8),
        index: u64_at(bytes, 16),
    }
}

/// Callers pass a slice whose length they have checked.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Callers pass a slice whose length they have checked.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId = LogId {
        term: 3,
        node: 2,
        index: 77,
    };

    fn records() -> Vec<Record<'static>> {
        let vote = Vote {
            term: 9,
            node: 4,
            committed: true,
        };
        vec![
            Record::Entry(ID, b"thirteen long"),
            Record::Entry(ID, b""),
            Record::Vote(vote),
            Record::Vote(Vote {
                committed: false,
                ..vote
            }),
            Record::Committed(Some(ID)),
            Record::Committed(None),
            Record::TruncateAfter(Some(ID)),
            Record::TruncateAfter(None),
            Record::Purged {
                upto: ID,
                keep_from: 6,
            },
            Record::State(State::default()),
            Record::State(State {
                vote: Some(vote),
                committed: Some(ID),
                purged: None,
                last: Some(LogId { index: 78, ..ID }),
                keep_from: 5,
            }),
            Record::Synced,
            Record::Seal,
        ]
    }

    #[test]
    fn every_record_reads_back_as_it_was_written() {
        for record in records() {
            let mut bytes = Vec::new();
            let place = Place {
                segment: 7,
                offset: 144,
                synced_to: 96,
            };
            encode(&mut bytes, place, &record);
            assert_eq!(bytes.len() as u32, record.encoded_len());
            let header = RecordHeader::decode(&bytes, 7, 144).expect("sound header");
            assert_eq!(header.synced_to, 96);
            assert_eq!(header.record_len(), bytes.len() as u64);
            assert_eq!(header.record(&bytes), Ok(record));
        }
    }

    #[test]
    fn no_flipped_bit_of_a_record_goes_unseen() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(
                &mut bytes,
                Place {
                    segment: 7,
                    offset: 144,
                    synced_to: 96,
                },
                &record,
            );
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let sound =
                    RecordHeader::decode(&bytes, 7, 144).is_some_and(|h| h.record(&bytes).is_ok());
                assert!(!sound, "bit {bit} of {record:?}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_record_is_not_sound_in_another_segment_or_place() {
        let mut bytes = Vec::new();
        encode(
            &mut bytes,
            Place {
                segment: 7,
                offset: 144,
                synced_to: 96,
            },
            &Record::Seal,
        );
        assert!(RecordHeader::decode(&bytes, 7, 144).is_some());
        assert!(RecordHeader::decode(&bytes, 8, 144).is_none());
        assert!(RecordHeader::decode(&bytes, 7, 152).is_none());
    }

    #[test]
    fn no_flipped_bit_of_a_segment_header_goes_unseen_or_reads_as_a_newer_format() {
        let header = SegmentHeader {
            seq: 4,
            file_len: 65536,
            prev_end: 4096,
            first_index: 12,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(SegmentHeader::decode(&bytes), Err(HeaderError::Bad(_))),
                "bit {bit}"
            );
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn segment_names_read_back_and_nothing_else_does() {
        assert_eq!(parse_segment_name(&segment_name(12)), Some(12));
        for other in [
            "12.seg",
            "0000000012.new",
            "0000000012.seg.bak",
            "000000001x.seg",
            "+000000012.seg",
        ] {
            assert_eq!(parse_segment_name(other), None, "{other}");
        }
    }
}
