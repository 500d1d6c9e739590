//! A disk in memory that can crash. It knows at every moment what is synced, and a crash keeps,
//! drops or tears the rest as a seed decides. Same calls and same seeds, same disk.
//!
//! It is ruder than most disks: unsynced writes survive independently of each other, sector by
//! sector or cut at any byte; names created, renamed or removed survive independently of files and
//! of each other; a sync that failed leaves its data in the cache, looking fine, and never writes
//! it (as Linux does).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::fate::{Fate, Mood, Random};
use crate::io::{LogDir, LogFile};

type SyncHook = Arc<dyn Fn(&str) + Send + Sync>;

/// A directory on a simulated disk. Clones share the disk, and die with it in a crash: every use of
/// an old handle is an error, like the memory of a process that is gone.
#[derive(Clone)]
pub struct SimDir {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

/// An open file of a [`SimDir`].
#[derive(Debug)]
pub struct SimFile {
    dir: SimDir,
    file: u64,
}

#[derive(Default)]
struct Disk {
    /// Counts crashes; handles of an earlier life are dead.
    life: u64,
    files: BTreeMap<u64, File>,
    next_file: u64,
    /// Names as the running process sees them.
    names: BTreeMap<String, u64>,
    /// Names that survive any crash.
    durable_names: BTreeMap<String, u64>,
    /// Name changes since the last directory sync, oldest first.
    pending_names: Vec<NameChange>,
    syncs: u64,
    writes: u64,
    fail_next_sync: bool,
    fail_next_write: bool,
    /// Changes left until the disk is gone.
    changes_left: Option<u64>,
    sync_hook: Option<SyncHook>,
}

#[derive(Default, Clone)]
struct File {
    /// What survives any crash.
    durable: Vec<u8>,
    /// What a read sees.
    cached: Vec<u8>,
    /// What happened to it since the last sync, oldest first.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Length(usize),
    Write(u64, Vec<u8>),
}

#[derive(Clone)]
enum NameChange {
    Set(String, u64),
    Rename(String, String, u64),
    Remove(String),
}

impl std::fmt::Debug for SimDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDir")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Default for SimDir {
    fn default() -> Self {
        SimDir::new()
    }
}

impl SimDir {
    /// An empty disk.
    pub fn new() -> Self {
        SimDir {
            disk: Arc::default(),
            life: 0,
        }
    }

    /// The machine loses power. What was synced stays; everything else is kept, dropped or torn as
    /// `seed` decides. Returns the handle to use from now on; planned failures are forgotten.
    pub fn crash(&self, seed: u64) -> SimDir {
        let mut random = Random::new(seed);
        let mood = Mood::choose(&mut random);
        let mut disk = self.disk.lock();
        disk.settle(|| mood.fate(&mut random));
        self.next_life(&mut disk)
    }

    /// The machine loses power in the middle of its last write: what it did before is kept, and of that write as many
    /// bytes as `seed` decides. So does a disk that keeps the order of writes.
    pub fn crash_in_last_write(&self, seed: u64) -> SimDir {
        let mut disk = self.disk.lock();
        let mut left: usize = disk.files.values().map(|file| file.pending.len()).sum();
        disk.settle(|| {
            left = left.wrapping_sub(1);
            if left == 0 {
                Fate::BrokenOff(seed)
            } else {
                Fate::Kept
            }
        });
        self.next_life(&mut disk)
    }

    /// The process is killed, and the machine goes on: what it wrote stays in the page cache, no
    /// more synced than before. Returns the handle to use from now on.
    pub fn kill(&self) -> SimDir {
        self.next_life(&mut self.disk.lock())
    }

    /// Another disk, holding what a crash would leave now if it took all that is not synced.
    pub fn durable_copy(&self) -> SimDir {
        let disk = self.disk.lock();
        let files = disk.files.iter().map(|(id, file)| {
            let copy = File {
                durable: file.durable.clone(),
                cached: file.durable.clone(),
                pending: Vec::new(),
            };
            (*id, copy)
        });
        let copy = Disk {
            files: files.collect(),
            next_file: disk.next_file,
            names: disk.durable_names.clone(),
            durable_names: disk.durable_names.clone(),
            ..Disk::default()
        };
        SimDir {
            disk: Arc::new(Mutex::new(copy)),
            life: 0,
        }
    }

    fn next_life(&self, disk: &mut Disk) -> SimDir {
        disk.life += 1;
        disk.fail_next_sync = false;
        disk.fail_next_write = false;
        disk.changes_left = None;
        SimDir {
            disk: Arc::clone(&self.disk),
            life: disk.life,
        }
    }

