//! Where proposals gather while the log is busy, so that they reach openraft, the disks and the followers together.
//!
//! openraft takes along what it finds when it looks. On few cores it looks after each proposal: each then costs a turn of its
//! loop, an append, and a message to every follower, and goes no sooner for it, since the log writes it only when the sync
//! before has ended. So one proposal goes at once when the log is free; those that come meanwhile go when it is free again.
//!
//! The others' disks may be faster than this one, and commit without it: an outcome that comes before this log has the entry
//! tells that nobody should wait for it.
//!
//! Being free is a hint. Told too often, fewer go together; so whoever waits and does not get an outcome tells it too,
//! lest a proposal that never reached the log keeps the others waiting.

use futures::StreamExt;
use futures::channel::mpsc;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared::{Parts, Shared};

/// Bytes of commands beyond which nothing more is kept waiting: as much as the log itself queues.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Proposals that wait for the log; `T` is one of them.
pub(crate) struct Intake<T> {
    state: Mutex<State<T>>,
    /// The last index that this log is known to have on the disk.
    on_disk: AtomicU64,
}

struct State<T> {
    /// Something was handed over since the log was last free.
    busy: bool,
    waiting: Vec<T>,
    waiting_bytes: usize,
    /// The member stops: nothing is taken in any more.
    closed: bool,
    /// One sender, never a clone: each clone could send once more than the channel holds.
    wake: mpsc::Sender<()>,
}

/// What becomes of a proposal that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<T> {
    /// The log is free: the caller hands it over.
    Go(T),
    /// It will be handed over.
    Waits,
    /// Too much waits already. It was not taken in.
    Full,
    /// The member stops. It was not taken in.
    Closed,
}

/// The other end, for [`run`].
pub(crate) struct Turns(mpsc::Receiver<()>);

impl<T> Intake<T> {
    pub(crate) fn new() -> (Arc<Intake<T>>, Turns) {
        let (wake, turns) = mpsc::channel(1);
        let state = State {
            busy: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            closed: false,
            wake,
        };
        let intake = Intake {
            state: Mutex::new(state),
            on_disk: AtomicU64::new(0),
        };
        (Arc::new(intake), Turns(turns))
    }

    /// Takes in a proposal of so many bytes.
    pub(crate) fn enter(&self, proposal: T, bytes: usize) -> Entered<T> {
        let mut state = self.state.lock();
        if state.closed {
            return Entered::Closed;
        }
        if !state.busy {
            state.busy = true;
            return Entered::Go(proposal);
        }
        if state.waiting_bytes + bytes > WAITING_BYTES_MAX {
            return Entered::Full;
        }
        state.waiting_bytes += bytes;
        state.waiting.push(proposal);
        Entered::Waits
    }

    /// The log has written up to an index.
    pub(crate) fn written(&self, index: u64) {
        // Not the greatest that was ever seen: a follower's log is cut back when another member leads.
        self.on_disk.store(index, Ordering::Release);
        self.free();
    }

    /// An entry was applied that this member had proposed.
    pub(crate) fn applied(&self, index: u64) {
        if index > self.on_disk.load(Ordering::Acquire) {
            self.free();
        }
    }

    /// The log has written what it had, or what was handed over will not reach it.
    pub(crate) fn free(&self) {
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            state.busy = false;
        } else {
            // Full means that a turn is about to come.
            let _ = state.wake.try_send(());
        }
    }

    /// All that wait.
    fn take(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.busy = !state.waiting.is_empty();
        state.waiting_bytes = 0;
        std::mem::take(&mut state.waiting)
    }

    /// Nothing is handed over any more. Gives what waits, to be refused.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed = true;
        state.wake.close_channel();
        state.waiting_bytes = 0;
        std::mem::take(&mut state.waiting)
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

/// Whoever waits for an outcome. Without one, it tells that the log is free.
pub(crate) struct Waits<'a, T> {
    intake: &'a Intake<T>,
    outcome: Option<u64>,
}

impl<'a, T> Waits<'a, T> {
    pub(crate) fn new(intake: &'a Intake<T>) -> Self {
        Waits {
            intake,
            outcome: None,
        }
    }

    /// The outcome of the entry at an index has come.
    pub(crate) fn over(mut self, index: u64) {
        self.outcome = Some(index);
    }
}

impl<T> Drop for Waits<'_, T> {
    fn drop(&mut self) {
        match self.outcome {
            Some(index) => self.intake.applied(index),
            None => self.intake.free(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::Entered::{Closed, Full, Go};
    use super::*;

    fn turn(turns: &mut Turns) -> bool {
        matches!(turns.0.next().now_or_never(), Some(Some(())))
    }

    #[test]
    fn one_goes_at_once_and_those_that_come_meanwhile_go_together() {
        let (intake, mut turns) = Intake::new();
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(
            (intake.enter(2, 1), intake.enter(3, 1)),
            (Entered::Waits, Entered::Waits)
        );
        assert!(!turn(&mut turns), "the log is busy");
        intake.written(1);
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [2, 3]);
        assert_eq!(
            intake.enter(4, 1),
            Entered::Waits,
            "2 and 3 are on their way"
        );
        intake.written(3);
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [4]);
        intake.written(4);
        assert_eq!(intake.enter(5, 1), Go(5), "nothing is on its way");
    }

    #[test]
    fn a_proposal_that_never_reaches_the_log_keeps_nobody_waiting() {
        let (intake, mut turns) = Intake::new();
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(intake.enter(2, 1), Entered::Waits);
        drop(Waits::new(&intake));
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [2]);
    }

    #[test]
    fn a_disk_that_is_slower_than_the_others_keeps_nobody_waiting() {
        let (intake, mut turns) = Intake::new();
        intake.written(6);
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(intake.enter(2, 1), Entered::Waits);
        Waits::new(&intake).over(6);
        assert!(!turn(&mut turns), "it has what was applied");
        Waits::new(&intake).over(7);
        assert!(turn(&mut turns));
        assert_eq!(intake.take(), [2]);
    }

    #[test]
    fn a_turn_for_which_nothing_is_left_leaves_the_log_free() {
        let (intake, _turns) = Intake::new();
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(intake.enter(2, 1), Entered::Waits);
        intake.free();
        intake.free();
        assert_eq!(intake.take(), [2]);
        assert_eq!(intake.take(), []);
        assert_eq!(intake.enter(3, 1), Go(3));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (intake, _turns) = Intake::new();
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(intake.enter(2, WAITING_BYTES_MAX), Entered::Waits);
        assert_eq!(intake.enter(3, 1), Full);
        intake.free();
        assert_eq!(intake.take(), [2]);
        assert_eq!(intake.enter(4, 1), Entered::Waits);
    }

    #[test]
    fn what_waits_when_the_member_stops_is_given_back() {
        let (intake, mut turns) = Intake::new();
        assert_eq!(intake.enter(1, 1), Go(1));
        assert_eq!(intake.enter(2, 1), Entered::Waits);
        assert_eq!(intake.close(), [2]);
        assert_eq!(intake.enter(3, 1), Closed);
        assert_eq!(turns.0.next().now_or_never(), Some(None));
    }
}
