//! `keelson`: a whole cluster on this machine, with one command.
//!
//! `keelson up` starts members of the store as child processes on loopback, shows how they do, restarts one that
//! dies, and stops them all when it is told to. It guarantees that no member outlives it, that two launchers never
//! share a data directory, and that nothing is started when something is already known to be wrong.
//! It knows the members by their command line and by etcd's API only, so that a real etcd can stand in for `kvd`.

mod cli;
mod cluster;
mod data_dir;
mod down;
mod hints;
mod member;
mod poll;
mod process;
mod screen;
mod status;
mod table;
mod up;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(args) => on_this_thread(up::run(args)),
        Command::Down(args) => on_this_thread(down::run(&args)),
        Command::Status(args) => on_this_thread(status::run(&args)),
        Command::ExecMember(args) => match process::exec_member(&args) {
            Ok(never) => match never {},
            Err(error) => Err(error),
        },
    };
    done.unwrap_or_else(|error| {
        eprintln!("keelson: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs everything on the main thread. A child's death signal is tied to the *thread* that started it, so members
/// must be started by a thread that lives as long as the process.
fn on_this_thread(
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
