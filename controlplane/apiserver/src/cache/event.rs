//! What happened to an object, and how a watcher is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Entry;
use crate::resources::Resource;
use crate::selector::Selector;
use crate::storage::Revision;

/// What a watch event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// It is there now.
    Added,
    /// It has changed.
    Modified,
    /// It is gone, or no longer selected.
    Deleted,
}

impl WatchKind {
    /// As in a watch event's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            WatchKind::Added => "ADDED",
            WatchKind::Modified => "MODIFIED",
            WatchKind::Deleted => "DELETED",
        }
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Event {
    /// The object before, if it was there.
    before: Option<Arc<Entry>>,
    /// The object after, if it is there.
    after: Option<Arc<Entry>>,
    revision: Revision,
    /// What watchers were sent.
    encoded: Mutex<Encodings>,
}

/// An event's encodings, as long as it is in the ring. Its watchers may hold it longer, but hardly ask again.
#[derive(Debug)]
struct Encodings {
    /// By encoding, and by what watchers were told.
    known: Vec<(u64, WatchKind, Bytes)>,
    /// Where the ring counts their bytes; none when the event has left it.
    count: Option<Arc<AtomicUsize>>,
}

impl Event {
    pub(super) fn new(
        before: Option<Arc<Entry>>,
        after: Option<Arc<Entry>>,
        revision: Revision,
        count: Arc<AtomicUsize>,
    ) -> Event {
        Event {
            before,
            after,
            revision,
            encoded: Mutex::new(Encodings {
                known: Vec::new(),
                count: Some(count),
            }),
        }
    }

    /// Forgets the encodings: the event has left the ring.
    pub(super) fn retire(&self) {
        let mut encoded = self.encoded.lock();
        let bytes: usize = encoded.known.drain(..).map(|(.., one)| one.len()).sum();
        if let Some(count) = encoded.count.take() {
            count.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn before(&self) -> Option<&Arc<Entry>> {
        self.before.as_ref()
    }

    pub(super) fn after(&self) -> Option<&Arc<Entry>> {
        self.after.as_ref()
    }

    /// What a watcher with `selector` is told of it, if anything.
    pub(super) fn seen_through(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> Option<WatchKind> {
        let seen = |entry: &Option<Arc<Entry>>| {
            entry
                .as_ref()
                .is_some_and(|entry| entry.is_selected(resource, selector))
        };
        match (seen(&self.before), seen(&self.after)) {
            (false, true) => Some(WatchKind::Added),
            (true, true) => Some(WatchKind::Modified),
            (true, false) => Some(WatchKind::Deleted),
            (false, false) => None,
        }
    }

    /// Roughly how much memory it takes without its encodings: at most, since others may hold the object before and
    /// after as well.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.bytes());
        bytes(&self.before) + bytes(&self.after) + 128
    }
}

/// An event as one watcher is told of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// What is said.
    pub kind: WatchKind,
    /// Of what.
    pub event: Arc<Event>,
}

impl Told {
    /// The object that is told: the last one seen if it is gone, with the resource version of the event.
    pub fn entry(&self) -> Arc<Entry> {
        match (self.kind, &self.event.after, &self.event.before) {
            (WatchKind::Added | WatchKind::Modified, Some(after), _) => after.clone(),
            (_, _, Some(before)) => Arc::new(before.at_revision(self.event.revision)),
            (_, Some(after), None) => after.clone(),
            (_, None, None) => unreachable!("something was there before or after"),
        }
    }

    /// The encoded event: made by `encode` for the first watcher that asks with this encoding.
    pub fn encoded(&self, encoding: u64, encode: impl FnOnce(WatchKind, &Entry) -> Bytes) -> Bytes {
        let mut encoded = self.event.encoded.lock();
        let found = encoded
            .known
            .iter()
            .find(|(of, kind, _)| *of == encoding && *kind == self.kind);
        if let Some((_, _, bytes)) = found {
            return bytes.clone();
        }
        let bytes = encode(self.kind, &self.entry());
        if let Some(count) = &encoded.count {
            count.fetch_add(bytes.len(), Ordering::AcqRel);
            encoded.known.push((encoding, self.kind, bytes.clone()));
        }
        bytes
    }
}
