//! The command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, bail};
use clap::Parser;
use tempfile::TempDir;

use crate::system::System;
use crate::workload::Workload;

/// The magic number of tmpfs, from Linux's `magic.h`: there, a sync costs nothing.
const TMPFS: i64 = 0x0102_1994;

/// Measures kvd beside etcd.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub struct Options {
    /// The etcd to compare with; without it, only kvd is measured
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// The kvd to measure [default: kvd, beside this program]
    #[arg(long, value_name = "PATH")]
    pub kvd: Option<PathBuf>,
    /// Numbers of members
    #[arg(long, value_delimiter = ',', default_value = "1,3", value_parser = 1..=9)]
    pub members: Vec<i64>,
    /// Numbers of clients, each with one request under way
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000", value_parser = 1..=100_000)]
    pub clients: Vec<i64>,
    /// What clients do
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "put,get,get-serializable"
    )]
    pub workloads: Vec<Workload>,
    /// How long each run is measured, in seconds
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// How long each run goes on before it is measured, in seconds
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub warm_up: f64,
    /// How often each system is measured in each combination
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive)]
    pub rounds: usize,
    /// Connections that the clients share, spread over the members; the leader has the first
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = positive)]
    pub connections: usize,
    /// Keys that are there before a run that reads
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    pub keys: usize,
    /// The size of every value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = value_size)]
    pub value_bytes: usize,
    /// Where the members keep their data meanwhile: a real disk [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the details go
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub json: PathBuf,
}

impl Options {
    /// The systems to compare; the first is the one that the others are set against.
    pub fn systems(&self) -> anyhow::Result<Vec<System>> {
        let beside = std::env::current_exe()?.with_file_name("kvd");
        let etcd = self
            .etcd
            .as_deref()
            .map(|program| System::new("etcd", program));
        let kvd = System::new("kvd", self.kvd.as_deref().unwrap_or(&beside));
        etcd.into_iter().chain([kvd]).collect()
    }

    /// Every combination, in the order in which they are measured and shown.
    pub fn cells(&self) -> impl Iterator<Item = (usize, usize, Workload)> {
        let sorted = |numbers: &[i64]| -> Vec<usize> {
            let set: BTreeSet<i64> = numbers.iter().copied().collect();
            set.into_iter()
                .filter_map(|number| usize::try_from(number).ok())
                .collect()
        };
        let (members, clients) = (sorted(&self.members), sorted(&self.clients));
        members.into_iter().flat_map(move |members| {
            let workloads = &self.workloads;
            clients
                .clone()
                .into_iter()
                .flat_map(move |clients| workloads.iter().map(move |w| (members, clients, *w)))
        })
    }

    /// A directory for the members' data, on a disk that can be synced, deleted at the end.
    pub fn place(&self) -> anyhow::Result<TempDir> {
        let above = match &self.dir {
            Some(dir) => absolute(dir)?,
            None => std::env::current_exe()?
                .parent()
                .map(Path::to_owned)
                .context("this program is nowhere")?,
        };
        let place = tempfile::Builder::new()
            .prefix("bench-data-")
            .tempdir_in(&above);
        let place =
            place.with_context(|| format!("cannot make a directory in {}", above.display()))?;
        // The field's type differs between architectures.
        #[allow(clippy::unnecessary_cast)]
        if rustix::fs::statfs(place.path())?.f_type as i64 == TMPFS {
            bail!(
                "{} is in memory, where a sync costs nothing: choose a disk with --dir",
                above.display()
            );
        }
        Ok(place)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 86400 is wanted".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "a positive number is wanted".to_owned())
}

fn value_size(text: &str) -> Result<usize, String> {
    let max = crate::workload::VALUE_BYTES_MAX;
    text.parse()
        .ok()
        .filter(|size| *size <= max)
        .ok_or_else(|| format!("a size of at most {max} bytes is wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_in_order_and_once() {
        let options = Options::parse_from([
            "bench",
            "--members",
            "3,1,3",
            "--clients",
            "2",
            "--workloads",
            "get,put",
        ]);
        let cells: Vec<_> = options.cells().collect();
        let expected = [
            (1, 2, Workload::Get),
            (1, 2, Workload::Put),
            (3, 2, Workload::Get),
            (3, 2, Workload::Put),
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            ["--members", "0"],
            ["--clients", "x"],
            ["--seconds", "0"],
            ["--connections", "0"],
        ] {
            assert!(
                Options::try_parse_from(["bench"].into_iter().chain(flags)).is_err(),
                "{flags:?}"
            );
        }
    }
}
