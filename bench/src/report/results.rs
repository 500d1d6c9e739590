//! Everything that was measured, as it is kept in `results.json`, so that an interrupted run can go on.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::measure::Outcome;
use crate::measure::figures::named;
use crate::measure::stats::Spread;
use crate::options::Options;
use crate::system::{Kind, System};
use crate::workload::Workload;

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub setting: Setting,
    pub workloads: Vec<Measured>,
}

/// Where and how; runs of another setting are not to be mixed with these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    pub processor: String,
    pub processors: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// With the versions they give.
    pub systems: Vec<(String, String)>,
    pub seconds: f64,
    pub warm_up_seconds: f64,
    pub quick: bool,
}

/// One workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub about: String,
    pub members: usize,
    /// Figures, and the ratios to etcd's that are aimed at.
    pub marks: Vec<(String, f64)>,
    pub runs: Vec<Run>,
}

/// One run of one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub system: String,
    /// From 1.
    pub pair: usize,
    pub outcome: Outcome,
}

impl Results {
    pub fn new(options: &Options, systems: &[System]) -> anyhow::Result<Results> {
        let effort = options.effort();
        let memory_kib = proc_field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse().ok());
        Ok(Results {
            setting: Setting {
                processor: proc_field("/proc/cpuinfo", "model name")
                    .unwrap_or("unknown".to_owned()),
                processors: std::thread::available_parallelism()?.get(),
                memory_bytes: memory_kib.unwrap_or(0) * 1024,
                kernel: rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
                systems: systems
                    .iter()
                    .map(|system| (system.kind.name().to_owned(), system.version.clone()))
                    .collect(),
                seconds: effort.measured.as_secs_f64(),
                warm_up_seconds: effort.warm_up.as_secs_f64(),
                quick: options.quick,
            },
            workloads: Vec::new(),
        })
    }

    /// Takes over what an earlier run of the same setting kept.
    pub fn go_on(self, path: &Path) -> anyhow::Result<Results> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            text => text.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let kept: Results = serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results", path.display()))?;
        if kept.setting != self.setting {
            bail!(
                "{} is of another machine, other programs or other flags",
                path.display()
            );
        }
        Ok(kept)
    }

    /// Writes everything; a crash leaves the old file or the new one.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let beside = path.with_extension("json.new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether this run was made.
    pub fn has(&self, workload: &str, system: Kind, pair: usize) -> bool {
        self.workload(workload).is_some_and(|found| {
            found
                .runs
                .iter()
                .any(|run| run.pair == pair && run.system == system.name())
        })
    }

    pub fn add(&mut self, workload: &Workload, system: Kind, pair: usize, outcome: Outcome) {
        let place = self
            .workloads
            .iter()
            .position(|known| known.name == workload.name);
        let place = place.unwrap_or_else(|| {
            self.workloads.push(Measured {
                name: workload.name.clone(),
                about: workload.about.clone(),
                members: workload.members,
                marks: workload
                    .marks
                    .iter()
                    .map(|mark| (mark.figure.to_owned(), mark.ratio))
                    .collect(),
                runs: Vec::new(),
            });
            self.workloads.len() - 1
        });
        self.workloads[place].runs.push(Run {
            system: system.name().to_owned(),
            pair,
            outcome,
        });
    }

    pub fn workload(&self, name: &str) -> Option<&Measured> {
        self.workloads.iter().find(|workload| workload.name == name)
    }

    /// How many replies were wrong or said no.
    pub fn failures(&self) -> u64 {
        let runs = self.workloads.iter().flat_map(|workload| &workload.runs);
        runs.map(|run| run.outcome.failures).sum()
    }
}

impl Measured {
    /// A figure over all runs of a system.
    pub fn figure(&self, system: &str, figure: &str) -> Option<Spread> {
        let runs = self.runs.iter().filter(|run| run.system == system);
        Spread::of(runs.filter_map(|run| run.outcome.get(figure)))
    }

    /// kvd's figure by etcd's, pair by pair.
    pub fn ratio(&self, figure: &str) -> Option<Spread> {
        let of = |system: &str, pair| {
            let mut runs = self.runs.iter();
            let run = runs.find(|run| run.system == system && run.pair == pair)?;
            run.outcome.get(figure)
        };
        let kvd = self
            .runs
            .iter()
            .filter(|run| run.system == Kind::Kvd.name());
        let pairs = kvd
            .filter_map(|run| Some((run.outcome.get(figure)?, of(Kind::Etcd.name(), run.pair)?)));
        Spread::of_ratios(pairs)
    }

    /// The ratio that is aimed at, and whether the median reaches it.
    pub fn mark(&self, figure: &str) -> Option<(f64, bool)> {
        let (_, aim) = self.marks.iter().find(|(name, _)| name == figure)?;
        let ratio = self.ratio(figure)?.median;
        let reached = if named(figure).higher_is_better {
            ratio >= *aim
        } else {
            ratio <= *aim
        };
        Some((*aim, reached))
    }
}

/// What follows the name and the colon.
fn proc_field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let (_, value) = rest.split_once(':')?;
    Some(value.trim().to_owned())
}
