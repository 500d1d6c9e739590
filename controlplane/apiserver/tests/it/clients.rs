//! Programs on others' clients.

use std::process::Command;

use crate::support::{RunningStore, Server, StoreKind, on_each_store, program_in_peers};

const SAYS: &str = "\
namespaces: default,kube-node-lease,kube-public,kube-system
patched: [('a', 'b'), ('c', 'd')]
watched: MODIFIED first
informed: True
scaled: 7
pages: first second
gone: 404 Not Found
";

on_each_store!(
    pythons_client_lists_watches_informs_and_patches,
    async |running| {
        let server = Server::start(running).await;
        let mut command = Command::new(program_in_peers("python-kubernetes/bin/python"));
        command
            // Cargo runs tests in their package's directory.
            .arg("it/python.py")
            .arg(server.pki().join("admin.kubeconfig"));
        // The server runs on these threads too.
        let output = tokio::task::spawn_blocking(move || command.output().expect("python starts"))
            .await
            .expect("python ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), SAYS, "{errors}");
    }
);
