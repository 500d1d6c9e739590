//! `jepsen long`: a campaign of runs, one combination of workload and nemesis after the other, each with a fresh seed.
//!
//! Every run is a process of its own, so that nothing that becomes of one touches another. What has ended is a line in
//! `runs.jsonl`, and that file is all that the campaign knows: an interrupted one goes on from it.

mod combination;
mod log;
mod summary;

use std::collections::HashMap;
use std::fs;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use keelson_jepsen::report::Judgement;
use keelson_tests::child;
use keelson_tests::ports;
use rand::Rng as _;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::nemesis;
use crate::run::Target;
use crate::{date, workload};
use combination::{Combination, Targets};
use log::{Ended, Entry, Log};

/// What a run may take beyond the time that its clients work: starting, recovering, judging, on a busy machine.
const BEYOND: Duration = Duration::from_secs(600);
/// A failure is told in so many characters.
const SAYS: usize = 400;
const KVD: &str = "kvd";
const KVD_FAULTY: &str = "kvd-faulty";

/// Run every workload under every nemesis, and all nemeses at once, each combination by itself with a fresh seed.
///
/// Each run that has ended is a line in DIR/runs.jsonl. A campaign that was interrupted goes on where it was when it is
/// started again with the same directory. What failed is kept in DIR/failures. Exits with 0 only if all runs on record
/// are valid.
#[derive(Args)]
pub struct LongArgs {
    /// Where the record and the failures are, and the programs that are run: copies, so that a build meanwhile does not
    /// change what is tested
    #[arg(long, value_name = "DIR", default_value = "target/jepsen-long")]
    out: PathBuf,
    /// Workloads: names separated by commas, or `all`
    #[arg(long, value_name = "NAMES", default_value = "all")]
    workload: String,
    /// Nemeses: names or groups separated by commas, or `all`, which is each by itself and then all at once
    #[arg(long, value_name = "NAMES", default_value = "all")]
    nemesis: String,
    /// Members in the beginning; several numbers make as many combinations
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "3", value_parser = clap::value_parser!(u32).range(1..=7))]
    members: Vec<u32>,
    /// For how long clients work in each run
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How often each combination is run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// After so many minutes no further run is begun
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Runs at once, each on ports of its own
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    jobs: u32,
    /// What is attacked: `kvd` (and `kvd-faulty`, without a bug, where failpoints are needed), `etcd`, or a program's path
    #[arg(long, value_name = "TARGET", default_value = KVD)]
    target: String,
    /// Clients of the workload
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// Operations a second, of all clients of a run together
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Only tell what is on record
    #[arg(long)]
    summary: bool,
}

/// Runs what is not on record yet until all is, the time is over, or `interrupted` ends. Whether all is valid.
pub async fn campaign(
    args: &LongArgs,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let out = std::path::absolute(&args.out)?;
    let record = out.join("runs.jsonl");
    let entries = if args.summary {
        log::read(&record)?
    } else {
        fs::create_dir_all(&out)
            .with_context(|| format!("--out: cannot create {}", out.display()))?;
        let mut log = Log::open(&record)?;
        let combinations = combinations(args)?;
        let programs = copy_programs(&out, &combinations)?;
        let campaign = Campaign {
            args,
            out,
            programs,
            combinations,
        };
        campaign.run(&mut log, interrupted).await?;
        println!();
        log.into_entries()
    };
    print!("{}", summary::words(&entries));
    Ok(entries.iter().all(|entry| entry.verdict == Ended::Valid))
}

fn combinations(args: &LongArgs) -> anyhow::Result<Vec<Combination>> {
    let workloads = workload::named(&args.workload)?;
    let mixed = args.nemesis == "all";
    let nemeses = nemesis::named(&args.nemesis)?;
    let asked = Target::find(&args.target)?;
    let with_failpoints = if asked.name == KVD && combination::want_failpoints(&nemeses) {
        Some(Target::find(KVD_FAULTY)?)
    } else {
        None
    };
    let targets = Targets {
        asked,
        with_failpoints,
    };
    let all = combination::all(&workloads, &nemeses, mixed, &args.members, &targets);
    if all.is_empty() {
        bail!("{} can have none of these nemeses", args.target);
    }
    Ok(all)
}

