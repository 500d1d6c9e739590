//! A model of etcd's keys, as naive as can be: what a call does to a state, and what it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crate::history::{
    Call, Compare, CompareResult, Data, Delete, Event, EventKind, Kv, LeaseId, Put, Range, Reply,
    Revision, Step, Target, Txn,
};

/// All keys at one revision.
#[derive(Clone, Default)]
pub struct State {
    keys: BTreeMap<Data, Kv>,
    leases: HashMap<LeaseId, BTreeSet<Data>>,
}

/// What a call does to a state.
pub struct Ran {
    pub reply: Reply,
    pub events: Vec<Event>,
}

impl State {
    pub fn get(&self, key: &Data) -> Option<&Kv> {
        self.keys.get(key)
    }

    /// The keys of a range as etcd means it.
    pub fn range<'a>(&'a self, key: &Data, end: &Data) -> Box<dyn Iterator<Item = &'a Kv> + 'a> {
        if end.is_empty() {
            return Box::new(self.keys.get(key).into_iter());
        }
        match bounds(key, end) {
            Some(bounds) => Box::new(self.keys.range(bounds).map(|(_, kv)| kv)),
            None => Box::new(std::iter::empty()),
        }
    }

    /// The keys that hang on a lease, in order.
    pub fn of_lease(&self, lease: LeaseId) -> impl Iterator<Item = &Data> {
        self.leases.get(&lease).into_iter().flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Kv> {
        self.keys.values()
    }

    pub fn apply(&mut self, event: &Event) {
        let before = match event.kind {
            EventKind::Put => self.keys.insert(event.kv.key.clone(), event.kv.clone()),
            EventKind::Delete => self.keys.remove(&event.kv.key),
        };
        if let Some(before) = before.filter(|kv| !kv.lease.is_none())
            && let Some(keys) = self.leases.get_mut(&before.lease)
        {
            keys.remove(&before.key);
        }
        if event.kind == EventKind::Put && !event.kv.lease.is_none() {
            let keys = self.leases.entry(event.kv.lease).or_default();
            keys.insert(event.kv.key.clone());
        }
    }

    /// What a put makes of a key at a revision.
    pub fn after_put(&self, key: &Data, value: &Data, lease: LeaseId, revision: Revision) -> Kv {
        after_put(self.keys.get(key), key, value, lease, revision)
    }

    /// What a read is told.
    pub fn read(&self, range: &Range) -> Reply {
        View::of(self, Revision(0)).read(range)
    }

    /// What a call that reads or writes keys does at this state, if it makes `revision`. None for other calls.
    pub fn run(&self, call: &Call, revision: Revision) -> Option<Ran> {
        let mut view = View::of(self, revision);
        let reply = match call {
            Call::Range(range) => view.read(range),
            Call::Put(put) => view.put(put),
            Call::Delete(delete) => view.delete(delete),
            Call::Txn(txn) => view.txn(txn),
            _ => return None,
        };
        Some(Ran {
            reply,
            events: view.events,
        })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut kvs = self.range(&compare.key, &compare.range_end).peekable();
        if kvs.peek().is_none() {
            return !matches!(compare.target, Target::Value(_))
                && compared(compare, &Kv::default());
        }
        kvs.all(|kv| compared(compare, kv))
    }
}

fn bounds<'d>(key: &'d Data, end: &'d Data) -> Option<(Bound<&'d Data>, Bound<&'d Data>)> {
    if end.0.as_ref() == b"\0" {
        return Some((Bound::Included(key), Bound::Unbounded));
    }
    (key < end).then_some((Bound::Included(key), Bound::Excluded(end)))
}

/// Whether a key is in a range as etcd means it.
pub fn within(key: &Data, first: &Data, end: &Data) -> bool {
    match end.0.as_ref() {
        b"" => key == first,
        b"\0" => key >= first,
        _ => key >= first && key < end,
    }
}

fn after_put(
    before: Option<&Kv>,
    key: &Data,
    value: &Data,
    lease: LeaseId,
    revision: Revision,
) -> Kv {
    Kv {
        key: key.clone(),
        value: value.clone(),
        create_revision: before.map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: before.map_or(1, |kv| kv.version + 1),
        lease,
    }
}

