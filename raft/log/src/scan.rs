//! Reads the records of one segment, and gathers what is needed to tell a torn tail from damage.
//!
//! A crash may keep, drop or tear any part of what was written after the last sync that returned,
//! in any order. So within a batch that was never synced a bad record may well be followed by a
//! sound one, and neither proves anything. What proves damage is a sound record, anywhere in the
//! segment, that says the bad place *had been synced* when it was written: each record carries the
//! offset below which its segment was synced ([`Place::synced_to`]), and after each sync a mark
//! that says so is written at once, before anyone is told that the sync returned.
//!
//! [`Place::synced_to`]: crate::format::Place

use crate::format::{
    ALIGN, PayloadError, RECORD_HEADER_LEN, Record, RecordHeader, SEGMENT_HEADER_LEN,
};

/// How the sound records of a segment end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// One past the last sound record.
    pub end: u32,
    /// That record is a seal.
    pub sealed: bool,
    /// Records other than the state that opens the segment.
    pub records: u64,
    /// The highest offset that any sound record says was synced, those after `end` included.
    pub synced_to: u32,
    /// One past the last sound record that is no sync mark.
    pub data_end: u32,
    /// What is wrong at `end`; `None` if only zeros follow.
    pub bad: Option<&'static str>,
    /// Offset of the first sound record after `end`.
    pub sound_after: Option<u32>,
    /// One past the last byte that is not zero; `end` if there is none after it.
    pub dirty_to: u32,
}

/// A record whose checksums hold but whose content cannot be: no crash writes that.
#[derive(Debug)]
pub(crate) struct Nonsense {
    pub offset: u32,
    pub what: String,
}

