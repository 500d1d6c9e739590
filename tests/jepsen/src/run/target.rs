//! What is attacked: our own server, a real etcd, or any program that takes etcd's flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use keelson_tests::peers;

/// By this older name both servers know it: how often a watch that asked for it is told how far it has come.
const PROGRESS_FLAG: &str = "--experimental-watch-progress-notify-interval=1s";

/// A server under test.
#[derive(Clone, Debug)]
pub struct Target {
    /// As the command line named it.
    pub name: String,
    /// Its program.
    pub program: PathBuf,
    /// Whether it is a kvd, whose log we know how to damage.
    pub kvd: bool,
    /// Whether it has failpoints.
    pub failpoints: bool,
    /// Whether watchers may ask for progress. An etcd before 3.5.8 answers also those that it has not sent everything, which
    /// is a defect of its (etcd's issue 15220), found by these checkers as well.
    pub answers_progress: bool,
    /// Flags for each member.
    pub flags: Vec<String>,
    /// Variables for each member.
    pub environment: Vec<(String, OsString)>,
}

impl Target {
    /// Finds the program that `--target` names, and asks it what it is.
    pub fn find(name: &str) -> anyhow::Result<Target> {
        let program = match name {
            "kvd" | "kvd-faulty" => own_program(name)?,
            "etcd" => {
                let program = peers::peer_path("etcd-3.5.1/etcd");
                if !program.is_file() {
                    bail!("{} is missing: run `make peers`", program.display());
                }
                program
            }
            path => {
                let path = PathBuf::from(path);
                if !path.is_file() {
                    bail!(
                        "--target {name}: expected kvd, kvd-faulty, etcd, or the path of a program"
                    );
                }
                std::path::absolute(&path)?
            }
        };
        let version = Command::new(&program)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).to_lowercase();
        let kvd = version.contains("kvd");
        Ok(Target {
            name: name.to_owned(),
            program,
            kvd,
            failpoints: version.contains("failpoints"),
            answers_progress: kvd,
            flags: vec![PROGRESS_FLAG.to_owned()],
            environment: Vec::new(),
        })
    }
}

/// Beside this program, or where a release build puts it.
fn own_program(name: &str) -> anyhow::Result<PathBuf> {
    let dir = match std::env::var_os("KEELSON_BIN_DIR") {
        Some(dir) => Some(PathBuf::from(dir)),
        None => std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_path_buf)),
    };
    let candidates = [
        dir.map(|dir| dir.join(name)),
        Some(Path::new("target/release").join(name)),
    ];
    for candidate in candidates.into_iter().flatten() {
        if candidate.is_file() {
            return Ok(std::path::absolute(candidate)?);
        }
    }
    let how = if name == "kvd" { "build" } else { "faulty" };
    bail!("{name} is not built: run `make {how}`, or name a program with --target PATH")
}
