//! A stream's queue of messages, bounded, and the budget that all queues share.
//!
//! A queue has a lock of its own, so that sending does not contend with publishing. Lock order: the hub's core, then a queue.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crate::frame::{Entry, Frame, Identity};

/// The bytes that queued messages hold, over all streams. A body that several queues share counts once.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            max,
        })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.used() < self.max
    }

    /// The same bytes, charged to the budget until the last copy of them is dropped.
    pub fn charge(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.used.fetch_add(bytes.len(), Ordering::Relaxed);
        Bytes::from_owner(Charged {
            bytes,
            budget: self.clone(),
        })
    }
}

struct Charged {
    bytes: Bytes,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.budget
            .used
            .fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The wakers of streams that got something: called once no lock is held.
#[derive(Default)]
pub(crate) struct Wakes(Vec<Waker>);

impl Wakes {
    pub fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    pub fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

/// What taking a message from the queue gave.
pub(crate) struct Taken {
    pub frame: Poll<Option<Frame>>,
    /// The queue has drained and watchers wait for it: they may go on.
    pub unblock: bool,
}

/// One stream's queue.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    bytes_max: usize,
    budget: Arc<Budget>,
    identity: Arc<Identity>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// The cost of `entries`.
    bytes: usize,
    waker: Option<Waker>,
    /// A watcher of this stream waits for room.
    blocked: bool,
    /// The hub is closed: what is queued is still sent, then the stream ends.
    closed: bool,
}

impl Outbox {
    pub fn new(bytes_max: usize, budget: Arc<Budget>, identity: Arc<Identity>) -> Outbox {
        Outbox {
            queue: Mutex::default(),
            bytes_max,
            budget,
            identity,
        }
    }

    /// Queues an answer to a request or a cancellation. There is always room for one: a stream that is full takes no
    /// further request, and each watch is cancelled once.
    pub fn push(&self, entry: Entry, wakes: &mut Wakes) {
        self.queue.lock().push(entry, wakes);
    }

    /// Queues a message that may be dropped, unless the queue is full.
    pub fn push_if_room(&self, entry: Entry, wakes: &mut Wakes) {
        let mut queue = self.queue.lock();
        if self.has_room(&queue, entry.cost()) {
            queue.push(entry, wakes);
        }
    }

    /// Asks for room for messages of `cost` bytes, and queues those that `entries` makes. Without room nothing is made,
    /// and the stream is marked as blocked.
    pub fn offer<I>(&self, cost: usize, entries: impl FnOnce() -> I, wakes: &mut Wakes) -> bool
    where
        I: IntoIterator<Item = Entry>,
    {
        let mut queue = self.queue.lock();
        if !self.has_room(&queue, cost) {
            queue.blocked = true;
            return false;
        }
        for entry in entries() {
            queue.push(entry, wakes);
        }
        true
    }

    fn has_room(&self, queue: &Queue, cost: usize) -> bool {
        self.has_drained(queue) || (queue.bytes + cost <= self.bytes_max && self.budget.has_room())
    }

    /// Half empty: there is room for a message of any size, so that none is too large to be sent, and none waits for
    /// ever on a stream whose other watches always have something.
    fn has_drained(&self, queue: &Queue) -> bool {
        queue.entries.is_empty() || (queue.bytes <= self.bytes_max / 2 && self.budget.has_room())
    }

