//! What the disk can do: the bound of everything that is synced before it is acknowledged.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// As much is appended before each sync: what a few small puts take in a log.
const APPENDED: [u8; 4096] = [7; 4096];
const PROBED: Duration = Duration::from_secs(2);

/// How long `fdatasync` takes after an append, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Syncs {
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Syncs {
    /// Appends and syncs for two seconds in a directory.
    pub fn probe(dir: &Path) -> anyhow::Result<Syncs> {
        let mut file = tempfile::tempfile_in(dir).context("cannot make a file to sync")?;
        let mut times = Histogram::<u64>::new(3)?;
        let began = Instant::now();
        while began.elapsed() < PROBED {
            file.write_all(&APPENDED)?;
            let at = Instant::now();
            file.sync_data()?;
            times.record(u64::try_from(at.elapsed().as_micros())?)?;
        }
        let quantile = |part| times.value_at_quantile(part) as f64;
        Ok(Syncs {
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_some_time() {
        let syncs = Syncs::probe(Path::new(".")).unwrap();
        assert!(
            syncs.p99_us >= syncs.p50_us && syncs.p99_us > 0.0,
            "{syncs:?}"
        );
    }
}
