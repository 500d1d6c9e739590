//! A range request carried out on one state: etcd's options, with a count that does not scan.

use bytes::Bytes;
use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::mvccpb::KeyValue;
use std::ops::ControlFlow;

use crate::arena::Arena;
use crate::counts::CountTree;
use crate::engine::EngineError;
use crate::format::Version;
use crate::read::{self, Span};
use crate::roots::Roots;
use crate::source::Source;
use crate::{LeaseId, Refusal, Revision};

/// One state to read from.
pub(crate) struct Snapshot<'a, S> {
    pub source: &'a S,
    pub revision: Revision,
    /// The counts at `revision`.
    pub counts: &'a CountTree,
    /// The counts at some revisions before.
    pub roots: &'a Roots,
}

/// What a range gave, before it is put into a reply.
pub(crate) struct Found {
    pub kvs: Vec<KeyValue>,
    /// There are more keys than the limit let through.
    pub more: bool,
    pub count: u64,
}

impl Found {
    pub fn into_response(self) -> RangeResponse {
        RangeResponse {
            header: None,
            kvs: self.kvs,
            more: self.more,
            count: self.count as i64,
        }
    }
}

/// Which revision a request means; 0 or less is the current one, as in etcd.
pub(crate) fn resolve(
    asked: i64,
    revision: Revision,
    compacted: Revision,
) -> Result<Revision, Refusal> {
    match Revision(asked) {
        Revision(..=0) => Ok(revision),
        asked if asked > revision => Err(Refusal::FutureRevision),
        asked if asked < compacted => Err(Refusal::Compacted),
        asked => Ok(asked),
    }
}

/// Whether the reply's order is that of the keys.
pub(crate) fn is_key_order(r: &RangeRequest) -> bool {
    r.sort_order() == SortOrder::None
        || (r.sort_target() == SortTarget::Key && r.sort_order() == SortOrder::Ascend)
}

/// Whether the request filters by revision.
pub(crate) fn has_revision_filters(r: &RangeRequest) -> bool {
    [
        r.min_mod_revision,
        r.max_mod_revision,
        r.min_create_revision,
        r.max_create_revision,
    ] != [0; 4]
}

impl<S: Source> Snapshot<'_, S> {
    /// Carries out a range at a revision that [`resolve`] gave.
    pub fn range(&self, r: &RangeRequest, at: Revision) -> Result<Found, EngineError> {
        let span = Span::new(&r.key, &r.range_end);
        if r.count_only {
            return Ok(Found {
                kvs: Vec::new(),
                more: false,
                count: self.count(span, at)?,
            });
        }
        // As in etcd, a target without an order is sorted after the limit has been applied.
        let scan_max = match usize::try_from(r.limit) {
            Ok(limit) if limit > 0 && is_key_order(r) && !has_revision_filters(r) => {
                limit.saturating_add(1)
            }
            _ => usize::MAX,
        };
        // Also keys only needs the values, and as in etcd then keeps the leases, if it sorts by them.
        let by_value = r.sort_target() == SortTarget::Value;
        let (mut kvs, mut arena) = (Vec::new(), Arena::default());
        let mut seen = 0;
        read::scan(self.source, span, at, self.revision, |key, record| {
            let version = Version::parse(record)?;
            if passes(r, &version) {
                let kept = kept(version, r.keys_only && !by_value);
                kvs.push(kept.key_value(key, &mut arena));
            }
            seen += 1;
            Ok(if seen >= scan_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        let count = if seen < scan_max {
            seen as u64
        } else {
            self.count(span, at)?
        };

        sort(&mut kvs, r);
        let mut more = false;
        if let Ok(limit) = usize::try_from(r.limit)
            && limit > 0
            && kvs.len() > limit
        {
            kvs.truncate(limit);
            more = true;
        }
        if r.keys_only && by_value {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(Found { kvs, more, count })
    }

    /// How many keys of the span live at `at`.
    pub fn count(&self, span: Span<'_>, at: Revision) -> Result<u64, EngineError> {
        let Span::Many(from, to) = span else {
            return read::count(self.source, span, at, self.revision);
        };
        if at >= self.revision {
            return self.count_at_root(self.counts, self.revision, from, to);
        }
        let nearest = self
            .roots
            .nearest(at)
            .filter(|(root, _)| root.0.abs_diff(at.0) < self.revision.0.abs_diff(at.0));
        let (root, counts) = nearest.unwrap_or((self.revision, self.counts));
        let rooted = self.count_at_root(counts, root, from, to)?;
        // Every revision is at least one log record: of those and the keys, read what is less.
        if root.0.abs_diff(at.0) > rooted {
            return read::count(self.source, span, at, self.revision);
        }
        let growth = if root < at {
            read::growth(self.source, span, root, at)?
        } else {
            -read::growth(self.source, span, at, root)?
        };
        let count = rooted.checked_add_signed(growth);
        count.ok_or_else(|| {
            EngineError::new("counting keys", "more keys were deleted than there were")
        })
    }

    fn count_at_root(
        &self,
        counts: &CountTree,
        at: Revision,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<u64, EngineError> {
        counts.count(from, to, |from, to| {
            read::count(self.source, Span::Many(from, to), at, self.revision)
        })
    }
}

fn passes(r: &RangeRequest, version: &Version<'_>) -> bool {
    let within = |revision: Revision, min: i64, max: i64| {
        revision.0 >= min && (max == 0 || revision.0 <= max)
    };
    within(version.modified, r.min_mod_revision, r.max_mod_revision)
        && within(version.create, r.min_create_revision, r.max_create_revision)
}

/// What a reply has of a version. As in etcd 3.7, keys only means neither value nor lease.
pub(crate) fn kept(version: Version<'_>, keys_only: bool) -> Version<'_> {
    if keys_only {
        Version {
            value: b"",
            lease: LeaseId(0),
            ..version
        }
    } else {
        version
    }
}

/// Equals stay in key order, whichever way the rest is sorted.
fn sort(kvs: &mut [KeyValue], r: &RangeRequest) {
    let compare = |a: &KeyValue, b: &KeyValue| match r.sort_target() {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (r.sort_target(), r.sort_order()) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {}
        (_, SortOrder::None | SortOrder::Ascend) => kvs.sort_by(compare),
        (_, SortOrder::Descend) => kvs.sort_by(|a, b| compare(b, a)),
    }
}
