//! The server's role in SCRAM-SHA-256, towards our clients (RFC 5802, RFC 7677; PostgreSQL manual, "SASL
//! Authentication").
//!
//! It sees the messages of the mechanism only, not the protocol's bodies around them (`login.rs` does). There is no
//! channel binding: its place is the GS2 header, which would be kept whole, as the final message is compared with it
//! already; and the check of `c=`, which would take the binding data as well. A proof reveals the ClientKey, which is
//! handed out with the last message: whoever has it can log in where the same verifier is stored.
//!
//! Invariant: a doomed exchange (unknown user, no usable secret) sends and checks all that a real one does, and is
//! refused at the place where a wrong proof is.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::crypto::{Key, decode_base64, encode_base64, hmac, sha256, xor};
use super::refusal::Refusal;
use super::sasl::{Attributes, Malformed, checked_nonce, key, text};
use super::secret::ScramVerifier;

/// Waits for client-first-message.
pub(super) struct ExpectClientFirst {
    verifier: ScramVerifier,
    server_nonce: String,
    doomed: Option<Refusal>,
}

/// Waits for client-final-message.
pub(super) struct ExpectClientFinal {
    verifier: ScramVerifier,
    doomed: Option<Refusal>,
    gs2_header: &'static str,
    /// The client's part and ours.
    nonce: String,
    /// `client-first-message-bare "," server-first-message`, the beginning of AuthMessage.
    transcript: String,
}

impl ExpectClientFirst {
    /// `server_nonce` is printable ASCII without a comma. With `doomed`, no proof is right.
    pub(super) fn new(verifier: ScramVerifier, server_nonce: String, doomed: Option<Refusal>) -> Self {
        Self { verifier, server_nonce, doomed }
    }

    /// Takes client-first-message and returns server-first-message.
    pub(super) fn client_first(self, message: &[u8]) -> Result<(ExpectClientFinal, String), Refusal> {
        let (gs2_header, bare) = split_gs2_header(text(message)?)?;
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
        let next = ExpectClientFinal { verifier: self.verifier, doomed: self.doomed, gs2_header, nonce, transcript };
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
        if binding != self.gs2_header.as_bytes() {
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

/// Splits client-first-message into its GS2 header (RFC 5801 section 4), of which there are two without an
/// authorization identity and channel binding, and client-first-message-bare.
fn split_gs2_header(message: &str) -> Result<(&'static str, &str), Refusal> {
    let (flag, rest) = message.split_once(',').ok_or(Malformed::Gs2Header)?;
    let header = match flag {
        "n" => "n,,",
        // The client could bind the channel and believes that we cannot, which is right.
        "y" => "y,,",
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

/// Optional extensions are to be ignored, mandatory ones are to be refused (RFC 5802 section 5.1).
fn skip_extensions(attributes: &mut Attributes<'_>) -> Result<(), Refusal> {
    while let Some((name, _)) = attributes.next()? {
        if name == 'm' {
            return Err(Refusal::MandatoryExtension);
        }
    }
    Ok(())
}
