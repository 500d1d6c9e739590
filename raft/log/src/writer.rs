//! Writes the stream: takes a batch of requests, encodes them into one buffer, writes once, syncs
//! once. Knows nothing of queues, caches, waiters or threads.
//!
//! After any error the writer must not be used again: what the disk holds is unknown until the log
//! is read back. The caller sees to it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use keelson_planted::{Bug, on};

use crate::error::LogError;
use crate::format::{
    BARE_LEN, HEAD_LEN, Place, RESERVED_LEN, Record, SegmentHeader, State, encode,
    new_segment_name, segment_name,
};
use crate::index::Slot;
use crate::io::{LogDir, LogFile};
use crate::recover::Segment;
use crate::stream::Stream;
use crate::types::{LogId, Vote};

/// The buffer is given back when a batch made it larger than this.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// One thing to write.
#[derive(Debug)]
pub(crate) enum Request {
    Append(Vec<(LogId, Bytes)>),
    Vote(Vote),
    Committed(Option<LogId>),
    TruncateAfter(Option<LogId>),
    Purge(LogId),
    /// Nothing; but whatever was written before must be synced.
    Barrier,
}

impl Request {
    /// Bytes it holds in the queue, and about what it will take on the disk.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Request::Append(entries) => entries
                .iter()
                .map(|(_, payload)| payload.len() + BARE_LEN as usize)
                .sum(),
            _ => BARE_LEN as usize,
        }
    }

    /// The index from which on it drops entries.
    pub(crate) fn truncates_to(&self) -> Option<u64> {
        match self {
            Request::TruncateAfter(last) => Some(last.map_or(0, |id| id.index + 1)),
            _ => None,
        }
    }

    /// The committed id is a hint that saves work after a restart: it rides along.
    fn must_sync(&self) -> bool {
        let is_hint = matches!(self, Request::Committed(_))
            || on(Bug::VoteNotSynced) && matches!(self, Request::Vote(_));
        !is_hint
    }
}

/// A segment that is in use, as readers need it.
pub(crate) struct OpenSegment<F> {
    pub seq: u32,
    pub file: Arc<F>,
    /// Bytes of the stream in it.
    pub used: u32,
}

impl<F> Clone for OpenSegment<F> {
    fn clone(&self) -> Self {
        OpenSegment {
            seq: self.seq,
            file: Arc::clone(&self.file),
            used: self.used,
        }
    }
}

/// What a batch changed.
pub(crate) struct Written<F> {
    /// Where the entries of the batch are that it did not itself truncate, by index.
    pub placed: VecDeque<(u64, Slot)>,
    /// Segments touched, with their new lengths.
    pub segments: Vec<OpenSegment<F>>,
    /// Segments below this are no longer needed, durably so.
    pub keep_from: u32,
}

pub(crate) struct Writer<D: LogDir> {
    dir: Arc<D>,
    segment_bytes: u32,
    stream: Stream,
    active: OpenSegment<D::File>,
    active_len: u32,
    /// Everything below is on the disk.
    synced_to: u32,
    /// Records encoded and not yet written; they go to `active.used - buffer.len()`.
    buffer: Vec<u8>,
    /// Written (or encoded) records are not synced yet.
    unsynced: bool,
    /// Segments whose files may be removed, oldest first.
    doomed: VecDeque<u32>,
    /// Lowest segment whose file is neither removed nor doomed.
    oldest: u32,
}

impl<D: LogDir> Writer<D> {
    /// Creates the first segment of a log.
    pub(crate) fn create(dir: Arc<D>, segment_bytes: u32) -> Result<Self, LogError> {
        let state = State {
            keep_from: 1,
            ..State::default()
        };
        let header = SegmentHeader {
            seq: 1,
            file_len: segment_bytes,
            prev_end: 0,
            first_index: 0,
        };
        let file = create_segment(&*dir, header, &state)?;
        let active = OpenSegment {
            seq: 1,
            file: Arc::new(file),
            used: HEAD_LEN,
        };
        Ok(Self::new(
            dir,
            segment_bytes,
            Stream::at_head(1, state),
            active,
            segment_bytes,
            1,
        ))
    }

    /// Goes on with the last segment of a log that was read back and repaired. Makes sure first
    /// that all of it is on the disk, since this member is about to vouch for it.
    pub(crate) fn resume(
        dir: Arc<D>,
        segment_bytes: u32,
        stream: Stream,
        segments: &[(Segment, Arc<D::File>)],
    ) -> Result<Self, LogError> {
        let [.., (last, file)] = segments else {
            return Err(LogError::Refused(
                "a log without segments cannot be resumed".to_owned(),
            ));
        };
        // The last but one too: its seal may be all that the crash left unsynced.
        for (segment, file) in segments.iter().rev().take(2) {
            vouch(segment, &**file)?;
        }
        let active = OpenSegment {
            seq: last.seq,
            file: Arc::clone(file),
            used: last.end,
        };
        let oldest = segments
            .first()
            .map_or(last.seq, |(segment, _)| segment.seq);
        let mut writer = Self::new(dir, segment_bytes, stream, active, last.file_len, oldest);
        if last.synced_to < last.data_end {
            writer.mark_synced()?;
        }
        Ok(writer)
    }

