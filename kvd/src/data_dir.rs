//! A member's data directory: what is in it, whose it is, and that one process alone has it.
//!
//! ```text
//! LOCK        held while a process runs on the directory
//! IDENTITY    whose data this is; written last when the directory is made, so that without it nothing counts
//! log/        the raft log (or in --wal-dir)
//! state/      the state machine
//! scratch/    snapshots on their way to a client; emptied at start
//! ```
//!
//! IDENTITY is text: `keelson 1` (the format), then `cluster`, `member` (hexadecimal) and `founded` (true or false),
//! a line each.
//!
//! [`inspect`] looks and touches nothing: a directory that is not ours, or not for this member, stays as it is.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use keelson_store::MemberId;
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

/// The format of the directory that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const LOCK: &str = "LOCK";
const IDENTITY: &str = "IDENTITY";
const IDENTITY_NEW: &str = "IDENTITY.new";
const LOG: &str = "log";
const STATE: &str = "state";
const SCRATCH: &str = "scratch";

/// What a member stores is read through it, or not at all.
const MODE: u32 = 0o700;

/// What a directory without an identity may hold: what an interrupted start has left.
const UNFINISHED: [&str; 5] = [LOCK, IDENTITY_NEW, LOG, STATE, SCRATCH];

/// Whose data a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: MemberId,
    /// Whether the member was among the cluster's founders, and not added later.
    pub founded: bool,
}

/// What is wrong with a data directory.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum DataDirError {
    #[error(
        "{path} holds the data of an etcd: kvd neither reads nor changes it; choose another --data-dir"
    )]
    Etcd { path: PathBuf },
    #[error("{path} holds files that are not kvd's ({example}); choose another --data-dir")]
    Foreign { path: PathBuf, example: String },
    #[error(
        "{path} has format {found}, and this kvd knows formats up to {FORMAT}: it was written by a newer version"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("{path} cannot be understood: {problem}")]
    Damaged {
        path: PathBuf,
        problem: &'static str,
    },
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error("{path} {action}: {source}")]
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
}

fn io_error<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |source| DataDirError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

/// Looks at a directory without touching it: whose it is, or none if nothing is in it that counts.
pub fn inspect(path: &Path) -> Result<Option<Identity>, DataDirError> {
    let names = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect()
            })
            .map_err(io_error(path, "cannot be read"))?,
    };
    let names: Vec<String> = names;
    if names.iter().any(|name| name == IDENTITY) {
        let file = path.join(IDENTITY);
        let text = fs::read_to_string(&file).map_err(io_error(&file, "cannot be read"))?;
        return parse(&file, &text).map(Some);
    }
    if path.join("member").join("wal").exists() || path.join("member").join("snap").exists() {
        return Err(DataDirError::Etcd {
            path: path.to_owned(),
        });
    }
    match names
        .into_iter()
        .find(|name| !UNFINISHED.contains(&name.as_str()) && name != "lost+found")
    {
        Some(example) => Err(DataDirError::Foreign {
            path: path.to_owned(),
            example,
        }),
        None => Ok(None),
    }
}

fn parse(path: &Path, text: &str) -> Result<Identity, DataDirError> {
    let damaged = |problem| DataDirError::Damaged {
        path: path.to_owned(),
        problem,
    };
    let mut lines = text.lines();
    let format = lines
        .next()
        .and_then(|line| line.strip_prefix("keelson "))
        .ok_or(damaged("it is not kvd's"))?;
    let found: u32 = format
        .parse()
        .map_err(|_| damaged("its format is not a number"))?;
    if found > FORMAT {
        return Err(DataDirError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    let mut field = |name: &str, problem| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .ok_or(damaged(problem))
    };
    let id =
        |text: &str| u64::from_str_radix(text, 16).map_err(|_| damaged("an id is not hexadecimal"));
    Ok(Identity {
        cluster_id: id(field("cluster", "the cluster's id is missing")?)?,
        member_id: MemberId(id(field("member", "the member's id is missing")?)?),
        founded: match field("founded", "it does not say whether the member is a founder")? {
            "true" => true,
            "false" => false,
            _ => return Err(damaged("it does not say whether the member is a founder")),
        },
    })
}

/// A data directory that this process has to itself.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Unlocked when the process ends, however it ends.
    locks: Vec<File>,
}

/// Locks a directory for this process alone.
fn lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file);
    let lock = lock.map_err(io_error(&file, "cannot be written"))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error(&file, "cannot be locked")(error.into())),
    }
}

impl DataDir {
    /// Takes the directory, which is made if it is not there: for its owner alone, as etcd makes it. One that is there
    /// keeps the mode that somebody gave it.
    pub fn lock(path: &Path) -> Result<DataDir, DataDirError> {
        let mut make = DirBuilder::new();
        make.recursive(true).mode(MODE);
        make.create(path)
            .map_err(io_error(path, "cannot be made"))?;
        Ok(DataDir {
            path: path.to_owned(),
            locks: vec![lock(path)?],
        })
    }

