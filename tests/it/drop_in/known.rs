//! What differs between PgBouncer 1.18 and pgpool that run with one file, and why. docs/pgbouncer.md has the same.

/// What comes of an action.
pub(super) struct Known {
    pub(super) what: &'static str,
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
    pub(super) why: &'static str,
}

pub(super) const KNOWN: &[Known] = &[
    Known {
        what: "RELOAD of a file with a mistake",
        ours: "ERROR F0000: ",
        theirs: "",
        why: "PgBouncer says so since 1.25; up to then its log has it",
    },
    Known {
        what: "a name that PostgreSQL does not know",
        ours: "FATAL 3D000: database \"nosuch\" does not exist",
        theirs: "FATAL 08P01: database \"nosuch\" does not exist",
        why: "PostgreSQL's own SQLSTATE",
    },
    Known {
        what: "a rule that rejects",
        ours: "FATAL 28000: pg_hba.conf rejects connection for host \"127.0.0.1\", user \"alice\", database \"rejected\", no encryption",
        theirs: "FATAL 08P01: login rejected",
        why: "PostgreSQL's words and SQLSTATE",
    },
    Known {
        what: "a wrong password",
        ours: "FATAL 28P01: password authentication failed for user \"alice\"",
        theirs: "FATAL 08P01: password authentication failed",
        why: "PostgreSQL's words and SQLSTATE",
    },
    Known {
        what: "an unknown user",
        ours: "FATAL 28P01: password authentication failed for user \"nobody\"",
        theirs: "FATAL 08P01: password authentication failed",
        why: "the same as for a wrong password, so that nobody learns who exists",
    },
    Known {
        what: "another parameter",
        ours: "9s",
        theirs: "FATAL 08P01: unsupported startup parameter: lock_timeout",
        why: "PostgreSQL decides what a client may ask for",
    },
    Known {
        what: "somebody else on the console",
        ours: "FATAL 42501: not allowed",
        theirs: "FATAL 08P01: not allowed",
        why: "the SQLSTATE says what kind of error it is",
    },
    Known {
        what: "statement mode of a user",
        ours: "FATAL 0A000: transaction blocks not allowed in statement pooling mode",
        theirs: "FATAL 08P01: transaction blocks not allowed in statement pooling mode",
        why: "the SQLSTATE says what kind of error it is",
    },
];

/// Keys whose values, defaults or changeability differ, how, and why.
pub(super) const CONFIG: &[(&str, &str, &str)] = &[
    ("auth_file", "value=DIR/userlist.txt, PgBouncer value=userlist.txt", "a path means the same from everywhere"),
    ("auth_hba_file", "value=DIR/hba.conf, PgBouncer value=hba.conf", "the same"),
    (
        "client_tls_ciphers",
        "value=default, PgBouncer value=fast; default=default, PgBouncer default=fast",
        "newer versions say default",
    ),
    ("disable_pqexec", "changeable=yes, PgBouncer changeable=no", "a reload may change it"),
    ("server_check_query", "default=<empty>, PgBouncer default=select 1", "newer versions send an empty query"),
    (
        "server_tls_ciphers",
        "value=default, PgBouncer value=fast; default=default, PgBouncer default=fast",
        "newer versions say default",
    ),
    (
        "server_tls_sslmode",
        "value=prefer, PgBouncer value=disable; default=prefer, PgBouncer default=disable",
        "newer versions prefer TLS",
    ),
    ("unix_socket_mode", "value=0777, PgBouncer value=511", "a mode is shown in octal"),
    ("verbose", "default=0, PgBouncer default=", "what counts without it is shown"),
];
