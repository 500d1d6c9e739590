//! The hub's state behind its lock: streams, watchers, and who of them is current.
//!
//! A watcher is in one of three states. *Current*: everything up to the published revision is in its stream's queue, and
//! publishing feeds it. *Ready*: it misses some of it, and waits for the next round of catching up ([`crate::catch_up`]).
//! *Blocked*: it misses some, and waits for its stream to drain. `next` is what makes an event reach a watcher exactly once:
//! the first revision that it has not been given yet, whichever way the events come.

use keelson_planted::{Bug, on};
use keelson_store::{Event, Revision};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::Options;
use crate::catch_up::Batch;
use crate::cut::{Cut, Delivered, Limits, Recipient};
use crate::frame::{Entry, Identity, Notice};
use crate::index::{Index, WatcherKey};
use crate::outbox::{Budget, Outbox, Wakes};
use crate::progress::{Progress, Schedule};
use crate::ring::Ring;
use crate::span::{Span, Wants};

pub(crate) type StreamKey = usize;

/// What a watch takes of the bound on all watches: its keys, its record, its entries in the tables, and a group of its own.
pub(crate) fn watch_cost(span: &Span) -> usize {
    const OVERHEAD_BYTES: usize = 768;
    OVERHEAD_BYTES + span.bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Current,
    Ready,
    Blocked,
}

pub(crate) struct Watcher {
    /// Its id on its stream.
    pub id: i64,
    pub stream: StreamKey,
    pub outbox: Arc<Outbox>,
    pub span: Span,
    pub wants: Wants,
    /// Where it was asked to start, or at which revision it was registered to get what comes after. Before that is
    /// published, there is no progress to tell.
    pub start: Revision,
    /// It has been given every event before this revision. A current watcher's is not kept up to date: it has been
    /// given everything that was published, too.
    pub next: Revision,
    pub state: State,
    /// The round of catching up in which it takes part, or took part last.
    pub round: u64,
    pub progress: Progress,
}

impl Watcher {
    /// What it takes of the bound on all watches.
    pub fn bytes(&self) -> usize {
        watch_cost(&self.span)
    }

    pub fn entry(&self, revision: Revision, notice: Notice) -> Entry {
        Entry {
            watch_id: self.id,
            revision,
            notice,
            body: Default::default(),
        }
    }
}

pub(crate) struct Stream {
    pub outbox: Arc<Outbox>,
    /// By their id.
    pub watches: BTreeMap<i64, WatcherKey>,
    /// The next id to try for a watch that did not choose one.
    pub next_id: i64,
    /// Those who wait for room, in the order in which they began to. May hold watchers that are gone or that wait no longer.
    pub blocked: VecDeque<WatcherKey>,
    /// How many of its watchers are ready.
    pub ready: usize,
    /// How many of its watchers are blocked.
    pub blocked_count: usize,
    /// Its watches that started beyond what was published, by their start. Those that have been reached leave when
    /// somebody asks.
    pub future: BTreeSet<(Revision, WatcherKey)>,
}

impl Stream {
    /// All its watchers are current.
    pub fn is_synced(&self) -> bool {
        self.ready == 0 && self.blocked_count == 0
    }
}

/// A state of the store, as readers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub revision: Revision,
    pub compacted: Revision,
}

pub(crate) struct Core {
    pub revision: Revision,
    pub compacted: Revision,
    pub watchers: Slab<Watcher>,
    pub streams: Slab<Stream>,
    /// The watchers that are current.
    pub current: Index,
    /// The watchers that are ready.
    pub lagging: Index,
    /// The watchers that are ready, by the revision that they need next.
    pub ready: BTreeSet<(Revision, WatcherKey)>,
    pub blocked_count: usize,
    pub ring: Ring,
    pub limits: Limits,
    pub budget: Arc<Budget>,
    pub batch: Batch,
    /// Events that the last fan-out had, for each watcher that matched anew.
    pub deliveries: usize,
    /// How much larger the next batch from the log may be.
    pub stretch: usize,
    /// Counts the rounds of catching up.
    pub round: u64,
    /// Where the next scan of the log, and of the ring, goes on.
    pub log_cursor: Revision,
    pub ring_cursor: Revision,
    pub schedule: Schedule,
    pub identity: Arc<Identity>,
    pub stream_bytes_max: usize,
    pub stream_watches_max: usize,
    pub watch_bytes: usize,
    pub watch_bytes_max: usize,
    pub closed: bool,
    /// Emptied after each use, and kept for the next.
    pub touched: Vec<usize>,
}

