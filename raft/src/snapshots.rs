//! Snapshots between members: a checkpoint's files, streamed with checksums, resumable.
//!
//! openraft's snapshot is what a flush has persisted; files exist only while one is being sent. The checkpoint may
//! hold more than openraft asked for: what it holds is read from the checkpoint itself, and the follower installs
//! that. A file that arrived before with the same name, size and checksum is not sent again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_planted::{Bug, on};
use keelson_proto::{commandpb, peerpb};
use keelson_store::engine::{Batch, Engine, EngineError, Family, View};
use openraft::async_runtime::AsyncRuntime;
use openraft::{Snapshot, SnapshotMeta};

use crate::applier::OpenEngine;
use crate::shared::{Parts, Shared};
use crate::state_dir::sync_files;
use crate::transport::{CallError, Lane, Reply, Request, Transport};
use crate::types::{RaftVote, log_id_from_pb, stored_membership_from_pb, vote_from_pb, vote_to_pb};

const CHUNK_BYTES: u64 = 1 << 20;
/// What was received of a snapshot is kept for so long when no more of it comes. A leader that cannot go on sending tries
/// again within a second.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);

/// What openraft carries as a snapshot's data.
pub(crate) enum SnapshotSource {
    /// The state as it is; files are made from it when it is sent.
    Live,
    /// Files that were received whole.
    Received(TemporaryDir),
}

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the member refused the snapshot: {0}")]
    Refused(String),
    #[error("making the snapshot: {0}")]
    Engine(#[from] EngineError),
    #[error("reading the snapshot: {0}")]
    Io(#[from] io::Error),
    #[error("the member does not answer")]
    Silent,
}

/// A directory that is removed when it is let go, unless it was renamed.
pub(crate) struct TemporaryDir {
    path: PathBuf,
    /// By who lets it go, as in simulation. Otherwise by a thread: freeing the blocks of large files takes longer than a heartbeat may.
    is_removed_here: bool,
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if self.is_removed_here {
            return remove(&path);
        }
        let gone = path.clone();
        let removing = std::thread::Builder::new()
            .name("remove".into())
            .spawn(move || remove(&gone));
        if removing.is_err() {
            remove(&path);
        }
    }
}

fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "could not remove a directory that is no longer needed");
    }
}

/// A checkpoint ready to be sent.
struct Outgoing {
    dir: TemporaryDir,
    state: commandpb::State,
    files: Vec<peerpb::SnapshotFile>,
}

/// Tells the directories of one process apart. Those of the process before are removed when it starts.
static NUMBER: AtomicU64 = AtomicU64::new(0);

