//! The engine in memory, with a witness: whatever is written, its state is hashed, looked at, and told to the
//! [`Truth`].
//!
//! The hash covers every byte that all members must have alike and is kept up with each batch. What is looked at beside it is
//! what a client could see: the changes of keys, and that no key hangs on a lease that is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use keelson_proto::commandpb::State;
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_store::engine::{Batch, Change, Cursor, Engine, EngineError, EngineSize, Family, View};
use keelson_store::memory::{MemoryEngine, MemoryView};
use keelson_store::{Options, Published, Revision, Store};
use parking_lot::Mutex;
use prost::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::tally::Kind;
use crate::truth::{Applied, Truth};

/// The record of the family meta that holds the state.
const STATE: &[u8] = b"s";

/// A member's engine.
pub struct Witnessed {
    engine: Arc<MemoryEngine>,
    member: u64,
    truth: Truth,
    seen: Mutex<Seen>,
}

/// What has been looked at: of what is written, and of what a crash would leave.
#[derive(Clone, Copy, Default)]
struct Seen {
    written: Mark,
    flushed: Mark,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    hash: u64,
    revision: i64,
    /// The last entry that was applied.
    index: u64,
}

impl Witnessed {
    /// Watches an engine of a member; what it holds is looked at right away.
    pub fn new(engine: MemoryEngine, member: u64, truth: Truth) -> Result<Witnessed, EngineError> {
        let witnessed = Witnessed {
            engine: Arc::new(engine),
            member,
            truth,
            seen: Mutex::default(),
        };
        let hash = hash_all(&witnessed.engine.view()?)?;
        let mark = witnessed.look(hash, None)?;
        // Files are a snapshot's.
        witnessed.truth.flushed(member, mark.index);
        *witnessed.seen.lock() = Seen {
            written: mark,
            flushed: mark,
        };
        Ok(witnessed)
    }

    /// Loses what was not flushed.
    pub fn crash(&self) {
        self.engine.crash();
        let mut seen = self.seen.lock();
        seen.written = seen.flushed;
    }

    /// Looks at what is written, and tells of it. `since`: the revision up to which the changes were told.
    fn look(&self, hash: u64, since: Option<i64>) -> Result<Mark, EngineError> {
        let store = Store::open(
            Arc::new(Spectator(self.engine.clone())),
            Options { cache_bytes: 0 },
        )
        .map_err(|error| EngineError::new("looking at the state", error))?;
        let now = store.reader().now();
        let revision = now.revision.0;
        let index = now.state().applied.map_or(0, |applied| applied.index);
        let mark = Mark {
            hash,
            revision,
            index,
        };
        let Some(applied) = now.state().applied else {
            return Ok(mark);
        };
        // What was compacted before it was looked at, another member has told of.
        let from = since.map_or(now.compacted.0, |since| since + 1);
        let from = Revision(from.max(now.compacted.0).max(0));
        let look = |what| move |error| EngineError::new(what, error);
        let events = if from.0 <= revision {
            now.events_from(from, usize::MAX, usize::MAX)
                .map_err(look("looking at the events"))?
        } else {
            Vec::new()
        };
        self.look_at_leases(&now)
            .map_err(look("looking at the leases"))?;
        let membership = now.state().membership.clone();
        let state = Applied {
            term: applied.term,
            revision,
            compacted: now.compacted.0,
            hash,
            membership: membership
                .and_then(|stored| stored.membership)
                .unwrap_or_default(),
        };
        self.truth
            .applied(self.member, applied.index, state, events);
        Ok(mark)
    }

    /// No key outlives its lease.
    fn look_at_leases<V: View>(&self, now: &Published<V>) -> Result<(), keelson_store::ReadError> {
        let leases: BTreeSet<i64> = now.leases()?.into_iter().map(|(id, _)| id.0).collect();
        let all = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Default::default()
        };
        for kv in now.range(&all)?.kvs {
            if kv.lease != 0 && !leases.contains(&kv.lease) {
                self.truth.contradiction(format!(
                    "member {} at revision {}: key {:?} hangs on lease {}, which is gone",
                    self.member, now.revision, kv.key, kv.lease
                ));
            }
        }
        Ok(())
    }
}

