//! What readers see: one state at a time, behind one pointer, whole.

use arc_swap::ArcSwap;
use bytes::Bytes;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{MemberAttributes, State};
use keelson_proto::etcdserverpb::{AlarmMember, RangeRequest, RangeResponse};
use keelson_proto::mvccpb::KeyValue;
use prost::Message;
use std::sync::Arc;

use crate::arena::Arena;
use crate::cache::Cache;
use crate::counts::CountTree;
use crate::engine::{Cursor, Engine, EngineError, Family, View};
use crate::format::{self, RawLog, Version, log_key, meta, prefix_end};
use crate::hash::{self, HashKv};
use crate::read;
use crate::roots::Roots;
use crate::snapshot::{Found, Snapshot, resolve};
use crate::source::{Cached, Source};
use crate::stream::RangeStream;
use crate::wire::{EncodedRange, Wire};
use crate::{Event, LeaseId, LogIndex, MemberId, ReadError, Refusal, Revision};

/// The newest published state, for any number of readers in any thread.
pub struct Reader<E: Engine> {
    pub(crate) shared: Arc<ArcSwap<Published<E::View>>>,
}

impl<E: Engine> Clone for Reader<E> {
    fn clone(&self) -> Reader<E> {
        Reader {
            shared: self.shared.clone(),
        }
    }
}

impl<E: Engine> Reader<E> {
    /// The newest state. It never changes and pins the engine's old data: let go of it soon.
    pub fn now(&self) -> Arc<Published<E::View>> {
        self.shared.load_full()
    }

    /// A range in chunks, each of which is read when it is asked for, at the revision of the first.
    pub fn range_stream(&self, r: &RangeRequest) -> Result<RangeStream<E>, ReadError> {
        RangeStream::new(self.clone(), r)
    }
}

/// Lives as long as somebody may read a state with this compacted revision: meanwhile the history above it is kept.
pub(crate) struct Generation {
    pub compacted: Revision,
}

/// One state of the store. All its answers are of the same moment.
pub struct Published<V: View> {
    /// The log index up to which it is applied; 0: none.
    pub applied: LogIndex,
    /// Its revision.
    pub revision: Revision,
    /// The revision to which it is compacted, which can still be read; -1: never compacted.
    pub compacted: Revision,
    pub(crate) state: State,
    pub(crate) counts: CountTree,
    pub(crate) roots: Roots,
    pub(crate) cache: Arc<Cache>,
    // Dropped before the generation, which lets the engine drop what the view needs.
    pub(crate) view: V,
    pub(crate) _generation: Arc<Generation>,
}

impl<V: View> Published<V> {
    /// A range with all of etcd's options. The reply has no header.
    pub fn range(&self, r: &RangeRequest) -> Result<RangeResponse, ReadError> {
        let at = self.resolve(r.revision)?;
        Ok(self.snapshot(&self.source()).range(r, at)?)
    }

    /// [`Published::range`], as it goes over the wire.
    pub fn range_encoded(&self, r: &RangeRequest) -> Result<EncodedRange, ReadError> {
        let at = self.resolve(r.revision)?;
        let mut wire = Wire::default();
        let Found { more, count } = self.snapshot(&self.source()).range_into(r, at, &mut wire)?;
        Ok(wire.finish(more, count))
    }

    /// The revision at which a range reads.
    fn resolve(&self, asked: i64) -> Result<Revision, Refusal> {
        let at = resolve(asked, self.revision, self.compacted)?;
        Ok(if on(Bug::PageReadsNow) {
            self.revision
        } else {
            at
        })
    }

