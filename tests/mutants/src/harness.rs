//! One run of a harness, and what it is worth.
//!
//! A bug is caught only by a checker that says what is wrong. A harness that crashes, a server that panics, a run that
//! did too little to prove anything, or one that was only slow, has caught nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use keelson_jepsen::check::{Checker, Violation};
use keelson_jepsen::report::Judgement;
use keelson_planted::Bug;
use keelson_tests::child::{self, Ended};
use keelson_tests::ports;
use rand::Rng as _;
use tokio::process::Command;

use crate::plan::Attempt;

/// A seed takes a second; the machine may be busy.
const SIM_TIME: Duration = Duration::from_secs(180);
/// What a run on processes may take beyond the time that its clients work.
const BEYOND: Duration = Duration::from_secs(420);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The harness looked, and found nothing.
    Nothing,
    /// A checker found something.
    Violation(String),
    /// It came to an end that neither clears nor convicts.
    NoVerdict(String),
}

/// A run, and the command that repeats it.
pub struct Run {
    pub seen: Seen,
    pub again: String,
}

/// Where the programs are.
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Those that these attempts need: beside this one, unless `KEELSON_BIN_DIR` says otherwise.
    pub fn find(attempts: &[Attempt]) -> anyhow::Result<Programs> {
        let dir = match std::env::var_os("KEELSON_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => {
                let this = std::env::current_exe()?;
                this.parent()
                    .context("a program is in a directory")?
                    .to_owned()
            }
        };
        let simulates = attempts.contains(&Attempt::Sim);
        let attacks = attempts.iter().any(|attempt| *attempt != Attempt::Sim);
        let needed = [
            ("sim-faulty", "faulty", simulates),
            ("kvd-faulty", "faulty", attacks),
            ("jepsen", "build", attacks),
        ];
        for (name, how, _) in needed.into_iter().filter(|(_, _, needed)| *needed) {
            let program = dir.join(name);
            if !program.is_file() {
                bail!("{} is not built: run `make {how}`", program.display());
            }
        }
        Ok(Programs { dir })
    }

    /// One run with the bug, or without any, on ports of its own: with a fresh seed, or with this one.
    pub async fn run(
        &self,
        attempt: Attempt,
        bug: Option<Bug>,
        seconds: u64,
        ports: &str,
    ) -> anyhow::Result<Run> {
        let dir = tempfile::Builder::new().prefix("mutants-").tempdir()?;
        match attempt {
            Attempt::Sim => self.simulate(bug, dir.path()).await,
            Attempt::Jepsen { workload, nemesis } => {
                let names = (workload, nemesis);
                self.attack(names, bug, seconds, ports, dir.path()).await
            }
        }
    }

    async fn simulate(&self, bug: Option<Bug>, dir: &Path) -> anyhow::Result<Run> {
        let seed: u32 = rand::rng().random_range(1..u32::MAX);
        let mut command = self.command("sim-faulty", bug);
        command.args(["--seeds", "1", "--jobs", "1", "--from", &seed.to_string()]);
        let output = dir.join("output.txt");
        let ended = child::run(&mut command, &output, SIM_TIME, std::future::pending()).await?;
        let said = std::fs::read_to_string(&output)?;
        let seen = match ended {
            Ended::Itself(status) => simulated(status.code(), &said),
            Ended::Late | Ended::Unwanted => Seen::NoVerdict(late(SIM_TIME)),
        };
        let again = format!("sim-faulty --seeds 1 --from {seed}");
        Ok(Run {
            seen,
            again: with_bug(bug, &again),
        })
    }

    async fn attack(
        &self,
        (workload, nemesis): (&str, &str),
        bug: Option<Bug>,
        seconds: u64,
        ports: &str,
        dir: &Path,
    ) -> anyhow::Result<Run> {
        let seed: u32 = rand::rng().random_range(1..u32::MAX);
        let arguments = format!(
            "--workload {workload} --nemesis {nemesis} --target kvd-faulty --seconds {seconds} --seed {seed}"
        );
        let run = dir.join("run");
        let mut command = self.command("jepsen", bug);
        command
            .args(arguments.split(' '))
            .arg("--out")
            .arg(&run)
            .env("KEELSON_BIN_DIR", &self.dir)
            .env(ports::VARIABLE, ports);
        let limit = Duration::from_secs(seconds) + BEYOND;
        let output = dir.join("output.txt");
        let ended = child::run(&mut command, &output, limit, std::future::pending()).await?;
        let seen = match (ended, Judgement::read(&run)) {
            (Ended::Itself(_), Ok(judgement)) => attacked(&judgement),
            (Ended::Itself(_), Err(_)) => {
                Seen::NoVerdict(last_line(&std::fs::read_to_string(&output)?))
            }
            (Ended::Late | Ended::Unwanted, _) => Seen::NoVerdict(late(limit)),
        };
        Ok(Run {
            seen,
            again: with_bug(bug, &format!("jepsen {arguments}")),
        })
    }

    fn command(&self, program: &str, bug: Option<Bug>) -> Command {
        let mut command = Command::new(self.dir.join(program));
        command.env("KEELSON_BUG", bug.map_or("", Bug::name));
        command
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attempt::Sim => f.write_str("sim"),
            Attempt::Jepsen { workload, nemesis } => write!(f, "jepsen {workload} × {nemesis}"),
        }
    }
}

fn with_bug(bug: Option<Bug>, command: &str) -> String {
    match bug {
        Some(bug) => format!("KEELSON_BUG={} {command}", bug.name()),
        None => command.to_owned(),
    }
}

fn late(limit: Duration) -> String {
    format!("it did not end within {} s", limit.as_secs())
}

