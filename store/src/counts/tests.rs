use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Bound;

use super::*;
use crate::engine::{Change, Engine};
use crate::memory::MemoryEngine;

/// The records of [`Family::Counts`], as an engine would keep them.
#[derive(Clone, Default)]
struct Records(BTreeMap<Bytes, Bytes>);

impl Records {
    fn write(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Put(Family::Counts, key, value) => {
                    self.0.insert(key, value);
                }
                Change::Delete(Family::Counts, key) => {
                    // A block that was cut off and joined again since the last time was never written.
                    self.0.remove(&key);
                }
                other => panic!("{other:?} is no change of counts"),
            }
        }
    }

    /// What a start makes of them.
    fn load(&self) -> Result<CountTree, EngineError> {
        let mut batch = Batch::default();
        for (key, value) in &self.0 {
            batch.put(Family::Counts, key.clone(), value.clone());
        }
        let engine = MemoryEngine::new();
        engine.write(&batch)?;
        CountTree::load(&engine.view()?)
    }
}

/// The tree beside the plain set of keys that it counts.
#[derive(Clone)]
struct Pair {
    tree: CountTree,
    keys: BTreeSet<Bytes>,
    records: Records,
}

impl Pair {
    fn new() -> Pair {
        let records = Records::default();
        Pair {
            tree: records.load().unwrap(),
            keys: BTreeSet::new(),
            records,
        }
    }

    fn toggle(&mut self, key: &[u8]) {
        if self.keys.remove(key) {
            self.tree.remove(key);
        } else {
            self.keys.insert(Bytes::copy_from_slice(key));
            self.tree.add(key);
        }
    }

    fn cut(&mut self) {
        let keys = &self.keys;
        self.tree
            .cut(&mut |from, to, wanted| {
                Ok(between(keys, from, to).take(wanted).cloned().collect())
            })
            .unwrap();
    }

    fn write(&mut self) {
        self.cut();
        let mut batch = Batch::default();
        self.tree.write_changes(&mut batch);
        self.records.write(batch);
    }

    fn reload(&mut self) {
        self.tree = self.records.load().unwrap();
    }

    /// The count of a range, and how many keys its edges looked at.
    fn count(&self, from: &[u8], to: Option<&[u8]>) -> (u64, usize) {
        let (mut calls, mut looked_at) = (0, 0);
        let count = self
            .tree
            .count(from, to, |from, to| {
                calls += 1;
                let keys = between(&self.keys, from, to).count();
                looked_at += keys;
                Ok(keys as u64)
            })
            .unwrap();
        assert!(calls <= 2);
        (count, looked_at)
    }

    fn assert_counts(&self, from: &[u8], to: Option<&[u8]>) {
        let expected = between(&self.keys, from, to).count() as u64;
        assert_eq!(self.count(from, to).0, expected, "from {from:?} to {to:?}");
    }

    /// What holds after each write.
    fn assert_written(&self) {
        self.tree.root.check();
        let blocks = self.tree.root.blocks();
        let stored: Vec<(Key, u32)> = self
            .records
            .0
            .iter()
            .map(|(k, v)| {
                (
                    Key::from(&k[..]),
                    u32::from_be_bytes(v[..].try_into().unwrap()),
                )
            })
            .collect();
        // A store that has never held a key has no record for its one empty block.
        assert!(stored == blocks || stored.is_empty() && blocks == [(Key::from(&b""[..]), 0)]);
        assert!(blocks.iter().all(|(_, count)| *count <= KEYS_MAX));
        assert!(blocks.windows(2).all(|w| !may_join(w[0].1, w[1].1)));
        for (at, (first, count)) in blocks.iter().enumerate() {
            let next = blocks.get(at + 1).map(|(next, _)| &next[..]);
            assert_eq!(between(&self.keys, first, next).count(), *count as usize);
        }
    }
}

fn between<'a>(
    keys: &'a BTreeSet<Bytes>,
    from: &[u8],
    to: Option<&[u8]>,
) -> impl Iterator<Item = &'a Bytes> {
    let is_empty = to.is_some_and(|to| to <= from);
    let to = to.map_or(Bound::Unbounded, Bound::Excluded);
    let range = (!is_empty).then(|| keys.range::<[u8], _>((Bound::Included(from), to)));
    range.into_iter().flatten()
}

