//! A member's data directory, made from a backup: the first member of each place of a new cluster that goes on where
//! the backup was taken.
//!
//! Every member is restored from the same backup with the same `--initial-cluster` and token, each into a directory of
//! its own, as with etcd. What that gives is what founding gives, but for the data: a state that has applied the entry
//! at index 0, which says who the members are, and a raft log that begins after it, since that entry is purged. So all
//! restored members agree on everything, nobody has voted, and any of them may be elected; and a member that joins
//! later can only begin with a snapshot, never with a replay of the log onto nothing.
//!
//! The ids of cluster and members are hashes, as etcd's are, but of the backup's SHA-256 too. Members of the old cluster,
//! members restored from another backup, and members that were started without any are members of another cluster, and
//! refuse to talk. So the directory's identity does not say that it founded the cluster: the ids that a start's
//! `--initial-cluster` gives are others.
//!
//! **Guarantees**: the backup is checked before anything is written; a directory that holds anything is left alone; the
//! new one is made beside its place, synced, and renamed, so that an interrupted restore leaves nothing that starts.
//!
//! **Leaves to others**: the words of the command line ([`command`]), what a backup looks like ([`archive`]), what in
//! a state is the cluster's ([`keelson_store::refound`]).

mod archive;
pub mod command;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, bail, ensure};
use keelson_log::{DiskDir, LogId, RaftLog};
use keelson_proto::commandpb::State;
use keelson_raft::StateDir;
use keelson_rocks::RocksEngine;
use keelson_store::{Revision, Store, refound};

use crate::config::{Bootstrap, Config};
use crate::data_dir::{self, DataDir, Identity};
use archive::{Archive, Check};

/// What the name of a directory ends with while it is made.
const UNFINISHED: &str = ".restoring";

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Restored {
    identity: Identity,
    revision: Revision,
    keys: u64,
}

/// Makes the data directory of the member that `config` describes from the backup in `file`.
fn restore(file: &Path, check: Check, config: &Config) -> Result<Restored> {
    let site = Site::choose(&config.data_dir)?;
    if let Some(wal_dir) = &config.wal_dir {
        must_be_empty(wal_dir, "--wal-dir")?;
    }
    let mut archive = Archive::open(file, check)?;
    let founders = founders(&config.bootstrap, archive.sha256());
    let identity = Identity {
        cluster_id: founders.cluster_id(),
        member_id: founders.founder_id(),
        founded: false,
    };

    let (dir, _unless_finished) = site.begin()?;
    let state = make_state(&mut archive, &dir, &founders)
        .with_context(|| format!("{} cannot be restored", file.display()))?;
    let log = site.log_place(&dir, config);
    begin_log(&log.path, &state)
        .with_context(|| format!("making the raft log in {}", log.path.display()))?;
    sync_tree(&site.unfinished)
        .with_context(|| format!("syncing {}", site.unfinished.display()))?;
    dir.identify(identity)?;
    site.finish()?;
    log.keep();
    Ok(Restored {
        identity,
        revision: Revision(state.revision),
        keys: state.keys,
    })
}

/// The new cluster's founders, under ids that no other backup gives.
fn founders(bootstrap: &Bootstrap, sha256: [u8; 32]) -> Bootstrap {
    let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    Bootstrap {
        token: format!("{} restored from {sha256}", bootstrap.token),
        ..bootstrap.clone()
    }
}

/// Unpacks the state and makes it the new cluster's; it is on the disk then.
fn make_state(archive: &mut Archive, dir: &DataDir, founders: &Bootstrap) -> Result<State> {
    let path = StateDir::open(dir.state())?.current()?;
    archive.unpack(&path)?;
    let engine = Arc::new(RocksEngine::open(&path, keelson_rocks::Options::default())?);
    // Opening it counts the keys and finds what is missing, before anything relies on it.
    let found = Store::open(engine.clone(), keelson_store::Options { cache_bytes: 0 })?;
    let found = found.reader().now().state().clone();
    let head = archive.head();
    ensure!(
        (Revision(found.revision), found.keys) == (head.revision, head.keys),
        "it says that it holds revision {} with {} keys, and it holds revision {} with {}",
        head.revision.0,
        head.keys,
        found.revision,
        found.keys
    );
    Ok(refound(
        &*engine,
        founders.cluster_id(),
        founders.membership(),
    )?)
}

