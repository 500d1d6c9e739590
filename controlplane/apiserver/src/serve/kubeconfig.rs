//! Kubeconfigs: how clients find the server, and who they are.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificates::{CLIENTS, Pki, Signed, write_private};

/// Writes a kubeconfig for each client of the cluster's own: `admin.kubeconfig`, `controller-manager.kubeconfig`, ….
pub fn write_kubeconfigs(pki: &Pki, dir: &Path, server: &str) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (file, common_name, organization) in CLIENTS {
        let client = pki.client(file, common_name, organization)?;
        let text = kubeconfig(&pki.ca, &client, server, common_name);
        write_private(&dir.join(format!("{file}.kubeconfig")), &text)?;
    }
    Ok(())
}

fn kubeconfig(ca: &str, client: &Signed, server: &str, user: &str) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: keelson
  cluster:
    server: {server}
    certificate-authority-data: {}
users:
- name: {user}
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: {user}@keelson
  context:
    cluster: keelson
    user: {user}
current-context: {user}@keelson
",
        data(ca),
        data(&client.certificate),
        data(&client.key)
    )
}
