//! Proof of freshness: a revision that the store had after the question, and waiting until the feed is there.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::status::{ApiError, ApiResult};
use crate::storage::{Revision, Rounds, Store};

/// The feed brings every write of an object by itself. Only if it has not within this time is the store asked to say
/// how far the watch is: the last write was to a key that is not watched.
const BEFORE_ASKING: Duration = Duration::from_millis(5);
const BETWEEN_ASKING: Duration = Duration::from_millis(100);
/// As Kubernetes: then the client may try again.
const WAIT_MAX: Duration = Duration::from_secs(3);

pub(super) struct Freshness {
    store: Store,
    reached: watch::Receiver<Revision>,
    ask: mpsc::Sender<()>,
    /// The reads of the revision.
    reads: Rounds<ApiResult<Revision>>,
}

impl Freshness {
    pub(super) fn new(
        store: Store,
        reached: watch::Receiver<Revision>,
        ask: mpsc::Sender<()>,
    ) -> Freshness {
        Freshness {
            store,
            reached,
            ask,
            reads: Rounds::default(),
        }
    }

    pub(super) fn reached(&self) -> Revision {
        *self.reached.borrow()
    }

    /// Looks now, and after each batch that the feed brings.
    pub(super) async fn wait_until(&self, is_so: impl Fn() -> bool) {
        if self.reached.clone().wait_for(|_| is_so()).await.is_err() {
            // The server is shutting down, and nothing will come any more.
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn catch_up(&self) -> ApiResult<Revision> {
        // A revision that the store had after this was called.
        let read = async { Ok(self.store.revision().await?) };
        let revision = self.reads.share(read).await?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// Waits until everything up to `revision` is in; at 0, until the caches are filled: what a cache says before that
    /// is not old, but wrong.
    pub(super) async fn wait_for(&self, revision: Revision) -> ApiResult<()> {
        let revision = revision.max(1);
        let mut reached = self.reached.clone();
        if *reached.borrow() >= revision {
            return Ok(());
        }
        let deadline = Instant::now() + WAIT_MAX;
        let mut patience = BEFORE_ASKING;
        loop {
            let arrived = reached.wait_for(|reached| *reached >= revision);
            match tokio::time::timeout(patience, arrived).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(ApiError::unavailable("the server is shutting down")),
                Err(_) if Instant::now() >= deadline => break,
                Err(_) => {
                    // Full means that somebody else has just asked.
                    let _ = self.ask.try_send(());
                    patience = BETWEEN_ASKING;
                }
            }
        }
        Err(ApiError::too_large_resource_version(
            revision,
            self.reached(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Connection;
    use futures::FutureExt;

    #[tokio::test]
    async fn whatever_there_is_cannot_be_told_before_the_caches_are_filled() {
        let nowhere = Connection {
            endpoints: vec!["http://127.0.0.1:1".to_owned()],
            tls: None,
        };
        let store = Store::connect(&nowhere).await.unwrap();
        let (reach, reached) = watch::channel(0);
        let (ask, _asked) = mpsc::channel(1);
        let freshness = Freshness::new(store, reached, ask);
        assert!(freshness.wait_for(0).now_or_never().is_none());
        reach.send(1).unwrap();
        assert!(matches!(freshness.wait_for(0).now_or_never(), Some(Ok(()))));
    }
}