impl Engine for Witnessed {
    type View = MemoryView;

    fn view(&self) -> Result<MemoryView, EngineError> {
        self.engine.view()
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let before = self.engine.view()?;
        self.engine.write(batch)?;
        let after = self.engine.view()?;
        let Mark {
            mut hash,
            revision,
            index,
        } = self.seen.lock().written;
        for (family, key) in touched(batch, &before)? {
            let old = before.get(family, &key)?;
            let new = after.get(family, &key)?;
            hash = hash
                .wrapping_sub(old.map_or(0, |old| hash_one(family, &key, &old)))
                .wrapping_add(new.map_or(0, |new| hash_one(family, &key, &new)));
        }
        let mark = self.look(hash, Some(revision))?;
        if mark.index > index + 1 {
            self.truth.count(Kind::Batch);
        }
        self.seen.lock().written = mark;
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.engine.flush()?;
        let mut seen = self.seen.lock();
        seen.flushed = seen.written;
        self.truth.flushed(self.member, seen.flushed.index);
        Ok(())
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.engine.get_persisted(family, key)
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.engine.checkpoint(into)
    }

    fn set_history_floor(&self, revision: Revision) {
        self.engine.set_history_floor(revision);
    }

    fn compact_files(&self) -> Result<(), EngineError> {
        self.engine.compact_files()
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        self.engine.size()
    }
}

/// The keys that a batch may change.
fn touched(batch: &Batch, before: &MemoryView) -> Result<BTreeSet<(Family, Bytes)>, EngineError> {
    let mut touched = BTreeSet::new();
    for change in &batch.changes {
        match change {
            Change::Put(family, key, _) | Change::Delete(family, key) => {
                touched.insert((*family, key.clone()));
            }
            Change::DeleteRange(family, from, to) => {
                let mut cursor = before.cursor(*family, from, Some(to));
                while let Some((key, _)) = cursor.next()? {
                    touched.insert((*family, Bytes::copy_from_slice(key)));
                }
            }
        }
    }
    touched.retain(|(family, _)| is_common(*family));
    Ok(touched)
}

/// What all members have alike. What is left of the index of the past below the floor is each engine's own business, and when the
/// counts are written goes by the batches; that they are right is seen whenever the state is opened.
fn is_common(family: Family) -> bool {
    !matches!(family, Family::Hist | Family::Counts)
}

fn hash_one(family: Family, key: &[u8], value: &[u8]) -> u64 {
    let hash = |value: &[u8]| xxh3_64_with_seed(value, xxh3_64(key) ^ family as u64);
    if (family, key) != (Family::Meta, STATE) {
        return hash(value);
    }
    let state = State::decode(value).expect("what the store has just written");
    let common = State {
        counted: 0,
        ..state
    };
    hash(&common.encode_to_vec())
}

fn hash_all(view: &MemoryView) -> Result<u64, EngineError> {
    let mut hash = 0_u64;
    for family in Family::ALL.into_iter().filter(|family| is_common(*family)) {
        let mut cursor = view.cursor(family, b"", None);
        while let Some((key, value)) = cursor.next()? {
            hash = hash.wrapping_add(hash_one(family, key, value));
        }
    }
    Ok(hash)
}

/// The engine for somebody who only looks: who does must not let the history go that readers still need.
struct Spectator(Arc<MemoryEngine>);

impl Engine for Spectator {
    type View = MemoryView;

    fn view(&self) -> Result<MemoryView, EngineError> {
        self.0.view()
    }

    fn write(&self, _: &Batch) -> Result<(), EngineError> {
        Err(EngineError::new("writing", "who looks on does not write"))
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.get_persisted(family, key)
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.0.checkpoint(into)
    }

    fn set_history_floor(&self, _: Revision) {}

    fn compact_files(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        self.0.size()
    }
}
