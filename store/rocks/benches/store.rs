//! What the store costs on RocksDB, without consensus and without a network: `make micro`.
//!
//! What applies begins with a store of its own each time, so that no sample finds more history than another. Every outcome
//! is looked at.

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use keelson_proto::commandpb::{Command, command::Request};
use keelson_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, compare, request_op,
};
use keelson_rocks::{Options, RocksEngine};
use keelson_store::{Entry, LogId, Outcome, Payload, Reader, Reply, Store};
use prost::Message;
use tempfile::TempDir;

const VALUE_BYTES: usize = 256;
/// How many commands a sample applies, and how many keys it finds there.
const COMMANDS: usize = 10_000;
/// How many of them are applied at once: one client's, and many clients'.
const BATCHES: [usize; 2] = [1, 100];
/// How many keys there are to read.
const KEYS: usize = 100_000;

fn main() {
    divan::main();
}

#[divan::bench(args = BATCHES, sample_count = 10, sample_size = 1)]
fn apply_put_of_new_key(bencher: Bencher<'_, '_>, batch: usize) {
    apply(bencher, batch, |n| put(COMMANDS + n));
}

#[divan::bench(args = BATCHES, sample_count = 10, sample_size = 1)]
fn apply_put_over_key(bencher: Bencher<'_, '_>, batch: usize) {
    apply(bencher, batch, put);
}

#[divan::bench(args = BATCHES, sample_count = 10, sample_size = 1)]
fn apply_guarded_put(bencher: Bencher<'_, '_>, batch: usize) {
    apply(bencher, batch, guarded_put);
}

fn apply(bencher: Bencher<'_, '_>, batch: usize, request: impl Fn(usize) -> Request) {
    let requests: Vec<Request> = (0..COMMANDS).map(request).collect();
    let begin = || {
        let loaded = Loaded::new(COMMANDS);
        let batches = loaded.batches(&requests, batch);
        (loaded, batches)
    };
    bencher
        .counter(ItemsCount::new(COMMANDS))
        .with_inputs(begin)
        .bench_local_refs(|(loaded, batches)| {
            batches.iter().for_each(|batch| loaded.apply(batch));
        });
}

#[divan::bench(sample_size = 100)]
fn get(bencher: Bencher<'_, '_>) {
    let loaded = Loaded::new(KEYS);
    let reader = loaded.store.reader();
    // Far apart, one after the other, and all of them in the end: it has no divisor in common with their number.
    let mut number = 0;
    let next = || {
        number = (number + 61_803) % KEYS;
        RangeRequest {
            key: key(number).into(),
            ..RangeRequest::default()
        }
    };
    bencher.with_inputs(next).bench_local_refs(|request| {
        let found = range(&reader, request);
        assert_eq!(found.count, 1);
        found
    });
}

/// The first page of all keys, and one from their middle, each with the count of all that follow.
#[divan::bench(args = [0, KEYS / 2])]
fn page_of_500(bencher: Bencher<'_, '_>, first: usize) {
    let loaded = Loaded::new(KEYS);
    let reader = loaded.store.reader();
    let request = RangeRequest {
        limit: 500,
        ..all_from(first)
    };
    bencher.bench_local(|| {
        let found = range(&reader, &request);
        assert_eq!((found.kvs.len(), found.count), (500, (KEYS - first) as i64));
        found
    });
}

#[divan::bench]
fn count_of_50_000(bencher: Bencher<'_, '_>) {
    let loaded = Loaded::new(KEYS);
    let reader = loaded.store.reader();
    let request = RangeRequest {
        count_only: true,
        ..all_from(KEYS / 2)
    };
    bencher.bench_local(|| {
        let found = range(&reader, &request);
        assert_eq!(found.count, KEYS as i64 / 2);
        found
    });
}

fn range(reader: &Reader<RocksEngine>, request: &RangeRequest) -> RangeResponse {
    let found = reader.now().range(black_box(request));
    found.expect("RocksDB reads")
}

fn all_from(first: usize) -> RangeRequest {
    RangeRequest {
        key: key(first).into(),
        range_end: "/registry0".into(),
        ..RangeRequest::default()
    }
}

/// A store that has had so many keys put into it, one in each revision from 2 on.
struct Loaded {
    // Before its directory, which goes away with it.
    store: Store<RocksEngine>,
    _directory: TempDir,
}

impl Loaded {
    fn new(keys: usize) -> Loaded {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let engine = RocksEngine::open(directory.path().join("store"), Options::default());
        let engine = Arc::new(engine.expect("RocksDB opens"));
        let store = Store::open(engine, keelson_store::Options::default());
        let mut loaded = Loaded {
            store: store.expect("an empty store opens"),
            _directory: directory,
        };
        let puts: Vec<Request> = (0..keys).map(put).collect();
        for batch in loaded.batches(&puts, 500) {
            loaded.apply(&batch);
        }
        loaded
    }

    /// The log entries that carry these requests, from the one after the last that was applied on.
    fn batches(&self, requests: &[Request], size: usize) -> Vec<Vec<Entry>> {
        let last = self.store.applied().0.map_or(0, |id| id.index);
        let entries: Vec<Entry> = (last + 1..)
            .zip(requests)
            .map(|(index, request)| {
                let command = Command {
                    request: Some(request.clone()),
                    ..Command::default()
                };
                Entry {
                    id: LogId { term: 1, index },
                    payload: Payload::Command(command.encode_to_vec().into()),
                }
            })
            .collect();
        entries.chunks(size).map(<[Entry]>::to_vec).collect()
    }

    fn apply(&mut self, entries: &[Entry]) {
        let applied = self.store.apply(black_box(entries));
        let applied = applied.expect("RocksDB writes");
        assert_eq!(applied.events.len(), entries.len());
        assert!(applied.outcomes.iter().all(has_written));
        black_box(applied);
    }
}

fn has_written(outcome: &Outcome) -> bool {
    match &outcome.result {
        Ok(Reply::Put(_)) => true,
        Ok(Reply::Txn(reply)) => reply.succeeded,
        _ => false,
    }
}

/// In the order of their numbers.
fn key(n: usize) -> String {
    format!("/registry/pods/namespace-{:03}/pod-{n:09}", n * 200 / KEYS)
}

fn put(n: usize) -> Request {
    Request::Put(put_request(n))
}

fn put_request(n: usize) -> PutRequest {
    PutRequest {
        key: key(n).into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        ..PutRequest::default()
    }
}

/// As Kubernetes updates: puts the key if it is at the revision at which it was loaded, and reads it if not.
fn guarded_put(n: usize) -> Request {
    let is_as_loaded = Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key(n).into(),
        target_union: Some(compare::TargetUnion::ModRevision(2 + n as i64)),
        ..Compare::default()
    };
    let read = RangeRequest {
        key: key(n).into(),
        ..RangeRequest::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    Request::Txn(TxnRequest {
        compare: vec![is_as_loaded],
        success: vec![operation(request_op::Request::RequestPut(put_request(n)))],
        failure: vec![operation(request_op::Request::RequestRange(read))],
    })
}
