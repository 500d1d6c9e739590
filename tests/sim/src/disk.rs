//! The disk under a member's log: honest, or one that says that it has synced and has not.
//!
//! The liar is there to test the tests: with it, an acknowledged write is lost at a power loss, and the simulation
//! must say so.

use std::io;

use keelson_log::{LogDir, LogFile, SimDir, SimFile};

/// A simulated directory of log files.
#[derive(Clone)]
pub struct Disk {
    dir: SimDir,
    lies: bool,
}

impl Disk {
    /// An empty disk.
    pub fn new(lies: bool) -> Disk {
        Disk {
            dir: SimDir::new(),
            lies,
        }
    }

    /// The machine loses power: what was not synced is kept, dropped or torn.
    pub fn crash(&self, seed: u64) -> Disk {
        Disk {
            dir: self.dir.crash(seed),
            lies: self.lies,
        }
    }

    /// The machine loses power in the middle of its last write, and keeps what it did before.
    pub fn crash_in_last_write(&self, seed: u64) -> Disk {
        Disk {
            dir: self.dir.crash_in_last_write(seed),
            lies: self.lies,
        }
    }

    /// The process is killed, and the machine goes on.
    pub fn kill(&self) -> Disk {
        Disk {
            dir: self.dir.kill(),
            lies: self.lies,
        }
    }

    /// The power goes after so many more changes: everything fails from then on, and what was not synced is to be
    /// settled by [`Disk::crash`].
    pub fn lose_power_after(&self, changes: u64) {
        self.dir.fail_after(changes);
    }

    /// The next sync fails, and what it should have synced never will be.
    pub fn fail_next_sync(&self) {
        self.dir.fail_next_sync();
    }
}

/// A file on such a disk.
pub struct DiskFile {
    file: SimFile,
    lies: bool,
}

impl LogDir for Disk {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<DiskFile> {
        let file = self.dir.create(name, size)?;
        // A new file's frame is synced all the same: what is to be lost is what was acknowledged.
        file.sync_data()?;
        let lies = self.lies;
        Ok(DiskFile { file, lies })
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        let file = self.dir.open(name)?;
        let lies = self.lies;
        Ok(DiskFile { file, lies })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir.sync_dir()
    }
}

impl LogFile for DiskFile {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, buf)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.lies {
            return Ok(());
        }
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
