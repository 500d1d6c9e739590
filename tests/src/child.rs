//! A program that a harness runs, to its end or to a limit: never left behind, and never killed before it could put its
//! own children away.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// So long a program has to end after SIGTERM.
const END_TIME: Duration = Duration::from_secs(20);

/// How a program came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// It was ended, since it took longer than it may.
    Late,
    /// It was ended, since it was not wanted any more.
    Unwanted,
}

/// Runs `command`, with all that it says in the new file `output`, until it has ended, `limit` is over, or `unwanted`
/// ends. If this future is dropped before, the program is sent SIGTERM.
pub async fn run(
    command: &mut Command,
    output: &Path,
    limit: Duration,
    unwanted: impl Future<Output = ()>,
) -> io::Result<Ended> {
    let said = File::create(output)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        // Ctrl-C on a terminal reaches the harness alone, which decides what becomes of the program.
        .process_group(0)
        .spawn()?;
    let mut kept = Kept(child);
    let ended = tokio::select! {
        status = kept.0.wait() => return Ok(Ended::Itself(status?)),
        () = tokio::time::sleep(limit) => Ended::Late,
        () = unwanted => Ended::Unwanted,
    };
    kept.ask_to_end();
    if tokio::time::timeout(END_TIME, kept.0.wait()).await.is_err() {
        kept.0.kill().await?;
    }
    Ok(ended)
}

/// Ends with Ctrl-C, or when this process is told to end.
pub async fn interrupted() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// A program that is told to end when nobody waits for it any more.
struct Kept(Child);

impl Kept {
    fn ask_to_end(&self) {
        // It has no id once it was waited for; until then, no other process can have it.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(process) = id.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(process, Signal::TERM);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_a_program_said_and_how_it_ended_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let output = dir.path().join("output");
        let mut command = shell("echo out; echo err >&2; exit 3");
        let ended = run(&mut command, &output, LONG, pending()).await;
        let Ok(Ended::Itself(status)) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(
            std::fs::read_to_string(output).expect("it is there"),
            "out\nerr\n"
        );
    }

    #[tokio::test]
    async fn one_that_takes_too_long_or_is_not_wanted_may_clean_up_before_it_ends() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let output = dir.path().join("output");
        let script = "trap 'echo cleaned; exit 1' TERM; echo ready; while :; do sleep 0.01; done";
        let limit = Duration::from_secs(1);
        let ended = run(&mut shell(script), &output, limit, pending()).await;
        assert_eq!(ended.expect("sh can be run"), Ended::Late);
        let said = std::fs::read_to_string(&output).expect("it is there");
        assert_eq!(said, "ready\ncleaned\n");
        let ended = run(&mut shell("sleep 60"), &output, LONG, ready(())).await;
        assert_eq!(ended.expect("sh can be run"), Ended::Unwanted);
    }
}
