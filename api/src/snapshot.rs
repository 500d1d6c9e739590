//! The stream of Maintenance.Snapshot: a checkpoint of the member's state as a tar archive, then the SHA-256 of it.
//!
//! etcd sends its one database file in chunks of 32 KiB and then 32 bytes of SHA-256; clients write all of it to a
//! file and know nothing of what is inside. Ours has several files inside, so it is an archive that any tar opens,
//! whose first entry says what it is ([`Head`]). `kvd snapshot-status` and `kvd snapshot-restore` read it.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use keelson_proto::commandpb::State;
use keelson_proto::etcdserverpb::SnapshotResponse;
use keelson_raft::{Parts, Trouble};
use keelson_store::Revision;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tonic::Status;

use crate::context::Context;
use crate::error::Failure;
use crate::kv::blocking;
use crate::version::STORAGE_VERSION;

/// The name of the archive's first entry.
pub const HEAD_NAME: &str = "KEELSON-SNAPSHOT";

/// What the first line of the archive's first entry says.
const HEAD_TITLE: &str = "keelson snapshot";

/// The archive's format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The length of the SHA-256 that follows the archive.
pub const CHECKSUM_BYTES: u64 = 32;

/// How much a message of the stream carries.
const CHUNK_BYTES: usize = 32 * 1024;

/// tar's unit: an archive is a whole number of these.
pub const BLOCK_BYTES: u64 = 512;

/// What the archive's first entry says of the state inside, so that nobody needs to open it to know: a title, the
/// format, the revision and the number of keys, a line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The state's revision.
    pub revision: Revision,
    /// How many keys it has.
    pub keys: u64,
}

/// Why the archive's first entry cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// It was written by a newer version.
    #[error(
        "its format is {found}, and this version reads formats up to {FORMAT}: use a newer one"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It says something else than it should.
    #[error("its first entry cannot be understood")]
    Malformed,
}

impl Head {
    fn of(state: &State) -> Head {
        Head {
            revision: Revision(state.revision),
            keys: state.keys,
        }
    }

    /// Reads the first entry.
    pub fn parse(text: &str) -> Result<Head, HeadError> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD_TITLE) {
            return Err(HeadError::Malformed);
        }
        let mut number = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.strip_prefix(' ')?.parse().ok());
            number.ok_or(HeadError::Malformed)
        };
        // A newer format may go on differently.
        match u32::try_from(number("format")?) {
            Ok(FORMAT) => {}
            Ok(found) if found > FORMAT => return Err(HeadError::Newer { found }),
            _ => return Err(HeadError::Malformed),
        }
        Ok(Head {
            revision: Revision(number("revision")?),
            keys: u64::try_from(number("keys")?).map_err(|_| HeadError::Malformed)?,
        })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Head { revision, keys } = self;
        let revision = revision.0;
        write!(
            f,
            "{HEAD_TITLE}\nformat {FORMAT}\nrevision {revision}\nkeys {keys}\n"
        )
    }
}

/// A directory that goes when nobody needs it any more.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "a snapshot's files could not be removed");
        }
    }
}

/// A checkpoint that is about to be sent.
pub(crate) struct Checkpoint {
    archive: Archive,
    _dir: Scratch,
}

/// Makes a checkpoint of the member's state.
pub(crate) async fn checkpoint<P: Parts>(context: &Context<P>) -> Result<Checkpoint, Status> {
    let dir = Scratch(
        context
            .options
            .scratch_dir
            .join(format!("snapshot-{:016x}", rand::random::<u64>())),
    );
    let member = context.member.clone();
    // A task of its own, which owns the directory: a client that goes meanwhile must not leave one behind that is made after
    // it was removed, and whose links keep files on the disk.
    let made = tokio::spawn(async move {
        let state = member.backup(&dir.0).await.map_err(Failure::from)?;
        blocking(move || {
            let archive = Archive::of(&dir.0, Head::of(&state)).map_err(|source| Failure::Io {
                context: "listing a snapshot",
                source,
            })?;
            Ok(Checkpoint { archive, _dir: dir })
        })
        .await
    });
    match made.await {
        Ok(checkpoint) => checkpoint,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime shuts down.
        Err(_) => Err(Failure::from(Trouble::Stopped).into()),
    }
}

enum Step {
    Archive {
        checkpoint: Checkpoint,
        hash: Sha256,
        left: u64,
    },
    Hash([u8; 32]),
    Done,
}

