//! A system under measurement, and a cluster of it: started fresh in a directory of its own, on loopback.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::kv_client::KvClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{RangeRequest, StatusRequest};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// How long a cluster may take until every member answers a linearizable read.
const READY_MAX: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(50);
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often a member that was killed is looked at, where nothing can be awaited.
const LOOK: Duration = Duration::from_millis(2);
/// The same for every system, and never reached: a full store is another measurement.
const QUOTA_BYTES: &str = "8589934592";

/// A program that takes etcd's flags and serves its API.
#[derive(Debug, Clone)]
pub struct System {
    pub name: &'static str,
    pub program: PathBuf,
    /// What it says of itself.
    pub version: String,
}

/// Running members; killed and waited for when dropped.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    /// The members' client URLs, the leader's first.
    pub endpoints: Vec<String>,
    _dir: TempDir,
}

#[derive(Debug)]
struct Member {
    process: Child,
    url: String,
    log: PathBuf,
}

impl System {
    /// Takes note of a program, which must be able to say its version.
    pub fn new(name: &'static str, program: &Path) -> anyhow::Result<System> {
        let output = std::process::Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let output =
            output.with_context(|| format!("cannot run {} as {name}", program.display()))?;
        if !output.status.success() {
            bail!("{} --version fails: is it a server?", program.display());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.lines().next().unwrap_or("unknown").to_owned();
        Ok(System {
            name,
            program: program.to_owned(),
            version,
        })
    }
}

impl Cluster {
    /// Starts members with empty data below `place`, and waits until all of them serve.
    pub async fn start(system: &System, members: usize, place: &Path) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(place)?;
        let ports = free_ports(2 * members)?;
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let (client_urls, peer_urls): (Vec<String>, Vec<String>) = ports
            .iter()
            .zip(ports.iter().skip(members))
            .map(|(client, peer)| (url(client), url(peer)))
            .unzip();
        let initial: Vec<String> = peer_urls
            .iter()
            .enumerate()
            .map(|(n, url)| format!("m{n}={url}"))
            .collect();
        let initial = initial.join(",");

        let mut started = Vec::with_capacity(members);
        for (number, (client_url, peer_url)) in client_urls.iter().zip(&peer_urls).enumerate() {
            let name = format!("m{number}");
            let log = dir.path().join(format!("{name}.log"));
            let output = std::fs::File::create(&log)?;
            let process = Command::new(&system.program)
                .args(["--name", &name])
                .arg("--data-dir")
                .arg(dir.path().join(&name))
                .args([
                    "--listen-client-urls",
                    client_url,
                    "--advertise-client-urls",
                    client_url,
                ])
                .args([
                    "--listen-peer-urls",
                    peer_url,
                    "--initial-advertise-peer-urls",
                    peer_url,
                ])
                .args([
                    "--initial-cluster",
                    &initial,
                    "--initial-cluster-state",
                    "new",
                ])
                .args(["--quota-backend-bytes", QUOTA_BYTES])
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start {}", system.program.display()))?;
            started.push(Member {
                process,
                url: client_url.clone(),
                log,
            });
        }
        let mut cluster = Cluster {
            members: started,
            endpoints: client_urls,
            _dir: dir,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// The members' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .filter_map(|member| member.process.id())
            .collect()
    }

    /// Ends the members; their data is of no use to anyone.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            if let Some(ended) = member.process.try_wait()? {
                return Err(ended_by_itself(&member.log, ended));
            }
            member.process.start_kill()?;
        }
        for member in &mut self.members {
            timeout(STOP_MAX, member.process.wait())
                .await
                .context("a member does not end")??;
        }
        Ok(())
    }

    /// Every member must have answered a linearizable read, and one must lead.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_MAX;
        let mut leader = 0;
        for (number, member) in self.members.iter_mut().enumerate() {
            loop {
                if let Some(ended) = member.process.try_wait()? {
                    return Err(ended_by_itself(&member.log, ended));
                }
                match answers(&member.url).await {
                    Ok(leads) => {
                        leader = if leads { number } else { leader };
                        break;
                    }
                    Err(error) if Instant::now() > deadline => {
                        return Err(error
                            .context(format!("{} is not ready after {READY_MAX:?}", member.url)));
                    }
                    Err(_) => sleep(RETRY).await,
                }
            }
        }
        self.endpoints.swap(0, leader);
        Ok(())
    }
}

impl Drop for Cluster {
    /// Ends what still runs, and waits for it: a member that still wrote would keep its directory from being deleted.
    fn drop(&mut self) {
        for member in &mut self.members {
            // An error means that it has ended.
            let _ = member.process.start_kill();
        }
        let deadline = Instant::now() + STOP_MAX;
        for member in &mut self.members {
            while matches!(member.process.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// Whether the member leads, if it answers a linearizable read.
async fn answers(url: &str) -> anyhow::Result<bool> {
    let channel = connect(url).await?;
    let read = RangeRequest {
        key: "ready".into(),
        ..RangeRequest::default()
    };
    timeout(
        Duration::from_secs(2),
        KvClient::new(channel.clone()).range(read),
    )
    .await??;
    let status = MaintenanceClient::new(channel)
        .status(StatusRequest::default())
        .await?
        .into_inner();
    Ok(status
        .header
        .is_some_and(|header| header.member_id == status.leader))
}

/// A connection of its own.
pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    Ok(endpoint.connect().await?)
}

fn ended_by_itself(log: &Path, ended: ExitStatus) -> anyhow::Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing");
    anyhow::anyhow!("a member ended by itself ({ended}); its last line: {last}")
}

/// Ports that nobody has; all are held until all are found, so that none comes twice.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listen = |_| TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    let listeners: Vec<TcpListener> = (0..count).map(listen).collect::<Result<_, _>>()?;
    let ports: Vec<u16> = listeners
        .iter()
        .filter_map(|one| Some(one.local_addr().ok()?.port()))
        .collect();
    if ports.len() != count {
        bail!("no {count} ports are free");
    }
    Ok(ports)
}
