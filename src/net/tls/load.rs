//! Files of keys, certificates and revocation lists, and the choices of the configuration as rustls has them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, default_provider};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, SupportedProtocolVersion};

use super::x509::Certificate;
use crate::config::{Chosen, Config, TlsProtocols};

/// Why TLS cannot be had as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting} {}: {source}", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{setting} {}: {reason}", path.display())]
    Content {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Fault,
    },
    /// A file has to be named.
    #[error("{0} is needed")]
    Missing(&'static str),
    /// The same, since the system has no file of CAs.
    #[error("{0} is needed: the system has no file of CAs where OpenSSL would look for one")]
    NoSystem(&'static str),
    /// The library refuses the settings together.
    #[error("TLS: {0}")]
    Settings(#[from] rustls::Error),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing of the kind is in it.
    #[error("there is no {0} in PEM in it")]
    Empty(&'static str),
    /// The key has a password.
    #[error("the key is encrypted, and there is nobody to ask for its password; store it without one")]
    Encrypted,
    /// The certificate is another key's.
    #[error("the key is not the one of the certificate in {}", .0.display())]
    OtherKey(PathBuf),
    /// Not PEM.
    #[error("not PEM: {0}")]
    Pem(pem::Error),
    /// Not a certificate.
    #[error("certificate {0} in it cannot be read")]
    Certificate(usize),
    /// The key, or what is made of it all.
    #[error("{0}")]
    Tls(rustls::Error),
    /// The certificates of CAs, or the revocation lists.
    #[error("{0}")]
    Verifier(VerifierBuilderError),
}

/// A file that a setting names, with its contents.
pub(super) struct Loaded {
    setting: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Loaded {
    /// Reads the file, a relative name from the directory of the configuration; `None` where the setting is empty.
    pub(super) fn read(
        config: &Config,
        setting: &'static str,
        path: Option<&PathBuf>,
    ) -> Result<Option<Loaded>, TlsError> {
        let Some(path) = path else { return Ok(None) };
        let path = config.path.parent().unwrap_or(Path::new("")).join(path);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Loaded { setting, path, bytes })),
            Err(source) => Err(TlsError::Read { setting, path, source }),
        }
    }

    /// The public CAs that the system trusts, where OpenSSL would look for them (`SSL_CERT_FILE` goes before all).
    pub(super) fn of_system(setting: &'static str) -> Result<Loaded, TlsError> {
        let path = openssl_probe::probe().cert_file.ok_or(TlsError::NoSystem(setting))?;
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Loaded { setting, path, bytes }),
            Err(source) => Err(TlsError::Read { setting, path, source }),
        }
    }

    /// The same for a file that has to be there.
    pub(super) fn needed(config: &Config, setting: &'static str, path: Option<&PathBuf>) -> Result<Loaded, TlsError> {
        Loaded::read(config, setting, path)?.ok_or(TlsError::Missing(setting))
    }

    pub(super) fn fault(&self, reason: Fault) -> TlsError {
        TlsError::Content { setting: self.setting, path: self.path.clone(), reason }
    }

    /// All certificates in it, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.fault(Fault::Pem(error)))?;
        if found.is_empty() {
            return Err(self.fault(Fault::Empty("certificate")));
        }
        match found.iter().position(|der| Certificate::parse(der).is_none()) {
            Some(at) => Err(self.fault(Fault::Certificate(at + 1))),
            None => Ok(found),
        }
    }

    /// All revocation lists in it, at least one.
    pub(super) fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.fault(Fault::Pem(error)))?;
        if found.is_empty() { Err(self.fault(Fault::Empty("revocation list"))) } else { Ok(found) }
    }

    /// The CAs in it. One that the library cannot take is named.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            // One that no chain can end at does no harm, and bundles have such.
            let _ = roots.add(certificate);
        }
        Ok(Arc::new(roots))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            let encrypted = self.bytes.windows(9).any(|part| part == b"ENCRYPTED");
            self.fault(match error {
                _ if encrypted => Fault::Encrypted,
                pem::Error::NoItemsFound => Fault::Empty("private key"),
                other => Fault::Pem(other),
            })
        })
    }

    /// What tells whether a file has changed, without keeping it.
    pub(super) fn fingerprint(file: Option<&Loaded>) -> Option<Vec<u8>> {
        let hash = TLS13_AES_256_GCM_SHA384.tls13()?;
        file.map(|file| hash.common.hash_provider.hash(&file.bytes).as_ref().to_vec())
    }
}

/// A certificate with its chain and its key.
pub(super) fn certified(
    key: &Loaded,
    certificate: &Loaded,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificate.certificates()?;
    let private =
        provider.key_provider.load_private_key(key.private_key()?).map_err(|error| key.fault(Fault::Tls(error)))?;
    // Compared here, since the library does not read certificates of version 1, which others take.
    let theirs = chain.first().and_then(|der| Certificate::parse(der)).map(|parsed| parsed.key_info().to_vec());
    if private.public_key().is_some_and(|ours| theirs.as_deref() != Some(ours.as_ref())) {
        return Err(key.fault(Fault::OtherKey(certificate.path.clone())));
    }
    Ok(CertifiedKey::new(chain, private))
}

/// The cryptography for these choices.
pub(super) fn provider(suites12: &Chosen, suites13: &Chosen, groups: Option<&Chosen>) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    let wanted = suites13.names.iter().chain(&suites12.names);
    provider.cipher_suites = wanted
        .filter_map(|name| {
            ALL_CIPHER_SUITES.iter().copied().find(|suite| super::session::suite_name(suite.suite()) == Some(*name))
        })
        .collect();
    if let Some(groups) = groups {
        let named = |name: &&'static str| ALL_KX_GROUPS.iter().copied().find(|group| group_name(*group) == Some(*name));
        provider.kx_groups = groups.names.iter().filter_map(named).collect();
    }
    Arc::new(provider)
}

fn group_name(group: &dyn SupportedKxGroup) -> Option<&'static str> {
    match group.name() {
        NamedGroup::X25519 => Some("X25519"),
        NamedGroup::secp256r1 => Some("prime256v1"),
        NamedGroup::secp384r1 => Some("secp384r1"),
        NamedGroup::X25519MLKEM768 => Some("X25519MLKEM768"),
        _ => None,
    }
}

/// The versions of TLS that are spoken.
pub(super) fn versions(protocols: TlsProtocols) -> Vec<&'static SupportedProtocolVersion> {
    let both = [(protocols.v13, &TLS13), (protocols.v12, &TLS12)];
    both.into_iter().filter_map(|(wanted, version)| wanted.then_some(version)).collect()
}
