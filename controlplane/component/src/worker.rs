//! Workers on a queue: whatever one item does, the others go on.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::Queue;
use crate::error::{describe, is_expected};

/// How the work on an item ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to do until something changes.
    Done,
    /// Look again after this time, even if nothing changes.
    After(Duration),
}

impl From<Option<Duration>> for Outcome {
    fn from(after: Option<Duration>) -> Outcome {
        after.map_or(Outcome::Done, Outcome::After)
    }
}

/// How long what was begun may still take after a stop.
pub const FINISH_MAX: Duration = Duration::from_secs(5);

/// Does to its end what was begun, and drops it where it waits only if that is long after `stop`.
///
/// A write that is dropped on its way may still arrive: whoever stops, and lets another begin, waits for it first.
pub async fn finish<F: Future>(stop: &CancellationToken, begun: F) -> Option<F::Output> {
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(FINISH_MAX).await;
    };
    tokio::select! {
        result = begun => Some(result),
        () = too_late => {
            warn!("what was begun does not end: dropping it");
            None
        }
    }
}

/// Works on the queue's items, `workers` at a time, until `stop`; what was begun by then is [finished](finish).
///
/// An item that fails, by an error or by a panic, is tried again after a back-off of its own. Reconcilers must bear to
/// be dropped where they wait, as they must bear SIGKILL.
pub async fn work<T, F, Fut>(queue: Queue<T>, workers: usize, stop: CancellationToken, reconcile: F)
where
    T: Clone + Eq + Hash + Display,
    F: Fn(T) -> Fut,
    Fut: Future<Output = anyhow::Result<Outcome>>,
{
    let worker = || async {
        while let Some(item) = stop.run_until_cancelled(queue.next()).await {
            let result = AssertUnwindSafe(reconcile(item.clone()))
                .catch_unwind()
                .await;
            match result {
                Ok(Ok(outcome)) => {
                    queue.forget(&item);
                    if let Outcome::After(pause) = outcome {
                        queue.add_after(item.clone(), pause);
                    }
                }
                Ok(Err(error)) => {
                    let failures = queue.retry(item.clone());
                    if is_expected(&error) && failures < 10 {
                        debug!(%item, failures, "will look again: {}", describe(&error));
                    } else {
                        warn!(%item, failures, "will try again: {}", describe(&error));
                    }
                }
                Err(_) => {
                    let failures = queue.retry(item.clone());
                    error!(%item, failures, "panicked; will try again");
                }
            }
            queue.done(&item);
        }
    };
    let all = join_all((0..workers.max(1)).map(|_| worker()));
    finish(&stop, all).await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_that_fails_or_panics_holds_up_no_other() {
        let queue = Queue::default();
        for item in ["fails", "panics", "works"] {
            queue.add(item);
        }
        let stop = CancellationToken::new();
        let calls = Mutex::new(BTreeMap::new());
        work(queue, 1, stop.clone(), |item| {
            let times = {
                let mut calls = calls.lock();
                let times = calls.entry(item).or_insert(0);
                *times += 1;
                *times
            };
            let stop = stop.clone();
            async move {
                match item {
                    "fails" if times < 3 => anyhow::bail!("not yet"),
                    "panics" if times < 4 => panic!("not yet"),
                    "panics" => stop.cancel(),
                    _ => (),
                }
                Ok(Outcome::Done)
            }
        })
        .await;
        let calls = calls.into_inner();
        assert_eq!(
            calls,
            BTreeMap::from([("fails", 3), ("panics", 4), ("works", 1)])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_what_was_begun_is_finished_and_nothing_else_is_begun() {
        let queue = Queue::default();
        for item in ["first", "second", "third"] {
            queue.add(item);
        }
        let stop = CancellationToken::new();
        let finished = Mutex::new(vec![]);
        work(queue.clone(), 2, stop.clone(), |item| {
            let (stop, finished) = (stop.clone(), &finished);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stop.cancel();
                tokio::time::sleep(Duration::from_secs(1)).await;
                finished.lock().push(item);
                Ok(Outcome::Done)
            }
        })
        .await;
        assert_eq!(finished.into_inner(), ["first", "second"]);
        assert_eq!(queue.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_after_a_stop_is_dropped() {
        let queue = Queue::default();
        queue.add("a");
        let stop = CancellationToken::new();
        stop.cancel();
        let begun = tokio::time::Instant::now();
        assert_eq!(finish(&stop, std::future::pending::<()>()).await, None);
        assert_eq!(begun.elapsed(), FINISH_MAX);
        work(queue.clone(), 1, stop, |_| async {
            unreachable!("it has stopped")
        })
        .await;
        assert_eq!(queue.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_is_looked_at_again_after_the_time_that_it_asked_for() {
        let queue = Queue::default();
        queue.add("a");
        let stop = CancellationToken::new();
        let started = tokio::time::Instant::now();
        work(queue, 2, stop.clone(), |_| {
            let stop = stop.clone();
            async move {
                if started.elapsed() >= Duration::from_secs(20) {
                    stop.cancel();
                }
                Ok(Outcome::After(Duration::from_secs(10)))
            }
        })
        .await;
        assert_eq!(started.elapsed(), Duration::from_secs(20));
    }
}
