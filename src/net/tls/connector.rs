//! TLS towards PostgreSQL: whose certificates are taken, and which we show.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::SingleCertAndKey;

use super::handshake::HandshakeError;
use super::load::{Loaded, TlsError, certified, provider, versions};
use super::verify::{Anybody, OfOurCa};
use super::{ALPN, Records};
use crate::config::{Config, General, SslMode, SslNegotiation, Table};

/// What handshakes with PostgreSQL go by.
pub struct Connector {
    /// How much TLS is wanted.
    pub mode: SslMode,
    /// TLS begins with the first byte.
    pub direct: bool,
    /// The settings as the configuration has them.
    settings: Vec<String>,
    files: [Option<Vec<u8>>; 4],
    pub(super) config: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// One that never uses TLS.
    #[must_use]
    pub fn none() -> Connector {
        Connector {
            mode: SslMode::Disable,
            direct: false,
            settings: Vec::new(),
            files: Default::default(),
            config: None,
        }
    }

    /// Whether two were made by the same settings, whatever their files hold.
    #[must_use]
    pub fn same_settings(&self, other: &Connector) -> bool {
        self.settings == other.settings
    }

    /// Reads the files; answers `running` if nothing has changed.
    pub(super) fn load(config: &Config, running: Option<&Arc<Connector>>) -> Result<Arc<Connector>, TlsError> {
        let general = &config.general;
        let ours = General::ROWS.iter().filter(|row| row.name.starts_with("server_tls"));
        let settings: Vec<String> = ours.map(|row| (row.show)(general)).collect();
        let mode = general.server_tls_sslmode;
        if mode == SslMode::Disable {
            return Ok(Arc::new(Connector { settings, ..Connector::none() }));
        }
        let read = |setting, path| Loaded::read(config, setting, path);
        let key = read("server_tls_key_file", general.server_tls_key_file.as_ref())?;
        let certificate = read("server_tls_cert_file", general.server_tls_cert_file.as_ref())?;
        let (mut ca, mut crl) = (None, None);
        if mode >= SslMode::VerifyCa {
            let named = read("server_tls_ca_file", general.server_tls_ca_file.as_ref())?;
            ca = Some(named.map_or_else(|| Loaded::of_system("server_tls_ca_file"), Ok)?);
            crl = read("server_tls_crl_file", general.server_tls_crl_file.as_ref())?;
        }
        let files = [key.as_ref(), certificate.as_ref(), ca.as_ref(), crl.as_ref()].map(Loaded::fingerprint);
        if let Some(running) = running.filter(|running| running.settings == settings && running.files == files) {
            return Ok(Arc::clone(running));
        }
        let provider = provider(&general.server_tls_ciphers, &general.server_tls13_ciphers, None);
        let verifier: Arc<dyn ServerCertVerifier> = match &ca {
            None => Arc::new(Anybody::new(&provider)),
            Some(ca) => Arc::new(OfOurCa::new(ca, crl.as_ref(), mode == SslMode::VerifyFull, &provider)?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(general.server_tls_protocols))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (key, certificate) {
            (Some(key), Some(certificate)) => {
                let own = certified(&key, &certificate, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        let direct = general.server_tls_sslnegotiation == SslNegotiation::Direct;
        Ok(Arc::new(Connector { mode, direct, settings, files, config: Some(Arc::new(config)) }))
    }

    /// Whether what was agreed upon will do.
    pub(in crate::net) fn check(&self, records: &Records) -> Result<(), HandshakeError> {
        let named = records.session().is_some_and(|session| session.named_protocol);
        if self.direct && !named { Err(HandshakeError::NoProtocol) } else { Ok(()) }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("mode", &self.mode).field("direct", &self.direct).finish_non_exhaustive()
    }
}
