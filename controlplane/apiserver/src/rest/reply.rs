//! What the verbs give, before it is encoded as the client wants it.

use serde_json::Value;

use super::ListReply;
use crate::cache::{Snapshot, Watcher};
use crate::resources::Resource;
use crate::status::ApiError;

/// An answer and what the client should be warned of.
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// For `Warning` headers.
    pub warnings: Vec<String>,
}

/// An answer.
pub enum Reply {
    /// One object of a resource.
    Object {
        /// 200, 201 or 202.
        code: u16,
        /// Whose columns a table has.
        resource: &'static Resource,
        /// As it is shown.
        object: Value,
    },
    /// Anything else that is one JSON value.
    Value {
        /// The HTTP status.
        code: u16,
        /// The value.
        value: Value,
    },
    /// Many objects.
    List(ListReply),
    /// What happens from now on.
    Watch(Box<WatchReply>),
    /// A watch that ends with its first event, which says why.
    FailedWatch(ApiError),
}

/// A watch that has begun.
pub struct WatchReply {
    /// In which form objects are shown.
    pub resource: &'static Resource,
    /// What is told first.
    pub initial: Option<Snapshot>,
    /// Whether the client wants to be told when that is through.
    pub marks_initial_end: bool,
    /// Whether the client understands bookmarks.
    pub bookmarks: bool,
    /// What follows.
    pub watcher: Watcher,
    /// When it ends.
    pub timeout: std::time::Duration,
}

impl Reply {
    /// An object that was read or changed.
    pub fn object(resource: &'static Resource, object: Value) -> Reply {
        Reply::Object {
            code: 200,
            resource,
            object,
        }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Outcome {
        Outcome {
            reply,
            warnings: Vec::new(),
        }
    }
}
