//! The processes that a cluster consists of: what each is, and how it is started.

use std::ffi::OsString;

use crate::cluster::{Cluster, ControlPlane, Member};
use crate::data_dir::DataDir;

/// Of 10.244.0.0/16, a /24 for each node: node-1 has 10.244.1.0/24.
const NODE_RANGE: &str = "10.244";
/// Hollow nodes take a /24 each from here on.
const HOLLOW_RANGE: &str = "10.245.0.0/24";
/// Where nodes and elected components keep the Leases that say that they live.
const NODE_LEASES: &str = "kube-node-lease";
const SYSTEM_LEASES: &str = "kube-system";
/// On loopback, and with a launcher that starts a dead component again at once, nobody need wait 15 s for its Lease.
const ELECTION: [(&str, &str); 3] = [
    ("--leader-elect-lease-duration", "5s"),
    ("--leader-elect-renew-deadline", "3s"),
    ("--leader-elect-retry-period", "500ms"),
];

/// What depends on what: a stage is started when the one before it can be used, and stopped before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Store,
    Api,
    Clients,
}

impl Stage {
    /// In the order in which they start.
    pub const ALL: [Stage; 3] = [Stage::Store, Stage::Api, Stage::Clients];
}

/// One process of a cluster.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is called in the table, and its log.
    pub name: String,
    pub kind: Kind,
}

/// What it is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A member of the store.
    Member(Member),
    ApiServer {
        port: u16,
    },
    /// A client of the API server. It works while it renews a Lease there.
    Client {
        lease: Lease,
        /// `keelson`'s arguments, without where the API server is.
        arguments: Vec<OsString>,
        /// As whom it speaks to the API server: one of the kubeconfigs that this makes.
        kubeconfig: &'static str,
    },
}

/// A Lease's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub namespace: &'static str,
    pub name: String,
}

impl Part {
    /// All that a cluster consists of, in the order of the table; members come first.
    pub fn all_of(cluster: &Cluster, store_only: bool) -> Vec<Part> {
        let members = cluster.members.iter().map(Part::member);
        if store_only {
            return members.collect();
        }
        members
            .chain(control_plane(&cluster.control_plane))
            .collect()
    }

    fn member(member: &Member) -> Part {
        Part {
            name: member.name.clone(),
            kind: Kind::Member(member.clone()),
        }
    }

    pub fn stage(&self) -> Stage {
        match self.kind {
            Kind::Member(_) => Stage::Store,
            Kind::ApiServer { .. } => Stage::Api,
            Kind::Client { .. } => Stage::Clients,
        }
    }

    /// Its port for clients, if it has clients.
    pub fn port(&self) -> Option<u16> {
        match &self.kind {
            Kind::Member(member) => Some(member.client_port),
            Kind::ApiServer { port } => Some(*port),
            Kind::Client { .. } => None,
        }
    }

    /// The URL that its clients use.
    pub fn url(&self) -> Option<String> {
        match &self.kind {
            Kind::Member(member) => Some(member.client_url()),
            Kind::ApiServer { port } => Some(format!("https://127.0.0.1:{port}")),
            Kind::Client { .. } => None,
        }
    }

    /// The arguments of its program: a member's are etcd's flags, all others' are `keelson`'s.
    pub fn arguments(&self, cluster: &Cluster, dir: &DataDir) -> Vec<OsString> {
        match &self.kind {
            Kind::Member(member) => cluster.flags(member, dir.path()),
            Kind::ApiServer { port } => {
                let members = cluster.members.iter().map(Member::client_url);
                let store = members.collect::<Vec<_>>().join(",");
                let pairs = [
                    ("--etcd-servers", store.into()),
                    ("--secure-port", port.to_string().into()),
                    ("--cert-dir", dir.pki().into_os_string()),
                ];
                line("apiserver", pairs)
            }
            Kind::Client {
                arguments,
                kubeconfig,
                ..
            } => {
                let file = dir.component_kubeconfig(kubeconfig);
                let mut line = arguments.clone();
                line.extend(["--kubeconfig".into(), file.into_os_string()]);
                line
            }
        }
    }
}