    /// Takes the next message; when there is none, the task is woken for the next one.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Taken {
        let mut queue = self.queue.lock();
        let Some(entry) = queue.entries.pop_front() else {
            if queue.closed {
                return Taken {
                    frame: Poll::Ready(None),
                    unblock: false,
                };
            }
            if !queue
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                queue.waker = Some(cx.waker().clone());
            }
            return Taken {
                frame: Poll::Pending,
                unblock: false,
            };
        };
        queue.bytes -= entry.cost();
        let unblock = queue.blocked && self.has_drained(&queue);
        drop(queue);
        Taken {
            frame: Poll::Ready(Some(entry.encode(&self.identity))),
            unblock,
        }
    }

    /// Whether the watchers that wait for room should try again.
    pub fn may_retry(&self) -> bool {
        self.has_drained(&self.queue.lock())
    }

    /// No watcher of this stream waits any longer.
    pub fn clear_blocked(&self) {
        self.queue.lock().blocked = false;
    }

    pub fn is_full(&self) -> bool {
        self.queue.lock().bytes >= self.bytes_max
    }

    pub fn close(&self, wakes: &mut Wakes) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        wakes.add(queue.waker.take());
    }
}

impl Queue {
    fn push(&mut self, entry: Entry, wakes: &mut Wakes) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        wakes.add(self.waker.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Notice;
    use keelson_store::Revision;
    use std::sync::atomic::AtomicU64;

    fn entry(body: Bytes) -> Entry {
        Entry {
            watch_id: 0,
            revision: Revision(2),
            notice: Notice::Events {
                bare: true,
                fragment: false,
            },
            body,
        }
    }

    fn outbox(bytes_max: usize, budget: &Arc<Budget>) -> Outbox {
        let identity = Identity {
            cluster_id: 1,
            member_id: 1,
            term: AtomicU64::new(1),
        };
        Outbox::new(bytes_max, budget.clone(), Arc::new(identity))
    }

    fn offer(outbox: &Outbox, entry: Entry) -> bool {
        outbox.offer(entry.cost(), || [entry], &mut Wakes::default())
    }

    fn take(outbox: &Outbox) -> Taken {
        outbox.poll_take(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_half_empty_queue_takes_a_message_of_any_size_and_a_fuller_one_only_what_fits() {
        let budget = Budget::new(1 << 20);
        let outbox = outbox(1000, &budget);
        assert!(offer(&outbox, entry(Bytes::from(vec![0; 5000]))));
        assert!(!offer(&outbox, entry(Bytes::new())));
        assert!(take(&outbox).unblock, "drained while a watcher waits");
        assert!(matches!(take(&outbox).frame, Poll::Pending));
        outbox.clear_blocked();
        assert!(offer(&outbox, entry(Bytes::new())) && offer(&outbox, entry(Bytes::new())));
        assert!(!take(&outbox).unblock);
    }

    #[test]
    fn a_stream_has_drained_when_what_was_refused_would_be_taken() {
        let budget = Budget::new(1 << 20);
        let outbox = outbox(1000, &budget);
        let sized = |bytes| entry(Bytes::from(vec![0; bytes]));
        assert!(offer(&outbox, sized(300)) && offer(&outbox, sized(300)));
        assert!(offer(&outbox, sized(100)) && !offer(&outbox, sized(5000)));
        assert!(!take(&outbox).unblock && !outbox.may_retry());
        assert!(!offer(&outbox, sized(5000)));
        assert!(take(&outbox).unblock && outbox.may_retry());
        assert!(offer(&outbox, sized(5000)));
    }

    #[test]
    fn a_shared_body_is_charged_once_and_until_its_last_copy_is_sent() {
        let budget = Budget::new(161);
        let body = budget.charge(Bytes::from(vec![0; 100]));
        let (first, second) = (outbox(4096, &budget), outbox(4096, &budget));
        assert!(offer(&first, entry(body.clone())) && offer(&second, entry(body)));
        assert_eq!(budget.used(), 100);
        assert!(offer(
            &first,
            entry(budget.charge(Bytes::from(vec![0; 60])))
        ));
        let elsewhere = budget.charge(Bytes::from(vec![0; 1]));
        assert!(!offer(&first, entry(Bytes::new())), "the budget is spent");
        assert!(
            !take(&first).unblock,
            "drained by half, but the budget is still spent"
        );
        take(&second);
        assert_eq!(budget.used(), 61);
        assert!(take(&first).unblock);
        drop(elsewhere);
        assert_eq!(budget.used(), 0);
    }
}
