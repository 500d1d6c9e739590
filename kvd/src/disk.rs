//! How much room the disk has, and how much of it the store may take.

use std::io;
use std::path::Path;

/// The share of the disk that is left to others and to files that are being rewritten: a tenth.
const RESERVE_DIVISOR: u64 = 10;
/// And no less than this, on a disk that has it.
const RESERVE_BYTES_MIN: u64 = 1 << 30;
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
        self.free < self.reserve() / 2
    }
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
    fn there_is_room_here() {
        let room = Room::at(Path::new("/")).unwrap();
        assert!(room.total > 0 && room.free <= room.total);
    }
}
