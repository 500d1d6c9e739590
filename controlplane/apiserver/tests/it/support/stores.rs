//! A real store, as a process of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Kvd,
    Etcd,
}

/// A store of one member. Dropping it kills it.
pub struct RunningStore {
    kind: StoreKind,
    process: Child,
    pub endpoint: String,
    peer: String,
    flags: Vec<String>,
    dir: TempDir,
}

impl RunningStore {
    pub async fn start(kind: StoreKind) -> RunningStore {
        let store = RunningStore::launch(kind, "http", Vec::new());
        store.wait().await;
        store
    }

    /// An etcd that speaks TLS, and with clients only whom the authority in `pki` knows.
    pub fn start_secured(pki: &Path) -> RunningStore {
        let file = |name: &str| pki.join(name).display().to_string();
        let flags = vec![
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", file("ca.crt")),
            format!("--cert-file={}", file("apiserver.crt")),
            format!("--key-file={}", file("apiserver.key")),
        ];
        RunningStore::launch(StoreKind::Etcd, "https", flags)
    }

    fn launch(kind: StoreKind, scheme: &str, flags: Vec<String>) -> RunningStore {
        let dir =
            TempDir::with_prefix("keelson-apiserver-").expect("a temporary folder can be made");
        let [client, peer] = free_ports();
        let endpoint = format!("{scheme}://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        RunningStore {
            kind,
            process: spawn(kind, dir.path(), &endpoint, &peer, &flags),
            endpoint,
            peer,
            flags,
            dir,
        }
    }

    /// Kills the store.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again without anything.
    pub async fn start_empty(&mut self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("it can be removed");
        self.start_again().await;
    }

    /// Starts it again on what it had.
    pub async fn start_again(&mut self) {
        self.process = spawn(
            self.kind,
            self.dir.path(),
            &self.endpoint,
            &self.peer,
            &self.flags,
        );
        self.wait().await;
    }

    async fn wait(&self) {
        let mut last = None;
        for _ in 0..200 {
            match etcd_client::Client::connect([&self.endpoint], None).await {
                Ok(mut client) => match client.get("ready", None).await {
                    Ok(_) => return,
                    Err(error) => last = Some(error),
                },
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        panic!("the store does not answer: {last:?}\n{log}");
    }

    /// A client of the store itself.
    pub async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect([&self.endpoint], None)
            .await
            .expect("the store is there")
    }
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(kind: StoreKind, dir: &Path, endpoint: &str, peer: &str, flags: &[String]) -> Child {
    let program = match kind {
        StoreKind::Kvd => ours("kvd"),
        StoreKind::Etcd => program_in_peers("etcd-3.5.1/etcd"),
    };
    let log = std::fs::File::create(dir.join("log")).expect("a log can be made");
    Command::new(program)
        .args(["--name", "m0", "--data-dir"])
        .arg(dir.join("data"))
        .args([
            "--listen-client-urls",
            endpoint,
            "--advertise-client-urls",
            endpoint,
        ])
        .args([
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
        ])
        .args(["--initial-cluster", &format!("m0={peer}")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("the store starts")
}

/// Ports on which nothing listens now, below the range that the kernel gives to outgoing connections: a store that is
/// started again finds its own still free.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let mut held: Vec<TcpListener> = Vec::new();
    while held.len() < N {
        let port = rand::rng().random_range(12_000..32_000);
        held.extend(TcpListener::bind(("127.0.0.1", port)));
    }
    std::array::from_fn(|at| held[at].local_addr().expect("it is bound").port())
}

/// A program of this workspace; `KEELSON_BIN_DIR` overrides where it is looked for.
fn ours(name: &str) -> PathBuf {
    let dir = match std::env::var_os("KEELSON_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let test = std::env::current_exe().expect("a running program has a path");
            let profile = test.parent().and_then(Path::parent);
            profile
                .expect("tests run from target/<profile>/deps")
                .to_owned()
        }
    };
    existing(dir.join(name), "make build")
}

/// A file that `make peers` brings; `KEELSON_PEERS_DIR` overrides where it is looked for.
pub fn program_in_peers(relative: &str) -> PathBuf {
    let dir = match std::env::var_os("KEELSON_PEERS_DIR") {
        Some(dir) => PathBuf::from(dir),
        // Cargo runs tests in their package's directory.
        None => std::path::absolute("../../../target/peers").expect("there is a current directory"),
    };
    existing(dir.join(relative), "make peers")
}

fn existing(path: PathBuf, how: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `{how}`", path.display());
    path
}
