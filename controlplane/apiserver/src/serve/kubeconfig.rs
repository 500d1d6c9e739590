//! Kubeconfigs: how clients find the server, and who they are.

use std::path::Path;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificates::{CLIENTS, Pki, Signed, write_private};

/// Writes a kubeconfig for each client of the cluster's own: `admin.kubeconfig`, `controller-manager.kubeconfig`, ….
/// They trust the cluster's authority and, if the server shows a certificate that was `brought`, what comes with that.
pub fn write_kubeconfigs(pki: &Pki, dir: &Path, server: &str, brought: Option<&str>) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let trusted = [pki.ca.as_str(), brought.unwrap_or_default()]
        .map(certificates)
        .concat();
    for (file, common_name, organization) in CLIENTS {
        let client = pki.client(file, common_name, organization)?;
        let text = kubeconfig(&trusted, &client, server, common_name);
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

/// The certificates of a PEM, without what else is in it: a file may hold the key as well.
fn certificates(pem: &str) -> String {
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    pem.split(begin)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(end)?.0))
        .map(|body| format!("{begin}{body}{end}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_trusts_what_a_brought_certificate_comes_with_and_tells_no_key() {
        let ours = tempfile::tempdir().unwrap();
        Pki::open(&ours.path().join("pki")).unwrap();
        // One that was put there may end without a new line.
        let ca = ours.path().join("pki/ca.crt");
        let text = std::fs::read_to_string(&ca).unwrap();
        std::fs::write(&ca, text.trim_end()).unwrap();
        let pki = Pki::open(&ours.path().join("pki")).unwrap();
        let theirs = Pki::open(&ours.path().join("theirs")).unwrap();
        let server = theirs.server(&["api.example.com".to_owned()], &[]).unwrap();
        let brought = format!("{}{}{}", server.key, server.certificate, theirs.ca);
        let url = "https://api.example.com:6443";
        write_kubeconfigs(&pki, ours.path(), url, Some(&brought)).unwrap();
        let text = std::fs::read_to_string(ours.path().join("admin.kubeconfig")).unwrap();
        let (_, data) = text.split_once("certificate-authority-data: ").unwrap();
        let data = STANDARD.decode(data.lines().next().unwrap()).unwrap();
        let trusted = String::from_utf8(data).unwrap();
        assert_eq!(
            trusted,
            format!("{}\n{}{}", pki.ca, server.certificate, theirs.ca)
        );
    }
}
