//! What differs on the console.

use super::{Known, NEWER, known};

const AROUND: &str = "for drivers, which send it around what they are told to send";
const LIKE_POSTGRESQL: &str = "as PostgreSQL takes it";
const WRONG: &str = "which setting, and what is wrong with it";
const SUSPEND: &str = "1.26 has no SUSPEND any more";
const OWN: &str = "of pgpool's own";
const PATHS: &str = "a path means the same from everywhere";
const ALL_PEERS: &str = "PgBouncer has one for a peer from the first request on that is passed on to it";
const SLABS: &str = "PgBouncer keeps memory for more";
const LEFTOVER: &str = "what the row above it has, up to 1.25";

/// Tables with other columns.
pub(in super::super) const TABLES: &[Known] = &[
    known("users", "secret_source:25", "", OWN),
    known("stats", "total_client_login_count:1700 avg_client_login_count:1700", "", NEWER).until(25),
    known("stats_totals", "client_login_count:1700", "", NEWER).until(25),
    known("stats_averages", "avg_client_login_count:1700", "", NEWER).until(25),
    known(
        "fds",
        "fd:23 task:25 user:25 database:25 addr:25 port:23 cancel:20 link:23 client_encoding:25 std_strings:25 \
         datestyle:25 timezone:25 password:25 scram_client_key:17 scram_server_key:17 SHOW",
        "ERROR 08P01: invalid command 'show fds', use SHOW HELP;",
        SUSPEND,
    )
    .since(26),
];

/// Commands with other answers.
pub(in super::super) const COMMANDS: &[Known] = &[
    known("select 1", "?column?:23 SELECT 1", "ERROR 08P01: invalid command 'select 1', use SHOW HELP;", AROUND),
    known("set extra_float_digits = 3", "NOTICE 00000: SET ignored SET", "ERROR 08P01: SET failed", AROUND).until(25),
    known("set application_name = 'x'", "NOTICE 00000: SET ignored SET", "ERROR 08P01: SET failed", AROUND),
    known("set nosuch = 1", "ERROR 08P01: unknown setting `nosuch`", "ERROR 08P01: SET failed", WRONG),
    known(
        "set max_client_conn = many",
        "ERROR 08P01: `max_client_conn`: `many` is not a whole number",
        "ERROR 08P01: SET failed",
        WRONG,
    ),
    known(
        "set pool_mode = sometimes",
        "ERROR 08P01: `pool_mode`: `sometimes` is none of session, transaction, statement",
        "ERROR 08P01: SET failed",
        WRONG,
    ),
    known(
        "enable pgbouncer",
        "ERROR 08P01: cannot enable admin db: pgbouncer",
        "ERROR 08P01: cannot disable admin db: pgbouncer",
        NEWER,
    )
    .until(25),
    known("resume", "ERROR 08P01: pooler is not paused/suspended", "ERROR 08P01: pooler is not paused", SUSPEND)
        .since(26),
    known("pause (2)", "ERROR 08P01: already suspended/paused", "ERROR 08P01: already paused", SUSPEND).since(26),
    known("kill app", "ERROR 08P01: already suspended/paused", "ERROR 08P01: already paused", SUSPEND).since(26),
    known(
        "suspend",
        "ERROR 08P01: already suspended/paused",
        "ERROR 08P01: invalid command 'suspend', use SHOW HELP;",
        SUSPEND,
    )
    .since(26),
    known("begin", "BEGIN", "ERROR 08P01: invalid command 'begin', use SHOW HELP;", AROUND),
    known("", "I", "ERROR 08P01: invalid command '', use SHOW HELP;", LIKE_POSTGRESQL),
    known(";", "I", "ERROR 08P01: invalid command ';', use SHOW HELP;", LIKE_POSTGRESQL),
    known(
        "show version; show version",
        "version:25 SHOW version:25 SHOW",
        "ERROR 08P01: invalid command 'show version; show version', use SHOW HELP;",
        LIKE_POSTGRESQL,
    ),
    known(
        "show -- nothing\nversion",
        "version:25 SHOW",
        "ERROR 08P01: invalid command 'show -- nothing\nversion', use SHOW HELP;",
        LIKE_POSTGRESQL,
    ),
];

/// Rows with other values. Columns that only one has are those of [`TABLES`].
pub(in super::super) const SHOWN: &[Known] = &[
    known("show clients: app/alice", "state=idle", "state=active", NEWER).until(24),
    known("show clients: pgbouncer/postgres", "state=idle", "state=active", NEWER).until(24),
    known("show config: auth_file", "value=DIR/userlist.txt", "value=userlist.txt", PATHS),
    known("show config: auth_hba_file", "value=DIR/hba.conf", "value=hba.conf", PATHS),
    known("show config: client_tls_ciphers", "default=default, value=default", "default=fast, value=fast", NEWER)
        .until(18),
    known("show config: server_tls_ciphers", "default=default, value=default", "default=fast, value=fast", NEWER)
        .until(18),
    known("show config: server_tls_sslmode", "default=prefer, value=prefer", "default=disable, value=disable", NEWER)
        .until(18),
    known("show config: server_check_query", "default=<empty>", "default=select 1", NEWER).until(24),
    known("show config: disable_pqexec", "changeable=yes", "changeable=no", "a reload may change it"),
    known("show config: unix_socket_mode", "value=0777", "value=511", "a mode is shown in octal"),
    known("show config: verbose", "default=0", "default=", "what counts without it is shown"),
    known("show databases: socket", "host=SOCKETS", "host=", "where it is"),
    known("show lists: free_clients", "items=0", "items=some", SLABS).since(24),
    known("show lists: free_servers", "items=0", "items=some", SLABS).since(24),
    known("show lists: peer_pools", "items=2", "items=0", ALL_PEERS).since(24),
    known("show peer_pools: 1", "a row", "no row", ALL_PEERS).since(24),
    known("show peer_pools: 2", "a row", "no row", ALL_PEERS).since(24),
    known("show state: prepared_statement_bytes", "a row", "no row", OWN).since(24),
    known("show state: prepared_statement_bytes_limit", "a row", "no row", OWN).since(24),
    known("show state: prepared_statements", "a row", "no row", OWN).since(24),
    known("show state: repeated_batches", "a row", "no row", OWN).since(24),
    known("show state: stale_plans", "a row", "no row", OWN).since(24),
    known("show state: tls_handshakes", "a row", "no row", OWN).since(24),
    known("show state: tls_handshakes_failed", "a row", "no row", OWN).since(24),
    known("show state: tls_handshakes_resumed", "a row", "no row", OWN).since(24),
    known("show state: suspended", "a row", "no row", SUSPEND).since(26),
    known("show totals: avg_client_login_count", "a row", "no row", NEWER).since(24).until(25),
    known("show totals: total_client_login_count", "a row", "no row", NEWER).since(24).until(25),
    leftover("show users: patient"),
    leftover("show users: pgbouncer"),
    leftover("show users: postgres"),
    leftover("show users: single"),
    leftover("show users: sleeper"),
    leftover("show users: trusty"),
];

const fn leftover(what: &'static str) -> Known {
    known(what, "pool_size=, reserve_pool_size=", "pool_size=1, reserve_pool_size=1", LEFTOVER).since(24).until(25)
}
