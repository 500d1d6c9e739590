//! Applying entries: each sees what those before it did, and leaves its changes among the pending ones.
//!
//! **Guarantees**: a command that is refused has changed nothing but, if it was over the quota, the alarm;
//! all that one command changes bears one main revision; everything depends on the entries and the state alone.

mod admin;
mod ahead;
mod keys;
mod lease;
mod planted;
mod txn;

use bytes::Bytes;
use keelson_planted::{Bug, on};
use keelson_proto::commandpb::{self, Command, State, command::Request};
use keelson_proto::etcdserverpb::AlarmType;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;

use self::ahead::{Ahead, Known};
use crate::cache::Cache;
use crate::check::{self, Limits};
use crate::counts::CountTree;
use crate::engine::{Batch, Cursor, EngineError, Family, View};
use crate::format::{self, meta};
use crate::roots::Roots;
use crate::snapshot::Snapshot;
use crate::source::{Cached, Layered, Pending, Source};
use crate::store::has_alarm;
use crate::{
    Entry, Event, LeaseChange, LogId, Outcome, Payload, ReadError, Refusal, Reply, Revision,
};

/// Bytes that are logged before the counts are written again: what a start reads to know them, at most. A batch would change
/// as many of their records as it has keys.
const UNCOUNTED_BYTES: u64 = 4 << 20;

/// What a state is beside what the engine holds of it.
#[derive(Clone)]
pub(crate) struct Base {
    pub state: State,
    /// Nothing is in the engine yet, or what an older version wrote: the first batch writes the format version.
    pub unversioned: bool,
    pub counts: CountTree,
    /// Where the log ended when the counts were written.
    pub counted_end: u64,
    pub roots: Roots,
    pub cache: Arc<Cache>,
    /// Type and member.
    pub alarms: BTreeSet<(i32, u64)>,
    /// The position of the first record in the log family.
    pub log_start: u64,
}

impl Base {
    pub fn revision(&self) -> Revision {
        Revision(self.state.revision)
    }

    pub fn compacted(&self) -> Revision {
        Revision(self.state.compacted)
    }
}

/// Entries being applied.
pub(crate) struct Work<'a, V> {
    /// The state before them, and its revision.
    view: &'a V,
    view_revision: Revision,
    base: Base,
    /// What was read of the state before, for all entries together.
    ahead: Ahead,
    pending: Pending,
    /// The entry being applied.
    id: LogId,
    /// How many changes of keys it has made.
    sub: u32,
    events: Vec<Event>,
    leases: Vec<LeaseChange>,
    attributes_changed: bool,
}

/// The state before the entries, with their changes so far.
type Overlay<'a, V> = Layered<'a, Known<'a, V>>;

/// What is left to do when all entries are applied.
pub(crate) struct Done {
    pub batch: Batch,
    pub base: Base,
    pub events: Vec<Event>,
    pub leases: Vec<LeaseChange>,
    pub attributes_changed: bool,
}

