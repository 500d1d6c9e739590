//! The order of a run: workloads, in each the systems in turns, and what is kept after each.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;

use crate::measure::figures::named;
use crate::measure::{Outcome, Syncs};
use crate::options::Options;
use crate::report::Results;
use crate::report::{charts, markdown};
use crate::system::{Cluster, Kind, System};
use crate::workload::load::Told;
use crate::workload::run::{Running, prepare};
use crate::workload::{Work, Workload, controlplane};

/// A run of the harness.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    systems: Vec<System>,
    workloads: Vec<Workload>,
    results: Results,
    place: TempDir,
    progress: ProgressBar,
}

impl Bench {
    pub fn new(options: Options) -> anyhow::Result<Bench> {
        let systems = options.systems()?;
        let workloads = options.workloads()?;
        let place = options.place()?;
        std::fs::create_dir_all(&options.out)
            .with_context(|| format!("cannot make {}", options.out.display()))?;
        let results_path = options.out.join("results.json");
        let mut results = Results::new(&options, &systems)?;
        if options.go_on {
            results = results.go_on(&results_path)?;
        }
        // Now, so that a file that cannot be written is known before an hour has passed.
        results.save(&results_path)?;
        let pairs: usize = workloads
            .iter()
            .map(|workload| options.pairs_of(workload))
            .sum();
        let runs = pairs * systems.len();
        Ok(Bench {
            options,
            systems,
            workloads,
            results,
            place,
            progress: progress(runs),
        })
    }

    /// Measures everything that was not measured before.
    pub async fn measure(&mut self) -> anyhow::Result<()> {
        if cfg!(debug_assertions) {
            eprintln!("bench: the clients are a debug build: these numbers compare nothing");
        }
        if self.results.setting.syncs.is_none() {
            self.progress.set_message("how long a sync takes");
            let place = self.place.path().to_owned();
            let probe = tokio::task::spawn_blocking(move || Syncs::probe(&place));
            self.results.setting.syncs = Some(probe.await??);
        }
        let workloads = self.workloads.clone();
        for group in workloads.chunk_by(share_a_cluster) {
            for pair in 1..=self.options.pairs() {
                for system in self.systems.clone() {
                    self.group(group, &system, pair).await?;
                }
            }
        }
        self.progress.finish_and_clear();
        Ok(())
    }

    /// Measures workloads that need the same state on one cluster.
    async fn group(
        &mut self,
        group: &[Workload],
        system: &System,
        pair: usize,
    ) -> anyhow::Result<()> {
        let wanted: Vec<&Workload> = group
            .iter()
            .filter(|workload| pair <= self.options.pairs_of(workload))
            .collect();
        let missing = |workload: &&Workload| !self.results.has(&workload.name, system.kind, pair);
        let missing: Vec<&Workload> = wanted.iter().copied().filter(missing).collect();
        self.progress.inc((wanted.len() - missing.len()) as u64);
        let Some(first) = missing.first() else {
            return Ok(());
        };
        let what =
            |workload: &Workload| format!("{}, pair {pair}, {}", system.kind.name(), workload.name);
        let started = match first.work {
            Work::ControlPlane(_) => Ok(None),
            _ => self.cluster(first, system, &what(first)).await.map(Some),
        };
        let mut cluster = match started {
            Ok(cluster) => cluster,
            Err(error) => return self.give_up(missing, system, pair, &error),
        };
        let mut rest = missing.into_iter();
        while let Some(workload) = rest.next() {
            self.progress.set_message(what(workload));
            match self
                .run(workload, system, pair, cluster.as_mut(), &what(workload))
                .await
            {
                Ok(outcome) => self.keep(workload, system, pair, outcome)?,
                Err(error) => {
                    self.keep(workload, system, pair, failed(&error))?;
                    // What state the cluster is in now, nobody knows.
                    let error = anyhow::anyhow!("{} failed on the same cluster", workload.name);
                    return self.give_up(rest, system, pair, &error);
                }
            }
        }
        match cluster {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }

    /// Notes that some workloads came to nothing.
    fn give_up<'a>(
        &mut self,
        workloads: impl IntoIterator<Item = &'a Workload>,
        system: &System,
        pair: usize,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        workloads
            .into_iter()
            .try_for_each(|workload| self.keep(workload, system, pair, failed(error)))
    }

