//! Starts the real launcher with real members, and waits for what it says.
//!
//! Members are `kvd` from the same build, or the program that KEELSON_KVD names (it takes etcd's flags).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use etcd_client::Client;
use k8s_openapi::api::apps::v1::Deployment;
use keelson_component::ConnectArgs;
use kube::Api;
use kube::api::PostParams;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything may take before the test fails.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What three members need.
const MEMBER_PORTS: u16 = 6;
/// Lines that a launcher may say before its test reads them.
const LINES_AHEAD: usize = 10_000;

/// A place of a test's own: a directory, ports, and the machine's only cluster meanwhile.
pub struct Place {
    _alone: File,
    dir: TempDir,
    pub port: u16,
}

impl Place {
    /// Waits until no other test runs a cluster, since their timing would disturb each other.
    pub fn alone() -> Place {
        let uid = rustix::process::getuid().as_raw();
        let lock = std::env::temp_dir().join(format!("keelson-tests-{uid}.lock"));
        let lock = File::create(&lock).expect("the lock file can be made");
        lock.lock().expect("the lock can be had");
        Place {
            _alone: lock,
            dir: tempfile::tempdir().expect("a temporary directory"),
            port: free_ports(MEMBER_PORTS + 1),
        }
    }

    /// The cluster's data directory, which the launcher makes.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `keelson up` of a store alone in this place, on its ports.
    pub fn up(&self, members: u8) -> Command {
        let mut up = self.again();
        up.args(["--members", &members.to_string()]);
        up.args(["--client-port", &self.port.to_string()]);
        up
    }

    /// The same once more, of which the directory knows the rest.
    pub fn again(&self) -> Command {
        let mut up = self.keelson("up");
        up.arg("--store-only");
        up
    }

    /// `keelson up` of a store of one member and a control plane, on this place's ports.
    pub fn whole(&self) -> Command {
        let mut up = self.keelson("up");
        up.args(["--members", "1"]);
        up.args(["--client-port", &self.port.to_string()]);
        up.args(["--api-port", &self.api_port().to_string()]);
        up
    }

    /// The API server's, behind those of the members.
    pub fn api_port(&self) -> u16 {
        self.port + MEMBER_PORTS
    }

    pub fn keelson(&self, command: &str) -> Command {
        keelson(command, &self.data())
    }
}

fn keelson(command: &str, data: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_keelson"));
    let kvd = program.with_file_name("kvd");
    assert!(
        std::env::var_os("KEELSON_KVD").is_some() || kvd.is_file(),
        "{} is missing: build it, or let KEELSON_KVD name another member program",
        kvd.display()
    );
    let mut keelson = Command::new(program);
    keelson
        .arg(command)
        .arg("--data-dir")
        .arg(data)
        .stdin(Stdio::null());
    keelson
}

/// The first of `count` ports in a row that nobody listens on, below those that the kernel gives to clients.
fn free_ports(count: u16) -> u16 {
    (23_000..32_000)
        .step_by(usize::from(count))
        .find(|first| (*first..first + count).all(is_free))
        .expect("some ports are free")
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Runs a command to its end.
pub fn output(mut command: Command) -> (ExitStatus, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    (
        status,
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

/// A running `keelson up` whose output is a pipe.
pub struct Up {
    child: Child,
    lines: Receiver<String>,
    /// All that it has said so far.
    pub said: Vec<String>,
}

impl Up {
    pub fn start(mut command: Command) -> Up {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("keelson starts");
        let stdout = child.stdout.take().expect("it is piped");
        Up::reading(child, stdout)
    }

    /// Reads both of its outputs, which its command joins.
    pub fn start_with_stderr(command: Command) -> Up {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", r#"exec "$@" 2>&1"#, "sh"])
            .arg(command.get_program());
        shell.args(command.get_args()).stdin(Stdio::null());
        Up::start(shell)
    }

    /// Starts on a terminal of its own, 200 columns wide.
    pub fn start_on_terminal(mut command: Command) -> Up {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let terminal = openpt(flags).expect("a terminal can be had");
        grantpt(&terminal).expect("it is ours");
        unlockpt(&terminal).expect("it can be opened");
        let size = Winsize {
            ws_row: 40,
            ws_col: 200,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("it has a size");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name");
        let far_side = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a path"))
            .expect("it opens");
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        let child = command.stdout(far_side).spawn().expect("keelson starts");
        // The command holds the far side too: the terminal would never end.
        drop(command);
        Up::reading(child, File::from(terminal))
    }

    fn reading(child: Child, stdout: impl Read + Send + 'static) -> Up {
        let (send, lines) = sync_channel(LINES_AHEAD);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Up {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// Starts, and waits until the cluster can be used.
    pub fn ready(command: Command) -> Up {
        let mut up = Up::start(command);
        up.wait_for("ready; ");
        up
    }

    /// Waits for a line that contains `part`, and gives it.
    pub fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(end) => panic!(
                    "{end:?} before {part:?} was said; until then:\n{}",
                    self.said.join("\n")
                ),
            }
        }
    }

    /// Waits for its end, and takes in the rest of what it said.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end:\n{}", self.said.join("\n"))
                }
            }
        }
        self.child.wait().expect("it can be waited for")
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }
}

