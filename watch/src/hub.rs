//! The hub's doors: for the task that applies ([`Hub::publish`], [`Hub::reset`]), for the streams ([`Hub::stream`]), for the
//! clock ([`Hub::tick`]) and for whoever lends a thread to catching up.

use keelson_store::engine::{Engine, EngineError};
use keelson_store::{Event, ReadError, Reader, Revision};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::core::{Core, Seen};
use crate::frame::Identity;
use crate::outbox::Wakes;
use crate::{Options, WatchStream};

/// Fans out events to watch streams.
pub struct Hub<E: Engine> {
    shared: Arc<Shared>,
    reader: Reader<E>,
}

/// What the hub and its streams share.
pub(crate) struct Shared {
    pub core: Mutex<Core>,
    /// What readers see. It may be ahead of what was published here, since clients are answered as soon as readers can
    /// see their writes.
    pub seen: Box<dyn Fn() -> Seen + Send + Sync>,
    identity: Arc<Identity>,
    signal: Mutex<Signal>,
}

/// Tells whoever runs catching up that there is something to do.
#[derive(Default)]
struct Signal {
    needed: bool,
    closed: bool,
    waker: Option<Waker>,
}

/// What the hub holds at the moment, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Watches of all streams.
    pub watchers: usize,
    /// Those of them that are catching up or wait for their stream to drain.
    pub slow_watchers: usize,
    /// Bytes in the queues of all streams.
    pub queued_bytes: usize,
}

impl Shared {
    /// Does something to the core, then wakes whoever it concerns, with no lock held.
    pub fn with_core<T>(&self, act: impl FnOnce(&mut Core, &mut Wakes) -> T) -> T {
        self.with(self.core.lock(), act)
    }

    fn with<T>(
        &self,
        mut core: MutexGuard<'_, Core>,
        act: impl FnOnce(&mut Core, &mut Wakes) -> T,
    ) -> T {
        let mut wakes = Wakes::default();
        let result = act(&mut core, &mut wakes);
        let is_behind = !core.ready.is_empty();
        // Who is woken finds it free.
        drop(core);
        if is_behind {
            let mut signal = self.signal.lock();
            signal.needed = true;
            wakes.add(signal.waker.take());
        }
        wakes.wake();
        result
    }
}

impl<E: Engine> Hub<E> {
    /// A hub that begins at the reader's present revision.
    pub fn new(reader: Reader<E>, options: Options) -> Arc<Hub<E>> {
        let identity = Arc::new(Identity {
            cluster_id: options.cluster_id,
            member_id: options.member_id.0,
            term: AtomicU64::new(0),
        });
        let others = reader.clone();
        let seen = Box::new(move || {
            let now = others.now();
            Seen {
                revision: now.revision,
                compacted: now.compacted,
            }
        });
        let core = Mutex::new(Core::new(&options, identity.clone(), seen()));
        Arc::new(Hub {
            shared: Arc::new(Shared {
                core,
                seen,
                identity,
                signal: Mutex::default(),
            }),
            reader,
        })
    }

    /// Fans out what was applied: the events since the last call, in order, and the revisions that the store is now at.
    /// To be called in order, after each applied batch, when readers can see it.
    pub fn publish(&self, events: &[Event], revision: Revision, compacted: Revision) {
        self.shared
            .with_core(|core, wakes| core.publish(events, revision, compacted, wakes));
    }

    /// To be called when a snapshot has replaced the state and readers see it. Watchers that may have missed events catch up
    /// from its log, or are cancelled if it was compacted beyond what they need.
    pub fn reset(&self) {
        let seen = (self.shared.seen)();
        self.shared.with_core(|core, _| core.reset(seen));
    }

    /// Opens a stream. Dropping it cancels its watches.
    pub fn stream(&self) -> WatchStream {
        let (key, outbox) = self.shared.core.lock().open_stream();
        WatchStream::new(self.shared.clone(), key, outbox)
    }

    /// The raft term, for the headers from now on.
    pub fn set_term(&self, term: u64) {
        self.shared.identity.term.store(term, Ordering::Relaxed);
    }

    /// Sends the progress notifications that are due. `now_ms` counts from any fixed instant and never goes backward.
    /// Waits for nobody: while events are being handed out, that is for the next tick.
    pub fn tick(&self, now_ms: u64) {
        if let Some(core) = self.shared.core.try_lock() {
            self.shared
                .with(core, |core, wakes| core.tick(now_ms, wakes));
        }
    }

    /// Catches up by one batch; true if there is more to do. An error is the engine's, and fatal to the member.
    pub fn catch_up(&self) -> Result<bool, EngineError> {
        self.shared.signal.lock().needed = false;
        let scan = self.shared.with_core(|core, wakes| {
            core.cancel_the_compacted(wakes);
            core.catch_up_from_ring(wakes);
            core.next_log_scan()
                .map(|from| (from, core.next_log_batch()))
        });
        if let Some((from, batch)) = scan {
            let now = self.reader.now();
            let events = match now.events_from(from, batch.bytes, batch.revisions) {
                Ok(events) => Some(events),
                // Compacted meanwhile: who needed it is cancelled in the next round.
                Err(ReadError::Refused(_)) => None,
                Err(ReadError::Engine(error)) => return Err(error),
            };
            self.shared.with_core(|core, wakes| {
                core.compacted = core.compacted.max(now.compacted);
                if let Some(events) = events {
                    core.catch_up_from_log(from, &events, now.revision, wakes);
                }
            });
        }
        Ok(!self.shared.core.lock().ready.is_empty())
    }

    /// Ready with true when [`Hub::catch_up`] has something to do, and with false when the hub is closed. Remembers one
    /// task only.
    pub fn poll_catch_up_needed(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut signal = self.shared.signal.lock();
        if signal.closed {
            Poll::Ready(false)
        } else if std::mem::take(&mut signal.needed) {
            Poll::Ready(true)
        } else {
            signal.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// Ends every stream, after what is queued for it, and [`run_catch_up`].
    pub fn close(&self) {
        let mut wakes = Wakes::default();
        self.shared.core.lock().close(&mut wakes);
        {
            let mut signal = self.shared.signal.lock();
            signal.closed = true;
            wakes.add(signal.waker.take());
        }
        wakes.wake();
    }

    /// What the hub holds at the moment.
    pub fn stats(&self) -> Stats {
        let core = self.shared.core.lock();
        Stats {
            streams: core.streams.len(),
            watchers: core.watchers.len(),
            slow_watchers: core.ready.len() + core.blocked_count,
            queued_bytes: core.budget.used(),
        }
    }
}

/// Runs catching up on the calling thread until the hub is closed, or the engine fails.
pub fn run_catch_up<E: Engine>(hub: &Hub<E>) -> Result<(), EngineError> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match hub.poll_catch_up_needed(&mut cx) {
            Poll::Ready(true) => while hub.catch_up()? && !hub.shared.signal.lock().closed {},
            Poll::Ready(false) => return Ok(()),
            Poll::Pending => std::thread::park(),
        }
    }
}
