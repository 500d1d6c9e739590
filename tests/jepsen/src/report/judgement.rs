//! The verdict for programs that start runs and want to know what came of them.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::history::{History, Run};

/// What came of a run: the file `verdict.json` of its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What was run.
    pub run: Run,
    /// How many operations there were, whatever came of them.
    pub operations: usize,
    /// How many faults.
    pub faults: usize,
    /// What the checkers say.
    pub verdict: Verdict,
}

impl Judgement {
    const FILE: &str = "verdict.json";

    /// Of a history that was judged.
    pub fn of(history: &History, verdict: &Verdict) -> Judgement {
        Judgement {
            run: history.run.clone(),
            operations: history.operations.len(),
            faults: history.faults.len(),
            verdict: verdict.clone(),
        }
    }

    /// Leaves it in the run's directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::write(dir.join(Judgement::FILE), serde_json::to_vec_pretty(self)?)
    }

    /// As a run left it in its directory; an error if it came to no verdict.
    pub fn read(dir: &Path) -> io::Result<Judgement> {
        let bytes = fs::read(dir.join(Judgement::FILE))?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}
