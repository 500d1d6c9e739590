//! How far this member has applied, for those who wait for it.

use std::collections::BTreeMap;

use futures::channel::oneshot;
use parking_lot::Mutex;

/// The applied index, and who waits for which.
#[derive(Default)]
pub(crate) struct Progress {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    applied: Option<u64>,
    waiting: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
}

impl Progress {
    /// Everything up to `index` is applied and published.
    pub(crate) fn advance(&self, index: u64) {
        let due = {
            let mut inner = self.inner.lock();
            inner.applied = inner.applied.max(Some(index));
            let later = inner.waiting.split_off(&(index + 1));
            std::mem::replace(&mut inner.waiting, later)
        };
        for waiter in due.into_values().flatten() {
            // Who no longer waits has dropped its end.
            let _ = waiter.send(());
        }
    }

    /// The last applied index; none before the first entry.
    pub(crate) fn applied(&self) -> Option<u64> {
        self.inner.lock().applied
    }

    /// Completes when `index` is applied. The caller bounds the wait.
    pub(crate) fn reached(&self, index: u64) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.inner.lock();
        if inner.applied >= Some(index) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        inner.waiting.entry(index).or_default().push(sender);
        Some(receiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_is_woken_when_its_index_is_applied_and_not_before() {
        let progress = Progress::default();
        let mut three = progress.reached(3).expect("nothing is applied");
        progress.advance(2);
        assert_eq!(three.try_recv(), Ok(None));
        progress.advance(5);
        assert_eq!(three.try_recv(), Ok(Some(())));
        assert!(progress.reached(5).is_none());
        assert_eq!(progress.applied(), Some(5));
    }
}
