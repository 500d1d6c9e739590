//! Tries the bugs: the harness without a bug must find nothing, and with it, the bug.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::bail;
use keelson_planted::Bug;
use tokio::sync::OnceCell;

use crate::harness::{Programs, Seen};
use crate::plan::Attempt;
use crate::record::{Catch, Outcome};

/// The simulation is cleared by so many seeds: with fewer, it could cry wolf unheard.
const CONTROL_SEEDS: u64 = 20;

/// How hard each bug is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seeds of the simulation, at most.
    pub seeds: u64,
    /// Runs of each pair of workload and nemesis, at most.
    pub tries: u64,
    /// For how long clients work in each of these.
    pub seconds: u64,
}

impl Effort {
    fn runs(&self, attempt: Attempt) -> u64 {
        match attempt {
            Attempt::Sim => self.seeds,
            Attempt::Jepsen { .. } => self.tries,
        }
    }
}

/// Where bugs are tried, several at a time.
pub struct Court {
    programs: Programs,
    effort: Effort,
    /// Which harnesses have been shown to find nothing where nothing is.
    cleared: Mutex<HashMap<Attempt, Arc<OnceCell<()>>>>,
}

impl Court {
    pub fn new(programs: Programs, effort: Effort) -> Court {
        Court {
            programs,
            effort,
            cleared: Mutex::default(),
        }
    }

    /// Looks for a bug until a checker has found something. An error if a harness is not to be trusted.
    pub async fn try_bug(
        &self,
        bug: Bug,
        attempts: Vec<Attempt>,
        ports: &str,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome {
            bug: bug.name().to_owned(),
            caught: None,
            runs: 0,
            seconds: 0.0,
            no_verdict: None,
        };
        for attempt in attempts {
            self.clear(attempt, ports).await?;
            if outcome.runs > 0 {
                println!("{}: not seen yet; now by {attempt}", bug.name());
            }
            for _ in 0..self.effort.runs(attempt) {
                let began = Instant::now();
                let seconds = self.effort.seconds;
                let run = self
                    .programs
                    .run(attempt, Some(bug), seconds, ports)
                    .await?;
                outcome.runs += 1;
                outcome.seconds += began.elapsed().as_secs_f64();
                match run.seen {
                    Seen::Nothing => {}
                    Seen::NoVerdict(why) => outcome.no_verdict = Some(why),
                    Seen::Violation(says) => {
                        outcome.caught = Some(Catch {
                            by: attempt.to_string(),
                            says,
                            again: run.again,
                        });
                        return Ok(outcome);
                    }
                }
            }
        }
        Ok(outcome)
    }

    /// Sees, once, that a harness finds nothing in a program without a bug.
    async fn clear(&self, attempt: Attempt, ports: &str) -> anyhow::Result<()> {
        let cell = {
            let mut cleared = self
                .cleared
                .lock()
                .expect("nothing panics while it holds the lock");
            Arc::clone(cleared.entry(attempt).or_default())
        };
        cell.get_or_try_init(|| self.control(attempt, ports))
            .await?;
        Ok(())
    }

    async fn control(&self, attempt: Attempt, ports: &str) -> anyhow::Result<()> {
        let wanted = match attempt {
            Attempt::Sim => CONTROL_SEEDS,
            Attempt::Jepsen { .. } => 1,
        };
        let mut clear = 0;
        let mut no_verdicts = 0;
        while clear < wanted {
            let run = self
                .programs
                .run(attempt, None, self.effort.seconds, ports)
                .await?;
            match run.seen {
                Seen::Nothing => clear += 1,
                Seen::Violation(says) => {
                    bail!(
                        "{attempt} finds something where no bug was planted: {says}\n  again: {}",
                        run.again
                    )
                }
                // A machine that is too busy once is given another chance.
                Seen::NoVerdict(why) if no_verdicts == 0 => {
                    println!(
                        "without a bug, {attempt} came to no verdict, and is run again: {why}"
                    );
                    no_verdicts += 1;
                }
                Seen::NoVerdict(why) => {
                    bail!(
                        "without a bug, {attempt} comes to no verdict: {why}\n  again: {}",
                        run.again
                    )
                }
            }
        }
        println!("without a bug, {attempt} finds nothing, as it should");
        Ok(())
    }
}
