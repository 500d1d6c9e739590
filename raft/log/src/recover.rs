//! Decides, from what is on the disk, what the log was: reads every segment, replays the stream,
//! and says what to repair. Nothing is written here, so a log that is refused is left untouched.
//!
//! The decisions:
//!
//! - a segment gets its name only once its header and length are synced, so a named file with a bad
//!   header or another length is damage, whatever a crash did;
//! - a segment is sealed only once the next one has its durable name, and the next one gets its
//!   first record only once the seal is synced. So a seal at the end of the last segment means a
//!   missing file; and a last segment without records, after one that is not properly sealed, was
//!   prepared just before a crash and is removed;
//! - a segment followed by one that has records must be sound up to its seal;
//! - in the last segment, a bad place below what any sound record says was synced is damage;
//!   otherwise it is a tail that was never synced, and is cut (see [`crate::scan`]);
//! - segments below the recorded `keep_from` are leftovers of a purge; all from it on must exist.

use crate::error::LogError;
use crate::format::{
    FORMAT_VERSION, HEAD_LEN, HeaderError, Record, SEGMENT_HEADER_LEN, SegmentHeader, State,
    parse_segment_name, segment_name,
};
use crate::index::{EntryIndex, Slot};
use crate::io::{LogDir, LogFile};
use crate::scan::{Nonsense, Scan, scan};
use crate::stream::Stream;
use crate::types::Cut;

/// A log read back, and what must be done before it is written again.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub stream: Stream,
    pub index: EntryIndex,
    /// Segments to keep, oldest first. The last one is written next. Never empty.
    pub segments: Vec<Segment>,
    /// Files to remove.
    pub remove: Vec<String>,
    /// A tail of the last segment to wipe.
    pub cut: Option<Cut>,
}

/// One segment file that stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub seq: u32,
    pub file_len: u32,
    /// One past the last sound record.
    pub end: u32,
    /// Everything below is said by some record to have been synced.
    pub synced_to: u32,
    /// One past the last record that is no sync mark.
    pub data_end: u32,
}

/// What [`recover`] found.
#[derive(Debug)]
pub(crate) enum Found {
    /// No segment. Files left by an unfinished creation are to be removed.
    Nothing { remove: Vec<String> },
    /// A log.
    Log(Box<Recovered>),
}

/// Reads the log in `dir`.
pub(crate) fn recover<D: LogDir>(dir: &D) -> Result<Found, LogError> {
    let names = dir
        .list()
        .map_err(|e| LogError::io("list", "the log directory", e))?;
    let mut sequence: Vec<u32> = names
        .iter()
        .filter_map(|name| parse_segment_name(name))
        .collect();
    sequence.sort_unstable();
    let unfinished = names.into_iter().filter(|name| name.ends_with(".new"));
    let mut remove: Vec<String> = unfinished.collect();
    let Some(&last) = sequence.last() else {
        return Ok(Found::Nothing { remove });
    };

    // Every header is looked at before any content: a newer format anywhere is the better answer.
    let headers = sequence
        .iter()
        .map(|seq| read_header(dir, *seq))
        .collect::<Result<Vec<_>, _>>()?;
    // The segments without a gap up to the last; whether those before are needed, the stream tells.
    let gapless = sequence
        .iter()
        .rev()
        .zip(0..)
        .take_while(|(seq, back)| **seq == last - back)
        .count();
    let from = sequence.len() - gapless;
    let mut replay = Replay::default();
    for header in &headers[from..] {
        replay.segment(dir, header)?;
    }
    let mut recovered = replay.finish()?;

    let keep_from = recovered.stream.state().keep_from;
    remove.extend(
        sequence
            .iter()
            .filter(|seq| **seq < keep_from)
            .map(|seq| segment_name(*seq)),
    );
    recovered
        .segments
        .retain(|segment| segment.seq >= keep_from);
    recovered.remove.append(&mut remove);
    Ok(Found::Log(Box::new(recovered)))
}

/// Reads and checks the header of a segment file, and the length of the file.
fn read_header<D: LogDir>(dir: &D, seq: u32) -> Result<SegmentHeader, LogError> {
    let name = segment_name(seq);
    let file = dir
        .open(&name)
        .map_err(|e| LogError::io("open", &name, e))?;
    let len = file
        .len()
        .map_err(|e| LogError::io("read the length of", &name, e))?;
    let mut bytes =
        vec![0; usize::try_from(len.min(u64::from(SEGMENT_HEADER_LEN))).expect("a few bytes")];
    file.read_at(0, &mut bytes)
        .map_err(|e| LogError::io("read", &name, e))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderError::Newer(found)) => {
            return Err(LogError::NewerFormat {
                file: name,
                found,
                supported: FORMAT_VERSION,
            });
        }
        Err(HeaderError::Bad(what)) => return Err(LogError::corrupt(&name, 0, what)),
    };
    if header.seq != seq {
        return Err(LogError::corrupt(
            &name,
            0,
            format!("the header is that of {}", segment_name(header.seq)),
        ));
    }
    if len != u64::from(header.file_len) {
        return Err(LogError::WrongLength {
            file: name,
            expected: u64::from(header.file_len),
            found: len,
        });
    }
    Ok(header)
}

