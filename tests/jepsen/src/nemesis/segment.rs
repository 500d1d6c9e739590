//! As much of kvd's raft log format (docs/formats.md) as is needed to damage it on purpose: where the records of the last
//! segment end, and up to where they had been synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SEGMENT_HEADER: u64 = 48;
const RECORD_HEADER: u64 = 48;
/// The state record at the head of each segment, which is synced before the segment has its name.
const HEAD: u64 = SEGMENT_HEADER + RECORD_HEADER + 96;
const MAGIC: &[u8; 2] = b"KL";
const SEAL: u8 = 8;

/// The segment that is being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub path: PathBuf,
    /// Below this, everything had been synced.
    pub synced: u64,
    /// Where the last record ends.
    pub end: u64,
    /// The length of the file.
    pub length: u64,
}

impl Segment {
    /// The last segment of the log in `dir`; none if it holds nothing but its head, or is sealed, so that another one was
    /// about to be made.
    pub fn last(dir: &Path) -> io::Result<Option<Segment>> {
        let mut names: Vec<PathBuf> = fs::read_dir(dir)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
            .collect();
        names.sort();
        let Some(path) = names.pop() else {
            return Ok(None);
        };
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let (mut at, mut synced, mut kind) = (SEGMENT_HEADER, HEAD, 0);
        let mut header = [0; RECORD_HEADER as usize];
        while at + RECORD_HEADER <= length {
            file.read_exact_at(&mut header, at)?;
            if header[..2] != *MAGIC {
                break;
            }
            kind = header[2];
            let payload = number(&header, 8).next_multiple_of(8);
            synced = synced.max(number(&header, 20));
            at += RECORD_HEADER + payload;
        }
        let usable = at > HEAD && kind != SEAL && at <= length && synced <= at;
        Ok(usable.then_some(Segment {
            path,
            synced,
            end: at,
            length,
        }))
    }

    /// Its name in the directory.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Changes its bytes from `at` on.
    pub fn overwrite(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = File::options().write(true).open(&self.path)?;
        file.write_all_at(bytes, at)?;
        file.sync_all()
    }

    /// Its bytes from `from` to before `to`.
    pub fn bytes(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        File::open(&self.path)?.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }
}

/// The numbers of the segments in a log's directory.
pub(super) fn numbers(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.strip_suffix(".seg")?.parse().ok())
        .collect()
}

fn number(header: &[u8; RECORD_HEADER as usize], at: usize) -> u64 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u64::from(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: u32, synced: u32) -> Vec<u8> {
        let mut record = vec![0; RECORD_HEADER as usize + payload.next_multiple_of(8) as usize];
        record[..2].copy_from_slice(MAGIC);
        record[2] = kind;
        record[8..12].copy_from_slice(&payload.to_le_bytes());
        record[20..24].copy_from_slice(&synced.to_le_bytes());
        record
    }

    fn log(records: &[Vec<u8>]) -> (tempfile::TempDir, u64) {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let mut bytes = vec![1; SEGMENT_HEADER as usize];
        bytes.extend(record(6, 96, 0));
        bytes.extend(records.concat());
        let end = bytes.len() as u64;
        bytes.resize(4096, 0);
        fs::write(dir.path().join("0000000001.seg"), b"an older one").expect("it can be written");
        fs::write(dir.path().join("0000000002.seg"), bytes).expect("it can be written");
        (dir, end)
    }

    #[test]
    fn the_end_and_what_was_synced_are_found_in_the_last_segment() {
        let (dir, end) = log(&[record(1, 5, 192), record(7, 0, 248), record(1, 16, 248)]);
        let segment = Segment::last(dir.path()).expect("it can be read");
        let segment = segment.expect("it has records");
        assert_eq!(segment.name(), "0000000002.seg");
        assert_eq!((segment.synced, segment.end), (248, end));
    }

    #[test]
    fn a_segment_without_records_or_with_a_seal_is_left_alone() {
        for records in [vec![], vec![record(1, 8, 192), record(8, 0, 248)]] {
            let (dir, _) = log(&records);
            assert_eq!(Segment::last(dir.path()).expect("it can be read"), None);
        }
    }
}
