//! A cluster of a system: started fresh in a directory of its own, on loopback.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use keelson_proto::etcdserverpb::MemberAddRequest;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::member::{Member, READY_MAX, connect};
use super::{Kind, System};

/// The same for every system, and never reached: a full store is another measurement.
const QUOTA_BYTES: &str = "17179869184";
const RETRY: Duration = Duration::from_millis(20);

/// Running members; killed and waited for when dropped.
#[derive(Debug)]
pub struct Cluster {
    pub kind: Kind,
    program: PathBuf,
    pub members: Vec<Member>,
    /// `name=peer URL` of each.
    peers: Vec<String>,
    /// The members' client URLs, that of the first leader first.
    pub endpoints: Vec<String>,
    dir: TempDir,
}

/// Heartbeats and elections, in milliseconds; etcd's defaults are 100 and 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    pub heartbeat_ms: u32,
    pub election_ms: u32,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat_ms: 100,
            election_ms: 1000,
        }
    }
}

impl Cluster {
    /// Starts members with empty data below `place`, and waits until all of them serve.
    pub async fn start(
        system: &System,
        members: usize,
        timing: Timing,
        place: &Path,
    ) -> anyhow::Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(place)?;
        let ports = free_ports(2 * members)?;
        let (client_ports, peer_ports) = ports.split_at(members);
        let peers: Vec<String> = peer_ports
            .iter()
            .enumerate()
            .map(|(number, port)| format!("m{number}={}", url(*port)))
            .collect();
        let mut cluster = Cluster {
            kind: system.kind,
            program: system.program.clone(),
            members: Vec::new(),
            peers,
            endpoints: client_ports.iter().map(|port| url(*port)).collect(),
            dir,
        };
        for number in 0..members {
            let member = cluster.start_member(number, "new", timing)?;
            cluster.members.push(member);
        }
        for member in &mut cluster.members {
            member.ready().await?;
        }
        let leader = cluster.leader().await?;
        cluster.endpoints.swap(0, leader);
        Ok(cluster)
    }

    fn start_member(&self, number: usize, state: &str, timing: Timing) -> anyhow::Result<Member> {
        let name = format!("m{number}");
        let peer = self.peers.get(number).and_then(|peer| peer.split_once('='));
        let (_, peer) = peer.context("no such member")?;
        let flags = [
            "--name",
            &name,
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            &self.peers.join(","),
            "--initial-cluster-state",
            state,
            "--quota-backend-bytes",
            QUOTA_BYTES,
            "--heartbeat-interval",
            &timing.heartbeat_ms.to_string(),
            "--election-timeout",
            &timing.election_ms.to_string(),
        ];
        let flags = flags.iter().map(OsString::from).collect();
        let url = self.endpoints.get(number).context("no such member")?;
        Member::start(&self.program, url, &self.dir.path().join(&name), flags)
    }

    /// Adds a member by the API, and starts it. It is not ready yet.
    pub async fn add_member(&mut self) -> anyhow::Result<()> {
        let [client, peer] = free_ports(2)?[..] else {
            bail!("no ports are free");
        };
        let request = MemberAddRequest {
            peer_ur_ls: vec![url(peer)],
            is_learner: false,
        };
        let first = self.endpoints.first().context("a cluster has members")?;
        ClusterClient::new(connect(first).await?)
            .member_add(request)
            .await?;
        let number = self.members.len();
        self.peers.push(format!("m{number}={}", url(peer)));
        self.endpoints.push(url(client));
        let member = self.start_member(number, "existing", Timing::default())?;
        self.members.push(member);
        Ok(())
    }

    /// Which member leads, by its place in `members`.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            for (number, member) in self.members.iter().enumerate() {
                if member.pid().is_some() && member.leads().await.unwrap_or(false) {
                    return Ok(number);
                }
            }
            if Instant::now() > deadline {
                bail!("nobody leads after {READY_MAX:?}");
            }
            sleep(RETRY).await;
        }
    }

    /// The members' processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::pid).collect()
    }

    /// What the members' data takes on the disk.
    pub fn disk_bytes(&self) -> anyhow::Result<u64> {
        let sizes = self
            .members
            .iter()
            .map(|member| super::member::disk_bytes(&member.data_dir));
        sizes.sum()
    }

    /// Fails if a member has ended without having been told to.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(Member::check)
    }

    /// Ends the members; their data is of no use to anyone.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for member in &mut self.members {
            member.kill().await?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    /// Ends what still runs, and waits for it: a member that still wrote would keep its directory from being deleted.
    fn drop(&mut self) {
        for member in &mut self.members {
            member.end_now();
        }
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Ports that nobody has; all are held until all are found, so that none comes twice.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
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

/// A port that nobody has, nor the one above it.
pub fn free_pair() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let port = first.local_addr()?.port();
        let next = port
            .checked_add(1)
            .map(|next| SocketAddrV4::new(Ipv4Addr::LOCALHOST, next));
        if next.is_some_and(|next| TcpListener::bind(next).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no two neighbouring ports are free")
}
