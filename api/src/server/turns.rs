//! A connection, the calls that are open on it, and what it has to send: one task, which takes turns.
//!
//! Left to itself, the HTTP/2 library makes each call a task of its own. A call then costs a task's allocation, a wake-up
//! to answer and a wake-up of the connection to send the answer, often on another core each. Here a turn reads what has
//! come, runs the calls that can go on, and sends what they said; who is woken by another within a turn costs nothing.
//!
//! What a call computes delays the others of its connection: reads that may be long go to threads of their own.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::stream::FuturesUnordered;
use futures::task::AtomicWaker;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::coalesce::Handle;

/// Rounds that one turn has at most, before what was said is sent and other connections have their turns.
const ROUNDS_MAX: u32 = 32;
/// Calls that one turn ends at most. Those of a client that does not wait for answers could be thousands.
const CALLS_MAX: usize = 256;

/// What a connection comes to.
pub(super) type Output = Result<(), Box<dyn std::error::Error + Send + Sync>>;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the HTTP/2 library leaves the calls that arrive.
#[derive(Clone, Default)]
pub(super) struct Calls(Arc<Mutex<Vec<Call>>>);

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        // As in a task of its own, a panic ends one call only; it has been told already.
        let call = AssertUnwindSafe(call).catch_unwind().map(drop);
        self.0.lock().push(Box::pin(call));
    }
}

/// A connection with its calls, whose outbox is drained at the end of each turn.
pub(super) struct Turns<C, W> {
    connection: C,
    arrived: Calls,
    open: FuturesUnordered<Call>,
    outbox: Handle<W>,
    /// What the connection gave, while the last bytes are still on their way out.
    output: Option<Output>,
    woken: Arc<Woken>,
    connection_waker: Waker,
    calls_waker: Waker,
}

impl<C, W> Turns<C, W> {
    /// `connection` leaves its calls in `calls`, and what it writes in the outbox.
    pub(super) fn new(connection: C, calls: Calls, outbox: Handle<W>) -> Self {
        let woken = Arc::new(Woken::default());
        let waker = |who| {
            let woken = woken.clone();
            Waker::from(Arc::new(Bell { who, woken }))
        };
        Turns {
            connection,
            arrived: calls,
            open: FuturesUnordered::new(),
            outbox,
            output: None,
            connection_waker: waker(CONNECTION),
            calls_waker: waker(CALLS),
            woken,
        }
    }

    /// The connection, to be told something: it is looked at again afterwards.
    pub(super) fn connection(&mut self) -> &mut C {
        self.woken.wake(CONNECTION);
        &mut self.connection
    }
}

impl<C, W> Turns<C, W>
where
    C: Future<Output = Output> + Unpin,
{
    /// Lets whoever was woken go on, until nobody is; or for as long as one turn may be.
    fn take_turn(&mut self, cx: &Context<'_>) {
        self.woken.begin(cx.waker());
        let mut calls_left = CALLS_MAX;
        for _ in 0..ROUNDS_MAX {
            let woken = self.woken.take();
            if woken & CONNECTION != 0 && self.output.is_none() {
                let cx = &mut Context::from_waker(&self.connection_waker);
                if let Poll::Ready(output) = Pin::new(&mut self.connection).poll(cx) {
                    self.output = Some(output);
                }
            }
            let arrived = std::mem::take(&mut *self.arrived.0.lock());
            if woken & CALLS != 0 || !arrived.is_empty() {
                self.open.extend(arrived);
                if !self.run_calls(&mut calls_left) {
                    // The rest in a turn of their own.
                    self.woken.wake(CALLS);
                    break;
                }
            }
            if self.woken.end() {
                return;
            }
        }
        self.woken.interrupt();
        cx.waker().wake_by_ref();
    }

    /// Runs the calls that were woken, until none is left to end. Whether that was all of them.
    fn run_calls(&mut self, left: &mut usize) -> bool {
        let cx = &mut Context::from_waker(&self.calls_waker);
        // It pauses when two calls have woken themselves, as each does that sends something in a stream. The others are run as
        // well, once each: the connection would else be looked at for every two.
        let mut pauses = self.open.len() / 2 + 1;
        loop {
            match self.open.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => *left -= 1,
                Poll::Ready(None) => return true,
                Poll::Pending if pauses > 1 && self.woken.takes(CALLS) => pauses -= 1,
                Poll::Pending => return true,
            }
            if *left == 0 {
                return false;
            }
        }
    }
}

