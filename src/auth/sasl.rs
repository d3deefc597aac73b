//! The framing that both roles read: bodies of authentication messages, and the attributes of SCRAM messages.
//!
//! It splits and bounds; what an attribute means is up to the roles. Invariant: nothing is taken from a body before
//! its length was checked, and no input panics.

use super::crypto::{Key, decode_key};

/// The mechanism that is offered and accepted (RFC 7677).
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The same bound to a TLS connection.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The longest SASL message taken from a peer, in bytes, as PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
const MAX_SASL_MESSAGE: usize = 1024;

/// The longest nonce taken from a peer, in bytes. Usual ones have 24.
const MAX_NONCE: usize = 256;

/// What is wrong with a message of an authentication exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A password, or another string, without its terminating zero byte, or with bytes behind it.
    #[error("string is not terminated where the message ends")]
    Terminator,
    /// The body ends before its fields do.
    #[error("message is too short")]
    Short,
    /// A length field disagrees with the length of the message.
    #[error("length field does not match the message")]
    Length,
    /// More than 1024 bytes of SASL data.
    #[error("SASL message is too long")]
    Long,
    /// Nothing where SASL data is required.
    #[error("SASL message is empty")]
    Empty,
    /// Not UTF-8, or a zero byte inside.
    #[error("SASL message is not text")]
    Text,
    /// The GS2 header is not one of RFC 5801.
    #[error("bad GS2 header")]
    Gs2Header,
    /// Another attribute was expected, or one without a name or value.
    #[error("attribute \"{0}\" is missing or out of place")]
    Attribute(char),
    /// An attribute that is not `letter=value`.
    #[error("bad attribute")]
    BadAttribute,
    /// Empty, too long, or not printable ASCII.
    #[error("bad nonce")]
    Nonce,
    /// The peer's nonce is not the one of this exchange.
    #[error("nonce does not match")]
    NonceMismatch,
    /// Not base64.
    #[error("bad base64")]
    Base64,
    /// A proof or signature that is not base64 of 32 bytes.
    #[error("bad proof or signature")]
    Proof,
    /// An iteration count that is not a number.
    #[error("bad iteration count")]
    Iterations,
    /// Data behind the last attribute.
    #[error("data behind the end of the message")]
    Trailing,
    /// A message after the exchange has ended.
    #[error("message after the end of the exchange")]
    Unexpected,
}

/// The string that fills a whole body up to its terminator.
pub(super) fn whole_cstring(body: &[u8]) -> Result<&[u8], Malformed> {
    match body.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Malformed::Terminator),
    }
}

/// A string up to its terminator, and what follows.
pub(super) fn cstring(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = body.iter().position(|&byte| byte == 0).ok_or(Malformed::Terminator)?;
    let (text, rest) = body.split_at_checked(end).ok_or(Malformed::Terminator)?;
    let (_zero, rest) = rest.split_first().ok_or(Malformed::Terminator)?;
    Ok((text, rest))
}

/// The body of a SASLInitialResponse: mechanism, and the client's first message unless its length is given as -1.
pub(super) fn initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let (mechanism, rest) = cstring(body)?;
    let (length, data) = rest.split_first_chunk::<4>().ok_or(Malformed::Short)?;
    match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => Ok((mechanism, None)),
        length if usize::try_from(length) == Ok(data.len()) => Ok((mechanism, Some(data))),
        _ => Err(Malformed::Length),
    }
}

/// Writes a SASLInitialResponse. `None` if the data is longer than its length field can say.
pub(super) fn write_initial_response(mechanism: &str, data: &str) -> Option<Vec<u8>> {
    let length = i32::try_from(data.len()).ok()?;
    let mut body = Vec::with_capacity(mechanism.len() + 5 + data.len());
    body.extend_from_slice(mechanism.as_bytes());
    body.push(0);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(data.as_bytes());
    Some(body)
}

/// Which mechanisms a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// SCRAM-SHA-256.
    pub(super) scram: bool,
    /// SCRAM-SHA-256-PLUS.
    pub(super) plus: bool,
}

/// What the body of an AuthenticationSASL, a list of strings that an empty one ends, offers.
pub(super) fn offered(mut body: &[u8]) -> Result<Offer, Malformed> {
    let mut found = Offer::default();
    loop {
        let (name, rest) = cstring(body)?;
        if name.is_empty() {
            return if rest.is_empty() { Ok(found) } else { Err(Malformed::Trailing) };
        }
        found.scram |= name == SCRAM_SHA_256.as_bytes();
        found.plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        body = rest;
    }
}

