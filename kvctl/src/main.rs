//! `kvctl`: the command line of Keelson's store, and of any etcd.
//!
//! Commands, flags, exit codes and the formats `simple`, `fields` and `json` are etcdctl 3.5's, so
//! that scripts keep working; a person at a terminal gets colours, tables and errors that say where
//! and what to try. It talks to servers only through etcd's public API.
//!
//! - [`cli`]: the command line; [`settings`]: its global flags, checked.
//! - [`client`]: connections, failing over, and never sending a write twice; [`raw`]: the calls that
//!   the etcd-client crate cannot express.
//! - [`commands`]: what each command does.
//! - [`output`]: replies in the four formats; [`go`]: Go's text formats, of which they are made.
//! - [`error`]: what goes wrong, how it is told, and the exit codes.

mod cli;
mod client;
mod commands;
mod error;
mod go;
mod output;
mod raw;
mod settings;

use clap::builder::styling::AnsiColor;
use cli::{Command, Refused};
use error::{CtlError, Exit};
use output::{tell, wants_colour};
use settings::Settings;
use std::process::ExitCode;

/// The exit code of a program that SIGPIPE ended, which is how Go programs go.
const BROKEN_PIPE: u8 = 128 + 13;

/// etcdctl's commands that wait for later work.
const COMMANDS_TO_COME: [&str; 8] = [
    "auth",
    "user",
    "role",
    "lock",
    "elect",
    "check",
    "make-mirror",
    "downgrade",
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os().collect(), |name| std::env::var_os(name)) {
        Ok(cli) => cli,
        Err(refused) => return explain(refused),
    };
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::from(BROKEN_PIPE),
        Err(error) => {
            tell(format_args!("{}", with_colour(&error.report())));
            error.exit().into()
        }
    }
}

async fn run(cli: cli::Cli) -> Result<(), CtlError> {
    match cli.command {
        // These two need no server, so a bad setting must not stop them.
        Command::Version => commands::version(),
        Command::Completion(args) => commands::completion(&args),
        command => {
            let settings = Settings::new(&cli.global, &cli.unsupported)?;
            commands::run(&settings, command).await
        }
    }
}

/// The report with its first word in colour, if a person reads it.
fn with_colour(report: &str) -> String {
    match report.strip_prefix("Error:") {
        Some(rest) if wants_colour(&std::io::stderr()) => {
            let red = AnsiColor::Red.on_default().bold();
            format!("{red}Error:{red:#}{rest}")
        }
        _ => report.to_owned(),
    }
}

/// Prints help, or why the command line cannot be used.
fn explain(refused: Refused) -> ExitCode {
    let (error, exit) = match refused {
        Refused::Help(help) => {
            let text = help.render();
            let text = if wants_colour(&std::io::stdout()) {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            // Nobody is left to be told if the pager has gone.
            let _ = output::write_stdout(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Refused::Arguments(error) => (error, Exit::Arguments),
        Refused::Usage(error) => (error, Exit::General),
    };
    if let Some(name) =
        unknown_command(&error).filter(|name| COMMANDS_TO_COME.contains(&name.as_str()))
    {
        tell(format_args!(
            "Error: kvctl has no `{name}` command yet\n  Try: etcdctl {name}, if the server supports it"
        ));
        return Exit::Feature.into();
    }
    // Nothing is left to do if stderr is closed.
    let _ = error.print();
    exit.into()
}

fn unknown_command(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(name)) => Some(name.clone()),
        _ => None,
    }
}
