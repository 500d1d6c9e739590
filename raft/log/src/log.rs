//! The handle: takes requests, answers reads, and steps the writer.
//!
//! A request changes what readers see at once, under one short lock, and joins the queue. A *step*
//! takes what is queued, has the writer make it durable, and hands back the waiters to be told. Who
//! steps is open: a thread of its own ([`crate::ThreadedLog`]), or a simulator between two crashes.
//!
//! Locks: `memory` is held for a few copies at a time, never during I/O and never during a
//! callback; `writer` belongs to whoever steps and is taken before `memory`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::LogError;
use crate::io::LogDir;
use crate::memory::{Memory, Stop};
use crate::read;
use crate::types::{LogId, Options, Vote};
use crate::writer::{Request, Writer};

/// Told once a request is durable, or that it may not be. Runs on the thread that runs the step's
/// completions, or, if the request is refused, on the caller's. It must be quick, and must not
/// append to a [`crate::ThreadedLog`]: that could wait for room which only its own thread makes.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The raft log of one member. Clones share the log.
pub struct RaftLog<D: LogDir> {
    shared: Arc<Shared<D>>,
}

impl<D: LogDir> std::fmt::Debug for RaftLog<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.shared.memory.lock();
        f.debug_struct("RaftLog")
            .field("first", &memory.index.first())
            .field("last", &memory.last())
            .field("stop", &memory.stop)
            .finish_non_exhaustive()
    }
}

impl<D: LogDir> Clone for RaftLog<D> {
    fn clone(&self) -> Self {
        RaftLog {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<D: LogDir> {
    options: Options,
    memory: Mutex<Memory<D::File>>,
    /// Something was queued, or the log closes.
    work: Condvar,
    /// The queue became shorter, or the log closes or failed.
    room: Condvar,
    writer: Mutex<Writer<D>>,
}

impl<D: LogDir> RaftLog<D> {
    /// Puts a handle together from a log that [`crate::open`] read back.
    pub(crate) fn new(options: Options, writer: Writer<D>, memory: Memory<D::File>) -> Self {
        let shared = Shared {
            options,
            memory: Mutex::new(memory),
            work: Condvar::new(),
            room: Condvar::new(),
            writer: Mutex::new(writer),
        };
        RaftLog {
            shared: Arc::new(shared),
        }
    }

    /// Appends entries. They can be read when this returns; `done` is told once they are on the
    /// disk. Their indexes must go on from the last one, and terms must not go back.
    ///
    /// Without entries it is a barrier: `done` is told once all that was asked before is durable.
    ///
    /// Blocks while more than [`Options::queue_bytes_max`] wait, if a thread drains the queue.
    pub fn append(&self, entries: Vec<(LogId, Bytes)>, done: Done) {
        if self.submit_append(entries, done) {
            self.wake();
        }
    }

    /// Appends entries as [`RaftLog::append`] does, and steps the log itself, unless somebody else is stepping it or it has more
    /// to do than appends: `done` has then been told when this returns. It waits for the disk, and saves two hand-overs
    /// between threads.
    pub fn append_through(&self, entries: Vec<(LogId, Bytes)>, done: Done) {
        if !self.submit_append(entries, done) {
            return;
        }
        let batch_bytes_max = self.shared.options.batch_bytes_max;
        let only_appends = self.shared.memory.lock().is_one_append(batch_bytes_max);
        match self.shared.writer.try_lock() {
            Some(writer) if only_appends => {
                let guard = PoisonOnPanic(self);
                self.write_batch_with(writer).run();
                drop(guard);
            }
            _ => self.wake(),
        }
    }

    /// Saves the vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.request(done, |memory| {
            memory.vote = Some(vote);
            Ok(Request::Vote(vote))
        });
    }

    /// Saves the committed id. Nobody waits for it, and it goes with what is asked next: a restart finds this one or an
    /// earlier one.
    pub fn save_committed(&self, id: Option<LogId>) {
        self.submit(None, |memory| {
            memory.committed = id;
            Ok(Request::Committed(id))
        });
    }

    /// Drops the entries above `last`, or all if it is `None`. Refused if that reaches into what
    /// was purged.
    pub fn truncate_after(&self, last: Option<u64>, done: Done) {
        self.request(done, |memory| memory.truncate(last));
    }

    /// Drops the entries up to `upto`, which may lie beyond the last one: then the log goes on
    /// after it. Files are removed once `done` can be told, whole segments at a time.
    pub fn purge(&self, upto: LogId, done: Done) {
        self.request(done, |memory| memory.purge(upto));
    }

