//! Counts on the disk lag behind the keys; a start makes up for it from the log.

mod common;

use common::*;
use keelson_proto::commandpb::State;
use keelson_store::engine::{Cursor, Engine, Family, View};
use keelson_store::memory::MemoryEngine;
use keelson_store::*;

/// What a start finds, having asserted that it counts what it has.
fn start(f: &Fixture) -> State {
    let store = Store::open(f.engine.clone(), Options::default()).unwrap();
    let now = store.reader().now();
    let all = now.range(&range_at("\0", "\0", 0)).unwrap();
    assert_eq!(all.count, all.kvs.len() as i64);
    assert_eq!(now.state(), f.now().state());
    now.state().clone()
}

fn records(engine: &MemoryEngine) -> usize {
    let view = engine.view().unwrap();
    let mut cursor = view.cursor(Family::Counts, b"", None);
    let mut records = 0;
    while cursor.next().unwrap().is_some() {
        records += 1;
    }
    records
}

#[test]
fn a_start_counts_what_has_come_and_gone_since_the_counts_were_written() {
    let mut f = fixture();
    f.apply((0..600).map(|n| put(&format!("{n:04}"), "")));
    assert_eq!(records(&f.engine), 0);
    assert_eq!(start(&f).keys, 600);
    f.apply([
        delete("0100", "0300"),
        put("0200", ""),
        put("0200", "again"),
    ]);
    assert_eq!(start(&f).keys, 401);
    f.apply([compact(600)]);
    assert!(records(&f.engine) > 1);
    f.apply([delete("0200", ""), put("0300", "again"), put("0700", "")]);
    assert_eq!(start(&f).keys, 401);
}

#[test]
fn compaction_leaves_nothing_to_make_up_for() {
    let mut f = fixture();
    f.apply([put("a", ""), put("b", "")]);
    assert_eq!(start(&f).counted, 1);
    // Up to the last revision, whose log stays, in a batch that goes on.
    f.apply([compact(3), put("c", "")]);
    let state = start(&f);
    assert_eq!((state.revision, state.counted, state.keys), (4, 4, 3));
}

#[test]
fn a_start_never_has_much_to_make_up_for() {
    let mut f = fixture();
    let value = "v".repeat(100_000);
    for n in 0..100 {
        f.apply([put(&format!("{n:04}"), &value)]);
        let state = f.now().state().clone();
        assert!((state.revision - state.counted) * 100_000 <= 5 << 20);
    }
    assert!(start(&f).counted > 1);
}
