//! The leader is lost while clients put: how long nobody's put is acknowledged.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::keys::{Random, Values};
use super::operation::put;
use super::run::Running;
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods};
use crate::measure::Outcome;
use crate::measure::stats::Spread;

const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 256;
/// Clients of each member. Each puts again when it is answered, and a little later when that failed.
const CLIENTS: u64 = 4;
/// A client that is refused waits this long before it tries again.
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
    errors: Cell<u64>,
}

impl Watch {
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
}

/// The clients of one member.
struct Putting {
    watch: Rc<Watch>,
    values: Rc<Values>,
    random: Random,
    /// When each client may put again; none while its put is under way.
    rests: Vec<Option<Instant>>,
}

impl Handler for Putting {
    fn message(&mut self, _call: CallId, _message: &[u8], _out: &mut Outgoing) {}

    fn end(&mut self, call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        let mut again = Instant::now();
        if result.is_ok() {
            self.watch.acknowledged();
        } else {
            self.watch.errors.set(self.watch.errors.get() + 1);
            again += RETRY;
        }
        self.rests[call.tag as usize] = Some(again);
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
        for (client, rest) in self.rests.iter_mut().enumerate() {
            if rest.is_some_and(|until| until <= now) {
                *rest = None;
                let number = self.random.below(KEYS);
                let request = put(number, self.values.cut(number, &mut self.random));
                out.call(methods::PUT, &request, true, client as u64);
            }
        }
        self.rests
            .iter()
            .flatten()
            .min()
            .map_or(Next::Replies, |until| Next::At(*until))
    }
}

/// Puts on one member, and connects again for as long as it takes.
async fn keep_putting(url: String, number: u64, watch: Rc<Watch>, values: Rc<Values>) {
    loop {
        let now = Instant::now();
        let mut putting = Putting {
            watch: watch.clone(),
            values: values.clone(),
            random: Random::new(number),
            rests: vec![Some(now); CLIENTS as usize],
        };
        if let Ok(mut connection) = Connection::open(&url).await {
            // A broken connection is what this is about.
            let _ = connection.run(&mut putting).await;
            // What was under way will not be answered.
            let lost = putting.rests.iter().filter(|rest| rest.is_none()).count();
            watch.errors.set(watch.errors.get() + lost as u64);
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
        errors: Cell::new(0),
    });
    let values = Rc::new(Values::new(VALUE_BYTES));
    let mut tasks = JoinSet::new();
    for (number, member) in running.cluster.members.iter().enumerate() {
        tasks.spawn_local(keep_putting(
            member.url.clone(),
            number as u64,
            watch.clone(),
            values.clone(),
        ));
    }
    let mut gaps = Vec::new();
    for _ in 0..times {
        sleep(STEADY).await;
        let leader = running.cluster.leader().await?;
        watch.restart();
        let member = &mut running.cluster.members[leader];
        match loss {
            Loss::Killed => member.kill().await?,
            Loss::Terminated => member.terminate()?,
        }
        acknowledged_again(&watch).await?;
        // The gap may have begun after the first writes that a leader in retreat still takes.
        sleep(STEADY).await;
        gaps.push(watch.longest.get().as_secs_f64() * 1000.0);
        (running.told)(1);
        let member = &mut running.cluster.members[leader];
        member.ended().await?;
        member.start_again()?;
        member.ready().await?;
    }
    let Some(spread) = Spread::of(gaps) else {
        bail!("the leader was never lost");
    };
    let mut outcome = Outcome::new();
    outcome.set("gap_max_ms", spread.max);
    outcome.set("gap_median_ms", spread.median);
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
