//! A client of the API server, from the flags that every component takes.

use std::path::PathBuf;

use anyhow::Context;
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::api::{PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::layer::layer_fn;

use crate::limit::Limited;

/// Where the API server is, and as whom to speak to it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConnectArgs {
    /// Path to a kubeconfig file with the API server's address and the credentials
    /// [default: $KUBECONFIG, ~/.kube/config, or the service account of the pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

/// A connection under a component's name, which is its user agent and its field manager.
#[derive(Clone)]
pub struct Connect {
    /// The client; cloning shares its connections.
    pub client: Client,
    /// The component's name, as in `kube-controller-manager`.
    pub name: String,
    /// The API server's certificate authorities, in PEM, if the configuration names any.
    pub ca_pem: Option<String>,
}

impl ConnectArgs {
    /// Reads the configuration and builds a client, which waits for no answer longer than half a minute. Nothing is sent
    /// yet.
    pub async fn connect(&self, name: &str) -> anyhow::Result<Connect> {
        let mut config = match &self.kubeconfig {
            None => Config::infer()
                .await
                .context("no kubeconfig was given, and none was found")?,
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .with_context(|| format!("cannot use the kubeconfig {}", path.display()))?
            }
        };
        let agent = format!("{name}/v{}", env!("CARGO_PKG_VERSION"));
        config
            .headers
            .push((USER_AGENT, HeaderValue::from_str(&agent)?));
        // Our queues retry with a back-off of their own, an item at a time; a retry inside the client would hide
        // for how long a write has been on its way.
        config.default_retry = false;
        let ca_pem = config.root_cert.as_deref().map(pem);
        let builder = ClientBuilder::try_from(config).context("cannot build a client")?;
        let client = builder.with_layer(&layer_fn(Limited)).build();
        Ok(Connect {
            client,
            name: name.to_owned(),
            ca_pem,
        })
    }
}

impl Connect {
    /// Parameters of a create, under our name.
    pub fn post(&self) -> PostParams {
        PostParams {
            field_manager: Some(self.name.clone()),
            ..PostParams::default()
        }
    }

    /// Parameters of a patch, under our name.
    pub fn patch(&self) -> PatchParams {
        PatchParams {
            field_manager: Some(self.name.clone()),
            ..PatchParams::default()
        }
    }
}

/// DER certificates as one PEM bundle.
fn pem(certs: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for cert in certs {
        let encoded = serde_json::to_value(k8s_openapi::ByteString(cert.clone()))
            .expect("bytes always serialize");
        let encoded = encoded.as_str().unwrap_or_default();
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            out.push('\n');
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::pem;

    #[test]
    fn certificates_are_written_as_pem_with_lines_of_64() {
        let text = pem(&[vec![0xab; 60]]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
        assert_eq!(lines[1].len(), 64);
        assert_eq!(lines[2].len(), 16);
        assert_eq!(lines[3], "-----END CERTIFICATE-----");
    }
}
