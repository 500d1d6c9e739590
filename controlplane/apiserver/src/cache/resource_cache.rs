//! The cache of one resource.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imbl::OrdMap;
use parking_lot::RwLock;

use super::watcher::Slot;
use super::{Entry, Event};
use crate::resources::Resource;
use crate::selector::Selector;
use crate::status::{ApiError, ApiResult};
use crate::storage::{Change, ChangeKind, Revision, Stored};

/// The objects of one resource, and what happened to them lately.
pub struct Cache {
    /// Which resource. Others may show the same objects in another form.
    pub resource: &'static Resource,
    /// What the keys of its objects begin with.
    pub(super) prefix: String,
    /// How many bytes of recent events are kept.
    history_bytes_max: usize,
    pub(super) state: RwLock<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// By key. A copy costs nothing, and is a list at one revision that no lock is held for.
    entries: OrdMap<Box<str>, Arc<Entry>>,
    /// The ring: recent events in order.
    pub(super) recent: VecDeque<Arc<Event>>,
    /// The number of the first event in the ring; numbers never repeat.
    pub(super) first: u64,
    /// Without the events' encodings.
    recent_bytes: usize,
    /// The bytes of all encodings of the events in the ring.
    encoded_bytes: Arc<AtomicUsize>,
    /// Everything up to here is in.
    pub(super) revision: Revision,
    /// Every event after this revision is in the ring.
    oldest: Revision,
    /// Changes when the cache was filled anew, which no watcher survives.
    pub(super) epoch: u64,
    waiting: HashMap<Interest, Vec<Arc<Slot>>>,
}

/// What has to happen for a watcher to be woken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Interest {
    Everything,
    Namespace(Box<str>),
    Object(Box<str>),
    /// The value of the field that the resource is indexed by.
    Indexed(Box<str>),
}

/// Where objects are looked for. No text that may be "": who had not thought of that would see every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Within {
    /// In all namespaces, or in none, where such objects live.
    #[default]
    Everywhere,
    /// In one namespace.
    Namespace(String),
}

impl Within {
    /// Of a request, whose namespace is "" if it names none.
    pub fn of_request(namespace: &str) -> Within {
        match namespace {
            "" => Within::Everywhere,
            namespace => Within::Namespace(namespace.to_owned()),
        }
    }
}

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Where they are.
    pub within: Within,
    /// Which of these.
    pub selector: Selector,
}

impl Scope {
    pub(super) fn interest(&self, resource: &Resource) -> Interest {
        let fields = &self.selector.fields;
        if let Some(name) = fields.exact("metadata.name") {
            if !resource.namespaced {
                return Interest::Object(name.into());
            }
            if let Within::Namespace(namespace) = &self.within {
                return Interest::Object(format!("{namespace}/{name}").into());
            }
        }
        if let Some(value) = resource.indexed_by.and_then(|field| fields.exact(field)) {
            return Interest::Indexed(value.into());
        }
        match &self.within {
            Within::Everywhere => Interest::Everything,
            Within::Namespace(namespace) => Interest::Namespace(namespace.as_str().into()),
        }
    }

    pub(super) fn has(&self, entry: &Entry) -> bool {
        match &self.within {
            Within::Everywhere => true,
            Within::Namespace(namespace) => entry.namespace() == namespace,
        }
    }
}

/// All objects at one revision.
#[derive(Clone)]
pub struct Snapshot {
    /// Which resource's.
    pub resource: &'static Resource,
    /// The revision.
    pub revision: Revision,
    entries: OrdMap<Box<str>, Arc<Entry>>,
}

impl Snapshot {
    /// The objects of `scope`, from the key `from` on.
    pub fn select<'a>(
        &'a self,
        scope: &'a Scope,
        from: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + 'a {
        // Namespaces are contiguous: begin at the first key of the one that is asked for.
        let lowest = match &scope.within {
            Within::Everywhere => String::new(),
            Within::Namespace(namespace) => format!("{namespace}/"),
        };
        let start = from.unwrap_or(&lowest);
        self.entries
            .range::<_, str>((Bound::Included(start), Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(move |entry| scope.has(entry))
            .filter(move |entry| entry.is_selected(self.resource, &scope.selector))
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }
}

impl Cache {
    pub(super) fn new(resource: &'static Resource, history_bytes_max: usize) -> Cache {
        Cache {
            resource,
            prefix: resource.prefix(),
            history_bytes_max,
            state: RwLock::new(State::default()),
        }
    }