/// Makes a raft log that begins after what the state has applied.
fn begin_log(path: &Path, state: &State) -> Result<()> {
    let applied = state.applied.context("the state has applied nothing")?;
    let (log, _) = RaftLog::open(DiskDir::open(path)?, keelson_log::Options::default())?;
    let upto = LogId {
        term: applied.term,
        node: 0,
        index: applied.index,
    };
    let (told, outcome) = sync_channel(1);
    // Who asked waits below, on this thread.
    log.purge(upto, Box::new(move |result| drop(told.send(result))));
    log.step().run();
    Ok(outcome.recv()??)
}

/// Where a data directory is made, and its place.
struct Site {
    target: PathBuf,
    unfinished: PathBuf,
}

impl Site {
    /// Chooses where to make the directory `target`, which must be missing or empty. Touches nothing.
    fn choose(target: &Path) -> Result<Site> {
        must_be_empty(target, "--data-dir")?;
        // Through a symbolic link, which a directory cannot replace; one that is missing is where its name says.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let Some(name) = target.file_name() else {
            bail!(
                "{} has no name to give to a new directory",
                target.display()
            );
        };
        let mut name = name.to_owned();
        name.push(UNFINISHED);
        let unfinished = target.with_file_name(name);
        Ok(Site { target, unfinished })
    }

    /// Begins the directory, in place of one that an interrupted restore has left. It is removed again unless it is
    /// finished.
    fn begin(&self) -> Result<(DataDir, Making)> {
        if self.unfinished.exists() {
            data_dir::inspect(&self.unfinished)?;
            // Refused if another process is making it.
            let _lock = DataDir::lock(&self.unfinished)?;
            fs::remove_dir_all(&self.unfinished)
                .with_context(|| format!("{} cannot be removed", self.unfinished.display()))?;
        }
        let dir = DataDir::lock(&self.unfinished)?;
        Ok((dir, Making::at(self.unfinished.clone())))
    }

    /// Where to make the raft log. One that is not in the data directory is made where it stays: without the data
    /// directory nothing starts on it.
    fn log_place(&self, dir: &DataDir, config: &Config) -> Making {
        let Some(wal_dir) = &config.wal_dir else {
            return Making::at(dir.log());
        };
        Making::at(match wal_dir.strip_prefix(&config.data_dir) {
            Ok(inside) => self.unfinished.join(inside),
            Err(_) => wal_dir.clone(),
        })
    }

    /// Gives the finished directory its place, for good.
    fn finish(&self) -> Result<()> {
        fs::rename(&self.unfinished, &self.target)
            .and_then(|()| sync(self.target.parent().unwrap_or(Path::new(""))))
            .with_context(|| format!("{} cannot be put into its place", self.target.display()))
    }
}

/// A directory that is removed unless it is kept.
struct Making {
    path: PathBuf,
    kept: bool,
}

impl Making {
    fn at(path: PathBuf) -> Making {
        Making { path, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.kept {
            // It may have got its place already. What cannot be removed does not start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn must_be_empty(path: &Path, flag: &str) -> Result<()> {
    let shown = path.display();
    let first = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.and_then(|mut entries| entries.next().transpose()),
    };
    match first.with_context(|| format!("{shown} cannot be read"))? {
        None => Ok(()),
        Some(_) => bail!(
            "{shown} is not empty: a backup is restored into a new directory; choose another {flag}"
        ),
    }
}

/// Syncs every file and directory below a directory, and itself.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            sync(&entry.path())?;
        }
    }
    sync(path)
}

/// Syncs a file or a directory; the empty path is the current one.
fn sync(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}
