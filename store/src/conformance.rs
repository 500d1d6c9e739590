//! What every engine must do, as functions: the crates that implement [`Engine`] run them on theirs
//! through [`engine_conformance!`](crate::engine_conformance).
//!
//! **Leaves to others**: damage, sizes, and what only one engine promises.
#![expect(missing_docs, reason = "the functions' names say it")]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Revision;
use crate::engine::{Batch, Change, Cursor, Engine, Family, View};

/// How the suite gets at an engine and does to it what happens outside of the trait.
pub trait Subject {
    /// The engine.
    type Engine: Engine;

    /// The engine under test, empty at first.
    fn engine(&self) -> &Self::Engine;

    /// Loses what was not flushed, as a crash does. No view is alive.
    fn crash(&mut self);

    /// Opens what [`Engine::checkpoint`] made.
    fn restore(&self, from: &Path) -> Self::Engine;

    /// A path in an existing directory, where nothing is yet; another one for each name.
    fn scratch(&self, name: &str) -> PathBuf;
}

/// Makes a test of each function of the suite. Takes an expression that makes a [`Subject`].
#[macro_export]
macro_rules! engine_conformance {
    ($make:expr) => {
        $crate::engine_conformance!(@ $make,
            a_key_is_found_after_it_was_put_and_gone_after_it_was_deleted
            several_keys_read_together_are_what_each_is_by_itself
            families_do_not_share_keys
            empty_keys_and_values_are_kept
            changes_of_a_batch_take_effect_in_their_order
            a_range_delete_removes_from_the_first_key_up_to_the_last
            an_empty_range_delete_removes_nothing
            a_view_never_changes
            a_view_lives_on_after_its_engine_is_gone
            a_cursor_gives_the_keys_of_its_range_in_order
            a_cursor_of_an_empty_range_gives_nothing
            seeking_moves_forward_and_never_back
            a_crash_loses_what_was_not_flushed_and_nothing_else
            a_flush_makes_all_families_durable_together
            what_is_persisted_is_what_a_crash_would_leave
            a_checkpoint_is_an_engine_of_its_own
            a_checkpoint_under_writes_holds_whole_batches
            history_above_the_floor_stays
            compacting_changes_nothing_that_can_be_read
            random_batches_read_like_a_plain_map
        );
    };
    (@ $make:expr, $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $crate::conformance::$name($make);
            }
        )*
    };
}

const WRITABLE: &str = "the engine takes a batch";
const READABLE: &str = "the engine can be read";

fn write<E: Engine>(engine: &E, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    change(&mut batch);
    engine.write(&batch).expect(WRITABLE);
}

fn get<E: Engine>(engine: &E, family: Family, key: &str) -> Option<Bytes> {
    engine
        .view()
        .expect(READABLE)
        .get(family, key.as_bytes())
        .expect(READABLE)
}

/// All that a cursor still gives.
fn rest<C: Cursor>(cursor: &mut C) -> Vec<(Bytes, Bytes)> {
    let mut out = Vec::new();
    while let Some((key, value)) = cursor.next().expect(READABLE) {
        out.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
    }
    assert_eq!(
        cursor.next().expect(READABLE),
        None,
        "a cursor at its end stays there"
    );
    out
}

fn scan<V: View>(view: &V, family: Family, from: &[u8], to: Option<&[u8]>) -> Vec<(Bytes, Bytes)> {
    rest(&mut view.cursor(family, from, to))
}

fn keys<V: View>(view: &V, family: Family, from: &str, to: Option<&str>) -> Vec<String> {
    let entries = scan(view, family, from.as_bytes(), to.map(str::as_bytes));
    entries
        .iter()
        .map(|(key, _)| String::from_utf8_lossy(key).into_owned())
        .collect()
}

