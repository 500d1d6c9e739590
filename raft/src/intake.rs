//! Where proposals gather while earlier ones are under way, so that they reach openraft, the disks and the followers together.
//!
//! openraft takes along what it finds when it looks. On few cores it looks after each proposal: each then costs a turn of its
//! loop, an append, and a message to every follower, and goes no sooner for it, since the log writes it only when the sync
//! before has ended. So one proposal goes at once when nothing is under way. Those that come meanwhile go together, once the
//! log has written what went before and that is applied: what a turn costs, on every member, falls on more of them. Where
//! that takes longer than the log does, times [`PATIENCE`], because the others are far away, they go without, and turns
//! overlap. The log takes longer where processors are short, and then turns should be few.
//!
//! The others' disks may be faster than this one, and commit without it: what is applied before this log has it tells that
//! nobody should wait for the log.
//!
//! All of this is a hint. Told too often, fewer go together; so whoever waits and does not get an outcome tells it too,
//! lest a proposal that never reached the log keeps the others waiting.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{Either, select};
use futures::task::AtomicWaker;
use openraft::AsyncRuntime;
use parking_lot::Mutex;

use crate::applier::Now;
use crate::shared::{Parts, Shared};

/// Bytes of commands beyond which nothing more is kept waiting: as much as the log itself queues.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What was handed over is waited for, counted from then, for so many times as long as the log takes.
const PATIENCE: u32 = 3;

/// An append counts for one part in so many of how long the log is thought to take.
const TOOK_PARTS: u32 = 8;

/// No stall of the disk makes proposals wait for longer than this for the ones before.
const PATIENCE_MAX: Duration = Duration::from_millis(50);

/// Proposals that wait; `T` is one of them.
pub(crate) struct Intake<T> {
    state: Mutex<State<T>>,
    now: Now,
    /// How many wait for an outcome.
    awaited: AtomicUsize,
    /// Whoever waits until nobody does.
    none_awaited: AtomicWaker,
}

struct State<T> {
    /// Something was handed over that the log has not written.
    log_busy: bool,
    /// When something was last handed over.
    handed: Duration,
    /// How long the log takes, lately.
    took: Duration,
    /// The last index that this log is known to have on the disk.
    on_disk: u64,
    /// The last index that is known to be applied.
    applied: u64,
    /// What was applied when something was last handed over: that is later in the log.
    applied_before: u64,
    /// What is under way may never be applied, or nobody would tell.
    unawaited: bool,
    waiting: Vec<Waiting<T>>,
    waiting_bytes: usize,
    /// The member stops: nothing is taken in any more.
    closed: bool,
    /// One sender, never a clone: each clone could send once more than the channel holds.
    wake: mpsc::Sender<()>,
}

struct Waiting<T> {
    proposal: T,
    /// Gone when nobody waits for the outcome any more.
    awaited: Weak<()>,
}

/// What becomes of a proposal that comes in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered<T> {
    /// Nothing is under way: the caller hands it over.
    Go(T),
    /// It will be handed over.
    Waits,
    /// Too much waits already. It was not taken in.
    Full,
    /// The member stops. It was not taken in.
    Closed,
}

/// The other end, for [`run`].
pub(crate) struct Wakes(mpsc::Receiver<()>);

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Turn<T> {
    /// These are to be handed over.
    Go(Vec<T>),
    /// To look again after so long, or when told to.
    Later(Duration),
    /// Nothing, until told to look.
    Rest,
}

impl<T> Intake<T> {
    pub(crate) fn new(now: Now) -> (Arc<Intake<T>>, Wakes) {
        let (wake, wakes) = mpsc::channel(1);
        let state = State {
            log_busy: false,
            handed: Duration::ZERO,
            took: Duration::ZERO,
            on_disk: 0,
            applied: 0,
            applied_before: 0,
            unawaited: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            closed: false,
            wake,
        };
        let intake = Intake {
            state: Mutex::new(state),
            now,
            awaited: AtomicUsize::new(0),
            none_awaited: AtomicWaker::new(),
        };
        (Arc::new(intake), Wakes(wakes))
    }

