//! The kubeconfig that the launcher hands to its user: nobody else's is ever overwritten.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use kube::config::Kubeconfig;

/// What the API server calls the cluster in the kubeconfigs that it makes.
const CLUSTER_NAME: &str = "keelson";

/// Refuses a file that has somebody else's clusters in it.
pub fn refuse_foreign(path: &Path) -> anyhow::Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if !text.trim().is_empty() && !is_ours(&text) {
        bail!(
            "{} is not a kubeconfig that keelson made, and is left as it is; name another file with --kubeconfig",
            path.display()
        );
    }
    Ok(())
}

fn is_ours(text: &str) -> bool {
    Kubeconfig::from_yaml(text).is_ok_and(|config| {
        let mut clusters = config.clusters.iter();
        config.clusters.len() == 1 && clusters.all(|cluster| cluster.name == CLUSTER_NAME)
    })
}

/// Copies a kubeconfig, whole or not at all, for its owner's eyes only.
pub fn hand_over(from: &Path, to: &Path) -> anyhow::Result<()> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let write = || -> std::io::Result<()> {
        // One that was left behind may have other rights.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let options = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .clone();
        options.open(&beside)?.write_all(&text)?;
        fs::rename(&beside, to)
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn kubeconfig(cluster: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster: {{server: https://127.0.0.1:6443}}\n"
        )
    }

    #[test]
    fn a_file_of_ones_own_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        refuse_foreign(&path).unwrap();
        for harmless in ["", &kubeconfig(CLUSTER_NAME)] {
            fs::write(&path, harmless).unwrap();
            refuse_foreign(&path).unwrap();
        }
        let two = kubeconfig(CLUSTER_NAME) + "- name: prod\n  cluster: {server: https://prod}\n";
        for foreign in [&kubeconfig("prod"), &two, "not a kubeconfig"] {
            fs::write(&path, foreign).unwrap();
            let error = refuse_foreign(&path).unwrap_err().to_string();
            assert!(error.contains("is left as it is"), "{error}");
        }
    }

    #[test]
    fn what_is_handed_over_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "secret").unwrap();
        fs::write(&to, "older").unwrap();
        hand_over(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "secret");
        let mode = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
