//! Systems under measurement: programs that take etcd's flags, and clusters of them.

pub mod cluster;
pub mod member;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

pub use cluster::{Cluster, Timing};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Etcd,
    Kvd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Etcd => "etcd",
            Kind::Kvd => "kvd",
        }
    }
}

/// A program that takes etcd's flags and serves its API.
#[derive(Debug, Clone)]
pub struct System {
    pub kind: Kind,
    pub program: PathBuf,
    /// What it says of itself.
    pub version: String,
}

impl System {
    /// Takes note of a program, which must be able to say its version.
    pub fn new(kind: Kind, program: &Path) -> anyhow::Result<System> {
        let name = kind.name();
        let output = std::process::Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        let output =
            output.with_context(|| format!("cannot run {} as {name}", program.display()))?;
        if !output.status.success() {
            bail!("{} --version fails: is it a server?", program.display());
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.lines().next().unwrap_or("unknown").to_owned();
        Ok(System {
            kind,
            program: program.to_owned(),
            version,
        })
    }
}

/// What tells a program from another that says the same of itself: the beginning of its SHA-256, in hexadecimal.
pub fn digest(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let hash = Sha256::digest(&file);
    Ok(hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
