//! One call for all who wait for the same.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Calls that are made one after the other, each for all who came before it began: who comes while one is under way
/// shares the next one. A failure is shared as well, so that nobody waits for more than two calls, however many fail.
#[derive(Debug)]
pub struct Rounds<T> {
    /// How many have begun.
    begun: AtomicU64,
    /// The last one that ended, and what came of it. Held while one is under way.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Rounds<T> {
        Rounds {
            begun: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }
}

impl<T: Clone> Rounds<T> {
    /// What comes of a call that began after this one: `call`, or another's.
    pub async fn share(&self, call: impl Future<Output = T>) -> T {
        let arrived = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if let Some((number, outcome)) = &*last
            && *number > arrived
        {
            return outcome.clone();
        }
        // Counted also if whoever makes the call is gone before it ends: the next one then makes another.
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let outcome = call.await;
        *last = Some((number, outcome.clone()));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn who_comes_during_a_round_shares_the_next_one_failures_too() {
        let rounds: Rounds<Result<u64, u64>> = Rounds::default();
        let calls = AtomicU64::new(0);
        let go = Notify::new();
        let fail = || async {
            let number = calls.fetch_add(1, Ordering::AcqRel) + 1;
            go.notified().await;
            Err(number)
        };
        let first = rounds.share(fail());
        tokio::pin!(first);
        assert!(futures::poll!(&mut first).is_pending());
        let late = join_all((0..100).map(|_| rounds.share(fail())));
        tokio::pin!(late);
        assert!(futures::poll!(&mut late).is_pending());
        go.notify_one();
        assert_eq!(first.await, Err(1));
        go.notify_one();
        assert_eq!(late.await, vec![Err(2); 100]);
    }

    #[tokio::test]
    async fn a_round_that_was_given_up_is_shared_by_nobody() {
        let rounds = Rounds::default();
        {
            let given_up = rounds.share(std::future::pending::<u64>());
            tokio::pin!(given_up);
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        assert_eq!(rounds.share(async { 2 }).await, 2);
    }
}
