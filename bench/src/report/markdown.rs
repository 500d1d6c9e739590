//! Tables for people.

use comfy_table::{CellAlignment, Table, presets};

use super::results::{Measured, Results};
use crate::measure::stats::Spread;

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

/// A line a workload and system: the medians of its runs.
pub fn figures(results: &Results) -> Table {
    let mut table = table(&COLUMNS, 2);
    for workload in &results.workloads {
        for (system, _) in &results.setting.systems {
            let median = |figure| workload.figure(system, figure).map(|spread| spread.median);
            let text = |figure| median(figure).map_or_else(String::new, number);
            let failures: u64 = workload
                .runs
                .iter()
                .filter(|run| run.system == *system)
                .map(|run| run.outcome.failures)
                .sum();
            table.add_row(vec![
                workload.name.clone(),
                system.clone(),
                text("rate"),
                format!(
                    "{} / {} / {}",
                    text("p50_ms"),
                    text("p99_ms"),
                    text("p999_ms")
                ),
                text("server_cpu_us"),
                text("client_cpu_us"),
                text("peak_mib"),
                text("written_bytes"),
                failures.to_string(),
            ]);
        }
    }
    table
}

/// A line a workload: how kvd compares with etcd, and whether the marks are reached.
pub fn ratios(results: &Results) -> Table {
    let mut table = table(
        &[
            "workload",
            "figure",
            "kvd : etcd",
            "spread",
            "mark",
            "reached",
        ],
        2,
    );
    for workload in &results.workloads {
        for figure in compared(workload) {
            let Some(ratio) = workload.ratio(figure) else {
                continue;
            };
            let (aim, reached) = match workload.mark(figure) {
                Some((aim, reached)) => (number(aim), if reached { "yes" } else { "no" }),
                None => (String::new(), ""),
            };
            table.add_row(vec![
                workload.name.clone(),
                crate::measure::figures::named(figure).title.to_owned(),
                number(ratio.median),
                spread(ratio),
                aim,
                reached.to_owned(),
            ]);
        }
    }
    table
}

/// The marks' figures; of a workload without marks its rate.
fn compared(workload: &Measured) -> Vec<&str> {
    if workload.marks.is_empty() {
        return vec!["rate"];
    }
    workload
        .marks
        .iter()
        .map(|(figure, _)| figure.as_str())
        .collect()
}

fn spread(of: Spread) -> String {
    format!("{} to {}", number(of.min), number(of.max))
}

fn table(columns: &[&str], left: usize) -> Table {
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
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let texts: Vec<String> = [0.123, 9.876, 12.34, 123.4, 98_765.4]
            .into_iter()
            .map(number)
            .collect();
        assert_eq!(texts, ["0.12", "9.88", "12.3", "123", "98765"]);
    }
}
