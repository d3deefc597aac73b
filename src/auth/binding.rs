//! Channel binding: what ties a SCRAM exchange to the TLS connection that it runs in (RFC 5929, `tls-server-end-point`).
//!
//! The data is a hash of the server's certificate, so an exchange that somebody relays through a TLS connection of his
//! own does not succeed. Nothing is negotiated here.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use crate::config::ChannelBinding;
use crate::net::tls::{Certificate, SignatureHash};

/// The header of a client that binds (RFC 5801 section 4), and its flag.
pub(super) const BOUND: &str = "p=tls-server-end-point,,";
pub(super) const BOUND_FLAG: &str = "p=tls-server-end-point";

/// What our logins to PostgreSQL may be bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// No TLS.
    Plain,
    /// TLS; `None` where the server's certificate has no hash that RFC 5929 defines.
    Tls(Option<Vec<u8>>),
}

/// A channel, and whether it is to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `server_channel_binding`.
    pub policy: ChannelBinding,
    /// What there is to bind to.
    pub channel: Channel,
}

impl Binding {
    /// None at all.
    pub(super) const NONE: Binding = Binding { policy: ChannelBinding::Disable, channel: Channel::Plain };
}

/// The binding data for a server certificate in DER; `None` for a signature without a hash of its own, as Ed25519.
#[must_use]
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match Certificate::parse(certificate)?.signature_hash()? {
        // MD5 and SHA-1 are too weak, which the standard has seen.
        SignatureHash::Weak | SignatureHash::Sha256 => Sha256::digest(certificate).to_vec(),
        SignatureHash::Sha224 => Sha224::digest(certificate).to_vec(),
        SignatureHash::Sha384 => Sha384::digest(certificate).to_vec(),
        SignatureHash::Sha512 => Sha512::digest(certificate).to_vec(),
    })
}
