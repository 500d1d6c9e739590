//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

use super::growth::growth;
use super::results::{Measured, Results};
use crate::measure::figures::{FIGURES, named};
use crate::measure::stats::Spread;
use crate::workload::{Aim, Mark};

/// Of clients that do something again and again.
const COLUMNS: [&str; 9] = [
    "workload",
    "system",
    "/s",
    "p50 / p99 / p99.9 ms",
    "servers' CPU µs",
    "client's CPU µs",
    "peak MiB",
    "written B",
    "failures",
];
/// The figures that have a column there.
const IN_COLUMNS: [&str; 11] = [
    "rate",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "operations",
    "server_cpu_us",
    "client_cpu_us",
    "peak_mib",
    // Compared where it has a mark, and of little interest elsewhere.
    "rise_mib",
    "written_bytes",
];

/// The whole page: where and how it was measured, then all tables.
pub fn page(results: &Results) -> String {
    let setting = &results.setting;
    let mut page = format!(
        "Measured on {}: {} processors ({}), {:.0} GiB, Linux {}; {}{}.\n\n",
        setting.date,
        setting.processors,
        setting.processor,
        setting.memory_bytes as f64 / f64::from(1 << 30),
        setting.kernel,
        setting
            .flags
            .iter()
            .map(|flags| format!("`bench {flags}`"))
            .collect::<Vec<String>>()
            .join(", "),
        if setting.quick {
            ": large numbers are a tenth"
        } else {
            ""
        },
    );
    if let Some(syncs) = setting.syncs {
        page += &format!(
            "On the disk of the members ({}), an append of 4 KiB with `fdatasync` takes {} µs (p99 {}).\n\n",
            setting.file_system,
            number(syncs.p50_us),
            number(syncs.p99_us),
        );
    }
    for (system, version) in &setting.systems {
        page += &format!(
            "- {system}: {version}{}\n",
            build(&setting.programs, system)
        );
    }
    page += &format!("\n### How kvd compares\n\n{}\n", ratios(results));
    page += &format!("\n### Rates, latencies, costs\n\n{}\n", figures(results));
    page += &format!("\n### What else was measured\n\n{}\n", others(results));
    let growth = growth(results);
    if !growth.is_empty() {
        page += &format!("\n### How costs grow\n\n{growth}\n");
    }
    page += &format!("\n### What the workloads are\n\n{}\n", workloads(results));
    page
}

/// What tells a system's program from another build of it.
fn build(programs: &[(String, String)], system: &str) -> String {
    programs
        .iter()
        .find(|(name, _)| name == system)
        .map_or_else(String::new, |(_, digest)| format!(", build {digest}"))
}

/// A line a workload and system that has a rate: the medians of its runs.
pub fn figures(results: &Results) -> Table {
    let mut table = table(&COLUMNS, 2);
    for workload in &results.workloads {
        for (system, _) in &results.setting.systems {
            let text = |figure| median(workload, system, figure);
            if text("rate").is_empty() {
                continue;
            }
            table.add_row(vec![
                workload.name.clone(),
                system.clone(),
                text("rate"),
                latencies([text("p50_ms"), text("p99_ms"), text("p999_ms")]),
                text("server_cpu_us"),
                text("client_cpu_us"),
                text("peak_mib"),
                text("written_bytes"),
                failures(workload, system).to_string(),
            ]);
        }
    }
    table
}

/// In one cell; empty where nothing was timed.
fn latencies(percentiles: [String; 3]) -> String {
    if percentiles.iter().all(String::is_empty) {
        return String::new();
    }
    percentiles.join(" / ")
}

/// A line for each figure that has no column in the other table.
pub fn others(results: &Results) -> Table {
    let systems = results.setting.systems.iter();
    let systems: Vec<&str> = systems.map(|(system, _)| system.as_str()).collect();
    let columns: Vec<&str> = ["workload", "figure"]
        .into_iter()
        .chain(systems.iter().copied())
        .collect();
    let mut table = table(&columns, 2);
    for workload in &results.workloads {
        let has_rate = workload
            .runs
            .iter()
            .any(|run| run.outcome.get("rate").is_some());
        for figure in FIGURES {
            if has_rate && IN_COLUMNS.contains(&figure.name) {
                continue;
            }
            let values: Vec<String> = systems
                .iter()
                .map(|system| median(workload, system, figure.name))
                .collect();
            if values.iter().all(String::is_empty) {
                continue;
            }
            let title = match figure.unit {
                "" => figure.title.to_owned(),
                unit => format!("{}, {unit}", figure.title),
            };
            table.add_row([workload.name.clone(), title].into_iter().chain(values));
        }
    }
    table
}

/// A line a mark: how kvd compares with etcd, and whether that is what is aimed at.
pub fn ratios(results: &Results) -> Table {
    let columns = [
        "workload",
        "figure",
        "etcd",
        "kvd",
        "kvd : etcd",
        "spread",
        "pairs",
        "mark",
        "reached",
    ];
    let mut table = table(&columns, 2);
    for workload in &results.workloads {
        let marks = workload
            .marks
            .iter()
            .map(|mark| (mark.figure.as_str(), Some(mark)));
        let unmarked = workload.marks.is_empty().then_some(("rate", None));
        for (figure, mark) in marks.chain(unmarked) {
            let ratio = workload.ratio(figure);
            if ratio.is_none() && workload.figure("kvd", figure).is_none() {
                continue;
            }
            let reached = mark.and_then(|mark| workload.reaches(mark));
            table.add_row(vec![
                workload.name.clone(),
                named(figure).title.to_owned(),
                median(workload, "etcd", figure),
                median(workload, "kvd", figure),
                ratio.map_or_else(String::new, |ratio| number(ratio.median)),
                ratio.map_or_else(String::new, spread),
                workload.pairs(figure).to_string(),
                mark.map_or_else(String::new, aim),
                reached
                    .map_or("", |reached| if reached { "yes" } else { "no" })
                    .to_owned(),
            ]);
        }
    }
    table
}

/// What each one is.
fn workloads(results: &Results) -> Table {
    let mut table = table(&["workload", "members", "what"], 3);
    for workload in &results.workloads {
        table.add_row([
            &workload.name,
            &workload.members.to_string(),
            &workload.about,
        ]);
    }
    table
}

fn aim(mark: &Mark) -> String {
    let figure = named(&mark.figure);
    let bound = if figure.higher_is_better {
        "at least"
    } else {
        "at most"
    };
    match mark.aim {
        Aim::Ratio(ratio) => format!("{bound} {} times", number(ratio)),
        Aim::Value(value) => format!("{bound} {} {}", number(value), figure.unit)
            .trim_end()
            .to_owned(),
        Aim::None => String::new(),
    }
}

fn median(workload: &Measured, system: &str, figure: &str) -> String {
    let spread = workload.figure(system, figure);
    spread.map_or_else(String::new, |spread| number(spread.median))
}

fn failures(workload: &Measured, system: &str) -> u64 {
    let runs = workload.runs.iter().filter(|run| run.system == system);
    runs.map(|run| run.outcome.failures).sum()
}

/// Nothing for one pair, which does not spread.
fn spread(of: Spread) -> String {
    if of.min == of.max {
        return String::new();
    }
    format!("{} to {}", number(of.min), number(of.max))
}

/// An empty one, whose first columns are of words, the others of numbers.
pub fn table(columns: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(columns);
    for (place, column) in table.column_iter_mut().enumerate() {
        if place >= left {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three digits that matter, no more.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
