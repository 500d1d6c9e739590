//! Where proposals gather while the log is busy, so that they reach openraft, the disks and the followers together.
//!
//! openraft takes along what it finds when it looks. On few cores it looks after each proposal: each then costs a turn of its
//! loop, an append, and a message to every follower, and goes no sooner for it, since the log writes it only when the sync
//! before has ended. So one proposal goes at once when the log is free; those that come meanwhile go when it is free again.
//!
//! Being free is a hint. Told too often, fewer go together; so whoever waits and does not get an outcome tells it too,
//! lest a proposal that never reached the log keeps the others waiting.

use futures::StreamExt;
use futures::channel::mpsc;
use parking_lot::Mutex;
use std::sync::Arc;

use crate::shared::{Parts, Shared};

/// Proposals that wait for the log; `T` is one of them.
pub(crate) struct Intake<T>(Mutex<State<T>>);

struct State<T> {
    /// Something was handed over since the log was last free.
    busy: bool,
    waiting: Vec<T>,
    /// The member stops: nothing is taken in any more.
    closed: bool,
    /// One sender, never a clone: each clone could send once more than the channel holds.
    wake: mpsc::Sender<()>,
}

/// The other end, for [`run`].
pub(crate) struct Turns(mpsc::Receiver<()>);

impl<T> Intake<T> {
    pub(crate) fn new() -> (Arc<Intake<T>>, Turns) {
        let (wake, turns) = mpsc::channel(1);
        let state = State {
            busy: false,
            waiting: Vec::new(),
            closed: false,
            wake,
        };
        (Arc::new(Intake(Mutex::new(state))), Turns(turns))
    }

    /// Gives a proposal back that may be handed over at once, by the caller; keeps it if the log is busy. Once closed
    /// it drops it.
    pub(crate) fn enter(&self, proposal: T) -> Option<T> {
        let mut state = self.0.lock();
        if state.closed {
            return None;
        }
        if state.busy {
            state.waiting.push(proposal);
            return None;
        }
        state.busy = true;
        Some(proposal)
    }

    /// The log has written what it had, or what was handed over will not reach it.
    pub(crate) fn free(&self) {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            state.busy = false;
        } else {
            // Full means that a turn is about to come.
            let _ = state.wake.try_send(());
        }
    }

    /// All that wait.
    fn take(&self) -> Vec<T> {
        let mut state = self.0.lock();
        state.busy = !state.waiting.is_empty();
        std::mem::take(&mut state.waiting)
    }

    /// Nothing is handed over any more, and what waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.wake.close_channel();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Whoever waits for one of them hears of it, and tells that the log is free: not under the lock.
        drop(waiting);
    }
}

/// Hands over what has gathered, turn by turn, until the member stops.
pub(crate) async fn run<P: Parts>(shared: Arc<Shared<P>>, mut turns: Turns) {
    while turns.0.next().await.is_some() {
        for offer in shared.intake.take() {
            shared.hand_over_offer(offer).await;
        }
    }
}

/// Tells that the log is free unless it is told that all went well.
pub(crate) struct Freed<'a, T> {
    pub(crate) intake: &'a Intake<T>,
    pub(crate) went_well: bool,
}

impl<T> Drop for Freed<'_, T> {
    fn drop(&mut self) {
        if !self.went_well {
            self.intake.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn turn(turns: &mut Turns) -> bool {
        matches!(turns.0.next().now_or_never(), Some(Some(())))
    }

    #[test]
    fn one_goes_at_once_and_those_that_come_meanwhile_go_together() {
        let (intake, mut turns) = Intake::new();
        assert_eq!(intake.enter(1), Some(1));
        assert_eq!((intake.enter(2), intake.enter(3)), (None, None));
        assert!(!turn(&mut turns), "the log is busy");
        intake.free();
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [2, 3]);
        assert_eq!(intake.enter(4), None, "2 and 3 are on their way");
        intake.free();
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [4]);
        intake.free();
        assert_eq!(intake.enter(5), Some(5), "nothing is on its way");
    }

    #[test]
    fn a_proposal_that_never_reaches_the_log_keeps_nobody_waiting() {
        let (intake, mut turns) = Intake::new();
        assert_eq!(intake.enter(1), Some(1));
        assert_eq!(intake.enter(2), None);
        drop(Freed {
            intake: &intake,
            went_well: false,
        });
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [2]);
    }

    #[test]
    fn a_turn_for_which_nothing_is_left_leaves_the_log_free() {
        let (intake, _turns) = Intake::new();
        assert_eq!(intake.enter(1), Some(1));
        assert_eq!(intake.enter(2), None);
        intake.free();
        intake.free();
        assert_eq!(intake.take(), [2]);
        assert_eq!(intake.take(), []);
        assert_eq!(intake.enter(3), Some(3));
    }

    #[test]
    fn what_waits_when_the_member_stops_is_dropped() {
        let (intake, mut turns) = Intake::new();
        let waits = Arc::new(());
        assert!(intake.enter(waits.clone()).is_some());
        assert!(intake.enter(waits.clone()).is_none());
        intake.close();
        assert_eq!(Arc::strong_count(&waits), 1);
        assert!(intake.enter(waits.clone()).is_none());
        assert_eq!(Arc::strong_count(&waits), 1);
        assert_eq!(turns.0.next().now_or_never(), Some(None));
    }
}
