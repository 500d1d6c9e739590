//! All caches, and how fresh they are.

use std::collections::HashMap;
use std::sync::Arc;

use super::fresh::Freshness;
use super::{Cache, feed};
use crate::resources::{self, Resource};
use crate::status::ApiResult;
use crate::storage::{Revision, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The caches of all resources.
pub struct Caches {
    by_storage: HashMap<&'static str, Arc<Cache>>,
    freshness: Freshness,
}

impl Caches {
    /// Makes the caches, and starts to feed them from `store` until `stop`, as one of `tasks`.
    pub fn start(
        store: Store,
        history_bytes_max: usize,
        stop: CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Caches> {
        let by_storage: HashMap<&'static str, Arc<Cache>> = resources::stored()
            .map(|resource| {
                let cache = Arc::new(Cache::new(resource, history_bytes_max));
                (resource.storage, cache)
            })
            .collect();
        let (reached, reached_by) = watch::channel(0);
        let (ask, asked) = mpsc::channel(1);
        let all: Vec<Arc<Cache>> = by_storage.values().cloned().collect();
        tasks.spawn(feed::run(store.clone(), all, reached, asked, stop));
        Arc::new(Caches {
            by_storage,
            freshness: Freshness::new(store, reached_by, ask),
        })
    }

    /// The cache in which the resource's objects are.
    pub fn of(&self, resource: &Resource) -> &Arc<Cache> {
        &self.by_storage[resource.storage]
    }

    /// Whether the caches are filled.
    pub fn is_ready(&self) -> bool {
        self.freshness.reached() > 0
    }

    /// The revision up to which everything is in.
    pub fn reached(&self) -> Revision {
        self.freshness.reached()
    }

    /// Waits until the caches have everything that was in the store when this was called.
    pub async fn catch_up(&self) -> ApiResult<Revision> {
        self.freshness.catch_up().await
    }

    /// Waits until the caches have everything up to `revision`.
    pub async fn wait_for(&self, revision: Revision) -> ApiResult<()> {
        self.freshness.wait_for(revision).await
    }

    /// Waits until something is so in the caches.
    pub async fn wait_until(&self, is_so: impl Fn() -> bool) {
        self.freshness.wait_until(is_so).await;
    }

    /// All caches, for the metrics.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Cache>> {
        self.by_storage.values()
    }
}
