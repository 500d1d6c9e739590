//! Periodic progress: when a stream's watchers are told how far they are, though nothing happened to their keys.
//!
//! As in etcd, each stream has a period of its own (the interval and up to a tenth more, so that streams that were
//! opened together drift apart), and a watcher that got events since the last time is passed over once.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::StreamKey;
use crate::seed::Sequence;

/// The shortest interval (etcd `minWatchProgressInterval`).
const INTERVAL_MS_MIN: u64 = 100;

/// Whether a watcher is told at its stream's next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It did not ask.
    Never,
    Due,
    /// It got events since the last turn, which told it as much.
    Elided,
}

impl Progress {
    pub fn new(wanted: bool) -> Progress {
        if wanted {
            Progress::Due
        } else {
            Progress::Never
        }
    }

    /// Events were sent.
    pub fn elide(&mut self) {
        if *self == Progress::Due {
            *self = Progress::Elided;
        }
    }

    /// Its stream's turn has come: whether it is to be told now. At the next turn it is due again.
    pub fn is_due_at_tick(&mut self) -> bool {
        let due = *self == Progress::Due;
        if *self == Progress::Elided {
            *self = Progress::Due;
        }
        due
    }
}

/// Whose turn comes when.
pub(crate) struct Schedule {
    interval_ms: u64,
    jitter: Sequence,
    now_ms: u64,
    /// False until the first tick says what time it is.
    started: bool,
    turns: BTreeSet<(u64, StreamKey)>,
    /// Each stream's next turn and its period.
    streams: BTreeMap<StreamKey, (u64, u64)>,
}

impl Schedule {
    pub fn new(interval_ms: u64, seed: u64) -> Schedule {
        Schedule {
            interval_ms: interval_ms.max(INTERVAL_MS_MIN),
            jitter: Sequence::new(seed),
            now_ms: 0,
            started: false,
            turns: BTreeSet::new(),
            streams: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, stream: StreamKey) {
        let period_ms = self.interval_ms + self.jitter.next() % (self.interval_ms / 10);
        self.set(stream, self.now_ms + period_ms, period_ms);
    }

    fn set(&mut self, stream: StreamKey, turn_ms: u64, period_ms: u64) {
        self.turns.insert((turn_ms, stream));
        self.streams.insert(stream, (turn_ms, period_ms));
    }

    pub fn remove(&mut self, stream: StreamKey) {
        if let Some((turn_ms, _)) = self.streams.remove(&stream) {
            self.turns.remove(&(turn_ms, stream));
        }
    }

    /// The streams whose turn has come, in its order. Time that goes backward is taken to stand still.
    pub fn due(&mut self, now_ms: u64) -> Vec<StreamKey> {
        if !self.started {
            // Streams opened before count from here.
            self.started = true;
            self.turns = self
                .turns
                .iter()
                .map(|(turn_ms, stream)| (turn_ms + now_ms, *stream))
                .collect();
            self.streams
                .values_mut()
                .for_each(|(turn_ms, _)| *turn_ms += now_ms);
        }
        self.now_ms = self.now_ms.max(now_ms);
        let mut due = Vec::new();
        while let Some(&(turn_ms, stream)) = self
            .turns
            .first()
            .filter(|(turn_ms, _)| *turn_ms <= self.now_ms)
        {
            self.turns.remove(&(turn_ms, stream));
            due.push(stream);
            if let Some(&(_, period_ms)) = self.streams.get(&stream) {
                self.set(stream, self.now_ms + period_ms, period_ms);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streams_turns_are_an_interval_and_up_to_a_tenth_apart() {
        let mut schedule = Schedule::new(1000, 3);
        for stream in 0..50 {
            schedule.add(stream);
        }
        assert_eq!(
            schedule.due(5_000_000),
            [],
            "the first tick only says what time it is"
        );
        assert_eq!(schedule.due(5_000_999), []);
        let first = schedule.due(5_001_050);
        let rest = schedule.due(5_001_100);
        assert!(
            !first.is_empty() && !rest.is_empty(),
            "their periods differ"
        );
        assert_eq!(first.len() + rest.len(), 50);
        schedule.remove(first[0]);
        assert_eq!(schedule.due(5_002_300).len(), 49);
        assert_eq!(schedule.due(1), []);
    }

    #[test]
    fn events_elide_one_turn() {
        let mut progress = Progress::new(true);
        assert!(progress.is_due_at_tick() && progress.is_due_at_tick());
        progress.elide();
        assert!(!progress.is_due_at_tick());
        assert!(progress.is_due_at_tick());
        let mut never = Progress::new(false);
        never.elide();
        assert!(!never.is_due_at_tick());
    }
}