fn put_keys<E: Engine>(engine: &E, family: Family, keys: &[&'static str]) {
    write(engine, |batch| {
        keys.iter().for_each(|key| batch.put(family, *key, *key))
    });
}

/// Everything in an engine.
fn contents<E: Engine>(engine: &E) -> Vec<Vec<(Bytes, Bytes)>> {
    let view = engine.view().expect(READABLE);
    Family::ALL
        .iter()
        .map(|family| scan(&view, *family, b"", None))
        .collect()
}

pub fn a_key_is_found_after_it_was_put_and_gone_after_it_was_deleted<S: Subject>(subject: S) {
    let engine = subject.engine();
    assert_eq!(get(engine, Family::Latest, "a"), None);
    write(engine, |batch| batch.put(Family::Latest, "a", "1"));
    assert_eq!(get(engine, Family::Latest, "a"), Some(Bytes::from("1")));
    write(engine, |batch| batch.put(Family::Latest, "a", "2"));
    assert_eq!(get(engine, Family::Latest, "a"), Some(Bytes::from("2")));
    write(engine, |batch| {
        batch.delete(Family::Latest, "a");
        batch.delete(Family::Latest, "never-there");
    });
    assert_eq!(get(engine, Family::Latest, "a"), None);
}

pub fn several_keys_read_together_are_what_each_is_by_itself<S: Subject>(subject: S) {
    let engine = subject.engine();
    let key = |n: u32| format!("key-{n:04}");
    let put = |numbers: std::ops::Range<u32>, step: usize, value: &'static str| {
        write(engine, |batch| {
            let chosen = numbers.step_by(step);
            chosen.for_each(|n| batch.put(Family::Latest, key(n), value))
        });
    };
    put(0..400, 2, "old and flushed");
    engine.flush().expect("the engine flushes");
    put(0..400, 3, "newer");
    write(engine, |batch| {
        (0..400)
            .step_by(10)
            .for_each(|n| batch.delete(Family::Latest, key(n)))
    });
    let view = engine.view().expect(READABLE);
    put(0..500, 1, "later than the view");

    let keys: Vec<String> = (0..500).map(key).collect();
    for size in [0, 1, 2, 33, 500] {
        for some in keys.chunks(size.max(1)) {
            let some: Vec<&[u8]> = some.iter().take(size).map(String::as_bytes).collect();
            let together = view.get_many(Family::Latest, &some).expect(READABLE);
            let each = some.iter().map(|key| view.get(Family::Latest, key));
            let each: Vec<Option<Bytes>> = each.map(|found| found.expect(READABLE)).collect();
            assert_eq!(together, each);
        }
    }
}

pub fn families_do_not_share_keys<S: Subject>(subject: S) {
    let engine = subject.engine();
    for family in Family::ALL {
        write(engine, |batch| {
            batch.put(family, "key-of-some-length", family.name())
        });
    }
    for family in Family::ALL {
        assert_eq!(
            get(engine, family, "key-of-some-length"),
            Some(Bytes::from(family.name()))
        );
    }
    write(engine, |batch| batch.delete_range(Family::Log, "", "z"));
    assert_eq!(get(engine, Family::Log, "key-of-some-length"), None);
    assert_eq!(
        get(engine, Family::Meta, "key-of-some-length"),
        Some(Bytes::from("meta"))
    );
}

pub fn empty_keys_and_values_are_kept<S: Subject>(subject: S) {
    let engine = subject.engine();
    write(engine, |batch| {
        batch.put(Family::Counts, "", "value of the empty key");
        batch.put(Family::Counts, "empty value", "");
    });
    engine.flush().expect("the engine flushes");
    assert_eq!(
        get(engine, Family::Counts, ""),
        Some(Bytes::from("value of the empty key"))
    );
    assert_eq!(
        get(engine, Family::Counts, "empty value"),
        Some(Bytes::new())
    );
    assert_eq!(
        keys(&engine.view().expect(READABLE), Family::Counts, "", None),
        ["", "empty value"]
    );
}

pub fn changes_of_a_batch_take_effect_in_their_order<S: Subject>(subject: S) {
    let engine = subject.engine();
    write(engine, |batch| {
        batch.put(Family::Log, "put-put", "1");
        batch.put(Family::Log, "put-put", "2");
        batch.put(Family::Log, "put-delete", "1");
        batch.delete(Family::Log, "put-delete");
        batch.delete(Family::Log, "delete-put");
        batch.put(Family::Log, "delete-put", "1");
        batch.put(Family::Log, "range-1", "1");
        batch.delete_range(Family::Log, "range-1", "range-3");
        batch.put(Family::Log, "range-2", "1");
    });
    let view = engine.view().expect(READABLE);
    assert_eq!(
        keys(&view, Family::Log, "", None),
        ["delete-put", "put-put", "range-2"]
    );
    assert_eq!(
        view.get(Family::Log, b"put-put").expect(READABLE),
        Some(Bytes::from("2"))
    );
}

