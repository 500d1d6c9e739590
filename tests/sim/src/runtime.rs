//! The seeded runtime, with tasks that belong to a member.
//!
//! [`SimRuntime`] gives one thread, virtual time and a seed. On top of it, a task knows the member that spawned it, so
//! that a member can be killed (its tasks are dropped where they stand), paused (none is polled), and given a clock
//! that runs fast or slow. Now and then a task is made to wait a turn, so that a seed also decides the interleaving.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::channel::oneshot;
use openraft::{AsyncRuntime, Instant, OptionalSend};
use openraft_rt_sim::{Elapsed, SimInstant, SimRuntime, SimSleep, SimTimeout};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// One poll in so many makes the task wait a turn.
const YIELD_ONE_IN: u32 = 12;
/// More polls than this without any time in between are a loop without end.
const POLLS_AT_ONCE_MAX: u32 = 50_000;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Tasks>>> = const { RefCell::new(None) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static BUSY: Cell<Busy> = const { Cell::new(Busy { since: Duration::ZERO, polls: 0 }) };
}

/// Polls since time last went on.
#[derive(Clone, Copy)]
struct Busy {
    since: Duration,
    polls: u32,
}

impl Busy {
    /// Counts a poll: false if tasks keep each other busy without end, which is told once. [`SimRuntime`] panics at
    /// some more of them, and cannot get out of that.
    fn count() -> bool {
        let now = now();
        let Busy { since, polls } = BUSY.get();
        let polls = if since == now {
            polls.saturating_add(1)
        } else {
            0
        };
        BUSY.set(Busy { since: now, polls });
        if polls == POLLS_AT_ONCE_MAX {
            PANICS.with_borrow_mut(|panics| panics.push("tasks are busy without end".into()));
        }
        polls < POLLS_AT_ONCE_MAX
    }
}

/// The tasks of one life of a member.
pub struct Tasks {
    /// Parts per million by which this member's clock runs fast.
    drift_ppm: i64,
    state: Mutex<State>,
}

struct State {
    alive: bool,
    paused: bool,
    next: u64,
    wakers: BTreeMap<u64, Waker>,
    rng: StdRng,
}

impl Tasks {
    /// No tasks yet; the clock runs fast by so many parts per million.
    pub fn new(seed: u64, drift_ppm: i64) -> Arc<Tasks> {
        let rng = StdRng::seed_from_u64(seed);
        let state = State {
            alive: true,
            paused: false,
            next: 0,
            wakers: BTreeMap::new(),
            rng,
        };
        Arc::new(Tasks {
            drift_ppm,
            state: Mutex::new(state),
        })
    }

    /// Spawns a task that belongs to this member.
    pub fn spawn<F>(self: &Arc<Self>, future: F) -> Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _within = Within::enter(Some(self.clone()));
        Runtime::spawn(future)
    }

    /// Every task is dropped where it stands.
    pub fn kill(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.alive = false;
            std::mem::take(&mut state.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// No task is polled until [`Tasks::resume`].
    pub fn pause(&self) {
        self.state.lock().paused = true;
    }

    /// Tasks are polled again.
    pub fn resume(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.paused = false;
            state.wakers.clone()
        };
        wakers.into_values().for_each(Waker::wake);
    }
}

/// Says whose code runs, for as long as it lives.
struct Within(Option<Arc<Tasks>>);

impl Within {
    fn enter(tasks: Option<Arc<Tasks>>) -> Within {
        Within(CURRENT.replace(tasks))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Runs `work` as nobody's: what it spawns outlives every member.
pub fn outside<T>(work: impl FnOnce() -> T) -> T {
    let _within = Within::enter(None);
    work()
}

/// Panics of tasks since the last call.
pub fn take_panics() -> Vec<String> {
    BUSY.set(Busy {
        since: Duration::ZERO,
        polls: 0,
    });
    PANICS.take()
}

/// The first panic of a task since [`take_panics`] was called.
pub fn first_panic() -> Option<String> {
    PANICS.with_borrow(|panics| panics.first().cloned())
}

/// A spawned future with its owner.
struct Owned<F: Future> {
    tasks: Option<(Arc<Tasks>, u64)>,
    future: Option<Pin<Box<F>>>,
    done: Option<oneshot::Sender<F::Output>>,
}

impl<F: Future> Unpin for Owned<F> {}

impl<F: Future> Future for Owned<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !Busy::count() {
            return Poll::Pending;
        }
        if let Some((tasks, id)) = &this.tasks {
            let mut state = tasks.state.lock();
            if !state.alive {
                drop(state);
                let _within = Within::enter(this.tasks.take().map(|(tasks, _)| tasks));
                this.future = None;
                return Poll::Ready(());
            }
            // This is the whole of a task of the runtime's, whose wakers are all alike.
            state
                .wakers
                .entry(*id)
                .or_insert_with(|| cx.waker().clone());
            if state.paused {
                return Poll::Pending;
            }
            if state.rng.random_ratio(1, YIELD_ONE_IN) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let _within = Within::enter(this.tasks.as_ref().map(|(tasks, _)| tasks.clone()));
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let finished = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => {
                if let Some(done) = this.done.take() {
                    let _ = done.send(output);
                }
                Poll::Ready(())
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                PANICS.with_borrow_mut(|panics| {
                    panics.push(text.unwrap_or_else(|| "a panic".into()))
                });
                Poll::Ready(())
            }
        };
        this.future = None;
        if let Some((tasks, id)) = this.tasks.take() {
            tasks.state.lock().wakers.remove(&id);
        }
        finished
    }
}

