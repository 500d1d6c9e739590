//! Where the logs go, and in which form.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

/// How the logs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// What is written: this and what is graver.
    pub level: Level,
    /// In which form.
    pub format: LogFormat,
    /// To which places; all of them get everything.
    pub outputs: Vec<LogOutput>,
    /// Whether people look at standard error.
    pub colour: bool,
}

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Console,
    Json,
}

/// A place for lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogOutput {
    Stderr,
    Stdout,
    File(PathBuf),
}

/// A log file that cannot be opened.
#[derive(Debug, Error)]
#[error("the log file {path} cannot be opened: {source}")]
pub struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Sends what this process logs to the places that were configured.
pub fn start(config: &LogConfig) -> Result<(), LogError> {
    let mut writers = config
        .outputs
        .iter()
        .map(open)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let first = writers
        .next()
        .unwrap_or_else(|| BoxMakeWriter::new(io::stderr));
    let everywhere = writers.fold(first, |all, next| BoxMakeWriter::new(all.and(next)));
    // openraft tells every step at the level of info, and warns at every heartbeat to a member that is down.
    let quiet = if config.level >= Level::DEBUG {
        ""
    } else {
        ",openraft=error"
    };
    let filter = EnvFilter::new(format!("{}{quiet}", config.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // By default it would print that a line could not be printed, and panic in whatever thread that was when nobody
        // reads standard error any more.
        .log_internal_errors(false)
        .with_writer(everywhere);
    match config.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init(),
        LogFormat::Console => {
            let plain = config
                .outputs
                .iter()
                .any(|output| *output != LogOutput::Stderr);
            builder.with_ansi(config.colour && !plain).init();
        }
    }
    Ok(())
}

fn open(output: &LogOutput) -> Result<BoxMakeWriter, LogError> {
    Ok(match output {
        LogOutput::Stderr => BoxMakeWriter::new(io::stderr),
        LogOutput::Stdout => BoxMakeWriter::new(io::stdout),
        LogOutput::File(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            BoxMakeWriter::new(Arc::new(file.map_err(|source| LogError {
                path: path.clone(),
                source,
            })?))
        }
    })
}