pub fn a_range_delete_removes_from_the_first_key_up_to_the_last<S: Subject>(subject: S) {
    let engine = subject.engine();
    put_keys(engine, Family::Log, &["a", "b", "b0", "c", "d"]);
    engine.flush().expect("the engine flushes");
    write(engine, |batch| batch.delete_range(Family::Log, "b", "c"));
    let left = ["a", "c", "d"];
    assert_eq!(
        keys(&engine.view().expect(READABLE), Family::Log, "", None),
        left
    );
    assert_eq!(get(engine, Family::Log, "b"), None);
    engine.flush().expect("the engine flushes");
    assert_eq!(
        keys(&engine.view().expect(READABLE), Family::Log, "", None),
        left
    );
    put_keys(engine, Family::Log, &["b"]);
    assert_eq!(
        keys(&engine.view().expect(READABLE), Family::Log, "", None),
        ["a", "b", "c", "d"]
    );
}

pub fn an_empty_range_delete_removes_nothing<S: Subject>(subject: S) {
    let engine = subject.engine();
    write(engine, |batch| {
        batch.put(Family::Log, "b", "");
        batch.delete_range(Family::Log, "b", "b");
        batch.delete_range(Family::Log, "c", "a");
    });
    assert_eq!(
        keys(&engine.view().expect(READABLE), Family::Log, "", None),
        ["b"]
    );
}

pub fn a_view_never_changes<S: Subject>(subject: S) {
    let engine = subject.engine();
    put_keys(engine, Family::Latest, &["a", "b"]);
    put_keys(engine, Family::Log, &["a", "b"]);
    let view = engine.view().expect(READABLE);
    let mut begun = view.cursor(Family::Latest, b"", None);
    assert_eq!(begun.next().expect(READABLE), Some((&b"a"[..], &b"a"[..])));
    write(engine, |batch| {
        batch.put(Family::Latest, "a", "changed");
        batch.put(Family::Latest, "c", "new");
        batch.delete(Family::Latest, "b");
        batch.delete_range(Family::Log, "", "z");
    });
    engine.flush().expect("the engine flushes");
    engine.compact_files().expect("the engine compacts");

    assert_eq!(rest(&mut begun), [(Bytes::from("b"), Bytes::from("b"))]);
    assert_eq!(
        view.get(Family::Latest, b"a").expect(READABLE),
        Some(Bytes::from("a"))
    );
    assert_eq!(keys(&view, Family::Latest, "", None), ["a", "b"]);
    assert_eq!(keys(&view.clone(), Family::Log, "", None), ["a", "b"]);
    let newer = engine.view().expect(READABLE);
    assert_eq!(keys(&newer, Family::Latest, "", None), ["a", "c"]);
    assert_eq!(keys(&newer, Family::Log, "", None), [""; 0]);
}

pub fn a_view_lives_on_after_its_engine_is_gone<S: Subject>(subject: S) {
    put_keys(subject.engine(), Family::Latest, &["a", "b"]);
    let view = subject.engine().view().expect(READABLE);
    drop(subject);
    assert_eq!(keys(&view, Family::Latest, "", None), ["a", "b"]);
}

pub fn a_cursor_gives_the_keys_of_its_range_in_order<S: Subject>(subject: S) {
    let engine = subject.engine();
    // In two parts, since an engine may keep old and new keys apart.
    put_keys(engine, Family::Latest, &["b", "aa", "d"]);
    engine.flush().expect("the engine flushes");
    put_keys(engine, Family::Latest, &["a", "c", "b\u{0}"]);
    let view = engine.view().expect(READABLE);
    assert_eq!(
        keys(&view, Family::Latest, "", None),
        ["a", "aa", "b", "b\u{0}", "c", "d"]
    );
    assert_eq!(
        keys(&view, Family::Latest, "aa", Some("c")),
        ["aa", "b", "b\u{0}"]
    );
    assert_eq!(keys(&view, Family::Latest, "ab", Some("b\u{0}")), ["b"]);
    assert_eq!(keys(&view, Family::Latest, "c", None), ["c", "d"]);
    let order = [
        &[0x00][..],
        &[0x00, 0xFF],
        &[0x7F],
        &[0x80],
        &[0xFF],
        &[0xFF, 0x00],
    ];
    write(engine, |batch| {
        order
            .iter()
            .rev()
            .for_each(|key| batch.put(Family::Hist, key.to_vec(), ""))
    });
    let found = scan(&engine.view().expect(READABLE), Family::Hist, b"", None);
    assert_eq!(
        found.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(),
        order,
        "bytes are compared unsigned"
    );
}

