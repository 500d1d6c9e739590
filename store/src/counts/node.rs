//! The persistent tree under [`super::CountTree`]: nodes are shared between clones and copied when they are changed,
//! so a change costs one path. It keeps blocks in order with their sums; when a block is split or merged is decided above.

use std::sync::Arc;

/// A block's first key. Shared, so that copying a node copies no key.
pub(super) type Key = Arc<[u8]>;

/// Entries of a node at most. Small enough that copying a node on its first change after a publication is cheap
/// (under 1.3 KiB), large enough that a million keys make three levels.
const ENTRIES_MAX: usize = 32;
/// A node with fewer entries is joined with a neighbour when both fit into one.
const ENTRIES_MIN: usize = 8;

/// A node. Never empty, but for a moment inside [`Node::remove`].
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Vec<Block>),
    Inner(Vec<Child>),
}

/// The keys from `first` up to the next block's first.
#[derive(Clone, Debug)]
pub(super) struct Block {
    first: Key,
    count: u32,
    /// Changed since [`Node::take_changed`]. Kept here, not in a set beside the tree, so that a clone shares it too.
    changed: bool,
}

/// A node as its parent knows it.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// The first key of the node's first block.
    first: Key,
    /// The keys under the node.
    sum: u64,
    /// Whether a block under the node is changed.
    changed: bool,
    node: Arc<Node>,
}

/// A block with its surroundings.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub first: Key,
    /// The next block's first key; none for the last block.
    pub next: Option<Key>,
    pub count: u32,
    /// The keys in all blocks before this one.
    pub before: u64,
}

/// A count went below zero: the tree no longer agrees with the keys.
#[derive(Debug)]
pub(super) struct Underflow;

trait Entry {
    fn first(&self) -> &Key;
}

impl Entry for Block {
    fn first(&self) -> &Key {
        &self.first
    }
}

impl Entry for Child {
    fn first(&self) -> &Key {
        &self.first
    }
}

/// The entry that holds `key`. Callers have been routed here, so the first entry begins at or before it.
fn position<T: Entry>(entries: &[T], key: &[u8]) -> usize {
    entries
        .partition_point(|e| **e.first() <= *key)
        .saturating_sub(1)
}

impl Node {
    /// A tree of these blocks, which are in order and not none.
    pub fn build(blocks: impl IntoIterator<Item = (Key, u32)>) -> Arc<Node> {
        // Three quarters full, so that the first changes do not split everything.
        const FILL: usize = ENTRIES_MAX * 3 / 4;
        let mut blocks = blocks
            .into_iter()
            .map(|(first, count)| Block {
                first,
                count,
                changed: false,
            })
            .peekable();
        let mut level: Vec<Arc<Node>> = Vec::new();
        while blocks.peek().is_some() {
            level.push(Arc::new(Node::Leaf(blocks.by_ref().take(FILL).collect())));
        }
        while level.len() > 1 {
            level = level
                .chunks(FILL)
                .map(|nodes| Arc::new(Node::Inner(nodes.iter().cloned().map(Child::of).collect())))
                .collect();
        }
        level.pop().expect("there is at least one block")
    }

    /// All keys under the node.
    pub fn sum(&self) -> u64 {
        match self {
            Node::Leaf(blocks) => blocks.iter().map(|b| u64::from(b.count)).sum(),
            Node::Inner(children) => children.iter().map(|c| c.sum).sum(),
        }
    }

    /// The last block that begins at or before `key`, or, without `or_equal`, strictly before it.
    pub fn floor(&self, key: &[u8], or_equal: bool) -> Option<Found> {
        let is_before = |first: &Key| {
            if or_equal {
                **first <= *key
            } else {
                **first < *key
            }
        };
        let (mut node, mut before, mut next) = (self, 0, None);
        loop {
            match node {
                Node::Inner(children) => {
                    let at = children
                        .partition_point(|c| is_before(&c.first))
                        .checked_sub(1)?;
                    before += children[..at].iter().map(|c| c.sum).sum::<u64>();
                    next = children.get(at + 1).map(|c| &c.first).or(next);
                    node = &children[at].node;
                }
                Node::Leaf(blocks) => {
                    let at = blocks
                        .partition_point(|b| is_before(&b.first))
                        .checked_sub(1)?;
                    before += blocks[..at].iter().map(|b| u64::from(b.count)).sum::<u64>();
                    next = blocks.get(at + 1).map(|b| &b.first).or(next);
                    let Block { first, count, .. } = &blocks[at];
                    return Some(Found {
                        first: first.clone(),
                        next: next.cloned(),
                        count: *count,
                        before,
                    });
                }
            }
        }
    }

