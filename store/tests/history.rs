//! Compaction, events of the past, hashes and streams, rule by rule.

mod common;

use common::*;
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use keelson_store::*;

fn refusal<T: std::fmt::Debug>(result: Result<T, ReadError>) -> Refusal {
    match result.unwrap_err() {
        ReadError::Refused(refusal) => refusal,
        ReadError::Engine(error) => panic!("{error}"),
    }
}

/// Ten revisions of two keys.
fn busy() -> Fixture {
    let mut f = fixture();
    f.apply((0..10).map(|n| put(if n % 2 == 0 { "a" } else { "b" }, &n.to_string())));
    f
}

#[test]
fn the_compacted_revision_itself_can_be_read_and_what_lies_before_cannot() {
    let mut f = busy();
    f.run(compact(6)).unwrap();
    assert_eq!(
        f.list(&range_at("a", "\0", 6)),
        [("a".into(), "4".into()), ("b".into(), "3".into())]
    );
    assert_eq!(
        refusal(f.now().range(&range_at("a", "", 5))),
        Refusal::Compacted
    );
    assert_eq!(
        refusal(f.now().range(&range_at("a", "", 12))),
        Refusal::FutureRevision
    );
}

#[test]
fn compacting_at_or_below_the_compacted_revision_or_in_the_future_is_refused() {
    let mut f = busy();
    f.run(compact(6)).unwrap();
    assert_eq!(f.run(compact(6)), Err(Refusal::Compacted));
    assert_eq!(f.run(compact(0)), Err(Refusal::Compacted));
    assert_eq!(f.run(compact(12)), Err(Refusal::FutureRevision));
    f.run(compact(11)).unwrap();
    assert_eq!(f.list(&range("a", "\0")).len(), 2);
}

#[test]
fn an_empty_store_can_be_compacted() {
    let mut f = fixture();
    assert_eq!(f.now().compacted, Revision(-1));
    assert_eq!(f.run(compact(-1)), Err(Refusal::Compacted));
    f.run(compact(0)).unwrap();
    f.run(compact(1)).unwrap();
    f.run(put("a", "1")).unwrap();
    assert_eq!(f.list(&range("a", "")).len(), 1);
}

#[test]
fn a_reader_that_holds_a_state_reads_its_history_whatever_is_compacted_meanwhile() {
    let mut f = busy();
    let held = f.now();
    f.run(compact(11)).unwrap();
    f.flush();
    f.run(put("c", "1")).unwrap();
    let found = held.range(&range_at("a", "\0", 5)).unwrap();
    let values: Vec<String> = found.kvs.iter().map(|kv| text(&kv.value)).collect();
    assert_eq!(values, ["2", "3"]);
}

#[test]
fn a_compaction_that_a_crash_undid_has_cost_no_history() {
    let mut f = busy();
    f.flush();
    f.apply([compact(11)]);
    f.apply([put("c", "1")]);
    f.crash();
    assert_eq!(
        f.list(&range_at("a", "\0", 5)),
        [("a".into(), "2".into()), ("b".into(), "3".into())]
    );
}

