//! TLS with PostgreSQL: asked for before anything else is said, or begun at once (`protocol-flow.html`, "SSL Session
//! Encryption").
//!
//! Invariant: nothing that PostgreSQL says in the clear, where TLS was asked for, is believed or passed on; somebody in
//! between could have said it.

use bytes::BufMut;

use super::ConnectError;
use crate::config::SslMode;
use crate::net::Stream;
use crate::net::tls::Connector;
use crate::wire::write;

/// The version number that asks for TLS.
const SSL_REQUEST: u32 = (1234 << 16) | 5679;

/// Begins TLS as the settings say; without it the stream stays as it is, if that will do.
pub(super) async fn encrypt(stream: &mut Stream, tls: &Connector, host: &str) -> Result<(), ConnectError> {
    if tls.mode == SslMode::Disable || stream.is_local() {
        return Ok(());
    }
    if !tls.direct {
        let mut out = Vec::with_capacity(8);
        write::with_length(&mut out, |out| out.put_u32(SSL_REQUEST));
        stream.write_all(&out).await?;
        // One byte and no more: what is behind it belongs to TLS, and is no TLS if somebody has put it there.
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        match answer {
            [b'S'] => {}
            [b'N'] if tls.mode < SslMode::Require => return Ok(()),
            [b'N'] => return Err(ConnectError::NoTls),
            // An error, most likely; its text may be anybody's.
            [_] => return Err(ConnectError::TlsAnswer),
        }
    }
    stream.connect_tls(tls, host).await.map_err(ConnectError::Tls)
}
