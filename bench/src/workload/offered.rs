//! Latency against offered load: puts at parts of etcd's own top rate, so that both systems are asked for the same.

use std::rc::Rc;

use anyhow::Context;

use super::arrivals;
use super::keys::Values;
use super::run::{Effort, Running, until};
use crate::measure::{Meter, Outcome};
use crate::system::member::serves;

/// Parts of etcd's top rate, from little to much: after more than it can do, a system has something to make up for. The
/// figures are of the whole rate; the line has all.
const PARTS: [f64; 6] = [0.25, 0.5, 0.75, WHOLE, 1.5, 2.0];
const WHOLE: f64 = 1.0;
/// As many puts are under way while it is found out what a system can do.
const TOP_CLIENTS: usize = 1000;

/// Offers puts over `keys` keys. `top` is the rate that etcd reached in this pair; without it the system's own.
pub async fn measure(
    running: &Running<'_>,
    keys: u64,
    bytes: usize,
    top: Option<f64>,
) -> anyhow::Result<Outcome> {
    let values = Rc::new(Values::new(bytes));
    let own = own_top(running, keys, bytes).await?;
    let reference = top.unwrap_or(own);
    let mut line = Vec::new();
    let mut outcome = Outcome::new();
    for part in PARTS {
        // Above etcd's own rate only the other system is asked.
        if part > WHOLE && (top.is_none() || part * reference > own) {
            continue;
        }
        let rate = part * reference;
        let meter = Rc::new(Meter::new());
        let tasks =
            arrivals::begin(&running.cluster.endpoints, rate, keys, &values, &meter).await?;
        let Effort {
            warm_up, measured, ..
        } = running.effort;
        let shown = until(
            tasks,
            meter.watch(|| running.cluster.pids(), warm_up, measured),
        )
        .await?;
        line.push((rate, meter.quantile_ms(0.99)));
        if part == WHOLE {
            outcome = shown;
        }
        // What a system that fell behind still owes is not the next part's.
        for url in &running.cluster.endpoints {
            serves(url).await?;
        }
    }
    outcome
        .lines
        .insert("p99_ms by offered puts/s".to_owned(), line);
    outcome.set("top_rate", own);
    outcome.set("offered_rate", reference);
    Ok(outcome)
}

/// How many puts a second the system reaches when as many as useful are under way.
async fn own_top(running: &Running<'_>, keys: u64, bytes: usize) -> anyhow::Result<f64> {
    let operation = super::operation::Operation::PutOver { keys };
    let outcome = running
        .closed(operation, TOP_CLIENTS, None, bytes, keys)
        .await?;
    outcome.get("rate").context("a rate is measured")
}
