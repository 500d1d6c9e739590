//! How watchers change their state, and the books in which each state is entered.

use keelson_planted::{Bug, on};
use keelson_store::Revision;

use crate::core::{Core, State, StreamKey, Watcher};
use crate::index::WatcherKey;

impl Core {
    /// Takes a watcher out of the books of its state.
    pub fn unplace(&mut self, key: WatcherKey) {
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

    pub fn forget(&mut self, key: WatcherKey) -> Watcher {
        self.unplace(key);
        let watcher = self.watchers.remove(key);
        self.watch_bytes -= watcher.bytes();
        self.streams[watcher.stream]
            .future
            .remove(&(watcher.start, key));
        watcher
    }

    /// Enters a watcher that is in no books.
    pub fn make_current(&mut self, key: WatcherKey) {
        let watcher = &mut self.watchers[key];
        watcher.state = State::Current;
        self.current.insert(&watcher.span, watcher.wants, key);
    }

    /// Enters a watcher that is in no books.
    pub fn make_ready(&mut self, key: WatcherKey, next: Revision) {
        let watcher = &mut self.watchers[key];
        (watcher.state, watcher.next) = (State::Ready, next);
        self.lagging.insert(&watcher.span, watcher.wants, key);
        self.ready.insert((next, key));
        self.streams[watcher.stream].ready += 1;
    }

    /// Has a watcher wait until its stream drains.
    pub fn block(&mut self, key: WatcherKey, next: Revision) {
        self.unplace(key);
        let next = if on(Bug::WatchSkipsWhenSlow) {
            self.revision.next()
        } else {
            next
        };
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
            .is_some_and(|owner| owner.outbox.may_retry())
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
}
