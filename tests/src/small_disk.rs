//! A disk that really runs full: a tmpfs of some MiB in a mount namespace of its own.
//!
//! Nobody else sees it, and it is gone when the process that holds the namespace ends. Mounting takes root, or a kernel that lets
//! users make namespaces; without either the test that asks for such a disk fails, and says so: it has proven nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Fills the rest of the disk, when that is less than a page of a file.
const PAGE: [u8; 4096] = [7; 4096];

/// A small disk. It is unmounted when this is dropped; what runs on it must have ended by then.
#[derive(Debug)]
pub struct SmallDisk {
    /// Holds the namespace for as long as its standard input is open.
    holder: Child,
    at: PathBuf,
    is_root: bool,
}

impl SmallDisk {
    /// Mounts one of so many MiB at `at`, an empty folder, for those alone who are started through
    /// [`SmallDisk::through`].
    pub fn mount(at: &Path, mib: u32) -> SmallDisk {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs -o \"size=$1m,mode=700\" keelson-test \"$0\" && echo mounted && exec cat")
            .arg(at)
            .arg(mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap_or_else(|e| {
            panic!("a test needs a disk of its own, and cannot run unshare: {e}")
        });
        let mut said = String::new();
        let out = holder.stdout.take().expect("it is piped");
        // Ends with the process, if that cannot mount.
        let _ = BufReader::new(out).read_line(&mut said);
        assert_eq!(
            said.trim(),
            "mounted",
            "A TEST OF FULL DISKS CANNOT RUN HERE, and nothing about them is proven: it needs root, or a kernel that \
             lets users make user and mount namespaces (see what unshare says above)"
        );
        SmallDisk {
            holder,
            at: at.to_owned(),
            is_root,
        }
    }

    /// The words to put before a program so that it sees the disk.
    pub fn through(&self) -> Vec<OsString> {
        let mut words = vec!["nsenter".into(), "--mount".into()];
        if !self.is_root {
            words.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        words.extend([
            "--target".into(),
            self.holder.id().to_string().into(),
            "--".into(),
        ]);
        words
    }

    /// Where the test itself finds the disk.
    pub fn path(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").expect("it is absolute");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let found = statvfs(self.path()).expect("the disk is mounted");
        found.f_bavail * found.f_frsize
    }

    /// Fills the disk up to so many free bytes, as another program would that shares it.
    pub fn fill(&self, leave: u64) {
        let mut file = File::create(self.ballast()).expect("there is room for a name");
        let bytes = self.free().saturating_sub(leave);
        if bytes > 0 {
            // What the disk itself needs of it besides is what the writes below run into.
            let most = bytes.saturating_sub(64 * PAGE.len() as u64).max(1);
            fallocate(&file, FallocateFlags::empty(), 0, most).expect("so much is free");
        }
        let mut end = file.metadata().expect("it is open").len();
        while self.free() > leave {
            use std::os::unix::fs::FileExt;
            match file.write_all_at(&PAGE, end) {
                Ok(()) => end += PAGE.len() as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("cannot fill the disk: {error}"),
            }
        }
        file.flush().expect("nothing is buffered");
    }

    /// Gives the room back that [`SmallDisk::fill`] took.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing left to do.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
