//! What the runs showed: a table for people, and a file for programs.

use std::path::Path;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::drive::Run;
use crate::options::Options;
use crate::system::System;
use crate::workload::Workload;

const COLUMNS: [&str; 13] = [
    "members",
    "clients",
    "workload",
    "system",
    "ops/s",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "CPU µs/op",
    "peak RSS MiB",
    "written B/op",
    "failures",
    "speed, p99",
];

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    settings: Settings,
    systems: Vec<SystemEntry>,
    pub cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processors: usize,
    memory_bytes: u64,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Settings {
    seconds: f64,
    warm_up_seconds: f64,
    connections: usize,
    keys: usize,
    value_bytes: usize,
    data_directory: String,
}

#[derive(Debug, Serialize)]
struct SystemEntry {
    name: &'static str,
    version: String,
}

/// One combination.
#[derive(Debug, Serialize)]
pub struct Cell {
    members: usize,
    clients: usize,
    workload: &'static str,
    systems: Vec<SystemRounds>,
}

/// How one system did in it.
#[derive(Debug, Serialize)]
struct SystemRounds {
    name: &'static str,
    rounds: Vec<Round>,
    /// Of all rounds, in microseconds.
    #[serde(skip)]
    latencies: Histogram<u64>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct Round {
    operations: u64,
    operations_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    cpu_us_per_operation: f64,
    peak_rss_bytes: u64,
    written_bytes: u64,
    failures: u64,
    first_failure: Option<String>,
}

impl Report {
    pub fn new(options: &Options, systems: &[System], place: &Path) -> anyhow::Result<Report> {
        let memory_kib = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| {
                let rest = text
                    .lines()
                    .find_map(|line| line.strip_prefix("MemTotal:"))?;
                rest.split_ascii_whitespace().next()?.parse::<u64>().ok()
            });
        Ok(Report {
            machine: Machine {
                processors: std::thread::available_parallelism()?.get(),
                memory_bytes: memory_kib.unwrap_or(0) * 1024,
                kernel: rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
            },
            settings: Settings {
                seconds: options.seconds,
                warm_up_seconds: options.warm_up,
                connections: options.connections,
                keys: options.keys,
                value_bytes: options.value_bytes,
                data_directory: place.display().to_string(),
            },
            systems: systems
                .iter()
                .map(|system| SystemEntry {
                    name: system.name,
                    version: system.version.clone(),
                })
                .collect(),
            cells: Vec::new(),
        })
    }

    /// Writes everything, as JSON.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A line for each system in each cell: the mean of its rounds, latencies over all of them, and how it compares
    /// with the first system.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header(COLUMNS);
        for cell in &self.cells {
            for system in &cell.systems {
                table.add_row(system.row(cell));
            }
        }
        for (place, column) in table.column_iter_mut().enumerate() {
            if !(2..=3).contains(&place) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl Cell {
    pub fn new(members: usize, clients: usize, workload: Workload, systems: &[System]) -> Cell {
        let rounds = |system: &System| SystemRounds {
            name: system.name,
            rounds: Vec::new(),
            latencies: Histogram::new(3).expect("three digits are allowed"),
        };
        Cell {
            members,
            clients,
            workload: workload.name(),
            systems: systems.iter().map(rounds).collect(),
        }
    }

    /// Adds a run of the system with this number.
    pub fn add(&mut self, system: usize, run: &Run) -> anyhow::Result<()> {
        let system = self.systems.get_mut(system).context("no such system")?;
        system.latencies.add(&run.latencies)?;
        system.rounds.push(Round::from(run));
        Ok(())
    }
}

impl SystemRounds {
    fn mean(&self, value: impl Fn(&Round) -> f64) -> f64 {
        self.rounds.iter().map(value).sum::<f64>() / self.rounds.len().max(1) as f64
    }

    fn rate(&self) -> f64 {
        self.mean(|round| round.operations_per_second)
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn row(&self, cell: &Cell) -> Vec<String> {
        let reference = cell
            .systems
            .first()
            .filter(|first| !std::ptr::eq(*first, self));
        let ratio = reference.map_or_else(String::new, |first| {
            let speed = self.rate() / first.rate();
            format!(
                "{speed:.2}x, {:.2}x",
                self.quantile_ms(0.99) / first.quantile_ms(0.99)
            )
        });
        let failures: u64 = self.rounds.iter().map(|round| round.failures).sum();
        vec![
            cell.members.to_string(),
            cell.clients.to_string(),
            cell.workload.to_owned(),
            self.name.to_owned(),
            format!("{:.0}", self.rate()),
            format!("{:.2}", self.quantile_ms(0.5)),
            format!("{:.2}", self.quantile_ms(0.99)),
            format!("{:.2}", self.quantile_ms(0.999)),
            format!("{:.0}", self.mean(|round| round.cpu_us_per_operation)),
            format!(
                "{:.0}",
                self.mean(|round| round.peak_rss_bytes as f64) / f64::from(1 << 20)
            ),
            format!(
                "{:.0}",
                self.mean(|round| round.written_bytes as f64 / round.operations.max(1) as f64)
            ),
            failures.to_string(),
            ratio,
        ]
    }
}

impl From<&Run> for Round {
    fn from(run: &Run) -> Round {
        let operations = run.latencies.len();
        Round {
            operations,
            operations_per_second: run.rate(),
            p50_ms: run.quantile_ms(0.5),
            p99_ms: run.quantile_ms(0.99),
            p999_ms: run.quantile_ms(0.999),
            max_ms: run.latencies.max() as f64 / 1000.0,
            cpu_us_per_operation: run.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
            peak_rss_bytes: run.peak_rss_bytes,
            written_bytes: run.written_bytes,
            failures: run.failures,
            first_failure: run.first_failure.clone(),
        }
    }
}
