//! Measures stores that speak etcd's API side by side: the same client, machine, disk and durability, one system at a
//! time, in turns (A B A B), each run on a cluster started fresh.
//!
//! A *workload* is an entry of [`workload::Workload`]; a *system* is a program that takes etcd's flags
//! ([`system::System`]); a *cell* is a combination of members, clients and workload, measured in *rounds*.
//! Clients are closed loops: each sends its next request when the last is answered, so a system that stalls is also
//! asked less. The latencies are those of requests, not of arrivals.

mod drive;
mod options;
mod report;
mod system;
mod usage;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::drive::{Load, drive};
use crate::options::Options;
use crate::report::{Cell, Report};
use crate::system::{Cluster, System};

fn main() -> ExitCode {
    match work(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn work(options: Options) -> anyhow::Result<()> {
    let systems = options.systems()?;
    let place = options.place()?;
    let mut report = Report::new(&options, &systems, place.path())?;
    let done = tokio::select! {
        biased;
        // What was started is killed when the other future is dropped.
        signal = told_to_stop() => signal.and_then(|signal| anyhow::bail!("stopped by {signal}")),
        done = measure(&options, &systems, place.path(), &mut report) => done,
    };
    if !report.cells.is_empty() {
        println!("{}", report.table());
        println!("details in {}", options.json.display());
    }
    done
}

/// Waits for a signal that ends programs; gives its name.
async fn told_to_stop() -> anyhow::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}

/// Runs every cell, and in each cell the systems in turns.
async fn measure(
    options: &Options,
    systems: &[System],
    place: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Now, so that a file that cannot be written is known before an hour has passed.
    report.save(&options.json)?;
    if cfg!(debug_assertions) {
        eprintln!("bench: the clients are a debug build: these numbers compare nothing");
    }
    let runs = options.cells().count() * options.rounds * systems.len();
    eprintln!(
        "{runs} runs of {} s, each after {} s of warm-up: values of {} bytes, {} connections at most, data in {}",
        options.seconds,
        options.warm_up,
        options.value_bytes,
        options.connections,
        place.display()
    );
    let progress = progress(runs);
    for (members, clients, workload) in options.cells() {
        let mut cell = Cell::new(members, clients, workload, systems);
        for round in 1..=options.rounds {
            for (number, system) in systems.iter().enumerate() {
                let what = format!(
                    "{members}-member {}, {} by {clients}, round {round}",
                    system.name,
                    workload.name()
                );
                progress.set_message(what.clone());
                let load = Load {
                    workload,
                    clients,
                    connections: options.connections.min(clients),
                    keys: options.keys,
                    value_bytes: options.value_bytes,
                    warm_up: Duration::from_secs_f64(options.warm_up),
                    measured: Duration::from_secs_f64(options.seconds),
                };
                let cluster = Cluster::start(system, members, place)
                    .await
                    .context(what.clone())?;
                let run = drive(&cluster, &load).await.context(what.clone())?;
                cluster.stop().await?;
                let mut line = format!(
                    "{what}: {:.0} ops/s, p99 {:.2} ms",
                    run.rate(),
                    run.quantile_ms(0.99)
                );
                if let Some(first) = &run.first_failure {
                    line += &format!("; {} FAILED, the first with {first}", run.failures);
                }
                // A hidden bar swallows what is printed through it.
                progress.suspend(|| eprintln!("{line}"));
                progress.inc(1);
                cell.add(number, &run)?;
            }
        }
        report.cells.push(cell);
        report.save(&options.json)?;
    }
    progress.finish_and_clear();
    Ok(())
}

fn progress(runs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs as u64), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len}, {eta} left: {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