impl<C, W> Future for Turns<C, W>
where
    C: Future<Output = Output> + Unpin,
    W: AsyncWrite + Unpin,
{
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        let this = &mut *self;
        let drained = loop {
            this.take_turn(cx);
            let drained = this.outbox.poll_drain(cx);
            if !this.outbox.lets_the_writer_go_on() {
                break drained;
            }
            this.woken.wake(CONNECTION);
        };
        match (this.output.take(), drained) {
            // The connection may not write again and so never find out that its socket is broken.
            (None, Poll::Ready(Err(error))) => Poll::Ready(Err(error.into())),
            (None, _) => Poll::Pending,
            (Some(output), Poll::Ready(_)) => Poll::Ready(output),
            (output, Poll::Pending) => {
                this.output = output;
                Poll::Pending
            }
        }
    }
}

const CONNECTION: u8 = 1;
const CALLS: u8 = 2;
/// A turn is being taken: it looks at who was woken before it ends, and the task need not be.
const TURN: u8 = 4;

/// Who wants to go on.
struct Woken {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Default for Woken {
    fn default() -> Self {
        Woken {
            state: AtomicU8::new(CONNECTION),
            task: AtomicWaker::new(),
        }
    }
}

impl Woken {
    fn wake(&self, who: u8) {
        // Whoever found the state without a mark has woken the task.
        if self.state.fetch_or(who, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }

    fn begin(&self, task: &Waker) {
        self.task.register(task);
        self.state.fetch_or(TURN, Ordering::AcqRel);
    }

    /// Who was woken since the last time.
    fn take(&self) -> u8 {
        self.state.fetch_and(TURN, Ordering::AcqRel) & !TURN
    }

    /// Whether one of the two was woken since the last time.
    fn takes(&self, who: u8) -> bool {
        self.state.fetch_and(!who, Ordering::AcqRel) & who != 0
    }

    /// Ends the turn, unless somebody was woken.
    fn end(&self) -> bool {
        self.state
            .compare_exchange(TURN, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Ends the turn whoever was woken. The caller wakes the task.
    fn interrupt(&self) {
        self.state.fetch_and(!TURN, Ordering::AcqRel);
    }
}

/// Wakes one of the two.
struct Bell {
    who: u8,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.wake(self.who);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.wake(self.who);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::channel::oneshot;
    use futures::future::{pending, poll_fn};
    use hyper::rt::Executor;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncWriteExt, sink};

    use super::super::coalesce::Coalesced;
    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Task {
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    type Turned<C> = Turns<Pin<Box<C>>, tokio::io::Sink>;

    fn turns<C: Future<Output = Output>>(connection: C, calls: &Calls) -> Turned<C> {
        let (_, outbox) = Coalesced::new(
            tokio::io::empty(),
            sink(),
            Counter::default(),
            Counter::default(),
        );
        Turns::new(Box::pin(connection), calls.clone(), outbox)
    }

    fn poll(turns: &mut (impl Future<Output = Output> + Unpin), task: &Arc<Task>) -> Poll<Output> {
        let waker = Waker::from(task.clone());
        Pin::new(turns).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn who_is_woken_within_a_turn_goes_on_in_it_and_the_task_is_not_woken() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let (request, requested) = oneshot::channel();
        let (reply, replied) = oneshot::channel();
        let connection = {
            let calls = calls.clone();
            async move {
                calls.execute(async move {
                    requested.await.unwrap();
                    reply.send(()).unwrap();
                });
                request.send(()).unwrap();
                replied.await?;
                Ok(())
            }
        };
        assert!(poll(&mut turns(connection, &calls), &task).is_ready());
        assert_eq!(task.woken(), 0);
    }

    #[test]
    fn a_task_that_waits_is_woken_once_for_all_who_want_to_go_on() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let done = Arc::new(Task::default());
        let mut answers = Vec::new();
        for _ in 0..3 {
            let (answer, answered) = oneshot::channel::<()>();
            let done = done.clone();
            answers.push(answer);
            calls.execute(async move {
                answered.await.unwrap();
                done.wake();
            });
        }
        let mut turns = turns(pending(), &calls);
        assert!(poll(&mut turns, &task).is_pending());
        assert_eq!(task.woken(), 0);
        for answer in answers {
            answer.send(()).unwrap();
        }
        assert_eq!(task.woken(), 1);
        assert!(poll(&mut turns, &task).is_pending());
        assert_eq!(done.woken(), 3);
        assert_eq!(task.woken(), 0);
    }

    #[test]
    fn a_connection_that_is_told_something_is_looked_at_again() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let looks = Arc::new(Task::default());
        let looked = looks.clone();
        let connection = poll_fn(move |_| {
            looked.clone().wake();
            Poll::Pending
        });
        let mut turns = turns(connection, &calls);
        assert!(poll(&mut turns, &task).is_pending());
        assert!(poll(&mut turns, &task).is_pending());
        assert_eq!(looks.woken(), 1, "nobody woke it");
        let _told = turns.connection();
        assert_eq!(task.woken(), 1);
        assert!(poll(&mut turns, &task).is_pending());
        assert_eq!(looks.woken(), 1);
    }

    #[test]
    fn who_wakes_itself_for_ever_leaves_others_their_turns() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        calls.execute(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let mut turns = turns(pending(), &calls);
        for _ in 0..3 {
            assert!(poll(&mut turns, &task).is_pending());
            assert_eq!(task.woken(), 1);
        }
    }

    #[test]
    fn calls_that_wake_themselves_are_all_run_before_the_connection_is_looked_at_again() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let looks = Arc::new(Task::default());
        let said = Arc::new(Task::default());
        for _ in 0..8 {
            let said = said.clone();
            // As a call does that sends something in a stream: its room to send wakes it, and the connection is woken.
            let mut first = true;
            calls.execute(poll_fn(move |cx| {
                if std::mem::take(&mut first) {
                    said.clone().wake();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }));
        }
        let (looked, all_said) = (looks.clone(), said.clone());
        let connection = poll_fn(move |cx| {
            looked.clone().wake();
            if all_said.0.load(Ordering::Relaxed) < 8 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        assert!(poll(&mut turns(connection, &calls), &task).is_pending());
        assert_eq!((looks.woken(), said.woken()), (2, 8));
    }

    #[test]
    fn many_calls_that_need_not_wait_leave_others_their_turns() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let done = Arc::new(Task::default());
        for _ in 0..2 * CALLS_MAX + 1 {
            let done = done.clone();
            calls.execute(async move { done.wake() });
        }
        let mut turns = turns(pending(), &calls);
        for (ended, more) in [(CALLS_MAX, 1), (CALLS_MAX, 1), (1, 0)] {
            assert!(poll(&mut turns, &task).is_pending());
            assert_eq!((done.woken(), task.woken()), (ended, more));
        }
    }

    #[test]
    fn a_panic_ends_one_call_alone() {
        let (calls, task) = (Calls::default(), Arc::new(Task::default()));
        let (reply, replied) = oneshot::channel::<()>();
        calls.execute(async { panic!("as this test wants it") });
        calls.execute(async { reply.send(()).unwrap() });
        let connection = async { Ok(replied.await?) };
        assert!(matches!(
            poll(&mut turns(connection, &calls), &task),
            Poll::Ready(Ok(()))
        ));
    }

    #[tokio::test]
    async fn what_calls_said_has_left_when_the_connection_ends() {
        let calls = Calls::default();
        let (ours, mut theirs) = tokio::io::duplex(10);
        let (mut io, outbox) = Coalesced::new(
            tokio::io::empty(),
            ours,
            Counter::default(),
            Counter::default(),
        );
        let (said, all_said) = oneshot::channel::<()>();
        calls.execute(async move {
            io.write_all(&[7; 1000]).await.unwrap();
            said.send(()).unwrap();
        });
        let connection = Box::pin(async { Ok(all_said.await?) });
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut theirs, &mut read)
                .await
                .unwrap();
            read
        });
        Turns::new(connection, calls, outbox).await.unwrap();
        assert_eq!(reader.await.unwrap(), [7; 1000]);
    }
}
