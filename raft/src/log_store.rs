//! openraft's view of the raft log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream::{self, Stream};
use keelson_log::{LogDir, LogId, RaftLog, Vote};
use keelson_planted::{Bug, on};
use openraft::async_runtime::AsyncRuntime;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use crate::types::{
    RaftEntry, RaftLogId, RaftVote, Types, decode_entry, encode_payload, raft_log_id,
};

/// Bytes that one read of the log brings into memory at most, but for a single larger entry.
const READ_BYTES: u64 = 2 << 20;

/// The log as openraft writes and reads it. Cheap to clone: replication tasks read through clones.
pub(crate) struct LogStore<D: LogDir> {
    pub(crate) log: RaftLog<D>,
    /// Told of each append: the last index once it is on the disk, or none if it has failed.
    pub(crate) written: Arc<dyn Fn(Option<u64>) + Send + Sync>,
    /// Whether openraft's core may wait for the disk: nobody else needs it meanwhile.
    pub(crate) may_wait: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl<D: LogDir> Clone for LogStore<D> {
    fn clone(&self) -> Self {
        LogStore {
            log: self.log.clone(),
            written: self.written.clone(),
            may_wait: self.may_wait.clone(),
        }
    }
}

fn from_log(id: LogId) -> RaftLogId {
    raft_log_id(id.term, id.index)
}

fn to_log(id: &RaftLogId) -> LogId {
    // One leader a term: the term says who.
    LogId {
        term: id.committed_leader_id().term,
        node: 0,
        index: id.index(),
    }
}

impl<D: LogDir> LogStore<D> {
    fn read(&self, start: u64, end: u64, max_bytes: u64) -> io::Result<Vec<RaftEntry>> {
        let read = self
            .log
            .read(start..end, max_bytes)
            .map_err(io::Error::other)?;
        read.into_iter()
            .map(|(id, payload)| decode_entry(from_log(id), payload).map_err(io::Error::other))
            .collect()
    }

    /// The indexes of a range that the log has.
    fn present(&self, range: impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index.saturating_add(1),
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        let next = self.log.last().map_or(0, |id| id.index + 1);
        (start.max(self.log.first_index()), end.min(next))
    }
}

impl<RT: AsyncRuntime, D: LogDir> RaftLogReader<Types<RT>> for LogStore<D> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        loop {
            let (start, end) = self.present(range.clone());
            if start >= end {
                return Ok(Vec::new());
            }
            match self.read(start, end, u64::MAX) {
                // Purged between the two: what is left of the range is what the log has.
                Err(_) if self.log.first_index() > start => continue,
                read => return read,
            }
        }
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.present(range);
        let log = self.clone();
        // Chunk by chunk, so that a long range costs a bounded amount of memory.
        stream::unfold(
            (start, Vec::new().into_iter()),
            move |(mut next, mut chunk)| {
                let log = log.clone();
                async move {
                    if let Some(entry) = chunk.next() {
                        return Some((Ok(entry), (next, chunk)));
                    }
                    if next >= end {
                        return None;
                    }
                    match log.read(next, end, READ_BYTES) {
                        Ok(entries) => {
                            next += entries.len() as u64;
                            chunk = entries.into_iter();
                            chunk.next().map(|entry| (Ok(entry), (next, chunk)))
                        }
                        Err(error) => Some((Err(error), (end, Vec::new().into_iter()))),
                    }
                }
            },
        )
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        match self.read(start, end, READ_BYTES) {
            // Only a replication task of a former leader asks for what is purged: it is about to end, and this member is not.
            Err(_) if self.log.first_index() > start => Ok(Vec::new()),
            read => read,
        }
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.log.vote().map(|vote| RaftVote {
            leader_id: openraft::vote::leader_id_std::LeaderId {
                term: vote.term,
                voted_for: vote.node,
            },
            committed: vote.committed,
        }))
    }
}

impl<RT: AsyncRuntime, D: LogDir> RaftLogStorage<Types<RT>> for LogStore<D> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<RT>>, io::Error> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(from_log),
            last_log_id: self.log.last().map(from_log),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let vote = Vote {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        };
        let (done, synced) = oneshot::channel();
        self.log
            .save_vote(vote, Box::new(move |result| drop(done.send(result))));
        told(synced).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed.as_ref().map(to_log));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<RaftLogId>, io::Error> {
        // What was saved may lie beyond a tail that a crash took: only what is still in the log can be applied again.
        let last = self.log.last();
        Ok(self
            .log
            .committed()
            .filter(|id| Some(*id) <= last)
            .map(from_log))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<Types<RT>>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<(LogId, Bytes)> = entries
            .into_iter()
            .map(|entry| (to_log(&entry.log_id), encode_payload(&entry.payload)))
            .collect();
        let last = entries.last().map(|(id, _)| id.index);
        if on(Bug::AckBeforeSync) {
            self.log.append(entries, Box::new(drop));
            callback.io_completed(Ok(()));
            (self.written)(last);
            return Ok(());
        }
        let mut told = Told {
            written: self.written.clone(),
            last: None,
        };
        let done = Box::new(move |result: io::Result<()>| {
            told.is_on_disk(last.filter(|_| result.is_ok()));
            callback.io_completed(result);
        });
        if (self.may_wait)() {
            self.log.append_through(entries, done);
        } else {
            self.log.append(entries, done);
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> Result<(), io::Error> {
        let (done, synced) = oneshot::channel();
        self.log.truncate_after(
            last.map(|id| id.index()),
            Box::new(move |result| drop(done.send(result))),
        );
        told(synced).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> Result<(), io::Error> {
        let (done, synced) = oneshot::channel();
        self.log.purge(
            to_log(&upto),
            Box::new(move |result| drop(done.send(result))),
        );
        told(synced).await
    }
}

/// Tells of an append when it is over, even if the log is gone without a word.
struct Told {
    written: Arc<dyn Fn(Option<u64>) + Send + Sync>,
    last: Option<u64>,
}

impl Told {
    fn is_on_disk(&mut self, last: Option<u64>) {
        self.last = last;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        (self.written)(self.last);
    }
}

/// Waits for the log to tell. A log that is gone without a word has stopped.
async fn told(synced: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
    synced
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the raft log has stopped")))
}

#[cfg(test)]
mod tests {
    use keelson_log::{Options, SimDir};
    use openraft::impls::TokioRuntime;

    use super::*;

    #[tokio::test]
    async fn what_was_purged_is_no_failure_of_the_log() {
        let (log, _) = RaftLog::open(SimDir::new(), Options::default()).expect("an empty disk");
        let id = |index| LogId {
            term: 1,
            node: 0,
            index,
        };
        let blank = Bytes::from_static(&[0]);
        let entries = (0..10).map(|index| (id(index), blank.clone())).collect();
        log.append(entries, Box::new(drop));
        log.purge(id(4), Box::new(drop));
        log.step().run();
        let mut reader = LogStore {
            log,
            written: Arc::new(|_| ()),
            may_wait: Arc::new(|| false),
        };
        for (start, found) in [(3, 0), (5, 3)] {
            let read = RaftLogReader::<Types<TokioRuntime>>::limited_get_log_entries(
                &mut reader,
                start,
                8,
            );
            assert_eq!(read.await.expect("it is no failure").len(), found);
        }
    }
}