/// The segments read so far.
#[derive(Default)]
struct Replay {
    stream: Option<Stream>,
    index: EntryIndex,
    segments: Vec<Segment>,
    /// How the segment before ended.
    before: Option<Scan>,
    /// A last segment that was prepared and never used.
    premature: Option<u32>,
}

impl Replay {
    fn segment<D: LogDir>(&mut self, dir: &D, header: &SegmentHeader) -> Result<(), LogError> {
        let seq = header.seq;
        let name = segment_name(seq);
        if let Some(premature) = self.premature {
            let why = format!(
                "{} was never used, and {name} follows it",
                segment_name(premature)
            );
            return Err(LogError::corrupt(
                &segment_name(premature),
                u64::from(HEAD_LEN),
                why,
            ));
        }
        let bytes = read_all(dir, &name, header.file_len)?;
        if let Some(before) = &self.before
            && !(before.sealed && before.end == header.prev_end)
        {
            return self.after_unsealed(&bytes, header);
        }

        let Replay { stream, index, .. } = self;
        let scan = scan(&bytes, seq, |offset, record| match record {
            Record::State(state) => open(stream, index, header, state),
            _ => apply(
                stream.as_mut().ok_or("a record before the state")?,
                index,
                seq,
                offset,
                record,
            ),
        })
        .map_err(|Nonsense { offset, what }| LogError::corrupt(&name, u64::from(offset), what))?;
        // The state is synced before the file is named: no crash leaves it bad.
        if scan.end < HEAD_LEN {
            return Err(bad_at(&name, &scan));
        }
        self.segments.push(Segment {
            seq,
            file_len: header.file_len,
            end: scan.end,
            synced_to: scan.synced_to.max(HEAD_LEN),
            data_end: scan.data_end,
        });
        self.before = Some(scan);
        Ok(())
    }

    /// A segment follows one that does not end with its seal. That is the work of a crash only if
    /// it has no record.
    fn after_unsealed(&mut self, bytes: &[u8], header: &SegmentHeader) -> Result<(), LogError> {
        let unused = scan(bytes, header.seq, |_, _| Ok(())).is_ok_and(|scan| {
            scan.end == HEAD_LEN && scan.records == 0 && scan.dirty_to == HEAD_LEN
        });
        if unused {
            self.premature = Some(header.seq);
            return Ok(());
        }
        let previous = segment_name(header.seq - 1);
        Err(match &self.before {
            Some(before) if before.bad.is_some() => bad_at(&previous, before),
            before => {
                let end = before.as_ref().map_or(0, |before| before.end);
                let what = format!(
                    "its records end here, where {} has them end at byte {}",
                    segment_name(header.seq),
                    header.prev_end
                );
                LogError::corrupt(&previous, u64::from(end), what)
            }
        })
    }

    /// Judges how the last segment ends, and whether every entry is there.
    fn finish(self) -> Result<Recovered, LogError> {
        let (Some(scan), Some(stream), Some(oldest), Some(last)) = (
            self.before,
            self.stream,
            self.segments.first(),
            self.segments.last(),
        ) else {
            return Err(LogError::corrupt("the log", 0, "no segment could be read"));
        };
        let name = segment_name(last.seq);
        if scan.sealed && self.premature.is_none() {
            return Err(LogError::MissingSegment {
                file: segment_name(last.seq + 1),
                why: format!(
                    "{name} ends with a seal, which is written once the next segment exists"
                ),
            });
        }
        if scan.end < scan.synced_to {
            return Err(bad_at(&name, &scan));
        }
        if scan.sealed {
            // Sealed, and the next one has another idea of where.
            return Err(LogError::corrupt(
                &name,
                u64::from(scan.end),
                "the seal is not where the next segment says",
            ));
        }
        let keep_from = stream.state().keep_from;
        if keep_from < oldest.seq {
            return Err(LogError::MissingSegment {
                file: segment_name(oldest.seq - 1),
                why: format!(
                    "{} exists, and the log is kept from {} on",
                    segment_name(oldest.seq),
                    segment_name(keep_from)
                ),
            });
        }
        let first = stream.state().purged.map_or(0, |id| id.index + 1);
        if self.index.first() != first || self.index.next() != stream.state().next_index() {
            let what = format!(
                "entries from {first} are needed, and {} is the first found",
                self.index.first()
            );
            return Err(LogError::corrupt(&name, u64::from(scan.end), what));
        }
        let cut = scan.bad.map(|reason| Cut {
            file: name,
            offset: u64::from(scan.end),
            bytes: u64::from(scan.dirty_to - scan.end),
            reason,
        });
        let remove = self.premature.map(segment_name).into_iter().collect();
        Ok(Recovered {
            stream,
            index: self.index,
            segments: self.segments,
            remove,
            cut,
        })
    }
}