#[test]
fn events_are_given_from_the_compacted_revision_on() {
    let mut f = busy();
    f.run(compact(6)).unwrap();
    let now = f.now();
    assert_eq!(
        refusal(now.events_from(Revision(5), 1000, 1000)),
        Refusal::Compacted
    );
    let events = now.events_from(Revision(6), 1000, 1000).unwrap();
    assert_eq!((events.len(), events[0].revision), (6, Revision(6)));
    assert!(
        now.events_from(Revision(12), 1000, 1000)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_revision_is_never_split_however_large_it_is() {
    let mut f = fixture();
    f.apply([
        txn(then((0..50).map(|n| put_op(&format!("{n}"), "0123456789")))),
        put("z", ""),
    ]);
    let events = f.now().events_from(Revision(2), 100, 1000).unwrap();
    assert_eq!(events.len(), 50);
}

#[test]
fn a_hash_depends_on_what_can_be_read_and_not_on_how_it_came_to_disk() {
    let mut one = busy();
    let mut two = fixture();
    for n in 0..10 {
        two.apply([put(if n % 2 == 0 { "a" } else { "b" }, &n.to_string())]);
    }
    let hash = |f: &Fixture, at| f.now().hash_kv(Some(Revision(at))).unwrap();
    assert_eq!(hash(&one, 8), hash(&two, 8));
    let before = hash(&one, 8).hash;
    one.run(put("a", "more")).unwrap();
    assert_eq!(hash(&one, 8).hash, before, "later changes do not count");
    assert_ne!(hash(&one, 12).hash, hash(&two, 11).hash);
    for f in [&mut one, &mut two] {
        f.run(compact(7)).unwrap();
    }
    assert_eq!(hash(&one, 8), hash(&two, 8));
    assert_ne!(
        hash(&one, 8).hash,
        before,
        "what was compacted does not count"
    );
    assert_eq!(
        refusal(one.now().hash_kv(Some(Revision(6)))),
        Refusal::Compacted
    );
    assert_eq!(
        refusal(one.now().hash_kv(Some(Revision(13)))),
        Refusal::FutureRevision
    );
}

/// 3,000 keys with values of 2,000 bytes.
fn large() -> Fixture {
    let mut f = fixture();
    let value = "v".repeat(2_000);
    f.apply((0..3_000).map(|n| put(&format!("{n:05}"), &value)));
    f
}

fn chunks(
    f: &mut Fixture,
    r: &RangeRequest,
    mut between: impl FnMut(&mut Fixture),
) -> Vec<RangeResponse> {
    let mut stream = f.store.reader().range_stream(r).unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        let header = chunk.last_of.map(|revision| ResponseHeader {
            revision: revision.0,
            ..ResponseHeader::default()
        });
        chunks.push(RangeResponse {
            header,
            ..decoded(chunk.range)
        });
        between(f);
    }
    chunks
}

#[test]
fn a_stream_comes_in_chunks_of_one_revision_and_the_last_bears_the_header() {
    let mut f = large();
    let all = chunks(&mut f, &range("0", "\0"), |f| {
        f.apply([put("00000x", "late"), delete("02999", "")]);
    });
    assert!(all.len() > 4, "six megabytes do not come at once");
    let keys: usize = all.iter().map(|chunk| chunk.kvs.len()).sum();
    assert_eq!(keys, 3_000);
    let (last, others) = all.split_last().unwrap();
    assert!(
        others
            .iter()
            .all(|chunk| chunk.header.is_none() && chunk.count == 0 && !chunk.more)
    );
    assert_eq!(
        (
            last.header.as_ref().unwrap().revision,
            last.count,
            last.more
        ),
        (3_001, 3_000, false)
    );
}

#[test]
fn a_stream_with_a_limit_counts_what_it_does_not_send() {
    let mut f = large();
    let all = chunks(
        &mut f,
        &RangeRequest {
            limit: 1_200,
            ..range("0", "\0")
        },
        |_| {},
    );
    let last = all.last().unwrap();
    assert_eq!(
        all.iter().map(|chunk| chunk.kvs.len()).sum::<usize>(),
        1_200
    );
    assert_eq!((last.count, last.more), (3_000, true));
}

#[test]
fn a_compaction_past_its_revision_ends_a_stream() {
    let mut f = large();
    let mut stream = f.store.reader().range_stream(&range("0", "\0")).unwrap();
    stream.next_chunk().unwrap().unwrap();
    f.apply([put("a", "1"), compact(3_002)]);
    assert_eq!(refusal(stream.next_chunk()), Refusal::Compacted);
}

#[test]
fn a_page_of_the_past_counts_all_keys_of_its_revision() {
    let mut f = fixture();
    for batch in 0..30 {
        f.apply((0..200).map(|n| put(&format!("{:05}", batch * 200 + n), "")));
    }
    f.apply([delete("00000", "03000")]);
    f.apply((0..50).map(|n| put(&format!("x{n}"), "")));
    for (at, from, count) in [
        (1_001, "0", 1_000),
        (1_700, "01000", 699),
        (6_001, "0", 6_000),
        (6_002, "0", 3_000),
    ] {
        let r = RangeRequest {
            limit: 7,
            ..range_at(from, "\0", at)
        };
        let found = f.now().range(&r).unwrap();
        assert_eq!(
            (found.count, found.kvs.len(), found.more),
            (count, 7, true),
            "at {at} from {from}"
        );
    }
}
