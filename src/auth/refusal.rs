//! Why a client was not admitted.
//!
//! What the client is told and what the log is told are different texts; this is where they are kept apart.
//! Invariant: nothing that a client is told lets it tell an unknown user from a wrong password or a missing secret.

use super::crypto::NoEntropy;
use super::sasl::Malformed;

/// Why a login ended without admission. `Display` is the reason for the log, in full; [`Refusal::message`] is what
/// the client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user is known and the password or proof is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// There is no such user.
    #[error("no such user")]
    UnknownUser,
    /// `trust` was asked for and there is no such user. There is no exchange to go through first.
    #[error("no such user, and \"trust\" admits known users only")]
    UnknownTrustedUser,
    /// The client sent an empty password, which PostgreSQL refuses whatever is stored.
    #[error("empty password returned by client")]
    EmptyPassword,
    /// The user is known, but its secret cannot serve the method: none or an empty one, an md5 hash for SCRAM, or a
    /// verifier whose rounds are too many to check a plain password with.
    #[error("stored secret of the user cannot be used with this authentication method")]
    NoUsableSecret,
    /// The client's message breaks the protocol.
    #[error("malformed authentication message: {0}")]
    Malformed(#[from] Malformed),
    /// Another mechanism than SCRAM-SHA-256, which is all that was offered.
    #[error("client selected another SASL mechanism than SCRAM-SHA-256")]
    UnsupportedMechanism,
    /// The client wants to bind the channel, or its binding data is not that of its first message.
    #[error("SCRAM channel binding is not supported or does not match")]
    ChannelBinding,
    /// The client could bind the channel and was told that we cannot, which we did not say.
    #[error("client believes that channel binding was not offered: somebody may have changed what it was sent")]
    Downgraded,
    /// The client wants to act for another user.
    #[error("client uses a SASL authorization identity, which is not supported")]
    AuthorizationIdentity,
    /// An extension that must not be ignored, and is not known.
    #[error("client requires an unsupported SCRAM extension")]
    MandatoryExtension,
    /// No random salt or nonce could be made.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

impl Refusal {
    /// The text for the client. For a wrong password, an unknown user and a missing secret it is the same; the caller
    /// may add `for user "..."`.
    pub fn message(&self) -> &'static str {
        match self {
            Self::WrongPassword | Self::UnknownUser | Self::NoUsableSecret => "password authentication failed",
            Self::UnknownTrustedUser => "\"trust\" authentication failed",
            Self::EmptyPassword => "empty password returned by client",
            Self::Malformed(Malformed::Terminator) => "invalid password packet",
            Self::Malformed(_)
            | Self::UnsupportedMechanism
            | Self::ChannelBinding
            | Self::Downgraded
            | Self::AuthorizationIdentity
            | Self::MandatoryExtension => "SASL authentication failed",
            Self::NoEntropy(_) => "internal error",
        }
    }

    /// Whether another secret than the stored one could have admitted the client.
    pub fn may_be_outdated(&self) -> bool {
        match self {
            Self::WrongPassword | Self::UnknownUser | Self::UnknownTrustedUser | Self::NoUsableSecret => true,
            Self::EmptyPassword
            | Self::Malformed(_)
            | Self::UnsupportedMechanism
            | Self::ChannelBinding
            | Self::Downgraded
            | Self::AuthorizationIdentity
            | Self::MandatoryExtension
            | Self::NoEntropy(_) => false,
        }
    }

    /// The SQLSTATE that goes with the message (PostgreSQL manual, appendix A).
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::WrongPassword | Self::UnknownUser | Self::NoUsableSecret | Self::EmptyPassword => "28P01",
            Self::UnknownTrustedUser => "28000",
            Self::Malformed(_)
            | Self::UnsupportedMechanism
            | Self::ChannelBinding
            | Self::Downgraded
            | Self::AuthorizationIdentity
            | Self::MandatoryExtension => "08P01",
            Self::NoEntropy(_) => "XX000",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_tell_why_its_password_was_refused() {
        for refusal in [Refusal::UnknownUser, Refusal::NoUsableSecret] {
            assert_eq!(refusal.message(), Refusal::WrongPassword.message());
            assert_eq!(refusal.sqlstate(), Refusal::WrongPassword.sqlstate());
            assert_ne!(refusal.to_string(), Refusal::WrongPassword.to_string());
        }
    }
}