/// The messages of the stream. Each chunk is read when the client has room for it.
pub(crate) fn stream(
    checkpoint: Checkpoint,
) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send {
    let left = checkpoint.archive.len();
    let first = Step::Archive {
        checkpoint,
        hash: Sha256::new(),
        left,
    };
    futures::stream::try_unfold(first, |step| async move {
        Ok(match step {
            Step::Archive {
                checkpoint,
                hash,
                left,
            } => Some(next_chunk(checkpoint, hash, left).await?),
            Step::Hash(sum) => Some((message(Bytes::copy_from_slice(&sum), 0), Step::Done)),
            Step::Done => None,
        })
    })
}

async fn next_chunk(
    mut checkpoint: Checkpoint,
    mut hash: Sha256,
    left: u64,
) -> Result<(SnapshotResponse, Step), Status> {
    blocking(move || {
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
        checkpoint
            .archive
            .read_exact(&mut chunk)
            .map_err(|source| Failure::Io {
                context: "reading a snapshot",
                source,
            })?;
        hash.update(&chunk);
        let left = left - chunk.len() as u64;
        let next = if left > 0 {
            Step::Archive {
                checkpoint,
                hash,
                left,
            }
        } else {
            Step::Hash(hash.finalize().into())
        };
        Ok((message(chunk.into(), left), next))
    })
    .await
}

fn message(blob: Bytes, remaining_bytes: u64) -> SnapshotResponse {
    SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: STORAGE_VERSION.into(),
    }
}

/// A tar archive of a directory's files, made while it is read.
struct Archive {
    pieces: VecDeque<Piece>,
    open: Option<io::Take<File>>,
}

enum Piece {
    /// A header, padding, or the end.
    Bytes(Cursor<Vec<u8>>),
    /// A file and its length when the archive was begun: checkpoints do not change.
    File(PathBuf, u64),
}

impl Archive {
    /// Lists the files of `dir` and of the directories in it.
    fn of(dir: &Path, head: Head) -> io::Result<Archive> {
        let head = head.to_string().into_bytes();
        let head_len = head.len() as u64;
        let mut archive = Archive {
            pieces: VecDeque::new(),
            open: None,
        };
        archive.push_header(HEAD_NAME, head_len)?;
        archive.push_bytes(head);
        archive.push_padding(head_len);
        for (name, path, len) in files(dir)? {
            archive.push_header(&name, len)?;
            archive.pieces.push_back(Piece::File(path, len));
            archive.push_padding(len);
        }
        // Two empty blocks end an archive.
        archive.push_bytes(vec![0; 2 * BLOCK_BYTES as usize]);
        Ok(archive)
    }

    fn push_header(&mut self, name: &str, len: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_size(len);
        header.set_mode(0o600);
        header.set_cksum();
        self.push_bytes(header.as_bytes().to_vec());
        Ok(())
    }

    fn push_bytes(&mut self, bytes: Vec<u8>) {
        self.pieces.push_back(Piece::Bytes(Cursor::new(bytes)));
    }

    fn push_padding(&mut self, len: u64) {
        let short = (BLOCK_BYTES - len % BLOCK_BYTES) % BLOCK_BYTES;
        self.push_bytes(vec![0; short as usize]);
    }

    fn len(&self) -> u64 {
        let length = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.get_ref().len() as u64,
            Piece::File(_, len) => *len,
        };
        self.pieces.iter().map(length).sum()
    }
}

impl Read for Archive {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !buf.is_empty() {
            if let Some(file) = &mut self.open {
                match file.read(buf)? {
                    0 if file.limit() > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    0 => self.open = None,
                    read => return Ok(read),
                }
            }
            match self.pieces.front_mut() {
                None => break,
                Some(Piece::Bytes(bytes)) => match bytes.read(buf)? {
                    0 => {
                        self.pieces.pop_front();
                    }
                    read => return Ok(read),
                },
                Some(Piece::File(path, len)) => {
                    self.open = Some(File::open(path)?.take(*len));
                    self.pieces.pop_front();
                }
            }
        }
        Ok(0)
    }
}