    /// One key more or less in the block that holds `key`. Gives the block's new count.
    pub fn adjust(self: &mut Arc<Node>, key: &[u8], up: bool) -> Result<u32, Underflow> {
        match Arc::make_mut(self) {
            Node::Leaf(blocks) => {
                let at = position(blocks, key);
                let block = &mut blocks[at];
                let count = if up {
                    block.count.checked_add(1)
                } else {
                    block.count.checked_sub(1)
                };
                block.count = count.ok_or(Underflow)?;
                block.changed = true;
                Ok(block.count)
            }
            Node::Inner(children) => {
                let at = position(children, key);
                let child = &mut children[at];
                let count = child.node.adjust(key, up)?;
                child.sum = if up { child.sum + 1 } else { child.sum - 1 };
                child.changed = true;
                Ok(count)
            }
        }
    }

    /// Lists the first keys of the changed blocks in order, and forgets that they are changed.
    pub fn take_changed(self: &mut Arc<Node>, into: &mut Vec<Key>) {
        // Looked at before `make_mut`: an unchanged node must not be copied.
        let is_changed = match &**self {
            Node::Leaf(blocks) => blocks.iter().any(|b| b.changed),
            Node::Inner(children) => children.iter().any(|c| c.changed),
        };
        if !is_changed {
            return;
        }
        match Arc::make_mut(self) {
            Node::Leaf(blocks) => {
                for block in blocks.iter_mut().filter(|b| b.changed) {
                    block.changed = false;
                    into.push(block.first.clone());
                }
            }
            Node::Inner(children) => {
                for child in children.iter_mut().filter(|c| c.changed) {
                    child.changed = false;
                    child.node.take_changed(into);
                }
            }
        }
    }

    /// Sets the count of the block that begins at `first`, cutting the block that holds `first` if there is none. It counts as
    /// changed.
    pub fn set(self: &mut Arc<Node>, first: &Key, count: u32) {
        if let Some(right) = self.set_below(first, count) {
            let left = Child::of(self.clone());
            *self = Arc::new(Node::Inner(vec![left, Child::of(right)]));
        }
    }

    /// As [`Node::set`]; a node that has grown too large gives its upper half.
    fn set_below(self: &mut Arc<Node>, first: &Key, count: u32) -> Option<Arc<Node>> {
        match Arc::make_mut(self) {
            Node::Leaf(blocks) => {
                let at = position(blocks, first);
                if blocks[at].first == *first {
                    blocks[at].count = count;
                    blocks[at].changed = true;
                } else {
                    blocks.insert(
                        at + 1,
                        Block {
                            first: first.clone(),
                            count,
                            changed: true,
                        },
                    );
                }
                upper_half(blocks).map(|upper| Arc::new(Node::Leaf(upper)))
            }
            Node::Inner(children) => {
                let at = position(children, first);
                let right = children[at].node.set_below(first, count);
                children[at].refresh();
                children[at].changed = true;
                if let Some(right) = right {
                    children.insert(at + 1, Child::of(right));
                }
                upper_half(children).map(|upper| Arc::new(Node::Inner(upper)))
            }
        }
    }

    /// Removes the block that begins at `first`, which is not the tree's first: the block before it takes its range over.
    pub fn remove(self: &mut Arc<Node>, first: &[u8]) {
        self.remove_below(first);
        // A root with a single child is a level for nothing.
        while let Node::Inner(children) = &**self {
            let [only] = children.as_slice() else { break };
            *self = only.node.clone();
        }
    }