fn compared(compare: &Compare, kv: &Kv) -> bool {
    let ordering = match &compare.target {
        Target::Version(version) => kv.version.cmp(version),
        Target::Create(revision) => kv.create_revision.cmp(revision),
        Target::Mod(revision) => kv.mod_revision.cmp(revision),
        Target::Value(value) => kv.value.cmp(value),
        Target::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}

/// A state with what a transaction has changed so far.
struct View<'a> {
    base: &'a State,
    changes: BTreeMap<Data, Option<Kv>>,
    events: Vec<Event>,
    revision: Revision,
}

impl<'a> View<'a> {
    fn of(base: &'a State, revision: Revision) -> View<'a> {
        View {
            base,
            changes: BTreeMap::new(),
            events: Vec::new(),
            revision,
        }
    }

    fn get(&self, key: &Data) -> Option<&Kv> {
        match self.changes.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    fn kvs(&self, key: &Data, end: &Data) -> Vec<Kv> {
        if end.is_empty() {
            return self.get(key).cloned().into_iter().collect();
        }
        let untouched = |kv: &&Kv| !self.changes.contains_key(&kv.key);
        let mut kvs: Vec<Kv> = self
            .base
            .range(key, end)
            .filter(untouched)
            .cloned()
            .collect();
        let Some(bounds) = bounds(key, end).filter(|_| !self.changes.is_empty()) else {
            return kvs;
        };
        let changed = self.changes.range(bounds).filter_map(|(_, kv)| kv.clone());
        kvs.extend(changed);
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    }

    /// A read of now, whatever revision it asks for: one of the past is judged where that was now.
    fn read(&self, range: &Range) -> Reply {
        let mut kvs = self.kvs(&range.key, &range.range_end);
        let count = i64::try_from(kvs.len()).expect("a count of keys in memory is an i64");
        let mut more = false;
        if range.count_only {
            kvs.clear();
        } else if range.limit > 0 && count > range.limit {
            kvs.truncate(usize::try_from(range.limit).expect("it is less than a usize"));
            more = true;
        }
        if range.keys_only {
            for kv in &mut kvs {
                kv.value = Data::default();
            }
        }
        Reply::Range { kvs, count, more }
    }

    fn put(&mut self, put: &Put) -> Reply {
        let before = self.get(&put.key).cloned();
        let kv = after_put(
            before.as_ref(),
            &put.key,
            &put.value,
            put.lease,
            self.revision,
        );
        self.changes.insert(put.key.clone(), Some(kv.clone()));
        self.events.push(Event {
            kind: EventKind::Put,
            kv,
            prev_kv: before.clone(),
        });
        Reply::Put {
            prev_kv: before.filter(|_| put.prev_kv),
        }
    }

    fn delete(&mut self, delete: &Delete) -> Reply {
        let kvs = self.kvs(&delete.key, &delete.range_end);
        for kv in &kvs {
            self.changes.insert(kv.key.clone(), None);
            self.events.push(deletion(kv, self.revision));
        }
        Reply::Delete {
            deleted: i64::try_from(kvs.len()).expect("a count of keys in memory is an i64"),
            prev_kvs: if delete.prev_kv { kvs } else { Vec::new() },
        }
    }

    fn txn(&mut self, txn: &Txn) -> Reply {
        let succeeded = txn.compares.iter().all(|compare| self.base.holds(compare));
        let steps = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let responses = steps
            .iter()
            .map(|step| match step {
                Step::Range(range) => self.read(range),
                Step::Put(put) => self.put(put),
                Step::Delete(delete) => self.delete(delete),
                Step::Txn(txn) => self.txn(txn),
            })
            .collect();
        Reply::Txn {
            succeeded,
            responses,
        }
    }
}

/// The event of a key's deletion.
pub fn deletion(kv: &Kv, revision: Revision) -> Event {
    Event {
        kind: EventKind::Delete,
        kv: Kv {
            key: kv.key.clone(),
            mod_revision: revision,
            ..Kv::default()
        },
        prev_kv: Some(kv.clone()),
    }
}
