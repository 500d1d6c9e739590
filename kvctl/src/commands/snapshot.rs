//! `snapshot save`. The commands on the file that it makes are in [`super::offline`].
//!
//! `save` asks one member for a point-in-time copy and writes it to `FILE.part`. The stream ends
//! with the 32-byte SHA-256 of what went before; only when that agrees and the file is on the disk
//! does it get its name. So FILE, if it exists, is whole.

use super::offline;
use crate::cli::cluster::SnapshotCommand;
use crate::client::{Connection, Endpoint, Trouble};
use crate::error::{CtlError, Exit};
use crate::go::human_bytes;
use crate::output::{Format, tell, write_stdout};
use crate::settings::Settings;
use etcd_client::proto::PbSnapshotResponse;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tokio::signal::ctrl_c;
use tokio::time::{Duration, timeout};

/// The length of the checksum at the end of the stream.
const CHECKSUM_LEN: usize = 32;

/// `snapshot …`
pub async fn run(settings: &Settings, command: SnapshotCommand) -> Result<(), CtlError> {
    match command {
        SnapshotCommand::Save { file } => save(settings, &file)
            .await
            .map_err(|error| error.with_exit(Exit::Interrupted)),
        SnapshotCommand::Status { file } => offline::status(settings, &file),
        SnapshotCommand::Restore(args) => offline::restore(settings, &args),
    }
}

async fn save(settings: &Settings, path: &Path) -> Result<(), CtlError> {
    if path.is_dir() {
        return Err(CtlError::File {
            path: path.to_owned(),
            action: "cannot be written",
            source: io::ErrorKind::IsADirectory.into(),
        });
    }
    let connection = settings.cluster.connect_any("snapshot save").await?;
    if settings.cluster.endpoints.len() > 1 {
        tell(format_args!("Saving the data of {}", connection.endpoint));
    }
    let limit = settings.time_limit.unwrap_or(Duration::MAX);
    let size = tokio::select! {
        received = timeout(limit, receive(&connection, path)) => match received {
            Ok(size) => size?,
            Err(_) => return Err(broken(&connection.endpoint, path, "--command-timeout is over")),
        },
        // What was received so far is removed on the way out.
        _ = ctrl_c() => return Err(broken(&connection.endpoint, path, "interrupted")),
    };
    write_stdout(format!("Snapshot saved at {}\n", path.display()).as_bytes())?;
    if settings.output.format == Format::Person {
        tell(format_args!(
            "{} from {}, checksum verified",
            human_bytes(size),
            connection.endpoint
        ));
    }
    Ok(())
}

fn broken(endpoint: &Endpoint, path: &Path, reason: impl ToString) -> CtlError {
    CtlError::Snapshot {
        endpoint: endpoint.clone(),
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// Receives a snapshot into `path`; gives its size, the checksum included.
async fn receive(connection: &Connection, path: &Path) -> Result<u64, CtlError> {
    let broken = |reason: String| broken(&connection.endpoint, path, reason);
    let lost = |error: etcd_client::Error| broken(Trouble::from(error).to_string());
    let mut stream = connection.maintenance().snapshot().await.map_err(lost)?;
    let mut part = Part::create(path)?;
    let bar = progress_bar();
    while let Some(message) = stream.message().await.map_err(lost)? {
        let PbSnapshotResponse {
            blob,
            remaining_bytes,
            ..
        } = message.0;
        part.write(&blob)?;
        bar.set_length(part.size + remaining_bytes);
        bar.set_position(part.size);
    }
    bar.finish_and_clear();
    if !part.is_whole() {
        return Err(broken(format!(
            "the checksum at the end of the {} bytes received does not agree with them",
            part.size
        )));
    }
    part.keep()
}

/// Drawn on stderr if that is a terminal.
fn progress_bar() -> ProgressBar {
    let template =
        "{bar:40} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(0).with_style(style)
}

/// `FILE.part`, removed again unless it is kept.
struct Part {
    path: PathBuf,
    part_path: PathBuf,
    file: File,
    size: u64,
    hash: Sha256,
    /// The last bytes received, which may turn out to be the checksum; the others are in `hash`.
    tail: Vec<u8>,
    kept: bool,
}

impl Part {
    fn create(path: &Path) -> Result<Self, CtlError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part_path = PathBuf::from(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part_path)
            .map_err(|source| CtlError::File {
                path: part_path.clone(),
                action: "cannot be created",
                source,
            })?;
        let path = path.to_owned();
        Ok(Self {
            path,
            part_path,
            file,
            size: 0,
            hash: Sha256::new(),
            tail: Vec::new(),
            kept: false,
        })
    }

    fn write(&mut self, blob: &[u8]) -> Result<(), CtlError> {
        self.file
            .write_all(blob)
            .map_err(|source| self.failed("cannot be written", source))?;
        self.size += blob.len() as u64;
        self.tail.extend_from_slice(blob);
        let settled = self.tail.len().saturating_sub(CHECKSUM_LEN);
        self.hash.update(&self.tail[..settled]);
        self.tail.drain(..settled);
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.tail.len() == CHECKSUM_LEN && self.hash.clone().finalize().as_slice() == self.tail
    }

    /// Syncs the file and gives it its name, for good once the directory is synced too.
    fn keep(mut self) -> Result<u64, CtlError> {
        self.file
            .sync_all()
            .map_err(|source| self.failed("cannot be synced", source))?;
        std::fs::rename(&self.part_path, &self.path)
            .map_err(|source| self.failed("cannot be given its name", source))?;
        self.kept = true;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| CtlError::File {
                path: directory.to_owned(),
                action: "cannot be synced",
                source,
            })?;
        Ok(self.size)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> CtlError {
        CtlError::File {
            path: self.part_path.clone(),
            action,
            source,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.part_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part_with(chunks: &[&[u8]]) -> (tempfile::TempDir, PathBuf, Part) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup.db");
        let mut part = Part::create(&path).unwrap();
        for chunk in chunks {
            part.write(chunk).unwrap();
        }
        (directory, path, part)
    }

    #[test]
    fn a_whole_snapshot_gets_its_name_however_the_stream_is_cut() {
        let mut whole = vec![7; 1000];
        whole.extend_from_slice(&Sha256::digest(&whole));
        for chunk in [1, 31, 32, 33, 999, 1032] {
            let (_directory, path, part) = part_with(&whole.chunks(chunk).collect::<Vec<_>>());
            assert!(part.is_whole(), "chunks of {chunk}");
            assert_eq!(part.keep().unwrap(), 1032);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
            assert!(!path.with_extension("db.part").exists());
        }
    }

    #[test]
    fn a_damaged_or_short_snapshot_is_noticed_and_leaves_nothing() {
        let mut whole = vec![7; 1000];
        whole.extend_from_slice(&Sha256::digest(&whole));
        let mut damaged = whole.clone();
        damaged[500] ^= 1;
        for bytes in [&damaged[..], &whole[..1031], &whole[..20], &[]] {
            let (_directory, path, part) = part_with(&[bytes]);
            assert!(!part.is_whole());
            drop(part);
            assert!(!path.exists() && !path.with_extension("db.part").exists());
        }
    }
}
