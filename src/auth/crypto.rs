//! The primitives that both roles share: HMAC, SHA-256, the salted password of SCRAM, md5 answers, random bytes.
//!
//! It knows no message and no user, and keeps nothing. Invariant: no function here can fail for the bytes it is
//! given; only the operating system's random source can.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// The block size of SHA-256, to which HMAC pads its key.
const BLOCK: usize = 64;

/// Bytes of a SHA-256 digest, thus of each SCRAM-SHA-256 key and proof.
pub(super) const KEY_LEN: usize = 32;

/// Bytes of randomness in a nonce, as PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
const RAW_NONCE_LEN: usize = 18;

/// A SHA-256 digest or HMAC.
pub(super) type Key = [u8; KEY_LEN];

/// The operating system gave no random bytes. Nothing can be authenticated safely then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

pub(super) fn random<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

/// A fresh nonce: 24 characters of base64, none of which is a comma.
pub(super) fn nonce() -> Result<String, NoEntropy> {
    Ok(encode_base64(&random::<RAW_NONCE_LEN>()?))
}

pub(super) fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Strict base64 with padding; `None` if it is anything else.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Base64 of exactly one key.
pub(super) fn decode_key(text: &str) -> Option<Key> {
    decode_base64(text)?.try_into().ok()
}

pub(super) fn sha256(data: &[u8]) -> Key {
    Sha256::digest(data).into()
}

/// An HMAC that has taken its key in.
///
/// The key is padded by hand because the crate's constructor for keys of any length returns a `Result` that never
/// fails, and there is no way to use it without a panic or a made-up error.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let hashed;
    let short = if key.len() > BLOCK {
        hashed = sha256(key);
        hashed.as_slice()
    } else {
        key
    };
    let mut block = [0; BLOCK];
    for (to, from) in block.iter_mut().zip(short) {
        *to = *from;
    }
    <Hmac<Sha256> as KeyInit>::new(&block.into())
}

pub(super) fn hmac(key: &[u8], data: &[u8]) -> Key {
    keyed(key).chain_update(data).finalize().into_bytes().into()
}

/// `Hi(password, salt, iterations)` of RFC 5802 section 2.2, which is PBKDF2 with one block of output, under way.
///
/// This is the expensive step: two SHA-256 blocks per iteration. Zero iterations count as one.
pub(super) struct SaltedPassword {
    keyed: Hmac<Sha256>,
    round: Key,
    sum: Key,
    left: u32,
}

impl SaltedPassword {
    /// The first iteration.
    pub(super) fn begin(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let keyed = keyed(password);
        let round: Key =
            keyed.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes().into();
        Self { keyed, round, sum: round, left: iterations.saturating_sub(1) }
    }

    /// At most so many more; whether none is left.
    pub(super) fn advance(&mut self, most: u32) -> bool {
        let rounds = self.left.min(most);
        for _ in 0..rounds {
            self.round = self.keyed.clone().chain_update(self.round).finalize().into_bytes().into();
            self.sum = xor(&self.sum, &self.round);
        }
        self.left -= rounds;
        self.left == 0
    }

    /// All that are left.
    pub(super) fn finish(mut self) -> Zeroizing<Key> {
        self.advance(u32::MAX);
        Zeroizing::new(self.sum)
    }
}

impl Drop for SaltedPassword {
    fn drop(&mut self) {
        self.round.zeroize();
        self.sum.zeroize();
    }
}

pub(super) fn xor(left: &Key, right: &Key) -> Key {
    let mut out = *left;
    for (to, from) in out.iter_mut().zip(right) {
        *to ^= from;
    }
    out
}

/// Compares two secrets of any length in a time that tells neither their content nor their length.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    sha256(left).ct_eq(&sha256(right)).into()
}

/// 32 lower-case hexadecimal digits of `md5(first || second)`.
pub(super) fn md5_hex(first: &[u8], second: &[u8]) -> [u8; 32] {
    let digest = Md5::new().chain_update(first).chain_update(second).finalize();
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        }
    }
    hex
}

/// What a client answers to an md5 request: `md5` and the digest of the stored hash with the salt.
/// PostgreSQL manual, "Message Flow", AuthenticationMD5Password.
pub(super) fn md5_answer(hash_hex: &[u8; 32], salt: [u8; 4]) -> Vec<u8> {
    let mut answer = b"md5".to_vec();
    answer.extend_from_slice(&md5_hex(hash_hex, &salt));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231_on_short_and_long_keys() {
        let short = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(encode_base64(&short), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        let long = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(long[..4], [0x60, 0xe4, 0x31, 0x59]);
    }

    #[test]
    fn md5_is_hexadecimal() {
        // `echo -n secretm | md5sum`, and what PostgreSQL 15 stored for role m with password secret.
        assert_eq!(&md5_hex(b"secret", b"m"), b"b52328d7451bfeace80c4b8c338106f9");
    }

    #[test]
    fn same_compares_any_lengths() {
        assert!(same(b"", b""));
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"abcd"));
    }

    #[test]
    fn nonces_are_fresh_and_of_one_length() {
        let (one, two) = (nonce().unwrap(), nonce().unwrap());
        assert_eq!((one.len(), two.len()), (24, 24));
        assert_ne!(one, two);
    }
}
