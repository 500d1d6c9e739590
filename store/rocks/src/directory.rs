//! What tells our directory from any other: the FORMAT file. Looked at before RocksDB is let in, since RocksDB
//! writes into whatever it opens.

use keelson_store::engine::EngineError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The newest layout that this version reads, and the one it writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
/// Its name until it is whole.
const FORMAT_NEW: &str = "FORMAT.tmp";
const FORMAT_PREFIX: &str = "keelson-rocks ";

/// What [`prepare`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing was there; the directory now is marked as ours.
    New,
    /// A store, perhaps empty.
    Existing,
}

/// Makes sure that `path` is a directory of ours: marks a missing or empty one, and refuses any other.
pub(crate) fn prepare(path: &Path) -> Result<Found, EngineError> {
    let found = inspect(path)?;
    if found == Found::New {
        mark_new(path).map_err(|error| at(path, "creating", error))?;
    }
    Ok(found)
}

/// As [`prepare`], changing nothing.
pub(crate) fn inspect(path: &Path) -> Result<Found, EngineError> {
    let names = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::New),
        entries => entries
            .and_then(names)
            .map_err(|error| at(path, "opening", error))?,
    };
    // A crash, or a full disk, may have come while the first one was written.
    if names.iter().all(|name| name == FORMAT_NEW) {
        return Ok(Found::New);
    }
    let refuse = |why: String| Err(at(path, "opening", why));
    let format = match fs::read_to_string(path.join(FORMAT_FILE)) {
        Ok(format) => format,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse("the directory is not empty, and it holds no store of this program (no FORMAT file)".into());
        }
        Err(error) => return refuse(format!("cannot read its FORMAT file: {error}")),
    };
    let version = format
        .strip_prefix(FORMAT_PREFIX)
        .and_then(|rest| rest.trim_end().parse::<u32>().ok());
    match version {
        None => {
            return refuse(format!(
                "its FORMAT file says {format:?}, which is no format of this program"
            ));
        }
        Some(version) if version > FORMAT => {
            return refuse(format!(
                "its format is {version}, and this program reads {FORMAT}: use a newer program"
            ));
        }
        Some(_) => {}
    }
    if names.iter().any(|name| name == "CURRENT") {
        return Ok(Found::Existing);
    }
    // RocksDB would begin anew and delete the data that lies about.
    if names.iter().any(|name| name.ends_with(".sst")) {
        return refuse("its CURRENT file is missing: the store is damaged".into());
    }
    // A crash came before the store was created.
    Ok(Found::New)
}

fn names(entries: fs::ReadDir) -> io::Result<Vec<String>> {
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn mark_new(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    mark(path)?;
    sync_parent(path)
}

/// Writes the FORMAT file, whole or not at all.
pub(crate) fn mark(path: &Path) -> io::Result<()> {
    let temporary = path.join(FORMAT_NEW);
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{FORMAT_PREFIX}{FORMAT}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path.join(FORMAT_FILE))?;
    File::open(path)?.sync_all()
}

/// Syncs the directory that holds `path`, so that the entry survives a crash.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// An error about the directory.
pub(crate) fn at(
    path: &Path,
    doing: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::new(format!("{doing} the store in {}", path.display()), source)
}
