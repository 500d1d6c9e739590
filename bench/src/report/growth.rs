//! How costs grow with the number of keys.

use comfy_table::Table;

use super::markdown::{number, table};
use super::results::{Measured, Results};

const COLUMNS: [&str; 7] = [
    "system",
    "keys",
    "memory",
    "on disk",
    "puts",
    "gets",
    "ready again",
];
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
            let times = |figure: &&str| -> Option<String> {
                let ratio =
                    after.figure(system, figure)?.median / before.figure(system, figure)?.median;
                Some(format!("{}×", number(ratio)))
            };
            let cells = FIGURES
                .iter()
                .map(|figure| times(figure).unwrap_or_default());
            let step = format!("{fewer:.0} to {more:.0}");
            table.add_row([system.clone(), step].into_iter().chain(cells));
        }
    }
    table
}
