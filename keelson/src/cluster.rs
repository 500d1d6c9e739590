//! What a data directory remembers of its cluster: the members' names and ports, and what runs on them.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The client ports of a cluster of up to three members, when none was asked for: etcd's own convention.
const DEFAULT_PORTS: [u16; 3] = [2379, 22379, 32379];
const DEFAULT_MEMBERS: u8 = 3;
/// On loopback a heartbeat takes microseconds, so a dead leader can be missed soon.
const HEARTBEAT_MS: u32 = 50;
const ELECTION_TIMEOUT_MS: u32 = 300;
const CLUSTER_TOKEN: &str = "keelson";

/// kube-apiserver's own.
const DEFAULT_API_PORT: u16 = 6443;
const DEFAULT_NODES: u8 = 2;

/// A cluster, as its data directory remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// They have the data, so that they stay as they are.
    pub members: Vec<Member>,
    /// It has no data of its own, and may be another at each start.
    #[serde(default)]
    pub control_plane: ControlPlane,
}

/// What runs on the store, unless the store is started alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    pub api_port: u16,
    /// Node agents that are processes of their own.
    pub nodes: u8,
    /// Nodes that share one process.
    pub hollow_nodes: u16,
}

impl Default for ControlPlane {
    fn default() -> ControlPlane {
        ControlPlane {
            api_port: DEFAULT_API_PORT,
            nodes: DEFAULT_NODES,
            hollow_nodes: 0,
        }
    }
}

/// One member's name and ports, all on 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub client_port: u16,
    pub peer_port: u16,
}

impl Cluster {
    /// Gives every member a name and its ports.
    pub fn plan(members: Option<u8>, client_port: Option<u16>) -> anyhow::Result<Cluster> {
        let count = members.unwrap_or(DEFAULT_MEMBERS);
        let member = |(number, client_port): (u16, u16)| Member {
            name: format!("m{number}"),
            client_port,
            peer_port: client_port + 1,
        };
        if client_port.is_none() && usize::from(count) <= DEFAULT_PORTS.len() {
            let members = (1..=u16::from(count))
                .zip(DEFAULT_PORTS)
                .map(member)
                .collect();
            return Ok(Cluster::of(members));
        }
        let first = client_port.unwrap_or(DEFAULT_PORTS[0]);
        let last = u32::from(first) + 2 * u32::from(count) - 1;
        if last > u32::from(u16::MAX) {
            bail!(
                "--client-port {first} leaves no room for {count} members: they would need the ports up to {last}"
            );
        }
        let ports = (first..).step_by(2);
        let members = (1..=u16::from(count)).zip(ports).map(member).collect();
        Ok(Cluster::of(members))
    }

    fn of(members: Vec<Member>) -> Cluster {
        Cluster {
            members,
            control_plane: ControlPlane::default(),
        }
    }

    /// Says, in one line, how what is asked for differs from this cluster, which already has data.
    pub fn refuse_change(
        &self,
        members: Option<u8>,
        client_port: Option<u16>,
        dir: &Path,
    ) -> anyhow::Result<()> {
        let advice = format!(
            "start it without that flag, choose another --data-dir, or remove {}",
            dir.display()
        );
        let have = self.members.len();
        if let Some(asked) = members.filter(|asked| usize::from(*asked) != have) {
            bail!(
                "{} holds a cluster of {have} members, not {asked}: {advice}",
                dir.display()
            );
        }
        let have = self.members.first().map(|member| member.client_port);
        if let (Some(asked), Some(have)) = (client_port, have)
            && self.members
                != Cluster::plan(u8::try_from(self.members.len()).ok(), client_port)?.members
        {
            bail!(
                "{} holds a cluster on {}, which begins at port {have}, not one with --client-port {asked}: {advice}",
                dir.display(),
                self.endpoints().join(",")
            );
        }
        Ok(())
    }

    /// Checks that every port is free, before anything is started.
    pub fn check_ports(&self, store_only: bool) -> anyhow::Result<()> {
        for member in &self.members {
            for port in [member.client_port, member.peer_port] {
                check_port(port, &format!("member {}", member.name), "--client-port")?;
            }
        }
        if !store_only {
            let port = self.control_plane.api_port;
            check_port(port, "the API server", "--api-port")?;
        }
        Ok(())
    }

