//! Watching the store.

use bytes::Bytes;
use etcd_client::{EventType, WatchOptions, WatchStream};

use super::store::timed;
use super::{Revision, Store, StoreError};

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written.
    Put(Bytes),
    /// It was deleted, or its lease ran out.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The whole key.
    pub key: String,
    /// The revision of the change.
    pub revision: Revision,
    /// What it was.
    pub kind: ChangeKind,
}

/// What one message of a watch tells.
#[derive(Clone, Debug, Default)]
pub struct WatchBatch {
    /// In order; whole revisions.
    pub changes: Vec<Change>,
    /// Everything up to here has been told with this message.
    pub reached: Revision,
}

/// A watch on all keys with a prefix.
pub struct StoreWatch {
    stream: WatchStream,
}

impl Store {
    /// Watches everything under `prefix` that changes after `after`.
    pub async fn watch(&self, prefix: &str, after: Revision) -> Result<StoreWatch, StoreError> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(after + 1)
            .with_progress_notify();
        let mut client = self.watch_client();
        let stream = timed(client.watch(prefix, Some(options))).await?;
        Ok(StoreWatch { stream })
    }
}

impl StoreWatch {
    /// The next message. Fails when the watch is over, for which [`StoreError::Compacted`] is one reason.
    pub async fn next(&mut self) -> Result<WatchBatch, StoreError> {
        let closed = || StoreError::Unavailable("the watch was closed".to_owned());
        let message = self.stream.message().await?.ok_or_else(closed)?;
        if message.canceled() {
            return Err(match message.compact_revision() {
                0 if !message.cancel_reason().contains("compacted") => {
                    StoreError::Unavailable(message.cancel_reason().to_owned())
                }
                _ => StoreError::Compacted,
            });
        }
        // A created reply bears the revision at which the watch was registered, and nothing has been told yet.
        if message.created() {
            return Ok(WatchBatch::default());
        }
        let changes: Vec<Change> = message.events().iter().filter_map(change).collect();
        let header = message.header().map_or(0, |header| header.revision());
        let reached = match changes.last() {
            // The header may be ahead of what this message holds; the last event is not.
            Some(last) => last.revision,
            None => header,
        };
        Ok(WatchBatch { changes, reached })
    }

    /// Asks the store to say how far this watch is.
    pub async fn request_progress(&mut self) -> Result<(), StoreError> {
        Ok(self.stream.request_progress().await?)
    }
}

fn change(event: &etcd_client::Event) -> Option<Change> {
    let kv = event.kv()?;
    let kind = match event.event_type() {
        EventType::Put => ChangeKind::Put(Bytes::copy_from_slice(kv.value())),
        EventType::Delete => ChangeKind::Delete,
    };
    Some(Change {
        key: String::from_utf8_lossy(kv.key()).into_owned(),
        revision: kv.mod_revision(),
        kind,
    })
}
