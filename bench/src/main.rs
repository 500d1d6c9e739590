//! Measures stores that speak etcd's API side by side: the same client, machine, disk and durability, one system at a
//! time, in turns (A B A B), on clusters started fresh.
//!
//! A [`workload`] is an entry of a list; a [`system`] is a program that takes etcd's flags. Workloads that only read,
//! and need the same state, share a cluster. What a run shows is a set of figures ([`measure`]), which [`report`] keeps
//! and compares. The [`client`] is our own, since a usual one costs as much as the servers.

mod bench;
mod client;
mod measure;
mod options;
mod report;
mod system;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::bench::Bench;
use crate::options::Options;

fn main() -> ExitCode {
    match work(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

// One thread is enough for a client that costs so little, and leaves the rest to the servers.
#[tokio::main(flavor = "current_thread")]
async fn work(options: Options) -> anyhow::Result<()> {
    if options.list {
        for workload in options.workloads()? {
            let s = if workload.members == 1 { "" } else { "s" };
            println!(
                "{:28} {} member{s}: {}",
                workload.name, workload.members, workload.about
            );
        }
        return Ok(());
    }
    let mut bench = Bench::new(options)?;
    let done = LocalSet::new()
        .run_until(async {
            tokio::select! {
                biased;
                // What was started is killed when the other future is dropped.
                signal = told_to_stop() => signal.and_then(|signal| anyhow::bail!("stopped by {signal}")),
                done = bench.measure() => done,
            }
        })
        .await;
    bench.tell()?;
    done?;
    match bench.failures() {
        0 => Ok(()),
        failures => anyhow::bail!("{failures} operations failed: these numbers compare nothing"),
    }
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