pub fn a_cursor_of_an_empty_range_gives_nothing<S: Subject>(subject: S) {
    let engine = subject.engine();
    put_keys(engine, Family::Latest, &["a", "b", "c"]);
    let view = engine.view().expect(READABLE);
    for (from, to) in [
        ("b", Some("b")),
        ("c", Some("a")),
        ("b0", Some("c")),
        ("d", None),
        ("", Some("")),
    ] {
        assert_eq!(
            keys(&view, Family::Latest, from, to),
            [""; 0],
            "{from} to {to:?}"
        );
    }
    let mut empty = view.cursor(Family::Latest, b"c", Some(b"a"));
    empty.seek(b"a");
    assert_eq!(empty.next().expect(READABLE), None);
}

pub fn seeking_moves_forward_and_never_back<S: Subject>(subject: S) {
    let engine = subject.engine();
    put_keys(engine, Family::Latest, &["a", "b", "c", "d", "e", "f"]);
    let view = engine.view().expect(READABLE);
    let mut cursor = view.cursor(Family::Latest, b"b", Some(b"f"));
    let mut step = |seek: Option<&str>, expected: Option<&str>| {
        if let Some(key) = seek {
            cursor.seek(key.as_bytes());
        }
        let found = cursor
            .next()
            .expect(READABLE)
            .map(|(key, _)| String::from_utf8_lossy(key).into_owned());
        assert_eq!(found.as_deref(), expected, "after seeking {seek:?}");
    };
    step(Some("a"), Some("b")); // Not before the range.
    step(Some("bb"), Some("c"));
    step(Some("c"), Some("d")); // What was given is not given again.
    step(Some("a"), Some("e"));
    step(Some("f"), None); // Not beyond the range.
    step(Some("a"), None);

    let mut cursor = view.cursor(Family::Latest, b"", None);
    cursor.seek(b"d");
    cursor.seek(b"b");
    assert_eq!(cursor.next().expect(READABLE), Some((&b"d"[..], &b"d"[..])));
}

pub fn a_crash_loses_what_was_not_flushed_and_nothing_else<S: Subject>(mut subject: S) {
    put_keys(
        subject.engine(),
        Family::Latest,
        &["flushed", "flushed too"],
    );
    subject.engine().flush().expect("the engine flushes");
    write(subject.engine(), |batch| {
        batch.put(Family::Latest, "lost", "");
        batch.delete(Family::Latest, "flushed");
        batch.put(Family::Latest, "flushed too", "lost");
    });
    let written = contents(subject.engine());
    subject.crash();
    assert_ne!(contents(subject.engine()), written);
    assert_eq!(
        keys(
            &subject.engine().view().expect(READABLE),
            Family::Latest,
            "",
            None
        ),
        ["flushed", "flushed too"]
    );
    assert_eq!(
        get(subject.engine(), Family::Latest, "flushed too"),
        Some(Bytes::from("flushed too"))
    );
    // It goes on from there.
    put_keys(subject.engine(), Family::Latest, &["again"]);
    subject.engine().flush().expect("the engine flushes");
    subject.crash();
    assert_eq!(
        get(subject.engine(), Family::Latest, "again"),
        Some(Bytes::from("again"))
    );
}

pub fn a_flush_makes_all_families_durable_together<S: Subject>(mut subject: S) {
    for n in 0..3 {
        write(subject.engine(), |batch| {
            for family in Family::ALL {
                batch.put(family, format!("key of some length {n}"), "");
            }
        });
        if n == 1 {
            subject.engine().flush().expect("the engine flushes");
        }
    }
    subject.crash();
    let view = subject.engine().view().expect(READABLE);
    for family in Family::ALL {
        let expected = ["key of some length 0", "key of some length 1"];
        assert_eq!(
            keys(&view, family, "", None),
            expected,
            "in {}",
            family.name()
        );
    }
}

