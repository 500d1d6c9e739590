//! Opens a log: reads it back, repairs what a crash left, and makes all of it durable before
//! anyone relies on it.

use std::sync::Arc;

use keelson_planted::{Bug, on};

use crate::error::LogError;
use crate::format::segment_name;
use crate::index::EntryIndex;
use crate::io::{LogDir, LogFile};
use crate::log::RaftLog;
use crate::memory::Memory;
use crate::recover::{Found, Recovered, recover};
use crate::types::{Cut, Opened, Options};
use crate::writer::{OpenSegment, Writer};

/// Zeros written at a time when a tail is wiped.
const WIPE_BYTES: usize = 1 << 16;

impl<D: LogDir> RaftLog<D> {
    /// Opens the log in `dir`, or creates one if it holds no segment.
    ///
    /// A torn tail is cut and the log opens. Anything that no crash can have done is an error that
    /// names the file and the byte, and then nothing in `dir` has been changed.
    pub fn open(dir: D, options: Options) -> Result<(RaftLog<D>, Opened), LogError> {
        let dir = Arc::new(dir);
        let segment_bytes = options
            .segment_bytes
            .clamp(1 << 10, 1 << 30)
            .next_multiple_of(8);
        let (writer, index, segments, opened) = match recover(&*dir)? {
            Found::Nothing { remove } => create(dir, segment_bytes, &remove)?,
            Found::Log(recovered) => resume(dir, segment_bytes, *recovered)?,
        };
        let memory = Memory::new(index, &opened, segments);
        let log = RaftLog::new(options, writer, memory);
        if on(Bug::LogCutTooFar) && opened.cut.is_some() {
            let last = opened.last.and_then(|id| id.index.checked_sub(1));
            log.truncate_after(last, Box::new(drop));
        }
        Ok((log, opened))
    }
}

type Parts<D> = (
    Writer<D>,
    EntryIndex,
    Vec<OpenSegment<<D as LogDir>::File>>,
    Opened,
);

fn create<D: LogDir>(
    dir: Arc<D>,
    segment_bytes: u32,
    remove: &[String],
) -> Result<Parts<D>, LogError> {
    remove_files(&*dir, remove)?;
    let writer = Writer::create(dir, segment_bytes)?;
    let segments = vec![writer.active().clone()];
    let opened = Opened {
        fresh: true,
        vote: None,
        committed: None,
        purged: None,
        last: None,
        cut: None,
    };
    tracing::info!("created a raft log");
    Ok((writer, EntryIndex::default(), segments, opened))
}

fn resume<D: LogDir>(
    dir: Arc<D>,
    segment_bytes: u32,
    recovered: Recovered,
) -> Result<Parts<D>, LogError> {
    let Recovered {
        stream,
        index,
        segments,
        remove,
        cut,
    } = recovered;
    remove_files(&*dir, &remove)?;
    let mut open = Vec::with_capacity(segments.len());
    for segment in segments {
        let name = segment_name(segment.seq);
        let file = dir
            .open(&name)
            .map_err(|e| LogError::io("open", &name, e))?;
        open.push((segment, Arc::new(file)));
    }
    if let (Some(cut), Some((_, file))) = (&cut, open.last()) {
        tracing::warn!(file = %cut.file, offset = cut.offset, bytes = cut.bytes, reason = cut.reason,
            "cutting the tail of the raft log that a crash left half written");
        wipe(&**file, cut)?;
    }
    let state = *stream.state();
    let writer = Writer::resume(dir, segment_bytes, stream, &open)?;
    let mut segments: Vec<_> = open
        .into_iter()
        .map(|(segment, file)| OpenSegment {
            seq: segment.seq,
            file,
            used: segment.end,
        })
        .collect();
    segments.pop();
    segments.push(writer.active().clone());
    tracing::info!(
        segments = segments.len(),
        first = index.first(),
        next = index.next(),
        "opened the raft log"
    );
    let opened = Opened {
        fresh: false,
        vote: state.vote,
        committed: state.committed,
        purged: state.purged,
        last: state.last,
        cut,
    };
    Ok((writer, index, segments, opened))
}

/// Removes files, and makes every name durable: a process killed just after it renamed a segment
/// left a name that is only in memory.
fn remove_files<D: LogDir>(dir: &D, names: &[String]) -> Result<(), LogError> {
    for name in names {
        dir.remove(name)
            .map_err(|e| LogError::io("remove", name, e))?;
    }
    dir.sync_dir()
        .map_err(|e| LogError::io("sync", "the log directory", e))
}

/// Overwrites a tail with zeros, so that none of its records can look valid once new ones have been
/// written before them. [`Writer::resume`] syncs this segment before anything is written.
fn wipe<F: LogFile>(file: &F, cut: &Cut) -> Result<(), LogError> {
    let zeros = [0; WIPE_BYTES];
    let mut offset = cut.offset;
    let end = cut.offset + cut.bytes;
    while offset < end {
        let len = usize::try_from(end - offset)
            .unwrap_or(WIPE_BYTES)
            .min(WIPE_BYTES);
        file.write_at(offset, &zeros[..len])
            .map_err(|e| LogError::io("wipe the tail of", &cut.file, e))?;
        offset += len as u64;
    }
    Ok(())
}
