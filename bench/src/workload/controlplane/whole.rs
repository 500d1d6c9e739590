//! The control plane at rest.

use std::time::Duration;

use tokio::time::sleep;

use super::process::Whole;
use crate::measure::usage::{Usage, pss_bytes};
use crate::measure::{MIB, Outcome};

/// Memory and processor time of everything but the store, when nothing has been asked for a while.
pub async fn idle(whole: &Whole, quiet: Duration) -> anyhow::Result<Outcome> {
    sleep(quiet).await;
    let pids = whole.control_plane_pids();
    let before = Usage::of(&pids)?;
    sleep(quiet).await;
    let after = Usage::of(&pids)?;
    let mut outcome = Outcome::new();
    outcome.set("idle_rss_mib", after.rss_bytes as f64 / MIB);
    let pss: u64 = pids.iter().filter_map(|pid| pss_bytes(*pid)).sum();
    outcome.set("idle_pss_mib", pss as f64 / MIB);
    let used = after.since(before).cpu.as_secs_f64() / quiet.as_secs_f64();
    outcome.set("idle_cpu_percent", 100.0 * used);
    Ok(outcome)
}
