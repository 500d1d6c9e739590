//! An ordered index of key ranges: which of them hold a key, at the price of those that do.
//!
//! A treap ordered by (start, end), in which each node knows the greatest end below it, so that whole subtrees that
//! end too early are passed over. Its shape comes from a seeded sequence: the same operations give the same tree, and
//! a client that does not know the seed cannot make it deep.

use bytes::Bytes;
use slab::Slab;
use std::cmp::Ordering;

use crate::seed::Sequence;
use crate::span::End;

type Link = Option<usize>;

struct Node {
    start: Bytes,
    end: End,
    value: usize,
    priority: u64,
    left: Link,
    right: Link,
    /// The greatest end of this node and all below it.
    reach: End,
}

/// Ranges, each with a number.
pub(crate) struct Intervals {
    nodes: Slab<Node>,
    root: Link,
    priorities: Sequence,
}

impl Intervals {
    pub fn new(priorities: Sequence) -> Intervals {
        Intervals {
            nodes: Slab::new(),
            root: None,
            priorities,
        }
    }

    /// The number of exactly this range.
    pub fn get(&self, start: &[u8], end: &End) -> Option<usize> {
        let mut at = self.root;
        while let Some(index) = at {
            let node = &self.nodes[index];
            at = match (start, end).cmp(&(node.start.as_ref(), &node.end)) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds a range that is not in the index yet.
    pub fn insert(&mut self, start: Bytes, end: End, value: usize) {
        debug_assert!(self.get(&start, &end).is_none());
        let (left, right) = self.split(self.root, &start, &end);
        let priority = self.priorities.next();
        let node = Node {
            start,
            reach: end.clone(),
            end,
            value,
            priority,
            left: None,
            right: None,
        };
        let index = self.nodes.insert(node);
        let left = self.merge(left, Some(index));
        self.root = self.merge(left, right);
    }

    /// Removes a range; one that is not there is no error.
    pub fn remove(&mut self, start: &[u8], end: &End) {
        self.root = self.remove_below(self.root, start, end);
    }

    /// Calls `found` with the number of each range that holds `key`, in the order of the ranges.
    pub fn holding(&self, key: &[u8], found: &mut impl FnMut(usize)) {
        self.holding_below(self.root, key, found);
    }

    fn holding_below(&self, mut at: Link, key: &[u8], found: &mut impl FnMut(usize)) {
        while let Some(node) = at.map(|index| &self.nodes[index]) {
            if !node.reach.is_after(key) {
                return;
            }
            self.holding_below(node.left, key, found);
            if node.start.as_ref() > key {
                return;
            }
            if node.end.is_after(key) {
                found(node.value);
            }
            at = node.right;
        }
    }

    fn remove_below(&mut self, at: Link, start: &[u8], end: &End) -> Link {
        let index = at?;
        let node = &self.nodes[index];
        match (start, end).cmp(&(node.start.as_ref(), &node.end)) {
            Ordering::Equal => {
                let node = self.nodes.remove(index);
                return self.merge(node.left, node.right);
            }
            Ordering::Less => {
                let left = self.remove_below(node.left, start, end);
                self.nodes[index].left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(node.right, start, end);
                self.nodes[index].right = right;
            }
        }
        self.update(index);
        at
    }

    /// Parts a tree into what comes before (start, end) and the rest.
    fn split(&mut self, at: Link, start: &[u8], end: &End) -> (Link, Link) {
        let Some(index) = at else { return (None, None) };
        let node = &self.nodes[index];
        if (node.start.as_ref(), &node.end) < (start, end) {
            let (middle, rest) = self.split(node.right, start, end);
            self.nodes[index].right = middle;
            self.update(index);
            (at, rest)
        } else {
            let (before, middle) = self.split(node.left, start, end);
            self.nodes[index].left = middle;
            self.update(index);
            (before, at)
        }
    }

    /// Joins two trees, all of the first before all of the second.
    fn merge(&mut self, first: Link, second: Link) -> Link {
        let (Some(a), Some(b)) = (first, second) else {
            return first.or(second);
        };
        if self.nodes[a].priority >= self.nodes[b].priority {
            let right = self.merge(self.nodes[a].right, second);
            self.nodes[a].right = right;
            self.update(a);
            first
        } else {
            let left = self.merge(first, self.nodes[b].left);
            self.nodes[b].left = left;
            self.update(b);
            second
        }
    }

    fn update(&mut self, index: usize) {
        let node = &self.nodes[index];
        let below = [node.left, node.right]
            .into_iter()
            .flatten()
            .map(|child| &self.nodes[child].reach);
        let reach = below.fold(&node.end, Ord::max).clone();
        self.nodes[index].reach = reach;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..4, 1..4)
    }

    fn end() -> impl Strategy<Value = End> {
        prop_oneof![4 => key().prop_map(|key| End::Before(key.into())), 1 => Just(End::Never)]
    }

    proptest! {
        #[test]
        fn the_ranges_that_hold_a_key_are_those_that_a_look_at_each_finds(
            steps in proptest::collection::vec((key(), end(), any::<bool>()), 1..80),
            keys in proptest::collection::vec(key(), 1..10),
        ) {
            let mut index = Intervals::new(Sequence::new(7));
            let mut model: Vec<(Vec<u8>, End, usize)> = Vec::new();
            for (number, (start, end, add)) in steps.into_iter().enumerate() {
                let known = model.iter().position(|(s, e, _)| *s == start && *e == end);
                match (known, add) {
                    (None, true) => {
                        index.insert(start.clone().into(), end.clone(), number);
                        model.push((start, end, number));
                    }
                    (Some(at), false) => {
                        index.remove(&start, &end);
                        model.remove(at);
                    }
                    (Some(at), true) => prop_assert_eq!(index.get(&start, &end), Some(model[at].2)),
                    (None, false) => {
                        index.remove(&start, &end);
                        prop_assert_eq!(index.get(&start, &end), None);
                    }
                }
            }
            model.sort();
            for key in keys {
                let mut found = Vec::new();
                index.holding(&key, &mut |value| found.push(value));
                let expected: Vec<usize> =
                    model.iter().filter(|(start, end, _)| *start <= key && end.is_after(&key)).map(|(.., n)| *n).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn ranges_added_in_order_do_not_make_the_tree_deep() {
        let mut index = Intervals::new(Sequence::new(1));
        for number in 0..20_000u32 {
            index.insert(
                Bytes::copy_from_slice(&number.to_be_bytes()),
                End::Never,
                number as usize,
            );
        }
        fn depth(index: &Intervals, at: Link) -> usize {
            at.map_or(0, |at| {
                1 + depth(index, index.nodes[at].left).max(depth(index, index.nodes[at].right))
            })
        }
        assert!(depth(&index, index.root) < 60);
    }
}
