//! Settings that are one word out of a few: pool mode, authentication method, log format, policies.

use std::fmt;
use std::str::FromStr;

use crate::config::value::ValueError;

/// An enum whose values have fixed spellings.
pub(super) trait Choice: Copy + FromStr<Err = ValueError> + fmt::Display {
    /// "expected …" for an error about a value that is no string.
    const EXPECTED: &'static str;
}

macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident($what:literal) { $( $(#[$vmeta:meta])* $variant:ident = $text:literal, )* }
        known to PgBouncer only: [$($foreign:literal),*]
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$vmeta])* $variant, )* }

        impl $name {
            /// Every spelling, in the order of the documentation.
            pub const NAMES: &'static [&'static str] = &[$($text),*];
            /// Every value, in the same order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The spelling of the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                // PgBouncer compares without regard to case.
                match text.trim().to_ascii_lowercase().as_str() {
                    $( $text => Ok(Self::$variant), )*
                    $( $foreign => Err(ValueError::Unsupported($foreign)), )*
                    _ => Err(ValueError::Choice { found: text.to_owned(), choices: Self::NAMES }),
                }
            }
        }

        impl Choice for $name {
            const EXPECTED: &'static str = $what;
        }
    };
}

choice! {
    /// When a backend goes back to its pool.
    pub enum PoolMode("a pool mode") {
        /// When the client leaves.
        Session = "session",
        /// When the transaction is over.
        Transaction = "transaction",
        /// After each statement; transactions of several statements are refused.
        Statement = "statement",
    }
    known to PgBouncer only: []
}

choice! {
    /// Which of several hosts a new connection goes to.
    pub enum LoadBalance("a way to choose a host") {
        /// Each connection to the next one.
        RoundRobin = "round-robin",
        /// To the same one, until a connection to it fails.
        Disable = "disable",
    }
    known to PgBouncer only: []
}

choice! {
    /// What a server has to be, as libpq's `target_session_attrs`.
    pub enum SessionAttrs("a kind of server") {
        /// Whatever it is.
        Any = "any",
        /// Takes writes: no standby, and transactions are not read-only by default.
        ReadWrite = "read-write",
        /// Takes no writes.
        ReadOnly = "read-only",
        /// No standby.
        Primary = "primary",
        /// A standby.
        Standby = "standby",
        /// A standby, or whatever there is if no host is one.
        PreferStandby = "prefer-standby",
    }
    known to PgBouncer only: []
}

choice! {
    /// How clients prove who they are.
    pub enum AuthType("an authentication method") {
        /// No proof, and the name means nothing: the database has to force a user.
        Any = "any",
        /// No proof; the user still has to be known.
        Trust = "trust",
        /// The password in clear.
        Plain = "plain",
        /// MD5, or SCRAM where the stored secret is a SCRAM verifier.
        Md5 = "md5",
        /// SCRAM-SHA-256.
        ScramSha256 = "scram-sha-256",
        /// The certificate of the client's TLS connection has the user's name.
        Cert = "cert",
        /// What the rules of `auth_hba_file` say.
        Hba = "hba",
        /// The password in clear, which the directory of `auth_ldap_options` checks.
        Ldap = "ldap",
        /// The password in clear, which the system's PAM checks.
        Pam = "pam",
    }
    known to PgBouncer only: []
}

choice! {
    /// How far TLS is asked for, as libpq's `sslmode`.
    #[derive(PartialOrd, Ord)]
    pub enum SslMode("an sslmode") {
        /// Never.
        Disable = "disable",
        /// Where the other side asks for it; towards PostgreSQL the same as prefer.
        Allow = "allow",
        /// Where the other side can.
        Prefer = "prefer",
        /// Always, whoever the other side is.
        Require = "require",
        /// Always, and the other side's certificate is one of the CA's.
        VerifyCa = "verify-ca",
        /// The same, and towards PostgreSQL the certificate has the host's name.
        VerifyFull = "verify-full",
    }
    known to PgBouncer only: []
}

