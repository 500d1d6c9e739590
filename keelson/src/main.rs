//! `keelson`: a whole cluster on this machine, with one command, and the components that it consists of.
//!
//! `keelson up` starts members of the store and the control plane as child processes on loopback, shows how they do,
//! restarts one that dies, and stops them all when it is told to. It guarantees that no child outlives it, that two
//! launchers never share a data directory, and that nothing is started when something is already known to be wrong.
//! It knows the members by their command line and by etcd's API only, so that a real etcd can stand in for `kvd`, and
//! the control plane by its command lines and Kubernetes' API.

mod cli;
mod cluster;
mod data_dir;
mod down;
mod entry;
mod hints;
mod kubeconfig;
mod part;
mod poll;
mod process;
mod row;
mod screen;
mod stages;
mod status;
mod supervise;
mod table;
mod trace;
mod up;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::entry::Threads;

fn main() -> ExitCode {
    process::allow_open_files();
    let done = match Cli::parse().command {
        Command::Up(args) => on_this_thread(up::run(args)),
        Command::Down(args) => on_this_thread(down::run(&args)),
        Command::Status(args) => on_this_thread(status::run(&args)),
        Command::Trace(args) => on_this_thread(trace::run(args)),
        Command::Apiserver(component) => component.run(Threads::Many, keelson_apiserver::run),
        Command::Controllers(component) => component.run(Threads::One, keelson_controllers::run),
        Command::Scheduler(component) => component.run(Threads::One, keelson_scheduler::run),
        Command::Node(component) => component.run(Threads::One, keelson_node::run),
        Command::ExecBound(args) => match process::exec_bound(&args) {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("keelson: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs everything on the main thread. A child's death signal is tied to the *thread* that started it, so children
/// must be started by a thread that lives as long as the process.
fn on_this_thread(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
