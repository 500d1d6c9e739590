//! What the clients of a run note, all of them on one thread.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep};

use super::usage::forget_peaks;
use super::{MIB, Outcome, Usage};

/// Latencies beyond this are counted as this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// How long a run goes on if nothing succeeds in it, and how often that is looked at.
const STALL_MAX: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// Notes what clients did while it is on.
#[derive(Debug)]
pub struct Meter {
    on: Cell<bool>,
    tally: RefCell<Tally>,
}

#[derive(Debug)]
struct Tally {
    /// In microseconds, of operations that succeeded.
    latencies: Histogram<u64>,
    /// Operations that succeeded and whose latencies are of no interest.
    others: u64,
    /// Operations that a system would not take for now, and that were asked for again.
    refusals: u64,
    failures: u64,
    first_failure: Option<String>,
    /// In microseconds, since it was last asked for.
    longest: u64,
}

impl Meter {
    pub fn new() -> Meter {
        Meter {
            on: Cell::new(false),
            tally: RefCell::new(Tally {
                latencies: histogram(),
                others: 0,
                refusals: 0,
                failures: 0,
                first_failure: None,
                longest: 0,
            }),
        }
    }

    pub fn turn_on(&self) {
        self.on.set(true);
    }

    pub fn turn_off(&self) {
        self.on.set(false);
    }

    /// An operation, or an event, took this long.
    pub fn took(&self, latency: Duration) {
        if self.on.get() {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
            let mut tally = self.tally.borrow_mut();
            tally.latencies.saturating_record(micros.max(1));
            tally.longest = tally.longest.max(micros);
        }
    }

    /// An operation succeeded that is not what the run is about, but that servers had to work for.
    pub fn other(&self) {
        if self.on.get() {
            self.tally.borrow_mut().others += 1;
        }
    }

    /// A system has more before it than it wants to take; the operation is asked for again, and its latency goes on counting.
    pub fn refused(&self) {
        if self.on.get() {
            self.tally.borrow_mut().refusals += 1;
        }
    }

    /// An operation failed. That counts even while the meter is off: a system that fails is not measured.
    pub fn failed(&self, why: impl Display) {
        let mut tally = self.tally.borrow_mut();
        tally.failures += 1;
        if tally.first_failure.is_none() {
            tally.first_failure = Some(why.to_string());
        }
    }

    pub fn operations(&self) -> u64 {
        self.tally.borrow().latencies.len()
    }

    /// Notes what was refused while it was on, and what failed.
    pub fn tell_troubles(&self, outcome: &mut Outcome) {
        let tally = self.tally.borrow();
        if tally.refusals > 0 {
            outcome.set("refusals", tally.refusals as f64);
        }
        outcome.failures = tally.failures;
        outcome.first_failure.clone_from(&tally.first_failure);
    }

    /// In milliseconds.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.tally.borrow().latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// The longest since the last call, in milliseconds; 0 if there was none.
    pub fn longest_ms(&self) -> f64 {
        std::mem::take(&mut self.tally.borrow_mut().longest) as f64 / 1000.0
    }

    /// Forgets latencies, not failures.
    pub fn clear(&self) {
        let mut tally = self.tally.borrow_mut();
        tally.latencies.clear();
        tally.others = 0;
    }

    /// Lets clients warm up, then measures them and the processes for a while.
    pub async fn watch(
        &self,
        pids: impl Fn() -> Vec<u32>,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<Outcome> {
        // What they needed to load the keys, or for a workload before this one, is not its own.
        forget_peaks(&pids())?;
        sleep(warm_up).await;
        let servers = Usage::of(&pids()).context("a member ended in the warm-up")?;
        let client = Usage::own()?;
        let began = Instant::now();
        self.turn_on();
        sleep(measured).await;
        // A disk may stall for longer than a short run lasts; nothing divided by something says nothing.
        while self.operations() == 0 && began.elapsed() < STALL_MAX {
            sleep(LOOK).await;
        }
        self.turn_off();
        let elapsed = began.elapsed();
        let client = Usage::own()?.since(client);
        let servers = Usage::of(&pids())
            .context("a member ended while it was measured")?
            .since(servers);
        Ok(self.outcome(elapsed, servers, client))
    }

    /// What was noted, as figures.
    pub fn outcome(&self, elapsed: Duration, servers: Usage, client: Usage) -> Outcome {
        let tally = self.tally.borrow();
        let operations = tally.latencies.len();
        let each = (operations + tally.others).max(1) as f64;
        let mut outcome = Outcome::new();
        outcome.set("rate", operations as f64 / elapsed.as_secs_f64());
        for (name, quantile) in [
            ("p50_ms", 0.5),
            ("p99_ms", 0.99),
            ("p999_ms", 0.999),
            ("max_ms", 1.0),
        ] {
            outcome.set(
                name,
                tally.latencies.value_at_quantile(quantile) as f64 / 1000.0,
            );
        }
        outcome.set("operations", operations as f64);
        outcome.set("server_cpu_us", servers.cpu.as_secs_f64() * 1e6 / each);
        outcome.set("client_cpu_us", client.cpu.as_secs_f64() * 1e6 / each);
        outcome.set("peak_mib", servers.peak_rss_bytes as f64 / MIB);
        outcome.set("written_bytes", servers.written_bytes as f64 / each);
        if tally.others > 0 {
            outcome.set("beside_rate", tally.others as f64 / elapsed.as_secs_f64());
        }
        self.tell_troubles(&mut outcome);
        outcome
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_count_while_it_is_on_and_failures_always() {
        let meter = Meter::new();
        meter.took(Duration::from_millis(900));
        meter.turn_on();
        for millis in 1..=100 {
            meter.took(Duration::from_millis(millis));
        }
        meter.other();
        meter.turn_off();
        meter.took(Duration::from_millis(900));
        meter.failed("first");
        meter.failed("second");
        let cost = |micros| Usage {
            cpu: Duration::from_micros(micros),
            ..Usage::default()
        };
        let outcome = meter.outcome(Duration::from_secs(2), cost(1010), cost(505));
        let figure = |name| outcome.figures[name];
        assert_eq!(figure("rate"), 50.0);
        assert!((98.9..=99.1).contains(&figure("p99_ms")), "{outcome:?}");
        assert!((99.9..=100.1).contains(&figure("max_ms")), "{outcome:?}");
        assert_eq!(
            (figure("server_cpu_us"), figure("client_cpu_us")),
            (10.0, 5.0)
        );
        assert_eq!(outcome.failures, 2);
        assert_eq!(outcome.first_failure.as_deref(), Some("first"));
    }
}
