//! A watch as a stream of lines.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::encode;
use super::negotiate::Shape;
use crate::cache::{Entry, Next, WatchKind};
use crate::rest::WatchReply;

/// How much of what there is already is sent in one piece.
const PIECE_BYTES: usize = 64 << 10;
/// So often a client that understands it is told how far the watch is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// The events of a watch until its time is over, its client is gone, or `stop`.
pub fn lines(
    reply: WatchReply,
    shape: Shape,
    stop: CancellationToken,
) -> impl Stream<Item = Bytes> + Send {
    let now = Instant::now();
    let initial = reply.initial.as_ref().map_or_else(Vec::new, |snapshot| {
        let scope = reply.watcher.scope();
        snapshot.select(scope, None).cloned().collect()
    });
    let stream = WatchStream {
        initial: initial.into_iter(),
        initial_revision: reply.initial.as_ref().map(|snapshot| snapshot.revision),
        bookmark_at: now + BOOKMARK_EVERY,
        ends_at: now + reply.timeout,
        over: false,
        shape,
        stop,
        reply: WatchReply {
            initial: None,
            ..reply
        },
    };
    stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    })
}

struct WatchStream {
    reply: WatchReply,
    shape: Shape,
    /// What is still to be told of what there was.
    initial: std::vec::IntoIter<Arc<Entry>>,
    /// The revision of that, until its end was marked.
    initial_revision: Option<i64>,
    bookmark_at: Instant,
    ends_at: Instant,
    over: bool,
    stop: CancellationToken,
}

impl WatchStream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(piece) = self.next_initial() {
            return Some(piece);
        }
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends_at) => {
                    self.over = true;
                    // The client goes on from there.
                    return self.bookmark().filter(|_| self.reply.bookmarks);
                }
                next = self.reply.watcher.next() => return Some(self.tell(next)),
                // Who hears of events needs no bookmarks.
                () = tokio::time::sleep_until(self.bookmark_at), if self.reply.bookmarks => {
                    self.bookmark_at = Instant::now() + BOOKMARK_EVERY;
                    if let Some(bookmark) = self.bookmark() {
                        return Some(bookmark);
                    }
                }
            }
        }
    }

    fn next_initial(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE_BYTES {
            let Some(entry) = self.initial.next() else {
                break;
            };
            let resource = self.reply.resource;
            piece.extend_from_slice(&encode::event(
                resource,
                WatchKind::Added,
                &entry,
                self.shape,
            ));
        }
        let ended = self.initial.len() == 0 && self.reply.marks_initial_end;
        if let Some(revision) = self.initial_revision.take_if(|_| ended) {
            let mark = encode::bookmark(self.reply.resource, revision, self.shape, true);
            piece.extend_from_slice(&mark);
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    fn tell(&mut self, next: Next) -> Bytes {
        let events = match next {
            Next::Expired(error) => {
                self.over = true;
                return encode::error_event(&error.status());
            }
            Next::Events(events) => events,
        };
        let (resource, shape) = (self.reply.resource, self.shape);
        let encoding = std::ptr::from_ref(resource).addr() as u64 ^ shape.id();
        let encode = |kind: WatchKind, entry: &Entry| encode::event(resource, kind, entry, shape);
        match events.as_slice() {
            // The bytes that all watchers share.
            [one] => one.encoded(encoding, encode),
            many => {
                let mut piece = BytesMut::new();
                for one in many {
                    piece.extend_from_slice(&one.encoded(encoding, encode));
                }
                piece.freeze()
            }
        }
    }

    fn bookmark(&self) -> Option<Bytes> {
        let revision = self.reply.watcher.position()?;
        Some(encode::bookmark(
            self.reply.resource,
            revision,
            self.shape,
            false,
        ))
    }
}
