//! The cluster's own certificate authority, and what it signs.
//!
//! Made on the first start, in the certificate directory: `ca.crt` and `ca.key`, and a certificate and key for each
//! client. They stay; the server's own certificate is made anew at each start, since its addresses may have changed.
//! Keys are readable by their owner only.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::auth::MASTERS;
use crate::clock;

/// Clients that get a certificate, under the names of their files: common name and organization.
pub const CLIENTS: &[(&str, &str, &str)] = &[
    ("admin", "kubernetes-admin", MASTERS),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("node", "system:node:keelson", "system:nodes"),
];

/// How long what is signed is good for.
const YEARS: i32 = 10;

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// The certificates of a cluster.
pub struct Pki {
    dir: PathBuf,
    /// The authority's certificate, as PEM.
    pub ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Opens the certificate directory, and makes in it what is missing.
    pub fn open(dir: &Path) -> Result<Pki> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot protect {}", dir.display()))?;
        let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (false, false) => {
                let pair = KeyPair::generate()?;
                let made = ca_params().self_signed(&pair)?;
                // The key last: half an authority is seen as such.
                write_private(&certificate, &made.pem())?;
                write_private(&key, &pair.serialize_pem())?;
            }
            _ => bail!(
                "of {} and {} only one is there: put the other back, or remove both to make a new authority",
                certificate.display(),
                key.display()
            ),
        }
        let pair = KeyPair::from_pem(&read(&key)?)
            .with_context(|| format!("{} holds no key", key.display()))?;
        Ok(Pki {
            dir: dir.to_owned(),
            ca: read(&certificate)?,
            issuer: Issuer::new(ca_params(), pair),
        })
    }

    /// The certificate of one of [`CLIENTS`], made if it is missing.
    pub fn client(&self, file: &str, common_name: &str, organization: &str) -> Result<Signed> {
        let certificate = self.dir.join(format!("{file}.crt"));
        let key = self.dir.join(format!("{file}.key"));
        if !certificate.exists() || !key.exists() {
            let mut params = params(common_name, organization)?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let signed = self.sign(params)?;
            write_private(&certificate, &signed.certificate)?;
            write_private(&key, &signed.key)?;
        }
        Ok(Signed {
            certificate: read(&certificate)?,
            key: read(&key)?,
        })
    }

    /// A certificate for the server under these names and addresses.
    pub fn server(&self, names: &[String], addresses: &[IpAddr]) -> Result<Signed> {
        let mut all: Vec<String> = names.to_vec();
        all.extend(addresses.iter().map(IpAddr::to_string));
        all.sort();
        all.dedup();
        let mut params = params("kube-apiserver", "")?;
        params.subject_alt_names = CertificateParams::new(all)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = self.sign(params)?;
        write_private(&self.dir.join("apiserver.crt"), &signed.certificate)?;
        write_private(&self.dir.join("apiserver.key"), &signed.key)?;
        Ok(signed)
    }

    fn sign(&self, params: CertificateParams) -> Result<Signed> {
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        Ok(Signed {
            certificate: certificate.pem(),
            key: pair.serialize_pem(),
        })
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "kubernetes");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params);
    params
}

fn params(common_name: &str, organization: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if !organization.is_empty() {
        name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams) {
    // From yesterday on, for machines whose clocks disagree.
    let yesterday = clock::rfc3339(clock::now_s() - 86_400);
    let number = |from: usize, to: usize| {
        let part = yesterday
            .get(from..to)
            .and_then(|part| part.parse::<i32>().ok());
        part.unwrap_or(1)
    };
    // The 29th of February does not come every year.
    let (year, month, day) = (
        number(0, 4),
        number(5, 7) as u8,
        number(8, 10).min(28) as u8,
    );
    params.not_before = date_time_ymd(year, month, day);
    params.not_after = date_time_ymd(year + YEARS, month, day);
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file that only its owner may read; whole, or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    // One that was left behind may have other rights.
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&beside, path).with_context(context)
}

/// What TLS needs: the server's certificate, and the authority that signs clients'.
pub fn tls_config(certificate: &str, key: &str, client_ca: &str) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_ca).context("the client authority is no PEM")? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        // Who shows no certificate is a stranger, and may see that the server lives.
        .allow_unauthenticated()
        .build()?;
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).context("the server's key is no PEM")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(certificate)?, key)
        .context("the server's certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    Ok(all?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::auth::user_of_certificate;

    #[test]
    fn an_authority_is_made_once_and_its_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path()).unwrap();
        let admin = first.client("admin", "kubernetes-admin", MASTERS).unwrap();
        let again = Pki::open(dir.path()).unwrap();
        assert_eq!(first.ca, again.ca);
        assert_eq!(admin.key, again.client("admin", "", "").unwrap().key);
        for file in ["ca.key", "admin.key"] {
            let mode = fs::metadata(dir.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_client_certificate_names_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let admin = pki.client("admin", "kubernetes-admin", MASTERS).unwrap();
        let der = certificates(&admin.certificate).unwrap().remove(0);
        let user = user_of_certificate(&der).unwrap();
        assert_eq!(user.name, "kubernetes-admin");
        assert!(user.is_in(MASTERS) && user.is_in("system:authenticated"));
    }

    #[test]
    fn half_an_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Pki::open(dir.path()).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(Pki::open(dir.path()).is_err());
    }

    #[test]
    fn the_servers_certificate_serves() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let signed = pki
            .server(&["localhost".to_owned()], &["127.0.0.1".parse().unwrap()])
            .unwrap();
        tls_config(&signed.certificate, &signed.key, &pki.ca).unwrap();
    }
}