fn key(number: u32) -> Vec<u8> {
    format!("/registry/pods/default/{number:08}").into_bytes()
}

#[derive(Clone, Debug)]
enum Step {
    /// One key comes or goes.
    Toggle(u32),
    /// A run of keys with a stride comes or goes: blocks are cut and emptied.
    Run {
        start: u32,
        stride: u32,
        keys: u32,
    },
    /// Every key of a range goes.
    Clear {
        start: u32,
        end: u32,
    },
    Cut,
    Write,
    Reload,
    Count(u32, Option<u32>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0..20_000u32;
    let step = prop_oneof![
        3 => number.clone().prop_map(Step::Toggle),
        3 => (number.clone(), 1..7u32, 1..1_500u32).prop_map(|(start, stride, keys)| Step::Run { start, stride, keys }),
        2 => (number.clone(), number.clone()).prop_map(|(a, b)| Step::Clear { start: a.min(b), end: a.max(b) }),
        4 => Just(Step::Cut),
        2 => Just(Step::Write),
        1 => Just(Step::Reload),
        6 => (number.clone(), proptest::option::of(number)).prop_map(|(a, b)| Step::Count(a, b)),
    ];
    vec(step, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn counts_equal_those_of_a_plain_set(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Toggle(n) => pair.toggle(&key(n)),
                Step::Run { start, stride, keys } => (0..keys).for_each(|i| pair.toggle(&key(start + i * stride))),
                Step::Clear { start, end } => {
                    let gone: Vec<Bytes> = between(&pair.keys, &key(start), Some(&key(end))).cloned().collect();
                    gone.iter().for_each(|k| pair.toggle(k));
                }
                Step::Cut => {
                    pair.cut();
                    pair.tree.root.check();
                    assert!(pair.tree.root.blocks().iter().all(|(_, count)| *count <= KEYS_MAX));
                }
                Step::Write => {
                    pair.write();
                    pair.assert_written();
                }
                Step::Reload => {
                    pair.write();
                    pair.reload();
                }
                Step::Count(a, b) => pair.assert_counts(&key(a), b.map(key).as_deref()),
            }
            prop_assert_eq!(pair.tree.total(), pair.keys.len() as u64);
        }
        pair.write();
        pair.assert_written();
        pair.assert_counts(b"", None);
        // Edges that fall on a block's first key, and right after it.
        let firsts: Vec<Key> = pair.tree.root.blocks().into_iter().map(|(first, _)| first).collect();
        for pair_of in firsts.windows(2) {
            let after = [&pair_of[0], &b"\0"[..]].concat();
            pair.assert_counts(&pair_of[0], Some(&pair_of[1]));
            pair.assert_counts(&after, Some(&pair_of[1]));
            pair.assert_counts(&pair_of[0], Some(&after));
        }
    }

    #[test]
    fn reloading_makes_no_difference_to_the_blocks(steps in steps()) {
        let (mut kept, mut reloaded) = (Pair::new(), Pair::new());
        for step in steps {
            for pair in [&mut kept, &mut reloaded] {
                match step {
                    Step::Toggle(n) => pair.toggle(&key(n)),
                    Step::Run { start, stride, keys } => (0..keys).for_each(|i| pair.toggle(&key(start + i * stride))),
                    _ => pair.write(),
                }
            }
            if matches!(step, Step::Write | Step::Reload | Step::Clear { .. } | Step::Count(..)) {
                reloaded.reload();
            }
        }
        kept.write();
        reloaded.write();
        prop_assert_eq!(&kept.records.0, &reloaded.records.0);
    }

    #[test]
    fn a_clone_never_sees_a_later_change(before in steps(), after in steps()) {
        let mut pair = Pair::new();
        let play = |pair: &mut Pair, steps: &[Step]| for step in steps {
            match *step {
                Step::Toggle(n) => pair.toggle(&key(n)),
                Step::Run { start, stride, keys } => (0..keys).for_each(|i| pair.toggle(&key(start + i * stride))),
                _ => pair.write(),
            }
        };
        play(&mut pair, &before);
        let clone = pair.clone();
        let blocks = clone.tree.root.blocks();
        play(&mut pair, &after);
        pair.write();
        prop_assert_eq!(clone.tree.root.blocks(), blocks);
        clone.tree.root.check();
        clone.assert_counts(&key(5_000), Some(&key(15_000)));
    }
}