    fn new(
        dir: Arc<D>,
        segment_bytes: u32,
        stream: Stream,
        active: OpenSegment<D::File>,
        active_len: u32,
        oldest: u32,
    ) -> Self {
        let synced_to = active.used;
        Writer {
            dir,
            segment_bytes,
            stream,
            active,
            active_len,
            synced_to,
            buffer: Vec::new(),
            unsynced: false,
            doomed: VecDeque::new(),
            oldest,
        }
    }

    pub(crate) fn active(&self) -> &OpenSegment<D::File> {
        &self.active
    }

    /// Writes a batch, and syncs it unless it holds nothing but hints. When this returns, whatever
    /// must be on the disk is.
    pub(crate) fn write(&mut self, batch: &[Request]) -> Result<Written<D::File>, LogError> {
        let mut written = Written {
            placed: VecDeque::new(),
            segments: Vec::new(),
            keep_from: self.stream.state().keep_from,
        };
        for request in batch {
            self.encode(request, &mut written)?;
        }
        self.flush()?;
        if self.unsynced && batch.iter().any(Request::must_sync) {
            self.sync()?;
            self.mark_synced()?;
        }
        written.segments.push(self.active.clone());
        written.keep_from = self.stream.state().keep_from;
        self.doomed.extend(self.oldest..written.keep_from);
        self.oldest = self.oldest.max(written.keep_from);
        Ok(written)
    }

    /// Removes the files of segments that a durable purge made useless. One that cannot be removed
    /// is tried again after the next purge, and at the latest when the log is opened.
    pub(crate) fn remove_purged(&mut self) {
        while let Some(seq) = self.doomed.front() {
            let name = segment_name(*seq);
            if let Err(error) = self.dir.remove(&name) {
                tracing::warn!(file = %name, %error, "cannot remove a purged segment of the raft log");
                return;
            }
            self.doomed.pop_front();
        }
    }

    fn encode(
        &mut self,
        request: &Request,
        written: &mut Written<D::File>,
    ) -> Result<(), LogError> {
        match request {
            Request::Append(entries) => {
                for (id, payload) in entries {
                    let record = Record::Entry(*id, payload);
                    self.make_room(&record, written)?;
                    self.stream.entry(*id).map_err(LogError::Refused)?;
                    let offset = self.push(&record);
                    let len = u32::try_from(payload.len())
                        .expect("PAYLOAD_BYTES_MAX is checked when it is queued");
                    written.placed.push_back((
                        id.index,
                        Slot {
                            segment: self.active.seq,
                            offset,
                            len,
                        },
                    ));
                }
            }
            Request::Vote(vote) => {
                let record = Record::Vote(*vote);
                self.make_room(&record, written)?;
                self.stream.vote(*vote);
                self.push(&record);
            }
            Request::Committed(id) => {
                let record = Record::Committed(*id);
                self.make_room(&record, written)?;
                self.stream.committed(*id);
                self.push(&record);
            }
            Request::TruncateAfter(last) => {
                let record = Record::TruncateAfter(*last);
                self.make_room(&record, written)?;
                self.stream.truncate(*last).map_err(LogError::Refused)?;
                self.push(&record);
                let next = last.map_or(0, |id| id.index + 1);
                while written
                    .placed
                    .back()
                    .is_some_and(|(index, _)| *index >= next)
                {
                    written.placed.pop_back();
                }
            }
            Request::Purge(upto) => {
                // Room first: which segments are needed depends on which one this lands in.
                self.make_room(
                    &Record::Purged {
                        upto: *upto,
                        keep_from: 0,
                    },
                    written,
                )?;
                let keep_from = self.stream.purge(*upto).map_err(LogError::Refused)?;
                self.stream.keep_from(keep_from);
                self.push(&Record::Purged {
                    upto: *upto,
                    keep_from,
                });
            }
            Request::Barrier => {}
        }
        Ok(())
    }

    /// Makes sure that `record`, and a mark and a seal after it, fit into the active segment.
    fn make_room(
        &mut self,
        record: &Record<'_>,
        written: &mut Written<D::File>,
    ) -> Result<(), LogError> {
        let len = record.encoded_len();
        if u64::from(self.active.used) + u64::from(len + RESERVED_LEN) > u64::from(self.active_len)
        {
            let sealed = self.rotate(len)?;
            written.segments.push(sealed);
        }
        Ok(())
    }

