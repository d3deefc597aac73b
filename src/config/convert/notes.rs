//! What a setting does otherwise in pgpool than in PgBouncer, in a sentence.
//!
//! `docs/differences.md` is the whole account; this is what somebody who takes a file over has to know of each line.

/// Of `[pgbouncer]`.
const GENERAL: &[(&str, &str)] = &[
    ("auth_hba_file", "a file with a mistake is refused; it may have all of PostgreSQL 16's format"),
    ("auth_user", "looks up on a connection of its own"),
    ("cancel_wait_timeout", "limits the whole cancel request"),
    ("client_tls_ciphers", "only what rustls has; anything else is an error"),
    ("client_tls_dheparams", "there is no such key exchange"),
    ("client_idle_timeout", "also ends clients in session mode that hold a connection outside a transaction"),
    ("disable_pqexec", "refused with SQLSTATE 0A000"),
    ("dns_zone_check_period", "the zone is the one that a name is in, and any other serial counts"),
    (
        "ignore_startup_parameters",
        "not needed: every parameter that PostgreSQL takes is accepted; these are dropped, and with options what PgBouncer \
         would drop of options",
    ),
    ("max_prepared_statements", "statements of PREPARE and unnamed ones are followed, too"),
    ("min_pool_size", "filled from the start for forced users and users of [users] with a secret"),
    ("pool_mode", "what a client leaves behind a transaction keeps its connection for it (session_features)"),
    ("query_wait_timeout", "does not run during PAUSE"),
    ("resolv_conf", "the file has to name a nameserver; timeout and attempts are resolv.conf's"),
    ("server_lifetime", "connections end between 80 and 100 % of it, not all at the same time"),
    ("server_login_retry", "clients stay queued meanwhile, and tries begin after 50 ms"),
    ("server_reset_query", "a connection on which it fails is closed"),
    (
        "server_reset_query_always",
        "not needed: sessions follow their clients; costs the connection's prepared statements",
    ),
    ("server_tls_ciphers", "only what rustls has; anything else is an error"),
    (
        "so_reuseport",
        "not needed: one process uses all cores by worker_threads; cancel requests may miss their process",
    ),
];

/// Of entries in `[databases]` and `[users]`.
const ENTRY: &[(&str, &str)] = &[
    ("auth_user", "looks up on a connection of its own"),
    ("client_encoding", "a change replaces the connections"),
    ("connect_query", "is not run on the connections of auth_query and LISTEN"),
    ("min_pool_size", "filled from the start for forced users and users of [users] with a secret"),
    ("pool_mode", "what a client leaves behind a transaction keeps its connection for it (session_features)"),
    ("server_lifetime", "connections end between 80 and 100 % of it, not all at the same time"),
];

/// The sentence about the setting `name` of the section whose name begins with `section`.
pub(super) fn note(section: &str, name: &str) -> Option<&'static str> {
    let notes = if section == "pgpool" { GENERAL } else { ENTRY };
    notes.iter().find(|(known, _)| *known == name).map(|(_, note)| *note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::Table;
    use crate::config::{Database, General, User};

    #[test]
    fn notes_are_about_settings() {
        assert!(GENERAL.iter().all(|(name, _)| General::row(name).is_some()));
        assert!(ENTRY.iter().all(|(name, _)| Database::row(name).is_some() || User::row(name).is_some()));
    }
}
