//! A disk whose syncs can be made to hang.

use std::io;
use std::sync::Arc;

use keelson_log::{DiskDir, LogDir, LogFile};
use parking_lot::{Condvar, Mutex};

/// The switch: while it is on, no sync ends.
#[derive(Clone, Default)]
pub struct Hang(Arc<(Mutex<bool>, Condvar)>);

impl Hang {
    pub fn set(&self, hangs: bool) {
        let (switch, changed) = &*self.0;
        *switch.lock() = hangs;
        changed.notify_all();
    }

    fn pass(&self) {
        let (switch, changed) = &*self.0;
        changed.wait_while(&mut switch.lock(), |hangs| *hangs);
    }
}

/// A directory on it.
pub struct HangingDir {
    pub dir: DiskDir,
    pub hang: Hang,
}

pub struct HangingFile {
    file: <DiskDir as LogDir>::File,
    hang: Hang,
}

impl HangingDir {
    fn file(&self, file: <DiskDir as LogDir>::File) -> HangingFile {
        HangingFile {
            file,
            hang: self.hang.clone(),
        }
    }
}

impl LogDir for HangingDir {
    type File = HangingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<HangingFile> {
        Ok(self.file(self.dir.create(name, size)?))
    }

    fn open(&self, name: &str) -> io::Result<HangingFile> {
        Ok(self.file(self.dir.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.hang.pass();
        self.dir.sync_dir()
    }
}

impl LogFile for HangingFile {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hang.pass();
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
