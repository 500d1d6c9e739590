//! How costs grow with the number of keys.

use comfy_table::Table;

use super::markdown::{number, table};
use super::results::{Measured, Results};
use crate::system::Kind;

const COLUMNS: [&str; 8] = [
    "system",
    "keys",
    "memory",
    "on disk",
    "puts",
    "gets",
    "ready again",
    "marks",
];
/// What kvd is to keep to when keys are ten times as many as a million.
const MARKED: (f64, f64) = (1e6, 1e7);
const MARKS: [(&str, &str, Aim); 3] = [
    ("memory", "loaded_mib", Aim::AtMost(2.0)),
    ("puts", "put_rate", Aim::AtLeast(0.8)),
    ("gets", "get_rate", Aim::AtLeast(0.8)),
];

#[derive(Debug, Clone, Copy)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}
const FIGURES: [&str; 5] = [
    "loaded_mib",
    "disk_mib",
    "put_rate",
    "get_rate",
    "ready_quiet_s",
];

/// A line a system and step: how many times what it was with fewer keys. Empty if no two sizes were measured.
pub fn growth(results: &Results) -> Table {
    let mut table = table(&COLUMNS, 2);
    for (system, _) in &results.setting.systems {
        let keys = |workload: &Measured| Some(workload.figure(system, "keys")?.median);
        let sized = results
            .workloads
            .iter()
            .filter_map(|workload| Some((keys(workload)?, workload)));
        let mut sizes: Vec<(f64, &Measured)> = sized.collect();
        sizes.sort_by(|one, next| one.0.total_cmp(&next.0));
        for step in sizes.windows(2) {
            let [(fewer, before), (more, after)] = step else {
                continue;
            };
            let times = |figure: &str| -> Option<f64> {
                Some(after.figure(system, figure)?.median / before.figure(system, figure)?.median)
            };
            let cell = |figure: &&str| {
                times(figure).map_or_else(String::new, |ratio| format!("{}×", number(ratio)))
            };
            let mark = |(what, figure, aim): &(&str, &str, Aim)| -> Option<String> {
                let ratio = times(figure)?;
                let (bound, aim, reached) = match *aim {
                    Aim::AtMost(aim) => ("at most", aim, ratio <= aim),
                    Aim::AtLeast(aim) => ("at least", aim, ratio >= aim),
                };
                let reached = if reached { "yes" } else { "no" };
                Some(format!("{what} {bound} {}×: {reached}", number(aim)))
            };
            let is_marked = system == Kind::Kvd.name() && (*fewer, *more) == MARKED;
            let marks: Vec<String> = if is_marked {
                MARKS.iter().filter_map(mark).collect()
            } else {
                Vec::new()
            };
            let cells = FIGURES.iter().map(cell).chain([marks.join("; ")]);
            let step = format!("{fewer:.0} to {more:.0}");
            table.add_row([system.clone(), step].into_iter().chain(cells));
        }
    }
    table
}
