//! The flags of the commands on leases, members, endpoints and snapshots.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `lease …`
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// Create a lease that lives for TTL seconds unless it is kept alive
    #[command(
        after_help = "Example:\n  kvctl lease grant 60\n  kvctl put worker/7 alive --lease 694d5765fc71500b"
    )]
    Grant {
        /// Time to live, in seconds
        #[arg(value_name = "TTL", allow_negative_numbers = true)]
        ttl: String,
    },
    /// End a lease, and delete the keys attached to it
    Revoke {
        /// The lease, in hexadecimal
        #[arg(value_name = "LEASE_ID")]
        id: String,
    },
    /// Show how long a lease has left
    #[command(name = "timetolive")]
    TimeToLive {
        /// The lease, in hexadecimal
        #[arg(value_name = "LEASE_ID")]
        id: String,
        /// Also show the keys attached to it
        #[arg(long)]
        keys: bool,
    },
    /// List the leases
    List,
    /// Renew a lease until Ctrl-C, at whichever endpoint is up
    KeepAlive {
        /// The lease, in hexadecimal
        #[arg(value_name = "LEASE_ID")]
        id: String,
        /// Renew it once
        #[arg(long)]
        once: bool,
    },
}

/// `member …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// List the members
    List(MemberListArgs),
    /// Add a member, which is then started with the settings that this prints
    #[command(
        after_help = "Example:\n  kvctl member add node4 --peer-urls http://10.0.0.4:2380 --learner"
    )]
    Add {
        /// The name that the new member will have
        #[arg(value_name = "NAME")]
        name: String,
        /// Where its peers will reach it, separated by commas
        #[arg(
            long,
            value_name = "URL,…",
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true
        )]
        peer_urls: String,
        /// As a learner: it follows without a vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member
    Remove {
        /// The member, in hexadecimal
        #[arg(value_name = "MEMBER_ID")]
        id: String,
    },
    /// Change where a member's peers reach it
    Update {
        /// The member, in hexadecimal
        #[arg(value_name = "MEMBER_ID")]
        id: String,
        /// The new URLs, separated by commas
        #[arg(
            long,
            value_name = "URL,…",
            default_value = "",
            hide_default_value = true,
            allow_hyphen_values = true
        )]
        peer_urls: String,
    },
    /// Give a learner its vote
    Promote {
        /// The member, in hexadecimal
        #[arg(value_name = "MEMBER_ID")]
        id: String,
    },
}

/// `member list`
#[derive(Debug, Args)]
#[command(after_help = "\
The columns of `-w simple` are: ID, status, name, peer URLs, client URLs, is learner.")]
pub struct MemberListArgs {
    /// l: linearizable, never stale. s: serializable, from one member, which may lag
    #[arg(
        long,
        value_name = "l|s",
        default_value = "l",
        allow_hyphen_values = true
    )]
    pub consistency: String,
}

/// `endpoint …`
#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// Visit all members of the cluster, not only --endpoints
    // Global, since etcdctl takes it before the subcommand too.
    #[arg(long, global = true)]
    pub cluster: bool,
    /// What to ask them.
    #[command(subcommand)]
    pub command: EndpointCommand,
}

/// What endpoints are asked.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Show each endpoint's version, size, leader, term and index
    #[command(after_help = "\
The columns of `-w simple` are: endpoint, ID, version, db size, is leader, is learner, raft term,
raft index, raft applied index, errors.")]
    Status,
    /// Ask each endpoint to read a key, and for alarms
    Health,
    /// Show each endpoint's hash of its data; members at one revision must agree
    #[command(name = "hashkv")]
    HashKv {
        /// Hash the history up to this revision; 0 is all
        #[arg(
            long,
            value_name = "REVISION",
            default_value_t = 0,
            allow_hyphen_values = true
        )]
        rev: i64,
    },
}

/// `move-leader`
#[derive(Debug, Args)]
pub struct MoveLeaderArgs {
    /// The member that shall lead, in hexadecimal
    #[arg(value_name = "MEMBER_ID")]
    pub target: String,
}

/// `defrag`
#[derive(Debug, Args)]
pub struct DefragArgs {
    /// Visit all members of the cluster, not only --endpoints
    #[arg(long)]
    pub cluster: bool,
}

/// `alarm …`
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List the alarms
    List,
    /// Disarm all alarms
    Disarm,
}

/// `snapshot …`
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Store one member's data in a file
    #[command(after_help = "\
The data goes to FILE.part first; FILE appears when its checksum has been verified and it is on the
disk. One member is asked: the first of --endpoints that answers.

Example:
  kvctl snapshot save backup.db")]
    Save {
        /// The file to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show a snapshot's hash, revision, number of keys and size
    Status {
        /// The snapshot
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Make a new member's data directory from a snapshot
    Restore(RestoreArgs),
}

/// `snapshot restore`
#[derive(Debug, Args)]
#[command(after_help = "\
The restored members form a new cluster: cluster and member ids are new, so that they can never
join the old one by accident. Restore every member from the same file.

Example:
  kvctl snapshot restore backup.db --name n1 --data-dir n1.data \\
      --initial-cluster n1=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380")]
pub struct RestoreArgs {
    /// The snapshot
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data directory to make; it must be missing or empty [default: NAME.etcd]
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    pub data_dir: Option<PathBuf>,
    /// Where to make the raft log, if it is not to be in the data directory
    #[arg(long, value_name = "DIR", allow_hyphen_values = true)]
    pub wal_dir: Option<PathBuf>,
    /// The member's name
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        allow_hyphen_values = true
    )]
    pub name: String,
    /// All members of the new cluster, as name=URL, separated by commas
    #[arg(
        long,
        value_name = "NAME=URL,…",
        default_value = "default=http://localhost:2380",
        allow_hyphen_values = true
    )]
    pub initial_cluster: String,
    /// A word that makes the new cluster's ids its own
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "etcd-cluster",
        allow_hyphen_values = true
    )]
    pub initial_cluster_token: String,
    /// Where this member's peers will reach it
    #[arg(
        long,
        value_name = "URL,…",
        default_value = "http://localhost:2380",
        allow_hyphen_values = true
    )]
    pub initial_advertise_peer_urls: String,
    /// Take the file as it is, though its checksum is missing or does not agree
    #[arg(long)]
    pub skip_hash_check: bool,
}

/// `completion`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(kvctl completion bash)
  kvctl completion zsh > ~/.zfunc/_kvctl
  kvctl completion fish > ~/.config/fish/completions/kvctl.fish")]
pub struct CompletionArgs {
    /// Whose
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// The shells that can be taught kvctl's commands.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
// A doc comment on one of these would make `--help` four times as long as that of other commands.
#[allow(missing_docs, reason = "their names say it")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}