    /// The current version of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ReadError> {
        let record = self.source().get(Family::Latest, key)?;
        Ok(record
            .map(|record| {
                Version::parse(&record).map(|version| version.key_value(key, &mut Arena::default()))
            })
            .transpose()?)
    }

    /// The events from a revision on, oldest first: whole revisions only, at least one if there is any, and no more than
    /// `max_revisions`, or than fit into `max_bytes`. Starting at the compacted revision itself is allowed.
    pub fn events_from(
        &self,
        from: Revision,
        max_bytes: usize,
        max_revisions: usize,
    ) -> Result<Vec<Event>, ReadError> {
        if from < self.compacted {
            return Err(Refusal::Compacted.into());
        }
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut revisions, mut whole) = (0, 0, 0);
        let mut cursor = self
            .view
            .cursor(Family::Log, &log_key(from.max(Revision(0)), 0), None);
        while let Some((key, value)) = cursor.next()? {
            let event = RawLog::parse(key, value)?.to_event();
            if events
                .last()
                .is_none_or(|last| last.revision != event.revision)
            {
                if revisions >= max_revisions.max(1) || bytes >= max_bytes && revisions > 0 {
                    break;
                }
                revisions += 1;
                whole = events.len();
            }
            bytes += event.encoded.len();
            events.push(event);
            if bytes > max_bytes && revisions > 1 {
                events.truncate(whole);
                break;
            }
        }
        Ok(events)
    }

    /// A hash over all versions that can be read between the compacted revision and `revision` (none: the current one).
    /// Members that are compacted alike agree on it, whatever their files look like.
    pub fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKv, ReadError> {
        let at = match revision {
            Some(Revision(1..)) => {
                resolve(revision.map_or(0, |at| at.0), self.revision, self.compacted)?
            }
            _ => self.revision,
        };
        let hash = hash::hash_kv(&self.view, self.compacted, at)?;
        Ok(HashKv {
            hash,
            compact_revision: self.compacted,
            hash_revision: at,
        })
    }

    /// The granted time to live of a lease, in seconds.
    pub fn lease(&self, id: LeaseId) -> Result<Option<i64>, ReadError> {
        let grant = self.view.get(Family::Meta, &format::grant_key(id))?;
        Ok(grant.map(|ttl| format::parse_ttl(&ttl)).transpose()?)
    }

    /// The keys that hang on a lease, in order.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, ReadError> {
        Ok(read::lease_keys(&self.view, id)?)
    }

    /// All leases with their granted times to live, in seconds.
    pub fn leases(&self) -> Result<Vec<(LeaseId, i64)>, ReadError> {
        self.meta(meta::LEASE, |key, ttl| {
            Ok((
                LeaseId(format::parse_meta_key(key)? as i64),
                format::parse_ttl(ttl)?,
            ))
        })
    }

    /// The active alarms.
    pub fn alarms(&self) -> Result<Vec<AlarmMember>, ReadError> {
        self.meta(meta::ALARM, |key, _| {
            let (alarm, member_id) = format::parse_alarm_key(key)?;
            Ok(AlarmMember { member_id, alarm })
        })
    }

    /// What the members have said of themselves.
    pub fn attributes(&self) -> Result<Vec<MemberAttributes>, ReadError> {
        self.meta(meta::MEMBER, |key, value| {
            MemberAttributes::decode(value).map_err(|_| format::damaged("meta", key))
        })
    }

    /// The ids that were in a membership and are no longer.
    pub fn removed_members(&self) -> Result<Vec<MemberId>, ReadError> {
        self.meta(meta::REMOVED, |key, _| {
            Ok(MemberId(format::parse_meta_key(key)?))
        })
    }

    /// The state machine's own state.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn source(&self) -> Cached<'_, V> {
        Cached {
            view: &self.view,
            cache: &self.cache,
            revision: self.revision,
        }
    }

    pub(crate) fn snapshot<'a>(&'a self, source: &'a Cached<'a, V>) -> Snapshot<'a, Cached<'a, V>> {
        Snapshot {
            source,
            revision: self.revision,
            counts: &self.counts,
            roots: &self.roots,
        }
    }

    /// Reads all records of a kind from the meta family.
    fn meta<T>(
        &self,
        letter: u8,
        mut parse: impl FnMut(&[u8], &[u8]) -> Result<T, EngineError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut all = Vec::new();
        let mut cursor =
            self.view
                .cursor(Family::Meta, &[letter], prefix_end(&[letter]).as_deref());
        while let Some((key, value)) = cursor.next()? {
            all.push(parse(key, value)?);
        }
        Ok(all)
    }
}
