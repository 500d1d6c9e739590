//! The leader is lost while puts arrive: how long nobody's put is acknowledged, and how long one waits for its answer.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::keys::{Random, VALUE_BYTES, Values};
use super::operation::put;
use super::run::Running;
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods};
use crate::measure::Outcome;
use crate::measure::stats::Spread;

pub const KEYS: u64 = 1000;
/// One arrives at each member this often, whether those before are answered or not: a put that is lost with the leader, and
/// that a member waits for until its time is up, does not keep others from being tried.
const INTERVAL: Duration = Duration::from_micros(1500);
/// Puts under way at one member, beyond which no more are tried.
const UNDER_WAY_MAX: usize = 20_000;
/// Who cannot connect waits this long before it tries again.
const RETRY: Duration = Duration::from_millis(5);
/// Puts go on this long before the leader is lost.
const STEADY: Duration = Duration::from_millis(1500);
/// A cluster that does not acknowledge again within this long fails the run.
const GAP_MAX: Duration = Duration::from_secs(60);

/// How the leader is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Killed,
    Terminated,
}

/// Acknowledgements, seen by all clients together.
#[derive(Debug)]
struct Watch {
    last: Cell<Instant>,
    longest: Cell<Duration>,
    /// Writes acknowledged, of which a round needs some after the loss.
    count: Cell<u64>,
    /// What is under way: when it began, and the member that was asked.
    asked: RefCell<BTreeSet<(Instant, usize)>>,
    /// For an answer, or for the connection to break.
    longest_wait: Cell<Duration>,
    errors: Cell<u64>,
    /// Members that are to be asked: what waits for one that starts is no matter of the leader's loss.
    serving: RefCell<Vec<bool>>,
}

impl Watch {
    /// The longest gap since the restart, and if it has not ended yet.
    fn gap(&self) -> Duration {
        self.longest.get().max(self.last.get().elapsed())
    }

    fn acknowledged(&self) {
        let now = Instant::now();
        self.longest
            .set(self.longest.get().max(now - self.last.get()));
        self.last.set(now);
        self.count.set(self.count.get() + 1);
    }

    fn restart(&self) {
        self.last.set(Instant::now());
        self.longest.set(Duration::ZERO);
    }

    /// It waits no longer.
    fn ended(&self, began: Instant, member: usize) {
        self.asked.borrow_mut().remove(&(began, member));
        self.longest_wait
            .set(self.longest_wait.get().max(began.elapsed()));
    }

    /// A member's connection is lost, and what was under way on it.
    fn lost(&self, member: usize) {
        let asked = self.asked.borrow();
        let lost: Vec<(Instant, usize)> = asked
            .iter()
            .filter(|(_, of)| *of == member)
            .copied()
            .collect();
        drop(asked);
        self.errors.set(self.errors.get() + lost.len() as u64);
        for (began, member) in lost {
            self.ended(began, member);
        }
    }
}

/// The puts that arrive at one member.
struct Putting {
    watch: Rc<Watch>,
    values: Rc<Values>,
    random: Random,
    member: usize,
    /// What calls' tags count from, in nanoseconds.
    base: Instant,
    next: Instant,
}

impl Handler for Putting {
    fn message(&mut self, _call: CallId, _message: &[u8], _out: &mut Outgoing) {}

    fn end(&mut self, call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        let began = self.base + Duration::from_nanos(call.tag);
        self.watch.ended(began, self.member);
        if result.is_ok() {
            self.watch.acknowledged();
        } else {
            self.watch.errors.set(self.watch.errors.get() + 1);
        }
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        if out.is_going_away() {
            // What is under way may still be answered; then there is a new connection.
            return if out.calls() == 0 {
                Next::Done
            } else {
                Next::Replies
            };
        }
        let now = Instant::now();
        while self.next <= now {
            let due = self.next;
            self.next += INTERVAL;
            if out.calls() < UNDER_WAY_MAX {
                let number = self.random.below(KEYS);
                let request = put(number, self.values.cut(number, &mut self.random));
                self.watch.asked.borrow_mut().insert((due, self.member));
                let tag = due.duration_since(self.base).as_nanos() as u64;
                out.call(methods::PUT, &request, true, tag);
            }
        }
        Next::At(self.next)
    }
}

/// Puts on one member, and connects again for as long as it takes.
async fn keep_putting(url: String, member: usize, watch: Rc<Watch>, values: Rc<Values>) {
    loop {
        if !watch.serving.borrow()[member] {
            sleep(RETRY).await;
            continue;
        }
        let now = Instant::now();
        let mut putting = Putting {
            watch: watch.clone(),
            values: values.clone(),
            random: Random::new(member as u64),
            member,
            base: now,
            next: now,
        };
        if let Ok(mut connection) = Connection::open(&url).await {
            // A broken connection is what this is about.
            let _ = connection.run(&mut putting).await;
            watch.lost(member);
        }
        sleep(RETRY).await;
    }
}

/// Loses the leader so often, each time after the cluster is whole again.
pub async fn measure(
    running: &mut Running<'_>,
    loss: Loss,
    times: usize,
) -> anyhow::Result<Outcome> {
    let watch = Rc::new(Watch {
        last: Cell::new(Instant::now()),
        longest: Cell::new(Duration::ZERO),
        count: Cell::new(0),
        asked: RefCell::new(BTreeSet::new()),
        longest_wait: Cell::new(Duration::ZERO),
        errors: Cell::new(0),
        serving: RefCell::new(vec![true; running.cluster.members.len()]),
    });
    let values = Rc::new(Values::new(VALUE_BYTES));
    let mut tasks = JoinSet::new();
    for (number, member) in running.cluster.members.iter().enumerate() {
        tasks.spawn_local(keep_putting(
            member.url.clone(),
            number,
            watch.clone(),
            values.clone(),
        ));
    }
    let mut gaps = Vec::new();
    for _ in 0..times {
        sleep(STEADY).await;
        let leader = running.cluster.leader().await?;
        watch.restart();
        watch.serving.borrow_mut()[leader] = false;
        let member = &mut running.cluster.members[leader];
        match loss {
            Loss::Killed => member.kill().await?,
            Loss::Terminated => member.terminate()?,
        }
        acknowledged_again(&watch).await?;
        // The gap may have begun after the first writes that a leader in retreat still takes.
        sleep(STEADY).await;
        gaps.push(watch.gap().as_secs_f64() * 1000.0);
        (running.told)(1);
        let member = &mut running.cluster.members[leader];
        member.ended().await?;
        member.start_again()?;
        member.ready().await?;
        watch.serving.borrow_mut()[leader] = true;
    }
    let Some(spread) = Spread::of(gaps) else {
        bail!("the leader was never lost");
    };
    let mut outcome = Outcome::new();
    outcome.set("gap_max_ms", spread.max);
    outcome.set("gap_median_ms", spread.median);
    let still = watch
        .asked
        .borrow()
        .first()
        .map(|(began, _)| began.elapsed());
    let wait = watch.longest_wait.get().max(still.unwrap_or_default());
    outcome.set("wait_max_ms", wait.as_secs_f64() * 1000.0);
    outcome.set("errors", watch.errors.get() as f64);
    Ok(outcome)
}

async fn acknowledged_again(watch: &Watch) -> anyhow::Result<()> {
    let before = watch.count.get();
    let again = async {
        while watch.count.get() < before + 100 {
            sleep(RETRY).await;
        }
    };
    if timeout(GAP_MAX, again).await.is_err() {
        bail!("no write is acknowledged {GAP_MAX:?} after the leader is lost");
    }
    Ok(())
}
