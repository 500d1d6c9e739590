//! The hub's state behind its lock: streams, watchers, and who of them is current.
//!
//! A watcher is in one of three states. *Current*: everything up to the published revision is in its stream's queue, and
//! publishing feeds it. *Ready*: it misses some of it, and waits for the next round of catching up ([`crate::catch_up`]).
//! *Blocked*: it misses some, and waits for its stream to drain. `next` is what makes an event reach a watcher exactly once:
//! the first revision that it has not been given yet, whichever way the events come.

use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion};
use keelson_store::{Event, Refusal, Revision};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::Options;
use crate::catch_up::Batch;
use crate::cut::{Cut, Delivered, Limits, Recipient};
use crate::frame::{Entry, Identity, Notice, cancel_reason};
use crate::index::{Index, WatcherKey};
use crate::outbox::{Budget, Outbox, Wakes};
use crate::progress::{Progress, Schedule};
use crate::ring::Ring;
use crate::span::{Span, Wants};

pub(crate) type StreamKey = usize;

/// The watch id of an answer that belongs to no watch, or to all of a stream.
const NO_WATCH: i64 = -1;
/// What a watch takes beyond its keys: its record, its entries in the tables, and a group of its own.
const WATCH_OVERHEAD_BYTES: usize = 768;

/// etcd's own words for what it refuses (etcd `server/storage/mvcc/watcher.go`, `api/v3rpc/rpctypes/error.go`).
mod reason {
    pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    pub const TOO_MANY: &str = "etcdserver: too many requests";
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
    /// Where it was asked to start; 0: with what comes after its creation.
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
    fn entry(&self, revision: Revision, notice: Notice) -> Entry {
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
    watches: BTreeMap<i64, WatcherKey>,
    /// The next id to try for a watch that did not choose one.
    next_id: i64,
    /// Those who wait for room, in the order in which they began to. May hold watchers that are gone or that wait no longer.
    pub blocked: VecDeque<WatcherKey>,
    /// How many of its watchers are ready.
    pub ready: usize,
    /// How many of its watchers are blocked.
    blocked_count: usize,
    /// No watch of this stream starts after this revision.
    starts_by: Revision,
}

impl Stream {
    fn is_synced(&self) -> bool {
        self.ready == 0 && self.blocked_count == 0
    }
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
    /// Counts the rounds of catching up.
    pub round: u64,
    /// Where the next scan of the log, and of the ring, goes on.
    pub log_cursor: Revision,
    pub ring_cursor: Revision,
    schedule: Schedule,
    identity: Arc<Identity>,
    stream_bytes_max: usize,
    stream_watches_max: usize,
    watch_bytes: usize,
    watch_bytes_max: usize,
    closed: bool,
    /// Emptied after each use, and kept for the next.
    touched: Vec<usize>,
}

impl Core {
    pub fn new(
        options: &Options,
        identity: Arc<Identity>,
        revision: Revision,
        compacted: Revision,
    ) -> Core {
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

    // Streams and their requests.

    pub fn open_stream(&mut self) -> (StreamKey, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(
            self.stream_bytes_max,
            self.budget.clone(),
            self.identity.clone(),
        ));
        if self.closed {
            outbox.close(&mut Wakes::default());
        }
        let stream = self.streams.insert(Stream {
            outbox: outbox.clone(),
            watches: BTreeMap::new(),
            next_id: 0,
            blocked: VecDeque::new(),
            ready: 0,
            blocked_count: 0,
            starts_by: Revision::default(),
        });
        self.schedule.add(stream);
        (stream, outbox)
    }

    /// Removes up to `count` of a stream's watches, and the stream with the last one; true when it is gone.
    pub fn retire_stream(&mut self, stream: StreamKey, count: usize) -> bool {
        for _ in 0..count {
            let Some((_, watcher)) = self.streams[stream].watches.pop_first() else {
                self.schedule.remove(stream);
                self.streams.remove(stream);
                return true;
            };
            self.forget(watcher);
        }
        false
    }

    pub fn close(&mut self, wakes: &mut Wakes) {
        self.closed = true;
        self.streams
            .iter()
            .for_each(|(_, stream)| stream.outbox.close(wakes));
    }