    /// The next `sync_data` fails, and what it should have synced will never be.
    pub fn fail_next_sync(&self) {
        self.disk.lock().fail_next_sync = true;
    }

    /// The next `write_at` fails, having written part of its data.
    pub fn fail_next_write(&self) {
        self.disk.lock().fail_next_write = true;
    }

    /// The disk is gone after `changes` more changes (writes, syncs, creations, renames, removals):
    /// everything fails until [`SimDir::crash`]. The last write may reach the disk all the same.
    pub fn fail_after(&self, changes: u64) {
        self.disk.lock().changes_left = Some(changes);
    }

    /// Calls `hook` with the file's name at the start of every `sync_data`, before anything is
    /// durable and with no lock held: it may block, which delays the sync.
    pub fn on_sync(&self, hook: impl Fn(&str) + Send + Sync + 'static) {
        self.disk.lock().sync_hook = Some(Arc::new(hook));
    }

    /// How many `sync_data` calls succeeded.
    pub fn sync_count(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// How many `write_at` calls succeeded.
    pub fn write_count(&self) -> u64 {
        self.disk.lock().writes
    }

    /// The content of a file as a read sees it.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk.lock();
        disk.names
            .get(name)
            .and_then(|id| disk.files.get(id))
            .map(|file| file.cached.clone())
    }

    /// Sets the content of a file, durably, whatever it was: damage, by a test's hand.
    pub fn set_contents(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk.lock();
        let id = disk
            .names
            .get(name)
            .copied()
            .unwrap_or_else(|| disk.new_file());
        disk.names.insert(name.to_owned(), id);
        disk.durable_names.insert(name.to_owned(), id);
        disk.files.insert(
            id,
            File {
                durable: bytes.clone(),
                cached: bytes,
                pending: Vec::new(),
            },
        );
    }

    /// Runs `change` on the disk, unless this handle or the disk is dead.
    fn alive<T>(&self, change: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other("the process that opened this crashed"));
        }
        change(&mut disk)
    }
}

