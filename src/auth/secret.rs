//! Secrets as they are stored: a plain password, an md5 hash, or a SCRAM-SHA-256 verifier.
//!
//! It parses and prints them and derives a verifier from a password. It does not remember what was derived
//! (`credential.rs` does) and speaks no protocol. Invariant: no `Debug` here shows a secret, and text is classified
//! as PostgreSQL's `get_password_type` does, so that one secret never means two things on the two sides.

use std::borrow::Cow;
use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::crypto::{Key, SaltedPassword, decode_base64, decode_key, encode_base64, hmac, md5_hex, sha256};

const SCRAM_PREFIX: &str = "SCRAM-SHA-256";
const MD5_PREFIX: &[u8] = b"md5";

/// A plain password, as bytes: a client's is in whatever encoding the client uses.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Takes the bytes as they are, without a terminator.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes. The caller keeps them out of logs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// One user's secret, as `pg_authid.rolpassword`, a userlist or the settings file hold it.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredSecret {
    /// The password itself. An empty one admits nobody, as in PostgreSQL.
    Plain(Password),
    /// 32 lower-case hexadecimal digits of `md5(password || user)`, without the prefix `md5`.
    Md5(Zeroizing<[u8; 32]>),
    /// What a SCRAM-SHA-256 server keeps.
    Scram(ScramVerifier),
}

impl StoredSecret {
    /// Classifies a stored secret. It never fails: what is neither an md5 hash nor a well-formed verifier is a plain
    /// password, even if it starts like one. Hexadecimal digits of an md5 hash are lower case, as PostgreSQL's.
    pub fn parse(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        if let Some(hash) = parse_md5(text) {
            return Self::Md5(Zeroizing::new(hash));
        }
        match std::str::from_utf8(text).ok().and_then(ScramVerifier::parse) {
            Some(verifier) => Self::Scram(verifier),
            None => Self::Plain(Password::new(text)),
        }
    }
}

impl StoredSecret {
    /// An empty password is no secret: it admits nobody and answers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(password) if password.as_bytes().is_empty())
    }
}

impl fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Md5(_) => "Md5(..)",
            Self::Scram(_) => "Scram(..)",
        })
    }
}

fn parse_md5(text: &[u8]) -> Option<[u8; 32]> {
    let hash: [u8; 32] = text.strip_prefix(MD5_PREFIX)?.try_into().ok()?;
    hash.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')).then_some(hash)
}

/// The server's half of a SCRAM-SHA-256 secret (RFC 5802 section 3): enough to check a client and to prove oneself
/// to it, not enough to log in elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// Rounds of the key derivation, at least 1.
    pub iterations: u32,
    /// The salt, decoded.
    pub salt: Box<[u8]>,
    /// `H(ClientKey)`.
    pub stored_key: [u8; 32],
    /// `ServerKey`.
    pub server_key: [u8; 32],
}

impl ScramVerifier {
    /// Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; `None` for anything else, zero iterations
    /// included (PostgreSQL takes those for a verifier that nobody can satisfy).
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(SCRAM_PREFIX)?.strip_prefix('$')?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|&count| count > 0)?,
            salt: decode_base64(salt)?.into(),
            stored_key: decode_key(stored_key)?,
            server_key: decode_key(server_key)?,
        })
    }

    /// Derives the verifier of a password, which costs all `iterations` (0 counts as 1).
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.max(1);
        Self::of_keys(&ScramKeys::derive(password, salt, iterations), salt, iterations)
    }

    /// What a server keeps of these keys.
    pub(super) fn of_keys(keys: &ScramKeys, salt: &[u8], iterations: u32) -> Self {
        Self { iterations, salt: salt.into(), stored_key: sha256(&keys.client_key), server_key: keys.server_key }
    }
}

/// ServerKey lets its owner pose as the server, and StoredKey is as good for guessing as a hash.
impl Drop for ScramVerifier {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl ZeroizeOnDrop for ScramVerifier {}

impl fmt::Display for ScramVerifier {
    /// The text that PostgreSQL stores, and that `parse` reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCRAM_PREFIX}${}:{}${}:{}",
            self.iterations,
            encode_base64(&self.salt),
            encode_base64(&self.stored_key),
            encode_base64(&self.server_key),
        )
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The client's half: both keys of one password, salt and iteration count. No `Debug`: these log in.
#[derive(Clone)]
pub(super) struct ScramKeys {
    pub(super) client_key: Key,
    pub(super) server_key: Key,
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl ZeroizeOnDrop for ScramKeys {}

impl ScramKeys {
    pub(super) fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        Self::of(&SaltedPassword::begin(&prepared(password), salt, iterations).finish())
    }

    fn of(salted: &Key) -> Self {
        Self { client_key: hmac(salted, b"Client Key"), server_key: hmac(salted, b"Server Key") }
    }
}

/// More rounds than this take so long that whoever has other things to do does them meanwhile: see [`Derivation`].
pub(super) const MANY_ROUNDS: u32 = 20_000;

/// Both keys of one password, with what they were derived for.
pub(super) struct Derived {
    pub(super) salt: Box<[u8]>,
    pub(super) iterations: u32,
    pub(super) keys: ScramKeys,
}

impl Derived {
    pub(super) fn is_for(&self, salt: &[u8], iterations: u32) -> bool {
        self.iterations == iterations && *self.salt == *salt
    }
}

/// A derivation of many rounds, of which some are computed at a time.
pub struct Derivation {
    salted: SaltedPassword,
    salt: Box<[u8]>,
    iterations: u32,
}

impl Derivation {
    pub(super) fn begin(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = SaltedPassword::begin(&prepared(password), salt, iterations);
        Self { salted, salt: salt.into(), iterations }
    }

