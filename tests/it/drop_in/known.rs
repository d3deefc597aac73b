//! What differs between PgBouncer and pgpool that run with one file, by PgBouncer's version, and why. docs/pgbouncer.md has
//! the same.

mod console;

pub(super) use console::{COMMANDS, SHOWN, TABLES};

/// What comes of an action.
pub(super) struct Known {
    pub(super) what: &'static str,
    pub(super) ours: &'static str,
    pub(super) theirs: &'static str,
    pub(super) why: &'static str,
    /// The second numbers of the first and the last version.
    versions: (u32, u32),
}

const fn known(what: &'static str, ours: &'static str, theirs: &'static str, why: &'static str) -> Known {
    Known { what, ours, theirs, why, versions: (0, u32::MAX) }
}

impl Known {
    const fn since(self, minor: u32) -> Known {
        Known { versions: (minor, self.versions.1), ..self }
    }

    const fn until(self, minor: u32) -> Known {
        Known { versions: (self.versions.0, minor), ..self }
    }

    pub(super) fn is_of(&self, minor: u32) -> bool {
        (self.versions.0..=self.versions.1).contains(&minor)
    }
}

const SQLSTATE: &str = "the SQLSTATE says what kind of error it is";
const NEWER: &str = "as in newer versions";
const GOES_ON: &str = "PostgreSQL's error; the client goes on";

pub(super) const ACTIONS: &[Known] = &[
    known("RELOAD of a file with a mistake", "ERROR F0000: ", "", "PgBouncer says so since 1.25; before, its log does")
        .until(24),
    known(
        "a name that PostgreSQL does not know",
        "FATAL 3D000: database \"nosuch\" does not exist",
        "FATAL 08P01: database \"nosuch\" does not exist",
        NEWER,
    )
    .until(23),
    known(
        "a rule that rejects",
        "FATAL 28000: pg_hba.conf rejects connection for host \"127.0.0.1\", user \"alice\", database \"rejected\", no \
         encryption",
        "FATAL 08P01: login rejected",
        "PostgreSQL's words and SQLSTATE",
    ),
    known(
        "a wrong password",
        "FATAL 28P01: password authentication failed for user \"alice\"",
        "FATAL 08P01: password authentication failed",
        "PostgreSQL's words and SQLSTATE",
    ),
    known(
        "an unknown user",
        "FATAL 28P01: password authentication failed for user \"nobody\"",
        "FATAL 08P01: password authentication failed",
        "the same as for a wrong password, so that nobody learns who exists",
    ),
    known(
        "auth_query without a user",
        "FATAL 28P01: password authentication failed for user \"nobody\"",
        "FATAL 08P01: no such user",
        "the same",
    )
    .since(24),
    known(
        "another parameter",
        "9s",
        "FATAL 08P01: unsupported startup parameter: lock_timeout",
        "PostgreSQL decides what a client may ask for",
    ),
    known(
        "another parameter in options",
        "9s",
        "FATAL 08P01: unsupported startup parameter in options: lock_timeout",
        "the same",
    )
    .since(24),
    known("somebody else on the console", "FATAL 42501: not allowed", "FATAL 08P01: not allowed", SQLSTATE),
    known(
        "statement mode of a user",
        "FATAL 0A000: transaction blocks not allowed in statement pooling mode",
        "FATAL 08P01: transaction blocks not allowed in statement pooling mode",
        SQLSTATE,
    ),
    known(
        "max_db_client_connections",
        "FATAL 53300: client connections exceeded (max_db_client_connections)",
        "FATAL 08P01: client connections exceeded (max_db_client_connections)",
        SQLSTATE,
    )
    .since(24),
    known(
        "max_user_client_connections",
        "FATAL 53300: client connections exceeded (max_user_client_connections)",
        "FATAL 08P01: client connections exceeded (max_user_client_connections)",
        SQLSTATE,
    )
    .since(24),
    known("query_timeout of a user", "FATAL 57014: query timeout", "FATAL 08P01: query timeout", SQLSTATE).since(24),
    known(
        "client_idle_timeout of a user",
        "FATAL 57P05: client_idle_timeout",
        "FATAL 08P01: client_idle_timeout",
        SQLSTATE,
    )
    .since(24),
    known(
        "idle_transaction_timeout of a user",
        "FATAL 25P03: idle transaction timeout",
        "FATAL 08P01: idle transaction timeout",
        SQLSTATE,
    )
    .since(24),
    known(
        "query_wait_timeout of a database",
        "FATAL 53300: query_wait_timeout",
        "FATAL 08P01: query_wait_timeout",
        SQLSTATE,
    )
    .since(26),
    known(
        "query_wait_timeout of a user",
        "FATAL 53300: query_wait_timeout",
        "FATAL 08P01: query_wait_timeout",
        SQLSTATE,
    )
    .since(26),
    known(
        "transaction_timeout of a user",
        "FATAL 25P04: transaction timeout",
        "FATAL 08P01: transaction timeout",
        SQLSTATE,
    )
    .since(26),
    known(
        "NULL as the user's name by auth_query",
        "FATAL 28P01: password authentication failed for user \"nobody\"",
        "FATAL 08P01: no such user",
        "the same as for a wrong password",
    )
    .since(26),
    known("KILL", "FATAL 57P01: database removed 1 1", "FATAL 08P01: database removed 1 1", SQLSTATE).since(24),
    known("KILL_CLIENT", "FATAL 57P01: admin forced disconnect", "FATAL 08P01: admin forced disconnect", SQLSTATE)
        .since(24),
    known(
        "KILL_CLIENT in a transaction",
        "FATAL 57P01: admin forced disconnect",
        "FATAL 08P01: admin forced disconnect",
        SQLSTATE,
    )
    .since(24),
    known(
        "DISABLE and ENABLE",
        "1 FATAL 57P03: database \"lasting\" is disabled 1",
        "1 FATAL 08P01: database \"lasting\" is disabled 1",
        SQLSTATE,
    )
    .since(24),
    known(
        "a statement that is not there",
        "ERROR 26000: prepared statement \"nosuch\" does not exist",
        "FATAL 08P01: prepared statement did not exist",
        GOES_ON,
    )
    .since(24),
    known(
        "a statement's name that is taken",
        "ERROR 42P05: prepared statement \"s\" already exists",
        "FATAL 08P01: prepared statement name is already in use",
        GOES_ON,
    )
    .since(24),
    known(
        "a newer protocol",
        "Some((2, [\"_pq_.nosuch\"])) 32",
        "Some((0, [\"_pq_.nosuch\"])) 4",
        "3.2, with its longer keys, is spoken",
    )
    .since(24),
    known(
        "the extended protocol on the console",
        "12TDCZ",
        "ERROR 08P01: extended query protocol not supported by admin console",
        "for drivers that know no other",
    )
    .since(24),
    known(
        "parameters of the console",
        "DateStyle=ISO TimeZone=GMT client_encoding=UTF8 integer_datetimes=on is_superuser=on server_encoding=UTF8 \
         server_version=... standard_conforming_strings=on",
        "DateStyle=ISO TimeZone=GMT client_encoding=UTF8 is_superuser=on server_encoding=UTF8 server_version=... \
         standard_conforming_strings=on",
        "drivers that read binary times refuse a server without it",
    )
    .since(24),
    known("what is told of the pooler", "max_prepared_statements=150 pool_mode=transaction version=...", "", NEWER)
        .since(24)
        .until(25),
    known("the same in session mode", "max_prepared_statements=150 pool_mode=session version=...", "", NEWER)
        .since(24)
        .until(25),
    known("the same for replication", "max_prepared_statements=150 pool_mode=session version=...", "", NEWER)
        .since(24)
        .until(25),
    known("the same of the console", "version=...", "", NEWER).since(24).until(25),
];

