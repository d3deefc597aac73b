//! What drivers ask of every server, answered so that they go on: settings that the console has in name only, and the
//! facts that they select at connect.

use super::DATABASE;
use super::columns::{Cell, Column, Kind};
use crate::frontend::PGBOUNCER;
use crate::pool::ClientRecord;

/// The version of the console's behaviour that drivers and exporters are told by `server_version`.
///
/// They read the number in front as PostgreSQL's. That of the PgBouncer whose console this is keeps tools that know it
/// on their way, and since it is below every PostgreSQL in use, drivers send the least of their own; 0.1 would be
/// below what some can compare with.
pub(super) const SERVER_VERSION: &str = "1.26.1/pgpool";

/// What `version()` answers. Drivers look for the number behind PostgreSQL's name, as SQLAlchemy does at connect.
const FUNCTION_VERSION: &str = concat!("PostgreSQL 15.0 (pgpool ", env!("CARGO_PKG_VERSION"), ", the console)");

/// The columns of what asks for types: their ids, and those of their arrays.
pub(super) const TYPES: &[Column] =
    &[Column { name: "oid", kind: Kind::Int4 }, Column { name: "typarray", kind: Kind::Int4 }];

/// What SHOW VERSION and `-V` say. Exporters want PgBouncer's name and a version of it there, and go by that version; the
/// program's own is behind it.
pub const VERSION: &str = concat!("PgBouncer 1.26.1 (pgpool ", env!("CARGO_PKG_VERSION"), ")");

/// A setting that the console has in name only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its name as it is told at the start.
    name: &'static str,
    /// The column that SHOW answers, named like the setting.
    pub(super) column: [Column; 1],
    /// Its value.
    pub(super) value: &'static str,
    /// Whether it is told at the start of a session.
    greeted: bool,
}

const fn setting(name: &'static str, value: &'static str, greeted: bool) -> Setting {
    Setting { name, column: [Column { name, kind: Kind::Text }], value, greeted }
}

/// One whose column has another case than its ParameterStatus, as in PgBouncer.
const fn cased(name: &'static str, column: &'static str, value: &'static str) -> Setting {
    Setting { name, column: [Column { name: column, kind: Kind::Text }], value, greeted: true }
}

/// SHOW answers these, SET of them changes nothing.
const SETTINGS: &[Setting] = &[
    setting("server_version", SERVER_VERSION, true),
    setting("pgbouncer.version", PGBOUNCER, true),
    setting("client_encoding", "UTF8", true),
    setting("server_encoding", "UTF8", true),
    cased("DateStyle", "datestyle", "ISO"),
    cased("TimeZone", "timezone", "GMT"),
    setting("standard_conforming_strings", "on", true),
    setting("is_superuser", "on", true),
    // Not PgBouncer's; drivers that read binary timestamps refuse a server without it.
    setting("integer_datetimes", "on", true),
    setting("application_name", "", false),
    setting("bytea_output", "hex", false),
    setting("client_min_messages", "notice", false),
    setting("default_transaction_isolation", "read committed", false),
    setting("default_transaction_read_only", "off", false),
    setting("extra_float_digits", "1", false),
    setting("idle_in_transaction_session_timeout", "0", false),
    setting("intervalstyle", "postgres", false),
    setting("lc_collate", "C", false),
    setting("lc_ctype", "C", false),
    setting("lock_timeout", "0", false),
    setting("max_identifier_length", "63", false),
    setting("search_path", "", false),
    setting("statement_timeout", "0", false),
    setting("transaction_isolation", "read committed", false),
    setting("transaction_read_only", "off", false),
];

/// The setting of this name, in whatever case.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name))
}

/// Name and value of what is told at the start of a session.
pub(super) fn greeting() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.iter().filter(|setting| setting.greeted).map(|setting| (setting.name, setting.value))
}

/// Something that drivers select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// A whole number, such as that of `SELECT 1`.
    Number(u32),
    /// `version()`
    Version,
    /// `current_database()`
    Database,
    /// `current_user` and its like
    User,
    /// `current_schema()`
    Schema,
    /// `pg_backend_pid()`
    ProcessId,
    /// `pg_advisory_unlock_all()`, part of what asyncpg's pool sends between two uses
    Unlocked,
}

impl Fact {
    /// What this word selects; `called` with a pair of parentheses behind it.
    pub(super) fn named(word: &str, called: bool) -> Option<Fact> {
        let word = word.to_ascii_lowercase();
        let name = word.strip_prefix("pg_catalog.").unwrap_or(&word);
        match (name, called) {
            ("version", true) => Some(Fact::Version),
            ("current_database", true) | ("current_catalog", false) => Some(Fact::Database),
            ("current_user" | "session_user" | "user", false) => Some(Fact::User),
            ("current_schema", _) => Some(Fact::Schema),
            ("pg_backend_pid", true) => Some(Fact::ProcessId),
            ("pg_advisory_unlock_all", true) => Some(Fact::Unlocked),
            (number, false) => {
                let number = number.parse().ok().filter(|number| i32::try_from(*number).is_ok());
                number.map(Fact::Number)
            }
            _ => None,
        }
    }

    /// The column that the answer has.
    pub(super) fn columns(self) -> &'static [Column] {
        const fn column(name: &'static str, kind: Kind) -> Column {
            Column { name, kind }
        }
        match self {
            Fact::Number(_) => const { &[column("?column?", Kind::Int4)] },
            Fact::Version => const { &[column("version", Kind::Text)] },
            Fact::Database => const { &[column("current_database", Kind::Text)] },
            Fact::User => const { &[column("current_user", Kind::Text)] },
            Fact::Schema => const { &[column("current_schema", Kind::Text)] },
            Fact::ProcessId => const { &[column("pg_backend_pid", Kind::Int4)] },
            Fact::Unlocked => const { &[column("pg_advisory_unlock_all", Kind::Text)] },
        }
    }

    /// The answer to `client`.
    pub(super) fn value(self, client: &ClientRecord) -> Cell {
        match self {
            Fact::Number(number) => number.into(),
            Fact::Version => FUNCTION_VERSION.into(),
            Fact::Database => DATABASE.into(),
            Fact::User => client.identity.user.as_ref().into(),
            Fact::Schema => Cell::Null,
            Fact::ProcessId => process_id(client).into(),
            Fact::Unlocked => "".into(),
        }
    }
}

/// The process id of a client's cancel key.
pub(super) fn process_id(client: &ClientRecord) -> u32 {
    client.process_id()
}
