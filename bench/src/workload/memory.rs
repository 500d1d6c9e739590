//! What many keys cost: memory, disk, the speed of puts and gets among them, and the time until they are served again.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::arrivals::{self, Load};
use super::keys::{VALUE_BYTES, Values};
use super::load::{Manner, Told, keys};
use super::operation::Operation;
use super::run::Running;
use crate::measure::{MIB, Meter, Outcome, Usage};
use crate::system::Cluster;

const CLIENTS: usize = 100;
/// Quiet means nothing asked for this long.
const QUIET: Duration = Duration::from_secs(10);
/// Load means so many puts a second for this long.
const LOAD: f64 = 2000.0;
const LOADED: Duration = Duration::from_secs(5);

/// Loads one member with so many keys, and sees what that means.
pub async fn measure(
    running: &mut Running<'_>,
    count: u64,
    told: &Told,
) -> anyhow::Result<Outcome> {
    let values = Rc::new(Values::new(VALUE_BYTES));
    let began = Instant::now();
    keys(
        &running.cluster.endpoints,
        0,
        count,
        &values,
        Manner::Puts,
        told,
    )
    .await?;
    let took = began.elapsed();
    let mut outcome = Outcome::new();
    outcome.set("keys", count as f64);
    outcome.set("load_rate", count as f64 / took.as_secs_f64());
    let loaded = Usage::of(&running.cluster.pids())?;
    outcome.set("loaded_mib", loaded.rss_bytes as f64 / MIB);
    outcome.set("loaded_anonymous_mib", loaded.anonymous_bytes as f64 / MIB);
    // Before the puts below: the faster system writes more of them.
    outcome.set("disk_mib", running.cluster.disk_bytes()? as f64 / MIB);
    let mut peak = loaded.peak_rss_bytes as f64 / MIB;
    let put = Operation::PutOver { keys: count };
    let get = Operation::Get {
        keys: count,
        serializable: false,
    };
    let speeds = [
        (put, "put_rate", "put_cpu_us"),
        (get, "get_rate", "get_cpu_us"),
    ];
    for (operation, rate, cpu) in speeds {
        let speed = running
            .closed(operation, CLIENTS, None, VALUE_BYTES, count)
            .await?;
        peak = peak.max(speed.get("peak_mib").context("memory is measured")?);
        outcome.set(rate, speed.get("rate").context("a rate is measured")?);
        outcome.set(cpu, speed.get("server_cpu_us").context("it is measured")?);
        outcome.add_failures(&speed);
    }
    outcome.set("peak_mib", peak);

    sleep(QUIET).await;
    outcome.set(
        "ready_quiet_s",
        restart(running.cluster).await?.as_secs_f64(),
    );
    outcome.set("restarted_mib", rss_mib(running.cluster)?);
    let meter = Rc::new(Meter::new());
    let puts = arrivals::begin(
        &running.cluster.endpoints,
        Load::new(LOAD, count),
        &values,
        &meter,
    )
    .await?;
    sleep(LOADED).await;
    // The puts break off with the member; only what it needs to come back is of interest.
    let ready = restart(running.cluster).await?;
    drop(puts);
    outcome.set("ready_load_s", ready.as_secs_f64());
    Ok(outcome)
}

/// Kills the members, starts them, and tells how long it takes until they serve.
async fn restart(cluster: &mut Cluster) -> anyhow::Result<Duration> {
    for member in &mut cluster.members {
        member.kill().await?;
    }
    let began = Instant::now();
    for member in &mut cluster.members {
        member.start_again()?;
    }
    for member in &mut cluster.members {
        member.ready().await?;
    }
    Ok(began.elapsed())
}

fn rss_mib(cluster: &Cluster) -> anyhow::Result<f64> {
    Ok(Usage::of(&cluster.pids())?.rss_bytes as f64 / MIB)
}