    /// The entries of `range` that exist, in order, until they make up `max_bytes` of payload; at
    /// least one, if any exists. Checksums are verified. An index that was purged is an error.
    pub fn read(&self, range: Range<u64>, max_bytes: u64) -> Result<Vec<(LogId, Bytes)>, LogError> {
        let wanted = {
            let memory = self.shared.memory.lock();
            let (first, next) = (memory.index.first(), memory.index.next());
            if range.start < first && range.start < range.end {
                return Err(LogError::Purged {
                    index: range.start,
                    first,
                });
            }
            let mut bytes = 0;
            let mut wanted = Vec::new();
            for index in range.start..range.end.min(next) {
                let missing = || LogError::Refused(format!("entry {index} is not in the index"));
                let slot = memory.index.slot(index).ok_or_else(missing)?;
                bytes += u64::from(slot.len);
                if bytes > max_bytes && !wanted.is_empty() {
                    break;
                }
                let id = memory.index.id(index).ok_or_else(missing)?;
                let source = match memory.cache.get(index) {
                    Some(payload) => read::Source::Memory(payload.clone()),
                    None => {
                        let segment = memory.segments.get(&slot.segment).ok_or_else(missing)?;
                        read::Source::Disk {
                            slot,
                            file: Arc::clone(&segment.file),
                        }
                    }
                };
                wanted.push((id, source));
            }
            wanted
        };
        read::fetch(wanted)
    }