#[test]
fn ten_thousand_keys_in_one_batch_become_many_blocks() {
    let mut pair = Pair::new();
    (0..10_000).for_each(|n| pair.toggle(&key(n)));
    pair.write();
    pair.assert_written();
    let blocks = pair.tree.root.blocks();
    assert_eq!(blocks.len(), 10_000 / KEYS_TARGET as usize);
    assert!(blocks.iter().all(|(_, count)| (128..=129).contains(count)));
}

#[test]
fn deleting_all_keys_leaves_one_empty_block() {
    let mut pair = Pair::new();
    (0..50_000).for_each(|n| pair.toggle(&key(n)));
    pair.write();
    (0..50_000).rev().for_each(|n| {
        pair.toggle(&key(n));
        if n % 500 == 0 {
            pair.write();
        }
    });
    pair.assert_written();
    assert_eq!(pair.tree.root.blocks(), [(Key::from(&b""[..]), 0)]);
    assert_eq!(pair.records.0.len(), 1);
}

#[test]
fn only_changed_blocks_are_written() {
    let mut pair = Pair::new();
    (0..10_000).for_each(|n| pair.toggle(&key(n)));
    pair.write();
    pair.toggle(&key(5_000));
    let mut batch = Batch::default();
    pair.tree
        .cut(&mut |_, _, _| unreachable!("nothing is cut"))
        .unwrap();
    pair.tree.write_changes(&mut batch);
    assert_eq!(batch.changes.len(), 1);
    let mut batch = Batch::default();
    pair.tree.write_changes(&mut batch);
    assert_eq!(batch.changes, []);
}

#[test]
fn a_count_of_a_million_keys_looks_at_two_blocks_and_costs_under_a_megabyte() {
    let mut pair = Pair::new();
    for n in 0..1_000_000u32 {
        pair.toggle(&key(n));
        if n % 1_000 == 999 {
            pair.write();
        }
    }
    let (count, looked_at) = pair.count(&key(123_456), Some(&key(876_543)));
    assert_eq!(count, 876_543 - 123_456);
    assert!(
        looked_at <= 2 * KEYS_MAX as usize,
        "{looked_at} keys looked at"
    );
    assert!(
        pair.tree.root.memory() < 1_000_000,
        "{} bytes",
        pair.tree.root.memory()
    );
    assert_eq!(pair.tree.root.check(), 3);
}

#[test]
fn a_block_is_cut_in_two_by_reading_half_of_it() {
    let mut tree = Pair::new().tree;
    (0..KEYS_MAX + 1).for_each(|n| tree.add(&key(n)));
    let mut read = 0;
    tree.cut(&mut |_, _, wanted| {
        read = wanted;
        Ok((0..wanted as u32).map(|n| key(n).into()).collect())
    })
    .unwrap();
    assert_eq!(read as u32, KEYS_TARGET + 1);
    let counts: Vec<u32> = tree.root.blocks().iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [KEYS_TARGET, KEYS_TARGET + 1]);
}

#[test]
fn keys_that_disagree_with_their_count_are_an_error() {
    let mut tree = Pair::new().tree;
    (0..300).for_each(|n| tree.add(&key(n)));
    let error = tree.cut(&mut |_, _, _| Ok(vec![])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its count is 300, but 0 keys live in it"),
        "{error}"
    );

    let mut tree = Pair::new().tree;
    tree.remove(b"never-added");
    let error = tree.cut(&mut |_, _, _| Ok(vec![])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("more keys were removed than it held"),
        "{error}"
    );
}

#[test]
fn records_that_were_never_written_are_an_error() {
    let load = |key: &'static [u8], value: &'static [u8]| {
        Records([(Bytes::from(key), Bytes::from(value))].into())
            .load()
            .unwrap_err()
            .to_string()
    };
    assert!(load(b"", b"12345").contains("4 bytes expected, 5 found"));
    assert!(load(b"a", b"1234").contains("the first block is missing"));
}