/// Visits the sound records of segment `seq`, whose whole content is `bytes`, in order.
///
/// Stops at the seal or at the first bad record; then searches what follows for evidence.
pub(crate) fn scan(
    bytes: &[u8],
    seq: u32,
    mut visit: impl FnMut(u32, &Record<'_>) -> Result<(), String>,
) -> Result<Scan, Nonsense> {
    let mut scan = Scan {
        end: SEGMENT_HEADER_LEN,
        sealed: false,
        records: 0,
        synced_to: 0,
        data_end: SEGMENT_HEADER_LEN,
        bad: None,
        sound_after: None,
        dirty_to: 0,
    };
    loop {
        let offset = scan.end;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let Some(header) = RecordHeader::decode(rest, seq, offset) else {
            let zeros = is_zero(&rest[..rest.len().min(RECORD_HEADER_LEN as usize)]);
            scan.bad = Some(if zeros {
                "zeros before data"
            } else {
                "checksum of the record header"
            });
            return Ok(search_tail(bytes, seq, scan, offset + ALIGN));
        };
        let nonsense = |what: String| Nonsense { offset, what };
        if header.synced_to > offset {
            return Err(nonsense("a record claims a sync beyond itself".to_owned()));
        }
        scan.synced_to = scan.synced_to.max(header.synced_to);
        match header.record(rest) {
            Ok(record) => {
                let opens = matches!(record, Record::State(_));
                if opens != (offset == SEGMENT_HEADER_LEN) {
                    return Err(nonsense(
                        "a segment opens with its state, and has it nowhere else".to_owned(),
                    ));
                }
                visit(offset, &record).map_err(nonsense)?;
                scan.end = after(offset, &header, bytes);
                scan.records += u64::from(!opens);
                if record != Record::Synced {
                    scan.data_end = scan.end;
                }
                if record == Record::Seal {
                    scan.sealed = true;
                    scan.dirty_to = scan.end;
                    return Ok(scan);
                }
            }
            Err(PayloadError::Torn) => {
                scan.bad = Some("checksum of the payload");
                let next = after(offset, &header, bytes);
                return Ok(search_tail(bytes, seq, scan, next));
            }
            Err(PayloadError::Unknown) => {
                return Err(nonsense("a record of unknown kind".to_owned()));
            }
        }
    }
}

/// Searches `bytes[from..]` for sound records, and for the last byte that is not zero.
fn search_tail(bytes: &[u8], seq: u32, mut scan: Scan, from: u32) -> Scan {
    scan.dirty_to = last_nonzero(bytes, scan.end);
    if scan.dirty_to == scan.end {
        scan.bad = None;
        return scan;
    }
    let mut offset = from;
    while offset < scan.dirty_to {
        match bytes
            .get(offset as usize..)
            .and_then(|rest| RecordHeader::decode(rest, seq, offset))
        {
            Some(header) => {
                scan.sound_after.get_or_insert(offset);
                scan.synced_to = scan.synced_to.max(header.synced_to.min(offset));
                offset = after(offset, &header, bytes);
            }
            None => offset += ALIGN,
        }
    }
    scan
}

/// Offset after the record at `offset`, at most the (aligned) end of the file.
fn after(offset: u32, header: &RecordHeader, bytes: &[u8]) -> u32 {
    let next = u64::from(offset) + header.record_len();
    u32::try_from(next.min(bytes.len() as u64))
        .expect("a segment's length fits u32, checked against its header")
}

/// One past the last byte at or after `from` that is not zero, or `from`.
fn last_nonzero(bytes: &[u8], from: u32) -> u32 {
    const CHUNK: usize = 4096;
    let mut end = bytes.len();
    let from = from as usize;
    // Whole chunks first: the rest of a preallocated file is mostly zeros.
    while end >= from + CHUNK && is_zero(&bytes[end - CHUNK..end]) {
        end -= CHUNK;
    }
    while end > from && bytes[end - 1] == 0 {
        end -= 1;
    }
    u32::try_from(end.max(from)).expect("a segment's length fits u32, checked against its header")
}

fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words
        .iter()
        .fold(0, |acc, word| acc | u128::from_ne_bytes(*word))
        == 0
        && rest.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Place, SegmentHeader, State, encode};
    use crate::types::LogId;

    const SEQ: u32 = 3;

    /// A segment of 8 KiB holding its state and `records`, each with the sync it claims.
    fn segment(records: &[(Record<'_>, u32)]) -> (Vec<u8>, Vec<u32>) {
        let mut bytes = Vec::new();
        SegmentHeader {
            seq: SEQ,
            file_len: 8192,
            prev_end: 0,
            first_index: 0,
        }
        .encode(&mut bytes);
        let mut offsets = Vec::new();
        for (record, synced_to) in [(Record::State(State::default()), 0)].iter().chain(records) {
            let offset = bytes.len() as u32;
            offsets.push(offset);
            encode(
                &mut bytes,
                Place {
                    segment: SEQ,
                    offset,
                    synced_to: *synced_to,
                },
                record,
            );
        }
        offsets.push(bytes.len() as u32);
        bytes.resize(8192, 0);
        (bytes, offsets)
    }

    fn entry(index: u64) -> Record<'static> {
        Record::Entry(
            LogId {
                term: 1,
                node: 1,
                index,
            },
            b"some payload of an entry",
        )
    }

    fn run(bytes: &[u8]) -> Scan {
        scan(bytes, SEQ, |_, _| Ok(())).expect("no nonsense")
    }

    #[test]
    fn zeros_after_the_last_record_are_a_clean_end() {
        let (bytes, at) = segment(&[(entry(0), 192), (entry(1), 192)]);
        let scan = run(&bytes);
        assert_eq!(
            (scan.end, scan.bad, scan.dirty_to, scan.records),
            (at[3], None, at[3], 2)
        );
        assert!(!scan.sealed);
    }

    #[test]
    fn a_bad_record_reports_the_sync_claimed_by_a_later_one() {
        let (mut bytes, at) = segment(&[(entry(0), 192), (entry(1), 192), (Record::Synced, 336)]);
        bytes[at[1] as usize + 60] ^= 4;
        let scan = run(&bytes);
        assert_eq!(
            (scan.end, scan.bad),
            (at[1], Some("checksum of the payload"))
        );
        assert_eq!((scan.synced_to, scan.sound_after), (336, Some(at[2])));
    }

    #[test]
    fn a_later_record_is_found_behind_a_destroyed_header() {
        let (mut bytes, at) = segment(&[(entry(0), 192), (entry(1), 192), (Record::Synced, 336)]);
        bytes[at[1] as usize..at[1] as usize + 48].fill(0);
        let scan = run(&bytes);
        assert_eq!((scan.end, scan.bad), (at[1], Some("zeros before data")));
        assert_eq!((scan.synced_to, scan.sound_after), (336, Some(at[2])));
    }

    #[test]
    fn a_torn_last_record_leaves_no_evidence_above_itself() {
        let (mut bytes, at) = segment(&[(entry(0), 192), (entry(1), 192)]);
        bytes[at[2] as usize + 50..].fill(0);
        let scan = run(&bytes);
        assert_eq!(
            (scan.end, scan.synced_to, scan.sound_after),
            (at[2], 192, None)
        );
        assert_eq!(scan.dirty_to, at[2] + 50);
    }

    #[test]
    fn nothing_is_read_behind_a_seal() {
        let (mut bytes, at) = segment(&[(entry(0), 192), (Record::Seal, 192)]);
        bytes[5000] = 1;
        let scan = run(&bytes);
        assert!(scan.sealed);
        assert_eq!((scan.end, scan.bad), (at[3], None));
    }

    #[test]
    fn a_second_state_record_is_nonsense() {
        let (bytes, at) = segment(&[(entry(0), 192), (Record::State(State::default()), 192)]);
        let error = scan(&bytes, SEQ, |_, _| Ok(())).expect_err("nonsense");
        assert_eq!(error.offset, at[2]);
    }
}
