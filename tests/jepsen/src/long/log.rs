//! The record of a campaign: a line of JSON for each run that has ended.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::combination::Combination;

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it began, for a person.
    pub began: String,
    pub seed: u64,
    #[serde(flatten)]
    pub combination: Combination,
    /// For how long clients worked.
    pub seconds: u64,
    /// How long it took with all that comes before and after, in seconds.
    pub took: f64,
    pub operations: usize,
    pub faults: usize,
    pub verdict: Ended,
    /// What is wrong, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Where history, logs and report are, if anything is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Everything was judged, and nothing is wrong.
    Valid,
    /// Something is.
    Invalid,
    /// Not everything could be judged.
    Inconclusive,
    /// It came to no verdict.
    Error,
}

/// The file, and what is in it. One process at a time has it open.
pub struct Log {
    file: File,
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Log {
    /// Opens it, or begins one. A line that an earlier process did not write to its end is cut off.
    pub fn open(path: &Path) -> anyhow::Result<Log> {
        let told = || path.display().to_string();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another process is running this campaign", told())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(told),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(told)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).with_context(told)?;
        file.seek(SeekFrom::End(0)).with_context(told)?;
        let entries = entries(&text, path)?;
        Ok(Log {
            file,
            path: path.to_owned(),
            entries,
        })
    }

    /// Adds a line.
    pub fn append(&mut self, entry: Entry) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&entry)?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .with_context(|| self.path.display().to_string())?;
        self.entries.push(entry);
        Ok(())
    }

    /// All runs so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All runs in the end.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }
}

/// What is on record so far, whoever may be adding to it.
pub fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    entries(&text, path)
}

/// The runs of all lines that are written to their ends.
fn entries(text: &str, path: &Path) -> anyhow::Result<Vec<Entry>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entry = |(number, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}: not a run", path.display(), number + 1))
    };
    whole.lines().enumerate().map(entry).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn entry(seed: u64, workload: &str, verdict: Ended) -> Entry {
        let wrong = verdict != Ended::Valid;
        Entry {
            began: "2026-01-01 00:00:00 UTC".to_owned(),
            seed,
            combination: Combination {
                workload: workload.to_owned(),
                nemesis: "kill-one".to_owned(),
                members: 3,
                target: "kvd".to_owned(),
            },
            seconds: 30,
            took: 41.5,
            operations: 1_000,
            faults: 7,
            verdict,
            says: wrong.then(|| "[set] An element is lost.".to_owned()),
            directory: wrong.then(|| PathBuf::from("failures/7")),
        }
    }

    #[test]
    fn what_was_written_is_there_again_but_for_a_line_that_was_not_finished() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("runs.jsonl");
        let runs = [
            entry(1, "set", Ended::Valid),
            entry(2, "bank", Ended::Invalid),
        ];
        let mut log = Log::open(&path).expect("a new log");
        for run in &runs {
            log.append(run.clone()).expect("it can be written");
        }
        assert!(Log::open(&path).is_err(), "another process has it");
        assert_eq!(read(&path).expect("anybody may read it"), runs);
        drop(log);
        let mut torn = std::fs::read(&path).expect("it can be read");
        torn.extend(b"{\"seed\":3");
        std::fs::write(&path, torn).expect("it can be written");
        let mut log = Log::open(&path).expect("the log of before");
        assert_eq!(log.entries(), runs);
        log.append(entry(3, "set", Ended::Error))
            .expect("it can be written");
        drop(log);
        let log = Log::open(&path).expect("the log of before");
        assert_eq!(log.entries().len(), 3);
    }
}