/// Copies this program and those under test that are known by name; gives where they are.
fn copy_programs(out: &Path, combinations: &[Combination]) -> anyhow::Result<PathBuf> {
    let dir = out.join("bin");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let copy = |from: &Path, name: &str| {
        let to = dir.join(name);
        // One that still runs cannot be written to, but gives way.
        let _ = fs::remove_file(&to);
        fs::copy(from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
    };
    copy(&std::env::current_exe()?, "jepsen")?;
    for name in [KVD, KVD_FAULTY] {
        if combinations.iter().any(|one| one.target == name) {
            copy(&Target::find(name)?.program, name)?;
        }
    }
    Ok(dir)
}

struct Campaign<'a> {
    args: &'a LongArgs,
    out: PathBuf,
    programs: PathBuf,
    combinations: Vec<Combination>,
}

/// A run to make.
struct Job {
    combination: Combination,
    seed: u64,
    seconds: u64,
    command: Command,
    /// Of the run, with its history and all. What it said lies beside it while it runs.
    dir: PathBuf,
    /// Where that goes if it fails.
    failed: PathBuf,
    /// The ports that are its own.
    ports: String,
}

impl Campaign<'_> {
    async fn run(
        &self,
        log: &mut Log,
        interrupted: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        // What an earlier process left there was not finished.
        let running = self.out.join("running");
        let _ = fs::remove_dir_all(&running);
        fs::create_dir_all(&running)?;
        let mut counts: HashMap<Combination, u64> = HashMap::new();
        for entry in log.entries() {
            *counts.entry(entry.combination.clone()).or_default() += 1;
        }
        let began = Instant::now();
        let limit = self
            .args
            .minutes
            .map(|minutes| Duration::from_secs(minutes * 60));
        let over = || limit.is_some_and(|limit| began.elapsed() >= limit);
        let mut free_ports = ports::shares(self.args.jobs as usize);
        let mut jobs = JoinSet::new();
        let (stop, stopped) = watch::channel(false);
        tokio::pin!(interrupted);
        loop {
            while !*stop.borrow()
                && !over()
                && let Some(ports) = free_ports.pop()
            {
                let mut random = rand::rng();
                let rounds = self.args.rounds;
                let next = combination::next(&self.combinations, &counts, rounds, &mut random);
                let Some(combination) = next else { break };
                *counts.entry(combination.clone()).or_default() += 1;
                let job = self.job(
                    combination,
                    random.random_range(1..=u64::from(u32::MAX)),
                    ports,
                );
                jobs.spawn(job.run(stopped.clone()));
            }
            let left = self.left(&counts) + jobs.len() as u64;
            tell_progress(left, jobs.len());
            tokio::select! {
                ended = jobs.join_next() => {
                    let Some(ended) = ended else { return Ok(()) };
                    let (entry, ports) = ended.context("a run's keeper panicked")?;
                    free_ports.push(ports);
                    if let Some(entry) = entry? {
                        tell(&summary::line(&entry));
                        log.append(entry)?;
                    }
                }
                () = &mut interrupted, if !*stop.borrow() => {
                    tell("interrupted: what runs is ended, and will be run again");
                    stop.send_replace(true);
                }
            }
        }
    }

    /// How many runs are not begun.
    fn left(&self, counts: &HashMap<Combination, u64>) -> u64 {
        let left = |combination: &Combination| {
            let begun = counts.get(combination).copied().unwrap_or_default();
            self.args.rounds.saturating_sub(begun)
        };
        self.combinations.iter().map(left).sum()
    }

    fn job(&self, combination: &Combination, seed: u64, ports: String) -> Job {
        let Combination {
            workload,
            nemesis,
            members,
            target,
        } = combination;
        let name = format!("{workload}-{nemesis}-{members}-{seed}");
        let dir = self.out.join("running").join(&name);
        let mut command = Command::new(self.programs.join("jepsen"));
        command
            .args([
                "--workload",
                workload,
                "--nemesis",
                nemesis,
                "--target",
                target,
            ])
            .args([
                "--members",
                &members.to_string(),
                "--seed",
                &seed.to_string(),
            ])
            .args(["--seconds", &self.args.seconds.to_string()])
            .args(["--clients", &self.args.clients.to_string()])
            .args(["--rate", &self.args.rate.to_string()])
            .arg("--out")
            .arg(&dir)
            .env("KEELSON_BIN_DIR", &self.programs)
            .env(ports::VARIABLE, &ports);
        Job {
            combination: combination.clone(),
            seed,
            seconds: self.args.seconds,
            command,
            dir,
            failed: self.out.join("failures").join(name),
            ports,
        }
    }
}

