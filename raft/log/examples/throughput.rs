//! How many entries a second become durable, and how long each waits.
//!
//! ```text
//! cargo run --release -p keelson-log --example throughput -- [appenders] [seconds] [payload bytes] [directory]
//! ```
//!
//! Each appender waits for its entry before it appends the next, as a client that puts would. The
//! entries' order is kept by a lock, as the consensus core would keep it.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use keelson_log::{DiskDir, LogId, Options, RaftLog, ThreadedLog};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |arg| arg.parse::<u64>());
    let (appenders, seconds, payload_bytes) = (number(64)?, number(5)?, number(300)?);
    let directory = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let scratch = directory.join(format!("keelson-log-throughput-{}", std::process::id()));

    let (log, _) = RaftLog::open(DiskDir::open(&scratch)?, Options::default())?;
    let log = ThreadedLog::start(log)?;
    let next = Arc::new(Mutex::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let payload = Bytes::from(vec![0xAB; usize::try_from(payload_bytes)?]);
    let started = Instant::now();
    let threads: Vec<_> = (0..appenders)
        .map(|_| {
            let (log, next, stop, payload) = (
                log.log().clone(),
                Arc::clone(&next),
                Arc::clone(&stop),
                payload.clone(),
            );
            std::thread::spawn(move || {
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
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds));
    stop.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("no panic"))
        .collect();
    let elapsed = started.elapsed();
    log.shutdown()?;
    std::fs::remove_dir_all(&scratch)?;

    waits.sort_unstable();
    let at = |share: f64| {
        waits
            .get((waits.len() as f64 * share) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{appenders} appenders, {payload_bytes} bytes: {:.0} entries/s, wait p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        waits.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        waits.last().copied().unwrap_or_default(),
    );
    Ok(())
}
