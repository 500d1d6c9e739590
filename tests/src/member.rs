//! One server process: its flags, its files, and the signals that it is sent.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::peers::Server;
use crate::ports;
use crate::wait;

/// How many of its last lines a member's log shows when a test fails.
const TAIL_LINES: usize = 40;

/// A member and, while it runs, its process. Dropping it kills the process.
#[derive(Debug)]
pub struct Member {
    program: PathBuf,
    name: String,
    client_port: u16,
    peer_port: u16,
    /// Where its peers are told to dial: `peer_port`, or a proxy in front of it.
    advertised_peer_port: u16,
    environment: Vec<(String, OsString)>,
    /// What is put before the program on its command line: another program, which runs it.
    through: Vec<OsString>,
    /// Holds `data` and `log`.
    dir: PathBuf,
    process: Option<Child>,
}

impl Member {
    /// A member that was not started yet, with free ports and a folder of its own under `parent`.
    pub fn new(server: Server, name: &str, parent: &Path) -> Member {
        Member::of_program(server.program(), name, parent)
    }

    /// The same of any program that takes etcd's flags.
    pub fn of_program(program: PathBuf, name: &str, parent: &Path) -> Member {
        let [client_port, peer_port] = ports::free();
        let dir = parent.join(name);
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("cannot create {}: {e}", dir.display()));
        Member {
            program,
            name: name.to_owned(),
            client_port,
            peer_port,
            advertised_peer_port: peer_port,
            environment: Vec::new(),
            through: Vec::new(),
            dir,
            process: None,
        }
    }

    /// Has its peers dial this port of loopback instead of its own: that of a proxy which leads to
    /// [`Member::peer_port`].
    pub fn behind_proxy(mut self, port: u16) -> Member {
        self.advertised_peer_port = port;
        self
    }

    /// Starts it with this variable in its environment.
    pub fn with_environment(mut self, name: &str, value: impl Into<OsString>) -> Member {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs it through another program, which must become it without a process in between.
    pub fn through(mut self, words: Vec<OsString>) -> Member {
        self.through = words;
        self
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients reach it.
    pub fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Where its peers reach it.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.advertised_peer_port)
    }

    /// Where it listens to its peers, which may come through a proxy.
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// The folder of its own that holds its data and its log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The id of its process, while it was started and not ended by us.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Its part of `--initial-cluster`.
    pub fn initial_cluster_entry(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Its data directory, which it creates itself.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A client of this member alone.
    pub fn client(&self) -> Client {
        Client::new(&self.client_url())
    }

    /// Whether its process was started and not ended by us.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Starts the process on whatever is in its data directory. `joining` are the flags that say how it finds
    /// its cluster, `extra` those of the test.
    pub fn start(&mut self, joining: &[String], extra: &[String]) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let mut command = self.command();
        command.args(joining).args(extra);
        let mut log = self.open_log();
        writeln!(log, "--- {command:?}").expect("a log in a temporary folder can be written");
        let stdout = log.try_clone().expect("an open file can be opened again");
        command.stdin(Stdio::null()).stdout(stdout).stderr(log);
        let program = command.get_program().to_owned();
        self.process = Some(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("cannot start {program:?}: {e}")),
        );
    }

    /// The program with the flags that every start has, and none of the caller's environment that it would read.
    pub fn command(&self) -> Command {
        let mut command = match self.through.split_first() {
            None => Command::new(&self.program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.program);
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD") {
                command.env_remove(name);
            }
        }
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .arg(format!("--listen-client-urls={}", self.client_url()))
            .arg(format!("--advertise-client-urls={}", self.client_url()))
            .arg(format!(
                "--listen-peer-urls=http://127.0.0.1:{}",
                self.peer_port
            ))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()));
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let mut process = self
            .process
            .take()
            .expect("only a running member is signalled");
        process.wait().expect("a child can be waited for");
    }

    /// SIGSTOP: the member answers nothing, yet its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit().await
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let process = self.process.as_mut()?;
        let status = process.try_wait().expect("a child can be waited for")?;
        self.process = None;
        Some(status)
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let process = self
            .process
            .as_mut()
            .unwrap_or_else(|| panic!("{} was not started", self.name));
        let status = wait::until(&what, async || {
            process
                .try_wait()
                .expect("a child can be waited for")
                .ok_or("its process still runs")
        });
        let status = status.await;
        self.process = None;
        status
    }

    /// Panics with the log if the process has ended though nobody asked it to.
    pub fn assert_running(&mut self) {
        let Some(process) = self.process.as_mut() else {
            panic!("{} was not started", self.name)
        };
        if let Some(status) = process.try_wait().expect("a child can be waited for") {
            panic!(
                "{} ended by itself ({status}); its log ends with\n{}",
                self.name,
                self.log_tail()
            );
        }
    }

    /// All that it has written, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) {
        let process = self
            .process
            .as_ref()
            .unwrap_or_else(|| panic!("{} was not started", self.name));
        // The process is ours and not waited for yet, so its id cannot belong to another one.
        kill_process(Pid::from_child(process), signal)
            .unwrap_or_else(|e| panic!("cannot send {signal:?} to {}: {e}", self.name));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn open_log(&self) -> File {
        let path = self.log_path();
        let log = File::options().create(true).append(true).open(&path);
        log.unwrap_or_else(|e| panic!("cannot open {}: {e}", path.display()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself, and then there is nothing left to do.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
