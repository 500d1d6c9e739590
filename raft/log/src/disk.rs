//! Real files: `fdatasync`, and space reserved with `fallocate`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::io::{LogDir, LogFile};

/// Zeros written at a time where the file system has no `fallocate`.
const FILL_BYTES: usize = 1 << 20;

/// A directory of the file system.
#[derive(Debug)]
pub struct DiskDir {
    path: PathBuf,
    /// Kept open to sync names.
    handle: File,
}

impl DiskDir {
    /// Opens `path`, and creates it (durably, and for its owner alone) if only its last component is missing.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let handle = File::open(&path)?;
        Ok(DiskDir { path, handle })
    }
}

impl LogDir for DiskDir {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<DiskFile> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path.join(name))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file, size)?,
            Err(error) => return Err(error.into()),
        }
        Ok(DiskFile(file))
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))
            .map(DiskFile)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

/// Writes zeros, so that a later write into the file cannot find the disk full.
fn fill(file: &File, size: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < size {
        let len = FILL_BYTES.min(usize::try_from(size - offset).unwrap_or(FILL_BYTES));
        file.write_all_at(&zeros[..len], offset)?;
        offset += len as u64;
    }
    Ok(())
}

/// An open file of a [`DiskDir`].
#[derive(Debug)]
pub struct DiskFile(File);

impl LogFile for DiskFile {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
