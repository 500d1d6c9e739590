//! The command line.

use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use tempfile::TempDir;

use crate::system::{Kind, System};
use crate::workload::list::{Scale, list};
use crate::workload::run::Effort;
use crate::workload::{Workload, matches};

/// File systems and their magic numbers, from Linux's `magic.h`.
const FILE_SYSTEMS: [(i64, &str); 6] = [
    (0xEF53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x794C_7630, "overlayfs"),
    (TMPFS, "tmpfs"),
];
/// There, a sync costs nothing.
const TMPFS: i64 = 0x0102_1994;
const SECONDS: f64 = 4.0;
const WARM_UP: f64 = 1.0;
const QUICK_SECONDS: f64 = 2.0;
const QUICK_WARM_UP: f64 = 0.5;

/// Measures kvd beside etcd: the same clients, in turns, on fresh clusters.
#[derive(Debug, Parser)]
#[command(name = "bench", version, args_override_self = true)]
pub struct Options {
    /// The etcd to compare with; without it, only kvd is measured
    #[arg(long, value_name = "PATH")]
    pub etcd: Option<PathBuf>,
    /// The kvd to measure [default: kvd, beside this program]
    #[arg(long, value_name = "PATH")]
    pub kvd: Option<PathBuf>,
    /// The keelson of the control plane's workloads [default: keelson, beside this program]
    #[arg(long, value_name = "PATH")]
    pub keelson: Option<PathBuf>,
    /// Measure one system alone
    #[arg(long, value_enum)]
    pub target: Option<Kind>,
    /// Say what there is to measure, and end
    #[arg(long)]
    pub list: bool,
    /// Measure these workloads: names, or beginnings of names
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Include what takes long
    #[arg(long)]
    pub long: bool,
    /// One short pair of runs, with a tenth of the keys: to see that all works, not to compare
    #[arg(long)]
    pub quick: bool,
    /// How often each system is measured, in turns [default: 5, or 2 where a run takes minutes unless --long; 1 if --quick]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub pairs: Option<usize>,
    /// How long each run is measured, in seconds [default: 4, or 2 if --quick]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// How long each run goes on before it is measured, in seconds [default: 1, or 0.5 if --quick]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub warm_up: Option<f64>,
    /// Connections that up to 120 clients share, spread over the members; more clients have one for ten of them
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = positive)]
    pub connections: usize,
    /// Where the members keep their data meanwhile: a real disk [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// Go on where an earlier run with the same flags was interrupted
    #[arg(long = "continue")]
    pub go_on: bool,
}

impl Options {
    /// The systems to compare; the first is the one that the others are set against.
    pub fn systems(&self) -> anyhow::Result<Vec<System>> {
        let beside = std::env::current_exe()?.with_file_name("kvd");
        let mut systems = Vec::new();
        if self.target != Some(Kind::Kvd) {
            match &self.etcd {
                Some(program) => systems.push(System::new(Kind::Etcd, program)?),
                None if self.target.is_some() => bail!("--target etcd needs --etcd PATH"),
                None => {}
            }
        }
        if self.target != Some(Kind::Etcd) {
            systems.push(System::new(
                Kind::Kvd,
                self.kvd.as_deref().unwrap_or(&beside),
            )?);
        }
        Ok(systems)
    }

    /// The launcher of whole clusters.
    pub fn keelson(&self) -> anyhow::Result<PathBuf> {
        match &self.keelson {
            Some(program) => Ok(program.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("keelson")),
        }
    }

    pub fn scale(&self) -> Scale {
        Scale { quick: self.quick }
    }

    /// What is to be measured, in order.
    pub fn workloads(&self) -> anyhow::Result<Vec<Workload>> {
        let all = list(self.scale());
        for word in &self.only {
            if !all.iter().any(|workload| matches(&workload.name, word)) {
                bail!("no workload is called {word}: see --list");
            }
        }
        let wanted = |workload: &Workload| {
            if self.only.is_empty() {
                self.long || !workload.long
            } else {
                self.only.iter().any(|word| matches(&workload.name, word))
            }
        };
        Ok(all.into_iter().filter(wanted).collect())
    }

