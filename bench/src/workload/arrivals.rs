//! Puts that arrive at a fixed rate, whether those before are answered or not. A latency counts from the time at which
//! a put was due, so that a stall shows in all the puts that it held up.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::keys::{Random, Values};
use super::operation::put;
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods, wire};
use crate::measure::Meter;

/// The timer's granularity: to begin that much late is not held against the servers.
const TIMER: Duration = Duration::from_millis(1);
/// Puts under way on one connection, beyond which a system is hopelessly behind, and no more memory is spent on it.
const UNDER_WAY_MAX: usize = 50_000;
/// A put that is refused for now is offered again after this long; its latency goes on counting.
const RETRY: Duration = Duration::from_millis(5);
/// What a server says that has more before it than it wants to.
const REFUSED: &str = "too many requests";
/// Connections that puts beside something else are spread over.
const CONNECTIONS: usize = 12;

/// What arrives.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Puts a second.
    pub rate: f64,
    /// Over so many keys, at random.
    pub keys: u64,
    /// That the puts are spread over.
    pub connections: usize,
    /// Whether the run is about them, or they only go on beside.
    pub measured: bool,
}

impl Load {
    pub fn new(rate: f64, keys: u64) -> Load {
        Load {
            rate,
            keys,
            connections: CONNECTIONS,
            measured: true,
        }
    }
}

/// Of one connection.
#[derive(Debug)]
struct Arrivals {
    values: Rc<Values>,
    random: Random,
    load: Load,
    meter: Rc<Meter>,
    /// What calls' tags count from, in nanoseconds.
    base: Instant,
    next: Instant,
    interval: Duration,
    /// When refused puts may be offered again, and their tags; in order.
    refused: VecDeque<(Instant, u64)>,
}

/// Begins to put. Lasts as long as the tasks that are given.
pub async fn begin(
    endpoints: &[String],
    load: Load,
    values: &Rc<Values>,
    meter: &Rc<Meter>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for url in endpoints.iter().cycle().take(load.connections) {
        connections.push(Connection::open(url).await?);
    }
    let base = Instant::now();
    let interval = Duration::from_secs_f64(load.connections as f64 / load.rate);
    for (number, mut connection) in connections.into_iter().enumerate() {
        let mut arrivals = Arrivals {
            values: values.clone(),
            random: Random::new(number as u64),
            load,
            meter: meter.clone(),
            base,
            // The connections take turns.
            next: base + interval.mul_f64(number as f64 / load.connections as f64),
            interval,
            refused: VecDeque::new(),
        };
        tasks.spawn_local(async move { connection.run(&mut arrivals).await });
    }
    Ok(tasks)
}

impl Arrivals {
    fn put(&mut self, tag: u64, out: &mut Outgoing) {
        let number = self.random.below(self.load.keys);
        let request = put(number, self.values.cut(number, &mut self.random));
        out.call(methods::PUT, &request, true, tag);
    }
}

impl Handler for Arrivals {
    fn message(&mut self, _call: CallId, message: &[u8], _out: &mut Outgoing) {
        if wire::revision(message).is_none() {
            self.meter.failed("a reply without a revision");
        }
    }

    fn end(&mut self, call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        match result {
            Ok(()) if !self.load.measured => self.meter.other(),
            Ok(()) => {
                let due = self.base + Duration::from_nanos(call.tag);
                self.meter.took(due.elapsed());
            }
            Err(status) if status.message.contains(REFUSED) => {
                self.meter.refused();
                self.refused.push_back((Instant::now() + RETRY, call.tag));
            }
            Err(status) => self.meter.failed(status),
        }
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        let now = Instant::now();
        while self.next <= now {
            let due = (self.next + TIMER).min(now);
            self.next += self.interval;
            if out.calls() >= UNDER_WAY_MAX {
                self.meter.failed("the system is hopelessly behind");
                continue;
            }
            self.put((due - self.base).as_nanos() as u64, out);
        }
        while let Some((again, tag)) = self.refused.front().copied()
            && again <= now
        {
            self.refused.pop_front();
            self.put(tag, out);
        }
        let again = self.refused.front().map_or(self.next, |(again, _)| *again);
        Next::At(self.next.min(again))
    }
}