fn control_plane(plan: &ControlPlane) -> Vec<Part> {
    let mut parts = vec![
        Part {
            name: "apiserver".to_owned(),
            kind: Kind::ApiServer {
                port: plan.api_port,
            },
        },
        elected(
            "controllers",
            "controller-manager",
            "kube-controller-manager",
        ),
        elected("scheduler", "scheduler", "kube-scheduler"),
    ];
    parts.extend((1..=plan.nodes).map(|number| {
        let name = format!("node-{number}");
        let range = format!("{NODE_RANGE}.{number}.0/24");
        let lease = name.clone();
        node(name, lease, &[("--pod-cidr", range)])
    }));
    if plan.hollow_nodes > 0 {
        let flags = [
            ("--count", plan.hollow_nodes.to_string()),
            ("--pod-cidr", HOLLOW_RANGE.to_owned()),
        ];
        // They are made known in order: once the last is, all are.
        let last = format!("hollow-{}", plan.hollow_nodes - 1);
        parts.push(node("hollow".to_owned(), last, &flags));
    }
    parts
}

fn elected(command: &'static str, kubeconfig: &'static str, lease: &str) -> Part {
    Part {
        name: command.to_owned(),
        kind: Kind::Client {
            lease: Lease {
                namespace: SYSTEM_LEASES,
                name: lease.to_owned(),
            },
            arguments: line(command, ELECTION.map(|(flag, value)| (flag, value.into()))),
            kubeconfig,
        },
    }
}

fn node(name: String, lease: String, flags: &[(&'static str, String)]) -> Part {
    let named = [("--name", name.clone())];
    let pairs = named.iter().chain(flags);
    let arguments = line("node", pairs.map(|(flag, value)| (*flag, value.into())));
    Part {
        name,
        kind: Kind::Client {
            lease: Lease {
                namespace: NODE_LEASES,
                name: lease,
            },
            arguments,
            kubeconfig: "node",
        },
    }
}

fn line(command: &str, pairs: impl IntoIterator<Item = (&'static str, OsString)>) -> Vec<OsString> {
    let flags = pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.into(), value]);
    std::iter::once(command.into()).chain(flags).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn cluster(nodes: u8, hollow_nodes: u16) -> Cluster {
        let control_plane = ControlPlane {
            api_port: 6443,
            nodes,
            hollow_nodes,
        };
        Cluster {
            control_plane,
            ..Cluster::plan(None, None).unwrap()
        }
    }

    fn command_of(name: &str, cluster: &Cluster) -> String {
        let parts = Part::all_of(cluster, false);
        let part = parts.iter().find(|part| part.name == name).unwrap();
        let dir = DataDir::at(Path::new("/d"));
        let arguments = part.arguments(cluster, &dir);
        let words: Vec<&str> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_cluster_is_its_members_and_the_control_plane_unless_only_the_store_is_wanted() {
        let names = |store_only| {
            let parts = Part::all_of(&cluster(2, 0), store_only);
            parts.into_iter().map(|part| part.name).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["m1", "m2", "m3"]);
        assert_eq!(
            names(false),
            [
                "m1",
                "m2",
                "m3",
                "apiserver",
                "controllers",
                "scheduler",
                "node-1",
                "node-2"
            ]
        );
    }

    #[test]
    fn components_are_told_where_those_are_that_they_need() {
        let cluster = cluster(1, 0);
        assert_eq!(
            command_of("apiserver", &cluster),
            "apiserver --etcd-servers http://127.0.0.1:2379,http://127.0.0.1:22379,http://127.0.0.1:32379 \
             --secure-port 6443 --cert-dir /d/pki"
        );
        assert_eq!(
            command_of("scheduler", &cluster),
            "scheduler --leader-elect-lease-duration 5s --leader-elect-renew-deadline 3s \
             --leader-elect-retry-period 500ms --kubeconfig /d/pki/scheduler.kubeconfig"
        );
        assert_eq!(
            command_of("node-1", &cluster),
            "node --name node-1 --pod-cidr 10.244.1.0/24 --kubeconfig /d/pki/node.kubeconfig"
        );
    }

    #[test]
    fn hollow_nodes_share_a_process_and_have_ranges_of_their_own() {
        let cluster = cluster(255, 1000);
        assert_eq!(
            command_of("node-255", &cluster),
            "node --name node-255 --pod-cidr 10.244.255.0/24 --kubeconfig /d/pki/node.kubeconfig"
        );
        assert_eq!(
            command_of("hollow", &cluster),
            "node --name hollow --count 1000 --pod-cidr 10.245.0.0/24 --kubeconfig /d/pki/node.kubeconfig"
        );
        let parts = Part::all_of(&cluster, false);
        let Kind::Client { lease, .. } = &parts.last().unwrap().kind else {
            panic!("hollow nodes are clients");
        };
        assert_eq!(lease.name, "hollow-999");
    }
}