pub fn what_is_persisted_is_what_a_crash_would_leave<S: Subject>(mut subject: S) {
    let persisted = |subject: &S| {
        subject
            .engine()
            .get_persisted(Family::Meta, b"s")
            .expect(READABLE)
    };
    assert_eq!(persisted(&subject), None);
    write(subject.engine(), |batch| batch.put(Family::Meta, "s", "1"));
    assert_eq!(persisted(&subject), None);
    subject.engine().flush().expect("the engine flushes");
    assert_eq!(persisted(&subject), Some(Bytes::from("1")));
    write(subject.engine(), |batch| batch.put(Family::Meta, "s", "2"));
    assert_eq!(persisted(&subject), Some(Bytes::from("1")));
    assert_eq!(
        get(subject.engine(), Family::Meta, "s"),
        Some(Bytes::from("2"))
    );
    write(subject.engine(), |batch| batch.delete(Family::Meta, "s"));
    assert_eq!(persisted(&subject), Some(Bytes::from("1")));
    subject.crash();
    assert_eq!(persisted(&subject), Some(Bytes::from("1")));
    assert_eq!(
        get(subject.engine(), Family::Meta, "s"),
        Some(Bytes::from("1"))
    );
}

pub fn a_checkpoint_is_an_engine_of_its_own<S: Subject>(subject: S) {
    let engine = subject.engine();
    put_keys(engine, Family::Latest, &["a", "b"]);
    put_keys(engine, Family::Meta, &["m"]);
    engine.flush().expect("the engine flushes");
    write(engine, |batch| batch.delete(Family::Latest, "a"));
    engine.flush().expect("the engine flushes");
    let expected = contents(engine);

    let path = subject.scratch("checkpoint");
    engine
        .checkpoint(&path)
        .expect("the engine makes a checkpoint");
    put_keys(engine, Family::Latest, &["after"]);
    let copy = subject.restore(&path);
    assert_eq!(contents(&copy), expected);
    put_keys(&copy, Family::Latest, &["in the copy"]);
    assert_eq!(get(engine, Family::Latest, "in the copy"), None);
    assert_eq!(get(&copy, Family::Latest, "after"), None);
    assert!(
        engine.checkpoint(&path).is_err(),
        "a checkpoint does not write over what is there"
    );
}

pub fn a_checkpoint_under_writes_holds_whole_batches<S: Subject>(subject: S) {
    const BATCHES: u32 = 400;
    let engine = subject.engine();
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=BATCHES {
                write(engine, |batch| {
                    batch.put(Family::Latest, n.to_be_bytes().to_vec(), vec![0; 2_000]);
                    batch.put(Family::Log, n.to_be_bytes().to_vec(), "");
                    batch.put(Family::Meta, "state", n.to_be_bytes().to_vec());
                });
            }
        });
        while copies.len() < 4 || !writer.is_finished() {
            let path = subject.scratch(&format!("checkpoint-{}", copies.len()));
            engine
                .checkpoint(&path)
                .expect("the engine makes a checkpoint");
            copies.push(path);
        }
    });
    for path in copies {
        let copy = subject.restore(&path);
        let view = copy.view().expect(READABLE);
        let state = view.get(Family::Meta, b"state").expect(READABLE);
        let state = state.map_or(0, |state| {
            u32::from_be_bytes(state[..].try_into().expect("four bytes were put"))
        });
        let expected: Vec<Bytes> = (1..=state)
            .map(|n| Bytes::copy_from_slice(&n.to_be_bytes()))
            .collect();
        for family in [Family::Latest, Family::Log] {
            let found: Vec<Bytes> = scan(&view, family, b"", None)
                .into_iter()
                .map(|(key, _)| key)
                .collect();
            assert_eq!(found, expected, "in {}", family.name());
        }
    }
}

pub fn history_above_the_floor_stays<S: Subject>(subject: S) {
    let engine = subject.engine();
    let record = |key: &str, revision: i64| {
        [key.as_bytes(), &revision.to_be_bytes(), &[0, 0, 0, 7]].concat()
    };
    let write_all = || {
        write(engine, |batch| {
            for key in ["a", "key"] {
                (1..=20).for_each(|revision| batch.put(Family::Hist, record(key, revision), ""));
            }
        });
    };
    write_all();
    engine.flush().expect("the engine flushes");
    engine.set_history_floor(Revision(10));
    engine.compact_files().expect("the engine compacts");
    let view = engine.view().expect(READABLE);
    for key in ["a", "key"] {
        for revision in 11..=20 {
            assert!(
                view.get(Family::Hist, &record(key, revision))
                    .expect(READABLE)
                    .is_some()
            );
        }
    }
    // A floor never sinks.
    engine.set_history_floor(Revision(15));
    engine.set_history_floor(Revision(3));
    engine.compact_files().expect("the engine compacts");
    let view = engine.view().expect(READABLE);
    assert_eq!(scan(&view, Family::Hist, &record("key", 16), None).len(), 5);
}

