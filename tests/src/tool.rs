//! Running other people's programs to their end.

use std::process::{Command, Output, Stdio};

use crate::wait;

/// What a program has said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Whether it exited with 0.
    pub success: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs `command` to its end. Panics if that does not come soon, or if it cannot be started.
pub async fn run(mut command: Command) -> Said {
    command.stdin(Stdio::null());
    let name = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    // So that one which hangs ends with the test that it fails.
    command.kill_on_drop(true);
    let output = wait::soon(&format!("the end of {name}"), command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap_or_else(|e| panic!("cannot run {name}: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        success: status.success(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Runs `command`, which must succeed, and gives its standard output.
pub async fn stdout(command: Command) -> String {
    let name = format!("{command:?}");
    let said = run(command).await;
    assert!(
        said.success,
        "{name} failed\n{}\n{}",
        said.stdout, said.stderr
    );
    said.stdout
}