    /// Takes the raft log's directory too, if that is elsewhere: it is there already.
    pub fn lock_log(&mut self, path: &Path) -> Result<(), DataDirError> {
        if path != self.log() {
            self.locks.push(lock(path)?);
        }
        Ok(())
    }

    /// Removes the snapshots that were on their way when the process before this one ended.
    pub fn empty_scratch(&self) -> Result<(), DataDirError> {
        let scratch = self.scratch();
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&scratch, "cannot be emptied")(error));
            }
            _ => {}
        }
        fs::create_dir(&scratch).map_err(io_error(&scratch, "cannot be made"))
    }

    /// Where the raft log is, unless it has a disk of its own.
    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the state machine is.
    pub fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where snapshots wait while they are sent.
    pub fn scratch(&self) -> PathBuf {
        self.path.join(SCRATCH)
    }

    /// Says whose data this is, for good.
    pub fn identify(&self, identity: Identity) -> Result<(), DataDirError> {
        let Identity {
            cluster_id,
            member_id,
            founded,
        } = identity;
        let text = format!(
            "keelson {FORMAT}\ncluster {cluster_id:016x}\nmember {:016x}\nfounded {founded}\n",
            member_id.0
        );
        let (new, file) = (self.path.join(IDENTITY_NEW), self.path.join(IDENTITY));
        let write = || {
            let mut to = File::create(&new)?;
            to.write_all(text.as_bytes())?;
            to.sync_all()?;
            fs::rename(&new, &file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(io_error(&file, "cannot be written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Identity = Identity {
        cluster_id: 0xcdf818194e3a8c32,
        member_id: MemberId(0xd),
        founded: true,
    };

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn listed(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_identity_is_found_again() {
        let dir = dir();
        let path = dir.path().join("new");
        assert_eq!(inspect(&path).unwrap(), None);
        DataDir::lock(&path).unwrap().identify(WHO).unwrap();
        assert_eq!(inspect(&path).unwrap(), Some(WHO));
    }

    /// The text of the format is promised: what was written once is read for ever.
    #[test]
    fn the_first_formats_text_is_still_read() {
        let text = "keelson 1\ncluster cdf818194e3a8c32\nmember 000000000000000d\nfounded true\n";
        assert_eq!(parse(Path::new("f"), text).unwrap(), WHO);
        let dir = dir();
        DataDir::lock(dir.path()).unwrap().identify(WHO).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(IDENTITY)).unwrap(), text);
    }

    #[test]
    fn what_an_interrupted_start_left_counts_for_nothing() {
        let dir = dir();
        drop(DataDir::lock(dir.path()).unwrap());
        fs::create_dir(dir.path().join(LOG)).unwrap();
        assert_eq!(inspect(dir.path()).unwrap(), None);
    }

    #[test]
    fn etcds_data_and_other_peoples_files_are_refused_and_left_alone() {
        let dir = dir();
        fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        assert!(matches!(
            inspect(dir.path()),
            Err(DataDirError::Etcd { .. })
        ));
        assert_eq!(listed(dir.path()), ["member"]);

        let dir = self::dir();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let error = inspect(dir.path()).unwrap_err().to_string();
        assert!(error.contains("(thesis.tex)"), "{error}");
        assert_eq!(listed(dir.path()), ["thesis.tex"]);
    }

    #[test]
    fn a_newer_format_and_a_damaged_identity_are_told_apart() {
        let newer = parse(Path::new("f"), "keelson 2\nwhatever\n");
        assert!(matches!(newer, Err(DataDirError::Newer { found: 2, .. })));
        for text in [
            "",
            "etcd 1\n",
            "keelson x\n",
            "keelson 1\n",
            "keelson 1\ncluster 1\nmember zz\nfounded true\n",
        ] {
            assert!(
                matches!(
                    parse(Path::new("f"), text),
                    Err(DataDirError::Damaged { .. })
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_an_old_one_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = dir();
        let new = dir.path().join("new");
        DataDir::lock(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o750)).unwrap();
        DataDir::lock(&new).unwrap();
        assert_eq!(mode(&new), 0o750);
    }

    #[test]
    fn two_never_share_a_directory() {
        let dir = dir();
        let first = DataDir::lock(dir.path()).unwrap();
        assert!(matches!(
            DataDir::lock(dir.path()),
            Err(DataDirError::InUse { .. })
        ));
        drop(first);
        DataDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn two_never_share_a_raft_log_either() {
        let (dir, log) = (dir(), dir());
        let mut first = DataDir::lock(&dir.path().join("a")).unwrap();
        first.lock_log(log.path()).unwrap();
        let mut second = DataDir::lock(&dir.path().join("b")).unwrap();
        assert!(matches!(
            second.lock_log(log.path()),
            Err(DataDirError::InUse { .. })
        ));
    }

    #[test]
    fn snapshots_that_were_never_sent_are_gone_at_the_next_start() {
        let dir = dir();
        let dir = DataDir::lock(dir.path()).unwrap();
        dir.empty_scratch().unwrap();
        fs::write(dir.scratch().join("left"), "x").unwrap();
        dir.empty_scratch().unwrap();
        assert_eq!(listed(&dir.scratch()), Vec::<String>::new());
    }
}
