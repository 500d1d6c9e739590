//! What can go wrong, each with the file and the byte where it did.

use std::io;
use std::sync::Arc;

/// Errors of the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused an operation.
    #[error("raft log: cannot {action} {file}")]
    Io {
        /// The operation, as a verb.
        action: &'static str,
        /// The file or directory it was for.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes that had been synced are not what was written.
    #[error("raft log: {file} is corrupt at byte {offset}: {what}")]
    Corrupt {
        /// Segment file name.
        file: String,
        /// First byte of the record or header that is bad.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment file that must exist does not.
    #[error("raft log: segment {file} is missing: {why}")]
    MissingSegment {
        /// Name of the absent file.
        file: String,
        /// How its absence shows.
        why: String,
    },
    /// A segment file does not have the length it was created with.
    #[error("raft log: {file} is {found} bytes long where its header says {expected}")]
    WrongLength {
        /// Segment file name.
        file: String,
        /// Length by its header.
        expected: u64,
        /// Length on disk.
        found: u64,
    },
    /// Written by a later release. Nothing was touched.
    #[error(
        "raft log: {file} has format version {found}, and this program reads up to {supported}"
    )]
    NewerFormat {
        /// Segment file name.
        file: String,
        /// Version in the file.
        found: u32,
        /// Highest version known here.
        supported: u32,
    },
    /// A write or a sync failed earlier. What is on the disk is unknown until the log is reopened.
    #[error("raft log: stopped by an earlier failure: {reason}")]
    Failed {
        /// The first failure.
        reason: Arc<str>,
        /// Its kind.
        kind: io::ErrorKind,
    },
    /// The log was shut down.
    #[error("raft log: closed")]
    Closed,
    /// A request that would break the log's order. The log is as it was.
    #[error("raft log: refused: {0}")]
    Refused(String),
    /// The entry was purged.
    #[error("raft log: entry {index} was purged, the first left is {first}")]
    Purged {
        /// Index asked for.
        index: u64,
        /// First index present.
        first: u64,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        LogError::Io {
            action,
            file: file.to_owned(),
            source,
        }
    }

    pub(crate) fn corrupt(file: &str, offset: u64, what: impl Into<String>) -> Self {
        LogError::Corrupt {
            file: file.to_owned(),
            offset,
            what: what.into(),
        }
    }

    /// The kind under which this travels as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            LogError::Io { source, .. } => source.kind(),
            LogError::Failed { kind, .. } => *kind,
            LogError::Corrupt { .. }
            | LogError::MissingSegment { .. }
            | LogError::WrongLength { .. } => io::ErrorKind::InvalidData,
            LogError::NewerFormat { .. } => io::ErrorKind::Unsupported,
            LogError::Closed => io::ErrorKind::BrokenPipe,
            LogError::Refused(_) => io::ErrorKind::InvalidInput,
            LogError::Purged { .. } => io::ErrorKind::NotFound,
        }
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
