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
    /// Whether there is a directory with a state in it. Changes nothing.
    pub fn is_at(path: &Path) -> bool {
        let dir = StateDir { path: path.into() };
        dir.current().is_ok_and(|current| current.is_dir())
    }

    /// Opens or makes the directory, and removes what an interrupted install or transfer left behind.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<StateDir> {
        let dir = StateDir { path: path.into() };
        fs::create_dir_all(&dir.path)?;
        let current = match fs::read_to_string(dir.path.join(POINTER)) {
            Ok(name) => name.trim().to_string(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // There is no state before there is a pointer: without one, what is there is not left over.
                if let Some(state) = dir.some_directory()? {
                    let what = format!(
                        "{} is missing, and {} is there: the state is damaged",
                        dir.path.join(POINTER).display(),
                        state.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
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

    fn some_directory(&self) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_whose_pointer_is_gone_is_damaged_and_not_left_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state");
        let dir = StateDir::open(&path).unwrap();
        assert!(!StateDir::is_at(&path));
        fs::create_dir(dir.current().unwrap()).unwrap();
        assert!(StateDir::is_at(&path));
        fs::remove_file(path.join(POINTER)).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(path.join("0").is_dir());
    }

    #[test]
    fn what_the_pointer_does_not_name_is_left_over() {
        let home = tempfile::tempdir().unwrap();
        let dir = StateDir::open(home.path()).unwrap();
        fs::create_dir(dir.current().unwrap()).unwrap();
        fs::create_dir(home.path().join("outgoing-3")).unwrap();
        StateDir::open(home.path()).unwrap();
        assert!(home.path().join("0").is_dir());
        assert!(!home.path().join("outgoing-3").exists());
    }
}
