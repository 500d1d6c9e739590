//! How much room the disks have, how much of it the store may take, and when there is too little to go on.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The share of the disk that is left to others and to files that are being rewritten: a tenth.
const RESERVE_DIVISOR: u64 = 10;
/// And no less than this, on a disk that has it.
const RESERVE_BYTES_MIN: u64 = 1 << 30;
/// The raft log takes room for a whole segment at once; a disk that has not that much ends without having been low.
const LOW_BYTES_MIN: u64 = 2 * SEGMENT_BYTES;
/// What a segment of the raft log takes.
const SEGMENT_BYTES: u64 = 64 << 20;
/// What a member needs to open its store, and to write down what it had not yet before it was stopped.
const START_BYTES: u64 = 16 << 20;
/// The store keeps history beside the newest values, so its files are larger than what the quota counts.
const FILES_A_BYTE: u64 = 2;

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What is free for us.
    pub free: u64,
}

impl Room {
    /// The room where a path is.
    pub fn at(path: &Path) -> io::Result<Room> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Room {
            total: found.f_blocks * found.f_frsize,
            free: found.f_bavail * found.f_frsize,
        })
    }

    /// What is not to be filled.
    pub fn reserve(self) -> u64 {
        (self.total / RESERVE_DIVISOR).max(RESERVE_BYTES_MIN.min(self.total / 2))
    }

    /// The quota of a store that was given none: the disk less the reserve, in what the quota counts.
    pub fn default_quota_bytes(self) -> i64 {
        i64::try_from((self.total - self.reserve()) / FILES_A_BYTE).unwrap_or(i64::MAX)
    }

    /// Whether writing must stop before the disk is full: when half of the reserve is gone.
    pub fn is_low(self) -> bool {
        self.free < (self.reserve() / 2).max(LOW_BYTES_MIN)
    }
}

/// A disk on which a member cannot start.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum DiskError {
    #[error(
        "the disk is full: {path} has {free} bytes free, and a start needs {needed}; nothing was touched"
    )]
    Full {
        path: PathBuf,
        free: u64,
        needed: u64,
    },
    #[error("the room on the disk of {path} is not known: {source}")]
    Unknown { path: PathBuf, source: io::Error },
}

/// Whether a member can start with its data at `data_dir` and its raft log at `wal_dir`, if that is elsewhere. A start
/// that fails for want of room half-way would leave its traces.
pub fn check_start(
    data_dir: &Path,
    wal_dir: Option<&Path>,
    first_start: bool,
) -> Result<(), DiskError> {
    let segment = if first_start { SEGMENT_BYTES } else { 0 };
    let mut needed = vec![(data_dir, START_BYTES)];
    match wal_dir {
        Some(wal_dir) => needed.push((wal_dir, segment)),
        None => needed[0].1 += segment,
    }
    for (path, needed) in needed {
        let free = room_for(path)
            .map_err(|source| DiskError::Unknown {
                path: path.to_owned(),
                source,
            })?
            .free;
        if free < needed {
            return Err(DiskError::Full {
                path: path.to_owned(),
                free,
                needed,
            });
        }
    }
    Ok(())
}

/// The room where a path is, or will be made.
fn room_for(path: &Path) -> io::Result<Room> {
    let absolute = std::path::absolute(path)?;
    let there = absolute.ancestors().find(|path| path.exists());
    Room::at(there.unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_default_quota_is_the_disk_less_a_tenth() {
        let room = Room {
            total: 100 * GIB,
            free: 50 * GIB,
        };
        assert_eq!(room.reserve(), 10 * GIB);
        assert_eq!(room.default_quota_bytes(), (45 * GIB) as i64);
    }

    #[test]
    fn a_small_disk_keeps_a_larger_share() {
        assert_eq!(
            Room {
                total: 4 * GIB,
                free: 0
            }
            .reserve(),
            GIB
        );
        assert_eq!(
            Room {
                total: GIB,
                free: 0
            }
            .reserve(),
            GIB / 2
        );
        assert_eq!(Room { total: 0, free: 0 }.default_quota_bytes(), 0);
    }

    #[test]
    fn a_disk_is_low_when_half_of_the_reserve_is_gone() {
        assert!(
            !Room {
                total: 100 * GIB,
                free: 5 * GIB
            }
            .is_low()
        );
        assert!(
            Room {
                total: 100 * GIB,
                free: 5 * GIB - 1
            }
            .is_low()
        );
    }

    #[test]
    fn a_disk_without_room_for_two_segments_of_the_log_is_low_whatever_its_size() {
        let small = |free| Room {
            total: GIB / 8,
            free,
        };
        assert!(small(100 << 20).is_low());
    }

    #[test]
    fn the_logs_segments_are_as_large_as_is_believed_here() {
        let segment_bytes = keelson_log::Options::default().segment_bytes;
        assert_eq!(SEGMENT_BYTES, u64::from(segment_bytes));
    }

    #[test]
    fn a_start_is_looked_at_where_the_directories_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let to_be = dir.path().join("a/b");
        assert_eq!(
            room_for(&to_be).unwrap().total,
            Room::at(dir.path()).unwrap().total
        );
        check_start(&to_be, Some(dir.path()), true).unwrap();
        assert!(!to_be.exists());
    }

    #[test]
    fn there_is_room_here() {
        let room = Room::at(Path::new("/")).unwrap();
        assert!(room.total > 0 && room.free <= room.total);
    }
}
