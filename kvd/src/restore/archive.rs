//! Reading a file that `snapshot save` has written: a tar archive of a state's files, then the SHA-256 of it.
//!
//! **Guarantees**: what is not such a file, or not whole, is known before anything is unpacked, and is one clear line;
//! unpacking writes below its directory and nowhere else.
//!
//! **Leaves to others**: what the files mean, and getting them to the disk.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Component, Path, PathBuf};

use keelson_api::snapshot::{BLOCK_BYTES, CHECKSUM_BYTES, HEAD_NAME, Head, HeadError};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// At this offset a bbolt file, which is what etcd's snapshots are, has these bytes.
const BBOLT_MAGIC: (usize, [u8; 4]) = (16, 0xED0C_DAED_u32.to_le_bytes());
/// More than any head has.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// How much is read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Whether the checksum at the end must be there and agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It must.
    Sha256,
    /// `--skip-hash-check`: for an archive that somebody has put together or changed.
    Nothing,
}

/// What is wrong with a backup.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum ArchiveError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not a file")]
    NotAFile { path: PathBuf },
    #[error("{path} is a snapshot of an etcd (a bbolt database): use etcdutl")]
    Etcd { path: PathBuf },
    #[error("{path} is not a snapshot of Keelson's")]
    Foreign { path: PathBuf },
    #[error(
        "{path} is truncated or damaged: the SHA-256 at its end is not that of what is before it"
    )]
    Checksum { path: PathBuf },
    #[error("{path}: {source}")]
    Head { path: PathBuf, source: HeadError },
    #[error("{path} is truncated or damaged: {problem}")]
    Damaged { path: PathBuf, problem: String },
}

/// A backup, checked.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    len: u64,
    sha256: [u8; 32],
    head: Head,
}

impl Archive {
    /// Opens a file and reads all of it once, to check it.
    pub fn open(path: &Path, check: Check) -> Result<Archive, ArchiveError> {
        let io = |source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(ArchiveError::NotAFile {
                path: path.to_owned(),
            });
        }
        recognize(path, &mut file)?;
        // The archive is a whole number of blocks, so that what is over is a checksum, or shows that something is missing.
        let has_checksum = metadata.len() % BLOCK_BYTES == CHECKSUM_BYTES;
        if check == Check::Sha256 && !has_checksum {
            return Err(ArchiveError::Checksum {
                path: path.to_owned(),
            });
        }
        let len = metadata.len() - if has_checksum { CHECKSUM_BYTES } else { 0 };
        file.rewind().map_err(io)?;
        let sha256 = digest((&mut file).take(len)).map_err(io)?;
        let mut written = Vec::new();
        file.read_to_end(&mut written).map_err(io)?;
        if check == Check::Sha256 && written != sha256 {
            return Err(ArchiveError::Checksum {
                path: path.to_owned(),
            });
        }
        let head = read_head(path, &mut file, len)?;
        Ok(Archive {
            path: path.to_owned(),
            file,
            len,
            sha256,
            head,
        })
    }

    /// What it says of the state inside.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The size of the archive, without its checksum.
    pub fn size_bytes(&self) -> u64 {
        self.len
    }

    /// The SHA-256 of the archive.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Writes the files of the state into the directory `into`.
    pub fn unpack(&mut self, into: &Path) -> Result<(), ArchiveError> {
        let path = self.path.clone();
        let io = |source| ArchiveError::Io {
            path: path.clone(),
            source,
        };
        let damaged = |problem: String| ArchiveError::Damaged {
            path: path.clone(),
            problem,
        };
        self.file.rewind().map_err(io)?;
        let mut tar = tar::Archive::new((&mut self.file).take(self.len));
        // The head is no part of the state.
        for entry in tar.entries().map_err(io)?.skip(1) {
            let mut entry = entry.map_err(|error| damaged(error.to_string()))?;
            let name = entry.path().map_err(io)?.into_owned();
            let is_plain = name
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            if !is_plain || !entry.header().entry_type().is_file() {
                let name = name.display();
                return Err(damaged(format!("it holds {name}, which is no file's name")));
            }
            let to = into.join(&name);
            let problem = |source| ArchiveError::Io {
                path: to.clone(),
                source,
            };
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(problem)?;
            }
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .open(&to)
                .map_err(problem)?;
            let copied = io::copy(&mut entry, &mut file).map_err(problem)?;
            if copied != entry.size() {
                return Err(damaged(format!("it ends within {}", name.display())));
            }
        }
        Ok(())
    }
}

/// Refuses, by its first bytes, what was never one of our archives.
fn recognize(path: &Path, file: &mut File) -> Result<(), ArchiveError> {
    let mut start = Vec::new();
    file.take(BLOCK_BYTES)
        .read_to_end(&mut start)
        .map_err(|source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        })?;
    let path = path.to_owned();
    let (offset, magic) = BBOLT_MAGIC;
    let name = start.strip_prefix(HEAD_NAME.as_bytes());
    if name.is_some_and(|rest| rest.first() == Some(&0)) {
        Ok(())
    } else if start.get(offset..offset + magic.len()) == Some(&magic) {
        Err(ArchiveError::Etcd { path })
    } else {
        Err(ArchiveError::Foreign { path })
    }
}

