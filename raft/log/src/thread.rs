//! Runs a log with a thread of its own, which drains the queue: one write and one sync for all that
//! gathered while the sync before was under way.

use std::ops::Deref;
use std::thread::JoinHandle;

use crate::error::LogError;
use crate::io::LogDir;
use crate::log::{PoisonOnPanic, RaftLog};

/// A [`RaftLog`] whose steps are run by a thread.
///
/// Backpressure: a request waits (blocking its caller) while more than `queue_bytes_max` bytes are
/// queued or being written. Callers that must not block keep [`RaftLog::queued_bytes`] below that,
/// by refusing work earlier.
#[derive(Debug)]
pub struct ThreadedLog<D: LogDir> {
    log: RaftLog<D>,
    thread: Option<JoinHandle<()>>,
}

impl<D: LogDir> ThreadedLog<D> {
    /// Starts the thread.
    pub fn start(log: RaftLog<D>) -> Result<Self, LogError> {
        let stepped = log.clone();
        let thread = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || drain(&stepped))
            .map_err(|e| LogError::io("start the thread of", "the raft log", e))?;
        log.set_bounded(true);
        Ok(ThreadedLog {
            log,
            thread: Some(thread),
        })
    }

    /// The log, to hand to others. Its clones are refused with [`LogError::Closed`] after
    /// [`ThreadedLog::shutdown`].
    pub fn log(&self) -> &RaftLog<D> {
        &self.log
    }

    /// Takes no more requests, writes and syncs what is queued (the committed id too), tells who
    /// waits, and ends the thread. Fails if the log had failed.
    pub fn shutdown(mut self) -> Result<(), LogError> {
        self.stop();
        self.log.failure().map_or(Ok(()), Err)
    }

    fn stop(&mut self) {
        self.log.close();
        if let Some(thread) = self.thread.take() {
            // A panic on that thread has poisoned the log, which is what callers get to see.
            let _ = thread.join();
        }
        self.log.set_bounded(false);
    }
}

impl<D: LogDir> Deref for ThreadedLog<D> {
    type Target = RaftLog<D>;

    fn deref(&self) -> &RaftLog<D> {
        &self.log
    }
}

impl<D: LogDir> Drop for ThreadedLog<D> {
    fn drop(&mut self) {
        self.stop();
    }
}

fn drain<D: LogDir>(log: &RaftLog<D>) {
    let guard = PoisonOnPanic(log);
    while log.wait_for_work() {
        log.write_batch().run();
        log.remove_purged();
    }
    drop(guard);
}