/// The files of the state under a directory as (name in the archive, path, length), sorted by name.
fn files(dir: &Path) -> io::Result<Vec<(String, PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut dirs = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, dir)) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
            // Left behind by opening the checkpoint: an engine's lock and its own log are no part of the state.
            if name == "LOCK" || name.starts_with("LOG") {
                continue;
            }
            let name = format!("{prefix}{name}");
            let kind = entry.metadata()?;
            if kind.is_dir() {
                dirs.push((format!("{name}/"), entry.path()));
            } else {
                found.push((name, entry.path(), kind.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const HEAD: Head = Head {
        revision: Revision(7),
        keys: 3,
    };

    async fn sent(
        files: &[(&str, Vec<u8>)],
    ) -> (Vec<SnapshotResponse>, PathBuf, tempfile::TempDir) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("checkpoint");
        fs::create_dir_all(dir.join("engine")).unwrap();
        for (name, content) in files {
            fs::write(dir.join(name), content).unwrap();
        }
        let checkpoint = Checkpoint {
            archive: Archive::of(&dir, HEAD).unwrap(),
            _dir: Scratch(dir.clone()),
        };
        let messages: Vec<_> = stream(checkpoint).map(Result::unwrap).collect().await;
        (messages, dir, home)
    }

    #[tokio::test]
    async fn a_snapshot_is_a_tar_archive_followed_by_its_sha256() {
        let big: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        let (messages, _, _home) = sent(&[
            ("a", big.clone()),
            ("engine/b", vec![]),
            ("engine/c", vec![7; 512]),
        ])
        .await;
        let (sum, archive) = messages.split_last().unwrap();
        let archive: Vec<u8> = archive
            .iter()
            .flat_map(|message| message.blob.to_vec())
            .collect();
        assert_eq!(sum.blob[..], Sha256::digest(&archive)[..]);

        let mut entries = Vec::new();
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            entries.push((entry.path().unwrap().display().to_string(), content));
        }
        assert_eq!(
            entries,
            [
                (HEAD_NAME.to_owned(), HEAD.to_string().into_bytes()),
                ("a".to_owned(), big),
                ("engine/b".to_owned(), vec![]),
                ("engine/c".to_owned(), vec![7; 512]),
            ]
        );
    }

    #[test]
    fn an_engines_lock_and_its_own_log_are_not_in_the_archive() {
        let home = tempfile::tempdir().unwrap();
        for name in ["LOCK", "LOG", "LOG.old.17", "CURRENT", "000004.log"] {
            fs::write(home.path().join(name), name).unwrap();
        }
        let found = files(home.path()).unwrap().into_iter();
        let names: Vec<String> = found.map(|(name, ..)| name).collect();
        assert_eq!(names, ["000004.log", "CURRENT"]);
    }

    #[tokio::test]
    async fn chunks_are_32_kib_and_count_down_to_zero() {
        let (messages, _, _home) = sent(&[("a", vec![1; 100_000])]).await;
        let (last, chunks) = messages[..messages.len() - 1].split_last().unwrap();
        assert!(
            chunks
                .iter()
                .all(|message| message.blob.len() == CHUNK_BYTES)
        );
        assert!(chunks.iter().all(|message| message.remaining_bytes > 0));
        assert_eq!(last.remaining_bytes, 0);
        assert_eq!(messages.last().unwrap().blob.len(), 32);
    }

    #[tokio::test]
    async fn the_checkpoint_is_gone_when_it_has_been_sent() {
        let (_, dir, _home) = sent(&[("a", vec![1; 10])]).await;
        assert!(!dir.exists());
    }

    /// The text is in people's backups: what was written once is read for ever.
    #[test]
    fn the_head_says_what_is_inside() {
        let text = "keelson snapshot\nformat 1\nrevision 7\nkeys 3\n";
        assert_eq!(HEAD.to_string(), text);
        assert_eq!(Head::parse(text), Ok(HEAD));
    }

    #[test]
    fn a_newer_head_and_a_damaged_one_are_told_apart() {
        let newer = Head::parse("keelson snapshot\nformat 2\nwhatever\n");
        assert_eq!(newer, Err(HeadError::Newer { found: 2 }));
        for text in [
            "",
            "keelson snapshots\nformat 1\n",
            "keelson snapshot\nformat one\n",
            "keelson snapshot\nformat 0\nrevision 7\nkeys 3\n",
            "keelson snapshot\nformat 1\nrevision 7\n",
            "keelson snapshot\nformat 1\nrevision 7\nkeys -3\n",
        ] {
            assert_eq!(Head::parse(text), Err(HeadError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_got_shorter_is_an_error_and_not_a_shorter_archive() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("a"), [1; 1000]).unwrap();
        let mut archive = Archive::of(home.path(), HEAD).unwrap();
        fs::write(home.path().join("a"), [1; 10]).unwrap();
        let error = archive.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
