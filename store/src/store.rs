//! The applying half of the state machine: takes committed entries, writes them in one batch, publishes one state.

use arc_swap::ArcSwap;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{State, StoredMembership};
use keelson_proto::etcdserverpb::AlarmType;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::apply::{Base, Work};
use crate::cache::Cache;
use crate::counts::CountTree;
use crate::engine::{Batch, Cursor, Engine, EngineError, Family, View};
use crate::format::{self, RawLog, log_key, meta, prefix_end};
use crate::published::{Generation, Published, Reader};
use crate::roots::Roots;
use crate::state::{applied, first_state, read_state};
use crate::{Entry, Event, EventKind, LeaseId, LogId, LogIndex, OpenError, Outcome, Revision};

/// How a store is set up. Nothing here changes what applying gives: members may differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many bytes of recent records are kept in memory; 0: none.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// What applying some entries gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// One an entry, in their order.
    pub outcomes: Vec<Outcome>,
    /// All changes of keys, in the order of (revision, sub).
    pub events: Vec<Event>,
    /// All changes of leases, in their order.
    pub leases: Vec<LeaseChange>,
    /// The revision afterwards.
    pub revision: Revision,
    /// The compacted revision afterwards; -1: never compacted.
    pub compacted: Revision,
    /// Whether the names or URLs of members have changed.
    pub attributes_changed: bool,
}

/// A lease that began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted {
        /// Its id.
        id: LeaseId,
        /// Its time to live, in seconds.
        ttl_s: i64,
    },
    /// It was revoked, or had expired.
    Revoked {
        /// Its id.
        id: LeaseId,
    },
}

/// The state machine over an engine. It has one owner, which applies; readers are made by [`Store::reader`].
///
/// After an [`EngineError`] the store is of no more use: the member stops.
pub struct Store<E: Engine> {
    engine: Arc<E>,
    options: Options,
    shared: Arc<ArcSwap<Published<E::View>>>,
    view: E::View,
    base: Base,
    /// The generations that readers may still hold, oldest first; the last is the current one.
    generations: Vec<Arc<Generation>>,
    history_floor: Revision,
}

impl<E: Engine> Store<E> {
    /// Opens the state that the engine holds, or an empty one. Reads nothing that is proportional to the keys but their
    /// counts, one record for about 128 of them, and the last few MiB of the log. Writes nothing.
    pub fn open(engine: Arc<E>, options: Options) -> Result<Store<E>, OpenError> {
        let (view, base) = load(&*engine, options)?;
        let generation = Arc::new(Generation {
            compacted: base.compacted(),
        });
        let shared = Arc::new(ArcSwap::from_pointee(published(
            &base,
            &view,
            generation.clone(),
        )));
        let mut store = Store {
            engine,
            options,
            shared,
            view,
            base,
            generations: vec![generation],
            history_floor: Revision(0),
        };
        store.raise_history_floor()?;
        Ok(store)
    }

    /// Goes on with another engine's state, as after a snapshot was installed. Readers made before see it from now on.
    pub fn replace(&mut self, engine: Arc<E>) -> Result<(), OpenError> {
        let (view, base) = load(&*engine, self.options)?;
        let generation = Arc::new(Generation {
            compacted: base.compacted(),
        });
        self.shared
            .store(Arc::new(published(&base, &view, generation.clone())));
        self.engine = engine;
        self.view = view;
        self.base = base;
        // The old engine and its floor are not touched any more.
        self.generations = vec![generation];
        self.history_floor = Revision(0);
        self.raise_history_floor()?;
        Ok(())
    }

