//! Failpoints: a disk and a clock that fail when a test says so. Built into `kvd-faulty` alone.
//!
//! The file that `KEELSON_FAILPOINTS` names holds one a line, and is read again whenever it changes; a file that is not
//! there, or is empty, makes nothing fail:
//!
//! | line | does |
//! |---|---|
//! | `fsync=fail` | every sync fails with an I/O error |
//! | `fsync=delay:3000` | every sync takes so many milliseconds longer |
//! | `write=enospc` | every write finds the disk full |
//! | `clock=+5000`, `clock=-200` | the member's clock stands so many milliseconds from where it would |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use keelson_log::{DiskDir, LogDir, LogFile};
use keelson_rocks::{Held, RocksEngine};
use keelson_store::Revision;
use keelson_store::engine::{Batch, Engine, EngineError, EngineSize, Family};

/// Names the file.
const VARIABLE: &str = "KEELSON_FAILPOINTS";
/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What fails now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Failpoints {
    sync_fails: bool,
    sync_delay_ms: u64,
    disk_full: bool,
    clock_ms: i64,
}

static SYNC_FAILS: AtomicBool = AtomicBool::new(false);
static SYNC_DELAY_MS: AtomicU64 = AtomicU64::new(0);
static DISK_FULL: AtomicBool = AtomicBool::new(false);

impl Failpoints {
    fn parse(text: &str) -> Result<Failpoints> {
        let mut found = Failpoints::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some(("fsync", "fail")) => found.sync_fails = true,
                Some(("fsync", value)) if value.starts_with("delay:") => {
                    found.sync_delay_ms = number(line, &value["delay:".len()..])?;
                }
                Some(("write", "enospc")) => found.disk_full = true,
                Some(("clock", value)) => found.clock_ms = number(line, value)?,
                _ => bail!(
                    "{line:?} is no failpoint: fsync=fail, fsync=delay:<ms>, write=enospc or clock=<+ms|-ms>"
                ),
            }
        }
        Ok(found)
    }

    fn read(path: &Path) -> Result<Failpoints> {
        match std::fs::read_to_string(path) {
            Ok(text) => Failpoints::parse(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Failpoints::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn set(self) {
        SYNC_FAILS.store(self.sync_fails, Ordering::Relaxed);
        SYNC_DELAY_MS.store(self.sync_delay_ms, Ordering::Relaxed);
        DISK_FULL.store(self.disk_full, Ordering::Relaxed);
        keelson_planted::jump_clock(self.clock_ms);
    }
}

fn number<T: std::str::FromStr>(line: &str, text: &str) -> Result<T> {
    text.parse()
        .ok()
        .with_context(|| format!("{line:?}: {text:?} is no number of milliseconds"))
}

/// Follows the file that the environment names, if it names one, for as long as the process runs.
pub fn follow() -> Result<()> {
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = PathBuf::from(path);
    let mut set = Failpoints::read(&path)?;
    set.set();
    std::thread::Builder::new()
        .name("failpoints".into())
        .spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                match Failpoints::read(&path) {
                    Ok(found) if found != set => {
                        set = found;
                        set.set();
                        tracing::warn!(?set, "failpoints");
                    }
                    Ok(_) => {}
                    // As written so far: what was set stays until there is something to understand.
                    Err(error) => tracing::debug!("failpoints: {error:#}"),
                }
            }
        })?;
    Ok(())
}

/// What a sync does before it syncs.
fn before_sync() -> io::Result<()> {
    let delay_ms = SYNC_DELAY_MS.load(Ordering::Relaxed);
    if delay_ms > 0 {
        std::thread::sleep(Duration::from_millis(delay_ms));
    }
    if SYNC_FAILS.load(Ordering::Relaxed) {
        return Err(io::Error::other("a failpoint fails every sync"));
    }
    Ok(())
}

/// What a write does before it writes.
fn before_write() -> io::Result<()> {
    if DISK_FULL.load(Ordering::Relaxed) {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "a failpoint fills the disk",
        ));
    }
    Ok(())
}

/// The log's directory, on a disk with failpoints.
#[derive(Debug)]
pub struct FaultyDir(DiskDir);

impl FaultyDir {
    /// Opens it, as [`DiskDir::open`] does.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<FaultyDir> {
        DiskDir::open(path).map(FaultyDir)
    }
}

impl LogDir for FaultyDir {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<FaultyFile> {
        before_write()?;
        self.0.create(name, size).map(FaultyFile)
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        LogDir::open(&self.0, name).map(FaultyFile)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        before_sync()?;
        self.0.sync_dir()
    }
}

/// A log's file, on a disk with failpoints.
#[derive(Debug)]
pub struct FaultyFile(<DiskDir as LogDir>::File);

impl LogFile for FaultyFile {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        before_write()?;
        self.0.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        before_sync()?;
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

/// The engine, on a disk with failpoints. Its writes stay in memory until a flush: that is where the disk comes in.
pub struct FaultyEngine(RocksEngine);

impl FaultyEngine {
    /// Opens it, as [`RocksEngine::open_holding`] does.
    pub fn open_holding(
        path: impl AsRef<Path>,
        options: keelson_rocks::Options,
        held: Held,
    ) -> Result<FaultyEngine, EngineError> {
        RocksEngine::open_holding(path, options, held).map(FaultyEngine)
    }

    fn reach_the_disk(&self, what: &str) -> Result<(), EngineError> {
        before_write()
            .and_then(|()| before_sync())
            .map_err(|error| EngineError::new(what, error))
    }
}

impl Engine for FaultyEngine {
    type View = <RocksEngine as Engine>::View;

    fn view(&self) -> Result<Self::View, EngineError> {
        self.0.view()
    }

    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        self.0.write(batch)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.reach_the_disk("flushing")?;
        self.0.flush()
    }

    fn get_persisted(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.0.get_persisted(family, key)
    }

    fn checkpoint(&self, into: &Path) -> Result<(), EngineError> {
        self.reach_the_disk("making a checkpoint")?;
        self.0.checkpoint(into)
    }

    fn set_history_floor(&self, revision: Revision) {
        self.0.set_history_floor(revision);
    }

    fn compact_files(&self) -> Result<(), EngineError> {
        self.reach_the_disk("rewriting the files")?;
        self.0.compact_files()
    }

    fn size(&self) -> Result<EngineSize, EngineError> {
        self.0.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_failpoint_of_its_own_and_none_is_none() {
        let text = "fsync=delay:3000\nwrite=enospc\n\nclock=+5000\n";
        let expected = Failpoints {
            sync_fails: false,
            sync_delay_ms: 3000,
            disk_full: true,
            clock_ms: 5000,
        };
        assert_eq!(Failpoints::parse(text).unwrap(), expected);
        assert!(Failpoints::parse("fsync=fail").unwrap().sync_fails);
        assert_eq!(Failpoints::parse("clock=-200").unwrap().clock_ms, -200);
        assert_eq!(Failpoints::parse("").unwrap(), Failpoints::default());
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for line in ["fsync=sometimes", "fsync=delay:soon", "clock=", "sync"] {
            let error = format!("{:#}", Failpoints::parse(line).unwrap_err());
            assert!(error.contains(line), "{error}");
        }
    }
}
