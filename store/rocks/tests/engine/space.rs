//! What was dropped gives its space back, and no reader misses a record for it.

use crate::common::{OnDisk, small};
use keelson_rocks::RocksEngine;
use keelson_store::Revision;
use keelson_store::conformance::Subject;
use keelson_store::engine::{Batch, Cursor, Engine, Family, View};

fn log_key(revision: u64) -> Vec<u8> {
    [&revision.to_be_bytes()[..], &[0; 4]].concat()
}

/// Bytes that cannot be compressed, so that files have the size that was written.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn write_log(engine: &RocksEngine, revisions: std::ops::Range<u64>) {
    for revision in revisions {
        let mut batch = Batch::default();
        batch.put(Family::Log, log_key(revision), noise(revision, 1_000));
        engine.write(&batch).unwrap();
    }
}

fn truncate_below(engine: &RocksEngine, revision: u64) {
    let mut batch = Batch::default();
    batch.delete_range(Family::Log, log_key(0), log_key(revision));
    engine.write(&batch).unwrap();
}

fn revisions<V: View>(view: &V) -> Vec<u64> {
    let mut cursor = view.cursor(Family::Log, b"", None);
    let mut out = Vec::new();
    while let Some((key, _)) = cursor.next().unwrap() {
        out.push(u64::from_be_bytes(key[..8].try_into().unwrap()));
    }
    out
}

/// A log of 20,000 records of 1,000 bytes, in files below level 0.
fn long_log(subject: &OnDisk) {
    let engine = subject.engine();
    write_log(engine, 0..20_000);
    engine.compact_files().unwrap();
    assert!(engine.size().unwrap().on_disk > 20_000_000);
}

#[test]
fn a_truncated_log_frees_its_files_at_the_next_flush() {
    let subject = OnDisk::new();
    long_log(&subject);
    let engine = subject.engine();
    // The last record of a file may be the first to stay.
    truncate_below(engine, 19_999);
    engine.flush().unwrap();
    assert_eq!(revisions(&engine.view().unwrap()), [19_999]);
    let size = engine.size().unwrap();
    assert!(size.on_disk < 12_000_000, "{size:?}");
}

#[test]
fn an_older_view_keeps_the_truncated_log() {
    let subject = OnDisk::new();
    long_log(&subject);
    let engine = subject.engine();
    let view = engine.view().unwrap();
    let mut begun = view.cursor(Family::Log, b"", None);
    begun.next().unwrap().unwrap();
    truncate_below(engine, 19_990);
    engine.flush().unwrap();
    assert_eq!(revisions(&view).len(), 20_000);
    let mut rest = 0;
    while begun.next().unwrap().is_some() {
        rest += 1;
    }
    assert_eq!(rest, 19_999);
    assert!(engine.size().unwrap().on_disk > 20_000_000);

    drop(begun);
    drop(view);
    engine.flush().unwrap();
    assert!(engine.size().unwrap().on_disk < 12_000_000);
}

#[test]
fn a_crash_that_loses_a_truncation_finds_the_log_whole() {
    let mut subject = OnDisk::new();
    long_log(&subject);
    truncate_below(subject.engine(), 19_990);
    subject.crash();
    assert_eq!(revisions(&subject.engine().view().unwrap()).len(), 20_000);
}

#[test]
fn a_truncation_survives_a_crash_once_it_is_flushed() {
    let mut subject = OnDisk::new();
    long_log(&subject);
    truncate_below(subject.engine(), 19_990);
    subject.engine().flush().unwrap();
    subject.crash();
    assert_eq!(
        revisions(&subject.engine().view().unwrap()),
        (19_990..20_000).collect::<Vec<_>>()
    );
}

#[test]
fn history_at_or_below_the_floor_goes_when_files_are_compacted() {
    let subject = OnDisk::new();
    let engine = subject.engine();
    let record =
        |revision: i64, sub: u8| [b"key", &revision.to_be_bytes()[..], &[0, 0, 0, sub]].concat();
    let write = |revisions: std::ops::RangeInclusive<i64>| {
        let mut batch = Batch::default();
        revisions.for_each(|n| (0..2).for_each(|sub| batch.put(Family::Hist, record(n, sub), "")));
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
    };
    let left = || {
        let view = engine.view().unwrap();
        let mut cursor = view.cursor(Family::Hist, b"", None);
        let mut out = Vec::new();
        while let Some((key, _)) = cursor.next().unwrap() {
            out.push(key.to_vec());
        }
        out
    };
    write(1..=100);
    engine.set_history_floor(Revision(60));
    engine.compact_files().unwrap();
    let expected: Vec<Vec<u8>> = (61..=100)
        .flat_map(|n| [record(n, 0), record(n, 1)])
        .collect();
    assert_eq!(left(), expected);
    engine.set_history_floor(Revision(100));
    engine.compact_files().unwrap();
    assert_eq!(left(), Vec::<Vec<u8>>::new());
}

#[test]
fn overwritten_values_give_their_space_back_when_files_are_compacted() {
    let subject = OnDisk::new();
    let engine = subject.engine();
    for round in 0..10 {
        for key in 0..1_000u64 {
            let mut batch = Batch::default();
            batch.put(
                Family::Latest,
                key.to_be_bytes().to_vec(),
                noise(key + 1_000 * round, 1_000),
            );
            engine.write(&batch).unwrap();
        }
        engine.flush().unwrap();
    }
    engine.compact_files().unwrap();
    let size = engine.size().unwrap();
    assert!((1_000_000..4_000_000).contains(&size.on_disk), "{size:?}");
    assert!(
        (1_000_000..=size.on_disk).contains(&size.in_use),
        "{size:?}"
    );
}

#[test]
fn memory_for_writes_stays_within_its_budget() {
    let directory = tempfile::TempDir::new().unwrap();
    let options = small();
    let engine = RocksEngine::open(directory.path(), options.clone()).unwrap();
    let mut largest = 0;
    for n in 0..20_000u64 {
        let mut batch = Batch::default();
        batch.put(Family::Latest, n.to_be_bytes().to_vec(), noise(n, 1_000));
        batch.put(Family::Log, log_key(n), noise(n, 1_000));
        engine.write(&batch).unwrap();
        largest = largest.max(engine.stats().unwrap().write_buffer_bytes);
    }
    assert!(largest > 0);
    assert!(
        largest <= 3 * options.write_buffer_bytes as u64 / 2,
        "{largest} bytes"
    );
    assert!(
        engine.size().unwrap().on_disk > 20_000_000,
        "most was flushed by the engine itself"
    );
}