    /// Everything now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        Snapshot {
            resource: self.resource,
            revision: state.revision,
            entries: state.entries.clone(),
        }
    }

    /// One object as the cache has it now.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).cloned()
    }

    /// Whether it was filled from the store yet.
    pub fn is_filled(&self) -> bool {
        self.state.read().epoch > 0
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        self.state.read().waiting.values().map(Vec::len).sum()
    }

    /// Takes what the store has at `revision` in place of everything, and ends all watches: what happened in between
    /// is not known.
    pub(super) fn fill(&self, stored: Vec<Stored>, revision: Revision) {
        let entries = stored
            .into_iter()
            .filter_map(|stored| {
                let key = stored.key.strip_prefix(&self.prefix)?;
                let entry = Entry::of_stored(self.resource, key, stored.revision, &stored.value)?;
                Some((Box::from(key), Arc::new(entry)))
            })
            .collect();
        let mut state = self.state.write();
        let ended = std::mem::take(&mut state.waiting);
        // Those who still hold one of them no longer count.
        state.recent.iter().for_each(|event| event.retire());
        *state = State {
            entries,
            revision,
            oldest: revision,
            first: state.first + state.recent.len() as u64,
            epoch: state.epoch + 1,
            ..State::default()
        };
        drop(state);
        for slot in ended.into_values().flatten() {
            slot.wake(0);
        }
    }

    /// Takes changes of this resource's keys, in order.
    pub(super) fn apply(&self, changes: &[(&str, &Change)], reached: Revision) {
        // Decoded before the lock is taken, so that readers do not wait for it.
        let decoded: Vec<Option<Arc<Entry>>> = changes
            .iter()
            .map(|(key, change)| match &change.kind {
                ChangeKind::Put(bytes) => {
                    Entry::of_stored(self.resource, key, change.revision, bytes).map(Arc::new)
                }
                ChangeKind::Delete => None,
            })
            .collect();
        let mut state = self.state.write();
        for ((key, change), after) in changes.iter().zip(decoded) {
            let before = match &after {
                Some(after) => state.entries.insert((*key).into(), after.clone()),
                None => state.entries.remove(*key),
            };
            if before.is_none() && after.is_none() {
                continue;
            }
            let count = state.encoded_bytes.clone();
            let event = Event::new(before, after, change.revision, count);
            state.push(self.resource, Arc::new(event), self.history_bytes_max);
        }
        state.revision = state.revision.max(reached);
    }

    /// The number of the first event after `revision`, for a watch that starts there.
    pub(super) fn first_after(&self, state: &State, revision: Revision) -> ApiResult<u64> {
        if revision < state.oldest {
            return Err(ApiError::too_old(revision, state.oldest));
        }
        let before = state
            .recent
            .partition_point(|event| event.revision() <= revision);
        Ok(state.first + before as u64)
    }
}

impl State {
    pub(super) fn snapshot(&self, resource: &'static Resource) -> Snapshot {
        Snapshot {
            resource,
            revision: self.revision,
            entries: self.entries.clone(),
        }
    }

    fn push(&mut self, resource: &Resource, event: Arc<Event>, bytes_max: usize) {
        let number = self.first + self.recent.len() as u64;
        self.wake(resource, &event, number);
        self.recent_bytes += event.bytes();
        self.recent.push_back(event);
        while self.bytes() > bytes_max && self.recent.len() > 1 {
            let Some(old) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= old.bytes();
            old.retire();
            self.first += 1;
            self.oldest = old.revision();
        }
    }

    /// What the ring takes.
    fn bytes(&self) -> usize {
        self.recent_bytes + self.encoded_bytes.load(Ordering::Acquire)
    }

    fn wake(&self, resource: &Resource, event: &Event, number: u64) {
        if self.waiting.is_empty() {
            return;
        }
        let wake = |interest: &Interest| {
            for slot in self.waiting.get(interest).into_iter().flatten() {
                slot.wake(number);
            }
        };
        wake(&Interest::Everything);
        let Some(entry) = event.after().or(event.before()) else {
            return;
        };
        wake(&Interest::Namespace(entry.namespace().into()));
        wake(&Interest::Object(entry.key().into()));
        let Some(field) = resource.indexed_by else {
            return;
        };
        // A watcher of the value that an object had must hear that it left.
        let value = |entry: Option<&Arc<Entry>>| {
            entry.map(|entry| Interest::Indexed(entry.field(resource, field).into()))
        };
        let (before, after) = (value(event.before()), value(event.after()));
        if let Some(after) = &after {
            wake(after);
        }
        match &before {
            Some(before) if Some(before) != after.as_ref() => wake(before),
            _ => {}
        }
    }

    pub(super) fn register(&mut self, interest: Interest, slot: Arc<Slot>) {
        self.waiting.entry(interest).or_default().push(slot);
    }

    pub(super) fn forget(&mut self, interest: &Interest, slot: &Arc<Slot>) {
        if let Some(slots) = self.waiting.get_mut(interest) {
            slots.retain(|other| !Arc::ptr_eq(other, slot));
            if slots.is_empty() {
                self.waiting.remove(interest);
            }
        }
    }
}