    /// Shows and saves what came out.
    fn keep(
        &mut self,
        workload: &Workload,
        system: &System,
        pair: usize,
        outcome: Outcome,
    ) -> anyhow::Result<()> {
        let line = format!(
            "{}, pair {pair}, {}",
            system.kind.name(),
            in_short(workload, &outcome)
        );
        // A hidden bar swallows what is printed through it.
        self.progress.suspend(|| eprintln!("{line}"));
        self.progress.inc(1);
        self.results.add(workload, system.kind, pair, outcome);
        self.results.save(&self.out("results.json"))
    }

    async fn run(
        &self,
        workload: &Workload,
        system: &System,
        pair: usize,
        cluster: Option<&mut Cluster>,
        what: &str,
    ) -> anyhow::Result<Outcome> {
        let effort = self.options.effort();
        let place = self.place.path();
        match (workload.work, cluster) {
            (Work::ControlPlane(aspect), _) => {
                controlplane::measure(aspect, &self.options.keelson()?, system, place, effort).await
            }
            (_, Some(cluster)) => {
                let mut running = Running {
                    cluster,
                    effort,
                    told: &self.told(what),
                    reference: self.results.outcome(&workload.name, Kind::Etcd, pair),
                };
                let outcome = running.run(workload).await?;
                running.cluster.check()?;
                Ok(outcome)
            }
            (_, None) => bail!("no cluster was started"),
        }
    }

    /// A fresh cluster that holds what the workload needs.
    async fn cluster(
        &self,
        workload: &Workload,
        system: &System,
        what: &str,
    ) -> anyhow::Result<Cluster> {
        self.progress.set_message(format!("{what}: starting"));
        let cluster =
            Cluster::start(system, workload.members, workload.timing, self.place.path()).await?;
        prepare(workload.state, &cluster, &self.told(what)).await?;
        Ok(cluster)
    }

    /// Shows how much is laid down.
    fn told(&self, what: &str) -> Told {
        let (progress, what) = (self.progress.clone(), what.to_owned());
        let laid = Cell::new(0);
        Rc::new(move |more| {
            laid.set(laid.get() + more);
            progress.set_message(format!("{what}: {} laid down", laid.get()));
        })
    }

    /// Prints what there is, and writes tables and plots.
    pub fn tell(&self) -> anyhow::Result<()> {
        if self.results.workloads.is_empty() {
            return Ok(());
        }
        println!("{}\n", markdown::figures(&self.results));
        println!("{}\n", markdown::others(&self.results));
        println!("{}\n", markdown::ratios(&self.results));
        std::fs::write(self.out("results.md"), markdown::page(&self.results))
            .context("cannot write results.md")?;
        charts::draw_all(&self.results, &self.options.out)?;
        println!(
            "all of it, with plots, is in {}",
            self.options.out.display()
        );
        Ok(())
    }

    fn out(&self, file: &str) -> PathBuf {
        self.options.out.join(file)
    }

    pub fn failures(&self) -> u64 {
        self.results.failures()
    }
}

/// A run that came to nothing. The others go on: hours may have been spent on them.
fn failed(error: &anyhow::Error) -> Outcome {
    Outcome {
        failures: 1,
        first_failure: Some(format!("{error:#}")),
        ..Outcome::default()
    }
}

/// A line that tells what came out, as far as it is known by one run.
fn in_short(workload: &Workload, outcome: &Outcome) -> String {
    let marked = workload.marks.iter().map(|mark| mark.figure.as_str());
    let mut names: Vec<&str> = ["rate", "p99_ms", "server_cpu_us", "client_cpu_us"]
        .into_iter()
        .chain(marked)
        .collect();
    names.dedup();
    let mut line = format!("{}:", workload.name);
    let mut told = Vec::new();
    for name in names {
        if let Some(value) = outcome.get(name)
            && !told.contains(&name)
        {
            told.push(name);
            let figure = named(name);
            line += &format!(
                " {} {} {};",
                figure.title,
                markdown::number(value),
                figure.unit
            );
        }
    }
    if let Some(first) = &outcome.first_failure {
        line += &format!(" {} FAILED, the first with {first}", outcome.failures);
    }
    line
}

fn share_a_cluster(one: &Workload, next: &Workload) -> bool {
    one.members == next.members
        && one.timing == next.timing
        && one.state == next.state
        && one.work.only_reads()
        && next.work.only_reads()
}

fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