    /// Applies entries that follow those applied before, writes their changes in one batch, and publishes the new state.
    /// Fails only with the engine, or if an entry is not one that comes after the last.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Applied, EngineError> {
        self.apply_holding(entries, |_| ())
    }

    /// [`Store::apply`] for who keeps something about leases beside the store, which readers must not find to be older or newer
    /// than the state: `hold` is told what is about to be published, and what it gives is dropped once that is.
    pub fn apply_holding<H>(
        &mut self,
        entries: &[Entry],
        hold: impl FnOnce(&[LeaseChange]) -> H,
    ) -> Result<Applied, EngineError> {
        let mut work = Work::new(&self.view, self.base.clone());
        let outcomes = work.entries(entries)?;
        let done = work.finish()?;
        if on(Bug::AppliedIndexBeforeData) {
            self.persist_applied_first(&done.base)?;
        }
        self.engine.write(&done.batch)?;

        self.view = self.engine.view()?;
        self.base = done.base;
        let held = hold(&done.leases);
        let replaced = self.publish();
        drop(held);
        // To let go of a view takes longer than to replace it.
        drop(replaced);
        self.raise_history_floor()?;
        Ok(Applied {
            outcomes,
            events: done.events,
            leases: done.leases,
            revision: self.base.revision(),
            compacted: self.base.compacted(),
            attributes_changed: done.attributes_changed,
        })
    }

    /// A reader of what is published, now and later.
    pub fn reader(&self) -> Reader<E> {
        Reader {
            shared: self.shared.clone(),
        }
    }

    /// The log id of the last applied entry, and the membership in force.
    pub fn applied(&self) -> (Option<LogId>, StoredMembership) {
        (
            applied(&self.base.state),
            self.base.state.membership.clone().unwrap_or_default(),
        )
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// A planted bug: puts on the disk that entries are applied, now and then, before what they change is there.
    fn persist_applied_first(&self, next: &Base) -> Result<(), EngineError> {
        let applied = next.state.applied;
        if self.base.unversioned || applied.is_none_or(|id| !id.index.is_multiple_of(8)) {
            return Ok(());
        }
        let state = State {
            applied,
            ..self.base.state.clone()
        };
        let mut batch = Batch::default();
        batch.put(Family::Meta, meta::STATE, state.encode_to_vec());
        self.engine.write(&batch)?;
        self.engine.flush()
    }

    /// Publishes the state, and gives the one that was published before.
    fn publish(&mut self) -> Arc<Published<E::View>> {
        let compacted = self.base.compacted();
        let current = match self.generations.last() {
            Some(last) if last.compacted == compacted => last.clone(),
            _ => {
                let next = Arc::new(Generation { compacted });
                self.generations.push(next.clone());
                next
            }
        };
        self.shared
            .swap(Arc::new(published(&self.base, &self.view, current)))
    }

    /// Lets the engine drop the history that nobody can need any more: no reader of an older state, and not this store either, should it
    /// have to start again from the last flush.
    fn raise_history_floor(&mut self) -> Result<(), EngineError> {
        let kept = self.generations.len() - 1;
        let read = self.generations[..kept]
            .iter()
            .position(|old| Arc::strong_count(old) > 1)
            .unwrap_or(kept);
        self.generations.drain(..read);
        let wanted = self.generations[0].compacted;
        if wanted <= self.history_floor {
            return Ok(());
        }
        let persisted = read_state(|family, key| self.engine.get_persisted(family, key))
            .map_err(|error| EngineError::new("reading the flushed state", error))?;
        let floor = wanted.min(Revision(persisted.map_or(0, |state| state.compacted)));
        if floor > self.history_floor {
            self.engine.set_history_floor(floor);
            self.history_floor = floor;
        }
        Ok(())
    }
}

/// Reads a state from an engine.
fn load<E: Engine>(engine: &E, options: Options) -> Result<(E::View, Base), OpenError> {
    let view = engine.view()?;
    let found = read_state(|family, key| view.get(family, key))?;
    let mut state: State = found.unwrap_or_else(first_state);
    let unversioned = state.counted == 0;
    if unversioned {
        state.counted = state.revision;
    }
    let (counts, counted_end) = load_counts(&view, &state)?;
    if counts.total() != state.keys {
        let what = format!("{} keys, but {} are counted", state.keys, counts.total());
        return Err(OpenError::Damaged { what });
    }
    let mut alarms = BTreeSet::new();
    let mut log_start = state.log_end;
    {
        let mut cursor = view.cursor(
            Family::Meta,
            &[meta::ALARM],
            prefix_end(&[meta::ALARM]).as_deref(),
        );
        while let Some((key, _)) = cursor.next()? {
            alarms.insert(format::parse_alarm_key(key)?);
        }
        let mut log = view.cursor(Family::Log, b"", None);
        if let Some((key, value)) = log.next()? {
            log_start = RawLog::parse(key, value)?.position;
        }
    }
    let base = Base {
        state,
        unversioned,
        counts,
        counted_end,
        roots: Roots::default(),
        cache: Arc::new(Cache::new(options.cache_bytes)),
        alarms,
        log_start,
    };
    Ok((view, base))
}

/// The counts as they were written, and then what was logged since: from where, too.
fn load_counts<V: View>(view: &V, state: &State) -> Result<(CountTree, u64), EngineError> {
    let mut counts = CountTree::load(view)?;
    let mut counted_end = None;
    let from = log_key(Revision(state.counted).next(), 0);
    let mut log = view.cursor(Family::Log, &from, None);
    while let Some((key, value)) = log.next()? {
        let record = RawLog::parse(key, value)?;
        counted_end.get_or_insert(record.position);
        if record.kind == EventKind::Delete {
            counts.remove(record.key);
        } else if record.creates() {
            counts.add(record.key);
        }
    }
    Ok((counts, counted_end.unwrap_or(state.log_end)))
}

fn published<V: View>(base: &Base, view: &V, generation: Arc<Generation>) -> Published<V> {
    Published {
        applied: LogIndex(base.state.applied.map_or(0, |id| id.index)),
        revision: base.revision(),
        compacted: base.compacted(),
        state: base.state.clone(),
        counts: base.counts.clone(),
        roots: base.roots.clone(),
        cache: base.cache.clone(),
        view: view.clone(),
        _generation: generation,
    }
}

/// Whether an alarm stops a command.
pub(crate) fn has_alarm(alarms: &BTreeSet<(i32, u64)>, kind: AlarmType) -> bool {
    alarms
        .range((kind as i32, 0)..=(kind as i32, u64::MAX))
        .next()
        .is_some()
}
