//! TLS towards clients: our certificate, and whose certificates are taken.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;

use super::load::{Fault, Loaded, TlsError, certified, provider, versions};
use super::{ALPN, Tls};
use crate::config::{Chosen, Config, SslMode, TlsProtocols};

/// Sessions of TLS 1.2 that are remembered for clients that know no tickets.
const SESSIONS: usize = 1024;

/// What clients' handshakes go by.
pub struct Acceptor {
    made_of: MadeOf,
    pub(super) config: Arc<ServerConfig>,
    /// Our certificate (DER).
    pub(super) certificate: Arc<[u8]>,
}

/// What an acceptor was made of, to tell whether another would be the same.
#[derive(PartialEq)]
struct MadeOf {
    files: [Option<Vec<u8>>; 4],
    verifies: bool,
    protocols: TlsProtocols,
    names: [Chosen; 3],
}

impl Acceptor {
    /// Reads the files; answers `running` if nothing has changed.
    pub(super) fn load(config: &Config, running: Option<&Arc<Acceptor>>) -> Result<Arc<Acceptor>, TlsError> {
        let general = &config.general;
        let read = |setting, path| Loaded::read(config, setting, path);
        let needed = |setting, path| Loaded::needed(config, setting, path);
        let key = needed("client_tls_key_file", general.client_tls_key_file.as_ref())?;
        let certificate = needed("client_tls_cert_file", general.client_tls_cert_file.as_ref())?;
        let verifies = general.client_tls_sslmode >= SslMode::VerifyCa;
        let (mut ca, mut crl) = (None, None);
        if verifies {
            ca = Some(needed("client_tls_ca_file", general.client_tls_ca_file.as_ref())?);
            crl = read("client_tls_crl_file", general.client_tls_crl_file.as_ref())?;
        }
        let made_of = MadeOf {
            files: [Some(&key), Some(&certificate), ca.as_ref(), crl.as_ref()].map(Loaded::fingerprint),
            verifies,
            protocols: general.client_tls_protocols,
            names: [
                general.client_tls_ciphers.clone(),
                general.client_tls13_ciphers.clone(),
                general.client_tls_ecdhcurve.clone(),
            ],
        };
        if let Some(running) = running.filter(|running| running.made_of == made_of) {
            return Ok(Arc::clone(running));
        }
        let [suites12, suites13, groups] = &made_of.names;
        let provider = provider(suites12, suites13, Some(groups));
        let certified = certified(&key, &certificate, &provider)?;
        let own: Arc<[u8]> = certified.cert.first().map(|der| der.as_ref().into()).unwrap_or_default();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(made_of.protocols))?;
        let builder = match &ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(ca.roots()?, provider).enforce_revocation_expiration();
                if let Some(crl) = &crl {
                    verifier = verifier.with_crls(crl.revocations()?);
                }
                let built =
                    verifier.build().map_err(|error| crl.as_ref().unwrap_or(ca).fault(Fault::Verifier(error)))?;
                builder.with_client_cert_verifier(built)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        if verifies {
            // A session that goes on would not be asked again for its certificate, which may have been revoked since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.ticketer = Ticketer::new()?;
            // Each is of use once, and most clients use none.
            config.send_tls13_tickets = 1;
        }
        Ok(Arc::new(Acceptor { made_of, config: Arc::new(config), certificate: own }))
    }
}

impl Tls {
    /// Whether clients have to come with TLS, except by the Unix socket.
    #[must_use]
    pub fn is_required(config: &Config) -> bool {
        config.general.client_tls_sslmode >= SslMode::Require
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