    /// Whether clients find this cluster without being told where it is.
    pub fn is_at_default_endpoint(&self) -> bool {
        self.members
            .first()
            .is_some_and(|member| member.client_port == DEFAULT_PORTS[0])
    }

    /// `127.0.0.1:port` of each member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// The flags of etcd that make a process this member.
    pub fn flags(&self, member: &Member, dir: &Path) -> Vec<OsString> {
        let client_url = member.client_url();
        let peer_url = member.peer_url();
        let initial_cluster: Vec<String> = self
            .members
            .iter()
            .map(|each| format!("{}={}", each.name, each.peer_url()))
            .collect();
        let pairs: [(&str, OsString); 11] = [
            ("--name", member.name.clone().into()),
            ("--data-dir", dir.join(&member.name).into()),
            ("--listen-client-urls", client_url.clone().into()),
            ("--advertise-client-urls", client_url.into()),
            ("--listen-peer-urls", peer_url.clone().into()),
            ("--initial-advertise-peer-urls", peer_url.into()),
            ("--initial-cluster", initial_cluster.join(",").into()),
            ("--initial-cluster-token", CLUSTER_TOKEN.into()),
            ("--initial-cluster-state", "new".into()),
            ("--heartbeat-interval", HEARTBEAT_MS.to_string().into()),
            ("--election-timeout", ELECTION_TIMEOUT_MS.to_string().into()),
        ];
        pairs
            .into_iter()
            .flat_map(|(flag, value)| [flag.into(), value])
            .collect()
    }
}

fn check_port(port: u16, who: &str, flag: &str) -> anyhow::Result<()> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!(
            "port {port}, which {who} needs, cannot be had (nothing was started; choose another with {flag})"
        )
    })?;
    Ok(())
}

impl Member {
    /// `127.0.0.1:port`, where clients connect.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The URL that clients use.
    pub fn client_url(&self) -> String {
        format!("http://{}", self.endpoint())
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(members: Option<u8>, client_port: Option<u16>) -> Vec<(u16, u16)> {
        let cluster = Cluster::plan(members, client_port).unwrap();
        cluster
            .members
            .iter()
            .map(|member| (member.client_port, member.peer_port))
            .collect()
    }

    #[test]
    fn three_members_take_etcds_customary_ports() {
        assert_eq!(
            ports(None, None),
            [(2379, 2380), (22379, 22380), (32379, 32380)]
        );
        assert_eq!(ports(Some(1), None), [(2379, 2380)]);
    }

    #[test]
    fn a_given_port_or_a_fourth_member_makes_them_consecutive() {
        assert_eq!(ports(Some(2), Some(5000)), [(5000, 5001), (5002, 5003)]);
        assert_eq!(
            ports(Some(4), None),
            [(2379, 2380), (2381, 2382), (2383, 2384), (2385, 2386)]
        );
    }

    #[test]
    fn ports_beyond_the_last_are_refused() {
        assert_eq!(ports(Some(3), Some(65530)).last(), Some(&(65534, 65535)));
        let error = Cluster::plan(Some(3), Some(65531)).unwrap_err().to_string();
        assert!(error.contains("65536"), "{error}");
    }

    #[test]
    fn a_record_from_before_there_was_a_control_plane_has_the_default_one() {
        let record = r#"{"members": [{"name": "m1", "client_port": 2379, "peer_port": 2380}]}"#;
        let cluster: Cluster = serde_json::from_str(record).unwrap();
        assert_eq!(cluster, Cluster::plan(Some(1), None).unwrap());
    }

    #[test]
    fn what_was_recorded_may_be_repeated_but_not_changed() {
        let cluster = Cluster::plan(None, None).unwrap();
        let dir = Path::new("data");
        cluster.refuse_change(None, None, dir).unwrap();
        cluster.refuse_change(Some(3), None, dir).unwrap();
        let error = cluster
            .refuse_change(Some(5), None, dir)
            .unwrap_err()
            .to_string();
        assert!(error.contains("3 members, not 5"), "{error}");
        // 2379 with --client-port means 2379, 2381, 2383: other ports than the default's.
        let error = cluster
            .refuse_change(None, Some(2379), dir)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--client-port 2379"), "{error}");
        let consecutive = Cluster::plan(Some(3), Some(2379)).unwrap();
        consecutive.refuse_change(None, Some(2379), dir).unwrap();
    }
}
