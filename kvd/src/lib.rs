//! The process around one member: flags, data directory, wiring, the duties that need a clock, shutdown.
//!
//! **Guarantees**: what is wrong with flags, ports or the data directory is one clear line and a non-zero exit, before
//! anything in the data directory is touched; no two processes share one; a termination signal is an orderly stop.
//!
//! **Leaves to others**: everything that a member is once it runs (`keelson-raft`, `keelson-api`).

mod auto_compaction;
mod bootstrap;
pub mod config;
mod config_file;
mod data_dir;
mod disk;
mod duties;
#[cfg(feature = "planted")]
pub mod failpoints;
pub mod flags;
mod listen;
mod logging;
mod measured;
mod own_thread;
mod restore;
mod run;
mod values;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use config::Config;
use flags::{FlagError, Request, Settings};
use mimalloc::MiMalloc;
use rustix::process::{Resource, getrlimit, setrlimit};

/// For RocksDB too: a put allocates some fifty times, and most of it is freed on another thread.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The process: the program on its arguments and its environment.
pub fn process() -> ExitCode {
    // Buffers come and go, and the kernel would clear 2 MiB for each, over and over. Where it cannot be asked, that is only slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    allow_open_files();
    // What is not UTF-8 cannot be a flag or a URL; as a path it is named with the bytes replaced, and not found.
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    let env = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    program(std::env::args_os().skip(1).map(text), env)
}

/// Lets this process open as many files as the system allows, as etcd does. The usual soft limit, which is there for programs of
/// old, is 1,024: a few hundred clients beside the store's files.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Then it has what it had.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The program: reads its arguments, and does what they ask.
pub fn program(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
) -> ExitCode {
    let args: Vec<String> = args.into_iter().collect();
    let result = match restore::command::run(&args) {
        Some(report) => report.and_then(|report| print(&report)),
        None => match flags::parse(args, env) {
            Ok((Request::Help, _)) => print(&flags::help()),
            Ok((Request::Version, _)) => print(&flags::version()),
            Ok((Request::Run(settings), warnings)) => run_member(settings, warnings),
            Err(error) => Err(error.into()),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with its causes: what a person or a launcher shows of a member that did not start. Nobody may be
            // reading.
            let _ = writeln!(std::io::stderr(), "kvd: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line; a cause that the error names itself is not told twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error
        .chain()
        .map(|cause| cause.to_string().replace('\n', " "))
    {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

fn print(page: &str) -> anyhow::Result<()> {
    // Whoever reads only the first lines closes the pipe: that is no failure.
    let _ = std::io::stdout().write_all(page.as_bytes());
    Ok(())
}

fn run_member(settings: Settings, mut warnings: Vec<String>) -> anyhow::Result<()> {
    let settings = from_file(settings, &mut warnings)?;
    warnings.extend(settings.vet()?);
    let config = Config::from_settings(&settings, std::io::stderr().is_terminal())?;
    warnings.extend(config.warnings());
    logging::start(&config.log)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // For what looks after the others: consensus and clients have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run::run(config));
    // Whatever still waits for a disk has had its time.
    runtime.shutdown_background();
    outcome
}

/// The settings of the configuration file, if there is one: then no others count.
fn from_file(settings: Settings, warnings: &mut Vec<String>) -> Result<Settings, FlagError> {
    let Some(file) = settings
        .get("config-file")
        .map(|setting| setting.value.clone())
        .filter(|file| !file.is_empty())
    else {
        return Ok(settings);
    };
    // What must not be ignored is refused wherever it is said.
    settings.vet()?;
    for (flag, setting) in settings
        .iter()
        .filter(|(flag, _)| flag.name != "config-file")
    {
        warnings.push(format!(
            "{} of {} is ignored: {file} counts",
            flag.name, setting.source
        ));
    }
    config_file::read(&file)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice() {
        let error = anyhow!("the disk\nis full")
            .context("cannot write: the disk is full")
            .context("the log");
        assert_eq!(one_line(&error), "the log: cannot write: the disk is full");
        assert_eq!(one_line(&anyhow!("b").context("a")), "a: b");
    }
}
