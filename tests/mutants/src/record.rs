//! What became of each bug: lines of JSON for programs, a table for a person.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use keelson_planted::Bug;
use serde::{Deserialize, Serialize};

/// What a checker said is told in so many characters.
const SAYS: usize = 140;

/// What became of a bug.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub bug: String,
    /// None if it survived.
    pub caught: Option<Catch>,
    /// Runs with the bug, until it was caught.
    pub runs: u64,
    /// How long they took, in seconds.
    pub seconds: f64,
    /// The last run that came to no verdict, if any did.
    pub no_verdict: Option<String>,
}

/// The run that caught it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catch {
    /// The harness.
    pub by: String,
    pub says: String,
    /// The command that repeats it.
    pub again: String,
}

impl Outcome {
    /// In a line.
    pub fn line(&self) -> String {
        let Outcome {
            bug, runs, seconds, ..
        } = self;
        match &self.caught {
            Some(catch) => format!(
                "{bug}: caught by {} in {}: {}",
                catch.by,
                after(*runs, *seconds),
                shortened(&catch.says)
            ),
            None => {
                let why = self.no_verdict.as_deref().map(shortened);
                let why = why.map_or(String::new(), |why| format!("; no verdict was: {why}"));
                format!("{bug}: SURVIVED {}{why}", after(*runs, *seconds))
            }
        }
    }
}

fn after(runs: u64, seconds: f64) -> String {
    let plural = if runs == 1 { "" } else { "s" };
    format!("{runs} run{plural}, {seconds:.1} s")
}

/// On one line, and not too long.
fn shortened(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= SAYS {
        return line;
    }
    let mut short: String = line.chars().take(SAYS - 1).collect();
    short.push('…');
    short
}

/// As a table in Markdown, in the order of the bugs.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = "| bug | caught by | after | what it said |\n|---|---|---|---|\n".to_owned();
    for bug in Bug::ALL {
        let Some(outcome) = outcomes.iter().find(|outcome| outcome.bug == bug.name()) else {
            continue;
        };
        let (by, says) = match &outcome.caught {
            Some(catch) => (catch.by.as_str(), shortened(&catch.says)),
            None => ("**survived**", String::new()),
        };
        let _ = writeln!(
            text,
            "| {} | {by} | {} | {} |",
            outcome.bug,
            after(outcome.runs, outcome.seconds),
            says.replace('|', "\\|")
        );
    }
    text
}

/// The outcomes on record in a file, which need not be there.
pub fn read(path: &Path) -> anyhow::Result<Vec<Outcome>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let lines = text.lines().enumerate().map(|(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), number + 1))
    });
    lines.collect()
}

/// Adds a line to the file.
pub fn append(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(outcome)?;
    line.push('\n');
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> [Outcome; 2] {
        let caught = Outcome {
            bug: Bug::SyncSkipped.name().to_owned(),
            caught: Some(Catch {
                by: "sim".to_owned(),
                says: format!("a | b\n{}", "x".repeat(SAYS)),
                again: "sim-faulty --seeds 1 --from 7".to_owned(),
            }),
            runs: 1,
            seconds: 0.71,
            no_verdict: None,
        };
        let survived = Outcome {
            bug: Bug::ReadWithoutProof.name().to_owned(),
            caught: None,
            runs: 2,
            seconds: 9.0,
            no_verdict: Some("a task panicked".to_owned()),
        };
        [caught, survived]
    }

    #[test]
    fn the_table_is_in_the_order_of_the_bugs_and_has_a_line_for_each() {
        let table = table(&outcomes());
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "| read-without-proof | **survived** | 2 runs, 9.0 s |  |"
        );
        let caught = "| sync-skipped | sim | 1 run, 0.7 s | a \\| b xxx";
        assert!(
            rows[1].starts_with(caught) && rows[1].ends_with("x… |"),
            "{table}"
        );
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("mutants.jsonl");
        assert_eq!(read(&path).expect("no record yet"), []);
        for outcome in outcomes() {
            append(&path, &outcome).expect("it can be written");
        }
        assert_eq!(read(&path).expect("it can be read"), outcomes());
    }
}
