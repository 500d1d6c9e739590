//! Gives the space of a truncated log back at once: whole files below the truncation are taken out of the tree, unread,
//! instead of waiting until RocksDB has rewritten them.
//!
//! RocksDB warns that taking out files heeds neither snapshots nor crashes: an older view would miss the records,
//! and after a crash they would be missing though the range delete itself was lost. So a truncation is carried out when
//! - a flush that began after it has ended: the range delete itself is on the disk; and
//! - no view from before it lives.
//!
//! Then no reader, now or after a crash, can see a record in those files. What shares a file with live records, and
//! files of level 0, go when RocksDB compacts them.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A range of the log that was deleted, and the sequence number from which on it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Truncation {
    pub from: Bytes,
    pub to: Bytes,
    pub sequence: u64,
}

#[derive(Debug, Default)]
struct State {
    /// How many views live at each sequence number.
    views: BTreeMap<u64, usize>,
    /// Truncations that a crash would lose.
    written: Vec<Truncation>,
    /// Truncations on the disk. Kept, since files that were being compacted are passed over and may have to be tried again;
    /// they are few, as those that touch are merged.
    flushed: Vec<Truncation>,
}

/// The living views, and the truncations that wait for them and for a flush.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truncations(Arc<Mutex<State>>);

/// A view's mark: as long as it lives, no truncation after the view is carried out.
#[derive(Debug)]
pub(crate) struct Pin {
    truncations: Truncations,
    sequence: u64,
}

impl Truncations {
    /// Makes a snapshot and marks it, in one step: a truncation is carried out before it is made or knows of it.
    pub fn pin<T>(&self, make: impl FnOnce() -> T, sequence: impl FnOnce(&T) -> u64) -> (T, Pin) {
        let mut state = self.0.lock();
        let made = make();
        let sequence = sequence(&made);
        *state.views.entry(sequence).or_default() += 1;
        (
            made,
            Pin {
                truncations: self.clone(),
                sequence,
            },
        )
    }

    /// Notes a truncation that was just written.
    pub fn written(&self, truncation: Truncation) {
        merge(&mut self.0.lock().written, truncation);
    }

    /// The truncations that a flush beginning now makes durable: to be given to [`Truncations::flushed`] when it has ended.
    pub fn before_flush(&self) -> Vec<Truncation> {
        self.0.lock().written.clone()
    }

    /// Notes that a flush has made these durable.
    pub fn flushed(&self, durable: Vec<Truncation>) {
        let mut state = self.0.lock();
        // One that was widened while the flush ran stays, whole, for the next.
        state.written.retain(|written| !durable.contains(written));
        durable
            .into_iter()
            .for_each(|truncation| merge(&mut state.flushed, truncation));
    }

    /// The truncations that may be carried out now.
    pub fn ready(&self) -> Vec<Truncation> {
        let state = self.0.lock();
        let oldest_view = state
            .views
            .first_key_value()
            .map_or(u64::MAX, |(sequence, _)| *sequence);
        let is_ready = |truncation: &&Truncation| truncation.sequence <= oldest_view;
        state.flushed.iter().filter(is_ready).cloned().collect()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.truncations.0.lock();
        if let Some(count) = state.views.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                state.views.remove(&self.sequence);
            }
        }
    }
}

/// Adds a truncation, to the last one where the two ranges touch: a log truncated a thousand times is one range.
fn merge(truncations: &mut Vec<Truncation>, new: Truncation) {
    match truncations.last_mut() {
        Some(last) if last.from <= new.to && new.from <= last.to => {
            last.from = last.from.clone().min(new.from);
            last.to = last.to.clone().max(new.to);
            last.sequence = last.sequence.max(new.sequence);
        }
        _ => truncations.push(new),
    }
}

/// A key below `to` with as little as possible between them: RocksDB takes the end of a range of files as inclusive.
pub(crate) fn just_below(to: &[u8]) -> Vec<u8> {
    let mut key = to.to_vec();
    match key.last_mut() {
        None => {}
        Some(0) => {
            key.pop();
        }
        Some(last) => {
            *last -= 1;
            key.extend_from_slice(&[0xFF; 16]);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truncation(from: &'static str, to: &'static str, sequence: u64) -> Truncation {
        Truncation {
            from: from.into(),
            to: to.into(),
            sequence,
        }
    }

    fn pin(truncations: &Truncations, sequence: u64) -> Pin {
        truncations.pin(|| (), |()| sequence).1
    }

    fn flush(truncations: &Truncations) {
        truncations.flushed(truncations.before_flush());
    }

    #[test]
    fn a_truncation_waits_for_a_flush_that_began_after_it() {
        let truncations = Truncations::default();
        let begun = truncations.before_flush();
        truncations.written(truncation("a", "b", 5));
        truncations.flushed(begun);
        assert_eq!(truncations.ready(), []);
        flush(&truncations);
        assert_eq!(truncations.ready(), [truncation("a", "b", 5)]);
    }

    #[test]
    fn a_truncation_waits_for_every_older_view_and_for_no_newer_one() {
        let truncations = Truncations::default();
        let (old, old_too, new) = (
            pin(&truncations, 4),
            pin(&truncations, 4),
            pin(&truncations, 5),
        );
        truncations.written(truncation("a", "b", 5));
        flush(&truncations);
        drop(old);
        assert_eq!(truncations.ready(), []);
        drop(old_too);
        assert_eq!(truncations.ready(), [truncation("a", "b", 5)]);
        drop(new);
    }

    #[test]
    fn a_truncation_widened_during_a_flush_waits_for_the_next_one() {
        let truncations = Truncations::default();
        truncations.written(truncation("a", "b", 5));
        let begun = truncations.before_flush();
        truncations.written(truncation("a", "d", 9));
        truncations.flushed(begun);
        assert_eq!(truncations.ready(), [truncation("a", "b", 5)]);
        flush(&truncations);
        assert_eq!(truncations.ready(), [truncation("a", "d", 9)]);
    }

    #[test]
    fn the_key_just_below_is_below_and_above_every_shorter_prefix() {
        for to in [&b"\x01"[..], b"ab", b"a\0", b"a\xff", b"\0\0\x01\0"] {
            let below = just_below(to);
            assert!(*below < *to, "{to:?}");
        }
        assert_eq!(just_below(b"a\0"), b"a");
        assert!(just_below(b"ab") > b"aa\xff\xff".to_vec());
    }
}