impl<'a, V: View> Work<'a, V> {
    pub fn new(view: &'a V, base: Base) -> Work<'a, V> {
        Work {
            view,
            view_revision: base.revision(),
            base,
            ahead: Ahead::default(),
            pending: Pending::default(),
            id: LogId::default(),
            sub: 0,
            events: Vec::new(),
            leases: Vec::new(),
            attributes_changed: false,
        }
    }

    /// Applies entries in their order.
    pub fn entries(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>, EngineError> {
        let commands: Vec<Option<Command>> = entries.iter().map(command_of).collect();
        self.ahead = Ahead::read(self.before(), &commands)?;
        let each = entries.iter().zip(&commands);
        each.map(|(entry, command)| self.entry(entry, command.as_ref()))
            .collect()
    }

    /// Applies one entry. `command`: what its payload says, if it is a command that is understood.
    fn entry(&mut self, entry: &Entry, command: Option<&Command>) -> Result<Outcome, EngineError> {
        let last = self.base.state.applied.map_or(0, |id| id.index);
        if self.base.state.applied.is_some() && entry.id.index <= last {
            let why = format!(
                "entry {} was applied before: the last one is {last}",
                entry.id.index
            );
            return Err(EngineError::new("applying", why));
        }
        self.id = entry.id;
        self.base.state.applied = Some(commandpb::LogId {
            term: entry.id.term,
            index: entry.id.index,
        });
        debug_assert_eq!(self.sub, 0, "the entry before ended its revision");

        let result = match &entry.payload {
            Payload::Blank => Ok(done()),
            Payload::Membership(membership) => {
                self.membership(membership);
                Ok(done())
            }
            Payload::Command(bytes) => match command {
                Some(command) => self.command(command, bytes.len()),
                None => Err(Refusal::UnknownCommand.into()),
            },
        };
        let result = match result {
            Ok(reply) => Ok(reply),
            Err(ReadError::Refused(refusal)) => Err(refusal),
            Err(ReadError::Engine(error)) => return Err(error),
        };
        debug_assert!(
            result.is_ok() || self.sub == 0,
            "what is refused changes no key"
        );
        self.end_revision();
        Ok(Outcome {
            revision: self.base.revision(),
            result,
        })
    }

    fn command(&mut self, command: &Command, size: usize) -> Result<Reply, ReadError> {
        let Some(request) = &command.request else {
            return Err(Refusal::UnknownCommand.into());
        };
        self.admit(command, request, size)?;
        let limits = Limits {
            max_txn_ops: usize::MAX,
        };
        match request {
            Request::Put(r) => {
                check::put(r, &limits)?;
                self.put_command(r)
            }
            Request::DeleteRange(r) => {
                check::delete_range(r, &limits)?;
                Ok(Reply::DeleteRange(self.delete_range(r)?))
            }
            Request::Txn(r) => {
                check::txn(r, &limits)?;
                self.txn(r)
            }
            Request::Compact(r) => self.compact(r),
            Request::LeaseGrant(r) => {
                check::lease_grant(r, &limits)?;
                self.lease_grant(r)
            }
            Request::LeaseRevoke(r) => self.lease_revoke(r),
            Request::LeaseExpire(r) => self.lease_expire(r),
            Request::Alarm(r) => self.alarm(r),
            Request::MemberAttributes(r) => self.member_attributes(r),
            Request::ClusterInit(r) => Ok(self.cluster_init(r)),
        }
    }

    /// Refuses what an alarm forbids. A command that would grow the store over the quota is refused, and raises the alarm
    /// in the name of the member that proposed it.
    fn admit(&mut self, command: &Command, request: &Request, size: usize) -> Result<(), Refusal> {
        let (corruptible, growing) = match request {
            Request::Put(_) | Request::LeaseGrant(_) => (true, true),
            Request::Txn(r) => (true, check::has_put(r)),
            Request::DeleteRange(_) | Request::Compact(_) | Request::LeaseRevoke(_) => {
                (true, false)
            }
            _ => (false, false),
        };
        if corruptible && has_alarm(&self.base.alarms, AlarmType::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if growing && has_alarm(&self.base.alarms, AlarmType::Nospace) {
            return Err(Refusal::NoSpace);
        }
        let size = self.base.state.logical_bytes.saturating_add(size as i64);
        if growing && command.quota_bytes > 0 && size > command.quota_bytes {
            self.raise(AlarmType::Nospace as i32, command.member);
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// The revision that the entry's changes bear.
    fn next_revision(&self) -> Revision {
        self.base.revision().next()
    }

    /// The revision as the entry sees it, its own changes included.
    fn seen_revision(&self) -> Revision {
        if self.sub > 0 {
            self.next_revision()
        } else {
            self.base.revision()
        }
    }

    /// Makes the changes so far a revision, if there are any.
    fn end_revision(&mut self) {
        if self.sub > 0 {
            self.base.state.revision = self.next_revision().0;
            self.sub = 0;
        }
    }

    /// The state before the entries.
    fn before(&self) -> Cached<'_, V> {
        Cached {
            view: self.view,
            cache: &self.base.cache,
            revision: self.view_revision,
        }
    }

    fn source(&self) -> Overlay<'_, V> {
        Layered {
            base: Known {
                ahead: &self.ahead,
                base: self.before(),
            },
            pending: &self.pending,
        }
    }

    fn snapshot<'s>(&'s self, source: &'s Overlay<'s, V>) -> Snapshot<'s, Overlay<'s, V>> {
        Snapshot {
            source,
            revision: self.seen_revision(),
            counts: &self.base.counts,
            roots: &self.base.roots,
        }
    }

    /// The key's current record.
    fn current(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.source().get(Family::Latest, key)
    }

    /// Ends the batch.
    pub fn finish(mut self) -> Result<Done, EngineError> {
        let mut batch = Batch::default();
        self.cut_counts()?;
        // Compaction takes away what tells how to go on from older ones.
        let compacted = self.pending.log_from.is_some();
        let base = &mut self.base;
        if compacted || base.state.log_end - base.counted_end >= UNCOUNTED_BYTES {
            base.counts.write_changes(&mut batch);
            base.state.counted = base.state.revision;
            base.counted_end = base.state.log_end;
        }
        let Work {
            mut base,
            mut pending,
            events,
            leases,
            attributes_changed,
            ..
        } = self;
        base.state.keys = base.counts.total();
        base.roots.offer(base.revision(), &base.counts);
        debug_assert!(
            base.state.logical_bytes >= 0,
            "no more is freed than was taken"
        );
        for (key, record) in pending.of(Family::Latest) {
            base.cache.set(key, record.as_ref());
        }

        let mut meta = |key: &'static [u8], value: Vec<u8>| {
            pending.put(Family::Meta, key.into(), value.into())
        };
        if on(Bug::AppliedTwice) {
            meta(
                meta::STATE,
                planted::applied_one_late(&base.state).encode_to_vec(),
            );
        } else {
            meta(meta::STATE, base.state.encode_to_vec());
        }
        if std::mem::take(&mut base.unversioned) {
            meta(meta::FORMAT, format::VERSION.to_be_bytes().to_vec());
        }
        pending.write(&mut batch);
        Ok(Done {
            batch,
            base,
            events,
            leases,
            attributes_changed,
        })
    }

    fn cut_counts(&mut self) -> Result<(), EngineError> {
        let Base { counts, cache, .. } = &mut self.base;
        let base = Cached {
            view: self.view,
            cache,
            revision: self.view_revision,
        };
        let source = Layered {
            base,
            pending: &self.pending,
        };
        counts.cut(&mut |from, to, wanted| {
            let mut keys = Vec::with_capacity(wanted);
            let mut cursor = source.cursor(Family::Latest, from, to);
            while keys.len() < wanted
                && let Some((key, _)) = cursor.next()?
            {
                keys.push(Bytes::copy_from_slice(key));
            }
            Ok(keys)
        })
    }
}

/// The command of an entry, if it is one that is understood.
fn command_of(entry: &Entry) -> Option<Command> {
    match &entry.payload {
        Payload::Command(bytes) => Command::decode(bytes.clone()).ok(),
        Payload::Blank | Payload::Membership(_) => None,
    }
}

/// The reply to what has nothing to say.
fn done() -> Reply {
    Reply::Done(commandpb::Done {})
}
