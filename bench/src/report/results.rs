//! Everything that was measured, as it is kept in `results.json`, so that an interrupted run can go on.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::measure::figures::named;
use crate::measure::stats::Spread;
use crate::measure::{Outcome, Syncs};
use crate::options::Options;
use crate::system::{Kind, System, digest};
use crate::workload::{Aim, Mark, Workload};

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub setting: Setting,
    pub workloads: Vec<Measured>,
}

/// Where and how; runs of another setting are not to be mixed with these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The day on which it began.
    pub date: String,
    /// Of each call that added to it.
    pub flags: Vec<String>,
    /// Of the disk, when it began.
    #[serde(default)]
    pub syncs: Option<Syncs>,
    pub processor: String,
    pub processors: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// Where the members keep their data.
    #[serde(default)]
    pub file_system: String,
    /// With the versions they give.
    pub systems: Vec<(String, String)>,
    /// With what tells a build from another, and so the launcher of control planes.
    #[serde(default)]
    pub programs: Vec<(String, String)>,
    /// That up to 120 clients share.
    #[serde(default)]
    pub connections: usize,
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
    pub marks: Vec<Mark>,
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
                date: today(),
                flags: vec![options.in_words()],
                syncs: None,
                processor: proc_field("/proc/cpuinfo", "model name")
                    .unwrap_or("unknown".to_owned()),
                processors: std::thread::available_parallelism()?.get(),
                memory_bytes: memory_kib.unwrap_or(0) * 1024,
                kernel: rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
                file_system: options.file_system()?,
                systems: systems
                    .iter()
                    .map(|system| (system.kind.name().to_owned(), system.version.clone()))
                    .collect(),
                programs: programs(options, systems)?,
                connections: options.connections,
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
        let mut kept: Results = serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results", path.display()))?;
        if kept.setting.file_system.is_empty() {
            // It was not always noted.
            kept.setting.file_system = self.setting.file_system.clone();
        }
        // One that goes on the next day, or has more workloads, is the same.
        let comparable = |setting: &Setting| Setting {
            date: String::new(),
            flags: Vec::new(),
            syncs: None,
            ..setting.clone()
        };
        if comparable(&kept.setting) != comparable(&self.setting) {
            bail!(
                "{} is of another machine, another file system, other builds or other flags: go on without --continue, or with another --out",
                path.display()
            );
        }
        let mut kept = kept.without_failed();
        for flags in self.setting.flags {
            if !kept.setting.flags.contains(&flags) {
                kept.setting.flags.push(flags);
            }
        }
        Ok(kept)
    }

    /// Without runs that came to nothing, which are made again.
    fn without_failed(mut self) -> Results {
        for workload in &mut self.workloads {
            workload.runs.retain(|run| !run.outcome.figures.is_empty());
        }
        self
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
        self.outcome(workload, system, pair).is_some()
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
                marks: workload.marks.clone(),
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

    /// What a run showed, if it was made.
    pub fn outcome(&self, workload: &str, system: Kind, pair: usize) -> Option<&Outcome> {
        let runs = &self.workload(workload)?.runs;
        let found = runs
            .iter()
            .find(|run| run.pair == pair && run.system == system.name())?;
        Some(&found.outcome)
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
        Spread::of(self.values(system, figure))
    }

    fn values(&self, system: &str, figure: &str) -> impl Iterator<Item = f64> {
        let runs = self.runs.iter().filter(move |run| run.system == system);
        runs.filter_map(move |run| run.outcome.get(figure))
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

    /// How often a figure was measured of each system.
    pub fn pairs(&self, figure: &str) -> usize {
        let times = |kind: Kind| self.values(kind.name(), figure).count();
        match (times(Kind::Etcd), times(Kind::Kvd)) {
            (0, alone) | (alone, 0) => alone,
            (etcd, kvd) => etcd.min(kvd),
        }
    }

    /// Whether kvd reaches a mark. None if it was not measured, or had nothing beside it to compare with.
    pub fn reaches(&self, mark: &Mark) -> Option<bool> {
        let higher = named(&mark.figure).higher_is_better;
        let (value, aim) = match mark.aim {
            Aim::Ratio(aim) => (self.ratio(&mark.figure)?.median, aim),
            Aim::Value(aim) => (self.figure(Kind::Kvd.name(), &mark.figure)?.median, aim),
            Aim::None => return None,
        };
        Some(if higher { value >= aim } else { value <= aim })
    }

    /// The run of a system that stands for the others: the middle one, by what it is measured for.
    pub fn typical(&self, system: &str) -> Option<&Outcome> {
        let figure = self
            .marks
            .first()
            .map_or("rate", |mark| mark.figure.as_str());
        let runs = self.runs.iter().filter(|run| run.system == system);
        let mut outcomes: Vec<&Outcome> = runs.map(|run| &run.outcome).collect();
        let value = |outcome: &Outcome| outcome.get(figure).unwrap_or(0.0);
        outcomes.sort_by(|one, next| value(one).total_cmp(&value(next)));
        outcomes.get(outcomes.len().saturating_sub(1) / 2).copied()
    }
}

/// Which builds they are. Without a launcher, no control plane can be measured.
fn programs(options: &Options, systems: &[System]) -> anyhow::Result<Vec<(String, String)>> {
    let keelson = Some(options.keelson()?).filter(|keelson| keelson.is_file());
    systems
        .iter()
        .map(|system| (system.kind.name(), &system.program))
        .chain(keelson.iter().map(|program| ("keelson", program)))
        .map(|(name, program)| Ok((name.to_owned(), digest(program)?)))
        .collect()
}

/// What follows the name and the colon.
fn proc_field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let (_, value) = rest.split_once(':')?;
    Some(value.trim().to_owned())
}

/// As in 2026-01-31.
fn today() -> String {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let days = seconds.map_or(0, |since| since.as_secs() / 86_400);
    date(days)
}

/// The date so many days after 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_820), "2027-01-02");
    }
}
