//! What puts notice of the work that a store has to do now and then: a compaction, a member that joins, a backup.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::{CompactionRequest, SnapshotRequest};
use tokio::time::{Instant, sleep};

use super::arrivals::{self, Load};
use super::keys::{VALUE_BYTES, Values};
use super::load::{Manner, Told, keys};
use super::phases::{AFTER, Phases};
use super::run::{Running, until};
use crate::client::{CallId, Connection, Handler, Next, Outgoing, Status, methods, wire};
use crate::measure::{Meter, Outcome};
use crate::system::Cluster;
use crate::system::member::connect;

/// Puts that arrive a second, whatever happens: what an etcd of three members on two cores can bear.
const RATE: f64 = 1000.0;
/// A point of the line is the worst of this long.
const STEP: Duration = Duration::from_millis(250);
const WARM_UP: Duration = Duration::from_secs(2);
const BEFORE: Duration = Duration::from_secs(8);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    Compaction,
    Join,
    Backup,
}

/// Writes so many revisions of a tenth as many keys, then puts go on before, while and after it happens.
pub async fn measure(
    running: &mut Running<'_>,
    disturbance: Disturbance,
    revisions: u64,
    told: &Told,
) -> anyhow::Result<Outcome> {
    let values = Rc::new(Values::new(VALUE_BYTES));
    let count = revisions / 10;
    for _ in 0..10 {
        keys(
            &running.cluster.endpoints,
            0,
            count,
            &values,
            Manner::Puts,
            told,
        )
        .await?;
    }
    let meter = Rc::new(Meter::new());
    let endpoints = running.cluster.endpoints.clone();
    let puts = arrivals::begin(&endpoints, Load::new(RATE, count), &values, &meter).await?;
    let cluster = &mut *running.cluster;
    until(puts, async {
        sleep(WARM_UP).await;
        meter.turn_on();
        let line = Line::begin(&meter);
        line.during(sleep(BEFORE)).await;
        let mut phases = Phases::begin(&meter, &cluster.pids())?;
        let began = Instant::now();
        line.during(happen(disturbance, cluster)).await?;
        let took = began.elapsed();
        let longest = meter.quantile_ms(1.0);
        phases.happened();
        line.during(sleep(AFTER)).await;
        let mut outcome = Outcome::new();
        outcome.set("max_ms", longest.max(meter.quantile_ms(1.0)));
        outcome.set("took_s", took.as_secs_f64());
        phases.end(&cluster.pids(), &mut outcome)?;
        outcome
            .lines
            .insert("longest put, ms".to_owned(), line.points.take());
        let happened = BEFORE.as_secs_f64();
        outcome.lines.insert(
            "meanwhile".to_owned(),
            vec![(happened, 0.0), (happened + took.as_secs_f64(), 0.0)],
        );
        Ok(outcome)
    })
    .await
}

async fn happen(disturbance: Disturbance, cluster: &mut Cluster) -> anyhow::Result<()> {
    let first = cluster
        .endpoints
        .first()
        .context("a cluster has members")?
        .clone();
    match disturbance {
        Disturbance::Compaction => {
            let mut kv = KvClient::new(connect(&first).await?);
            let header = kv
                .range(super::operation::one("any"))
                .await?
                .into_inner()
                .header;
            let request = CompactionRequest {
                revision: header.context("a reply has a header")?.revision,
                physical: true,
            };
            kv.compact(request).await?;
        }
        Disturbance::Join => {
            cluster.add_member().await?;
            cluster
                .members
                .last_mut()
                .context("it was added")?
                .ready()
                .await?;
        }
        Disturbance::Backup => {
            let mut backup = Backup::default();
            Connection::open(&first).await?.run(&mut backup).await?;
            backup
                .result
                .context("it has ended")?
                .map_err(|status| anyhow::anyhow!("no backup: {status}"))?;
            anyhow::ensure!(backup.bytes > 0, "an empty backup");
        }
    }
    Ok(())
}

/// Takes a backup, and throws it away.
#[derive(Debug, Default)]
struct Backup {
    asked: bool,
    bytes: u64,
    result: Option<Result<(), Status>>,
}

impl Handler for Backup {
    fn message(&mut self, _call: CallId, message: &[u8], _out: &mut Outgoing) {
        // Its third field is a piece of the file.
        self.bytes += wire::bytes(message, 3).map_or(0, |piece| piece.len() as u64);
    }

    fn end(&mut self, _call: CallId, result: Result<(), Status>, _out: &mut Outgoing) {
        self.result = Some(result);
    }

    fn turn(&mut self, out: &mut Outgoing) -> Next {
        if !std::mem::replace(&mut self.asked, true) {
            out.call(methods::SNAPSHOT, &SnapshotRequest::default(), true, 0);
        }
        if self.result.is_some() {
            Next::Done
        } else {
            Next::Replies
        }
    }
}

/// The longest put of each step.
struct Line {
    meter: Rc<Meter>,
    began: Instant,
    points: RefCell<Vec<(f64, f64)>>,
}

impl Line {
    fn begin(meter: &Rc<Meter>) -> Line {
        meter.longest_ms();
        Line {
            meter: meter.clone(),
            began: Instant::now(),
            points: RefCell::new(Vec::new()),
        }
    }

    /// Draws on, for as long as something lasts.
    async fn during<T>(&self, something: impl Future<Output = T>) -> T {
        let mut steps = tokio::time::interval_at(Instant::now() + STEP, STEP);
        let mut something = std::pin::pin!(something);
        loop {
            tokio::select! {
                done = &mut something => return done,
                _ = steps.tick() => {
                    // Nothing was answered: what held it up shows in the next step.
                    let longest = self.meter.longest_ms();
                    if longest > 0.0 {
                        self.points.borrow_mut().push((self.began.elapsed().as_secs_f64(), longest));
                    }
                }
            }
        }
    }
}
