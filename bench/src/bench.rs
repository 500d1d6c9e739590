//! The order of a run: workloads, in each the systems in turns, and what is kept after each.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;

use crate::options::Options;
use crate::report::Results;
use crate::report::markdown::{self, number};
use crate::system::{Cluster, System, Timing};
use crate::workload::Workload;
use crate::workload::load::Told;
use crate::workload::run::{Running, prepare};

/// A run of the harness.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    systems: Vec<System>,
    workloads: Vec<Workload>,
    results: Results,
    results_path: PathBuf,
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
        let runs = workloads.len() * systems.len() * options.pairs();
        Ok(Bench {
            options,
            systems,
            workloads,
            results,
            results_path,
            place,
            progress: progress(runs),
        })
    }

    /// Measures everything that was not measured before.
    pub async fn measure(&mut self) -> anyhow::Result<()> {
        if cfg!(debug_assertions) {
            eprintln!("bench: the clients are a debug build: these numbers compare nothing");
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
        let missing = |workload: &&Workload| !self.results.has(&workload.name, system.kind, pair);
        let missing: Vec<&Workload> = group.iter().filter(missing).collect();
        self.progress.inc((group.len() - missing.len()) as u64);
        let Some(first) = missing.first() else {
            return Ok(());
        };
        let what = format!("{}, pair {pair}, {}", system.kind.name(), first.name);
        let mut cluster = self.cluster(first, system, &what).await.context(what)?;
        for workload in missing {
            let what = format!("{}, pair {pair}, {}", system.kind.name(), workload.name);
            self.progress.set_message(what.clone());
            let mut running = Running {
                cluster: &mut cluster,
                effort: self.options.effort(),
            };
            let outcome = running.run(workload).await.context(what.clone())?;
            let mut line = format!("{what}:");
            for (figure, unit) in [
                ("rate", "/s"),
                ("p99_ms", "ms p99"),
                ("server_cpu_us", "µs CPU"),
                ("client_cpu_us", "µs the client's"),
            ] {
                if let Some(value) = outcome.get(figure) {
                    line += &format!(" {} {unit}", number(value));
                }
            }
            if let Some(first) = &outcome.first_failure {
                line += &format!("; {} FAILED, the first with {first}", outcome.failures);
            }
            // A hidden bar swallows what is printed through it.
            self.progress.suspend(|| eprintln!("{line}"));
            self.progress.inc(1);
            self.results.add(workload, system.kind, pair, outcome);
            self.results.save(&self.results_path)?;
        }
        cluster.stop().await
    }

    /// A fresh cluster that holds what the workload needs.
    async fn cluster(
        &self,
        workload: &Workload,
        system: &System,
        what: &str,
    ) -> anyhow::Result<Cluster> {
        self.progress.set_message(format!("{what}: starting"));
        let cluster = Cluster::start(
            system,
            workload.members,
            Timing::default(),
            self.place.path(),
        )
        .await?;
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

    /// Prints what there is.
    pub fn tell(&self) {
        if self.results.workloads.is_empty() {
            return;
        }
        println!("{}", markdown::figures(&self.results));
        if self.systems.len() > 1 {
            println!("\n{}", markdown::ratios(&self.results));
        }
        println!("details in {}", self.results_path.display());
    }

    pub fn failures(&self) -> u64 {
        self.results.failures()
    }
}

fn share_a_cluster(one: &Workload, next: &Workload) -> bool {
    one.members == next.members && one.state == next.state && one.work.only_reads()
}

fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
