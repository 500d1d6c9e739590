//! Who the hub speaks for, and its bounds.

use keelson_store::MemberId;

/// What a [`crate::Hub`] is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's id, for the headers.
    pub cluster_id: u64,
    /// This member's id, for the headers.
    pub member_id: MemberId,
    /// Bytes of recent events to keep.
    pub ring_bytes: usize,
    /// Bytes that one stream's queue may hold. A message that does not fit waits until the queue is half empty, and then
    /// goes in whatever its size.
    pub stream_bytes: usize,
    /// Bytes that all queues together may hold; what several streams share counts once. Above it, each stream still gets one
    /// message at a time.
    pub queued_bytes: usize,
    /// A watch that asked for fragments gets a revision of at least this size in pieces.
    pub fragment_bytes: usize,
    /// Watches that one stream may have.
    pub stream_watches: usize,
    /// Bytes that the watches of all streams may take, about 800 and its keys each.
    pub watch_bytes: usize,
    /// How often a watch that asked for it is told its progress, while no events come; at least 100 ms.
    pub progress_interval_ms: u64,
    /// Bytes of events in one batch of catching up, at least one revision. Batches are delivered under the hub's lock, so
    /// their bounds also bound how long publishing may wait. From the log they are up to four times as large while there is little
    /// in them for the watchers that they serve.
    pub batch_bytes: usize,
    /// Revisions in one batch of catching up.
    pub batch_revisions: usize,
    /// Watches that one batch of catching up serves.
    pub batch_watches: usize,
    /// Varies the streams' progress intervals and the shape of the index. Should be hard to guess in production.
    pub seed: u64,
}

impl Options {
    /// The defaults, for a member.
    pub fn new(cluster_id: u64, member_id: MemberId) -> Options {
        Options {
            cluster_id,
            member_id,
            ring_bytes: 8 << 20,
            stream_bytes: 64 << 10,
            queued_bytes: 64 << 20,
            fragment_bytes: 3 << 19,
            stream_watches: 100_000,
            watch_bytes: 256 << 20,
            progress_interval_ms: 10 * 60 * 1000,
            batch_bytes: 256 << 10,
            batch_revisions: 1000,
            batch_watches: 1024,
            seed: 0,
        }
    }
}
