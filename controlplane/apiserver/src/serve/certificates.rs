//! The cluster's own certificate authority, and what it signs.
//!
//! Made on the first start, in the certificate directory: `ca.crt` and `ca.key`, and a certificate and key for each
//! client. They stay as long as they are good: a client's certificate is made anew at a start if another authority
//! signed it, if it names another client, or if it has expired or will soon. None outlasts the authority. The server's own is made anew at each start, since its addresses may
//! have changed. Keys are readable by their owner only.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::UnixTime;
use tracing::warn;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::auth::{Caller, MASTERS};
use super::tls;
use crate::clock;
use crate::rest::NODE_AGENTS;

/// Clients that get a certificate, under the names of their files: common name and organization.
pub const CLIENTS: &[(&str, &str, &str)] = &[
    ("admin", "kubernetes-admin", MASTERS),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("node", "keelson:node-agent", NODE_AGENTS),
];

/// How long what is signed is good for.
const YEARS: i32 = 10;
/// A client's certificate that ends within this time is made anew: a component may run as long without a restart.
const RENEWED_BEFORE: Duration = Duration::from_secs(90 * 86_400);

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
    /// When the authority ends: what it signs is worth nothing after that.
    ends: ASN1Time,
}

impl Pki {
    /// Opens the certificate directory, and makes in it what is missing.
    pub fn open(dir: &Path) -> Result<Pki> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot protect {}", dir.display()))?;
        // Two servers that start at once make one authority, not the certificate of one and the key of another.
        let _alone = lock(dir)?;
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
        let (ca, pem) = (read(&certificate)?, read(&key)?);
        if !tls::fit(&ca, &pem) {
            bail!(
                "{} is not the key of {}",
                key.display(),
                certificate.display()
            );
        }
        let pair = KeyPair::from_pem(&pem)
            .with_context(|| format!("{} holds no key in PKCS#8", key.display()))?;
        let ends = end_of(&ca)
            .with_context(|| format!("{} holds no certificate", certificate.display()))?;
        check_end(&certificate, ends, clock::now_s())?;
        // In the name that the certificate bears: one that was brought has another than ours.
        let issuer = Issuer::from_ca_cert_pem(&ca, pair)
            .with_context(|| format!("{} holds no certificate", certificate.display()))?;
        Ok(Pki {
            dir: dir.to_owned(),
            ca,
            issuer,
            ends,
        })
    }

    /// The certificate of one of [`CLIENTS`], made if it is missing or no longer good.
    pub fn client(&self, file: &str, common_name: &str, organization: &str) -> Result<Signed> {
        let now = Duration::from_secs(clock::now_s().unsigned_abs());
        self.client_at(now, file, common_name, organization)
    }

    /// The same, at a time since 1970.
    fn client_at(
        &self,
        now: Duration,
        file: &str,
        common_name: &str,
        organization: &str,
    ) -> Result<Signed> {
        let _alone = lock(&self.dir)?;
        let certificate = self.dir.join(format!("{file}.crt"));
        let key = self.dir.join(format!("{file}.key"));
        if certificate.exists() && key.exists() {
            let found = Signed {
                certificate: read(&certificate)?,
                key: read(&key)?,
            };
            let names = tls::first_certificate(&found.certificate)
                .ok()
                .and_then(|certificate| Caller::of_certificate(&certificate))
                .is_some_and(|caller| caller.is(common_name, organization));
            if names && self.is_good(&found, now + RENEWED_BEFORE) {
                return Ok(found);
            }
        }
        let mut params = params(common_name, organization)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = self.sign(params)?;
        write_private(&certificate, &signed.certificate)?;
        write_private(&key, &signed.key)?;
        Ok(signed)
    }

    /// Whether this authority signed a client's certificate, which is valid at a time and fits its key.
    fn is_good(&self, signed: &Signed, at: Duration) -> bool {
        let at = UnixTime::since_unix_epoch(at);
        tls::fit(&signed.certificate, &signed.key)
            && tls::check_client(&signed.certificate, &self.ca, at).is_ok()
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

    fn sign(&self, mut params: CertificateParams) -> Result<Signed> {
        params.not_after = params.not_after.min(self.ends.to_datetime());
        let pair = KeyPair::generate()?;
        let certificate = params.signed_by(&pair, &self.issuer)?;
        Ok(Signed {
            certificate: certificate.pem(),
            key: pair.serialize_pem(),
        })
    }
}

