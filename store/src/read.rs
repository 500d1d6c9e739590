//! Reading keys now and in the past, over any [`Source`].
//!
//! The version of a key that was visible at revision R is the one in `latest`, if it is not younger than R; or else the
//! one that the key's first change after R replaced, which that change's log record holds whole, if that one is not
//! younger than R; or else there was none. `hist` finds that change by one seek.
//!
//! **Needs**: R is at or above the compacted revision and at or below the source's. Then every record needed is there.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::engine::{Cursor, EngineError, Family};
use crate::format::{
    RawLog, Version, escape, hist_key, lease_key, log_key, parse_hist_key, prefix_end,
};
use crate::source::Source;
use crate::{EventKind, LeaseId, Revision};

/// The keys that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span<'a> {
    One(&'a [u8]),
    /// From the first to the second, exclusive; none: to the end.
    Many(&'a [u8], Option<&'a [u8]>),
}

impl<'a> Span<'a> {
    /// Reads etcd's pair: no end is the key alone, `"\0"` is every key from `key` on.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Span<'a> {
        match range_end {
            [] => Span::One(key),
            [0] => Span::Many(key, None),
            end => Span::Many(key, Some(end)),
        }
    }

    /// Whether the span has `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Span::One(one) => one == key,
            Span::Many(from, to) => key >= from && to.is_none_or(|to| key < to),
        }
    }
}

/// The record of `key` that is visible at `at`, of a source whose revision is `now`.
pub(crate) fn get<S: Source>(
    source: &S,
    key: &[u8],
    at: Revision,
    now: Revision,
) -> Result<Option<Bytes>, EngineError> {
    let latest = source.get(Family::Latest, key)?;
    if at >= now {
        return Ok(latest);
    }
    get_past(source, key, latest, at)
}

/// [`get`] in the past, for a key whose current record is known.
pub(crate) fn get_past<S: Source>(
    source: &S,
    key: &[u8],
    latest: Option<Bytes>,
    at: Revision,
) -> Result<Option<Bytes>, EngineError> {
    if let Some(record) = latest
        && Version::parse(&record)?.modified <= at
    {
        return Ok(Some(record));
    }
    let mut end = Vec::with_capacity(key.len() + 2);
    escape(key, &mut end);
    end.push(0xFF); // Revisions are positive: their first byte is below.
    let mut cursor = source.cursor(Family::Hist, &hist_key(key, at.next(), 0), Some(&end));
    let Some((record, _)) = cursor.next()? else {
        return Ok(None);
    };
    let (main, sub) = parse_hist_key(record, &mut Vec::new())?;
    replaced(source, main, sub, at)
}

/// The version that the change at (main, sub) replaced, if it was visible at `at`.
fn replaced<S: Source>(
    source: &S,
    main: Revision,
    sub: u32,
    at: Revision,
) -> Result<Option<Bytes>, EngineError> {
    let key = log_key(main, sub);
    let missing = || {
        EngineError::new(
            format!("reading log at {main}/{sub}"),
            "the record is missing",
        )
    };
    let value = source.get(Family::Log, &key)?.ok_or_else(missing)?;
    let Some(prev) = RawLog::parse(&key, &value)?.prev else {
        return Err(EngineError::new(
            format!("reading log at {main}/{sub}"),
            "it replaced nothing, but hist says so",
        ));
    };
    if Version::parse(prev)?.modified > at {
        return Ok(None);
    }
    Ok(Some(value.slice_ref(prev)))
}