pub fn compacting_changes_nothing_that_can_be_read<S: Subject>(subject: S) {
    let engine = subject.engine();
    for round in 0..4u8 {
        write(engine, |batch| {
            for n in 0..200u8 {
                batch.put(Family::Latest, vec![n], vec![round; 100]);
                batch.put(Family::Log, vec![round, n], "");
            }
            batch.delete(Family::Latest, vec![round]);
            batch.delete_range(Family::Log, vec![round, 0], vec![round, 100]);
        });
        engine.flush().expect("the engine flushes");
    }
    let before = contents(engine);
    engine.compact_files().expect("the engine compacts");
    assert_eq!(contents(engine), before);
    assert!(engine.size().expect(READABLE).on_disk > 0);
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn key(&mut self) -> Bytes {
        let len = self.below(4);
        (0..len).map(|_| b'a' + self.below(4) as u8).collect()
    }
}

type Model = BTreeMap<(Family, Bytes), Bytes>;

fn write_model(model: &mut Model, batch: &Batch) {
    for change in &batch.changes {
        match change.clone() {
            Change::Put(family, key, value) => {
                model.insert((family, key), value);
            }
            Change::Delete(family, key) => {
                model.remove(&(family, key));
            }
            Change::DeleteRange(family, from, to) => {
                model.retain(|(of, key), _| *of != family || *key < from || *key >= to);
            }
        }
    }
}

fn contents_of(model: &Model) -> Vec<Vec<(Bytes, Bytes)>> {
    let of = |family| model.iter().filter(move |((of, _), _)| *of == family);
    Family::ALL
        .map(|family| {
            of(family)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect()
        })
        .into()
}

pub fn random_batches_read_like_a_plain_map<S: Subject>(mut subject: S) {
    let mut numbers = Numbers(1);
    // The states since the last flush, the newest at the end. A crash may leave any of them, for an engine flushes by itself, too.
    let mut states = vec![Model::new()];
    for step in 0..600 {
        let engine = subject.engine();
        let now = states.last().expect("there always is a state").clone();
        match numbers.below(20) {
            0 | 1 => {
                engine.flush().expect("the engine flushes");
                states = vec![now];
            }
            2 => {
                subject.crash();
                let left = contents(subject.engine());
                states.retain(|state| contents_of(state) == left);
                assert!(
                    !states.is_empty(),
                    "the crash of step {step} left what never was: {left:?}"
                );
                states.truncate(1);
            }
            3 => engine.compact_files().expect("the engine compacts"),
            4..=6 => {
                let view = engine.view().expect(READABLE);
                let family = Family::ALL[numbers.below(6) as usize];
                let (from, to, seek) = (numbers.key(), numbers.key(), numbers.key());
                let mut cursor = view.cursor(family, &from, Some(&to));
                cursor.seek(&seek);
                let from = from.max(seek);
                let expected = contents_of(&now).swap_remove(family as usize).into_iter();
                let expected: Vec<_> = expected
                    .filter(|(key, _)| *key >= from && *key < to)
                    .collect();
                assert_eq!(
                    rest(&mut cursor),
                    expected,
                    "in step {step}, {from:?} to {to:?}"
                );
            }
            _ => {
                let mut batch = Batch::default();
                for _ in 0..numbers.below(12) {
                    let family = Family::ALL[numbers.below(6) as usize];
                    match numbers.below(10) {
                        0 => batch.delete_range(family, numbers.key(), numbers.key()),
                        1 | 2 => batch.delete(family, numbers.key()),
                        _ => batch.put(family, numbers.key(), numbers.key()),
                    }
                }
                engine.write(&batch).expect(WRITABLE);
                let mut next = now;
                write_model(&mut next, &batch);
                states.push(next);
            }
        }
        if step % 20 == 0 {
            let now = states.last().expect("there always is a state");
            assert_eq!(
                contents(subject.engine()),
                contents_of(now),
                "in step {step}"
            );
        }
    }
}
