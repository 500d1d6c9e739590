//! What TLS needs of certificates: the server's own, and which clients' are accepted.

use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// The server's side of TLS: its certificate, and the authorities that sign clients'. Everything is PEM.
pub fn config(certificate: &str, key: &str, client_ca: &str) -> Result<ServerConfig> {
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the server's key is no PEM")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(client_verifier(client_ca)?)
        .with_single_cert(certificates(certificate)?, key)
        .context("the server's certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether one of the authorities `client_ca` signed a client's certificate, and it is valid at `at`.
pub(super) fn check_client(certificate: &str, client_ca: &str, at: UnixTime) -> Result<()> {
    let chain = certificates(certificate)?;
    let (own, rest) = chain.split_first().context("there is no certificate")?;
    client_verifier(client_ca)?.verify_client_cert(own, rest, at)?;
    Ok(())
}

/// Whether a certificate and a key belong together.
pub(super) fn fit(certificate: &str, key: &str) -> bool {
    let pair = || -> Result<CertifiedKey> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let chain = certificates(certificate)?;
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    };
    pair().is_ok()
}

fn client_verifier(ca: &str) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).context("the client authority is no PEM")? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        // Who shows no certificate is a stranger, and may see that the server lives.
        .allow_unauthenticated()
        .build()?;
    Ok(verifier)
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The first certificate in a PEM: its owner's own.
pub(super) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>> {
    let first = certificates(pem)?.into_iter().next();
    first.context("there is no certificate")
}

/// The certificates in a PEM.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    Ok(all?)
}