impl Job {
    /// Runs it. No entry if it was stopped; the ports are free again in any case.
    async fn run(
        mut self,
        mut stopped: watch::Receiver<bool>,
    ) -> (anyhow::Result<Option<Entry>>, String) {
        let stopped = async move {
            // It is not closed before the campaign is over.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let entry = self.entry(stopped).await;
        (entry, self.ports)
    }

    async fn entry(&mut self, stopped: impl Future<Output = ()>) -> anyhow::Result<Option<Entry>> {
        let began = date::now();
        let clock = Instant::now();
        let output = self.dir.with_extension("txt");
        let limit = Duration::from_secs(self.seconds) + BEYOND;
        let ended = child::run(&mut self.command, &output, limit, stopped)
            .await
            .with_context(|| format!("cannot run {:?}", self.command.as_std().get_program()))?;
        let (verdict, judgement, says) = match ended {
            child::Ended::Unwanted => {
                self.remove(&output);
                return Ok(None);
            }
            child::Ended::Late => {
                let says = format!("it did not end within {} s", limit.as_secs());
                (Ended::Error, None, Some(says))
            }
            child::Ended::Itself(status) => self.judged(status.code(), &output),
        };
        let directory = if verdict == Ended::Valid {
            self.remove(&output);
            None
        } else {
            Some(self.keep(&output)?)
        };
        Ok(Some(Entry {
            began,
            seed: self.seed,
            combination: self.combination.clone(),
            seconds: self.seconds,
            took: clock.elapsed().as_secs_f64(),
            operations: judgement.as_ref().map_or(0, |one| one.operations),
            faults: judgement.as_ref().map_or(0, |one| one.faults),
            verdict,
            says: says.map(|says| says.chars().take(SAYS).collect()),
            directory,
        }))
    }

    fn judged(
        &self,
        code: Option<i32>,
        output: &Path,
    ) -> (Ended, Option<Judgement>, Option<String>) {
        let judgement = Judgement::read(&self.dir).ok();
        let Some(verdict) = judgement.as_ref().map(|judgement| &judgement.verdict) else {
            let said = fs::read_to_string(output).unwrap_or_default();
            let why = said.lines().rfind(|line| line.starts_with("jepsen: "));
            let last = || said.lines().rfind(|line| !line.trim().is_empty());
            return (Ended::Error, None, why.or_else(last).map(str::to_owned));
        };
        match (verdict.violations.first(), verdict.inconclusive.first()) {
            (Some(violation), _) => {
                let says = format!("[{}] {}", violation.checker, violation.sentence);
                (Ended::Invalid, judgement, Some(says))
            }
            (None, Some(sentence)) => {
                let says = sentence.clone();
                (Ended::Inconclusive, judgement, Some(says))
            }
            (None, None) if code == Some(0) => (Ended::Valid, judgement, None),
            (None, None) => {
                let says = format!("valid, and yet it ended with {code:?}");
                (Ended::Error, judgement, Some(says))
            }
        }
    }

    fn remove(&self, output: &Path) {
        // What stays behind is removed when the next campaign begins.
        let _ = fs::remove_dir_all(&self.dir);
        let _ = fs::remove_file(output);
    }

    /// Moves what there is to the failures.
    fn keep(&self, output: &Path) -> anyhow::Result<PathBuf> {
        let failed = &self.failed;
        let keep = || -> std::io::Result<()> {
            fs::create_dir_all(failed.parent().unwrap_or(failed))?;
            if self.dir.is_dir() {
                fs::rename(&self.dir, failed)?;
            } else {
                fs::create_dir_all(failed)?;
            }
            fs::rename(output, failed.join("output.txt"))
        };
        keep().with_context(|| format!("cannot keep what failed in {}", failed.display()))?;
        Ok(failed.clone())
    }
}

/// A line for a person.
fn tell(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    println!("{line}");
}

/// How far it has come, on a terminal, where the next line is written over it.
fn tell_progress(left: u64, running: usize) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Whoever has closed stderr does not want to know.
        let _ = write!(out, "\r\x1b[K{left} to go, {running} running").and_then(|()| out.flush());
    }
}
