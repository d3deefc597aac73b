//! What a pgbouncer.ini means by what it does not say: PgBouncer's defaults, where they are not pgpool's.

use crate::config::General;
use crate::config::ini::spelling::set_general;
use crate::config::table::Table;

/// PgBouncer's defaults that are not those of a pgpool.toml.
const PGBOUNCER: &[(&str, &str)] = &[
    ("listen_addr", ""),
    ("listen_backlog", "128"),
    ("max_client_conn", "100"),
    ("drain_window", "0"),
    ("drain_timeout", "0"),
    ("auth_type", "md5"),
    ("auth_query_search_path", ""),
    ("auth_query_lifetime", "0"),
    ("auth_query_negative_lifetime", "0"),
    ("log_format", "pgbouncer"),
    ("syslog_ident", "pgbouncer"),
    ("tcp_keepidle", "0"),
    ("tcp_keepintvl", "0"),
    ("tcp_keepcnt", "0"),
    ("tcp_user_timeout", "0"),
    ("tcp_defer_accept", "1"),
];

/// Settings without a default in PgBouncer: a second `[pgbouncer]` leaves them as they are.
const KEPT: &[&str] = &[
    "auth_dbname",
    "auth_file",
    "auth_ident_file",
    "auth_ldap_options",
    "auth_user",
    "client_tls13_ciphers",
    "server_tls13_ciphers",
    "user",
    "verbose",
];

/// Whether PgBouncer has no default for the setting `name`.
pub(in crate::config) fn has_no_default(name: &str) -> bool {
    KEPT.contains(&name)
}

/// The settings of a file that says nothing.
pub(in crate::config) fn defaults() -> General {
    let mut general = General::default();
    for (name, text) in PGBOUNCER {
        // The test below holds that there are such settings and that they take these values.
        if let Some(row) = General::row(name) {
            let _ = set_general(row, &mut general, text);
        }
    }
    general
}

/// What another `[pgbouncer]` makes of the settings so far.
pub(super) fn reset(general: &General) -> General {
    let mut fresh = defaults();
    for row in General::ROWS.iter().filter(|row| KEPT.contains(&row.name)) {
        (row.copy)(&mut fresh, general);
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_name_settings_and_values() {
        let (ours, theirs) = (General::default(), defaults());
        for (name, text) in PGBOUNCER {
            let row = General::row(name).unwrap();
            assert_eq!((row.show)(&theirs), *text, "{name}");
            assert!(!(row.same)(&ours, &theirs), "{name} has the same default");
        }
        assert!(KEPT.iter().all(|name| General::row(name).is_some()));
    }
}
