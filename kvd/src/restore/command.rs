//! The words of `kvd snapshot-status` and `kvd snapshot-restore`, which `kvctl snapshot` runs: kvctl knows the public API
//! and nothing of files. Each prints one line of JSON.

use std::path::Path;

use anyhow::{Result, bail};
use serde_json::json;

use super::archive::{Archive, Check};
use super::restore;
use crate::config::Config;
use crate::flags::{self, FlagError, Request, Settings};
use crate::values;

const STATUS: &str = "snapshot-status";
const RESTORE: &str = "snapshot-restore";

const SKIP_HASH_CHECK: &str = "skip-hash-check";
/// The flags of a member that say what restoring makes.
const FLAGS: [&str; 6] = [
    "name",
    "data-dir",
    "wal-dir",
    "initial-cluster",
    "initial-cluster-token",
    "initial-advertise-peer-urls",
];

/// Does what a command line asks for, if it is one of these subcommands, and gives what to print.
pub fn run(args: &[String]) -> Option<Result<String>> {
    match args.split_first()? {
        (word, args) if word == STATUS => Some(status(args)),
        (word, args) if word == RESTORE => Some(restore_from(args)),
        _ => None,
    }
}

/// `kvd snapshot-status FILE`: what a backup holds, in etcdctl's words. The hash is the beginning of its SHA-256.
fn status(args: &[String]) -> Result<String> {
    let [file] = args else {
        bail!("usage: kvd {STATUS} FILE");
    };
    let archive = Archive::open(Path::new(file), Check::Sha256)?;
    let [a, b, c, d, ..] = archive.sha256();
    let status = json!({
        "hash": u32::from_be_bytes([a, b, c, d]),
        "revision": archive.head().revision.0,
        "totalKey": archive.head().keys,
        "totalSize": archive.size_bytes(),
    });
    Ok(format!("{status}\n"))
}

/// `kvd snapshot-restore FILE [--skip-hash-check] [flags]`. The environment is not read: it is that of a member which
/// runs, perhaps, and not of the one that is made.
fn restore_from(args: &[String]) -> Result<String> {
    let Some((file, flags)) = args
        .split_first()
        .filter(|(file, _)| !file.starts_with('-'))
    else {
        bail!("usage: kvd {RESTORE} FILE [--{SKIP_HASH_CHECK}] [flags]");
    };
    let (check, flags) = take_check(flags)?;
    let settings = match flags::parse(flags, [])? {
        (Request::Run(settings), _) => settings,
        (Request::Help | Request::Version, _) => {
            bail!("kvd {RESTORE} takes no --help or --version")
        }
    };
    refuse_others(&settings)?;
    let config = Config::from_settings(&settings, false)?;
    let restored = restore(Path::new(file), check, &config)?;
    let report = json!({
        "cluster": format!("{:x}", restored.identity.cluster_id),
        "dataDir": config.data_dir.display().to_string(),
        "member": format!("{:x}", restored.identity.member_id.0),
        "revision": restored.revision.0,
        "totalKey": restored.keys,
    });
    Ok(format!("{report}\n"))
}

/// Takes `--skip-hash-check` out, which is no flag of a member.
fn take_check(flags: &[String]) -> Result<(Check, Vec<String>), FlagError> {
    let mut check = Check::Sha256;
    let mut others = Vec::new();
    for flag in flags {
        let value = flag
            .trim_start_matches('-')
            .strip_prefix(SKIP_HASH_CHECK)
            .filter(|rest| flag.starts_with('-') && (rest.is_empty() || rest.starts_with('=')));
        let Some(value) = value else {
            others.push(flag.clone());
            continue;
        };
        let skip = match value.strip_prefix('=') {
            None => true,
            Some(value) => values::switch(value).map_err(|error| FlagError::Invalid {
                place: format!("--{SKIP_HASH_CHECK}"),
                problem: error.to_string(),
            })?,
        };
        check = if skip { Check::Nothing } else { Check::Sha256 };
    }
    Ok((check, others))
}

fn refuse_others(settings: &Settings) -> Result<()> {
    match settings
        .iter()
        .find(|(flag, _)| !FLAGS.contains(&flag.name))
    {
        None => Ok(()),
        Some((flag, _)) => bail!("--{} is not a flag of kvd {RESTORE}", flag.name),
    }
}