/// A SCRAM message as text.
pub(super) fn text(message: &[u8]) -> Result<&str, Malformed> {
    if message.is_empty() {
        return Err(Malformed::Empty);
    }
    if message.len() > MAX_SASL_MESSAGE {
        return Err(Malformed::Long);
    }
    if message.contains(&0) {
        return Err(Malformed::Text);
    }
    std::str::from_utf8(message).map_err(|_| Malformed::Text)
}

/// Reads `letter=value` pairs parted by commas (RFC 5802 section 5.1).
pub(super) struct Attributes<'a> {
    /// `None` once the last attribute was read.
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, Malformed> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(Malformed::Attribute(name)),
        }
    }

    /// Whether the next attribute, if any, has this name. Nothing is read.
    pub(super) fn is_next(&self, name: char) -> bool {
        self.rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('='))
    }

    /// The next attribute; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, Malformed> {
        let Some(rest) = self.rest else { return Ok(None) };
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let (name, value) = attribute.split_once('=').ok_or(Malformed::BadAttribute)?;
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) if letter.is_ascii_alphabetic() => Ok(Some((letter, value))),
            _ => Err(Malformed::BadAttribute),
        }
    }

    /// Fails unless all attributes were read.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_none() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

/// A nonce: printable ASCII without a comma (which the attribute reader has taken out already), bounded.
pub(super) fn checked_nonce(nonce: &str) -> Result<&str, Malformed> {
    let printable = nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    if printable && !nonce.is_empty() && nonce.len() <= MAX_NONCE { Ok(nonce) } else { Err(Malformed::Nonce) }
}

/// A proof or a signature.
pub(super) fn key(text: &str) -> Result<Key, Malformed> {
    decode_key(text).ok_or(Malformed::Proof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_responses_are_bounded() {
        let table: [(&[u8], _); 9] = [
            (b"SCRAM-SHA-256\0\0\0\0\x02hi", Ok((b"SCRAM-SHA-256".as_slice(), Some(b"hi".as_slice())))),
            (b"X\0\xff\xff\xff\xff", Ok((b"X", None))),
            (b"X\0\0\0\0\0", Ok((b"X", Some(b"")))),
            (b"X\0\xff\xff\xff\xffhi", Err(Malformed::Length)),
            (b"X\0\xff\xff\xff\xfe", Err(Malformed::Length)),
            (b"X\0\0\0\0\x03hi", Err(Malformed::Length)),
            (b"X\0\0\0\0\x01hi", Err(Malformed::Length)),
            (b"X\0\0\0", Err(Malformed::Short)),
            (b"X", Err(Malformed::Terminator)),
        ];
        for (body, expected) in table {
            assert_eq!(initial_response(body), expected, "{body:?}");
        }
        let written = write_initial_response("X", "hi").unwrap();
        assert_eq!(written, b"X\0\0\0\0\x02hi");
    }

    #[test]
    fn mechanism_lists_are_bounded() {
        let table: [(&[u8], _); 7] = [
            (b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", Ok(Offer { scram: true, plus: true })),
            (b"SCRAM-SHA-256-PLUS\0\0", Ok(Offer { scram: false, plus: true })),
            (b"\0", Ok(Offer::default())),
            (b"", Err(Malformed::Terminator)),
            (b"SCRAM-SHA-256\0", Err(Malformed::Terminator)),
            (b"SCRAM-SHA-256", Err(Malformed::Terminator)),
            (b"SCRAM-SHA-256\0\0x", Err(Malformed::Trailing)),
        ];
        for (body, expected) in table {
            assert_eq!(offered(body), expected, "{body:?}");
        }
    }

    #[test]
    fn passwords_fill_their_message() {
        assert_eq!(whole_cstring(b"secret\0"), Ok(b"secret".as_slice()));
        assert_eq!(whole_cstring(b"\0"), Ok(b"".as_slice()));
        for body in [b"".as_slice(), b"secret", b"se\0cret\0", b"secret\0\0"] {
            assert_eq!(whole_cstring(body), Err(Malformed::Terminator), "{body:?}");
        }
    }
}
