//! The engine's twin in memory, for tests and simulation: persistent maps, so that a view costs one reference a family.
//!
//! **Guarantees**: what the trait promises and no more. It takes every liberty that the trait allows, at the worst moment:
//! [`MemoryEngine::crash`] goes back to the last flush, and records below the history floor are gone from every view at once.
//!
//! **Leaves to others**: the disk; [`Engine::checkpoint`] writes one file that [`MemoryEngine::restore`] reads.

use bytes::{Buf, BufMut, Bytes};
use imbl::OrdMap;
use imbl::ordmap::RangedIter;
use imbl::shared_ptr::DefaultSharedPtr;
use parking_lot::Mutex;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::Revision;
use crate::engine::{Batch, Change, Cursor, Engine, EngineError, EngineSize, Family, View};
use crate::format::hist_revision;

type Map = OrdMap<Bytes, Bytes>;

/// The file that a checkpoint consists of.
const CHECKPOINT_FILE: &str = "memory.ckpt";

/// One map a family.
#[derive(Clone, Default)]
struct Maps([Map; Family::ALL.len()]);

/// An engine in memory.
#[derive(Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
    /// Shared with the views: records of the past at or below it are gone, for them too.
    floor: Arc<AtomicI64>,
}

#[derive(Default)]
struct State {
    written: Maps,
    flushed: Maps,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }

    /// Loses what was written since the last flush, as a crash does. Views live on.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        state.written = state.flushed.clone();
    }

    /// Opens what [`Engine::checkpoint`] made; it counts as flushed.
    pub fn restore(from: &Path) -> Result<MemoryEngine, EngineError> {
        let path = from.join(CHECKPOINT_FILE);
        let context = || format!("reading the checkpoint {}", path.display());
        let mut rest =
            Bytes::from(std::fs::read(&path).map_err(|error| EngineError::new(context(), error))?);
        let mut maps = Maps::default();
        while rest.has_remaining() {
            let record = read_record(&mut rest)
                .ok_or_else(|| EngineError::new(context(), "it is damaged"))?;
            maps.of_mut(record.0).insert(record.1, record.2);
        }
        let state = State {
            written: maps.clone(),
            flushed: maps,
        };
        Ok(MemoryEngine {
            state: Mutex::new(state),
            floor: Arc::default(),
        })
    }
}

fn read_record(rest: &mut Bytes) -> Option<(Family, Bytes, Bytes)> {
    let family = *Family::ALL.get(usize::from(rest.try_get_u8().ok()?))?;
    let mut field = || {
        let len = rest.try_get_u32().ok()? as usize;
        (len <= rest.len()).then(|| rest.split_to(len))
    };
    Some((family, field()?, field()?))
}

impl Maps {
    fn of(&self, family: Family) -> &Map {
        &self.0[family as usize]
    }

    fn of_mut(&mut self, family: Family) -> &mut Map {
        &mut self.0[family as usize]
    }

    fn write(&mut self, change: &Change) {
        // Keys and values are copied: a slice of a large request would keep all of it.
        match change {
            Change::Put(family, key, value) => {
                self.of_mut(*family)
                    .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            Change::Delete(family, key) => {
                self.of_mut(*family).remove(key);
            }
            Change::DeleteRange(family, from, to) => {
                let map = self.of_mut(*family);
                let gone = range(map, from, Some(to));
                let gone: Vec<Bytes> = gone
                    .into_iter()
                    .flatten()
                    .map(|(key, _)| key.clone())
                    .collect();
                for key in gone {
                    map.remove(&key);
                }
            }
        }
    }
}

impl Engine for MemoryEngine {
    type View = MemoryView;

