//! One program of the control plane: its command line, its log, and its process while it has one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::peers;

/// A `keelson` component. Dropping it kills its process.
#[derive(Debug)]
pub struct Program {
    name: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Child>,
    starts: usize,
}

impl Program {
    /// A component that was not started yet: `keelson` with these arguments, and its log in `dir`.
    pub fn new(name: &str, dir: &Path, arguments: &[String]) -> Program {
        Program {
            name: name.to_owned(),
            arguments: arguments.to_vec(),
            log: dir.join(format!("{name}.log")),
            process: None,
            starts: 0,
        }
    }

    /// What the test calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        self.starts
    }

    /// Whether it has a process that was not seen to end.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Starts its process.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let open = File::options().create(true).append(true).open(&self.log);
        let mut log = open.unwrap_or_else(|e| panic!("cannot open {}: {e}", self.log.display()));
        writeln!(log, "--- started").expect("a log in a temporary folder can be written");
        let mut command = Command::new(peers::program("keelson"));
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle can be copied"))
            .stderr(log);
        let process = command.spawn();
        self.process = Some(process.unwrap_or_else(|e| panic!("cannot start {}: {e}", self.name)));
        self.starts += 1;
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself, and then there is nothing left to do.
            let _ = process.kill();
            process.wait().expect("a child can be waited for");
        }
    }

    /// How its process ended, if it has and that was not seen before.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait();
        let status = status.expect("a child can be waited for")?;
        self.process = None;
        Some(status)
    }

    /// All that it has written, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
