//! How many requests are under way: reads and writes are bounded each, so that memory is.
//!
//! A request waits for its turn before its body is read. kube-apiserver refuses what is over the bound at once; most
//! clients then wait and come again, so waiting here is the same with fewer messages. Only what would wait behind
//! thousands is refused. Watches take no turn: what they cost is bounded by the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::status::{ApiError, ApiResult};

/// How many may wait for their turn.
const WAITING_MAX: usize = 5_000;

/// The turns that there are.
pub struct Inflight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A turn, until it is dropped.
pub struct Turn(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Inflight {
    /// So many reads and writes at a time.
    pub fn new(reads_max: usize, writes_max: usize) -> Inflight {
        Inflight {
            reads: Arc::new(Semaphore::new(reads_max.max(1))),
            writes: Arc::new(Semaphore::new(writes_max.max(1))),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a turn.
    pub async fn turn(&self, verb: &str) -> ApiResult<Turn> {
        let turns = match verb {
            "watch" => return Ok(Turn(None)),
            "get" | "list" => self.reads.clone(),
            _ => self.writes.clone(),
        };
        if let Ok(permit) = turns.clone().try_acquire_owned() {
            return Ok(Turn(Some(permit)));
        }
        let _waiting = Waiting::count(&self.waiting)?;
        let permit = turns.acquire_owned().await.map_err(ApiError::internal)?;
        Ok(Turn(Some(permit)))
    }
}

/// One that waits, also if it gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn count(waiting: &AtomicUsize) -> ApiResult<Waiting<'_>> {
        let one = Waiting(waiting);
        match waiting.fetch_add(1, Ordering::AcqRel) < WAITING_MAX {
            true => Ok(one),
            false => Err(ApiError::too_many_requests(
                "Too many requests, please try again later.",
                1,
            )),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_waits_for_its_turn_and_a_watch_does_not() {
        let inflight = Inflight::new(1, 1);
        let first = inflight.turn("create").await.unwrap();
        let mut second = std::pin::pin!(inflight.turn("update"));
        assert!(futures::poll!(second.as_mut()).is_pending());
        inflight.turn("list").await.unwrap();
        inflight.turn("watch").await.unwrap();
        drop(first);
        second.await.unwrap();
    }

    #[tokio::test]
    async fn who_would_wait_behind_thousands_is_refused() {
        let inflight = Inflight::new(1, 1);
        let _first = inflight.turn("create").await.unwrap();
        inflight.waiting.store(WAITING_MAX, Ordering::Release);
        let refused = inflight.turn("create").await.err().unwrap();
        assert_eq!((refused.code(), refused.retry_after_s()), (429, Some(1)));
        assert_eq!(inflight.waiting.load(Ordering::Acquire), WAITING_MAX);
    }
}
