//! Whose certificate PostgreSQL may show: anybody's, one of our CA's, or one that also has the host's name.
//!
//! Invariant: whoever is taken has proved to own the key of the certificate that he showed, in each of the three.
//!
//! Where webpki is stricter than OpenSSL about what is common with PostgreSQL, this is not: a name in the subject counts
//! where the certificate has no others, a self-signed certificate counts that is in the file of CAs itself, and keys of
//! certificates of version 1 can be used where the certificate need not be checked.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::load::{Fault, Loaded, TlsError};
use super::x509::Certificate;

/// Takes any certificate.
#[derive(Debug)]
pub(super) struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

/// Takes the certificates of our CAs.
#[derive(Debug)]
pub(super) struct OfOurCa {
    webpki: Arc<WebPkiServerVerifier>,
    /// What is in the file of CAs.
    known: Vec<CertificateDer<'static>>,
    /// The certificate has to have the host's name.
    named: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Anybody {
    pub(super) fn new(provider: &CryptoProvider) -> Anybody {
        Anybody { algorithms: provider.signature_verification_algorithms }
    }
}

impl OfOurCa {
    pub(super) fn new(
        ca: &Loaded,
        crl: Option<&Loaded>,
        named: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<OfOurCa, TlsError> {
        let mut builder = WebPkiServerVerifier::builder_with_provider(ca.roots()?, Arc::clone(provider))
            .enforce_revocation_expiration();
        if let Some(crl) = crl {
            builder = builder.with_crls(crl.revocations()?);
        }
        let webpki = builder.build().map_err(|error| crl.unwrap_or(ca).fault(Fault::Verifier(error)))?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(OfOurCa { webpki, known: ca.certificates()?, named, algorithms })
    }

    /// Whether the file of CAs has this very certificate, and it is valid now.
    fn knows(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let valid = || {
            Certificate::parse(certificate)
                .is_some_and(|parsed| parsed.is_self_issued() && parsed.is_valid_at(now.as_secs()))
        };
        self.known.iter().any(|known| known == certificate) && valid()
    }
}

impl ServerCertVerifier for OfOurCa {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};

        let wrong_name = match self.webpki.verify_server_cert(certificate, chain, name, ocsp, now) {
            // Its chain and its name are right.
            Ok(verified) => return Ok(verified),
            // The name is looked at when the chain has turned out to be right.
            Err(error @ Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => error,
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.knows(certificate, now) => {
                let presented = Certificate::parse(certificate).and_then(|parsed| parsed.subject());
                Error::InvalidCertificate(NotValidForNameContext {
                    expected: name.to_owned(),
                    presented: presented.into_iter().collect(),
                })
            }
            Err(error) => return Err(error),
        };
        if !self.named || has_name(certificate, name) { Ok(ServerCertVerified::assertion()) } else { Err(wrong_name) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate has the host's name, where that is not among its alternative names. libpq's rule: the common
/// name counts where there are no others, and `*` stands for the first part of a name.
fn has_name(certificate: &CertificateDer<'_>, host: &ServerName<'_>) -> bool {
    let Some(parsed) = Certificate::parse(certificate) else { return false };
    if parsed.has_alternative_names() {
        // For a certificate that webpki does not take as one of a server; it has looked at all others.
        return rustls::server::ParsedCertificate::try_from(certificate)
            .is_ok_and(|certificate| rustls::client::verify_server_name(&certificate, host).is_ok());
    }
    let Some(name) = parsed.common_name() else { return false };
    let (name, host) = (name.to_ascii_lowercase(), host.to_str().to_ascii_lowercase());
    if name == host {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(pattern), Some((first, rest))) => pattern == rest && !first.is_empty() && pattern.contains('.'),
        _ => false,
    }
}

fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let (kind, key) = Certificate::parse(certificate)
        .and_then(|parsed| parsed.key())
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let possible = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let possible = possible.map(|(_, possible)| *possible).unwrap_or_default();
    let fits = possible.iter().find(|algorithm| algorithm.public_key_alg_id().as_ref() == kind);
    match fits.map(|algorithm| algorithm.verify_signature(key, message, signed.signature())) {
        Some(Ok(())) => Ok(HandshakeSignatureValid::assertion()),
        Some(Err(_)) | None => Err(Error::InvalidCertificate(CertificateError::BadSignature)),
    }
}

fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let parsed = Certificate::parse(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(parsed.key_info()), signed, algorithms)
}
