//! Passwords and stored verifiers, kept out of logs.
//!
//! A `Secret` has no `Display` and its `Debug` says nothing about its content: whoever wants the text has to write
//! `expose()`, which is easy to search for.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A password or a stored verifier as the configuration gives it: plain text, `md5…` or `SCRAM-SHA-256$…`.
///
/// Cheap to clone, and wiped with its last clone. Equality is meant for comparing two configurations, not for checking a login: it is not constant
/// in time.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

/// What a stored secret is, told by its spelling as PostgreSQL and PgBouncer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// The password itself.
    Plain,
    /// `md5` and the 32 hexadecimal digits of md5(password, user name).
    Md5,
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; only the prefix has been looked at.
    ScramSha256,
}

/// Where a user's secret was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretSource {
    /// There is no secret: this user can only log in by `trust`.
    #[default]
    None,
    /// `password` in `[users.NAME]`.
    Config,
    /// `password_file` in `[users.NAME]`.
    PasswordFile,
    /// A line of the `auth_file`.
    AuthFile,
}

impl Secret {
    /// Keeps `text` as a secret.
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }

    /// The text of the secret. Must not end up in a log or in an answer to a client.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Plain, md5 or SCRAM, by the spelling of the secret.
    pub fn kind(&self) -> SecretKind {
        let md5 = |digits: &str| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if self.0.strip_prefix("md5").is_some_and(md5) {
            SecretKind::Md5
        } else if self.0.starts_with("SCRAM-SHA-256$") {
            SecretKind::ScramSha256
        } else {
            SecretKind::Plain
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_spelling() {
        let cases = [
            ("hunter2", SecretKind::Plain),
            ("", SecretKind::Plain),
            ("md5", SecretKind::Plain),
            ("md5notdigitsbutexactlythirtytwochars", SecretKind::Plain),
            ("md5d41d8cd98f00b204e9800998ecf8427e", SecretKind::Md5),
            ("md5D41D8CD98F00B204E9800998ECF8427E", SecretKind::Md5),
            ("SCRAM-SHA-256$4096:c2FsdA==$a:b", SecretKind::ScramSha256),
            ("scram-sha-256$4096:c2FsdA==$a:b", SecretKind::Plain),
        ];
        for (text, kind) in cases {
            assert_eq!(Secret::new(text).kind(), kind, "{text}");
        }
    }

    #[test]
    fn debug_says_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