    pub fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// How many pairs of runs a workload gets.
    pub fn pairs_of(&self, workload: &Workload) -> usize {
        if self.long || self.pairs.is_some() {
            self.pairs()
        } else {
            self.pairs().min(workload.pairs_max)
        }
    }

    pub fn effort(&self) -> Effort {
        let (warm_up, measured) = if self.quick {
            (QUICK_WARM_UP, QUICK_SECONDS)
        } else {
            (WARM_UP, SECONDS)
        };
        Effort {
            warm_up: Duration::from_secs_f64(self.warm_up.unwrap_or(warm_up)),
            measured: Duration::from_secs_f64(self.seconds.unwrap_or(measured)),
            connections_min: self.connections,
        }
    }

    /// What of the flags matters to who reads the results: no paths, and what is left to defaults as well.
    pub fn in_words(&self) -> String {
        let effort = self.effort();
        let mut words = String::new();
        if let Some(pairs) = self.pairs {
            words += &format!("--pairs {pairs} ");
        }
        words += &format!(
            "--seconds {} --warm-up {} --connections {}",
            effort.measured.as_secs_f64(),
            effort.warm_up.as_secs_f64(),
            self.connections
        );
        for (given, flag) in [(self.quick, " --quick"), (self.long, " --long")] {
            if given {
                words += flag;
            }
        }
        words
    }

    /// The name of the file system on which the members keep their data.
    pub fn file_system(&self) -> anyhow::Result<String> {
        let found = file_system(&self.above()?)?;
        let known = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == found);
        Ok(known.map_or_else(
            || format!("a file system of type {found:#x}"),
            |(_, name)| (*name).to_owned(),
        ))
    }

    /// Where the directory for the members' data is made.
    fn above(&self) -> anyhow::Result<PathBuf> {
        match &self.dir {
            Some(dir) => Ok(absolute(dir)?),
            None => std::env::current_exe()?
                .parent()
                .map(Path::to_owned)
                .context("this program is nowhere"),
        }
    }

    /// A directory for the members' data, on a disk that can be synced, deleted at the end.
    pub fn place(&self) -> anyhow::Result<TempDir> {
        let above = self.above()?;
        let place = tempfile::Builder::new()
            .prefix("bench-data-")
            .tempdir_in(&above);
        let place =
            place.with_context(|| format!("cannot make a directory in {}", above.display()))?;
        if file_system(place.path())? == TMPFS {
            bail!(
                "{} is in memory, where a sync costs nothing: choose a disk with --dir",
                above.display()
            );
        }
        Ok(place)
    }
}

/// The magic number of the file system that holds a directory.
fn file_system(dir: &Path) -> anyhow::Result<i64> {
    let found = rustix::fs::statfs(dir)
        .with_context(|| format!("cannot look at the file system of {}", dir.display()))?;
    // The field's type differs between architectures.
    #[allow(clippy::unnecessary_cast)]
    Ok(found.f_type as i64)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(flags: &[&str]) -> anyhow::Result<Vec<String>> {
        let options = Options::parse_from(["bench"].iter().chain(flags));
        let workloads = options.workloads()?.into_iter();
        Ok(workloads.map(|workload| workload.name).collect())
    }

    #[test]
    fn words_choose_workloads_in_the_order_of_the_list() {
        assert_eq!(
            names(&["--only", "put-3-100,put-1-1"]).unwrap(),
            ["put-1-1", "put-3-100"]
        );
        assert!(names(&["--only", "get-hot"]).unwrap().len() > 4);
        assert!(names(&["--only", "unknown"]).is_err());
    }

    #[test]
    fn what_takes_long_is_measured_when_it_is_asked_for() {
        let (short, all) = (names(&[]).unwrap().len(), names(&["--long"]).unwrap().len());
        assert!(short <= all);
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            ["--pairs", "0"],
            ["--seconds", "0"],
            ["--connections", "x"],
            ["--target", "consul"],
        ] {
            let flags = ["bench"].into_iter().chain(flags);
            assert!(Options::try_parse_from(flags).is_err());
        }
    }
}
