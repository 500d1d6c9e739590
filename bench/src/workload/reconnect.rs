//! Watchers that come back after many events: all of them at once, each from the revision where it had been.

use std::rc::Rc;

use anyhow::Context;
use keelson_proto::etcdserverpb::WatchCreateRequest;
use tokio::time::Instant;

use super::keys::{PREFIX, PREFIX_END, key_of_hash};
use super::load::{Told, requests};
use super::operation::Ask;
use super::run::{Running, until};
use super::watch::{Board, old_value, open, settled};
use crate::measure::usage::forget_peaks;
use crate::measure::{Meter, Outcome, Usage};

/// Who comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    pub watchers: u64,
    /// Events since they were there.
    pub events: u64,
    /// Each of them wants all events, or its own part of the keys.
    pub each_all: bool,
}

impl Reconnect {
    /// The bounds of what a watcher wants, as what keys are hashes of.
    fn part(self, watcher: u64) -> std::ops::Range<u128> {
        if self.each_all {
            return 0..1 << 64;
        }
        let bound = |watcher: u64| (1_u128 << 64) * u128::from(watcher) / u128::from(self.watchers);
        bound(watcher)..bound(watcher + 1)
    }

    /// How many events all of them are owed.
    fn owed(self) -> u64 {
        if self.each_all {
            self.watchers * self.events
        } else {
            self.events
        }
    }

    fn requests(self, start_revision: i64) -> Vec<WatchCreateRequest> {
        let request = |watcher| {
            let part = self.part(watcher);
            let (begin, end) = if self.each_all {
                (PREFIX.into(), PREFIX_END.into())
            } else {
                (key_of_hash(part.start), key_of_hash(part.end))
            };
            WatchCreateRequest {
                key: begin,
                range_end: end,
                start_revision,
                ..WatchCreateRequest::default()
            }
        };
        (0..self.watchers).map(request).collect()
    }
}

/// Writes the events, lets the watchers come, and waits until each has all of its own.
pub async fn measure(
    running: &Running<'_>,
    reconnect: Reconnect,
    told: &Told,
) -> anyhow::Result<Outcome> {
    let endpoints = &running.cluster.endpoints;
    let events = reconnect.events;
    let write = |numbers: std::ops::Range<u64>, _: &mut _| {
        Ask::Put(super::operation::put(numbers.start, old_value()))
    };
    requests(endpoints, 0..events, 1, Rc::new(write), told).await?;
    let meter = Rc::new(Meter::new());
    let board = Rc::new(Board::new(meter.clone()));
    forget_peaks(&running.cluster.pids())?;
    let servers = Usage::of(&running.cluster.pids()).context("a member ended")?;
    let client = Usage::own()?;
    let began = Instant::now();
    meter.turn_on();
    // The first key was written at revision 2.
    let tasks = open(endpoints, &board, reconnect.requests(2), 1).await?;
    let mut outcome = until(tasks, async {
        settled("not all events are delivered", || {
            board.delivered() >= reconnect.owed()
        })
        .await?;
        let elapsed = began.elapsed();
        let client = Usage::own()?.since(client);
        let servers = Usage::of(&running.cluster.pids())?.since(servers);
        if board.delivered() > reconnect.owed() {
            meter.failed("more events than were written");
        }
        let mut outcome = meter.outcome(elapsed, servers, client);
        outcome.set("catch_up_s", elapsed.as_secs_f64());
        Ok(outcome)
    })
    .await?;
    // How old the events are says nothing.
    for figure in ["p50_ms", "p99_ms", "p999_ms", "max_ms"] {
        outcome.figures.remove(figure);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::keys::key;

    #[test]
    fn every_key_is_in_one_watchers_part() {
        let reconnect = Reconnect {
            watchers: 7,
            events: 500,
            each_all: false,
        };
        let requests = reconnect.requests(2);
        for number in 0..500 {
            let key = key(number);
            let watchers = requests
                .iter()
                .filter(|watch| watch.key <= key && key < watch.range_end);
            assert_eq!(watchers.count(), 1, "{key:?}");
        }
        assert_eq!(reconnect.owed(), 500);
    }
}