fn digest(mut from: impl Read) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn read_head(path: &Path, file: &mut File, len: u64) -> Result<Head, ArchiveError> {
    let damaged = |error: io::Error| ArchiveError::Damaged {
        path: path.to_owned(),
        problem: error.to_string(),
    };
    file.rewind().map_err(damaged)?;
    let mut tar = tar::Archive::new(file.take(len));
    let head = tar.entries().map_err(damaged)?.next();
    let head = head.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    let mut text = String::new();
    let head = head.map_err(damaged)?;
    head.take(HEAD_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(damaged)?;
    Head::parse(&text).map_err(|source| ArchiveError::Head {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use keelson_store::Revision;

    use super::*;

    const HEAD: Head = Head {
        revision: Revision(7),
        keys: 3,
    };

    /// An archive of these files, with its checksum.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let head = HEAD.to_string();
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in [&[(HEAD_NAME, head.as_bytes())], files].concat() {
            let mut header = tar::Header::new_gnu();
            // Not `set_path`, which refuses the names that a test wants.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let mut bytes = tar.into_inner().unwrap();
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        bytes
    }

    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.db");
        fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn problem(bytes: &[u8]) -> ArchiveError {
        let (_dir, path) = written(bytes);
        Archive::open(&path, Check::Sha256).unwrap_err()
    }

    #[test]
    fn what_was_saved_is_unpacked_again() {
        let (dir, path) = written(&archive(&[("a", b"alpha"), ("deep/b", &[7; 2000])]));
        let mut archive = Archive::open(&path, Check::Sha256).unwrap();
        assert_eq!(archive.head(), HEAD);
        assert_eq!(
            archive.size_bytes(),
            fs::metadata(&path).unwrap().len() - 32
        );
        let into = dir.path().join("into");
        archive.unpack(&into).unwrap();
        assert_eq!(fs::read(into.join("a")).unwrap(), b"alpha");
        assert_eq!(fs::read(into.join("deep/b")).unwrap(), [7; 2000]);
        assert_eq!(fs::read_dir(&into).unwrap().count(), 2);
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_is_noticed() {
        let whole = archive(&[("a", b"alpha")]);
        for at in HEAD_NAME.len() + 1..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(
                matches!(problem(&flipped), ArchiveError::Checksum { .. }),
                "byte {at}"
            );
            assert!(
                matches!(problem(&whole[..at]), ArchiveError::Checksum { .. }),
                "{at} bytes"
            );
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(problem(&longer), ArchiveError::Checksum { .. }));
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        let mut bbolt = vec![0; 20_480];
        bbolt[16..20].copy_from_slice(&BBOLT_MAGIC.1);
        assert!(matches!(problem(&bbolt), ArchiveError::Etcd { .. }));
        let other = archive(&[])[512..].to_vec();
        for foreign in [&b""[..], b"KEELSON-SNAPSHO", b"some text\n", &other] {
            assert!(matches!(problem(foreign), ArchiveError::Foreign { .. }));
        }
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Archive::open(path, Check::Sha256).unwrap_err();
        assert!(matches!(open(dir.path()), ArchiveError::NotAFile { .. }));
        let missing = open(&dir.path().join("nothing")).to_string();
        assert!(missing.contains("nothing: No such file"), "{missing}");
    }

    #[test]
    fn without_the_check_the_checksum_may_be_missing_or_wrong() {
        let whole = archive(&[("a", b"alpha")]);
        let bare = &whole[..whole.len() - 32];
        let mut wrong = whole.clone();
        *wrong.last_mut().unwrap() ^= 1;
        for bytes in [bare, &wrong] {
            let (dir, path) = written(bytes);
            let mut archive = Archive::open(&path, Check::Nothing).unwrap();
            assert_eq!(archive.sha256(), *Sha256::digest(bare));
            archive.unpack(&dir.path().join("into")).unwrap();
        }
    }

    #[test]
    fn without_the_check_a_file_that_ends_too_soon_is_still_noticed() {
        let whole = archive(&[("a", &[7; 2000])]);
        let (dir, path) = written(&whole[..512 * 5]);
        let mut archive = Archive::open(&path, Check::Nothing).unwrap();
        let error = archive.unpack(&dir.path().join("into")).unwrap_err();
        assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
    }

    #[test]
    fn nothing_is_unpacked_elsewhere() {
        for name in ["../a", "/a", "a/../../a"] {
            let (dir, path) = written(&archive(&[(name, b"alpha")]));
            let mut archive = Archive::open(&path, Check::Sha256).unwrap();
            let into = dir.path().join("deep/into");
            let error = archive.unpack(&into).unwrap_err();
            assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
            assert!(!dir.path().join("deep").exists());
        }
    }
}
