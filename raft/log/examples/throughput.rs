//! How many entries a second become durable, in how many syncs, and how long each waits.
//!
//! ```text
//! cargo run --release -p keelson-log --example throughput -- [directory] [seconds a line]
//! ```
//!
//! Each appender waits for its entry before it appends the next, as a client that puts would. The entries' order is kept
//! by a lock, as the consensus core would keep it. The directory decides which disk is measured.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keelson_log::{DiskDir, DiskFile, LogDir, LogFile, LogId, Options, RaftLog, ThreadedLog};

const APPENDERS: [usize; 3] = [1, 16, 256];
const PAYLOAD_BYTES: [usize; 2] = [256, 4096];

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let directory = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.next().map_or(Ok(5), |arg| arg.parse())?;
    let scratch = directory.join(format!("keelson-log-throughput-{}", std::process::id()));

    println!("appenders  payload  appends/s   syncs/s    MiB/s        p50        p99");
    for payload_bytes in PAYLOAD_BYTES {
        for appenders in APPENDERS {
            let run = measure(
                &scratch,
                appenders,
                payload_bytes,
                Duration::from_secs(seconds),
            );
            std::fs::remove_dir_all(&scratch)?;
            run?.print(appenders, payload_bytes);
        }
    }
    Ok(())
}

/// What one run came to.
struct Run {
    elapsed: Duration,
    syncs: u64,
    /// How long each entry waited, the shortest first.
    waits: Vec<Duration>,
}

impl Run {
    fn print(&self, appenders: usize, payload_bytes: usize) {
        let a_second = |count: f64| count / self.elapsed.as_secs_f64();
        let appends = a_second(self.waits.len() as f64);
        println!(
            "{appenders:>9}  {payload_bytes:>7}  {appends:>9.0}  {:>8.0}  {:>7.2}  {:>9.1?}  {:>9.1?}",
            a_second(self.syncs as f64),
            appends * payload_bytes as f64 / f64::from(1 << 20),
            self.at(0.5),
            self.at(0.99),
        );
    }

    fn at(&self, share: f64) -> Duration {
        let place = (self.waits.len() as f64 * share) as usize;
        self.waits.get(place).copied().unwrap_or_default()
    }
}

fn measure(
    scratch: &Path,
    appenders: usize,
    payload_bytes: usize,
    lasting: Duration,
) -> Result<Run, Box<dyn Error>> {
    let dir = Counting::new(DiskDir::open(scratch)?);
    let syncs = dir.syncs.clone();
    let (log, _) = RaftLog::open(dir, Options::default())?;
    let log = ThreadedLog::start(log)?;
    let next = Arc::new(Mutex::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let payload = Bytes::from(vec![0xAB; payload_bytes]);

    let syncs_before = syncs.load(Ordering::Relaxed);
    let started = Instant::now();
    let threads: Vec<_> = (0..appenders)
        .map(|_| {
            let (log, next) = (log.log().clone(), Arc::clone(&next));
            let (stop, payload) = (Arc::clone(&stop), payload.clone());
            std::thread::spawn(move || append_until(&stop, &log, &next, &payload))
        })
        .collect();
    std::thread::sleep(lasting);
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no panic"))
        .collect();
    let elapsed = started.elapsed();
    let syncs = syncs.load(Ordering::Relaxed) - syncs_before;
    log.shutdown()?;
    waits.sort_unstable();
    Ok(Run {
        elapsed,
        syncs,
        waits,
    })
}

/// Appends one entry after the other; gives how long each took to become durable.
fn append_until<D: LogDir>(
    stop: &AtomicBool,
    log: &RaftLog<D>,
    next: &Mutex<u64>,
    payload: &Bytes,
) -> Vec<Duration> {
    let mut waits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (told, outcome) = sync_channel(1);
        let asked = Instant::now();
        {
            let mut next = next.lock().expect("no appender panics");
            let id = LogId {
                term: 1,
                node: 1,
                index: *next,
            };
            *next += 1;
            let done = Box::new(move |result| told.send(result).expect("waited for"));
            log.append(vec![(id, payload.clone())], done);
        }
        outcome.recv().expect("told").expect("durable");
        waits.push(asked.elapsed());
    }
    waits
}

/// A directory that counts the syncs of its files.
struct Counting<T> {
    inner: T,
    syncs: Arc<AtomicU64>,
}

impl<T> Counting<T> {
    fn new(inner: T) -> Self {
        Counting {
            inner,
            syncs: Arc::default(),
        }
    }
}

impl Counting<DiskDir> {
    fn file(&self, inner: DiskFile) -> Counting<DiskFile> {
        Counting {
            inner,
            syncs: self.syncs.clone(),
        }
    }
}

impl LogDir for Counting<DiskDir> {
    type File = Counting<DiskFile>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Self::File> {
        Ok(self.file(self.inner.create(name, size)?))
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        Ok(self.file(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }
}

impl LogFile for Counting<DiskFile> {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