choice! {
    /// How TLS with PostgreSQL begins.
    pub enum SslNegotiation("an sslnegotiation") {
        /// PostgreSQL is asked first.
        Postgres = "postgres",
        /// With the first byte, which PostgreSQL knows since version 17.
        Direct = "direct",
    }
    known to PgBouncer only: []
}

choice! {
    /// Whether SCRAM towards PostgreSQL is bound to the TLS connection.
    pub enum ChannelBinding("a channel binding") {
        /// Never.
        Disable = "disable",
        /// Where PostgreSQL offers it.
        Prefer = "prefer",
        /// Always; another login is given up.
        Require = "require",
    }
    known to PgBouncer only: []
}

choice! {
    /// Parameters for the key exchange of Diffie and Hellman without curves, which rustls does not have.
    pub enum DheParams("Diffie-Hellman parameters") {
        /// The same as none.
        Auto = "auto",
        /// No such key exchange.
        None = "none",
        /// The same, though it asks for weak ones.
        Legacy = "legacy",
    }
    known to PgBouncer only: []
}

choice! {
    /// What happens to listening clients when the connection that listens for them was lost.
    pub enum ListenerLost("an answer to a lost listener") {
        /// They are told by a warning that notifications may be missing.
        Continue = "continue",
        /// They are disconnected.
        Disconnect = "disconnect",
    }
    known to PgBouncer only: []
}

choice! {
    /// The shape of a log line.
    pub enum LogFormat("a log format") {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
        /// PgBouncer's lines, with its words where it has some.
        PgBouncer = "pgbouncer",
    }
    known to PgBouncer only: []
}

choice! {
    /// A facility of syslog.
    pub enum Facility("a facility of syslog") {
        /// Logins.
        Auth = "auth",
        /// Logins, for few eyes.
        AuthPriv = "authpriv",
        /// Programs in the background.
        Daemon = "daemon",
        /// Programs of users.
        User = "user",
        /// For whatever an operator likes, as those below.
        Local0 = "local0",
        /// As above.
        Local1 = "local1",
        /// As above.
        Local2 = "local2",
        /// As above.
        Local3 = "local3",
        /// As above.
        Local4 = "local4",
        /// As above.
        Local5 = "local5",
        /// As above.
        Local6 = "local6",
        /// As above.
        Local7 = "local7",
    }
    known to PgBouncer only: []
}

choice! {
    /// What is done about a client that leaves something on its backend beyond its transaction.
    #[derive(Default)]
    pub enum Policy("a policy") {
        /// The client keeps the backend for as long as that is there.
        #[default]
        Pin = "pin",
        /// The client is warned, and what it leaves stays behind.
        Warn = "warn",
        /// The statement is refused.
        Reject = "reject",
        /// What the client leaves stays behind.
        Allow = "allow",
    }
    known to PgBouncer only: []
}

choice! {
    /// What is done about unnamed prepared statements.
    pub enum PrepareUnnamed("auto or off") {
        /// Those whose text comes again are kept under a name on the backend.
        Auto = "auto",
        /// They are passed on as they come.
        Off = "off",
    }
    known to PgBouncer only: []
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_go_both_ways() {
        for name in PoolMode::NAMES {
            assert_eq!(name.parse::<PoolMode>().unwrap().to_string(), *name);
        }
        for name in AuthType::NAMES {
            assert_eq!(name.parse::<AuthType>().unwrap().to_string(), *name);
        }
        assert_eq!("Transaction".parse::<PoolMode>(), Ok(PoolMode::Transaction));
    }

    #[test]
    fn wrong_words_say_what_would_do() {
        for word in ["password", "scram", "sha256", ""] {
            let error = word.parse::<AuthType>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("`{word}` is none of any, trust, plain, md5, scram-sha-256, cert, hba, ldap, pam")
            );
        }
    }
}
