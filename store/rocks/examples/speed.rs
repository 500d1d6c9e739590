//! How fast the store applies and reads on RocksDB, without consensus and without a network.
//!
//! `cargo run --release -p keelson-rocks --example speed -- [keys [directory]]`

use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use keelson_rocks::{Options, RocksEngine};
use keelson_store::engine::{Batch, Engine, Family, View};
use keelson_store::{Entry, LogId, Payload, Store};
use prost::Message;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 256;
const BATCH: usize = 64;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let keys: u64 = args.next().map_or(Ok(500_000), |keys| keys.parse())?;
    let scratch;
    let directory = match args.next() {
        Some(directory) => PathBuf::from(directory),
        None => {
            scratch = tempfile::tempdir()?;
            scratch.path().to_path_buf()
        }
    };
    println!("{keys} keys, values of {VALUE_BYTES} bytes");
    println!(
        "{:<44} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "us/op", "cpu us/op", "p50 us", "p99 us", "max us"
    );
    engine_alone(&directory.join("engine"), keys)?;
    through_the_store(&directory.join("store"), keys)
}

/// Calls `op` `times` times, and prints how long it took for each of the `units` that a call is worth.
fn measure(
    name: &str,
    times: u64,
    units: usize,
    mut op: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut each = Vec::with_capacity(times as usize);
    let cpu_before = cpu_time()?;
    for n in 0..times {
        let begun = Instant::now();
        op(n)?;
        each.push(begun.elapsed());
    }
    let cpu = cpu_time()? - cpu_before;
    each.sort();
    let total: Duration = each.iter().sum();
    let per_unit = |time: Duration| time.as_secs_f64() * 1e6 / (times * units as u64) as f64;
    let us = |at: usize| each[at].as_secs_f64() * 1e6;
    println!(
        "{name:<44} {:>9.2} {:>9.2} {:>9.0} {:>9.0} {:>9.0}",
        per_unit(total),
        per_unit(cpu),
        us(each.len() / 2),
        us(each.len() * 99 / 100),
        us(each.len() - 1),
    );
    Ok(())
}

/// How long this thread has run on a processor: what others who share the machine do not disturb.
fn cpu_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = stat.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(ns.parse()?))
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Half of it can be compressed away, as in JSON.
    fn value(&mut self) -> Vec<u8> {
        let mut value = vec![b'{'; VALUE_BYTES];
        value
            .iter_mut()
            .step_by(2)
            .for_each(|byte| *byte = self.below(256) as u8);
        value
    }
}

fn key(n: u64) -> Vec<u8> {
    format!("/registry/pods/namespace-{:03}/pod-{n:09}", n % 200).into_bytes()
}

fn engine_alone(path: &Path, keys: u64) -> Result<()> {
    let engine = RocksEngine::open(path, Options::default())?;
    let mut numbers = Numbers(1);
    measure(
        "engine: write 64 puts, each",
        keys / BATCH as u64,
        BATCH,
        |n| {
            let mut batch = Batch::default();
            for i in 0..BATCH as u64 {
                batch.put(Family::Latest, key(n * BATCH as u64 + i), numbers.value());
            }
            Ok(engine.write(&batch)?)
        },
    )?;
    measure("engine: take a view", 100_000, 1, |_| {
        engine.view()?;
        Ok(())
    })?;
    let view = engine.view()?;
    measure("engine: get", 200_000, 1, |_| {
        let found = view.get(Family::Latest, &key(numbers.below(keys / 64 * 64)))?;
        found.map(drop).ok_or("a key is missing".into())
    })?;
    measure("engine: flush all", 1, 1, |_| Ok(engine.flush()?))
}

struct Applying {
    store: Store<RocksEngine>,
    index: u64,
}

impl Applying {
    fn open(path: &Path) -> Result<Applying> {
        let engine = Arc::new(RocksEngine::open(path, Options::default())?);
        let store = Store::open(engine, keelson_store::Options::default())?;
        let index = store.applied().0.map_or(0, |id| id.index);
        Ok(Applying { store, index })
    }

    fn apply(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<()> {
        let entries: Vec<Entry> = requests
            .into_iter()
            .map(|request| {
                self.index += 1;
                let command = Command {
                    request: Some(request),
                    ..Command::default()
                };
                Entry {
                    id: LogId {
                        term: 1,
                        index: self.index,
                    },
                    payload: Payload::Command(command.encode_to_vec().into()),
                }
            })
            .collect();
        let applied = self.store.apply(&entries)?;
        let refused = applied
            .outcomes
            .iter()
            .find(|outcome| outcome.result.is_err());
        refused.map_or(Ok(()), |refused| Err(format!("{refused:?}").into()))
    }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Request {
    Request::Put(PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    })
}

fn through_the_store(path: &Path, keys: u64) -> Result<()> {
    let keys = keys / BATCH as u64 * BATCH as u64;
    let mut numbers = Numbers(2);
    let mut applying = Applying::open(path)?;
    let batches = keys / BATCH as u64;
    measure("store: apply 64 new keys, each", batches, BATCH, |n| {
        let first = n * BATCH as u64;
        applying.apply((first..first + BATCH as u64).map(|n| put(key(n), numbers.value())))
    })?;
    measure("store: apply 64 overwrites, each", batches, BATCH, |_| {
        let requests: Vec<Request> = (0..BATCH)
            .map(|_| put(key(numbers.below(keys)), numbers.value()))
            .collect();
        applying.apply(requests)
    })?;
    measure("store: apply 1 overwrite", 20_000, 1, |_| {
        applying.apply([put(key(numbers.below(keys)), numbers.value())])
    })?;

    let reader = applying.store.reader();
    measure("store: get, from all keys", 200_000, 1, |_| {
        reader
            .now()
            .get(&key(numbers.below(keys)))?
            .map(drop)
            .ok_or("a key is missing".into())
    })?;
    measure(
        "store: list 500 of all keys and count them",
        2_000,
        1,
        |_| {
            let r = RangeRequest {
                key: key(numbers.below(keys)).into(),
                range_end: "0".into(),
                limit: 500,
                ..Default::default()
            };
            reader
                .now()
                .range(&r)
                .map(drop)
                .map_err(|error| error.to_string().into())
        },
    )?;
    let past = reader.now().revision.0 - 10_000;
    measure("store: list 500 at 10,000 revisions ago", 500, 1, |_| {
        let r = RangeRequest {
            key: key(numbers.below(keys)).into(),
            range_end: "0".into(),
            limit: 500,
            revision: past,
            ..Default::default()
        };
        reader
            .now()
            .range(&r)
            .map(drop)
            .map_err(|error| error.to_string().into())
    })?;

    let before = applying.store.engine().size()?;
    measure("store: compact to now", 1, 1, |_| {
        let revision = reader.now().revision.0;
        applying.apply([Request::Compact(CompactionRequest {
            revision,
            physical: false,
        })])
    })?;
    measure("store: flush", 1, 1, |_| {
        Ok(applying.store.engine().flush()?)
    })?;
    let after = applying.store.engine().size()?;
    println!(
        "on disk: {} before compaction, {} after it and a flush",
        mib(before.on_disk),
        mib(after.on_disk)
    );
    println!("engine: {:?}", applying.store.engine().stats()?);
    println!("resident: {}", resident()?);
    drop(reader);
    drop(applying);
    measure("store: open again", 1, 1, |_| {
        Applying::open(path)?;
        Ok(())
    })
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The memory of this process, now and at its peak.
fn resident() -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    Ok(lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", "))
}
