//! What readers and the queue see: the stream as asked for, ahead of the disk by what is queued or
//! being written. All of it is behind one lock, and nothing here does I/O or calls back.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use crate::error::LogError;
use crate::format::PAYLOAD_BYTES_MAX;
use crate::index::{Cache, EntryIndex, Slot};
use crate::log::Done;
use crate::stream::check_follows;
use crate::types::{LogId, Opened, Vote};
use crate::writer::{OpenSegment, Request, Written};

/// A request and who waits for it.
pub(crate) struct Queued {
    request: Request,
    done: Option<Done>,
}

/// What readers and the queue see: ahead of the disk by what is queued or being written.
pub(crate) struct Memory<F> {
    pub index: EntryIndex,
    pub cache: Cache,
    pub segments: BTreeMap<u32, OpenSegment<F>>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub queue: Vec<Queued>,
    /// Bytes in `queue`.
    pub queued_bytes: usize,
    /// Bytes and requests of the batch being written.
    pub writing_bytes: usize,
    pub writing: usize,
    /// Entries of the batch being written are still those in `index` only below this: a truncation
    /// was asked for after them.
    pub writing_stands_below: u64,
    pub appended_bytes: u64,
    /// Appending blocks while the queue is full. Set while a thread drains it.
    pub bounded: bool,
    pub stop: Option<Stop>,
    /// Who runs the steps without a thread, and waits for something to be queued.
    pub worker: Option<Waker>,
}

/// Why no request is taken any more.
#[derive(Debug, Clone)]
pub(crate) enum Stop {
    Closed,
    Failed {
        reason: Arc<str>,
        kind: io::ErrorKind,
    },
}

impl Stop {
    pub(crate) fn error(&self) -> LogError {
        match self {
            Stop::Closed => LogError::Closed,
            Stop::Failed { reason, kind } => LogError::Failed {
                reason: Arc::clone(reason),
                kind: *kind,
            },
        }
    }
}

impl<F> Memory<F> {
    /// What a log just opened shows.
    pub(crate) fn new(index: EntryIndex, opened: &Opened, segments: Vec<OpenSegment<F>>) -> Self {
        Memory {
            cache: Cache::starting_at(index.next()),
            index,
            segments: segments
                .into_iter()
                .map(|segment| (segment.seq, segment))
                .collect(),
            vote: opened.vote,
            committed: opened.committed,
            purged: opened.purged,
            queue: Vec::new(),
            queued_bytes: 0,
            writing_bytes: 0,
            writing: 0,
            writing_stands_below: u64::MAX,
            appended_bytes: 0,
            bounded: false,
            stop: None,
            worker: None,
        }
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.index.last().or(self.purged)
    }

    pub(crate) fn append(&mut self, entries: &[(LogId, Bytes)]) -> Result<(), LogError> {
        let mut last = self.last();
        for (id, payload) in entries {
            check_follows(last, *id).map_err(LogError::Refused)?;
            if payload.len() > PAYLOAD_BYTES_MAX {
                let what = format!(
                    "entry {} has {} bytes, at most {PAYLOAD_BYTES_MAX} fit",
                    id.index,
                    payload.len()
                );
                return Err(LogError::Refused(what));
            }
            last = Some(*id);
        }
        for (id, payload) in entries {
            let len = u32::try_from(payload.len()).expect("checked against PAYLOAD_BYTES_MAX");
            self.index.push(*id, Slot::unwritten(len));
            self.cache.push(payload.clone());
        }
        Ok(())
    }

    /// Returns the request, or a barrier if nothing is above.
    pub(crate) fn truncate(&mut self, last: Option<u64>) -> Result<Request, LogError> {
        let next = match last {
            Some(u64::MAX) => return Ok(Request::Barrier),
            Some(index) => index + 1,
            None => 0,
        };
        if next < self.index.first() {
            let what = format!(
                "truncation after {last:?}, and {:?} was purged",
                self.purged
            );
            return Err(LogError::Refused(what));
        }
        if next >= self.index.next() {
            return Ok(Request::Barrier);
        }
        self.index.truncate(next);
        self.cache.truncate(next);
        self.writing_stands_below = self.writing_stands_below.min(next);
        Ok(Request::TruncateAfter(self.last()))
    }

    /// Returns the request, or a barrier if that much was purged before.
    pub(crate) fn purge(&mut self, upto: LogId) -> Result<Request, LogError> {
        if self.purged.is_some_and(|purged| upto.index <= purged.index) {
            return Ok(Request::Barrier);
        }
        if let Some(own) = self.index.id(upto.index).filter(|own| *own != upto) {
            return Err(LogError::Refused(format!(
                "purge up to {upto:?}, and the log has {own:?}"
            )));
        }
        self.index.purge(upto.index + 1);
        self.cache.purge(upto.index + 1);
        self.purged = Some(upto);
        Ok(Request::Purge(upto))
    }

    /// Queues a request that memory already shows.
    pub(crate) fn push(&mut self, request: Request, done: Option<Done>) {
        let bytes = request.bytes();
        self.queued_bytes += bytes;
        if matches!(request, Request::Append(_)) {
            self.appended_bytes += bytes as u64;
        }
        self.queue.push(Queued { request, done });
    }

    /// Takes requests from the queue until they make up a batch of `bytes_max`, and who waits.
    pub(crate) fn take_batch(&mut self, bytes_max: usize) -> (Vec<Request>, Vec<Done>) {
        let mut bytes = 0;
        let fits = |queued: &&Queued| {
            let more = queued.request.bytes();
            let fits = bytes == 0 || bytes + more <= bytes_max;
            bytes += if fits { more } else { 0 };
            fits
        };
        let take = self.queue.iter().take_while(fits).count();
        let mut batch = Vec::with_capacity(take);
        let mut waiters = Vec::with_capacity(take);
        for queued in self.queue.drain(..take) {
            batch.push(queued.request);
            waiters.extend(queued.done);
        }
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.writing_bytes = bytes;
        self.writing = take;
        let truncations = self
            .queue
            .iter()
            .filter_map(|queued| queued.request.truncates_to());
        self.writing_stands_below = truncations.min().unwrap_or(u64::MAX);
        (batch, waiters)
    }

    /// One batch takes all of the queue, which is appends and hints: nothing to be done after them.
    pub(crate) fn is_one_append(&self, bytes_max: usize) -> bool {
        let is_light = |queued: &Queued| {
            matches!(
                queued.request,
                Request::Append(_) | Request::Committed(_) | Request::Barrier
            )
        };
        self.queued_bytes <= bytes_max && self.queue.iter().all(is_light)
    }

    /// Lets readers find on the disk what is there now.
    pub(crate) fn publish(&mut self, written: Written<F>, cache_bytes: usize) {
        for (index, slot) in written.placed {
            if index < self.writing_stands_below {
                self.index.set_slot(index, slot);
            }
        }
        self.segments.extend(
            written
                .segments
                .into_iter()
                .map(|segment| (segment.seq, segment)),
        );
        self.segments = self.segments.split_off(&written.keep_from);
        self.writing_bytes = 0;
        self.writing = 0;
        self.cache.evict(cache_bytes, &self.index);
    }

    /// Refuses everything from now on, and hands back those who wait in the queue.
    pub(crate) fn fail(&mut self, stop: Stop) -> Vec<Done> {
        self.stop = Some(stop);
        self.queued_bytes = 0;
        self.writing_bytes = 0;
        self.writing = 0;
        self.queue
            .drain(..)
            .filter_map(|queued| queued.done)
            .collect()
    }
}