    fn remove_below(self: &mut Arc<Node>, first: &[u8]) {
        match Arc::make_mut(self) {
            Node::Leaf(blocks) => blocks.retain(|b| *b.first != *first),
            Node::Inner(children) => {
                let at = position(children, first);
                children[at].node.remove_below(first);
                if children[at].node.len() == 0 {
                    children.remove(at);
                    return;
                }
                children[at].refresh();
                // Join with the left neighbour, or else with the right one.
                if children[at].node.len() < ENTRIES_MIN && !join(children, at.wrapping_sub(1), at)
                {
                    join(children, at, at + 1);
                }
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Leaf(blocks) => blocks.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn first(&self) -> &Key {
        match self {
            Node::Leaf(blocks) => &blocks[0].first,
            Node::Inner(children) => &children[0].first,
        }
    }
}

impl Child {
    fn of(node: Arc<Node>) -> Child {
        let changed = match &*node {
            Node::Leaf(blocks) => blocks.iter().any(|b| b.changed),
            Node::Inner(children) => children.iter().any(|c| c.changed),
        };
        Child {
            first: node.first().clone(),
            sum: node.sum(),
            changed,
            node,
        }
    }

    /// Takes over what a change below may have altered.
    fn refresh(&mut self) {
        self.first = self.node.first().clone();
        self.sum = self.node.sum();
    }
}

fn upper_half<T>(entries: &mut Vec<T>) -> Option<Vec<T>> {
    (entries.len() > ENTRIES_MAX).then(|| entries.split_off(entries.len() / 2))
}

/// Moves the entries of the node at `right` into the one at `left`, if both exist and the entries fit.
fn join(children: &mut Vec<Child>, left: usize, right: usize) -> bool {
    let (Some(a), Some(b)) = (children.get(left), children.get(right)) else {
        return false;
    };
    if a.node.len() + b.node.len() > ENTRIES_MAX {
        return false;
    }
    let taken = children.remove(right);
    let into = &mut children[left];
    match (
        Arc::make_mut(&mut into.node),
        Arc::unwrap_or_clone(taken.node),
    ) {
        (Node::Leaf(a), Node::Leaf(b)) => a.extend(b),
        (Node::Inner(a), Node::Inner(b)) => a.extend(b),
        _ => unreachable!("neighbours are on one level"),
    }
    into.changed |= taken.changed;
    into.refresh();
    true
}

#[cfg(test)]
impl Node {
    /// The blocks in order.
    pub fn blocks(&self) -> Vec<(Key, u32)> {
        match self {
            Node::Leaf(blocks) => blocks.iter().map(|b| (b.first.clone(), b.count)).collect(),
            Node::Inner(children) => children.iter().flat_map(|c| c.node.blocks()).collect(),
        }
    }

    /// Asserts what holds between nodes, and returns the height.
    pub fn check(&self) -> usize {
        assert!((1..=ENTRIES_MAX).contains(&self.len()));
        let Node::Inner(children) = self else {
            return 1;
        };
        let heights: Vec<usize> = children
            .iter()
            .map(|c| {
                assert_eq!(c.first, *c.node.first());
                assert_eq!(c.sum, c.node.sum());
                c.node.check()
            })
            .collect();
        assert!(
            heights.windows(2).all(|w| w[0] == w[1]),
            "all leaves are on one level"
        );
        heights[0] + 1
    }

    /// The bytes of memory under the node: what it allocates, with two words of bookkeeping for each allocation.
    pub fn memory(&self) -> usize {
        let arc = 2 * size_of::<usize>() + size_of::<Node>() + 2 * size_of::<usize>();
        match self {
            Node::Leaf(blocks) => {
                let keys: usize = blocks
                    .iter()
                    .map(|b| b.first.len() + 4 * size_of::<usize>())
                    .sum();
                arc + blocks.capacity() * size_of::<Block>() + keys
            }
            Node::Inner(children) => {
                let below: usize = children.iter().map(|c| c.node.memory()).sum();
                arc + children.capacity() * size_of::<Child>() + below
            }
        }
    }
}
