//! The commands: each checks its arguments, asks, and prints.

pub mod cluster;
pub mod endpoint;
pub mod kv;
pub mod lease;
pub mod maintenance;
pub mod offline;
pub mod snapshot;
pub mod txn;
pub mod watch;

use crate::cli::Command;
use crate::cli::cluster::{CompletionArgs, Shell};
use crate::error::CtlError;
use crate::output::write_stdout;
use crate::settings::Settings;

/// The API that kvctl speaks and whose output it prints, as `etcdctl version` would say.
const API_VERSION: &str = "3.5";

/// Runs a command.
pub async fn run(settings: &Settings, command: Command) -> Result<(), CtlError> {
    match command {
        Command::Get(args) => kv::get(settings, &args).await,
        Command::Put(args) => kv::put(settings, &args).await,
        Command::Del(args) => kv::del(settings, &args).await,
        Command::Compaction(args) => kv::compaction(settings, &args).await,
        Command::Txn(args) => txn::run(settings, &args).await,
        Command::Watch(args) => watch::run(settings, args).await,
        Command::Lease(command) => lease::run(settings, command).await,
        Command::Member(command) => cluster::run(settings, command).await,
        Command::Endpoint(args) => endpoint::run(settings, &args).await,
        Command::MoveLeader(args) => cluster::move_leader(settings, &args).await,
        Command::Defrag(args) => maintenance::defrag(settings, &args).await,
        Command::Alarm(command) => maintenance::alarm(settings, command).await,
        Command::Snapshot(command) => snapshot::run(settings, command).await,
        Command::Completion(args) => completion(&args),
        Command::Version => version(),
    }
}

/// Prints the script that completes commands. It needs no server, so [`crate::main`] may call it
/// before the settings are checked.
pub fn completion(args: &CompletionArgs) -> Result<(), CtlError> {
    use clap_complete::{Shell as Generator, generate};
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    generate(
        generator,
        &mut crate::cli::completed(),
        "kvctl",
        &mut script,
    );
    write_stdout(&script)
}

/// Prints the version.
pub fn version() -> Result<(), CtlError> {
    let version = env!("CARGO_PKG_VERSION");
    write_stdout(format!("kvctl version: {version}\nAPI version: {API_VERSION}\n").as_bytes())
}

/// Reads a lease's id, which is written in hexadecimal.
fn parse_lease_id(text: &str) -> Result<i64, CtlError> {
    i64::from_str_radix(text, 16).map_err(|error| {
        CtlError::Arguments(format!(
            "bad lease ID {text:?} ({error}), expecting ID in Hex"
        ))
    })
}

/// Reads a member's id, which is written in hexadecimal.
fn parse_member_id(text: &str) -> Result<u64, CtlError> {
    u64::from_str_radix(text, 16).map_err(|error| {
        CtlError::Arguments(format!(
            "bad member ID {text:?} ({error}), expecting ID in Hex"
        ))
    })
}
