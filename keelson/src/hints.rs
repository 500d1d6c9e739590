//! What to try next.

use std::env;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;

/// Three commands that work on this cluster as they stand.
pub fn next_steps(cluster: &Cluster) -> [String; 3] {
    let kvctl = kvctl().display().to_string();
    let endpoints = if cluster.is_at_default_endpoint() {
        String::new()
    } else {
        format!(" --endpoints {}", cluster.endpoints().join(","))
    };
    ["put greeting hello", "get greeting", "watch greeting"]
        .map(|what| format!("{kvctl}{endpoints} {what}"))
}

/// `kvctl` as its user can type it: by name if the PATH leads to ours, or else the one beside this program.
fn kvctl() -> PathBuf {
    let name = PathBuf::from("kvctl");
    let Some(beside) = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("kvctl")))
    else {
        return name;
    };
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|dir| dir.join("kvctl"))
            .find(|program| program.is_file())
    });
    if !beside.is_file() || on_path.is_some_and(|found| same(&found, &beside)) {
        return name;
    }
    let from_here = env::current_dir()
        .ok()
        .and_then(|here| beside.strip_prefix(here).ok().map(Path::to_owned));
    from_here.unwrap_or(beside)
}

fn same(one: &Path, other: &Path) -> bool {
    one.canonicalize()
        .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}