/// Takes the state that opens a segment: the start of the stream, or what it has come to.
fn open(
    stream: &mut Option<Stream>,
    index: &mut EntryIndex,
    header: &SegmentHeader,
    state: &State,
) -> Result<(), String> {
    if header.first_index != state.next_index() {
        return Err(format!(
            "the header has the next index at {}, the state at {}",
            header.first_index,
            state.next_index()
        ));
    }
    match stream {
        None => {
            *index = EntryIndex::starting_at(state.next_index());
            *stream = Some(Stream::at_head(header.seq, *state));
        }
        Some(stream) if stream.state() == state => stream.open_segment(header.seq),
        Some(_) => {
            return Err("the state is not the one that the segments before lead to".to_owned());
        }
    }
    Ok(())
}

fn apply(
    stream: &mut Stream,
    index: &mut EntryIndex,
    segment: u32,
    offset: u32,
    record: &Record<'_>,
) -> Result<(), String> {
    match *record {
        Record::Entry(id, payload) => {
            stream.entry(id)?;
            let len = u32::try_from(payload.len()).map_err(|_| "payload too long")?;
            index.push(
                id,
                Slot {
                    segment,
                    offset,
                    len,
                },
            );
        }
        Record::Vote(vote) => stream.vote(vote),
        Record::Committed(id) => stream.committed(id),
        Record::TruncateAfter(last) => {
            stream.truncate(last)?;
            index.truncate(last.map_or(0, |id| id.index + 1));
        }
        Record::Purged { upto, keep_from } => {
            if keep_from > segment {
                return Err(format!(
                    "a purge keeps the log from {}, which comes later",
                    segment_name(keep_from)
                ));
            }
            stream.purge(upto)?;
            stream.keep_from(keep_from);
            index.purge(upto.index + 1);
        }
        Record::State(_) | Record::Synced | Record::Seal => {}
    }
    Ok(())
}

fn bad_at(name: &str, scan: &Scan) -> LogError {
    let what = scan.bad.unwrap_or("records end too early");
    let proof = match scan.sound_after {
        Some(offset) => format!("{what}; a sound record follows at byte {offset}"),
        None => what.to_owned(),
    };
    LogError::corrupt(name, u64::from(scan.end), proof)
}

fn read_all<D: LogDir>(dir: &D, name: &str, len: u32) -> Result<Vec<u8>, LogError> {
    let file = dir.open(name).map_err(|e| LogError::io("open", name, e))?;
    let mut bytes = vec![0; len as usize];
    file.read_at(0, &mut bytes)
        .map_err(|e| LogError::io("read", name, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Place, encode};
    use crate::sim::SimDir;
    use crate::types::LogId;

    fn id(index: u64) -> LogId {
        LogId {
            term: 1,
            node: 1,
            index,
        }
    }

    /// A disk with one segment, sound in itself, that opens with `state` and holds `records`.
    fn forged(state: State, records: &[Record<'_>]) -> SimDir {
        let first_index = state.next_index();
        let mut bytes = Vec::new();
        SegmentHeader {
            seq: 1,
            file_len: 4096,
            prev_end: 0,
            first_index,
        }
        .encode(&mut bytes);
        for record in [Record::State(state)].iter().chain(records) {
            let offset = u32::try_from(bytes.len()).expect("short");
            encode(
                &mut bytes,
                Place {
                    segment: 1,
                    offset,
                    synced_to: 0,
                },
                record,
            );
        }
        bytes.resize(4096, 0);
        let dir = SimDir::new();
        dir.set_contents(&segment_name(1), bytes);
        dir
    }

    fn refusal(dir: &SimDir) -> String {
        recover(dir).expect_err("refused").to_string()
    }

    #[test]
    fn a_log_that_lacks_entries_it_says_it_has_is_refused() {
        let state = State {
            keep_from: 1,
            last: Some(id(5)),
            ..State::default()
        };
        let error = refusal(&forged(state, &[Record::Entry(id(6), b"six")]));
        assert!(
            error.contains("entries from 0 are needed, and 6 is the first found"),
            "{error}"
        );
        let whole = State {
            purged: Some(id(5)),
            ..state
        };
        recover(&forged(whole, &[Record::Entry(id(6), b"six")])).expect("nothing is missing");
    }

    #[test]
    fn sound_records_that_make_no_sense_are_refused_where_they_are() {
        let state = State {
            keep_from: 1,
            ..State::default()
        };
        for (nonsense, what) in [
            (Record::Entry(id(2), b""), "entry 2 where 1 is next"),
            (Record::TruncateAfter(Some(id(7))), "truncation after 8"),
            (
                Record::Purged {
                    upto: id(0),
                    keep_from: 2,
                },
                "keeps the log from 0000000002.seg",
            ),
        ] {
            let error = refusal(&forged(
                state,
                &[Record::Entry(id(0), b""), nonsense, Record::Synced],
            ));
            assert!(
                error.contains(what) && error.contains("0000000001.seg is corrupt at byte 240"),
                "{error}"
            );
        }
    }
}
