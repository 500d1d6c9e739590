//! A real etcd 3.5.1 and its etcdctl, to compare `kvctl` with.
//!
//! They are taken from `$KEELSON_ETCD_DIR`, or from `target/peers/etcd-3.5.1` where `make peers`
//! puts them. A test that needs them and does not find them fails: it has nothing to say otherwise.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where etcd's programs are.
pub fn etcd_dir() -> PathBuf {
    let directory = match std::env::var_os("KEELSON_ETCD_DIR") {
        Some(directory) => PathBuf::from(directory),
        // Cargo runs tests in their package's directory.
        None => {
            std::path::absolute("../target/peers/etcd-3.5.1").expect("there is a current directory")
        }
    };
    for program in ["etcd", "etcdctl"] {
        assert!(
            directory.join(program).is_file(),
            "no {program} in {}: run `make peers`, or set KEELSON_ETCD_DIR to a directory with etcd 3.5.1",
            directory.display()
        );
    }
    directory
}

/// One member of an etcd cluster.
pub struct Member {
    /// Its client port on 127.0.0.1.
    pub port: u16,
    peer_port: u16,
    name: String,
    process: Option<Child>,
}

/// A cluster of etcd, killed when dropped.
pub struct Etcd {
    /// The members.
    pub members: Vec<Member>,
    directory: TempDir,
    initial_cluster: String,
    more_flags: Vec<String>,
}

impl Etcd {
    /// Starts a cluster and waits until it serves.
    pub fn start(size: usize, more_flags: &[&str]) -> Self {
        let members: Vec<Member> = (0..size)
            .map(|index| Member {
                port: free_port(),
                peer_port: free_port(),
                name: format!("m{index}"),
                process: None,
            })
            .collect();
        let initial: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        let mut etcd = Self {
            members,
            directory: tempfile::tempdir().unwrap(),
            initial_cluster: initial.join(","),
            more_flags: more_flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        for index in 0..size {
            etcd.start_member(index);
        }
        etcd.await_ready();
        etcd
    }

    /// Starts a member, on its old data if it ran before.
    pub fn start_member(&mut self, index: usize) {
        let member = &mut self.members[index];
        let client = format!("http://127.0.0.1:{}", member.port);
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        let process = Command::new(etcd_dir().join("etcd"))
            .args([
                "--name",
                &member.name,
                "--initial-cluster",
                &self.initial_cluster,
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .arg("--data-dir")
            .arg(self.directory.path().join(&member.name))
            .args(&self.more_flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        member.process = Some(process);
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// All endpoints, separated by commas.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.port))
            .collect();
        endpoints.join(",")
    }

    /// The index of the member that leads, once there is one.
    pub fn leader(&self) -> usize {
        let leads = |member: &Member| {
            let endpoint = format!("127.0.0.1:{}", member.port);
            let status = etcdctl(&endpoint, &["endpoint", "status"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&status.stdout).split(", ").nth(4) == Some("true")
        };
        await_some("a leader", || self.members.iter().position(leads))
    }

    /// The process id of a member that runs.
    pub fn pid(&self, index: usize) -> u32 {
        self.members[index]
            .process
            .as_ref()
            .expect("the member runs")
            .id()
    }

    /// Waits until all members serve.
    pub fn await_ready(&self) {
        await_some("etcd to serve", || {
            let health = etcdctl(&self.endpoints(), &["endpoint", "health"])
                .output()
                .unwrap();
            health.status.success().then_some(())
        });
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}

/// A port that nobody listened on a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Polls until there is something.
pub fn await_some<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One of the two below.
pub type Program = fn(&str, &[&str]) -> Command;

/// `kvctl`, with nothing in its environment that could change what it does.
pub fn kvctl(endpoints: &str, args: &[&str]) -> Command {
    command(env!("CARGO_BIN_EXE_kvctl").into(), endpoints, args)
}

/// The real etcdctl, likewise.
pub fn etcdctl(endpoints: &str, args: &[&str]) -> Command {
    command(etcd_dir().join("etcdctl"), endpoints, args)
}

fn command(program: PathBuf, endpoints: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .arg(format!("--endpoints={endpoints}"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("ETCDCTL_API", "3");
    command
}

/// Runs a command to its end with this on stdin.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that reads no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// A program that runs until it is killed, and what it has printed so far.
pub struct Running {
    process: Child,
    output: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Running {
    /// Starts it.
    pub fn start(command: Command) -> Self {
        Self::start_with_stderr(command, Stdio::inherit())
    }

    /// Starts it, and has what it says on stderr go there.
    pub fn start_with_stderr(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let output = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (mut stdout, sink) = (process.stdout.take().unwrap(), output.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut chunk) {
                sink.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self { process, output }
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.process.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until what it has printed satisfies this, and gives it.
    pub fn await_printed(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let printed = self.printed();
            if holds(&printed) {
                return printed;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited in vain for {what}; printed so far:\n{printed}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end, and gives its exit code.
    pub fn await_exit(mut self) -> Option<i32> {
        await_some("the end of the program", || {
            self.process.try_wait().unwrap()
        })
        .code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Member {
    /// Its peer port on 127.0.0.1.
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }
}
