//! The seam between the log and the disk. All that the log does to files goes through these two
//! traits, so that simulation can crash, tear and fail exactly the code that ships.
//!
//! What the log relies on:
//!
//! - after `sync_data` returned, the bytes written before it began, and the file's length, survive
//!   any crash; bytes not synced may be there, absent, or there in part, in any order;
//! - writing next to synced bytes never harms them, even within one sector;
//! - after `sync_dir` returned, the names created, renamed and removed before it are as they are;
//!   each one before that survives a crash or not, independently;
//! - `rename` is atomic: a name leads to the old file or to the new one.

use std::io;

/// A directory that holds one log and nothing else that ends in `.seg` or `.new`.
pub trait LogDir: Send + Sync + 'static {
    /// An open file.
    type File: LogFile;

    /// Names of the files in it, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates (or empties) a file of `size` zero bytes with its space reserved.
    fn create(&self, name: &str, size: u64) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Renames, replacing `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Open handles stay usable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A file that is written in place, within the length it was created with.
pub trait LogFile: Send + Sync + 'static {
    /// Writes all of `buf`.
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Fills `buf`, or fails with `UnexpectedEof`.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Current length.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
