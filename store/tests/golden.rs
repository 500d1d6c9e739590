//! The format that is on disks: records written by every version still open, and the last one is still what is written.

mod common;

use common::*;
use keelson_proto::commandpb::{ClusterInit, MemberAttributes, Membership, State, Voters};
use keelson_proto::etcdserverpb::{AlarmRequest, PutRequest};
use keelson_store::engine::{Batch, Cursor, Engine, Family, View};
use keelson_store::memory::MemoryEngine;
use keelson_store::*;
use std::fmt::Write;
use std::sync::Arc;

const GOLDEN: &str = include_str!("golden/v2.txt");
/// What version 1 wrote of the same.
const GOLDEN_V1: &str = include_str!("golden/v1.txt");

/// A bit of everything that leaves a record.
fn populated() -> Fixture {
    let mut f = fixture();
    for ids in [vec![1, 2, 3], vec![1, 2]] {
        let entry = f.payload(Payload::Membership(Membership {
            configs: vec![Voters { ids }],
            nodes: vec![],
        }));
        f.store.apply(&[entry]).unwrap();
    }
    f.apply([
        Request::ClusterInit(ClusterInit {
            cluster_id: 0x1234_5678_9abc_def0,
        }),
        Request::MemberAttributes(MemberAttributes {
            id: 1,
            name: "one".into(),
            client_urls: vec!["http://a:1".into()],
        }),
        grant(0x0102_0304_0506_0708, 60),
        Request::Put(PutRequest {
            lease: 0x0102_0304_0506_0708,
            ..put_request("leased", "value")
        }),
    ]);
    f.apply([
        put("a", "old"),
        put("a", "new"),
        put("a\0b", ""),
        put("b", "1"),
        delete("b", ""),
        put("b", "2"),
    ]);
    f.apply([
        txn(then([
            put_op("x", "1"),
            put_op("y", "2"),
            delete_op("a", ""),
        ])),
        compact(5),
    ]);
    f.apply([Request::Alarm(AlarmRequest {
        action: 1,
        member_id: 1,
        alarm: 1,
    })]);
    f
}

/// One record a line: family, key, value.
fn dump(engine: &MemoryEngine) -> String {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |out, byte| out + &format!("{byte:02x}"))
    };
    let view = engine.view().unwrap();
    let mut out = String::new();
    for family in Family::ALL {
        let mut cursor = view.cursor(family, b"", None);
        while let Some((key, value)) = cursor.next().unwrap() {
            writeln!(out, "{} {} {}", family.name(), hex(key), hex(value)).unwrap();
        }
    }
    out
}

fn load(golden: &str) -> MemoryEngine {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    };
    let mut batch = Batch::default();
    for line in golden.lines() {
        let [family, key, value] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let family = Family::ALL
            .into_iter()
            .find(|known| known.name() == family)
            .unwrap();
        batch.put(family, bytes(key), bytes(value));
    }
    let engine = MemoryEngine::new();
    engine.write(&batch).unwrap();
    engine
}

#[test]
fn what_is_written_is_the_format_as_it_was_released() {
    let dumped = dump(&populated().engine);
    assert!(
        dumped == GOLDEN,
        "the format has changed; it is now\n{dumped}"
    );
}

#[test]
fn a_store_in_the_released_format_opens_and_goes_on() {
    let expected = populated().now();
    opens_and_goes_on(GOLDEN, expected.state());
}

#[test]
fn a_store_in_an_older_format_opens_and_goes_on_in_the_new_one() {
    let expected = populated().now();
    // Its counts were always those of the state.
    let state = State {
        counted: 9,
        ..expected.state().clone()
    };
    let engine = opens_and_goes_on(GOLDEN_V1, &state);
    let format = engine.view().unwrap().get(Family::Meta, b"f").unwrap();
    assert_eq!(format.unwrap(), [0, 0, 0, 2][..]);
    let mut store = Store::open(engine, Options::default()).unwrap();
    assert_eq!(store.reader().now().state().keys, 4);
    let mut f = populated();
    f.entry(delete("b", ""));
    let entry = f.entry(delete("x", ""));
    store.apply(&[entry]).unwrap();
}

fn opens_and_goes_on(golden: &str, state: &State) -> Arc<MemoryEngine> {
    let expected = populated().now();
    let engine = Arc::new(load(golden));
    let mut store = Store::open(engine.clone(), Options::default()).unwrap();
    let now = store.reader().now();
    assert_eq!(now.state(), state);
    assert_eq!((now.revision, now.compacted), (Revision(9), Revision(5)));
    for at in 5..=9 {
        let all = range_at("a", "\0", at);
        assert_eq!(now.range(&all).unwrap(), expected.range(&all).unwrap());
    }
    let events = |published: &Published<_>| {
        published
            .events_from(Revision(5), usize::MAX, usize::MAX)
            .unwrap()
    };
    assert_eq!(events(&now), events(&expected));
    assert_eq!(now.hash_kv(None).unwrap(), expected.hash_kv(None).unwrap());
    assert_eq!(now.hash_kv(None).unwrap().hash, 1_116_676_820);
    assert_eq!(
        now.lease_keys(LeaseId(0x0102_0304_0506_0708)).unwrap(),
        [b("leased")]
    );
    assert_eq!(now.removed_members().unwrap(), [MemberId(3)]);

    let mut f = populated();
    let entry = f.entry(delete("b", ""));
    assert_eq!(store.apply(&[entry]).unwrap().revision, Revision(10));
    engine
}