    /// Encodes a record for which there is room; returns its offset.
    fn push(&mut self, record: &Record<'_>) -> u32 {
        let offset = self.active.used;
        let place = Place {
            segment: self.active.seq,
            offset,
            synced_to: self.synced_to,
        };
        encode(&mut self.buffer, place, record);
        self.active.used += record.encoded_len();
        debug_assert!(self.active.used <= self.active_len);
        self.unsynced = true;
        offset
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let offset = u64::from(self.active.used) - self.buffer.len() as u64;
        self.active
            .file
            .write_at(offset, &self.buffer)
            .map_err(|e| LogError::io("write to", &segment_name(self.active.seq), e))?;
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// The one place where the stream becomes durable.
    fn sync(&mut self) -> Result<(), LogError> {
        debug_assert!(self.buffer.is_empty(), "a sync covers what is written");
        if !on(Bug::SyncSkipped) {
            self.active
                .file
                .sync_data()
                .map_err(|e| LogError::io("sync", &segment_name(self.active.seq), e))?;
        }
        self.synced_to = self.active.used;
        self.unsynced = false;
        Ok(())
    }

    /// Says on the disk that the sync returned, without syncing that. From here on a bad record
    /// below is known to be damage, and not the tail that a crash tore.
    fn mark_synced(&mut self) -> Result<(), LogError> {
        if self.active.used + RESERVED_LEN <= self.active_len {
            self.push(&Record::Synced);
            self.flush()?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Seals the active segment and goes on in a new one with room for a record of `len` bytes.
    /// Returns the sealed one.
    ///
    /// The order matters: first the next segment gets its durable name, then the seal is synced,
    /// then the next segment gets records. So a seal without a successor, and a successor with
    /// records without a seal, are both damage.
    fn rotate(&mut self, len: u32) -> Result<OpenSegment<D::File>, LogError> {
        let seq = self.active.seq + 1;
        let file_len = self.segment_bytes.max(HEAD_LEN + len + RESERVED_LEN);
        let state = *self.stream.state();
        let prev_end = self.active.used + Record::Seal.encoded_len();
        let header = SegmentHeader {
            seq,
            file_len,
            prev_end,
            first_index: state.next_index(),
        };
        let file = create_segment(&*self.dir, header, &state)?;

        self.push(&Record::Seal);
        self.flush()?;
        self.sync()?;

        let next = OpenSegment {
            seq,
            file: Arc::new(file),
            used: HEAD_LEN,
        };
        let sealed = std::mem::replace(&mut self.active, next);
        self.active_len = file_len;
        self.synced_to = HEAD_LEN;
        self.stream.open_segment(seq);
        Ok(sealed)
    }
}

/// Creates a segment that holds its header and state; when this returns, its name is durable.
fn create_segment<D: LogDir>(
    dir: &D,
    header: SegmentHeader,
    state: &State,
) -> Result<D::File, LogError> {
    let name = segment_name(header.seq);
    let new = new_segment_name(header.seq);
    let mut head = Vec::with_capacity(HEAD_LEN as usize);
    header.encode(&mut head);
    let offset = u32::try_from(head.len()).expect("a header is short");
    encode(
        &mut head,
        Place {
            segment: header.seq,
            offset,
            synced_to: 0,
        },
        &Record::State(*state),
    );

    let file = dir
        .create(&new, u64::from(header.file_len))
        .map_err(|e| LogError::io("create", &new, e))?;
    file.write_at(0, &head)
        .map_err(|e| LogError::io("write to", &new, e))?;
    file.sync_data()
        .map_err(|e| LogError::io("sync", &new, e))?;
    dir.rename(&new, &name)
        .map_err(|e| LogError::io("rename a new segment to", &name, e))?;
    dir.sync_dir()
        .map_err(|e| LogError::io("sync the directory for", &name, e))?;
    Ok(file)
}

/// Puts the records of a segment on the disk that nothing says were synced. A process that was
/// killed leaves such records in the page cache; and one that died of a failed sync leaves them
/// there *clean*, so that they read well, a sync returns at once, and the disk never has them.
/// Hence they are written again, and then synced.
fn vouch<F: LogFile>(segment: &Segment, file: &F) -> Result<(), LogError> {
    let name = segment_name(segment.seq);
    if segment.synced_to < segment.end {
        let mut bytes = vec![0; (segment.end - segment.synced_to) as usize];
        let offset = u64::from(segment.synced_to);
        file.read_at(offset, &mut bytes)
            .map_err(|e| LogError::io("read", &name, e))?;
        file.write_at(offset, &bytes)
            .map_err(|e| LogError::io("write to", &name, e))?;
    }
    file.sync_data().map_err(|e| LogError::io("sync", &name, e))
}
