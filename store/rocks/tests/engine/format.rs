//! The golden fixture: a store in format 1, as it was written when the format was fixed, must still open and read the same.
//!
//! `KEELSON_FIXTURE=directory cargo test --release -p keelson-rocks --test engine -- --ignored` writes one:
//! for a new format, beside the old ones, which stay.

use keelson_proto::commandpb::{Command, Membership, Node, Voters, command::Request};
use keelson_proto::etcdserverpb::request_op::Request as Op;
use keelson_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use keelson_rocks::{Options, RocksEngine};
use keelson_store::engine::Engine;
use keelson_store::{Entry, EventKind, LeaseId, LogId, Payload, Revision, Store};
use prost::Message;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..PutRequest::default()
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..DeleteRangeRequest::default()
    }
}

/// What the fixture's store was told, entry by entry. Not to be changed: the fixture was written by it.
fn entries() -> Vec<Entry> {
    let membership = Membership {
        configs: vec![Voters { ids: vec![7] }],
        nodes: vec![Node {
            id: 7,
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            pending_voter: false,
        }],
    };
    let ops = [
        Op::RequestPut(put("txn/a", "1", 0)),
        Op::RequestPut(put("txn/b", "2", 0)),
    ];
    let success = ops.map(|op| RequestOp { request: Some(op) }).to_vec();
    let requests = [
        Request::LeaseGrant(LeaseGrantRequest { id: 42, ttl: 60 }),
        Request::Put(put("a", "first", 0)),
        Request::Put(put("a", "second", 0)),
        Request::Put(put("leased", "value", 42)),
        Request::Compact(CompactionRequest {
            revision: 3,
            physical: false,
        }),
        Request::Txn(TxnRequest {
            success,
            ..TxnRequest::default()
        }),
        Request::Put(put("gone\0and\u{1}odd", "x", 0)),
        Request::DeleteRange(delete("gone\0and\u{1}odd")),
        Request::Put(put("a", "third", 0)),
    ];
    let commands = requests.into_iter().map(|request| {
        let command = Command {
            request: Some(request),
            member: 7,
            ..Command::default()
        };
        Payload::Command(command.encode_to_vec().into())
    });
    let many = (0..300)
        .map(|n| Request::Put(put(&format!("many/{n:03}"), &"v".repeat(n), 0)))
        .map(|request| {
            let command = Command {
                request: Some(request),
                member: 7,
                ..Command::default()
            };
            Payload::Command(command.encode_to_vec().into())
        });
    let payloads = [Payload::Blank, Payload::Membership(membership)]
        .into_iter()
        .chain(commands)
        .chain(many);
    payloads
        .zip(1..)
        .map(|(payload, index)| Entry {
            id: LogId { term: 3, index },
            payload,
        })
        .collect()
}

fn write_store(path: &Path) {
    let engine = Arc::new(RocksEngine::open(path, Options::default()).unwrap());
    let mut store = Store::open(engine.clone(), keelson_store::Options::default()).unwrap();
    let applied = store.apply(&entries()).unwrap();
    assert!(
        applied
            .outcomes
            .iter()
            .all(|outcome| outcome.result.is_ok()),
        "{:?}",
        applied.outcomes
    );
    engine.flush().unwrap();
}

/// Files that say nothing that a store needs.
fn is_needed(name: &str) -> bool {
    !(name.starts_with("LOG")
        || name.starts_with("OPTIONS-")
        || name.ends_with(".log")
        || name == "LOCK")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if is_needed(entry.file_name().to_str().unwrap()) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
#[ignore = "writes a fixture, for a new format"]
fn write_the_fixture() {
    let directory = TempDir::new().unwrap();
    write_store(directory.path());
    let into = std::env::var_os("KEELSON_FIXTURE").expect("KEELSON_FIXTURE says where to");
    copy(directory.path(), Path::new(&into));
}

/// Reads all that [`entries`] wrote.
fn assert_reads_the_same(path: &Path) {
    let engine = Arc::new(RocksEngine::open(path, Options::default()).unwrap());
    let store = Store::open(engine, keelson_store::Options::default()).unwrap();
    let (applied, membership) = store.applied();
    assert_eq!(
        applied,
        Some(LogId {
            term: 3,
            index: 311
        })
    );
    assert_eq!(
        membership.membership.unwrap().nodes[0].peer_urls,
        ["http://127.0.0.1:2380"]
    );

    let now = store.reader().now();
    assert_eq!((now.revision, now.compacted), (Revision(308), Revision(3)));
    let range = |key: &str, end: &str, revision: i64| {
        let r = RangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            revision,
            ..RangeRequest::default()
        };
        now.range(&r).unwrap()
    };
    let a = now.get(b"a").unwrap().unwrap();
    assert_eq!(
        (&a.value[..], a.create_revision, a.mod_revision, a.version),
        (&b"third"[..], 2, 8, 3)
    );
    assert_eq!(range("a", "", 3).kvs[0].value, "second");
    assert_eq!(range("gone", "h", 6).kvs[0].key, "gone\0and\u{1}odd");
    assert_eq!(range("gone", "h", 0).kvs, []);
    assert_eq!(range("txn/", "txn0", 5).count, 2);
    assert_eq!(range("\0", "\0", 0).count, 304);
    assert_eq!(range("many/150", "many0", 0).count, 150);

    assert_eq!(now.lease(LeaseId(42)).unwrap(), Some(60));
    assert_eq!(now.lease_keys(LeaseId(42)).unwrap(), ["leased"]);
    let events = now.events_from(Revision(3), usize::MAX, 6).unwrap();
    let seen: Vec<(i64, u32, &[u8])> = events
        .iter()
        .map(|e| (e.revision.0, e.sub, &e.key[..]))
        .collect();
    let expected: [(i64, u32, &[u8]); 7] = [
        (3, 0, b"a"),
        (4, 0, b"leased"),
        (5, 0, b"txn/a"),
        (5, 1, b"txn/b"),
        (6, 0, b"gone\0and\x01odd"),
        (7, 0, b"gone\0and\x01odd"),
        (8, 0, b"a"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(events[5].kind, EventKind::Delete);
}

#[test]
fn a_store_of_format_1_still_opens_and_reads_the_same() {
    // Cargo runs tests in their package's directory.
    let fixture = Path::new("tests/fixtures/format-1");
    let directory = TempDir::new().unwrap();
    // Opening writes.
    copy(fixture, directory.path());
    assert_reads_the_same(directory.path());
}

#[test]
fn a_store_written_today_reads_as_the_fixture_does() {
    let directory = TempDir::new().unwrap();
    write_store(directory.path());
    assert_reads_the_same(directory.path());
}
