//! The launcher's own files in a data directory, and who may use them.
//!
//! ```text
//! DIR/cluster.json   the members and their ports, and what runs on them: written before anything is started
//! DIR/up.lock        locked by the launcher while it runs; says which process that is
//! DIR/running.json   the processes of the last run, so that they are found even if their launcher was killed
//! DIR/<member>/      a member's data: the launcher never looks into it
//! DIR/<name>.log     what the process of that name wrote to its standard output and error
//! DIR/pki/           the API server's: its certificates and keys, and kubeconfigs for its clients
//! DIR/kubeconfig     the administrator's, for kubectl
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::process::ProcessId;

/// A data directory, by the path its user gave.
#[derive(Debug, Clone)]
pub struct DataDir {
    path: PathBuf,
}

/// The right to run a cluster in a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// A part's process, and how often it had to be restarted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    pub name: String,
    pub process: Option<ProcessId>,
    pub restarts: u32,
}

impl DataDir {
    /// Names a directory; it need not exist.
    pub fn at(path: &Path) -> DataDir {
        DataDir {
            path: path.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log_of(&self, part: &str) -> PathBuf {
        self.path.join(format!("{part}.log"))
    }

    /// Where the API server keeps its certificates.
    pub fn pki(&self) -> PathBuf {
        self.path.join("pki")
    }

    /// The kubeconfig that the API server makes for one of its clients.
    pub fn component_kubeconfig(&self, client: &str) -> PathBuf {
        self.pki().join(format!("{client}.kubeconfig"))
    }

    /// The one of the administrator, as the API server makes it.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.component_kubeconfig("admin")
    }

    /// Where the administrator's kubeconfig is put, unless another place was asked for.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The same directory, whatever the working directory is.
    pub fn absolute(&self) -> anyhow::Result<DataDir> {
        Ok(DataDir {
            path: absolute(&self.path)?,
        })
    }

    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the directory and those above it.
    pub fn create(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("cannot make {}", self.path.display()))
    }

    /// Takes the directory for this process, or says who has it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.lock_path();
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = self
                    .holder()
                    .map_or_else(String::new, |process| format!(" (pid {})", process.pid));
                bail!(
                    "a cluster already runs in {dir}{who}; stop it with `keelson down --data-dir {dir}`, or choose \
                     another --data-dir",
                    dir = self.path.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&serde_json::to_vec(&ProcessId::own()?)?)?;
        Ok(Lock { _file: file })
    }

    /// The launcher that runs here now.
    pub fn holder(&self) -> Option<ProcessId> {
        let mut text = String::new();
        File::open(self.lock_path())
            .ok()?
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok().filter(ProcessId::is_alive)
    }

    /// The cluster whose data is here.
    pub fn cluster(&self) -> anyhow::Result<Option<Cluster>> {
        let cluster: Option<Cluster> = self.load("cluster.json")?;
        if let Some(cluster) = &cluster
            && cluster.members.is_empty()
        {
            bail!(
                "{} names no member; restore it or choose another --data-dir",
                self.path.join("cluster.json").display()
            );
        }
        Ok(cluster)
    }

    pub fn save_cluster(&self, cluster: &Cluster) -> anyhow::Result<()> {
        self.save("cluster.json", cluster)
    }

    /// The processes of the last run as they were last recorded; some or all may have ended.
    pub fn running(&self) -> anyhow::Result<Vec<Running>> {
        Ok(self.load("running.json")?.unwrap_or_default())
    }

    pub fn save_running(&self, parts: &[Running]) -> anyhow::Result<()> {
        self.save("running.json", &parts)
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join("up.lock")
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let value = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; restore it or choose another --data-dir",
                path.display()
            )
        })?;
        Ok(Some(value))
    }

    /// Replaces a file whole: a reader, or a crash, finds the old or the new one.
    fn save<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let fresh = self.path.join(format!("{name}.new"));
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}
