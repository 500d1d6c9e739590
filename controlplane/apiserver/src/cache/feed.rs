//! The feed: one watch on the store, from which all caches are filled.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Cache;
use crate::storage::{Change, ROOT, Revision, Store, StoreError, StoreWatch, Stored, WatchBatch};

const PAGE: i64 = 5_000;
const RETRY: Duration = Duration::from_millis(100);
/// An answer moves every cache on.
const BETWEEN_ASKING: Duration = Duration::from_millis(10);
/// Longer than an election takes.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Written to move the watch on, where the store cannot be asked how far it is.
const MARKER: &str = "/registry/.keelson/marker";

pub(super) async fn run(
    store: Store,
    caches: Vec<Arc<Cache>>,
    reached: watch::Sender<Revision>,
    mut asked: mpsc::Receiver<()>,
    stop: CancellationToken,
) {
    let mut feed = Feed {
        store,
        caches,
        reached,
        progress: true,
    };
    let work = async {
        // The revision up to which the caches are filled; none if they have to be filled anew.
        let mut at = None;
        loop {
            match feed.follow(&mut at, &mut asked).await {
                StoreError::Compacted => {
                    warn!("the store was compacted past the watch; the caches are filled anew");
                    at = None;
                }
                error => warn!(%error, "the watch on the store ended; it is begun again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

struct Feed {
    store: Store,
    caches: Vec<Arc<Cache>>,
    reached: watch::Sender<Revision>,
    /// Whether the store's progress can be relied on.
    progress: bool,
}

impl Feed {
    /// Fills the caches if they have to be, and follows the store until that fails.
    async fn follow(
        &mut self,
        at: &mut Option<Revision>,
        asked: &mut mpsc::Receiver<()>,
    ) -> StoreError {
        let result: Result<std::convert::Infallible, StoreError> = async {
            self.progress = reports_progress(&self.store.version().await?);
            if let Some(had) = *at {
                let has = self.store.revision().await?;
                if has < had {
                    warn!(
                        had,
                        has, "the store has another history; the caches are filled anew"
                    );
                    // What they say until then is neither old nor new, but wrong.
                    self.reached.send_replace(0);
                    *at = None;
                }
            }
            let start = match *at {
                Some(revision) => revision,
                None => self.fill().await?,
            };
            *at = Some(start);
            let mut watch = self.store.watch(&format!("{ROOT}/"), start).await?;
            self.advance(start);
            // Since when the watch owes a sign of life.
            let mut silent_since = None;
            let mut ask_from = Instant::now();
            loop {
                tokio::select! {
                    biased;
                    batch = watch.next() => {
                        let batch = batch?;
                        silent_since = None;
                        self.take(&batch);
                        *at = Some((*at).unwrap_or(0).max(batch.reached));
                    }
                    Some(()) = recv_from(ask_from, asked) => {
                        ask_from = Instant::now() + BETWEEN_ASKING;
                        self.ask(&mut watch).await?;
                        silent_since.get_or_insert_with(Instant::now);
                    }
                    () = silence(silent_since) => {
                        let why = "the watch does not say how far it is";
                        return Err(StoreError::Unavailable(why.to_owned()));
                    }
                }
            }
        }
        .await;
        match result {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }

    /// Asks for a sign of how far the watch is.
    async fn ask(&self, watch: &mut StoreWatch) -> Result<(), StoreError> {
        if self.progress {
            return watch.request_progress().await;
        }
        self.store.put(MARKER, Vec::new()).await.map(drop)
    }

    /// Fills all caches at one revision.
    async fn fill(&self) -> Result<Revision, StoreError> {
        let revision = self.store.revision().await?;
        let mut objects = 0;
        for cache in &self.caches {
            let stored = self.list(&cache.prefix, revision).await?;
            objects += stored.len();
            cache.fill(stored, revision);
        }
        info!(revision, objects, "filled the caches");
        Ok(revision)
    }

    async fn list(&self, prefix: &str, revision: Revision) -> Result<Vec<Stored>, StoreError> {
        let mut all: Vec<Stored> = Vec::new();
        loop {
            let start = all.last().map(|last| format!("{}\0", last.key));
            let page = self
                .store
                .list(prefix, start.as_deref(), PAGE, revision)
                .await?;
            all.extend(page.items);
            if !page.more {
                return Ok(all);
            }
        }
    }

    fn take(&self, batch: &WatchBatch) {
        if batch.reached == 0 {
            return;
        }
        for cache in &self.caches {
            let own: Vec<(&str, &Change)> = batch
                .changes
                .iter()
                .filter_map(|change| Some((change.key.strip_prefix(&cache.prefix)?, change)))
                .collect();
            // Also without a change: the cache is complete up to there now.
            cache.apply(&own, batch.reached);
        }
        self.advance(batch.reached);
    }

    fn advance(&self, to: Revision) {
        self.reached.send_if_modified(|reached| {
            let moves = to > *reached;
            *reached = to.max(*reached);
            moves
        });
    }
}

/// The next that is asked for, from a time on: many ask at a time, and one answer does for all of them.
async fn recv_from(time: Instant, asked: &mut mpsc::Receiver<()>) -> Option<()> {
    tokio::time::sleep_until(time).await;
    asked.recv().await
}

/// Until a watch that owes a sign of life has been silent for too long: the member that it hangs on may be no more than a
/// connection that is still open.
async fn silence(since: Option<Instant>) {
    match since {
        Some(since) => tokio::time::sleep_until(since + SILENCE_MAX).await,
        None => std::future::pending().await,
    }
}

/// Before 3.4.31 and 3.5.13, etcd's progress may be ahead of what it has sent (etcd #15220).
fn reports_progress(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '-', '+'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::reports_progress;

    #[test]
    fn old_versions_of_etcd_are_not_asked_for_progress() {
        for old in ["3.3.0", "3.4.23", "3.5.1", "3.5.12", ""] {
            assert!(!reports_progress(old), "{old}");
        }
        for new in ["3.4.31", "3.5.13", "3.6.0", "3.7.1-rc.0", "4.0.0"] {
            assert!(reports_progress(new), "{new}");
        }
    }
}
