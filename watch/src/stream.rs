//! One client's stream: requests in, messages out.

use keelson_proto::etcdserverpb::WatchRequest;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::Frame;
use crate::core::StreamKey;
use crate::hub::Shared;
use crate::outbox::Outbox;

/// A watch stream. Dropping it cancels its watches.
pub struct WatchStream {
    shared: Arc<Shared>,
    key: StreamKey,
    outbox: Arc<Outbox>,
}

impl WatchStream {
    pub(crate) fn new(shared: Arc<Shared>, key: StreamKey, outbox: Arc<Outbox>) -> WatchStream {
        WatchStream {
            shared,
            key,
            outbox,
        }
    }

    /// Takes a request. Its answer, if it has one, is queued behind what was sent before. Requests should not be taken
    /// while the stream [is full](WatchStream::is_full): answers are queued without asking for room.
    pub fn request(&mut self, request: WatchRequest) {
        let seen = (self.shared.seen)();
        self.shared
            .with_core(|core, wakes| core.request(self.key, request, seen, wakes));
    }

    /// The next message; none when the hub is closed and everything queued was taken.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let taken = self.outbox.poll_take(cx);
        if taken.unblock {
            self.shared.with_core(|core, _| core.unblock(self.key));
        }
        taken.frame
    }

    /// Whether the queue holds as much as it may: there is something to take from it then.
    pub fn is_full(&self) -> bool {
        self.outbox.is_full()
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        // In small portions, so that publishing does not wait for thousands of watches to be removed.
        const AT_ONCE: usize = 256;
        while !self.shared.core.lock().retire_stream(self.key, AT_ONCE) {}
    }
}