/// Why a program ended without a verdict, as far as it said.
fn last_line(said: &str) -> String {
    let why = said.lines().rfind(|line| line.starts_with("jepsen: "));
    let last = || said.lines().rfind(|line| !line.trim().is_empty());
    why.or_else(last).unwrap_or("it said nothing").to_owned()
}

/// What a seed of the simulation came to, by its exit status and its words.
fn simulated(code: Option<i32>, said: &str) -> Seen {
    let failure = said
        .lines()
        .find_map(|line| Some(line.split_once(": FAILED: ")?.1));
    match failure {
        Some(why) if is_panic(why) || is_small(why) || is_stuck(why) => {
            Seen::NoVerdict(why.to_owned())
        }
        Some(why) => Seen::Violation(why.to_owned()),
        None if code == Some(0) => Seen::Nothing,
        None => Seen::NoVerdict(last_line(said)),
    }
}

fn is_panic(why: &str) -> bool {
    why.contains("panicked") || why.contains(" panics, the first: ")
}

/// The run did less than it has to.
fn is_small(why: &str) -> bool {
    why.starts_with("the run is too small") || why.starts_with("only ")
}

/// Whatever went wrong, it is not what the bug does.
fn is_stuck(why: &str) -> bool {
    why.starts_with("no progress")
}

/// What a run on processes came to. What a checker of answers found goes before what the runner saw.
fn attacked(judgement: &Judgement) -> Seen {
    let verdict = &judgement.verdict;
    let convincing = |violation: &&Violation| !is_slow(violation) && !is_crash(violation);
    let mut convincing: Vec<&Violation> = verdict.violations.iter().filter(convincing).collect();
    convincing.sort_by_key(|violation| violation.checker == Checker::Run);
    if let Some(violation) = convincing.first() {
        return Seen::Violation(format!("[{}] {}", violation.checker, violation.sentence));
    }
    let sentences = verdict.violations.iter().map(|one| &one.sentence);
    match sentences.chain(&verdict.inconclusive).next() {
        Some(sentence) => Seen::NoVerdict(sentence.clone()),
        None => Seen::Nothing,
    }
}

/// What a machine that is too busy may bring about as well.
fn is_slow(violation: &Violation) -> bool {
    const SLOW: [&str; 5] = [
        "the cluster did not recover",
        "no read at the end succeeded",
        "a watch of everything came to revision",
        "leases cannot be listed",
        "a member does not tell what it holds",
    ];
    let sentence = &violation.sentence;
    violation.checker == Checker::Run
        && (SLOW.iter().any(|slow| sentence.starts_with(slow)) || sentence.contains(" of SIGTERM"))
}

/// A panic says that something is wrong, and not what.
fn is_crash(violation: &Violation) -> bool {
    violation.checker == Checker::Run && violation.sentence.contains("panicked")
}

#[cfg(test)]
mod tests {
    use keelson_jepsen::check::Verdict;
    use keelson_jepsen::history;

    use super::*;

    #[test]
    fn a_seed_convicts_only_by_what_a_check_says() {
        assert_eq!(
            simulated(Some(0), "seed 1: ok, 2000 answered\n"),
            Seen::Nothing
        );
        let stale = "seed 1: FAILED: a read was stale\n  1.0 s  peace\n1 seeds in 1 s, 1 failed\n";
        let why = "a read was stale".to_owned();
        assert_eq!(simulated(Some(1), stale), Seen::Violation(why));
        for worthless in [
            "seed 1: FAILED: a task panicked: index out of bounds\n",
            "seed 1: FAILED: member 2 has stopped by itself: one of its own tasks panicked\n",
            "seed 1: FAILED: 2 panics, the first: index out of bounds\n",
            "seed 1: FAILED: the run is too small: 3 answered\n",
            "seed 1: FAILED: only 3 operations and 1 faults in 240s\n",
            "seed 1: FAILED: no progress: 60s after the last fault, users must have finished: 1 have not\n",
            "Segmentation fault\n",
        ] {
            let seen = simulated(Some(1), worthless);
            assert!(matches!(seen, Seen::NoVerdict(_)), "{worthless}: {seen:?}");
        }
        assert!(matches!(simulated(None, ""), Seen::NoVerdict(_)));
    }

    fn judged(violations: &[(Checker, &str)]) -> Seen {
        let violation = |(checker, sentence): &(Checker, &str)| Violation {
            checker: *checker,
            sentence: (*sentence).to_owned(),
            operations: Vec::new(),
            watches: Vec::new(),
            at: history::Micros(0),
        };
        attacked(&Judgement {
            run: history::Run::default(),
            operations: 1,
            faults: 1,
            verdict: Verdict {
                violations: violations.iter().map(violation).collect(),
                ..Verdict::default()
            },
        })
    }

    #[test]
    fn a_run_on_processes_convicts_by_its_checkers_and_not_by_being_slow() {
        assert_eq!(judged(&[]), Seen::Nothing);
        let slow = "the cluster did not recover within 90 s after the last fault was healed: m1";
        let panicked = "m1 ended by itself (signal 6); its log ends with: thread panicked at";
        for worthless in [slow, panicked] {
            let seen = judged(&[(Checker::Run, worthless)]);
            assert_eq!(seen, Seen::NoVerdict(worthless.to_owned()));
        }
        let corrupt = (
            Checker::Run,
            "m1: it runs on, though 0000000001.seg is corrupt",
        );
        let lost = (Checker::Set, "Element 3 is lost.");
        assert_eq!(
            judged(&[(Checker::Run, slow), corrupt, lost]),
            Seen::Violation("[set] Element 3 is lost.".to_owned())
        );
        assert!(matches!(judged(&[corrupt]), Seen::Violation(_)));
    }
}
