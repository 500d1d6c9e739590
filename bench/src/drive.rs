//! One run: clients work through a warm-up, then for the measured time, while the members' costs are read.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::system::{Cluster, connect};
use crate::usage::Usage;
use crate::workload::{Client, OperationError, Shared, Workload};

/// Puts under way while the keys are laid down.
const LOADERS: usize = 64;
/// After a failure a client pauses, lest it do nothing but fail.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);
/// Latencies beyond this are counted as this.
const LATENCY_US_MAX: u64 = 600_000_000;

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// What a run consists of.
#[derive(Debug, Clone)]
pub struct Load {
    pub workload: Workload,
    pub clients: usize,
    pub connections: usize,
    pub keys: usize,
    pub value_bytes: usize,
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What a run showed.
#[derive(Debug)]
pub struct Run {
    /// Latencies in microseconds of the operations that succeeded in the measured time.
    pub latencies: Histogram<u64>,
    pub failures: u64,
    pub first_failure: Option<String>,
    pub elapsed: Duration,
    /// What all members together used meanwhile.
    pub cpu: Duration,
    pub written_bytes: u64,
    /// Since they started.
    pub peak_rss_bytes: u64,
}

impl Run {
    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Clients of one connection share a tally, so that a thousand clients do not need a thousand histograms.
struct Tally {
    latencies: Histogram<u64>,
    failures: u64,
    first_failure: Option<String>,
}

/// Puts `load` on a cluster.
pub async fn drive(cluster: &Cluster, load: &Load) -> anyhow::Result<Run> {
    let mut channels = Vec::with_capacity(load.connections);
    for url in cluster.endpoints.iter().cycle().take(load.connections) {
        channels.push(connect(url).await?);
    }
    let shared = Arc::new(Shared::new(load.keys, load.value_bytes));
    if load.workload.reads_keys() {
        lay_down_keys(&channels, &shared, load.keys).await?;
    }

    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let mut tallies = Vec::with_capacity(channels.len());
    for _ in &channels {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        tallies.push(Arc::new(Mutex::new(Tally {
            latencies,
            failures: 0,
            first_failure: None,
        })));
    }
    let mut clients = JoinSet::new();
    for (number, (channel, tally)) in channels
        .iter()
        .zip(&tallies)
        .cycle()
        .take(load.clients)
        .enumerate()
    {
        let client = Client::new(number, channel.clone(), shared.clone());
        clients.spawn(work(client, load.workload, phase.clone(), tally.clone()));
    }

    let pids = cluster.pids();
    sleep(load.warm_up).await;
    let before = Usage::of(&pids).context("a member ended in the warm-up")?;
    let began = Instant::now();
    phase.store(MEASURE, Ordering::Relaxed);
    sleep(load.measured).await;
    phase.store(STOP, Ordering::Relaxed);
    let elapsed = began.elapsed();
    let after = Usage::of(&pids).context("a member ended while it was measured")?;
    // What is still under way is not counted, and not waited for.
    clients.shutdown().await;

    let mut run = Run {
        latencies: Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?,
        failures: 0,
        first_failure: None,
        elapsed,
        cpu: after.cpu.saturating_sub(before.cpu),
        written_bytes: after.written_bytes - before.written_bytes,
        peak_rss_bytes: after.peak_rss_bytes,
    };
    for tally in tallies {
        let tally = tally
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        run.latencies.add(&tally.latencies)?;
        run.failures += tally.failures;
        if run.first_failure.is_none() {
            run.first_failure.clone_from(&tally.first_failure);
        }
    }
    if run.latencies.is_empty() {
        bail!(
            "no operation succeeded; the first failure: {}",
            run.first_failure.unwrap_or("none".to_owned())
        );
    }
    Ok(run)
}

async fn work(
    mut client: Client,
    workload: Workload,
    phase: Arc<AtomicU8>,
    tally: Arc<Mutex<Tally>>,
) {
    loop {
        let began = Instant::now();
        let result = workload.operate(&mut client).await;
        let took = began.elapsed();
        match phase.load(Ordering::Relaxed) {
            STOP => return,
            MEASURE => note(&tally, took, &result),
            _ => {}
        }
        if result.is_err() {
            sleep(FAILURE_PAUSE).await;
        }
    }
}

fn note(tally: &Mutex<Tally>, took: Duration, result: &Result<(), OperationError>) {
    let mut tally = tally
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match result {
        Ok(()) => tally.latencies.saturating_record(
            u64::try_from(took.as_micros())
                .unwrap_or(LATENCY_US_MAX)
                .max(1),
        ),
        Err(error) => {
            tally.failures += 1;
            tally.first_failure.get_or_insert_with(|| error.to_string());
        }
    }
}

/// Puts the keys that will be read.
async fn lay_down_keys(
    channels: &[Channel],
    shared: &Arc<Shared>,
    keys: usize,
) -> anyhow::Result<()> {
    let mut loaders = JoinSet::new();
    for (loader, channel) in channels.iter().cycle().take(LOADERS).enumerate() {
        let mut client = Client::new(loader, channel.clone(), shared.clone());
        loaders.spawn(async move {
            for number in (loader..keys).step_by(LOADERS) {
                client.put_key(number as u64).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = loaders.join_next().await {
        done?.map_err(|error: OperationError| anyhow::anyhow!("a key cannot be put: {error}"))?;
    }
    Ok(())
}
