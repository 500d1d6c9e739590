//! Shared by the tests of the log: short names for common requests, and an independent reader of
//! the format.
#![allow(dead_code)] // Each test file uses its own part.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use keelson_log::{Done, LogDir, LogError, LogId, Opened, Options, RaftLog, SimDir, Vote};

pub fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: term % 3 + 1,
        index,
    }
}

/// A payload that tells entries apart.
pub fn payload(term: u64, index: u64, len: usize) -> Bytes {
    (0..len)
        .map(|i| (index * 31 + term * 7 + i as u64) as u8)
        .collect::<Vec<u8>>()
        .into()
}

pub fn entry(term: u64, index: u64, len: usize) -> (LogId, Bytes) {
    (id(term, index), payload(term, index, len))
}

/// Small segments and almost no cache, so that a few entries reach the disk code.
pub fn small() -> Options {
    Options {
        segment_bytes: 1024,
        cache_bytes: 100,
        ..Options::default()
    }
}

pub fn open(dir: &SimDir) -> (RaftLog<SimDir>, Opened) {
    RaftLog::open(dir.clone(), small()).expect("the log opens")
}

pub fn open_error(dir: &SimDir) -> LogError {
    RaftLog::open(dir.clone(), small())
        .map(|(_, opened)| opened)
        .expect_err("the log is refused")
}

/// A callback, and where its outcome arrives.
pub fn done() -> (Done, Receiver<io::Result<()>>) {
    let (told, outcome) = sync_channel(1);
    let done = Box::new(move |result| {
        // A test that no longer listens does not care.
        let _ = told.send(result);
    });
    (done, outcome)
}

/// Steps until nothing is queued, and requires that `outcome` has become good.
pub fn settle<D: LogDir>(log: &RaftLog<D>, outcome: Receiver<io::Result<()>>) {
    while log.flush_queue_len() > 0 {
        log.step().run();
    }
    outcome.try_recv().expect("told").expect("durable");
}

pub fn append<D: LogDir>(log: &RaftLog<D>, entries: Vec<(LogId, Bytes)>) {
    let (done, outcome) = done();
    log.append(entries, done);
    settle(log, outcome);
}

pub fn vote<D: LogDir>(log: &RaftLog<D>, vote: Vote) {
    let (done, outcome) = done();
    log.save_vote(vote, done);
    settle(log, outcome);
}

pub fn truncate<D: LogDir>(log: &RaftLog<D>, last: Option<u64>) {
    let (done, outcome) = done();
    log.truncate_after(last, done);
    settle(log, outcome);
}

pub fn purge<D: LogDir>(log: &RaftLog<D>, upto: LogId) {
    let (done, outcome) = done();
    log.purge(upto, done);
    settle(log, outcome);
}

/// Every entry that the log has.
pub fn entries<D: LogDir>(log: &RaftLog<D>) -> Vec<(LogId, Bytes)> {
    log.read(log.first_index()..u64::MAX, u64::MAX)
        .expect("readable")
}

/// All that a log says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    pub entries: Vec<(LogId, Bytes)>,
}

pub fn content<D: LogDir>(log: &RaftLog<D>) -> Content {
    Content {
        vote: log.vote(),
        committed: log.committed(),
        purged: log.purged(),
        last: log.last(),
        entries: entries(log),
    }
}

/// Every file of the disk.
pub fn files(dir: &SimDir) -> BTreeMap<String, Vec<u8>> {
    let names = dir.list().expect("listed");
    names
        .into_iter()
        .map(|name| (name.clone(), dir.contents(&name).expect("listed")))
        .collect()
}

/// A record found by reading the format as docs/formats.md draws it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    pub offset: usize,
    pub kind: u8,
    pub end: usize,
}

pub const SYNCED: u8 = 7;
pub const SEAL: u8 = 8;

/// The records of a segment file, in order.
pub fn raw_records(bytes: &[u8]) -> Vec<Raw> {
    let mut records = Vec::new();
    let mut offset = 48;
    while bytes.get(offset..offset + 2) == Some(b"KL") {
        let len =
            u32::from_le_bytes(bytes[offset + 8..offset + 12].try_into().expect("four")) as usize;
        let end = offset + 48 + len.next_multiple_of(8);
        records.push(Raw {
            offset,
            kind: bytes[offset + 2],
            end,
        });
        offset = end;
    }
    records
}

/// A log of several segments with every kind of record in it, closed cleanly, and its content.
pub fn several_segments() -> (SimDir, Content) {
    let dir = SimDir::new();
    let (log, _) = open(&dir);
    vote(
        &log,
        Vote {
            term: 1,
            node: 2,
            committed: false,
        },
    );
    append(&log, (0..4).map(|index| entry(1, index, 100)).collect());
    vote(
        &log,
        Vote {
            term: 2,
            node: 3,
            committed: true,
        },
    );
    truncate(&log, Some(2));
    append(&log, (3..9).map(|index| entry(2, index, 150)).collect());
    log.save_committed(Some(id(2, 6)));
    purge(&log, id(1, 0));
    append(&log, (9..12).map(|index| entry(2, index, 41)).collect());
    append(&log, (12..15).map(|index| entry(3, index, 13)).collect());
    let content = content(&log);
    (dir, content)
}
