//! The command line: what can be asked of `keelson`, and how its help reads.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cluster::ControlPlane;
use crate::entry::Component;
use crate::trace::TraceArgs;

/// `keelson`'s command line.
#[derive(Debug, Parser)]
#[command(
    name = "keelson",
    version,
    about = "Runs a whole cluster on this machine: the Keelson store, and Kubernetes' control plane on it",
    disable_help_subcommand = true,
    after_help = "A first cluster:\n  \
        keelson up                              the store, the API server on port 6443, and two nodes\n  \
        export KUBECONFIG=$PWD/data/kubeconfig  in another terminal; then:\n  \
        kubectl create deployment web --image=nginx --replicas=3\n  \
        keelson trace deployment/web            who did what, and why\n  \
        keelson down                            or Ctrl-C; the data stays in ./data"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster on 127.0.0.1, show how it does, and restart a member that dies
    Up(UpArgs),
    /// Stop a cluster that `keelson up` started
    Down(DirArgs),
    /// Show how a cluster does, once
    Status(DirArgs),
    /// Tell the story of an object, live: who wrote what, and because of what
    Trace(TraceArgs),
    /// Run the API server, on kvd or on any etcd
    Apiserver(Box<Component<keelson_apiserver::Args>>),
    /// Run the controllers, against any API server
    Controllers(Box<Component<keelson_controllers::Args>>),
    /// Run the scheduler, against any API server
    Scheduler(Box<Component<keelson_scheduler::Args>>),
    /// Be one or many nodes, against any API server
    Node(Box<Component<keelson_node::Args>>),
    /// Become another program, bound to the life of the launcher
    #[command(hide = true)]
    ExecBound(ExecBoundArgs),
}

/// Where a cluster lives.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// Where the cluster's data and logs are
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
}

/// `keelson up`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ports: without --client-port, up to three members listen on 2379, 22379 and 32379. With --client-port P, or with \
more than three members, they listen on P, P+2, P+4, … Peers are on the port above each.

A data directory remembers its members, ports and nodes: to start it again, --data-dir is enough. Members stay as they \
were; the API server's port and the nodes may be others each time. Each member's data is in DIR/<name>, certificates \
and keys are in DIR/pki, logs in DIR/<name>.log.

Ctrl-C, SIGTERM and `keelson down` stop everything in order; a second Ctrl-C kills what has not stopped.")]
pub struct UpArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    /// How many members to start [default: 3, or what DIR holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub members: Option<u8>,
    /// The first member's client port; see below for the others [default: 2379, or what DIR holds]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub client_port: Option<u16>,
    /// Start the members alone, and nothing on them
    #[arg(long, conflicts_with_all = ["api_port", "nodes", "hollow_nodes", "kubeconfig"])]
    pub store_only: bool,
    /// The API server's port [default: 6443, or what DIR remembers]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_port: Option<u16>,
    /// How many node agents to start, each a process [default: 2, or what DIR remembers]
    #[arg(long, value_name = "N")]
    pub nodes: Option<u8>,
    /// How many further nodes to have in one process [default: 0, or what DIR remembers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=2816))]
    pub hollow_nodes: Option<u16>,
    /// Where to put the kubeconfig for kubectl [default: DIR/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The program to run as a member: kvd, or anything that takes etcd's flags [default: kvd, beside keelson]
    #[arg(long, value_name = "PATH", env = "KEELSON_KVD")]
    pub kvd: Option<PathBuf>,
    /// Further flags for every member, as in `keelson up -- --log-level debug`
    #[arg(last = true, value_name = "FLAG")]
    pub member_flags: Vec<OsString>,
}

impl UpArgs {
    /// The control plane that is asked for: what is not said stays as it was.
    pub fn control_plane(&self, before: &ControlPlane) -> ControlPlane {
        ControlPlane {
            api_port: self.api_port.unwrap_or(before.api_port),
            nodes: self.nodes.unwrap_or(before.nodes),
            hollow_nodes: self.hollow_nodes.unwrap_or(before.hollow_nodes),
        }
    }
}

/// `keelson exec-bound`.
#[derive(Debug, Args)]
pub struct ExecBoundArgs {
    /// The launcher's pid
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}
