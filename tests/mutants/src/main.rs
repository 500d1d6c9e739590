//! `mutants`: tests the tests. Every bug that `keelson-planted` knows is put into the programs, one at a time, and the
//! harnesses have to find it; without a bug, they must find nothing.

mod court;
mod harness;
mod plan;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use keelson_planted::Bug;
use keelson_tests::{child, ports};
use tokio::task::JoinSet;

use court::{Court, Effort};
use harness::Programs;
use plan::Attempt;

/// Plant one bug after the other, and see that a checker finds it.
///
/// The simulation looks first, then clusters of processes under the nemesis that fits. The first violation that a checker
/// names is a catch; a panic, a run that proved nothing, or one that was only slow is not. Each harness has to find
/// nothing without a bug before it is used. Exits with 0 only if every bug was caught.
#[derive(Parser)]
#[command(name = "mutants", version)]
struct Flags {
    /// Only these bugs, separated by commas
    #[arg(long, value_name = "BUGS", value_delimiter = ',', value_parser = bug)]
    only: Vec<Bug>,
    /// Seeds of the simulation for each bug, at most
    #[arg(long, value_name = "N", default_value_t = 60)]
    seeds: u64,
    /// Runs of each pair of workload and nemesis that fits, at most
    #[arg(long, value_name = "N", default_value_t = 3)]
    tries: u64,
    /// For how long clients work in each of these
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Bugs at once
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    jobs: u32,
    /// A file for the outcomes, one line of JSON each. Bugs that it says were caught are not tried again
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only by the simulation, and only the bugs that can show there: without clusters of processes
    #[arg(long)]
    simulated: bool,
    /// Only list the bugs, with what they do and where they are looked for
    #[arg(long)]
    list: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name);
    found
        .copied()
        .ok_or_else(|| "there is no such bug; `mutants --list` names them".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.list {
        list();
        return ExitCode::SUCCESS;
    }
    match try_all(&flags).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for bug in Bug::ALL {
        let attempts = plan::attempts(*bug).into_iter();
        let attempts: Vec<String> = attempts.map(|attempt| attempt.to_string()).collect();
        println!(
            "{}\n  {}\n  {}",
            bug.name(),
            bug.what(),
            attempts.join(", ")
        );
    }
}

/// Where a bug is looked for.
fn attempts(bug: Bug, simulated: bool) -> Vec<Attempt> {
    let mut attempts = plan::attempts(bug);
    attempts.retain(|attempt| !simulated || *attempt == Attempt::Sim);
    attempts
}

/// Whether all were caught.
async fn try_all(flags: &Flags) -> anyhow::Result<bool> {
    let effort = Effort {
        seeds: flags.seeds,
        tries: flags.tries,
        seconds: flags.seconds,
    };
    let mut outcomes = match &flags.out {
        Some(path) => record::read(path)?,
        None => Vec::new(),
    };
    outcomes.retain(|outcome| outcome.caught.is_some());
    let known = |bug: &&Bug| !outcomes.iter().any(|outcome| outcome.bug == bug.name());
    let wanted = |bug: &&Bug| flags.only.is_empty() || flags.only.contains(bug);
    let mut trials: Vec<(Bug, Vec<Attempt>)> = Bug::ALL
        .iter()
        .filter(wanted)
        .filter(known)
        .map(|bug| (*bug, attempts(*bug, flags.simulated)))
        .filter(|(_, attempts)| !attempts.is_empty())
        .collect();
    let all_attempts: Vec<Attempt> = trials
        .iter()
        .flat_map(|(_, attempts)| attempts.clone())
        .collect();
    let court = Arc::new(Court::new(Programs::find(&all_attempts)?, effort));
    trials.reverse();
    let total = trials.len();
    println!("{total} bugs to be caught, {} on record", outcomes.len());

    let began = Instant::now();
    let mut jobs = JoinSet::new();
    let mut free_ports = ports::shares(flags.jobs as usize);
    let mut done = 0;
    loop {
        while !trials.is_empty()
            && let Some(ports) = free_ports.pop()
            && let Some((bug, attempts)) = trials.pop()
        {
            let court = Arc::clone(&court);
            jobs.spawn(async move { (court.try_bug(bug, attempts, &ports).await, ports) });
        }
        let ended = tokio::select! {
            ended = jobs.join_next() => ended,
            () = child::interrupted() => anyhow::bail!("interrupted"),
        };
        let Some(ended) = ended else { break };
        let (outcome, ports) = ended.context("a trial panicked")?;
        let outcome = outcome?;
        free_ports.push(ports);
        done += 1;
        println!("[{done} of {total}] {}", outcome.line());
        if let Some(path) = &flags.out {
            record::append(path, &outcome)?;
        }
        outcomes.push(outcome);
    }
    let survived = outcomes
        .iter()
        .filter(|outcome| outcome.caught.is_none())
        .count();
    println!(
        "\n{}\n{} bugs, {survived} survived; {:.0} s",
        record::table(&outcomes),
        outcomes.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(survived == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Flags::command().debug_assert();
        assert!(bug("sync-skipped").is_ok());
        assert!(bug("sync-skippe").is_err());
    }
}