/// The runtime that members are generic over.
#[derive(Debug)]
pub struct Runtime(SimRuntime);

impl Runtime {
    /// A runtime for one run.
    pub fn with_seed(seed: u64) -> Runtime {
        Runtime(SimRuntime::with_seed(seed))
    }

    /// Remembers every decision of the scheduler.
    pub fn record_trace(&mut self) {
        self.0.record_trace(true);
    }

    /// The decisions so far.
    pub fn take_trace(&self) -> Vec<String> {
        self.0.take_trace()
    }
}

/// A task was dropped, or panicked, before it gave a value.
#[derive(Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task is gone")
    }
}

impl std::error::Error for Gone {}

/// Gives a task's value.
pub struct Join<T>(oneshot::Receiver<T>);

impl<T> Future for Join<T> {
    type Output = Result<T, Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Gone)
    }
}

/// An instant of the clock of the member whose code reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalInstant(Duration);

impl Add<Duration> for LocalInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        LocalInstant(self.0 + duration)
    }
}

impl AddAssign<Duration> for LocalInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for LocalInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        LocalInstant(self.0 - duration)
    }
}

impl SubAssign<Duration> for LocalInstant {
    fn sub_assign(&mut self, duration: Duration) {
        self.0 -= duration;
    }
}

impl Sub for LocalInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Far from zero, so that an instant an hour ago exists.
const EPOCH: Duration = Duration::from_secs(86_400);

impl Instant for LocalInstant {
    fn now() -> Self {
        LocalInstant(EPOCH + to_local(SimInstant::now().elapsed_since_start()))
    }
}

fn drift_ppm() -> i64 {
    CURRENT.with_borrow(|tasks| tasks.as_ref().map_or(0, |tasks| tasks.drift_ppm))
}

fn to_local(real: Duration) -> Duration {
    let drift = i128::from(drift_ppm());
    let nanos = real.as_nanos() as i128;
    Duration::from_nanos((nanos + nanos * drift / 1_000_000) as u64)
}

/// Rounded up: who waits until an instant must not wake just before it, and wait again for nothing.
fn to_real(local: Duration) -> Duration {
    let rate = 1_000_000 + i128::from(drift_ppm());
    let nanos = local.as_nanos().min(u128::from(u64::MAX / 4)) as i128;
    Duration::from_nanos(((nanos * 1_000_000 + rate - 1) / rate) as u64)
}

impl AsyncRuntime for Runtime {
    type JoinError = Gone;
    type JoinHandle<T: OptionalSend + 'static> = Join<T>;
    type Sleep = SimSleep;
    type Instant = LocalInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = SimTimeout<T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Join<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let tasks = CURRENT.with_borrow(Clone::clone).map(|tasks| {
            let mut state = tasks.state.lock();
            state.next += 1;
            let id = state.next;
            drop(state);
            (tasks, id)
        });
        let (done, joined) = oneshot::channel();
        drop(SimRuntime::spawn(Owned {
            tasks,
            future: Some(Box::pin(future)),
            done: Some(done),
        }));
        Join(joined)
    }

    fn sleep(duration: Duration) -> SimSleep {
        SimRuntime::sleep(to_real(duration))
    }

    fn sleep_until(deadline: LocalInstant) -> SimSleep {
        Self::sleep(deadline - LocalInstant::now())
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> SimTimeout<F> {
        SimRuntime::timeout(to_real(duration), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: LocalInstant,
        future: F,
    ) -> SimTimeout<F> {
        Self::timeout(deadline - LocalInstant::now(), future)
    }

    fn is_panic(_: &Gone) -> bool {
        false
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Runtime(SimRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// Virtual time since the run began.
pub fn now() -> Duration {
    SimInstant::now().elapsed_since_start()
}
