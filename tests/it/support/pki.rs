//! Certificates of a test's own: CAs, servers and users, good and bad, as PEM files in a directory that goes with it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

use super::programs::give_to_postgres;

pub(crate) struct Pki {
    dir: TempDir,
    ca: Issuer<'static, KeyPair>,
    other_ca: Issuer<'static, KeyPair>,
}

/// What a certificate is to be like; the default is a good one for anybody.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    /// Names and addresses besides the common name.
    pub(crate) names: &'a [&'a str],
    pub(crate) expired: bool,
    /// Made by a CA that nobody trusts.
    pub(crate) foreign: bool,
    pub(crate) serial: u64,
    pub(crate) algorithm: Option<&'static rcgen::SignatureAlgorithm>,
}

impl Pki {
    /// Two CAs: `ca.crt`, and `other.crt`, whom nobody is told to trust.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pgpool-pki-").tempdir().expect("make a directory");
        let (ca, pem) = authority("A CA of the test");
        let (other_ca, other) = authority("Another CA");
        fs::write(dir.path().join("ca.crt"), pem).expect("write a certificate");
        fs::write(dir.path().join("other.crt"), other).expect("write a certificate");
        open_to_all(dir.path());
        Self { dir, ca, other_ca }
    }

    /// A CA and a server's `server.crt` and `server.key` for `localhost` and 127.0.0.1.
    pub(crate) fn with_server() -> Self {
        let pki = Self::new();
        pki.issue("server", "localhost", Wanted { names: &["localhost", "127.0.0.1"], ..Wanted::default() });
        pki
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `NAME.crt` and `NAME.key`. The common name may be left out.
    pub(crate) fn issue(&self, file: &str, common_name: &str, wanted: Wanted<'_>) {
        let key = KeyPair::generate_for(wanted.algorithm.unwrap_or(&rcgen::PKCS_ECDSA_P256_SHA256)).expect("a key");
        let names: Vec<String> = wanted.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Test, Inc.");
        if !common_name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common_name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = (wanted.serial > 0).then(|| SerialNumber::from(wanted.serial));
        if wanted.expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        let ca = if wanted.foreign { &self.other_ca } else { &self.ca };
        let certificate = params.signed_by(&key, ca).expect("a certificate");
        self.write(&format!("{file}.crt"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// The same, signed by its own key with this algorithm.
    pub(crate) fn self_signed(&self, file: &str, algorithm: &'static rcgen::SignatureAlgorithm) {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        self.write(&format!("{file}.crt"), &params.self_signed(&key).expect("a certificate").pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// A list of the CA's that revokes these serial numbers.
    pub(crate) fn revoke(&self, file: &str, serials: &[u64]) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(file, &params.signed_by(&self.ca).expect("a list").pem().expect("PEM"));
    }

    /// Settings of `[pgpool]` for TLS with clients, by `server.crt`.
    pub(crate) fn client_tls(&self, mode: &str) -> String {
        format!(
            "client_tls_sslmode = \"{mode}\"\nclient_tls_cert_file = \"{}\"\nclient_tls_key_file = \"{}\"\n\
             client_tls_ca_file = \"{}\"\n",
            self.file("server.crt").display(),
            self.file("server.key").display(),
            self.file("ca.crt").display(),
        )
    }

    /// Lines of postgresql.conf with which PostgreSQL speaks TLS, by `server.crt`. Only it can read its copy of the key.
    pub(crate) fn postgres_tls(&self) -> String {
        for name in ["server.crt", "server.key"] {
            let copy = self.file(&format!("postgres-{name}"));
            fs::copy(self.file(name), &copy).expect("copy a file");
            give_to_postgres(&copy);
        }
        format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'",
            self.file("postgres-server.crt").display(),
            self.file("postgres-server.key").display(),
            self.file("ca.crt").display(),
        )
    }

    /// A client that trusts the CA, names the protocol, and shows a certificate if one is named.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion], shows: Option<&str>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.crt")).expect("a certificate")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let certificate = CertificateDer::from_pem_file(self.file(&format!("{name}.crt"))).expect("PEM");
                let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("a certificate")
            }
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        config
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::write(&path, text).expect("write a file");
        // libpq and PostgreSQL want keys that nobody else can read.
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("set a mode");
    }
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(params, key), pem)
}

/// PostgreSQL runs as another user.
fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set a mode");
}
