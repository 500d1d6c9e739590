//! The flags of the commands on keys. `get`, `put` and `del` are also the operations of `txn`, and
//! `watch` is also typed into `watch -i`; hence each is a type of its own.

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// `get`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kvctl get greeting
  kvctl get --prefix app/ --keys-only
  kvctl get a m --limit 10                  keys from a up to, not including, m
  kvctl get greeting --rev 7                the value as it was at revision 7
  kvctl get --prefix '' --count-only -w fields
  kvctl get greeting --print-value-only     the bare value, for a script")]
pub struct GetArgs {
    /// The key, or the first key of a range
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The key that ends the range; it is not part of it
    #[arg(value_name = "RANGE_END")]
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    pub prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    pub from_key: bool,
    /// At most this many keys; 0 is no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub limit: i64,
    /// The keys as they were at this revision; 0 is now
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub rev: i64,
    /// Sort by: create, key, modify, value or version
    #[arg(
        long,
        value_name = "TARGET",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub sort_by: String,
    /// Sort order: ascend or descend
    #[arg(
        long,
        value_name = "ORDER",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub order: String,
    /// Only the keys
    #[arg(long)]
    pub keys_only: bool,
    /// Only how many there are; with -w fields or json
    #[arg(long)]
    pub count_only: bool,
    /// Only the values; with -w simple
    #[arg(long)]
    pub print_value_only: bool,
    /// l: linearizable, never stale. s: serializable, from one member, which may lag
    #[arg(
        long,
        value_name = "l|s",
        default_value = "l",
        allow_hyphen_values = true
    )]
    pub consistency: String,
}

/// `put`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kvctl put greeting hello
  kvctl put greeting -- -begins-with-a-dash
  cat picture.png | kvctl put picture       the value from stdin
  kvctl put worker/7 alive --lease 694d5765fc71500b")]
pub struct PutArgs {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The value; read from stdin if it is not given
    #[arg(value_name = "VALUE")]
    pub value: Option<OsString>,
    /// Attach the key to this lease (hexadecimal)
    #[arg(
        long,
        value_name = "LEASE_ID",
        default_value = "0",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub lease: String,
    /// Print the key and value that were there before
    #[arg(long)]
    pub prev_kv: bool,
    /// Keep the value, set the lease
    #[arg(long)]
    pub ignore_value: bool,
    /// Keep the lease, set the value
    #[arg(long)]
    pub ignore_lease: bool,
}

/// `del`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kvctl del greeting
  kvctl del --prefix app/ --prev-kv         delete them, and print what they were
  kvctl del a m                             keys from a up to, not including, m")]
pub struct DelArgs {
    /// The key, or the first key of a range
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The key that ends the range; it is not part of it
    #[arg(value_name = "RANGE_END")]
    pub range_end: Option<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    pub prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    pub from_key: bool,
    /// Print the deleted keys and values
    #[arg(long)]
    pub prev_kv: bool,
}

/// `txn`
#[derive(Debug, Args)]
#[command(after_help = "\
Three lists are read from stdin, each ended by an empty line: comparisons, the operations to do if
all of them hold, and the operations to do if not.

  comparison   TARGET(\"key\") OP \"value\"     TARGET: value, version, create, mod, lease
                                          OP: =  !=  <  >   (lease values in hexadecimal)
  operation    put, get or del with their flags; quote words that hold spaces

Example:
  kvctl txn <<END
  mod(\"greeting\") > \"0\"

  put greeting \"hello again\"
  get greeting

  put greeting hello

  END")]
pub struct TxnArgs {
    /// Prompt for the three lists
    #[arg(short, long)]
    pub interactive: bool,
    /// Read the three lists from this file instead of stdin
    #[arg(short, long, value_name = "FILE", conflicts_with = "interactive")]
    pub file: Option<PathBuf>,
}

/// `watch`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kvctl watch greeting
  kvctl watch --prefix app/ --rev 42 --prev-kv     from revision 42 on
  kvctl watch a m                                  keys from a up to, not including, m
  kvctl watch greeting -- sh -c env                run a command for each event

The command finds the event in ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and
ETCD_WATCH_VALUE. KVCTL_WATCH_KEY and KVCTL_WATCH_RANGE_END can stand for KEY and RANGE_END.

A watch outlives members: when its connection breaks, it goes on at another endpoint with the next
event, once each and in order. With -i, type lines like `watch foo --rev 3` and `progress`.")]
pub struct WatchArgs {
    /// The key, or the first key of a range
    #[arg(value_name = "KEY")]
    pub key: Option<OsString>,
    /// The key that ends the range; it is not part of it
    #[arg(value_name = "RANGE_END")]
    pub range_end: Option<OsString>,
    /// A command to run for each event, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub exec: Vec<OsString>,
    /// All keys that begin with KEY
    #[arg(long)]
    pub prefix: bool,
    /// Begin with this revision instead of now
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub rev: i64,
    /// Print also what the key held before
    #[arg(long)]
    pub prev_kv: bool,
    /// Say from time to time up to which revision everything was seen
    #[arg(long)]
    pub progress_notify: bool,
    /// Read watches from stdin
    #[arg(short, long)]
    pub interactive: bool,
}

/// `compaction`
#[derive(Debug, Args)]
#[command(after_help = "\
Reads and watches below the revision are refused from then on.

Example:
  kvctl compaction 1000 --physical")]
pub struct CompactionArgs {
    /// The oldest revision to keep
    #[arg(value_name = "REVISION", allow_negative_numbers = true)]
    pub revision: String,
    /// Answer only when the old revisions are gone from the disk
    #[arg(long)]
    pub physical: bool,
}

/// A line in the second or third list of a transaction.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    infer_subcommands = true
)]
pub struct OperationLine {
    /// The operation.
    #[command(subcommand)]
    pub operation: Operation,
}

/// An operation of a transaction.
#[derive(Debug, Subcommand)]
pub enum Operation {
    /// Read keys
    Get(GetArgs),
    /// Write a key
    Put(PutArgs),
    /// Delete keys
    Del(DelArgs),
}

/// A line typed into `watch -i`, without its first word.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    args_override_self = true,
    disable_help_flag = true
)]
pub struct WatchLine {
    /// The watch.
    #[command(flatten)]
    pub watch: WatchArgs,
}
