//! The client's role in SCRAM-SHA-256, towards PostgreSQL (RFC 5802, RFC 7677).
//!
//! It sees the messages of the mechanism only (`answer.rs` frames them), and leaves the derivation of the keys to its
//! caller, who remembers them, and the choice of what the exchange is bound to. Invariant: it ends well only if the server has proven to know the
//! secret as well.

use subtle::ConstantTimeEq;

use super::answer::AnswerError;
use super::binding::BOUND;
use super::crypto::{Key, decode_base64, encode_base64, hmac, sha256, xor};
use super::sasl::{Attributes, Malformed, checked_nonce, key, text};
use super::secret::ScramKeys;

/// What a client says about channel binding (RFC 5801 section 4, RFC 5802 section 6).
#[derive(Clone, Debug)]
pub(super) enum Flag {
    /// It does not bind.
    No,
    /// It would, but the server does not offer it.
    NotOffered,
    /// It binds to this.
    Bound(Vec<u8>),
}

impl Flag {
    fn header(&self) -> &'static str {
        match self {
            Flag::No => "n,,",
            Flag::NotOffered => "y,,",
            Flag::Bound(_) => BOUND,
        }
    }
}

/// The rounds that a server may ask for. PostgreSQL's default is 4096; each million costs about a second.
pub(super) const ITERATIONS: std::ops::RangeInclusive<u32> = 1..=1_000_000;
/// Longer numbers are none.
const MOST_DIGITS: usize = 38;

/// What server-first-message asks for.
pub(super) struct Asked<'m> {
    message: &'m str,
    nonce: &'m str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

/// Waits for server-first-message.
pub(super) struct ExpectServerFirst {
    client_nonce: String,
    client_first_bare: String,
    flag: Flag,
}

/// Waits for server-final-message.
pub(super) struct ExpectServerFinal {
    server_signature: Key,
}

impl ExpectServerFirst {
    /// Returns client-first-message with it. `user` is empty towards PostgreSQL, which knows the user from the startup
    /// packet. `client_nonce` is printable ASCII without a comma.
    pub(super) fn begin(user: &str, client_nonce: String, flag: Flag) -> (Self, String) {
        let client_first_bare = format!("n={user},r={client_nonce}");
        let message = format!("{}{client_first_bare}", flag.header());
        (Self { client_nonce, client_first_bare, flag }, message)
    }

    /// What server-first-message asks for, which was checked to be affordable.
    pub(super) fn asked<'m>(&self, message: &'m [u8]) -> Result<Asked<'m>, AnswerError> {
        let message = text(message)?;
        let mut attributes = Attributes::new(message);
        if attributes.is_next('m') {
            return Err(AnswerError::MandatoryExtension);
        }
        let nonce = checked_nonce(attributes.expect('r')?)?;
        let added = nonce.strip_prefix(&self.client_nonce).ok_or(AnswerError::NonceMismatch)?;
        if added.is_empty() {
            return Err(AnswerError::NonceMismatch);
        }
        let salt = decode_base64(attributes.expect('s')?).ok_or(Malformed::Base64)?;
        let rounds = attributes.expect('i')?;
        while let Some((name, _)) = attributes.next()? {
            if name == 'm' {
                return Err(AnswerError::MandatoryExtension);
            }
        }
        if rounds.is_empty() || rounds.len() > MOST_DIGITS || !rounds.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed::Iterations.into());
        }
        let affordable = |count: &u32| ITERATIONS.contains(count);
        let iterations = rounds.parse().ok().filter(affordable);
        let iterations =
            iterations.ok_or_else(|| AnswerError::IterationsOutOfRange(rounds.parse().unwrap_or(u128::MAX)))?;
        Ok(Asked { message, nonce, salt, iterations })
    }

    /// Takes server-first-message and returns client-final-message. `keys` gives the keys for a salt and an iteration
    /// count.
    pub(super) fn server_first(
        self,
        message: &[u8],
        keys: impl FnOnce(&[u8], u32) -> Result<ScramKeys, AnswerError>,
    ) -> Result<(ExpectServerFinal, String), AnswerError> {
        let Asked { message, nonce, salt, iterations } = self.asked(message)?;
        let keys = keys(&salt, iterations)?;
        let mut binding = self.flag.header().as_bytes().to_vec();
        if let Flag::Bound(data) = &self.flag {
            binding.extend_from_slice(data);
        }
        let without_proof = format!("c={},r={nonce}", encode_base64(&binding));
        let auth_message = format!("{},{message},{without_proof}", self.client_first_bare);
        let client_signature = hmac(&sha256(&keys.client_key), auth_message.as_bytes());
        let proof = encode_base64(&xor(&keys.client_key, &client_signature));
        let server_signature = hmac(&keys.server_key, auth_message.as_bytes());
        Ok((ExpectServerFinal { server_signature }, format!("{without_proof},p={proof}")))
    }
}

impl ExpectServerFinal {
    /// Takes server-final-message and checks that the server knows the secret.
    pub(super) fn server_final(self, message: &[u8]) -> Result<(), AnswerError> {
        let mut attributes = Attributes::new(text(message)?);
        if attributes.is_next('e') {
            return Err(AnswerError::ServerRefused);
        }
        let signature = key(attributes.expect('v')?)?;
        attributes.end()?;
        if signature.ct_eq(&self.server_signature).into() { Ok(()) } else { Err(AnswerError::BadServerSignature) }
    }
}
