//! A range request carried out on one state: etcd's options, with a count that does not scan.

use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse};
use keelson_proto::mvccpb::KeyValue;
use std::ops::ControlFlow;

use crate::counts::CountTree;
use crate::engine::EngineError;
use crate::format::Version;
use crate::kvs::{Kvs, Messages};
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

/// What a range gave beside its keys.
pub(crate) struct Found {
    /// There are more keys than the limit let through.
    pub more: bool,
    pub count: u64,
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

/// Whether the keys are left in their order.
fn keeps_key_order(r: &RangeRequest) -> bool {
    r.sort_target() == SortTarget::Key && is_key_order(r)
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
    /// Carries out a range at a revision that [`resolve`] gave. The reply has no header.
    pub fn range(&self, r: &RangeRequest, at: Revision) -> Result<RangeResponse, EngineError> {
        let mut messages = Messages::default();
        let Found { more, count } = self.range_into(r, at, &mut messages)?;
        Ok(RangeResponse {
            header: None,
            kvs: messages.kvs,
            more,
            count: count as i64,
        })
    }

    /// Carries out a range at a revision that [`resolve`] gave.
    pub fn range_into(
        &self,
        r: &RangeRequest,
        at: Revision,
        kvs: &mut impl Kvs,
    ) -> Result<Found, EngineError> {
        if r.count_only {
            let count = self.count(Span::new(&r.key, &r.range_end), at)?;
            return Ok(Found { more: false, count });
        }
        if keeps_key_order(r) {
            return self.in_key_order(r, at, r.keys_only, kvs);
        }
        // As in etcd, a target without an order is sorted after the limit has been applied, but for the one key beyond it.
        let limit = usize::try_from(r.limit).ok().filter(|limit| *limit > 0);
        let sorts_few = is_key_order(r) && !has_revision_filters(r) && limit.is_some();
        let unsorted = RangeRequest {
            limit: if sorts_few {
                r.limit.saturating_add(1)
            } else {
                0
            },
            ..r.clone()
        };
        // Also keys only needs the values, and as in etcd then keeps the leases, if it sorts by them.
        let by_value = r.sort_target() == SortTarget::Value;
        let mut all = Messages::default();
        let found = self.in_key_order(&unsorted, at, r.keys_only && !by_value, &mut all)?;
        sort(&mut all.kvs, r);
        let taken = limit.unwrap_or(usize::MAX).min(all.kvs.len());
        for kv in &all.kvs[..taken] {
            let version = Version::of(kv);
            let value = if r.keys_only { b"" } else { version.value };
            kvs.version(&kv.key, Version { value, ..version });
        }
        let more = taken < all.kvs.len();
        Ok(Found { more, ..found })
    }

    /// The keys in their order, as many as the limit lets through.
    fn in_key_order(
        &self,
        r: &RangeRequest,
        at: Revision,
        keys_only: bool,
        kvs: &mut impl Kvs,
    ) -> Result<Found, EngineError> {
        let span = Span::new(&r.key, &r.range_end);
        let filters = has_revision_filters(r);
        let limit = match usize::try_from(r.limit) {
            Ok(limit) if limit > 0 => limit,
            _ => usize::MAX,
        };
        // The one beyond the limit shows that there are more. A filter must see all, to count them.
        let scan_max = if filters {
            usize::MAX
        } else {
            limit.saturating_add(1)
        };
        let (mut seen, mut taken, mut more) = (0, 0, false);
        read::scan(self.source, span, at, self.revision, |key, record| {
            seen += 1;
            if !filters || passes(r, &Version::parse(record)?) {
                if taken == limit {
                    more = true;
                } else if keys_only {
                    kvs.version(key, kept(Version::parse(record)?, true));
                    taken += 1;
                } else {
                    kvs.record(key, record)?;
                    taken += 1;
                }
            }
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
        Ok(Found { more, count })
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
        (_, SortOrder::None | SortOrder::Ascend) => kvs.sort_by(compare),
        (_, SortOrder::Descend) => kvs.sort_by(|a, b| compare(b, a)),
    }
}
