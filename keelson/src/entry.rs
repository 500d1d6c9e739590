//! The entry points of the components: flags in, one small runtime, logs to standard error, an orderly end on SIGTERM.

use std::io::{IsTerminal, stderr};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// What who asked twice gets: as if the second SIGINT had killed it.
const INTERRUPTED: i32 = 130;

/// A component's own flags, and those that all components have.
#[derive(Debug, Args)]
pub struct Component<A: Args> {
    #[command(flatten)]
    args: A,
    /// What is logged: this and what is graver (error, warn, info, debug or trace)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,
    /// The form of log lines [default: console on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Console,
    Json,
}

/// How many threads a component works on. One costs the least memory, and is enough for what mostly waits.
#[derive(Debug, Clone, Copy)]
pub enum Threads {
    One,
    /// As many as there are processors.
    Many,
}

impl<A: Args> Component<A> {
    /// Runs `work` with the flags until it ends by itself, or a signal cancels its token and it ends in order.
    pub fn run<F>(
        self,
        threads: Threads,
        work: impl FnOnce(A, CancellationToken) -> F,
    ) -> anyhow::Result<ExitCode>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        self.start_log();
        let mut builder = match threads {
            Threads::One => Builder::new_current_thread(),
            Threads::Many => Builder::new_multi_thread(),
        };
        let runtime = builder
            .enable_all()
            .build()
            .context("cannot start threads")?;
        let done = runtime.block_on(async {
            let stop = CancellationToken::new();
            cancel_on_signal(stop.clone())?;
            work(self.args, stop).await
        });
        // What blocks a thread even now has nothing to say any more.
        runtime.shutdown_background();
        done.map(|()| ExitCode::SUCCESS)
    }

    /// As kvd logs, so that one reader understands all logs of a cluster.
    fn start_log(&self) {
        let is_terminal = stderr().is_terminal();
        let format = self.log_format.unwrap_or(match is_terminal {
            true => LogFormat::Console,
            false => LogFormat::Json,
        });
        let builder = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(self.log_level.to_string()))
            .with_writer(stderr);
        match format {
            LogFormat::Console => builder.with_ansi(is_terminal).init(),
            LogFormat::Json => builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .init(),
        }
    }
}

/// The first SIGTERM or SIGINT asks to stop; the second does not wait for that.
fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminations = signal(SignalKind::terminate())?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminations.recv() => {}
                _ = interrupts.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            stop.cancel();
        }
    });
    Ok(())
}
