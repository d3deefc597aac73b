//! TLS on both sides, by rustls: what the configuration says of it, the handshakes, and the records of a connection.
//!
//! The cryptography is aws-lc's, which is chosen here and nowhere else. The record layer is rustls's unbuffered one, so
//! that a connection on which nothing moves owns no buffers.

mod acceptor;
mod connector;
mod counts;
mod handshake;
mod load;
mod records;
mod session;
#[cfg(test)]
mod tests;
mod verify;
mod x509;

use std::sync::Arc;

use crate::config::{Config, SslMode};

pub use acceptor::Acceptor;
pub use connector::Connector;
pub use counts::Counts;
pub use handshake::{HandshakeError, Turnstile};
pub use load::TlsError;
pub(super) use records::Records;
pub use session::Session;
#[doc(hidden)]
pub use x509::fuzz;
pub use x509::{Certificate, SignatureHash};

/// The protocol's name in ALPN.
const ALPN: &[u8] = b"postgresql";

/// What TLS goes by, made from the configuration and the files that it names.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Towards clients; `None`: they are told that there is none.
    pub acceptor: Option<Arc<Acceptor>>,
    /// Towards PostgreSQL.
    pub connector: Arc<Connector>,
}

impl Tls {
    /// None towards either side.
    #[must_use]
    pub fn none() -> Tls {
        Tls { acceptor: None, connector: Arc::new(Connector::none()) }
    }

    /// Reads the files. What has not changed is taken over from `running`, so that tickets of clients stay valid.
    ///
    /// # Errors
    /// [`TlsError`], with the setting and the file.
    pub fn load(config: &Config, running: Option<&Tls>) -> Result<Tls, TlsError> {
        let acceptor = if config.general.client_tls_sslmode == SslMode::Disable {
            None
        } else {
            let old = running.and_then(|tls| tls.acceptor.as_ref());
            Some(Acceptor::load(config, old)?)
        };
        Ok(Tls { acceptor, connector: Connector::load(config, running.map(|tls| &tls.connector))? })
    }
}