/// Gives `each` every key of the span that lives at `at`, with its record, in key order, until it breaks.
pub(crate) fn scan<S: Source>(
    source: &S,
    span: Span<'_>,
    at: Revision,
    now: Revision,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, EngineError>,
) -> Result<(), EngineError> {
    match span {
        Span::One(key) => {
            if let Some(record) = get(source, key, at, now)? {
                let _ = each(key, &record)?;
            }
            Ok(())
        }
        Span::Many(from, Some(to)) if to <= from => Ok(()),
        Span::Many(from, to) if at >= now => {
            let mut cursor = source.cursor(Family::Latest, from, to);
            while let Some((key, record)) = cursor.next()? {
                if each(key, record)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
        Span::Many(from, to) => scan_past(source, from, to, at, each),
    }
}

/// Merges the keys of today with those that have changed since.
fn scan_past<S: Source>(
    source: &S,
    from: &[u8],
    to: Option<&[u8]>,
    at: Revision,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, EngineError>,
) -> Result<(), EngineError> {
    let mut latest = source.cursor(Family::Latest, from, to);
    let mut changed = Changed::new(source, from, to, at);
    let mut next_latest = latest.next()?;
    let mut next_changed = changed.next()?;
    loop {
        let order = match (next_latest, &next_changed) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((key, _)), Some((other, _))) => key.cmp(other),
        };
        let flow = match (order, next_latest, &next_changed) {
            // Not replaced since: visible if it was there already.
            (Ordering::Less, Some((key, record)), _) if Version::parse(record)?.modified <= at => {
                each(key, record)?
            }
            // Replaced since: what was replaced first is what was visible.
            (Ordering::Equal | Ordering::Greater, _, Some((key, (main, sub)))) => {
                match replaced(source, *main, *sub, at)? {
                    Some(record) => each(key, &record)?,
                    None => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return Ok(());
        }
        if order != Ordering::Less {
            next_changed = changed.next()?;
        }
        if order != Ordering::Greater {
            next_latest = latest.next()?;
        }
    }
}

/// The keys of a range that were replaced after `at`, each with the first change that did it.
struct Changed<'a, S: Source + 'a> {
    cursor: S::Cursor<'a>,
    at: Revision,
    /// Where the next key can begin at the earliest; empty: anywhere.
    seek: Vec<u8>,
    key: Vec<u8>,
}

impl<'a, S: Source> Changed<'a, S> {
    fn new(source: &'a S, from: &[u8], to: Option<&[u8]>, at: Revision) -> Changed<'a, S> {
        let escaped = |key: &[u8]| {
            let mut out = Vec::with_capacity(key.len() + 2);
            escape(key, &mut out);
            out
        };
        let cursor = source.cursor(Family::Hist, &escaped(from), to.map(escaped).as_deref());
        Changed {
            cursor,
            at,
            seek: Vec::new(),
            key: Vec::new(),
        }
    }

    #[allow(clippy::type_complexity)]
    fn next(&mut self) -> Result<Option<(Vec<u8>, (Revision, u32))>, EngineError> {
        if !self.seek.is_empty() {
            self.cursor.seek(&self.seek);
            self.seek.clear();
        }
        loop {
            let Some((record, _)) = self.cursor.next()? else {
                return Ok(None);
            };
            let revision = parse_hist_key(record, &mut self.key)?;
            if revision.0 > self.at {
                // Skip this key's later changes.
                escape(&self.key, &mut self.seek);
                self.seek.push(0xFF);
                return Ok(Some((std::mem::take(&mut self.key), revision)));
            }
            self.cursor.seek(&hist_key(&self.key, self.at.next(), 0));
        }
    }
}

/// How many keys of the span live at `at`, by looking at each.
pub(crate) fn count<S: Source>(
    source: &S,
    span: Span<'_>,
    at: Revision,
    now: Revision,
) -> Result<u64, EngineError> {
    let mut count = 0;
    scan(source, span, at, now, |_, _| {
        count += 1;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// By how much the number of living keys of the span grew from the end of revision `from` to the end of `to`, by reading the log.
pub(crate) fn growth<S: Source>(
    source: &S,
    span: Span<'_>,
    from: Revision,
    to: Revision,
) -> Result<i64, EngineError> {
    let mut growth = 0;
    let mut cursor = source.cursor(
        Family::Log,
        &log_key(from.next(), 0),
        Some(&log_key(to.next(), 0)),
    );
    while let Some((key, value)) = cursor.next()? {
        let record = RawLog::parse(key, value)?;
        if !span.contains(record.key) {
            continue;
        }
        if record.creates() {
            growth += 1;
        } else if record.kind == EventKind::Delete {
            growth -= 1;
        }
    }
    Ok(growth)
}

/// The keys that hang on a lease, in order.
pub(crate) fn lease_keys<S: Source>(source: &S, id: LeaseId) -> Result<Vec<Bytes>, EngineError> {
    let prefix = lease_key(id, b"");
    let mut keys = Vec::new();
    let mut cursor = source.cursor(Family::Lease, &prefix, prefix_end(&prefix).as_deref());
    while let Some((key, _)) = cursor.next()? {
        keys.push(Bytes::copy_from_slice(&key[prefix.len()..]));
    }
    Ok(keys)
}
