//! A whole cluster as a tree of processes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::rest::Rest;
use crate::measure::usage::{descendants, program};
use crate::system::System;
use crate::system::cluster::{free_pair, free_ports};
use crate::system::member::last_line;

const READY_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(10);

/// What `keelson up` started.
#[derive(Debug)]
pub struct Whole {
    launcher: Child,
    log: PathBuf,
    store: PathBuf,
    pub began: Instant,
    pub rest: Rest,
    _dir: TempDir,
}

impl Whole {
    /// Starts it on one member of the system, and waits until its API answers.
    pub async fn start(
        keelson: &Path,
        system: &System,
        hollow_nodes: usize,
        place: &Path,
    ) -> anyhow::Result<Whole> {
        let dir = tempfile::Builder::new()
            .prefix("whole-")
            .tempdir_in(place)?;
        // The member's peers get the port above its clients'.
        let client_port = free_pair()?;
        let api_port = *free_ports(1)?.first().context("a port was asked for")?;
        let data = dir.path().join("data");
        let log = dir.path().join("up.log");
        let output = std::fs::File::create(&log)?;
        let began = Instant::now();
        let launcher = Command::new(keelson)
            .args(["up", "--members", "1", "--nodes", "0"])
            .args(["--hollow-nodes", &hollow_nodes.to_string()])
            .args(["--client-port", &client_port.to_string()])
            .args(["--api-port", &api_port.to_string()])
            .arg("--data-dir")
            .arg(&data)
            .arg("--kvd")
            .arg(&system.program)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", keelson.display()))?;
        let mut whole = Whole {
            launcher,
            log,
            store: system.program.canonicalize()?,
            began,
            rest: Rest::none(),
            _dir: dir,
        };
        whole.rest = whole.connect(&data.join("kubeconfig")).await?;
        Ok(whole)
    }

    async fn connect(&mut self, kubeconfig: &Path) -> anyhow::Result<Rest> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(ended) = self.launcher.try_wait()? {
                bail!(
                    "keelson up ended by itself ({ended}); its last line: {}",
                    last_line(&self.log)
                );
            }
            match client(kubeconfig).await {
                Ok(rest) => return Ok(rest),
                Err(error) if Instant::now() > deadline => {
                    return Err(
                        error.context(format!("the API does not answer after {READY_MAX:?}"))
                    );
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Every process of the cluster.
    pub fn pids(&self) -> Vec<u32> {
        let launcher = self.launcher.id();
        launcher
            .into_iter()
            .flat_map(|pid| std::iter::once(pid).chain(descendants(pid)))
            .collect()
    }

    /// All but the store's.
    pub fn control_plane_pids(&self) -> Vec<u32> {
        let is_store = |pid: &u32| program(*pid).is_some_and(|program| program == self.store);
        self.pids()
            .into_iter()
            .filter(|pid| !is_store(pid))
            .collect()
    }

    /// The process that runs a component.
    pub fn component(&self, name: &str) -> anyhow::Result<Pid> {
        let runs = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(name.as_bytes())
        };
        let found = self
            .pids()
            .into_iter()
            .find(runs)
            .and_then(|pid| Pid::from_raw(pid as i32));
        found.with_context(|| format!("no process runs {name}"))
    }

    /// Stops everything in order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.tell(Signal::TERM);
        timeout(STOP_MAX, self.launcher.wait())
            .await
            .context("keelson up does not end")??;
        Ok(())
    }

    fn tell(&self, signal: Signal) {
        if let Some(pid) = self.launcher.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            // An error means that it has ended.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Whole {
    /// Where it was not stopped, because something failed: the launcher stops what it started.
    fn drop(&mut self) {
        if self.launcher.id().is_none() {
            return;
        }
        let mut pids = self.pids();
        self.tell(Signal::TERM);
        let deadline = std::time::Instant::now() + STOP_MAX;
        while matches!(self.launcher.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // What a launcher left behind that did not end in time.
        pids.retain(|pid| {
            std::fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false)
                && matches!(self.launcher.try_wait(), Ok(None))
        });
        for pid in pids.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A client whose server answers that it is ready.
async fn client(kubeconfig: &Path) -> anyhow::Result<Rest> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let rest = Rest::new(Client::try_from(config)?);
    rest.get("/api/v1/namespaces/default").await?;
    Ok(rest)
}