    /// Takes in a proposal of so many bytes, for somebody who is about to wait.
    pub(crate) fn enter(&self, proposal: T, bytes: usize, waits: &Waits<'_, T>) -> Entered<T> {
        let now = (self.now)();
        let mut state = self.state.lock();
        if state.closed {
            return Entered::Closed;
        }
        let due = state.due_in(now) == Some(Duration::ZERO);
        if due && state.waiting.is_empty() {
            state.handed_over(now);
            return Entered::Go(proposal);
        }
        if state.waiting_bytes + bytes > WAITING_BYTES_MAX {
            return Entered::Full;
        }
        state.waiting_bytes += bytes;
        state.waiting.push(Waiting {
            proposal,
            awaited: Arc::downgrade(&waits.awaited),
        });
        // For the first, nobody looks at the clock yet.
        if due || !state.log_busy && state.waiting.len() == 1 {
            state.look();
        }
        Entered::Waits
    }

    /// The log has written up to an index.
    pub(crate) fn written(&self, index: u64) {
        let now = (self.now)();
        let mut state = self.state.lock();
        // Not the greatest that was ever seen: a follower's log is cut back when another member leads.
        state.on_disk = index;
        // It may be the end of an earlier append, for which the others did not wait.
        if state.log_busy && index > state.applied_before {
            let took = now.saturating_sub(state.handed);
            state.took = (state.took * (TOOK_PARTS - 1) + took) / TOOK_PARTS;
            state.log_busy = false;
        }
        state.look();
    }

    /// Everything up to an index was applied.
    pub(crate) fn applied(&self, index: u64) {
        let mut state = self.state.lock();
        state.applied = index;
        if index > state.on_disk && index > state.applied_before {
            state.log_busy = false;
        }
        state.look();
    }

    /// What was handed over may never reach the log, or never be applied.
    pub(crate) fn await_nothing(&self) {
        let mut state = self.state.lock();
        state.log_busy = false;
        state.unawaited = true;
        state.look();
    }

    /// What is to be done now.
    fn turn(&self) -> Turn<T> {
        let now = (self.now)();
        let mut state = self.state.lock();
        if state.waiting.is_empty() {
            return Turn::Rest;
        }
        match state.due_in(now) {
            None => Turn::Rest,
            Some(Duration::ZERO) => {
                let proposals = state.take();
                if proposals.is_empty() {
                    return Turn::Rest;
                }
                state.handed_over(now);
                Turn::Go(proposals)
            }
            Some(later) => Turn::Later(later),
        }
    }

