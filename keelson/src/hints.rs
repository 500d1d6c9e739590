//! What to try next.

use std::env;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;

/// Three commands that work on a store as they stand.
pub fn store(cluster: &Cluster) -> Vec<String> {
    let steps = ["put greeting hello", "get greeting", "watch greeting"];
    steps.map(|what| kvctl(cluster, what)).to_vec()
}

/// Commands that work on a whole cluster as they stand, and show what is beneath.
pub fn control_plane(cluster: &Cluster, kubeconfig: &Path) -> Vec<String> {
    let keelson = beside("keelson").display().to_string();
    vec![
        format!(
            "export KUBECONFIG={}",
            quoted(&kubeconfig.display().to_string())
        ),
        "kubectl get nodes".to_owned(),
        "kubectl create deployment web --image=nginx --replicas=3".to_owned(),
        "kubectl get pods -w".to_owned(),
        format!("{keelson} trace deployment/web"),
        kvctl(cluster, "get --prefix --keys-only /registry/deployments"),
    ]
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn kvctl(cluster: &Cluster, what: &str) -> String {
    let kvctl = beside("kvctl").display().to_string();
    if cluster.is_at_default_endpoint() {
        format!("{kvctl} {what}")
    } else {
        format!(
            "{kvctl} --endpoints {} {what}",
            cluster.endpoints().join(",")
        )
    }
}

/// A program of ours as its user can type it: by name if the PATH leads to it, or else the one beside this program.
fn beside(name: &str) -> PathBuf {
    let name = PathBuf::from(name);
    let Some(beside) = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(&name)))
    else {
        return name;
    };
    let on_path = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path)
            .map(|dir| dir.join(&name))
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

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("/tmp/data/kubeconfig"), "/tmp/data/kubeconfig");
        assert_eq!(quoted("/my data/it's"), r"'/my data/it'\''s'");
    }
}