/// Waits until nobody else works on the directory.
fn lock(dir: &Path) -> Result<fs::File> {
    let path = dir.join("lock");
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// When a certificate ends.
fn end_of(pem: &str) -> Result<ASN1Time> {
    let der = tls::first_certificate(pem)?;
    let (_, certificate) = X509Certificate::from_der(&der)?;
    Ok(certificate.validity().not_after)
}

/// Refuses an authority that has ended, which no client trusts any more, and tells of one that will soon.
fn check_end(certificate: &Path, ends: ASN1Time, now_s: i64) -> Result<()> {
    let left_s = ends.timestamp() - now_s;
    let certificate = certificate.display();
    if left_s <= 0 {
        bail!(
            "{certificate} ended on {ends}: put a new authority there, or remove it with its key, and one is made"
        );
    }
    if left_s < RENEWED_BEFORE.as_secs() as i64 {
        warn!("{certificate} ends on {ends}, and whatever it signs with it");
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Duration {
        Duration::from_secs(clock::now_s().unsigned_abs())
    }

    #[test]
    fn an_authority_is_made_once_and_its_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::open(dir.path()).unwrap();
        let admin = first.client("admin", "kubernetes-admin", MASTERS).unwrap();
        let again = Pki::open(dir.path()).unwrap();
        assert_eq!(first.ca, again.ca);
        let found = again.client("admin", "kubernetes-admin", MASTERS).unwrap();
        assert_eq!(admin.key, found.key);
        for file in ["ca.key", "admin.key"] {
            let mode = fs::metadata(dir.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_certificate_is_made_anew_if_it_names_another_client() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let node = |name: &str, group: &str| pki.client("node", name, group).unwrap().certificate;
        let old = node("old", "a");
        for (name, group) in [("new", "a"), ("new", "b"), ("new", "")] {
            let new = node(name, group);
            assert_ne!(new, old);
            assert_eq!(new, node(name, group));
        }
    }

    #[test]
    fn servers_that_start_at_once_share_one_authority() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Pki::open(dir.path()).unwrap().ca;
        let all: Vec<String> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            started.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(all.iter().all(|ca| *ca == all[0]));
    }

    #[test]
    fn nothing_outlasts_its_authority_and_one_that_has_ended_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let in_days = |days: i64| ASN1Time::from_timestamp(clock::now_s() + days * 86_400).unwrap();
        let put = |ends: ASN1Time| {
            let pair = KeyPair::generate().unwrap();
            let mut params = ca_params();
            params.not_after = ends.to_datetime();
            let made = params.self_signed(&pair).unwrap();
            fs::write(dir.path().join("ca.crt"), made.pem()).unwrap();
            fs::write(dir.path().join("ca.key"), pair.serialize_pem()).unwrap();
        };
        put(in_days(7));
        let pki = Pki::open(dir.path()).unwrap();
        let signed = pki.client("admin", "kubernetes-admin", MASTERS).unwrap();
        assert_eq!(
            end_of(&signed.certificate).unwrap(),
            end_of(&pki.ca).unwrap()
        );
        put(in_days(-1));
        let error = Pki::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.crt ended on"), "{error}");
    }

    #[test]
    fn a_new_authority_gives_clients_new_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let admin = |pki: &Pki| pki.client("admin", "kubernetes-admin", MASTERS).unwrap();
        let old = admin(&Pki::open(dir.path()).unwrap());
        for file in ["ca.crt", "ca.key"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        let pki = Pki::open(dir.path()).unwrap();
        let new = admin(&pki);
        assert_ne!(old.certificate, new.certificate);
        assert!(pki.is_good(&new, now()) && !pki.is_good(&old, now()));
    }

    #[test]
    fn a_certificate_is_made_anew_before_it_ends_or_if_its_key_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let years = |years: u32| now() + Duration::from_secs(365 * 86_400) * years;
        let at = |time| pki.client_at(time, "admin", "a", "").unwrap().certificate;
        let first = at(now());
        assert_eq!(at(years(9)), first);
        let second = at(years(10));
        assert_ne!(second, first);
        fs::copy(dir.path().join("ca.key"), dir.path().join("admin.key")).unwrap();
        assert_ne!(at(now()), second);
    }

    #[test]
    fn what_is_signed_names_the_authority_that_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate().unwrap();
        let mut given = ca_params();
        given
            .distinguished_name
            .push(DnType::CommonName, "Example Corporation");
        let given = given.self_signed(&pair).unwrap();
        fs::write(dir.path().join("ca.crt"), given.pem()).unwrap();
        fs::write(dir.path().join("ca.key"), pair.serialize_pem()).unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let signed = pki.client("admin", "kubernetes-admin", MASTERS).unwrap();
        assert!(pki.is_good(&signed, now()));
    }

    #[test]
    fn the_key_of_another_authority_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Pki::open(one.path()).unwrap();
        Pki::open(other.path()).unwrap();
        fs::copy(one.path().join("ca.key"), other.path().join("ca.key")).unwrap();
        let error = Pki::open(other.path()).err().unwrap().to_string();
        assert!(error.contains("is not the key of"), "{error}");
    }

    #[test]
    fn a_client_certificate_names_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path()).unwrap();
        let admin = pki.client("admin", "kubernetes-admin", MASTERS).unwrap();
        let der = tls::first_certificate(&admin.certificate).unwrap();
        let caller = Caller::of_certificate(&der).unwrap();
        let user = caller.user(clock::now_s()).unwrap();
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
        tls::config(&signed.certificate, &signed.key, &pki.ca).unwrap();
    }
}
