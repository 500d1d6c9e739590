//! Readers beside the one that applies, as in a member: what a state says does not depend on what is written, compacted and
//! flushed while it is read. The engine in memory drops history from every view the moment it may.

mod common;

use common::*;
use keelson_store::engine::Engine;
use keelson_store::memory::MemoryEngine;
use keelson_store::{RangeStream, ReadError, Reader, Refusal};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Enough for several blocks of counts, and for several kept roots.
const KEYS: i64 = 700;
const REVISIONS: i64 = 6_000;

/// Numbers that look random, from a seed.
fn mix(seed: i64) -> i64 {
    let z = (seed as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as i64
}

fn key(number: i64) -> String {
    format!("k{:04}", number.rem_euclid(KEYS))
}

/// The keys and the revisions of their values, as each revision left them.
type States = Vec<BTreeMap<String, i64>>;

/// What makes each revision from 2 on, and the states that it makes: mostly puts, and now and then ranges of deletes.
fn history() -> (Vec<Request>, States) {
    let mut states: States = vec![BTreeMap::new(); 2];
    let mut requests = Vec::new();
    for revision in 2..=REVISIONS {
        let mut state = states.last().expect("the first two are there").clone();
        let from = mix(revision) % KEYS;
        let gone: Vec<String> = state
            .range(key(from)..key((from + 5).min(KEYS - 1)).max(key(from)))
            .map(|(key, _)| key.clone())
            .collect();
        if mix(-revision) % 4 == 0 && !gone.is_empty() {
            requests.push(delete(&key(from), &key((from + 5).min(KEYS - 1))));
            gone.iter().for_each(|key| {
                state.remove(key);
            });
        } else {
            requests.push(put(&key(from), &revision.to_string()));
            state.insert(key(from), revision);
        }
        states.push(state);
    }
    (requests, states)
}

/// Reads a random page, or a whole range in chunks, at a random revision that can be read, and compares.
fn read_once(reader: &Reader<MemoryEngine>, states: &States, seed: i64) {
    let now = reader.now();
    let oldest = now.compacted.0.max(1);
    let at = oldest + mix(seed) % (now.revision.0 - oldest + 1);
    let (from, to) = (mix(seed + 1) % KEYS, mix(seed + 2) % KEYS);
    let (from, to) = (key(from.min(to)), key(from.max(to)));
    let expected: Vec<(String, String)> = states[at as usize]
        .range(from.clone()..to.clone())
        .map(|(key, value)| (key.clone(), value.to_string()))
        .collect();
    let shown = |kvs: &[keelson_proto::mvccpb::KeyValue]| -> Vec<(String, String)> {
        kvs.iter()
            .map(|kv| (text(&kv.key), text(&kv.value)))
            .collect()
    };

    let limit = 1 + mix(seed + 3) % 20;
    let mut request = range_at(&from, &to, at);
    request.limit = limit;
    let page = now.range(&request).expect("it is not compacted");
    let first = &expected[..expected.len().min(limit as usize)];
    assert_eq!(shown(&page.kvs), first, "at {at} of {}", now.revision);
    assert_eq!(page.count, expected.len() as i64, "at {at}");
    drop(now);

    request.limit = 0;
    let mut stream = match reader.range_stream(&request) {
        Ok(stream) => stream,
        Err(ReadError::Refused(Refusal::Compacted)) => return,
        Err(error) => panic!("{error}"),
    };
    assert!(RangeStream::<MemoryEngine>::can(&request));
    let mut found = Vec::new();
    loop {
        match stream.next_chunk() {
            Ok(Some(chunk)) => found.extend(shown(&decoded(chunk.range).kvs)),
            Ok(None) => break,
            Err(ReadError::Refused(Refusal::Compacted)) => return,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(found, expected, "at {at}");
}

/// Tells the others to end, also when the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_state_reads_the_same_whatever_is_applied_compacted_and_flushed_meanwhile() {
    let (requests, states) = history();
    let mut fixture = fixture();
    let reader = fixture.store.reader();
    let engine = fixture.engine.clone();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = Done(&done);
        for number in 0..3_i64 {
            let (reader, states, done) = (&reader, &states, &done);
            scope.spawn(move || {
                for read in 0.. {
                    read_once(reader, states, (number << 32) + 10 * read);
                    if read > 50 && done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                engine.flush().expect("memory does not fail");
                engine.compact_files().expect("memory does not fail");
                thread::yield_now();
            }
        });
        let mut rest = requests.as_slice();
        let mut batch = 0;
        while !rest.is_empty() {
            batch += 1;
            let (next, after) =
                rest.split_at((1 + mix(batch) % 12).min(rest.len() as i64) as usize);
            rest = after;
            let mut next = next.to_vec();
            if batch % 20 == 0 {
                let now = fixture.now();
                let back = mix(-batch) % 1_500;
                next.push(compact((now.revision.0 - back).max(now.compacted.0 + 1)));
            }
            let applied = fixture.apply(next);
            assert!(
                applied
                    .outcomes
                    .iter()
                    .all(|outcome| outcome.result.is_ok())
            );
        }
    });
    assert_eq!(fixture.revision(), REVISIONS);
}
