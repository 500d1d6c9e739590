//! Latency against offered load: puts at parts of etcd's own top rate, so that both systems are asked for the same.

use std::rc::Rc;

use anyhow::Context;

use super::arrivals::{self, Load};
use super::keys::Values;
use super::operation::Operation;
use super::run::{Effort, Running, until};
use crate::measure::{Meter, Outcome};
use crate::system::member::serves;

/// Parts of etcd's top rate, from little to much: after more than it can do, a system has something to make up for. The
/// figures are of the whole rate; the line has all.
const PARTS: [f64; 6] = [0.25, 0.5, 0.75, WHOLE, 1.5, 2.0];
const WHOLE: f64 = 1.0;
/// As many puts are under way while it is found out what a system can do.
const TOP_CLIENTS: usize = 1000;
/// A system keeps up with a rate of which it answers this part.
const KEPT_UP: f64 = 0.98;
/// So much less is offered to one that does not.
const STEP_DOWN: f64 = 0.9;
const STEPS_MAX: usize = 20;

/// Offers puts over `keys` keys. `top` is the rate that etcd reached in this pair; without it the system's own.
pub async fn measure(
    running: &Running<'_>,
    keys: u64,
    bytes: usize,
    top: Option<f64>,
) -> anyhow::Result<Outcome> {
    let values = Rc::new(Values::new(bytes));
    let closed = running
        .closed(Operation::PutOver { keys }, TOP_CLIENTS, None, bytes, keys)
        .await?;
    let mut troubles = Outcome::new();
    troubles.add_failures(&closed);
    let most = closed.get("rate").context("a rate is measured")?;
    // Who asks only when answered gets more out of a system than it can bear for long. Both are asked in the same way,
    // so that both have the same behind them.
    let mut own = most;
    for _ in 0..STEPS_MAX {
        let tried = offer(running, own, keys, &values).await?;
        troubles.add_failures(&tried);
        if tried.get("rate").context("a rate is measured")? >= KEPT_UP * own {
            break;
        }
        own *= STEP_DOWN;
    }
    let reference = top.unwrap_or(own);
    let mut line = Vec::new();
    let mut outcome = Outcome::new();
    for part in PARTS {
        // Above etcd's own rate only the other system is asked.
        if part > WHOLE && (top.is_none() || part * reference > most) {
            continue;
        }
        let rate = part * reference;
        let shown = offer(running, rate, keys, &values).await?;
        line.push((rate, shown.get("p99_ms").context("it is measured")?));
        troubles.add_failures(&shown);
        if part == WHOLE {
            outcome = shown;
        }
    }
    outcome
        .lines
        .insert("p99_ms by offered puts/s".to_owned(), line);
    outcome.set("top_rate", own);
    outcome.set("offered_rate", reference);
    outcome.failures = troubles.failures;
    outcome.first_failure = troubles.first_failure;
    Ok(outcome)
}

/// Offers puts at a rate, over as many connections as the clients had that asked for all.
async fn offer(
    running: &Running<'_>,
    rate: f64,
    keys: u64,
    values: &Rc<Values>,
) -> anyhow::Result<Outcome> {
    let load = Load {
        connections: running.effort.connections(TOP_CLIENTS),
        ..Load::new(rate, keys)
    };
    let meter = Rc::new(Meter::new());
    let tasks = arrivals::begin(&running.cluster.endpoints, load, values, &meter).await?;
    let Effort {
        warm_up, measured, ..
    } = running.effort;
    let shown = until(
        tasks,
        meter.watch(|| running.cluster.pids(), warm_up, measured),
    )
    .await?;
    // What a system that fell behind still owes is not the next one's.
    for url in &running.cluster.endpoints {
        serves(url).await?;
    }
    Ok(shown)
}
