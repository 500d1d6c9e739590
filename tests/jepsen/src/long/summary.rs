//! What a campaign came to, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use keelson_jepsen::report::count;

use super::log::{Ended, Entry};

#[derive(Default)]
struct Total {
    runs: usize,
    /// In which clients worked, in seconds.
    seconds: u64,
    operations: usize,
    faults: usize,
    wrong: usize,
}

impl Total {
    fn add(&mut self, entry: &Entry) {
        self.runs += 1;
        self.seconds += entry.seconds;
        self.operations += entry.operations;
        self.faults += entry.faults;
        self.wrong += usize::from(entry.verdict != Ended::Valid);
    }

    fn row(&self, name: &str) -> String {
        format!(
            "| {name:<18} | {:>6} | {:>10} | {:>12} | {:>8} | {:>9} |\n",
            count(self.runs),
            time(self.seconds),
            count(self.operations),
            count(self.faults),
            count(self.wrong)
        )
    }
}

/// Totals by workload and by nemesis, as Markdown tables, and every run that failed.
pub fn words(entries: &[Entry]) -> String {
    let mut all = Total::default();
    let mut workloads: BTreeMap<&str, Total> = BTreeMap::new();
    let mut nemeses: BTreeMap<&str, Total> = BTreeMap::new();
    for entry in entries {
        all.add(entry);
        let combination = &entry.combination;
        workloads
            .entry(&combination.workload)
            .or_default()
            .add(entry);
        nemeses.entry(&combination.nemesis).or_default().add(entry);
    }
    let mut text = String::new();
    for (head, totals) in [("workload", &workloads), ("nemesis", &nemeses)] {
        let _ = writeln!(
            text,
            "| {head:<18} | {:>6} | {:>10} | {:>12} | {:>8} | {:>9} |\n\
             |--------------------|-------:|-----------:|-------------:|---------:|----------:|",
            "runs", "time", "operations", "faults", "not valid"
        );
        for (name, total) in totals {
            text.push_str(&total.row(name));
        }
        text.push_str(&all.row("all"));
        text.push('\n');
    }
    for entry in entries.iter().filter(|entry| entry.verdict != Ended::Valid) {
        let _ = writeln!(text, "{}", failure(entry));
    }
    let _ = writeln!(
        text,
        "{} runs, {} of clients at work: {} operations under {} faults; {} not valid.",
        count(all.runs),
        time(all.seconds),
        count(all.operations),
        count(all.faults),
        count(all.wrong)
    );
    text
}

fn failure(entry: &Entry) -> String {
    let directory = entry.directory.as_ref();
    format!(
        "{}, seed {}: {}: {}\n  {}",
        entry.combination,
        entry.seed,
        verdict(entry.verdict),
        entry.says.as_deref().unwrap_or_default(),
        directory.map_or(String::new(), |path| path.display().to_string())
    )
}

/// A run in a line.
pub fn line(entry: &Entry) -> String {
    match entry.verdict {
        Ended::Valid => format!(
            "{}, seed {}: VALID, {} operations, {} faults, {:.0} s",
            entry.combination,
            entry.seed,
            count(entry.operations),
            count(entry.faults),
            entry.took
        ),
        _ => failure(entry),
    }
}

fn verdict(verdict: Ended) -> &'static str {
    match verdict {
        Ended::Valid => "VALID",
        Ended::Invalid => "NOT VALID",
        Ended::Inconclusive => "INCONCLUSIVE",
        Ended::Error => "NO VERDICT",
    }
}

/// A duration as a person reads it.
pub fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::entry;
    use super::*;

    #[test]
    fn the_totals_are_told_and_each_failure_with_its_seed_and_directory() {
        let text = words(&[
            entry(1, "set", Ended::Valid),
            entry(2, "bank", Ended::Invalid),
            entry(3, "set", Ended::Valid),
        ]);
        assert!(
            text.contains(
                "| set                |      2 |       60 s |        2,000 |       14 |         0 |"
            ),
            "{text}"
        );
        assert!(
            text.contains("bank × kill-one, 3 members of kvd, seed 2: NOT VALID: [set] An element is lost.\n  failures/7\n"),
            "{text}"
        );
        let end =
            "3 runs, 90 s of clients at work: 3,000 operations under 21 faults; 1 not valid.\n";
        assert!(text.ends_with(end), "{text}");
    }
}