    pub fn request(&mut self, stream: StreamKey, request: WatchRequest, wakes: &mut Wakes) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(stream, create, wakes),
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.cancel(stream, cancel.watch_id, wakes)
            }
            Some(RequestUnion::ProgressRequest(_)) => self.report_progress_of_all(stream, wakes),
            // As in etcd, what is not understood is passed over.
            None => {}
        }
    }

    fn create(&mut self, stream: StreamKey, request: WatchCreateRequest, wakes: &mut Wakes) {
        let outbox = self.streams[stream].outbox.clone();
        let watcher = match self.admit(stream, &request) {
            Ok(watcher) => watcher,
            Err(reason) => {
                let body = cancel_reason(&reason);
                let entry = Entry {
                    watch_id: NO_WATCH,
                    revision: self.revision,
                    notice: Notice::Refused,
                    body,
                };
                return outbox.push(entry, wakes);
            }
        };
        outbox.push(watcher.entry(self.revision, Notice::Created), wakes);
        if watcher.next < self.compacted {
            return outbox.push(
                watcher.entry(self.revision, Notice::Compacted(self.compacted)),
                wakes,
            );
        }

        let (id, next, start) = (watcher.id, watcher.next, watcher.start);
        self.watch_bytes += WATCH_OVERHEAD_BYTES + watcher.span.bytes();
        let key = self.watchers.insert(watcher);
        let owner = &mut self.streams[stream];
        owner.watches.insert(id, key);
        owner.starts_by = owner.starts_by.max(start);
        if next > self.revision {
            self.make_current(key)
        } else {
            self.make_ready(key, next)
        }
    }

    /// The watcher that the request asks for, or why there will be none.
    fn admit(
        &mut self,
        stream: StreamKey,
        request: &WatchCreateRequest,
    ) -> Result<Watcher, String> {
        if request.start_revision < 0 {
            return Err(Refusal::Compacted.to_string());
        }
        let span = Span::of(request).ok_or(reason::EMPTY_RANGE)?;
        let taken = self.watch_bytes + WATCH_OVERHEAD_BYTES + span.bytes();
        let owner = &mut self.streams[stream];
        if owner.watches.len() >= self.stream_watches_max || taken > self.watch_bytes_max {
            return Err(reason::TOO_MANY.into());
        }
        if request.watch_id != 0 && owner.watches.contains_key(&request.watch_id) {
            return Err(reason::DUPLICATE_ID.into());
        }
        let id = if request.watch_id != 0 {
            request.watch_id
        } else {
            owner.free_id()
        };
        let start = Revision(request.start_revision);
        Ok(Watcher {
            id,
            stream,
            outbox: owner.outbox.clone(),
            span,
            wants: Wants::of(request),
            start,
            next: if start.0 == 0 {
                self.revision.next()
            } else {
                start
            },
            state: State::Blocked,
            round: 0,
            progress: Progress::new(request.progress_notify),
        })
    }

    fn cancel(&mut self, stream: StreamKey, id: i64, wakes: &mut Wakes) {
        let Some(key) = self.streams[stream].watches.remove(&id) else {
            return;
        };
        let watcher = self.forget(key);
        watcher
            .outbox
            .push(watcher.entry(self.revision, Notice::Canceled), wakes);
    }

    /// Cancels a watcher that needs what has been compacted.
    pub fn cancel_compacted(&mut self, key: WatcherKey, wakes: &mut Wakes) {
        let watcher = self.forget(key);
        self.streams[watcher.stream].watches.remove(&watcher.id);
        watcher.outbox.push(
            watcher.entry(self.revision, Notice::Compacted(self.compacted)),
            wakes,
        );
    }

    // States.

    /// Takes a watcher out of the books of its state.
    fn unplace(&mut self, key: WatcherKey) {
        let watcher = &self.watchers[key];
        let stream = &mut self.streams[watcher.stream];
        match watcher.state {
            State::Current => self.current.remove(&watcher.span, watcher.wants, key),
            State::Ready => {
                self.lagging.remove(&watcher.span, watcher.wants, key);
                self.ready.remove(&(watcher.next, key));
                stream.ready -= 1;
            }
            State::Blocked => {
                stream.blocked_count -= 1;
                self.blocked_count -= 1;
            }
        }
    }

    fn forget(&mut self, key: WatcherKey) -> Watcher {
        self.unplace(key);
        let watcher = self.watchers.remove(key);
        self.watch_bytes -= WATCH_OVERHEAD_BYTES + watcher.span.bytes();
        watcher
    }

    /// Enters a watcher that is in no books.
    fn make_current(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        watcher.state = State::Current;
        self.current.insert(&watcher.span, watcher.wants, key);
    }

    /// Enters a watcher that is in no books.
    fn make_ready(&mut self, key: WatcherKey, next: Revision) {
        let watcher = &mut self.watchers[key];
        (watcher.state, watcher.next) = (State::Ready, next);
        self.lagging.insert(&watcher.span, watcher.wants, key);
        self.ready.insert((next, key));
        self.streams[watcher.stream].ready += 1;
    }

    /// Has a watcher wait until its stream drains.
    pub fn block(&mut self, key: WatcherKey, next: Revision) {
        self.unplace(key);
        let watcher = &mut self.watchers[key];
        (watcher.state, watcher.next) = (State::Blocked, next);
        let stream = &mut self.streams[watcher.stream];
        stream.blocked.push_back(key);
        stream.blocked_count += 1;
        self.blocked_count += 1;
    }

    /// Moves a ready watcher on: it has been given everything before `next`.
    pub fn advance(&mut self, key: WatcherKey, next: Revision) {
        if next > self.revision {
            self.unplace(key);
            self.watchers[key].next = next;
            self.make_current(key);
        } else {
            let watcher = &mut self.watchers[key];
            self.ready.remove(&(watcher.next, key));
            self.ready.insert((next, key));
            watcher.next = next;
        }
    }

    /// Lets some of a stream's blocked watchers try again, if it has drained. Not all at once: those for whom there is no
    /// room would only be blocked again, and thousands of watches on one slow stream would do so at each message.
    pub fn unblock(&mut self, stream: StreamKey) {
        const READY_AT_ONCE: usize = 256;
        if !self
            .streams
            .get(stream)
            .is_some_and(|owner| owner.outbox.begin_retry())
        {
            return;
        }
        while self.streams[stream].ready < READY_AT_ONCE {
            let Some(key) = self.streams[stream].blocked.pop_front() else {
                self.streams[stream].outbox.clear_blocked();
                return;
            };
            let still =
                |watcher: &Watcher| watcher.state == State::Blocked && watcher.stream == stream;
            let Some(next) = self
                .watchers
                .get(key)
                .filter(|watcher| still(watcher))
                .map(|watcher| watcher.next)
            else {
                continue;
            };
            self.unplace(key);
            self.make_ready(key, next);
        }
    }

    // Events.

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
    pub fn reset(&mut self, revision: Revision, compacted: Revision) {
        let last_published = self.revision;
        self.revision = self.revision.max(revision);
        self.compacted = self.compacted.max(compacted);
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

    // Progress.

    /// A manual progress request: answered for the whole stream when all its watchers have everything that was
    /// published, and dropped otherwise, also for a watch that starts in the future or when there is no watch (etcd
    /// `progressIfSync`).
    fn report_progress_of_all(&mut self, key: StreamKey, wakes: &mut Wakes) {
        let stream = &mut self.streams[key];
        if stream.starts_by > self.revision {
            let starts = stream
                .watches
                .values()
                .map(|&watcher| self.watchers[watcher].start);
            stream.starts_by = starts.max().unwrap_or_default();
        }
        if stream.is_synced() && stream.starts_by <= self.revision && !stream.watches.is_empty() {
            let entry = Entry {
                watch_id: NO_WATCH,
                revision: self.revision,
                notice: Notice::Progress,
                body: Default::default(),
            };
            stream.outbox.push_if_room(entry, wakes);
        }
    }

    pub fn tick(&mut self, now_ms: u64, wakes: &mut Wakes) {
        for stream in self.schedule.due(now_ms) {
            for &key in self.streams[stream].watches.values() {
                let watcher = &mut self.watchers[key];
                let is_synced = watcher.state == State::Current && watcher.start <= self.revision;
                if watcher.progress.is_due_at_tick() && is_synced {
                    watcher
                        .outbox
                        .push_if_room(watcher.entry(self.revision, Notice::Progress), wakes);
                }
            }
        }
    }
}

impl Stream {
    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}