impl Disk {
    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    /// Counts a change; fails if the disk is gone.
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("simulated crash")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn id(&self, name: &str) -> io::Result<u64> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, id: u64) -> io::Result<&mut File> {
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Lets a fate befall everything that is not synced.
    fn settle(&mut self, mut fate: impl FnMut() -> Fate) {
        for file in self.files.values_mut() {
            for change in std::mem::take(&mut file.pending) {
                match (change, fate()) {
                    (_, Fate::Dropped) => {}
                    (Change::Length(len), _) => file.durable.resize(len, 0),
                    (Change::Write(offset, data), fate) => {
                        fate.write(&mut file.durable, offset, &data)
                    }
                }
            }
            file.cached = file.durable.clone();
        }
        for change in std::mem::take(&mut self.pending_names) {
            if !matches!(fate(), Fate::Dropped) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        let named = &self.names;
        self.files
            .retain(|id, _| named.values().any(|named| named == id));
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Set(name, id) => {
                names.insert(name, id);
            }
            NameChange::Rename(from, to, id) => {
                names.remove(&from);
                names.insert(to, id);
            }
            NameChange::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl LogDir for SimDir {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.alive(|disk| Ok(disk.names.keys().cloned().collect()))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<SimFile> {
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let file = self.alive(|disk| {
            disk.spend()?;
            let id = disk.new_file();
            let file = File {
                durable: Vec::new(),
                cached: vec![0; size],
                pending: vec![Change::Length(size)],
            };
            disk.files.insert(id, file);
            disk.names.insert(name.to_owned(), id);
            disk.pending_names
                .push(NameChange::Set(name.to_owned(), id));
            Ok(id)
        })?;
        Ok(SimFile {
            dir: self.clone(),
            file,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let file = self.alive(|disk| disk.id(name))?;
        Ok(SimFile {
            dir: self.clone(),
            file,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.alive(|disk| {
            disk.spend()?;
            let change = NameChange::Rename(from.to_owned(), to.to_owned(), disk.id(from)?);
            change.clone().apply(&mut disk.names);
            disk.pending_names.push(change);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.alive(|disk| {
            disk.spend()?;
            disk.id(name)?;
            disk.names.remove(name);
            disk.pending_names.push(NameChange::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.alive(|disk| {
            disk.spend()?;
            disk.durable_names = disk.names.clone();
            disk.pending_names.clear();
            Ok(())
        })
    }
}

impl LogFile for SimFile {
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.dir.alive(|disk| {
            let spent = disk.spend();
            let fails = std::mem::take(&mut disk.fail_next_write);
            let buf = if fails { &buf[..buf.len() / 2] } else { buf };
            let file = disk.file(self.file)?;
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let place = file.cached.get_mut(start..start + buf.len());
            place
                .ok_or(io::ErrorKind::FileTooLarge)?
                .copy_from_slice(buf);
            file.pending.push(Change::Write(offset, buf.to_vec()));
            spent?;
            if fails {
                return Err(io::Error::other("simulated failure of a write"));
            }
            disk.writes += 1;
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.dir.alive(|disk| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let from = disk.file(self.file)?.cached.get(start..start + buf.len());
            buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let hook = self.dir.alive(|disk| {
            let name = disk
                .names
                .iter()
                .find(|(_, id)| **id == self.file)
                .map(|(name, _)| name.clone());
            Ok(disk
                .sync_hook
                .clone()
                .map(|hook| (hook, name.unwrap_or_default())))
        })?;
        if let Some((hook, name)) = hook {
            hook(&name);
        }
        self.dir.alive(|disk| {
            disk.spend()?;
            let fails = std::mem::take(&mut disk.fail_next_sync);
            let file = disk.file(self.file)?;
            let pending = std::mem::take(&mut file.pending);
            if fails {
                return Err(io::Error::other("simulated failure of a sync"));
            }
            for change in pending {
                match change {
                    Change::Length(len) => file.durable = vec![0; len],
                    Change::Write(offset, data) => {
                        Fate::Kept.write(&mut file.durable, offset, &data)
                    }
                }
            }
            disk.syncs += 1;
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.dir
            .alive(|disk| Ok(disk.file(self.file)?.cached.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with_file() -> (SimDir, SimFile) {
        let dir = SimDir::new();
        let file = dir.create("a", 4096).expect("created");
        file.sync_data().expect("synced");
        dir.sync_dir().expect("synced");
        (dir, file)
    }

    #[test]
    fn a_crash_keeps_what_was_synced_whatever_the_seed() {
        for seed in 0..200 {
            let (dir, file) = dir_with_file();
            file.write_at(100, b"synced").expect("written");
            file.sync_data().expect("synced");
            file.write_at(2000, b"not synced").expect("written");
            let content = dir.crash(seed).contents("a").expect("named");
            assert_eq!((content.len(), &content[100..106]), (4096, &b"synced"[..]));
        }
    }

    #[test]
    fn crashes_keep_drop_and_tear_what_was_not_synced() {
        let survivors: std::collections::BTreeSet<Vec<u8>> = (0..200)
            .map(|seed| {
                let (dir, file) = dir_with_file();
                file.write_at(510, b"abcd").expect("written");
                dir.crash(seed).contents("a").expect("named")[510..514].to_vec()
            })
            .collect();
        for expected in [*b"abcd", *b"\0\0\0\0", *b"ab\0\0", *b"\0\0cd", *b"abc\0"] {
            assert!(
                survivors.contains(&expected[..]),
                "{expected:?} of {survivors:?}"
            );
        }
    }

    #[test]
    fn a_name_not_synced_may_be_lost_and_a_removed_one_may_return() {
        let outcomes: std::collections::BTreeSet<Vec<String>> = (0..200)
            .map(|seed| {
                let (dir, _) = dir_with_file();
                dir.create("b", 1).expect("created");
                dir.remove("a").expect("removed");
                dir.crash(seed).list().expect("listed")
            })
            .collect();
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    }

    #[test]
    fn a_failed_sync_never_writes_its_data_however_often_it_is_retried() {
        let (dir, file) = dir_with_file();
        file.write_at(0, b"lost").expect("written");
        dir.fail_next_sync();
        file.sync_data().expect_err("fails");
        file.sync_data().expect("looks fine");
        let mut seen = [0; 4];
        file.read_at(0, &mut seen).expect("cached");
        assert_eq!(&seen, b"lost");
        assert_eq!(dir.crash(0).contents("a").expect("named")[..4], [0; 4]);
    }

    #[test]
    fn handles_from_before_a_crash_are_dead() {
        let (dir, file) = dir_with_file();
        let after = dir.crash(1);
        file.write_at(0, b"ghost").expect_err("dead");
        dir.list().expect_err("dead");
        after.list().expect("alive");
    }

    #[test]
    fn a_kill_keeps_the_page_cache_unsynced() {
        let (dir, file) = dir_with_file();
        file.write_at(0, b"cached").expect("written");
        let dir = dir.kill();
        assert_eq!(dir.contents("a").expect("named")[..6], *b"cached");
        assert_eq!(
            dir.durable_copy().contents("a").expect("named")[..6],
            [0; 6]
        );
    }
}