const SAID: &str = "clients are told";
const CONSOLE_STAYS: &str = "the console can be reached to the end, as in newer versions";

const fn said(what: &'static str) -> Known {
    known(what, "FATAL: pooler is shutting down, the end", "nothing", SAID)
}

const fn still_there(what: &'static str) -> Known {
    known(what, "in", "refused", CONSOLE_STAYS).until(24)
}

const fn told_by_the_socket(what: &'static str) -> Known {
    known(what, "FATAL: pooler is shutting down", "refused", CONSOLE_STAYS).until(24)
}

/// What is seen of an end.
pub(super) const ENDS: &[Known] = &[
    said("SHUTDOWN: in a transaction"),
    said("SHUTDOWN: idle"),
    said("SHUTDOWN: queued"),
    said("SHUTDOWN: the other's end"),
    said("SIGQUIT: in a transaction"),
    said("SIGQUIT: idle"),
    said("SIGQUIT: queued"),
    said("SIGQUIT: the other's end"),
    still_there("SHUTDOWN WAIT_FOR_CLIENTS: the console by the socket"),
    still_there("SHUTDOWN WAIT_FOR_SERVERS: the console by the socket"),
    still_there("SIGINT: the console by the socket"),
    still_there("SIGTERM: the console by the socket"),
    told_by_the_socket("SHUTDOWN WAIT_FOR_CLIENTS: by the socket"),
    told_by_the_socket("SHUTDOWN WAIT_FOR_SERVERS: by the socket"),
    told_by_the_socket("SIGINT: by the socket"),
    told_by_the_socket("SIGTERM: by the socket"),
];
