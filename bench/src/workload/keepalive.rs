//! Keep-alives of many leases, each stream sending the next when the last is answered.

use std::rc::Rc;

use keelson_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::keys::Random;
use super::load::{Told, requests};
use super::operation::Ask;
use super::run::{Running, until};
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods, wire};
use crate::measure::{Meter, Outcome};

const CONNECTIONS: usize = 12;
const STREAMS: usize = 100;
/// Long enough that none runs out meanwhile.
const LEASE_SECONDS: i64 = 3600;

#[derive(Debug)]
struct KeepAlive {
    streams: Vec<Stream>,
    leases: u64,
    random: Random,
    meter: Rc<Meter>,
    begun: bool,
}

#[derive(Debug)]
struct Stream {
    began: Instant,
    lease: i64,
}

/// Grants leases with the ids from 1.
pub async fn grant(
    endpoints: &[String],
    leases: u64,
    ttl: Rc<dyn Fn() -> i64>,
    told: &Told,
) -> anyhow::Result<()> {
    let grant = move |numbers: std::ops::Range<u64>, _: &mut Random| {
        Ask::Grant(LeaseGrantRequest {
            id: numbers.start as i64,
            ttl: ttl(),
        })
    };
    requests(endpoints, 1..leases + 1, 1, Rc::new(grant), told).await
}

impl KeepAlive {
    fn next(&mut self, stream: usize) -> LeaseKeepAliveRequest {
        let id = 1 + self.random.below(self.leases) as i64;
        self.streams[stream] = Stream {
            began: Instant::now(),
            lease: id,
        };
        LeaseKeepAliveRequest { id }
    }
}

impl Handler for KeepAlive {
    fn message(&mut self, call: CallId, message: &[u8], out: &mut Outgoing) {
        let stream = call.tag as usize;
        let state = &self.streams[stream];
        let id = wire::number(message, 2);
        let ttl = wire::number(message, 3);
        if id == Some(state.lease as u64) && ttl == Some(LEASE_SECONDS as u64) {
            self.meter.took(state.began.elapsed());
        } else {
            self.meter.failed("a lease is not as it was granted");
        }
        let request = self.next(stream);
        out.send(call, &request, false);
    }

    fn end(&mut self, _call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        let why = result.map_or_else(|status| status.to_string(), |()| "no reason".to_owned());
        self.meter
            .failed(format!("a stream of keep-alives ended: {why}"));
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        if !std::mem::replace(&mut self.begun, true) {
            for stream in 0..self.streams.len() {
                let request = self.next(stream);
                out.call(methods::LEASE_KEEP_ALIVE, &request, false, stream as u64);
            }
        }
        Next::Replies
    }
}

/// Keeps leases alive, at random.
pub async fn measure(running: &Running<'_>, leases: u64, told: &Told) -> anyhow::Result<Outcome> {
    let endpoints = &running.cluster.endpoints;
    grant(endpoints, leases, Rc::new(|| LEASE_SECONDS), told).await?;
    let meter = Rc::new(Meter::new());
    let mut tasks = JoinSet::new();
    for (number, url) in endpoints.iter().cycle().take(CONNECTIONS).enumerate() {
        let streams = (STREAMS * (number + 1) / CONNECTIONS) - (STREAMS * number / CONNECTIONS);
        let now = Instant::now();
        let stream = || Stream {
            began: now,
            lease: 0,
        };
        let mut keep_alive = KeepAlive {
            streams: std::iter::repeat_with(stream).take(streams).collect(),
            leases,
            random: Random::new(number as u64),
            meter: meter.clone(),
            begun: false,
        };
        let mut connection = Connection::open(url).await?;
        tasks.spawn_local(async move { connection.run(&mut keep_alive).await });
    }
    let effort = running.effort;
    until(
        tasks,
        meter.watch(|| running.cluster.pids(), effort.warm_up, effort.measured),
    )
    .await
}
