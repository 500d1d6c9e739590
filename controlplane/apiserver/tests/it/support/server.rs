//! The API server in this process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use keelson_apiserver::{Args, run};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::stores::free_ports;
use super::{Client, RunningStore};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A server on a store. Dropping it stops it.
pub struct Server {
    pub port: u16,
    dir: TempDir,
    stop: CancellationToken,
    _on_drop: DropGuard,
    task: JoinHandle<anyhow::Result<()>>,
    store: RunningStore,
}

impl Server {
    /// A server that asks for no service accounts, since nobody makes them here.
    pub async fn start(store: RunningStore) -> Server {
        Server::start_with(store, &[]).await
    }

    pub async fn start_with(store: RunningStore, flags: &[&str]) -> Server {
        let dir =
            TempDir::with_prefix("keelson-apiserver-").expect("a temporary folder can be made");
        Server::launch(store, dir, flags).await
    }

    /// Stops this server and starts another on the same store, with the same certificates.
    pub async fn restart(self) -> Server {
        self.restart_with(&[]).await
    }

    /// The same, with other flags.
    pub async fn restart_with(self, flags: &[&str]) -> Server {
        let Server {
            dir,
            stop,
            task,
            store,
            ..
        } = self;
        stop.cancel();
        task.await
            .expect("the server does not panic")
            .expect("the server ends well");
        Server::launch(store, dir, flags).await
    }

    /// Another server on the same store, until the token is cancelled.
    pub fn start_beside(&self) -> (u16, CancellationToken, JoinHandle<anyhow::Result<()>>) {
        let [port] = free_ports();
        let args = Cli::parse_from([
            "apiserver".to_owned(),
            format!("--etcd-servers={}", self.store.endpoint),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", self.dir.path().join("beside").display()),
        ])
        .args;
        let stop = CancellationToken::new();
        (port, stop.clone(), tokio::spawn(run(args, stop)))
    }

    async fn launch(store: RunningStore, dir: TempDir, flags: &[&str]) -> Server {
        let [port] = free_ports();
        let pki = dir.path().join("pki");
        let mut line = vec![
            "apiserver".to_owned(),
            format!("--etcd-servers={}", store.endpoint),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", pki.display()),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        line.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let args = Cli::parse_from(line).args;
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(args, stop.clone()));
        let server = Server {
            port,
            dir,
            _on_drop: stop.clone().drop_guard(),
            stop,
            task,
            store,
        };
        server.wait().await;
        server
    }

    /// Until it is ready, and what is always there is there.
    async fn wait(&self) {
        for _ in 0..400 {
            assert!(!self.task.is_finished(), "the server has ended");
            let path = "/api/v1/namespaces/default/endpoints/kubernetes";
            if self.admin_gets(path).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the server is not ready");
    }

    async fn admin_gets(&self, path: &str) -> bool {
        let Ok(client) = Client::of(self.port, &self.pki(), Some("admin")) else {
            return false;
        };
        client
            .try_get(path)
            .await
            .is_some_and(|reply| reply.code == 200)
    }

    pub fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A client with one of the certificates, or without any.
    pub fn client(&self, certificate: Option<&str>) -> Client {
        Client::of(self.port, &self.pki(), certificate).expect("the certificates are there")
    }

    pub fn store(&self) -> &RunningStore {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut RunningStore {
        &mut self.store
    }
}