    fn view(&self) -> Result<MemoryView, EngineError> {
        Ok(MemoryView {
            maps: Arc::new(self.state.lock().written.clone()),
            floor: self.floor.clone(),
        })
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        for change in &batch.changes {
            state.written.write(change);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        state.flushed = state.written.clone();
        Ok(())
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.state.lock().flushed.of(family).get(key).cloned())
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        let maps = self.state.lock().written.clone();
        let mut out = Vec::new();
        for family in Family::ALL {
            for (key, value) in maps.of(family) {
                out.put_u8(family as u8);
                out.put_u32(key.len() as u32);
                out.extend_from_slice(key);
                out.put_u32(value.len() as u32);
                out.extend_from_slice(value);
            }
        }
        std::fs::create_dir(into)
            .and_then(|()| std::fs::write(into.join(CHECKPOINT_FILE), out))
            .map_err(|error| {
                EngineError::new(
                    format!("writing a checkpoint into {}", into.display()),
                    error,
                )
            })
    }

    fn set_history_floor(&self, revision: Revision) {
        self.floor.fetch_max(revision.0, Ordering::SeqCst);
    }

    fn compact_files(&self) -> Result<(), EngineError> {
        let floor = self.floor.load(Ordering::SeqCst);
        let state = &mut *self.state.lock();
        for maps in [&mut state.written, &mut state.flushed] {
            let hist = maps.of_mut(Family::Hist);
            let kept = hist.iter().filter(|(key, _)| !below(key, floor));
            *hist = kept
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
        }
        Ok(())
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        let maps = self.state.lock().written.clone();
        let bytes = |map: &Map| {
            map.iter()
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>() as u64
        };
        let all = Family::ALL
            .into_iter()
            .map(|family| bytes(maps.of(family)))
            .sum();
        Ok(EngineSize {
            on_disk: all,
            in_use: all,
        })
    }
}

/// Whether a record of the hist family is at or below the floor.
fn below(key: &[u8], floor: i64) -> bool {
    hist_revision(key).is_some_and(|revision| revision.0 <= floor)
}

/// A view of a [`MemoryEngine`].
#[derive(Clone)]
pub struct MemoryView {
    maps: Arc<Maps>,
    floor: Arc<AtomicI64>,
}

impl View for MemoryView {
    type Cursor<'a> = MemoryCursor<'a>;

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if family == Family::Hist && below(key, self.floor.load(Ordering::SeqCst)) {
            return Ok(None);
        }
        Ok(self.maps.of(family).get(key).cloned())
    }

    fn cursor(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> MemoryCursor<'_> {
        let map = self.maps.of(family);
        let to = to.map(<[u8]>::to_vec);
        MemoryCursor {
            map,
            iter: range(map, from, to.as_deref()),
            from: from.to_vec(),
            to,
            floor: (family == Family::Hist).then_some(&*self.floor),
        }
    }
}

type Iter<'a> = RangedIter<'a, Bytes, Bytes, DefaultSharedPtr>;

fn range<'a>(map: &'a Map, from: &[u8], to: Option<&[u8]>) -> Option<Iter<'a>> {
    if to.is_some_and(|to| to <= from) {
        return None;
    }
    Some(map.range::<_, [u8]>((
        Bound::Included(from),
        to.map_or(Bound::Unbounded, Bound::Excluded),
    )))
}

/// A cursor over one family of a [`MemoryView`].
pub struct MemoryCursor<'a> {
    map: &'a Map,
    iter: Option<Iter<'a>>,
    /// No key before this one is given any more.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    /// Set for the history: what is at or below is gone.
    floor: Option<&'a AtomicI64>,
}

impl Cursor for MemoryCursor<'_> {
    fn next(&mut self) -> Result<Option<(&[u8], &[u8])>, EngineError> {
        let Some(iter) = &mut self.iter else {
            return Ok(None);
        };
        for (key, value) in iter {
            if self
                .floor
                .is_some_and(|floor| below(key, floor.load(Ordering::SeqCst)))
            {
                continue;
            }
            // The next one is greater: the first key that can follow ends in another 0.
            self.from.clear();
            self.from.extend_from_slice(key);
            self.from.push(0);
            return Ok(Some((key, value)));
        }
        self.iter = None;
        Ok(None)
    }

    fn seek(&mut self, key: &[u8]) {
        if self.iter.is_none() || key <= self.from.as_slice() {
            return;
        }
        self.from.clear();
        self.from.extend_from_slice(key);
        self.iter = range(self.map, key, self.to.as_deref());
    }
}
