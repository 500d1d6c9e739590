//! What appending to the raft log costs, with the disk's sync and without: `make micro`.
//!
//! One entry at a time is what one client makes of it, a hundred in one step what many do. The log is on the disk of the
//! temporary directory. `examples/throughput.rs` measures who waits how long when many append at once.

use std::io;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use keelson_log::{DiskDir, DiskFile, LogDir, LogFile, LogId, Options, RaftLog};
use tempfile::TempDir;

const PAYLOAD_BYTES: usize = 256;
/// How many entries each step appends.
const BATCHES: [usize; 2] = [1, 100];
/// How many steps a sample makes.
const STEPS: usize = 100;

fn main() {
    divan::main();
}

#[divan::bench(args = BATCHES, sample_count = 20, sample_size = 1)]
fn append_and_sync(bencher: Bencher<'_, '_>, batch: usize) {
    append(bencher, batch, |disk| disk);
}

#[divan::bench(args = BATCHES, sample_count = 20, sample_size = 1)]
fn append_without_sync(bencher: Bencher<'_, '_>, batch: usize) {
    append(bencher, batch, Unsynced);
}

fn append<D: LogDir>(bencher: Bencher<'_, '_>, batch: usize, disk: impl Fn(DiskDir) -> D) {
    bencher
        .counter(ItemsCount::new(batch * STEPS))
        .with_inputs(|| Appending::new(&disk, batch))
        .bench_local_refs(Appending::run);
}

/// An empty log, and what is to be appended.
struct Appending<D: LogDir> {
    // Before its directory, which goes away with it.
    log: RaftLog<D>,
    batches: Vec<Vec<(LogId, Bytes)>>,
    _directory: TempDir,
}

impl<D: LogDir> Appending<D> {
    fn new(disk: impl Fn(DiskDir) -> D, batch: usize) -> Appending<D> {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let dir = DiskDir::open(directory.path().join("log")).expect("the log's directory opens");
        let (log, opened) = RaftLog::open(disk(dir), Options::default()).expect("a log opens");
        assert!(opened.fresh);
        let payload = Bytes::from(vec![0xAB; PAYLOAD_BYTES]);
        let entries: Vec<(LogId, Bytes)> = (0..(batch * STEPS) as u64)
            .map(|index| {
                let id = LogId {
                    term: 1,
                    node: 0,
                    index,
                };
                (id, payload.clone())
            })
            .collect();
        Appending {
            log,
            batches: entries.chunks(batch).map(<[_]>::to_vec).collect(),
            _directory: directory,
        }
    }

    /// What its thread does: a step for what was queued meanwhile.
    fn run(&mut self) {
        for batch in self.batches.drain(..) {
            let last = batch.last().map(|(id, _)| *id);
            let (told, outcome) = sync_channel(1);
            let done = Box::new(move |result| told.send(result).expect("it is waited for"));
            self.log.append(black_box(batch), done);
            self.log.step().run();
            outcome
                .try_recv()
                .expect("told by the step")
                .expect("written");
            assert_eq!(self.log.last(), last);
        }
    }
}

/// A disk that never syncs a file: what is left are encoding, checksums and the write.
struct Unsynced<T>(T);

impl LogDir for Unsynced<DiskDir> {
    type File = Unsynced<DiskFile>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Self::File> {
        self.0.create(name, size).map(Unsynced)
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.0.open(name).map(Unsynced)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

impl LogFile for Unsynced<DiskFile> {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
