//! Where the lines differ, and why.

/// Lines that only one of the two has: a part of them, and the reason.
pub(super) const LINES: &[(&str, &str)] = &[
    ("LOG kernel file descriptor limit: ", "how many descriptors are needed is counted by the pools that there can be"),
    ("LOG process up: ", "names what it is made of"),
    ("LOG listening on unix:", "each has a directory of its own"),
    ("LOG console command SET issued", "PgBouncer does not tell of a SET"),
    ("LOG configuration reloaded", "PgBouncer does not tell that a reload has worked"),
    ("WARNING cannot connect to server ", "tells besides PgBouncer's line when it is tried again, and what to do"),
    ("LOG idle backend is gone", "tells besides PgBouncer's line how it was noticed"),
    (" got packet 'E' from server when not linked", "PgBouncer does not read the last words of a connection that ends"),
    ("ERROR unknown parameter: pgbouncer/", "PgBouncer tells of a mistake in SET twice"),
    ("C-ID: away/trusty@127.0.0.1:PORT closing because: ", "PgBouncer sees only later that who waits has left"),
    ("C-ID: away/trusty@127.0.0.1:PORT pooler error: ", "the same"),
    ("WARNING the configuration could ask for", "PgBouncer does not count"),
];

/// Words of errors whose numbers differ: a server that is away is tried again sooner, and 1.18 has other words for logins
/// that it refuses.
pub(super) const WORDS: &[&str] =
    &["connect failed", "unknown parameter", "got packet", "login failed", "query_wait_timeout"];

/// A line without the differences within it.
pub(super) fn known(line: &str) -> String {
    // PgBouncer 1.18 does not tell of replication.
    let line = line.replace(" replication=no", "");
    // As PgBouncer says where it reads PostgreSQL's last words before it sees the end.
    let line = line.replace("SV_IDLE server got dirty", "server conn crashed?");
    // Nor does it say what SIGINT waits for.
    let line = line.replace(", waiting for all servers connections to be released", "");
    match line.as_str() {
        // 1.18 has no reason of PostgreSQL's.
        text if text.contains(" missing/alice@") && text.contains(" S-ID: ") && text.contains("closing because: ") => {
            "LOG S-ID: missing/alice closing because".to_owned()
        }
        _ => line,
    }
}