impl Drop for Up {
    /// A failed test leaves nothing behind: SIGKILL of the launcher stops its members.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, signal).expect("it can be signalled");
}

/// All pids, as the launcher recorded them.
pub fn pids(data: &Path) -> Vec<u32> {
    named_pids(data).into_iter().map(|(_, pid)| pid).collect()
}

/// The pid of the process of that name.
pub fn pid_of(data: &Path, name: &str) -> u32 {
    let pids = named_pids(data);
    let found = pids.iter().find(|(running, _)| running == name);
    found.unwrap_or_else(|| panic!("{name} runs: {pids:?}")).1
}

fn named_pids(data: &Path) -> Vec<(String, u32)> {
    let text = std::fs::read(data.join("running.json")).expect("the launcher keeps a record");
    let parts: Value = serde_json::from_slice(&text).expect("it is JSON");
    let pid = |part: &Value| {
        let pid = u32::try_from(part["process"]["pid"].as_u64()?).ok()?;
        Some((part["name"].as_str()?.to_owned(), pid))
    };
    let parts = parts.as_array().expect("a list");
    parts.iter().filter_map(pid).collect()
}

/// Waits until a condition holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// A put, and a linearizable get, by way of one member.
pub fn put(port: u16, key: &str, value: &str) {
    on(port, async move |client| {
        client.put(key, value, None).await.map(|_| ())
    });
}

pub fn get(port: u16, key: &str) -> Option<String> {
    on(port, async move |client| {
        let answer = client.get(key, None).await?;
        Ok(answer
            .kvs()
            .first()
            .map(|kv| kv.value_str().expect("a text").to_owned()))
    })
}

/// Makes a deployment, as somebody with this kubeconfig.
pub fn create_deployment(kubeconfig: &Path, name: &str, replicas: i32) {
    let labels = json!({"app": name});
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
            },
        },
    });
    let deployment: Deployment = serde_json::from_value(object).expect("a deployment");
    let connect = ConnectArgs {
        kubeconfig: Some(kubeconfig.to_owned()),
    };
    runtime().block_on(async {
        let client = connect.connect("a-person").await.expect("a client").client;
        let params = PostParams {
            field_manager: Some("a-person".to_owned()),
            ..PostParams::default()
        };
        let deployments: Api<Deployment> = Api::namespaced(client, "default");
        deployments
            .create(&params, &deployment)
            .await
            .expect("it is made");
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn on<T>(port: u16, call: impl AsyncFnOnce(&mut Client) -> Result<T, etcd_client::Error>) -> T {
    let answer = runtime().block_on(async {
        tokio::time::timeout(LIMIT, async {
            let mut client = Client::connect([format!("http://127.0.0.1:{port}")], None).await?;
            call(&mut client).await
        })
        .await
    });
    answer.expect("an answer in time").expect("success")
}