impl Core {
    pub fn new(options: &Options, identity: Arc<Identity>, seen: Seen) -> Core {
        let Seen {
            revision,
            compacted,
        } = seen;
        Core {
            revision,
            compacted,
            watchers: Slab::new(),
            streams: Slab::new(),
            current: Index::new(options.seed),
            lagging: Index::new(options.seed),
            ready: BTreeSet::new(),
            blocked_count: 0,
            ring: Ring::new(options.ring_bytes, revision),
            limits: Limits {
                message_bytes: options.stream_bytes / 2,
                fragment_bytes: options.fragment_bytes,
            },
            budget: Budget::new(options.queued_bytes),
            batch: Batch {
                bytes: options.batch_bytes,
                revisions: options.batch_revisions,
                watches: options.batch_watches,
            },
            deliveries: 0,
            stretch: 1,
            round: 0,
            log_cursor: Revision::default(),
            ring_cursor: Revision::default(),
            schedule: Schedule::new(options.progress_interval_ms, options.seed),
            identity,
            stream_bytes_max: options.stream_bytes,
            stream_watches_max: options.stream_watches,
            watch_bytes: 0,
            watch_bytes_max: options.watch_bytes,
            closed: false,
            touched: Vec::new(),
        }
    }

    pub fn publish(
        &mut self,
        events: &[Event],
        revision: Revision,
        compacted: Revision,
        wakes: &mut Wakes,
    ) {
        debug_assert!(events.is_sorted_by_key(|event| (event.revision, event.sub)));
        debug_assert!(events.last().is_none_or(|event| event.revision <= revision));
        // What a reset has already covered is not sent again.
        let known = events.partition_point(|event| event.revision <= self.revision);
        let events = events.get(known..).unwrap_or_default();
        self.compacted = self.compacted.max(compacted);
        self.revision = self.revision.max(revision);
        if events.is_empty() {
            return;
        }
        self.ring.push(events);
        for (key, next) in self.fan_out(State::Current, events, self.revision, wakes) {
            self.block(key, next);
        }
    }

    /// Delivers the events to those who match among the current watchers, or among the ready ones that take part in this
    /// round. Returns those who did not get everything, with the revision that each needs next.
    pub fn fan_out(
        &mut self,
        to: State,
        events: &[Event],
        covered: Revision,
        wakes: &mut Wakes,
    ) -> Vec<(WatcherKey, Revision)> {
        let mut stopped = Vec::new();
        self.deliveries = 0;
        let index = if to == State::Current {
            &mut self.current
        } else {
            &mut self.lagging
        };
        let mut touched = std::mem::take(&mut self.touched);
        index.collect(events, &mut touched);
        for group in touched.drain(..) {
            let matched = index.take_matched(group);
            let mut cut: Option<(Wants, Cut<'_>)> = None;
            for &(wants, key) in index.members(group) {
                let watcher = &mut self.watchers[key];
                if to == State::Ready && watcher.round != self.round {
                    continue;
                }
                let cut = match &mut cut {
                    Some((of, cut)) if *of == wants => cut,
                    _ => {
                        &mut cut
                            .insert((
                                wants,
                                Cut::new(events, &matched, wants, &self.limits, &self.budget),
                            ))
                            .1
                    }
                };
                let recipient = Recipient {
                    watch_id: watcher.id,
                    from: watcher.next,
                    outbox: &watcher.outbox,
                };
                self.deliveries += matched.len();
                match cut.deliver(&recipient, covered, wakes) {
                    Delivered::Nothing => {}
                    Delivered::All => watcher.progress.elide(),
                    Delivered::Until(next) => {
                        watcher.progress.elide();
                        stopped.push((key, next));
                    }
                }
            }
            drop(cut);
            index.give_back(group, matched);
        }
        self.touched = touched;
        stopped
    }

    /// A snapshot replaced the state: whoever was current may have missed events.
    pub fn reset(&mut self, seen: Seen) {
        let last_published = self.revision;
        self.revision = self.revision.max(seen.revision);
        self.compacted = self.compacted.max(seen.compacted);
        self.ring.restart(self.revision);
        let current: Vec<(WatcherKey, Revision)> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| watcher.state == State::Current)
            .map(|(key, watcher)| (key, watcher.next.max(last_published.next())))
            .filter(|(_, next)| *next <= self.revision)
            .collect();
        for (key, next) in current {
            self.unplace(key);
            self.make_ready(key, next);
        }
    }

    pub fn tick(&mut self, now_ms: u64, wakes: &mut Wakes) {
        for stream in self.schedule.due(now_ms) {
            for &key in self.streams[stream].watches.values() {
                let watcher = &mut self.watchers[key];
                let is_current = watcher.state == State::Current || on(Bug::ProgressAhead);
                let is_synced = is_current && watcher.start <= self.revision;
                if watcher.progress.is_due_at_tick() && is_synced {
                    watcher
                        .outbox
                        .push_if_room(watcher.entry(self.revision, Notice::Progress), wakes);
                }
            }
        }
    }
}
