//! The values that callers and the log exchange. They are plain numbers: the raft crate maps its
//! own identifiers to these, so that the on-disk format depends on nobody's types.

/// Names one entry of the replicated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Member that led that term; 0 where the caller does not tell leaders of a term apart.
    pub node: u64,
    /// Position in the log. The first entry of a cluster has index 0, and there are no holes.
    pub index: u64,
}

/// The last vote this member cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// Term voted in.
    pub term: u64,
    /// Member voted for.
    pub node: u64,
    /// Whether a quorum granted it, that is, `node` leads `term`.
    pub committed: bool,
}

/// Bounds of a log. Every one is in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment file, preallocated. A segment is made larger only to hold one record that
    /// would not fit otherwise. Clamped to 1 KiB ..= 1 GiB.
    pub segment_bytes: u32,
    /// Bytes of memory that recent entries are kept in for readers, which are followers a moment behind. Entries not yet written are
    /// kept beyond it, and are bounded by `queue_bytes_max`. A payload that is a part of a larger
    /// buffer keeps all of that buffer alive.
    pub cache_bytes: usize,
    /// Bytes queued or being written above which a [`crate::ThreadedLog`] blocks who appends.
    pub queue_bytes_max: usize,
    /// Bytes after which one drain of the queue stops, so that the buffer of a batch is bounded.
    pub batch_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            cache_bytes: 12 << 20,
            queue_bytes_max: 64 << 20,
            batch_bytes_max: 8 << 20,
        }
    }
}

/// What [`crate::RaftLog::open`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// No segment existed: the log was created by this call.
    pub fresh: bool,
    /// The last vote saved.
    pub vote: Option<Vote>,
    /// The last committed id that was saved and survived; it may lag behind what was committed.
    pub committed: Option<LogId>,
    /// Everything up to this id was purged.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when no entry is left.
    pub last: Option<LogId>,
    /// A torn tail that was cut.
    pub cut: Option<Cut>,
}

/// A tail that a crash left half written, and that [`crate::RaftLog::open`] wiped. Nothing in it
/// had been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Segment file name.
    pub file: String,
    /// First byte wiped.
    pub offset: u64,
    /// Bytes wiped, up to the last that was not zero.
    pub bytes: u64,
    /// What was wrong with the record at `offset`.
    pub reason: &'static str,
}