    /// Computes at most so many rounds. Whether that was the last of them.
    pub fn advance(&mut self, rounds: u32) -> bool {
        self.salted.advance(rounds)
    }

    pub(super) fn finish(self) -> Derived {
        Derived { salt: self.salt, iterations: self.iterations, keys: ScramKeys::of(&self.salted.finish()) }
    }
}

/// SASLprep (RFC 4013) with PostgreSQL's way out: ASCII is taken as it is, and so is whatever is not UTF-8, holds a
/// prohibited character, or comes out empty. The two sides must agree on this to the byte.
fn prepared(password: &[u8]) -> Cow<'_, [u8]> {
    let raw = Cow::Borrowed(password);
    if password.is_ascii() {
        return raw;
    }
    let Ok(text) = std::str::from_utf8(password) else { return raw };
    match stringprep::saslprep(text) {
        Ok(text) if !text.is_empty() => Cow::Owned(text.into_owned().into_bytes()),
        _ => raw,
    }
}

/// The stored form of an md5 secret: `md5(password || user)` in hexadecimal, without the prefix.
pub(super) fn md5_hash(password: &[u8], user: &str) -> [u8; 32] {
    md5_hex(password, user.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both made by PostgreSQL 15: CREATE ROLE .. PASSWORD 'correct horse', and E'I\u00adX\u00a0\u2168' (a soft
    // hyphen, a no-break space and a Roman numeral, so that each mapping of SASLprep takes part).
    const ASCII: &str = "SCRAM-SHA-256$4096:JCGEfZk/y28o0v1U2U7mjQ==$Wq8nLEhxjIdFuuC4b6xSx0m/gYi+QMGGx23wefC8MAs=:Q+QmnHFDu7D96AEYtxde/80AMckeiWAYwcurJKWDASM=";
    const UNICODE: &str = "SCRAM-SHA-256$4096:ryt6ZLctjuMHcTKCNG1ccQ==$5/J30lgVQkyz/wchFyshqnpMkHxv42X6EmpZSoilStk=:kajQpMzbs8tTgeV01pYEPBVK5X3TeQQpS9Fvt6P+lD4=";

    #[test]
    fn verifiers_agree_with_postgresql() {
        for (text, password) in [(ASCII, "correct horse"), (UNICODE, "I\u{ad}X\u{a0}\u{2168}"), (UNICODE, "IX IX")] {
            let StoredSecret::Scram(stored) = StoredSecret::parse(text) else { panic!("{text} is a verifier") };
            let derived = ScramVerifier::from_password(password.as_bytes(), &stored.salt, stored.iterations);
            assert_eq!(derived, stored);
            assert_eq!(derived.to_string(), text);
        }
    }

    #[test]
    fn text_is_classified_as_postgresql_does() {
        let plain = [
            "",
            "secret",
            "md5",
            "md5abc",
            "md5ABCDEF0123456789ABCDEF0123456789",
            "md5abcdef0123456789abcdef01234567890",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$bad",
            "SCRAM-SHA-256$4096:JCGEfZk/y28o0v1U2U7mjQ==$AAAA:AAAA",
        ];
        for text in plain {
            assert_eq!(StoredSecret::parse(text), StoredSecret::Plain(Password::new(text.as_bytes())), "{text}");
        }
        for broken in [
            ASCII.replace("4096", "0"),
            ASCII.replace("4096", "-1"),
            ASCII.replace("4096", "x"),
            ASCII.replace("==$", "$"),
            ASCII.replace("ASM=", "AS*="),
            format!("{ASCII}x"),
            ASCII.to_lowercase(),
        ] {
            assert!(matches!(StoredSecret::parse(&broken), StoredSecret::Plain(_)), "{broken}");
        }
        let hash = "md5abcdef0123456789abcdef0123456789";
        assert_eq!(StoredSecret::parse(hash), StoredSecret::Md5(Zeroizing::new(*b"abcdef0123456789abcdef0123456789")));
        assert!(matches!(StoredSecret::parse(b"\xff\xfe"), StoredSecret::Plain(_)));
    }

    #[test]
    fn saslprep_falls_back_to_the_bytes() {
        for raw in ["\u{ad}".as_bytes(), "a\u{7}ä".as_bytes(), b"\xff\xfe", b"tab\t", "ا1".as_bytes()] {
            assert_eq!(prepared(raw), Cow::Borrowed(raw));
        }
        assert_eq!(prepared("\u{aa}".as_bytes()), Cow::Borrowed(b"a".as_slice()));
    }

    #[test]
    fn debug_shows_no_secret() {
        for text in ["hunter2", "md5abcdef0123456789abcdef0123456789", ASCII] {
            let shown = format!("{:?}", StoredSecret::parse(text));
            assert!(shown.ends_with("(..)"), "{shown}");
        }
        let verifier = ScramVerifier::from_password(b"hunter2", b"salt", 2);
        assert_eq!(format!("{verifier:?}"), "ScramVerifier { iterations: 2, .. }");
        assert_eq!(format!("{:?}", Password::new(b"hunter2".as_slice())), "Password(..)");
    }
}
