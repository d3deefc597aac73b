//! What TLS has agreed upon for one connection, as others want to know it.

use std::sync::Arc;

use rustls::{CipherSuite, HandshakeKind};

/// What TLS has agreed upon.
#[derive(Clone, Debug)]
pub struct Session {
    /// Version and cipher suite by OpenSSL's names, as PgBouncer's console shows them.
    pub description: &'static str,
    /// An earlier session went on, by a ticket.
    pub resumed: bool,
    /// The protocol that both have named (ALPN).
    pub named_protocol: bool,
    /// The certificate by which the server has proved itself (DER): ours towards a client, PostgreSQL's otherwise.
    pub server_certificate: Option<Arc<[u8]>>,
    /// The client's certificate (DER), which was verified; only where clients have to have one.
    pub client_certificate: Option<Box<[u8]>>,
}

/// OpenSSL's name of a cipher suite, for those that there are.
pub(super) fn suite_name(suite: CipherSuite) -> Option<&'static str> {
    described(suite)?.split_once('/').map(|(_, name)| name)
}

/// The version that a cipher suite belongs to, and its name.
pub(super) fn described(suite: CipherSuite) -> Option<&'static str> {
    Some(match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLSv1.3/TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLSv1.3/TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "TLSv1.2/ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "TLSv1.2/ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "TLSv1.2/ECDHE-RSA-CHACHA20-POLY1305",
        _ => return None,
    })
}

/// Whether an earlier session goes on.
pub(super) fn is_resumed(kind: Option<HandshakeKind>) -> bool {
    kind == Some(HandshakeKind::Resumed)
}
