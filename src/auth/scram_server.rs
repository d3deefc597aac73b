//! The server's role in SCRAM-SHA-256, towards our clients (RFC 5802, RFC 7677; PostgreSQL manual, "SASL
//! Authentication").
//!
//! It sees the messages of the mechanism only, not the protocol's bodies around them (`login.rs` does). Where a channel
//! can be bound, a client that could and was kept from it is refused. A proof reveals the ClientKey, which is handed out
//! with the last message: whoever has it can log in where the same verifier is stored.
//!
//! Invariant: a doomed exchange (unknown user, no usable secret) sends and checks all that a real one does, and is
//! refused at the place where a wrong proof is.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::binding::{BOUND, BOUND_FLAG};
use super::crypto::{Key, decode_base64, encode_base64, hmac, sha256, xor};
use super::refusal::Refusal;
use super::sasl::{Attributes, Malformed, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, checked_nonce, key, text};
use super::secret::ScramVerifier;

/// Waits for client-first-message.
pub(super) struct ExpectClientFirst {
    verifier: ScramVerifier,
    server_nonce: String,
    doomed: Option<Refusal>,
    /// What the exchange can be bound to.
    end_point: Option<Vec<u8>>,
    /// The client has chosen the mechanism that binds.
    binds: bool,
}

/// Waits for client-final-message.
pub(super) struct ExpectClientFinal {
    verifier: ScramVerifier,
    doomed: Option<Refusal>,
    /// The header of client-first-message, and the data that it binds to.
    binding: Vec<u8>,
    /// The client's part and ours.
    nonce: String,
    /// `client-first-message-bare "," server-first-message`, the beginning of AuthMessage.
    transcript: String,
}

impl ExpectClientFirst {
    /// `server_nonce` is printable ASCII without a comma. With `doomed`, no proof is right.
    pub(super) fn new(verifier: ScramVerifier, server_nonce: String, doomed: Option<Refusal>) -> Self {
        Self { verifier, server_nonce, doomed, end_point: None, binds: false }
    }

    /// The same where the exchange can be bound to this; `None`: it cannot.
    pub(super) fn bindable(self, end_point: Option<Vec<u8>>) -> Self {
        Self { end_point, ..self }
    }

    /// Takes the mechanism that the client has chosen.
    pub(super) fn choose(self, mechanism: &[u8]) -> Result<Self, Refusal> {
        match mechanism {
            name if name == SCRAM_SHA_256.as_bytes() => Ok(Self { binds: false, ..self }),
            name if name == SCRAM_SHA_256_PLUS.as_bytes() && self.end_point.is_some() => {
                Ok(Self { binds: true, ..self })
            }
            _ => Err(Refusal::UnsupportedMechanism),
        }
    }

    /// Takes client-first-message and returns server-first-message.
    pub(super) fn client_first(self, message: &[u8]) -> Result<(ExpectClientFinal, String), Refusal> {
        let (header, bare) = self.split_gs2_header(text(message)?)?;
        let mut attributes = Attributes::new(bare);
        if attributes.is_next('m') {
            return Err(Refusal::MandatoryExtension);
        }
        // The user is the one of the startup packet; PostgreSQL ignores this one too.
        let _user = attributes.expect('n')?;
        let client_nonce = checked_nonce(attributes.expect('r')?)?;
        skip_extensions(&mut attributes)?;

        let nonce = format!("{client_nonce}{}", self.server_nonce);
        let salt = encode_base64(&self.verifier.salt);
        let reply = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        let transcript = format!("{bare},{reply}");
        let mut binding = header.as_bytes().to_vec();
        if self.binds {
            binding.extend(self.end_point.unwrap_or_default());
        }
        let next = ExpectClientFinal { verifier: self.verifier, doomed: self.doomed, binding, nonce, transcript };
        Ok((next, reply))
    }
}

impl ExpectClientFinal {
    /// Takes client-final-message and returns server-final-message if the proof is right, and the ClientKey that it was
    /// made with.
    pub(super) fn client_final(self, message: &[u8]) -> Result<(String, Zeroizing<Key>), Refusal> {
        let message = text(message)?;
        let mut attributes = Attributes::new(message);
        let binding = decode_base64(attributes.expect('c')?).ok_or(Malformed::Base64)?;
        if binding != self.binding {
            return Err(Refusal::ChannelBinding);
        }
        if attributes.expect('r')? != self.nonce {
            return Err(Malformed::NonceMismatch.into());
        }
        let proof = loop {
            match attributes.next()?.ok_or(Malformed::Attribute('p'))? {
                ('p', value) => break value,
                ('m', _) => return Err(Refusal::MandatoryExtension),
                _ => {}
            }
        };
        attributes.end()?;
        // The proof is the last attribute and holds no comma, so the last comma is the one in front of it.
        let (without_proof, _) = message.rsplit_once(',').ok_or(Malformed::Attribute('p'))?;
        let proof = key(proof)?;

        let auth_message = format!("{},{without_proof}", self.transcript);
        let client_key = revealed(&self.verifier.stored_key, &auth_message, &proof);
        let right = sha256(&*client_key).ct_eq(&self.verifier.stored_key).into();
        match (right, self.doomed) {
            (true, None) => {
                let signature = hmac(&self.verifier.server_key, auth_message.as_bytes());
                Ok((format!("v={}", encode_base64(&signature)), client_key))
            }
            (_, Some(refusal)) => Err(refusal),
            (false, None) => Err(Refusal::WrongPassword),
        }
    }
}

/// The key that the proof was made with (RFC 5802 section 3): the ClientKey, if StoredKey is its hash.
fn revealed(stored_key: &Key, auth_message: &str, proof: &Key) -> Zeroizing<Key> {
    Zeroizing::new(xor(proof, &hmac(stored_key, auth_message.as_bytes())))
}

impl ExpectClientFirst {
    /// Splits client-first-message into its GS2 header (RFC 5801 section 4), of which there are three without an
    /// authorization identity, and client-first-message-bare.
    fn split_gs2_header<'m>(&self, message: &'m str) -> Result<(&'static str, &'m str), Refusal> {
        let (flag, rest) = message.split_once(',').ok_or(Malformed::Gs2Header)?;
        let header = match flag {
            "n" if !self.binds => "n,,",
            // The client could bind the channel and believes that we cannot.
            "y" if !self.binds && self.end_point.is_none() => "y,,",
            "y" if !self.binds => return Err(Refusal::Downgraded),
            BOUND_FLAG if self.binds => BOUND,
            "n" | "y" => return Err(Refusal::ChannelBinding),
            _ if flag.starts_with("p=") => return Err(Refusal::ChannelBinding),
            _ => return Err(Malformed::Gs2Header.into()),
        };
        let (identity, bare) = rest.split_once(',').ok_or(Malformed::Gs2Header)?;
        match identity {
            "" => Ok((header, bare)),
            _ if identity.starts_with("a=") => Err(Refusal::AuthorizationIdentity),
            _ => Err(Malformed::Gs2Header.into()),
        }
    }
}

/// Optional extensions are to be ignored, mandatory ones are to be refused (RFC 5802 section 5.1).
fn skip_extensions(attributes: &mut Attributes<'_>) -> Result<(), Refusal> {
    while let Some((name, _)) = attributes.next()? {
        if name == 'm' {
            return Err(Refusal::MandatoryExtension);
        }
    }
    Ok(())
}