impl<P: Parts> Shared<P> {
    /// Runs work that blocks: off the executor in production, inline in simulation.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.applier.is_inline() {
            Ok(work())
        } else {
            P::Rt::spawn_blocking(work).await
        }
    }

    /// A checkpoint of the state, in a new directory.
    pub(crate) async fn checkpoint(&self, dir: PathBuf) -> Result<commandpb::State, EngineError> {
        let engine = self.engine.load_full();
        let open = self.open_engine.clone();
        self.blocking(move || checkpoint(&*engine, &open, &dir))
            .await
            .map_err(|error| EngineError::new("making a checkpoint", error))?
    }

    /// Makes the files that are sent.
    async fn outgoing(&self) -> Result<Outgoing, SendError> {
        let dir = self.temporary_dir("outgoing");
        let engine = self.engine.load_full();
        let open = self.open_engine.clone();
        // The directory belongs to the work: who asked for it may go meanwhile.
        self.blocking(move || {
            let state = checkpoint(&*engine, &open, &dir.path)?;
            let files = describe(&dir.path)?;
            Ok(Outgoing { dir, state, files })
        })
        .await?
    }

    fn temporary_dir(&self, what: &str) -> TemporaryDir {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.temporary(self.snapshot_dir(&format!("{what}-{number}")))
    }

    fn temporary(&self, path: PathBuf) -> TemporaryDir {
        TemporaryDir {
            path,
            is_removed_here: self.applier.is_inline(),
        }
    }

    /// Asks the member that is to receive a snapshot something that takes no long work.
    async fn ask_receiver(&self, to: u64, request: Request) -> Result<Reply, SendError> {
        let call = self.net.call(to, Lane::Snapshot, request);
        match P::Rt::timeout(self.timing.request_timeout(), call).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(SendError::Silent),
        }
    }

    /// Sends the state to a member; gives its vote.
    pub(crate) async fn send_snapshot(
        &self,
        to: u64,
        vote: RaftVote,
    ) -> Result<RaftVote, SendError> {
        // Making the files reads the whole state, and openraft tries again and again: not for one that is not there.
        let probe = peerpb::ClusterProbe {
            member_id: self.id.0,
        };
        self.ask_receiver(to, Request::ClusterProbe(probe)).await?;
        let outgoing = self.outgoing().await?;
        let last = outgoing.state.applied;
        tracing::info!(
            to = format!("{to:x}"),
            ?last,
            files = outgoing.files.len(),
            "sending a snapshot"
        );

        let begin = peerpb::SnapshotBegin {
            vote: Some(vote_to_pb(&vote)),
            last,
            membership: outgoing.state.membership.clone(),
            files: outgoing.files.clone(),
        };
        let have = match self.ask_receiver(to, Request::SnapshotBegin(begin)).await? {
            Reply::SnapshotBegin(reply) => reply.have,
            other => return Err(refused(other)),
        };
        for (number, file) in outgoing.files.iter().enumerate() {
            let mut offset = have.get(number).copied().unwrap_or(0);
            let path = outgoing.dir.path.join(&file.name);
            while offset < file.size {
                let path = path.clone();
                let length = CHUNK_BYTES.min(file.size - offset);
                let data = self
                    .blocking(move || read_chunk(&path, offset, length))
                    .await??;
                let chunk = peerpb::SnapshotChunk {
                    last,
                    file: number as u32,
                    offset,
                    crc32c: crc32c::crc32c(&data),
                    data,
                };
                match self.ask_receiver(to, Request::SnapshotChunk(chunk)).await? {
                    Reply::SnapshotChunk(_) => offset += length,
                    other => return Err(refused(other)),
                }
            }
        }
        let end = peerpb::SnapshotEnd {
            vote: Some(vote_to_pb(&vote)),
            last,
        };
        // Installing takes as long as it takes.
        match self
            .net
            .call(to, Lane::Snapshot, Request::SnapshotEnd(end))
            .await?
        {
            Reply::SnapshotEnd(peerpb::SnapshotEndReply { vote: Some(vote) }) => {
                Ok(vote_from_pb(&vote))
            }
            other => Err(refused(other)),
        }
    }

    pub(crate) async fn snapshot_begin(&self, begin: peerpb::SnapshotBegin) -> Reply {
        let dir = self.snapshot_dir("incoming");
        let now = (self.now)();
        let prepared = self.receiving(move |incoming| {
            let prepared = Incoming::prepare(dir, begin, incoming.take(), now)?;
            Ok(incoming.insert(prepared).have.clone())
        });
        match prepared.await {
            Ok(have) => Reply::SnapshotBegin(peerpb::SnapshotBeginReply { have }),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    pub(crate) async fn snapshot_chunk(&self, chunk: peerpb::SnapshotChunk) -> Reply {
        let now = (self.now)();
        let written = self.receiving(move |incoming| match incoming {
            Some(incoming) => incoming.write(&chunk, now),
            None => Err(bad("no snapshot is being received")),
        });
        match written.await {
            Ok(()) => Reply::SnapshotChunk(peerpb::SnapshotChunkReply {}),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    /// Works on what is being received, off the executor. Two leaders may be sending at once, one of them deposed:
    /// their requests take turns, and a chunk that does not belong to the latest offer is refused.
    async fn receiving<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Option<Incoming>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let incoming = self.incoming.clone();
        self.blocking(move || work(&mut incoming.lock())).await?
    }

    /// Gives the room back that an unfinished transfer takes which nobody goes on with.
    pub(crate) async fn clear_abandoned_transfer(&self) {
        let now = (self.now)();
        // Held while something is being written: then it goes on.
        let abandoned = self.incoming.try_lock().is_some_and(|incoming| {
            let incoming = incoming.as_ref();
            incoming.is_some_and(|incoming| incoming.is_abandoned(now))
        });
        if !abandoned {
            return;
        }
        let cleared = self.receiving(move |incoming| Incoming::clear_abandoned(incoming, now));
        if let Err(error) = cleared.await {
            tracing::warn!(%error, "could not remove an unfinished snapshot");
        }
    }

    pub(crate) async fn snapshot_end(&self, end: peerpb::SnapshotEnd) -> Reply {
        let Some(vote) = end.vote.as_ref().map(vote_from_pb) else {
            return Reply::Failed("the end of a snapshot without a vote".into());
        };
        let whole = self.temporary_dir("received");
        let received = self.receiving(move |incoming| {
            let Some(received) = incoming.take_if(|incoming| incoming.last == end.last) else {
                return Err(bad(
                    "the end of another snapshot than the one being received",
                ));
            };
            received.check()?;
            // Out of the way of the next offer.
            fs::rename(&received.dir, &whole.path)?;
            Ok((received, whole))
        });
        let (incoming, whole) = match received.await {
            Ok(received) => received,
            Err(error) => return Reply::Failed(error.to_string()),
        };
        let meta = SnapshotMeta {
            last_log_id: incoming.last.as_ref().map(log_id_from_pb),
            last_membership: stored_membership_from_pb(incoming.membership.as_ref()),
        };
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotSource::Received(whole),
        };
        match self.raft().install_full_snapshot(vote, snapshot).await {
            Ok(response) => Reply::SnapshotEnd(peerpb::SnapshotEndReply {
                vote: Some(vote_to_pb(&response.vote)),
            }),
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    /// Puts received files in the place of the state.
    pub(crate) async fn install(&self, source: SnapshotSource) -> io::Result<()> {
        let SnapshotSource::Received(from) = source else {
            return Err(io::Error::other("only received files can be installed"));
        };
        let state_dir = self.state_dir.clone();
        let open = self.open_engine.clone();
        let (engine, old) = self
            .blocking(move || -> io::Result<_> {
                let (old, new) = (state_dir.current()?, state_dir.next()?);
                fs::rename(&from.path, &new)?;
                sync_files(&new)?;
                let engine = open(&new).map_err(io::Error::other)?;
                if on(Bug::SnapshotInstalledHalf) {
                    lose_a_family(&*engine).map_err(io::Error::other)?;
                }
                state_dir.switch(&new)?;
                Ok((engine, old))
            })
            .await??;
        self.applier
            .replace(engine.clone())
            .await
            .map_err(io::Error::other)?;
        let old_engine = self.engine.swap(engine);
        // The last to hold it closes it, and waits for what it does in the background.
        self.blocking(move || drop(old_engine)).await?;
        tracing::info!("a snapshot was installed");
        // A reader of the old state may yet have to open one of its files.
        let old = self.temporary(old);
        let grace = self.timing.request_timeout();
        drop(P::Rt::spawn(async move {
            P::Rt::sleep(grace).await;
            drop(old);
        }));
        Ok(())
    }
}

/// Makes a checkpoint, and reads what it holds from itself.
fn checkpoint<E: Engine>(
    engine: &E,
    open: &OpenEngine<E>,
    dir: &Path,
) -> Result<commandpb::State, EngineError> {
    engine.checkpoint(dir)?;
    let copy = open(dir)?;
    let view = copy.view()?;
    keelson_store::read_state(|family, key| view.get(family, key))
        .map_err(|error| EngineError::new("reading a checkpoint", error))?
        .ok_or_else(|| EngineError::new("reading a checkpoint", "it holds no state"))
}

/// A planted bug: the events and replaced versions of a snapshot are not there.
fn lose_a_family<E: Engine>(engine: &E) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    batch.delete_range(Family::Log, Bytes::new(), Bytes::from_static(&[u8::MAX]));
    engine.write(&batch)?;
    engine.flush()
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn refused(reply: Reply) -> SendError {
    match reply {
        Reply::Failed(why) => SendError::Refused(why),
        _ => SendError::Refused("an answer to another question".into()),
    }
}

/// The files of a directory, in the order of their names.
fn describe(dir: &Path) -> io::Result<Vec<peerpb::SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // An engine's lock and its own log are no part of the state.
        if !entry.file_type()?.is_file() || name == "LOCK" || name.starts_with("LOG") {
            continue;
        }
        let (size, crc32c) = checksum(&entry.path())?;
        files.push(peerpb::SnapshotFile { name, size, crc32c });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    let (mut size, mut crc) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += read as u64;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
    }
}

fn read_chunk(path: &Path, offset: u64, length: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut data = vec![0; length as usize];
    file.read_exact(&mut data)?;
    Ok(data.into())
}

/// A snapshot on its way in.
pub(crate) struct Incoming {
    dir: PathBuf,
    last: Option<commandpb::LogId>,
    membership: Option<commandpb::StoredMembership>,
    files: Vec<peerpb::SnapshotFile>,
    have: Vec<u64>,
    /// When something was last received.
    touched: Duration,
}

impl Incoming {
    fn is_abandoned(&self, now: Duration) -> bool {
        now.saturating_sub(self.touched) > ABANDONED_AFTER
    }

    fn clear_abandoned(incoming: &mut Option<Incoming>, now: Duration) -> io::Result<()> {
        match incoming.take_if(|incoming| incoming.is_abandoned(now)) {
            Some(abandoned) => fs::remove_dir_all(abandoned.dir),
            None => Ok(()),
        }
    }

    /// Makes ready for an offer; keeps of an earlier one what it shares with it.
    fn prepare(
        dir: PathBuf,
        offer: peerpb::SnapshotBegin,
        previous: Option<Incoming>,
        now: Duration,
    ) -> io::Result<Incoming> {
        if offer.files.iter().any(|file| {
            file.name.is_empty() || file.name.starts_with('.') || file.name.contains('/')
        }) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a snapshot's file has a name that is a path",
            ));
        }
        fs::create_dir_all(&dir)?;
        let kept = |file: &peerpb::SnapshotFile| {
            let previous = previous.as_ref()?;
            let at = previous.files.iter().position(|other| other == file)?;
            Some(previous.have[at])
        };
        let have: Vec<u64> = offer
            .files
            .iter()
            .map(|file| kept(file).unwrap_or(0))
            .collect();
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let wanted = offer
                .files
                .iter()
                .zip(&have)
                .any(|(file, have)| *have > 0 && name.to_str() == Some(&file.name));
            if !wanted {
                fs::remove_file(entry.path())?;
            }
        }
        for (file, have) in offer.files.iter().zip(&have) {
            let path = dir.join(&file.name);
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?
                .set_len(*have)?;
        }
        Ok(Incoming {
            dir,
            last: offer.last,
            membership: offer.membership,
            files: offer.files,
            have,
            touched: now,
        })
    }

    fn write(&mut self, chunk: &peerpb::SnapshotChunk, now: Duration) -> io::Result<()> {
        let at = chunk.file as usize;
        if chunk.last != self.last {
            return Err(bad("a chunk of another snapshot"));
        }
        let (Some(file), Some(have)) = (self.files.get(at), self.have.get_mut(at)) else {
            return Err(bad("a chunk of a file that was not offered"));
        };
        if chunk.offset != *have || chunk.offset + chunk.data.len() as u64 > file.size {
            return Err(bad("a chunk out of its place"));
        }
        if crc32c::crc32c(&chunk.data) != chunk.crc32c {
            return Err(bad("a chunk whose checksum does not match"));
        }
        let target = OpenOptions::new()
            .write(true)
            .open(self.dir.join(&file.name))?;
        target.write_all_at(&chunk.data, chunk.offset)?;
        // Now, and not all of it at the end: the logs on the same disk would wait for that. What a failed sync has left nobody
        // knows: the file begins anew.
        target.sync_data().inspect_err(|_| *have = 0)?;
        *have += chunk.data.len() as u64;
        self.touched = now;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        for (file, have) in self.files.iter().zip(&self.have) {
            if *have != file.size {
                return Err(bad("the end of a snapshot that has not come whole"));
            }
            let (size, crc32c) = checksum(&self.dir.join(&file.name))?;
            if (size, crc32c) != (file.size, file.crc32c) {
                let what = format!(
                    "the snapshot's file {} does not match its checksum",
                    file.name
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> peerpb::SnapshotBegin {
        peerpb::SnapshotBegin {
            files: vec![peerpb::SnapshotFile {
                name: "one".into(),
                size: 4,
                crc32c: crc32c::crc32c(b"four"),
            }],
            ..peerpb::SnapshotBegin::default()
        }
    }

    #[test]
    fn an_unfinished_transfer_is_cleared_away_when_nobody_goes_on_with_it() {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("incoming");
        let begun = Duration::from_secs(5);
        let prepared = Incoming::prepare(dir.clone(), offer(), None, begun).expect("room");
        let mut incoming = Some(prepared);
        let gone_on = begun + ABANDONED_AFTER;
        let chunk = peerpb::SnapshotChunk {
            data: Bytes::from_static(b"fo"),
            crc32c: crc32c::crc32c(b"fo"),
            ..peerpb::SnapshotChunk::default()
        };
        let receiving = incoming.as_mut().expect("prepared");
        receiving.write(&chunk, gone_on).expect("in its place");

        Incoming::clear_abandoned(&mut incoming, gone_on + ABANDONED_AFTER).expect("in order");
        assert_eq!(incoming.as_ref().expect("it may go on").have, [2]);

        let later = gone_on + ABANDONED_AFTER + Duration::from_secs(1);
        Incoming::clear_abandoned(&mut incoming, later).expect("in order");
        assert!(incoming.is_none() && !dir.exists());
    }
}
