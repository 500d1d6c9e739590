//! The command line: what can be asked of `keelson`, and how its help reads.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// `keelson`'s command line.
#[derive(Debug, Parser)]
#[command(
    name = "keelson",
    version,
    about = "Runs a cluster of the Keelson store on this machine",
    disable_help_subcommand = true,
    after_help = "A first cluster:\n  \
        keelson up                         three members on 127.0.0.1, ports 2379, 22379, 32379\n  \
        kvctl put greeting hello           from another terminal\n  \
        keelson down                       or Ctrl-C; the data stays in ./data"
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
    /// Show the members of a cluster once
    Status(DirArgs),
    /// Become a member's process, bound to the life of the launcher
    #[command(hide = true)]
    ExecMember(ExecMemberArgs),
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

A data directory remembers its members and ports: to start it again, --data-dir is enough. Each member's data is in \
DIR/<name>, its log in DIR/<name>.log.

Ctrl-C, SIGTERM and `keelson down` stop all members cleanly; a second Ctrl-C kills them.")]
pub struct UpArgs {
    #[command(flatten)]
    pub dir: DirArgs,
    /// How many members to start [default: 3, or what DIR holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub members: Option<u8>,
    /// The first member's client port; see below for the others [default: 2379, or what DIR holds]
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..))]
    pub client_port: Option<u16>,
    /// The program to run as a member: kvd, or anything that takes etcd's flags [default: kvd, beside keelson]
    #[arg(long, value_name = "PATH", env = "KEELSON_KVD")]
    pub kvd: Option<PathBuf>,
    /// Further flags for every member, as in `keelson up -- --log-level debug`
    #[arg(last = true, value_name = "FLAG")]
    pub member_flags: Vec<OsString>,
}

/// `keelson exec-member`.
#[derive(Debug, Args)]
pub struct ExecMemberArgs {
    /// The launcher's pid
    #[arg(long)]
    pub parent: i32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}
