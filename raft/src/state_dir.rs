//! Where the state machine's files are: one directory at a time, named by a pointer.
//!
//! `CURRENT` holds the name of the directory in use. A snapshot is installed beside it, synced whole, and only then
//! takes its place, by an atomic rename of the pointer; what is not named there is left over and removed at start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const POINTER: &str = "CURRENT";

/// The directory that holds the state machine's directories.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Opens or makes the directory, and removes what an interrupted install or transfer left behind.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<StateDir> {
        let dir = StateDir { path: path.into() };
        fs::create_dir_all(&dir.path)?;
        let current = match fs::read_to_string(dir.path.join(POINTER)) {
            Ok(name) => name.trim().to_string(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir.point_at("0")?;
                "0".to_string()
            }
            Err(error) => return Err(error),
        };
        if current.is_empty() || current.contains(['/', '\\']) {
            let what = format!(
                "{} does not name a directory",
                dir.path.join(POINTER).display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        for entry in fs::read_dir(&dir.path)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() && name.to_str() != Some(current.as_str()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(dir)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state's directory now.
    pub fn current(&self) -> io::Result<PathBuf> {
        let name = fs::read_to_string(self.path.join(POINTER))?;
        Ok(self.path.join(name.trim()))
    }

    /// A name for the state that follows the current one.
    pub(crate) fn next(&self) -> io::Result<PathBuf> {
        let current = self.current()?;
        let number = current
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u64>().ok());
        Ok(self.path.join((number.unwrap_or(0) + 1).to_string()))
    }

    /// Makes `to`, whose files are synced, the current state.
    pub(crate) fn switch(&self, to: &Path) -> io::Result<()> {
        let name = to
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the state's directory has no plain name",
                )
            })?;
        sync_dir(&self.path)?;
        self.point_at(name)
    }

    fn point_at(&self, name: &str) -> io::Result<()> {
        let new = self.path.join("CURRENT.new");
        let mut file = File::create(&new)?;
        writeln!(file, "{name}")?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(POINTER))?;
        sync_dir(&self.path)
    }
}

/// Syncs every file of a directory, and the directory.
pub(crate) fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
