//! From an event's key to the watchers that match it: a map of exact keys and an ordered index of ranges, so that an
//! event costs its matches and not the number of watchers.
//!
//! Watchers of the same keys form a group, and an event is matched with groups: a thousand watchers of one prefix
//! are one match.

use bytes::Bytes;
use keelson_store::Event;
use slab::Slab;
use std::collections::{BTreeSet, HashMap};

use crate::intervals::Intervals;
use crate::seed::Sequence;
use crate::span::{Span, Wants};

/// A watcher's place in the hub's table.
pub(crate) type WatcherKey = usize;

/// The watchers of the same keys.
#[derive(Default)]
pub(crate) struct Group {
    /// Ordered, so that those who want the same stand together and the order of delivery is always the same.
    pub members: BTreeSet<(Wants, WatcherKey)>,
    /// The positions of the events matched so far; see [`Index::collect`].
    matched: Vec<u32>,
}

pub(crate) struct Index {
    /// Only looked up, never iterated: its order must not show.
    exact: HashMap<Bytes, usize>,
    ranges: Intervals,
    groups: Slab<Group>,
}

impl Index {
    pub fn new(seed: u64) -> Index {
        Index {
            exact: HashMap::new(),
            ranges: Intervals::new(Sequence::new(seed)),
            groups: Slab::new(),
        }
    }

    fn group_of(&self, span: &Span) -> Option<usize> {
        match span {
            Span::Key(key) => self.exact.get(key).copied(),
            Span::Range { start, end } => self.ranges.get(start, end),
        }
    }

    pub fn insert(&mut self, span: &Span, wants: Wants, watcher: WatcherKey) {
        let group = self.group_of(span).unwrap_or_else(|| {
            let group = self.groups.insert(Group::default());
            match span.clone() {
                Span::Key(key) => drop(self.exact.insert(key, group)),
                Span::Range { start, end } => self.ranges.insert(start, end, group),
            }
            group
        });
        self.groups[group].members.insert((wants, watcher));
    }

    pub fn remove(&mut self, span: &Span, wants: Wants, watcher: WatcherKey) {
        let Some(group) = self.group_of(span) else {
            return;
        };
        let members = &mut self.groups[group].members;
        members.remove(&(wants, watcher));
        if members.is_empty() {
            self.groups.remove(group);
            match span {
                Span::Key(key) => drop(self.exact.remove(key)),
                Span::Range { start, end } => self.ranges.remove(start, end),
            }
        }
    }

    /// Matches the events, and appends the groups that match any of them to `touched`, in the order of their first match.
    /// Each one's matches are then to be taken with [`Index::take_matched`].
    pub fn collect(&mut self, events: &[Event], touched: &mut Vec<usize>) {
        let Index {
            exact,
            ranges,
            groups,
        } = self;
        if groups.is_empty() {
            return;
        }
        for (position, event) in (0u32..).zip(events) {
            let mut found = |group: usize| {
                let matched = &mut groups[group].matched;
                if matched.is_empty() {
                    touched.push(group);
                }
                matched.push(position);
            };
            if let Some(&group) = exact.get(&event.key) {
                found(group);
            }
            ranges.holding(&event.key, &mut found);
        }
    }

    pub fn take_matched(&mut self, group: usize) -> Vec<u32> {
        std::mem::take(&mut self.groups[group].matched)
    }

    /// Gives the emptied list back, so that the next match need not allocate; a large one is let go.
    pub fn give_back(&mut self, group: usize, mut matched: Vec<u32>) {
        if matched.capacity() <= 64 {
            matched.clear();
            self.groups[group].matched = matched;
        }
    }

    pub fn members(&self, group: usize) -> &BTreeSet<(Wants, WatcherKey)> {
        &self.groups[group].members
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::End;
    use crate::testing::put;

    fn matches(index: &mut Index, keys: &[&'static str]) -> Vec<(Vec<WatcherKey>, Vec<u32>)> {
        let events: Vec<Event> = keys.iter().map(|key| put(key, 2, "v")).collect();
        let mut touched = Vec::new();
        index.collect(&events, &mut touched);
        touched
            .into_iter()
            .map(|group| {
                let matched = index.take_matched(group);
                (
                    index
                        .members(group)
                        .iter()
                        .map(|(_, watcher)| *watcher)
                        .collect(),
                    matched,
                )
            })
            .collect()
    }

    #[test]
    fn an_event_finds_the_watchers_of_its_key_and_of_the_ranges_around_it_and_no_others() {
        let mut index = Index::new(1);
        let range = |start: &'static str, end: &'static str| Span::Range {
            start: start.into(),
            end: End::Before(end.into()),
        };
        index.insert(&Span::Key("b".into()), Wants::default(), 1);
        index.insert(&range("a", "c"), Wants::default(), 2);
        index.insert(
            &range("a", "c"),
            Wants {
                prev_kv: true,
                ..Wants::default()
            },
            3,
        );
        index.insert(&range("c", "d"), Wants::default(), 4);
        assert_eq!(
            matches(&mut index, &["b", "a", "x"]),
            [(vec![1], vec![0]), (vec![2, 3], vec![0, 1])]
        );

        index.remove(&range("a", "c"), Wants::default(), 2);
        index.remove(&Span::Key("b".into()), Wants::default(), 1);
        assert_eq!(
            matches(&mut index, &["b", "c"]),
            [(vec![3], vec![0]), (vec![4], vec![1])]
        );
    }
}