    /// Nothing is handed over any more. Gives what waits, to be refused.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed = true;
        state.wake.close_channel();
        state.take()
    }

    /// Completes when nobody waits for an outcome. For one caller at a time, and of use only when this is closed.
    pub(crate) async fn all_answered(&self) {
        poll_fn(|context| {
            // Before the look: who goes after it wakes this.
            self.none_awaited.register(context.waker());
            match self.awaited.load(Ordering::Acquire) {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }
}

impl<T> State<T> {
    /// In how long what waits is to go, if nothing else happens before; none while the log is busy.
    fn due_in(&self, now: Duration) -> Option<Duration> {
        if self.log_busy {
            None
        } else if self.unawaited || self.on_disk <= self.applied {
            Some(Duration::ZERO)
        } else {
            let waited = now.saturating_sub(self.handed);
            let patience = PATIENCE_MAX.min(self.took * PATIENCE);
            Some(patience.saturating_sub(waited))
        }
    }

    /// What waits, but for what nobody waits for: if that were refused, nobody would tell. Whoever gives up later does.
    fn take(&mut self) -> Vec<T> {
        self.waiting_bytes = 0;
        let waiting = self.waiting.drain(..);
        let awaited = waiting.filter(|waiting| waiting.awaited.strong_count() > 0);
        awaited.map(|waiting| waiting.proposal).collect()
    }

    fn handed_over(&mut self, now: Duration) {
        self.log_busy = true;
        self.handed = now;
        self.applied_before = self.applied;
        self.unawaited = false;
    }

    /// Makes [`run`] look, if there is something to look at.
    fn look(&mut self) {
        if !self.waiting.is_empty() {
            // Full means that it is about to.
            let _ = self.wake.try_send(());
        }
    }
}

/// Hands over what has gathered, turn by turn, until the member stops.
pub(crate) async fn run<P: Parts>(shared: Arc<Shared<P>>, mut wakes: Wakes) {
    while wakes.0.next().await.is_some() {
        loop {
            match shared.intake.turn() {
                Turn::Go(offers) => {
                    for offer in offers {
                        shared.hand_over_offer(offer).await;
                    }
                }
                Turn::Later(later) => {
                    let told = select(wakes.0.next(), Box::pin(P::Rt::sleep(later))).await;
                    if let Either::Left((None, _)) = told {
                        return;
                    }
                }
                Turn::Rest => break,
            }
        }
    }
}

/// Whoever waits for an outcome. Without one, it tells that nothing should wait for its proposal.
pub(crate) struct Waits<'a, T> {
    intake: &'a Intake<T>,
    awaited: Arc<()>,
    over: bool,
}

impl<'a, T> Waits<'a, T> {
    pub(crate) fn new(intake: &'a Intake<T>) -> Self {
        intake.awaited.fetch_add(1, Ordering::AcqRel);
        Waits {
            intake,
            awaited: Arc::default(),
            over: false,
        }
    }

    /// The outcome has come, or the proposal was not taken in.
    pub(crate) fn over(mut self) {
        self.over = true;
    }
}

impl<T> Drop for Waits<'_, T> {
    fn drop(&mut self) {
        if !self.over {
            // In this order: either it is not handed over, or the one that hands it over is told after that.
            self.awaited = Arc::default();
            self.intake.await_nothing();
        }
        if self.intake.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.intake.none_awaited.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::atomic::AtomicU64;

    use futures::FutureExt;
    use futures::executor::LocalPool;
    use futures::task::LocalSpawnExt;

    use super::Entered::{Closed, Full, Go};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// An intake with a clock that stands until it is moved.
    struct Case {
        intake: Arc<Intake<u32>>,
        wakes: Wakes,
        now_ms: Arc<AtomicU64>,
    }

    impl Case {
        fn new() -> Case {
            let now_ms = Arc::new(AtomicU64::new(0));
            let clock = now_ms.clone();
            let now: Now = Arc::new(move || MS * clock.load(Ordering::Relaxed) as u32);
            let (intake, wakes) = Intake::new(now);
            Case {
                intake,
                wakes,
                now_ms,
            }
        }

        /// One whose log always took so long: a first proposal is under way in it, and on the disk.
        fn with_one_on_the_disk(took_ms: u64) -> Case {
            let case = Case::new();
            case.intake.state.lock().took = MS * took_ms as u32;
            assert_eq!(case.enter(1, 1), Go(1));
            case.pass(took_ms);
            case.intake.written(1);
            case
        }

        fn pass(&self, ms: u64) {
            self.now_ms.fetch_add(ms, Ordering::Relaxed);
        }

        /// Whether somebody wants [`run`] to look.
        fn told(&mut self) -> bool {
            let mut told = false;
            while let Some(Some(())) = self.wakes.0.next().now_or_never() {
                told = true;
            }
            told
        }

        /// These come, and whoever waits for them goes on waiting.
        fn waits(&self, proposals: &[u32]) {
            for proposal in proposals {
                assert_eq!(self.enter(*proposal, 1), Entered::Waits);
            }
        }

        fn enter(&self, proposal: u32, bytes: usize) -> Entered<u32> {
            let waits = Waits::new(&self.intake);
            let entered = self.intake.enter(proposal, bytes, &waits);
            // It outlives the test.
            std::mem::forget(waits);
            entered
        }
    }

    #[test]
    fn one_goes_at_once_and_those_that_come_meanwhile_go_together() {
        let mut case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        case.waits(&[2, 3]);
        assert!(!case.told());
        assert_eq!(case.intake.turn(), Turn::Rest, "the log is busy");
        case.intake.written(1);
        case.intake.applied(1);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![2, 3]));
        case.waits(&[4]);
        case.intake.written(3);
        case.intake.applied(3);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![4]));
        case.intake.written(4);
        case.intake.applied(4);
        assert!(!case.told(), "nothing waits");
        assert_eq!(case.enter(5, 1), Go(5), "nothing is under way");
    }

    #[test]
    fn what_is_on_the_disk_and_not_applied_is_waited_for_as_long_as_the_log_took_times_a_few() {
        let mut case = Case::with_one_on_the_disk(2);
        case.waits(&[2]);
        assert!(case.told(), "somebody must look at the clock");
        let patience = 2 * MS * PATIENCE - 2 * MS;
        assert_eq!(case.intake.turn(), Turn::Later(patience));
        case.pass(1);
        case.waits(&[3]);
        assert!(!case.told());
        assert_eq!(case.intake.turn(), Turn::Later(patience - MS));
        case.pass(patience.as_millis() as u64 - 1);
        case.waits(&[4]);
        assert!(case.told(), "who comes when it is time tells of it");
        assert_eq!(case.intake.turn(), Turn::Go(vec![2, 3, 4]));
        assert_eq!(case.intake.turn(), Turn::Rest);
    }

    #[test]
    fn what_is_applied_sooner_is_waited_for_no_longer() {
        let mut case = Case::with_one_on_the_disk(2);
        case.waits(&[2]);
        assert!(case.told());
        assert!(matches!(case.intake.turn(), Turn::Later(_)));
        case.intake.applied(1);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
    }

    #[test]
    fn how_long_the_log_takes_is_learned_and_one_stall_of_it_is_soon_forgotten() {
        let case = Case::with_one_on_the_disk(8);
        case.intake.applied(1);
        let append = |index, took_ms| {
            assert_eq!(case.enter(1, 1), Go(1));
            case.pass(took_ms);
            case.intake.written(index);
            case.intake.applied(index);
            case.intake.state.lock().took
        };
        assert_eq!(append(2, 16), 9 * MS, "an eighth of the way");
        for index in 3..100 {
            append(index, 16);
        }
        let took = append(100, 16);
        assert!(15 * MS < took && took <= 16 * MS, "{took:?}");
    }

    #[test]
    fn no_stall_of_the_disk_makes_others_wait_for_long() {
        let mut case = Case::with_one_on_the_disk(60_000);
        case.intake.state.lock().handed = 60_000 * MS;
        case.waits(&[2]);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Later(PATIENCE_MAX));
    }

    #[test]
    fn the_end_of_an_append_that_the_others_did_not_wait_for_is_not_that_of_the_next() {
        let mut case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        case.intake.applied(1);
        assert_eq!(case.enter(2, 1), Go(2), "the others have 1");
        case.waits(&[3]);
        case.pass(8);
        case.intake.written(1);
        assert_eq!(case.intake.turn(), Turn::Rest, "2 is not on this disk");
        assert_eq!(case.intake.state.lock().took, Duration::ZERO);
        case.intake.written(2);
        case.intake.applied(2);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![3]));
    }

    #[test]
    fn a_log_that_is_cut_back_is_not_waited_for() {
        let mut case = Case::with_one_on_the_disk(2);
        case.intake.applied(1);
        case.intake.written(9);
        // Another leads, and has the rest thrown away; then this member leads again.
        case.intake.written(2);
        case.intake.applied(2);
        assert_eq!(case.enter(2, 1), Go(2));
        case.waits(&[3]);
        case.intake.written(3);
        case.intake.applied(3);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![3]));
    }

    #[test]
    fn a_proposal_that_never_reaches_the_log_keeps_nobody_waiting() {
        let mut case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        case.waits(&[2]);
        drop(Waits::new(&case.intake));
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
    }

    #[test]
    fn a_proposal_that_will_not_be_applied_keeps_nobody_waiting() {
        let mut case = Case::with_one_on_the_disk(2);
        case.waits(&[2]);
        assert!(case.told());
        drop(Waits::new(&case.intake));
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
    }

    #[test]
    fn a_proposal_that_nobody_waits_for_is_not_handed_over() {
        let case = Case::with_one_on_the_disk(2);
        let given_up = Waits::new(&case.intake);
        assert_eq!(case.intake.enter(2, 1, &given_up), Entered::Waits);
        drop(given_up);
        assert_eq!(case.intake.turn(), Turn::Rest);
        assert_eq!(case.enter(3, 1), Go(3), "nothing is on its way to the log");
        let given_up = Waits::new(&case.intake);
        assert_eq!(case.intake.enter(4, 1, &given_up), Entered::Waits);
        case.waits(&[5]);
        drop(given_up);
        assert_eq!(case.intake.turn(), Turn::Go(vec![5]));
    }

    #[test]
    fn a_disk_that_is_slower_than_the_others_keeps_nobody_waiting() {
        let mut case = Case::new();
        case.intake.written(6);
        case.intake.applied(6);
        assert_eq!(case.enter(1, 1), Go(1));
        case.waits(&[2]);
        case.intake.applied(6);
        assert_eq!(
            case.intake.turn(),
            Turn::Rest,
            "the log has what was applied"
        );
        case.intake.applied(7);
        assert!(case.told());
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
    }

    #[test]
    fn a_turn_for_which_nothing_is_left_changes_nothing() {
        let case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        case.waits(&[2]);
        case.intake.await_nothing();
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
        case.intake.await_nothing();
        assert_eq!(case.intake.turn(), Turn::Rest);
        assert_eq!(case.enter(3, 1), Go(3));
    }

    #[test]
    fn what_waits_is_bounded() {
        let case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        assert_eq!(case.enter(2, WAITING_BYTES_MAX), Entered::Waits);
        assert_eq!(case.enter(3, 1), Full);
        case.intake.await_nothing();
        assert_eq!(case.intake.turn(), Turn::Go(vec![2]));
        assert_eq!(case.enter(4, 1), Entered::Waits);
    }

    #[test]
    fn what_waits_when_the_member_stops_is_given_back() {
        let mut case = Case::new();
        assert_eq!(case.enter(1, 1), Go(1));
        case.waits(&[2]);
        assert_eq!(case.intake.close(), [2]);
        assert_eq!(case.enter(3, 1), Closed);
        assert_eq!(case.wakes.0.next().now_or_never(), Some(None));
    }

    #[test]
    fn a_member_that_stops_can_tell_when_the_last_has_its_answer() {
        let case = Case::new();
        let [answered, given_up] = [1, 2].map(|proposal| {
            let waits = Waits::new(&case.intake);
            case.intake.enter(proposal, 1, &waits);
            waits
        });
        case.intake.close();
        let mut pool = LocalPool::new();
        let intake = case.intake.clone();
        let told = Rc::new(Cell::new(false));
        let tells = told.clone();
        let waiting = async move {
            intake.all_answered().await;
            tells.set(true);
        };
        pool.spawner().spawn_local(waiting).unwrap();
        pool.run_until_stalled();
        answered.over();
        pool.run_until_stalled();
        assert!(!told.get(), "one still waits");
        drop(given_up);
        pool.run_until_stalled();
        assert!(told.get());
        assert_eq!(case.intake.all_answered().now_or_never(), Some(()));
    }
}
