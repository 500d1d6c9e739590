//! What a stream's client asks for: creating and cancelling watches, and progress.

use keelson_planted::{Bug, on};
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion};
use keelson_store::{Refusal, Revision};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::{Core, Seen, State, Stream, StreamKey, Watcher, watch_cost};
use crate::frame::{Entry, Notice, cancel_reason};
use crate::index::WatcherKey;
use crate::outbox::{Outbox, Wakes};
use crate::progress::Progress;
use crate::span::{Span, Wants};

/// The watch id of an answer that belongs to no watch, or to all of a stream.
const NO_WATCH: i64 = -1;
/// etcd's own words for what it refuses (etcd `server/storage/mvcc/watcher.go`, `api/v3rpc/rpctypes/error.go`).
mod reason {
    pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
    pub const TOO_MANY: &str = "etcdserver: too many requests";
}

impl Core {
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
            future: BTreeSet::new(),
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

    pub fn request(
        &mut self,
        stream: StreamKey,
        request: WatchRequest,
        seen: Seen,
        wakes: &mut Wakes,
    ) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(stream, create, seen, wakes),
            Some(RequestUnion::CancelRequest(cancel)) => {
                self.cancel(stream, cancel.watch_id, wakes)
            }
            Some(RequestUnion::ProgressRequest(_)) => self.report_progress_of_all(stream, wakes),
            // As in etcd, what is not understood is passed over.
            None => {}
        }
    }

    /// Registers a watch at the revision that readers see, though its events may still be about to be published: who has
    /// seen a write answered, and then watches, is not told of that write again.
    fn create(
        &mut self,
        stream: StreamKey,
        request: WatchCreateRequest,
        seen: Seen,
        wakes: &mut Wakes,
    ) {
        self.compacted = self.compacted.max(seen.compacted);
        let revision = self.revision.max(seen.revision);
        let outbox = self.streams[stream].outbox.clone();
        let watcher = match self.admit(stream, &request, revision) {
            Ok(watcher) => watcher,
            Err(reason) => {
                let (watch_id, notice, body) = (NO_WATCH, Notice::Refused, cancel_reason(&reason));
                let entry = Entry {
                    watch_id,
                    revision,
                    notice,
                    body,
                };
                return outbox.push(entry, wakes);
            }
        };
        outbox.push(watcher.entry(revision, Notice::Created), wakes);
        if watcher.next < self.compacted {
            return outbox.push(
                watcher.entry(revision, Notice::Compacted(self.compacted)),
                wakes,
            );
        }

        let (id, next, start) = (watcher.id, watcher.next, watcher.start);
        self.watch_bytes += watcher.bytes();
        let key = self.watchers.insert(watcher);
        let owner = &mut self.streams[stream];
        owner.watches.insert(id, key);
        if start > self.revision {
            owner.future.insert((start, key));
        }
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
        revision: Revision,
    ) -> Result<Watcher, String> {
        if request.start_revision < 0 {
            return Err(Refusal::Compacted.to_string());
        }
        let span = Span::of(request).ok_or(reason::EMPTY_RANGE)?;
        let taken = self.watch_bytes + watch_cost(&span);
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
        let (start, next) = match Revision(request.start_revision) {
            Revision(0) => (revision, revision.next()),
            start if on(Bug::WatchRepeatsOnResume) => (start, Revision(start.0 - 1)),
            start => (start, start),
        };
        Ok(Watcher {
            id,
            stream,
            outbox: owner.outbox.clone(),
            span,
            wants: Wants::of(request),
            start,
            next,
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

    /// A manual progress request: answered for the whole stream when all its watchers have everything that was
    /// published, and dropped otherwise, also for a watch that starts in the future or when there is no watch (etcd
    /// `progressIfSync`).
    fn report_progress_of_all(&mut self, key: StreamKey, wakes: &mut Wakes) {
        let stream = &mut self.streams[key];
        while let Some(&(start, watcher)) = stream.future.first()
            && start <= self.revision
        {
            stream.future.remove(&(start, watcher));
        }
        let is_synced = stream.is_synced() || on(Bug::ProgressAhead);
        if is_synced && stream.future.is_empty() && !stream.watches.is_empty() {
            let entry = Entry {
                watch_id: NO_WATCH,
                revision: self.revision,
                notice: Notice::Progress,
                body: Default::default(),
            };
            stream.outbox.push_if_room(entry, wakes);
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