    /// The term of an entry that is present, or of the last one purged.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.id_at(index).map(|id| id.term)
    }

    /// The id of an entry that is present, or of the last one purged.
    pub fn id_at(&self, index: u64) -> Option<LogId> {
        let memory = self.shared.memory.lock();
        memory
            .index
            .id(index)
            .or(memory.purged.filter(|purged| purged.index == index))
    }

    /// Index of the first entry, or of the next one if there is none.
    pub fn first_index(&self) -> u64 {
        self.shared.memory.lock().index.first()
    }

    /// The last entry, or the last one purged if none is left.
    pub fn last(&self) -> Option<LogId> {
        self.shared.memory.lock().last()
    }

    /// The last one purged.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.memory.lock().purged
    }

    /// The vote last given to [`RaftLog::save_vote`], durable or not.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.memory.lock().vote
    }

    /// The id last given to [`RaftLog::save_committed`], durable or not.
    pub fn committed(&self) -> Option<LogId> {
        self.shared.memory.lock().committed
    }

    /// Bytes of the stream in the segments that are kept, purged entries in them included.
    pub fn size_bytes(&self) -> u64 {
        self.shared
            .memory
            .lock()
            .segments
            .values()
            .map(|segment| u64::from(segment.used))
            .sum()
    }

    /// Bytes of entries appended since the log was opened; only grows.
    pub fn appended_bytes(&self) -> u64 {
        self.shared.memory.lock().appended_bytes
    }

    /// Requests queued or being written.
    pub fn flush_queue_len(&self) -> usize {
        let memory = self.shared.memory.lock();
        memory.queue.len() + memory.writing
    }

    /// Bytes queued or being written. A caller that must not block looks here first.
    pub fn queued_bytes(&self) -> usize {
        let memory = self.shared.memory.lock();
        memory.queued_bytes + memory.writing_bytes
    }

    /// Why the log stopped taking requests, if a write or sync failed.
    pub fn failure(&self) -> Option<LogError> {
        let memory = self.shared.memory.lock();
        memory
            .stop
            .as_ref()
            .filter(|stop| matches!(stop, Stop::Failed { .. }))
            .map(Stop::error)
    }

    /// Takes what is queued, writes it, syncs it, and returns the waiters to be told; then removes
    /// the files of purged segments. For those who run the log without a thread.
    ///
    /// Dropping the result untold is what a crash does.
    pub fn step(&self) -> Completions {
        let completions = self.write_batch();
        self.remove_purged();
        completions
    }

    /// Ready when there is something to [`step`](RaftLog::step) for. Remembers one task only. For those who run the log
    /// without a thread.
    pub fn poll_work(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut memory = self.shared.memory.lock();
        if memory.queue.is_empty() {
            memory.worker = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// The part of a step that others wait for.
    pub(crate) fn write_batch(&self) -> Completions {
        self.write_batch_with(self.shared.writer.lock())
    }

    fn write_batch_with(&self, mut writer: MutexGuard<'_, Writer<D>>) -> Completions {
        let taken = self
            .shared
            .memory
            .lock()
            .take_batch(self.shared.options.batch_bytes_max);
        let (batch, waiters) = taken;
        if batch.is_empty() {
            return Completions::default();
        }
        match writer.write(&batch) {
            Ok(written) => {
                self.shared
                    .memory
                    .lock()
                    .publish(written, self.shared.options.cache_bytes);
                self.shared.room.notify_all();
                Completions {
                    waiters,
                    failure: None,
                }
            }
            Err(error) => {
                let mut completions = self.poison(&error);
                completions.waiters.splice(0..0, waiters);
                completions
            }
        }
    }

    pub(crate) fn remove_purged(&self) {
        self.shared.writer.lock().remove_purged();
    }

    /// Waits until something is queued that somebody waits for; `false` once the log is closed and nothing is left.
    pub(crate) fn wait_for_work(&self) -> bool {
        let mut memory = self.shared.memory.lock();
        while memory.queue.is_empty() {
            if memory.stop.is_some() {
                return false;
            }
            self.shared.work.wait(&mut memory);
        }
        true
    }

    /// From now on (or no longer) appending waits for room in the queue.
    pub(crate) fn set_bounded(&self, bounded: bool) {
        self.shared.memory.lock().bounded = bounded;
        self.shared.room.notify_all();
    }

    /// Takes no more requests. What is queued will be written, and synced, hints too.
    pub(crate) fn close(&self) {
        let mut memory = self.shared.memory.lock();
        if memory.stop.is_none() {
            memory.stop = Some(Stop::Closed);
            memory.push(Request::Barrier, None);
        }
        drop(memory);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
    }

    /// Refuses everything from now on, and hands back those who wait in the queue.
    pub(crate) fn poison(&self, error: &LogError) -> Completions {
        let mut reason = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            reason = format!("{reason}: {source}");
        }
        tracing::error!(%reason, "the raft log stops");
        let stop = Stop::Failed {
            reason: reason.into(),
            kind: error.kind(),
        };
        let waiters = self.shared.memory.lock().fail(stop.clone());
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        Completions {
            waiters,
            failure: Some(stop),
        }
    }

    /// Queues a request for whoever steps.
    fn request(
        &self,
        done: Done,
        apply: impl FnOnce(&mut Memory<D::File>) -> Result<Request, LogError>,
    ) {
        if self.submit(Some(done), apply) {
            self.wake();
        }
    }

    fn submit_append(&self, entries: Vec<(LogId, Bytes)>, done: Done) -> bool {
        self.submit(Some(done), |memory| {
            memory.append(&entries)?;
            Ok(if entries.is_empty() {
                Request::Barrier
            } else {
                Request::Append(entries)
            })
        })
    }

    /// Has whoever steps look at the queue.
    fn wake(&self) {
        let worker = self.shared.memory.lock().worker.take();
        self.shared.work.notify_one();
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Applies a request to memory and queues it, or tells `done` why not. Whether it is queued.
    fn submit(
        &self,
        done: Option<Done>,
        apply: impl FnOnce(&mut Memory<D::File>) -> Result<Request, LogError>,
    ) -> bool {
        let mut memory = self.lock_with_room();
        let applied = match &memory.stop {
            Some(stop) => Err(stop.error()),
            None => apply(&mut memory),
        };
        match applied {
            Ok(request) => {
                memory.push(request, done);
                true
            }
            Err(error) => {
                drop(memory);
                if let Some(done) = done {
                    done(Err(error.into()));
                }
                false
            }
        }
    }

    fn lock_with_room(&self) -> MutexGuard<'_, Memory<D::File>> {
        let mut memory = self.shared.memory.lock();
        while memory.bounded
            && memory.stop.is_none()
            && memory.queued_bytes + memory.writing_bytes > self.shared.options.queue_bytes_max
        {
            self.shared.room.wait(&mut memory);
        }
        memory
    }
}

/// A panic in a step must not leave the others waiting for one who is gone.
pub(crate) struct PoisonOnPanic<'a, D: LogDir>(pub(crate) &'a RaftLog<D>);

impl<D: LogDir> Drop for PoisonOnPanic<'_, D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = LogError::io(
                "run",
                "a step of the raft log",
                io::Error::other("it panicked"),
            );
            self.0.poison(&error).run();
        }
    }
}

/// Waiters of one step, to be told its outcome.
#[derive(Default)]
#[must_use = "waiters are told only by `run`"]
pub struct Completions {
    waiters: Vec<Done>,
    failure: Option<Stop>,
}

impl std::fmt::Debug for Completions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completions")
            .field("waiters", &self.len())
            .field("failure", &self.failure)
            .finish()
    }
}

impl Completions {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Tells them, in the order in which they asked.
    pub fn run(self) {
        for done in self.waiters {
            done(match &self.failure {
                None => Ok(()),
                Some(stop) => Err(stop.error().into()),
            });
        }
    }
}
