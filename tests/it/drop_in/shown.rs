//! The console of both shows the same values, in the same order.

use std::collections::BTreeMap;

use super::{Differences, HAS_NEWER, Pair, SOON, Side, known};
use crate::support::{Raw, Table, wait::holds_within};

/// What is shown, by which columns its rows are known, and the columns that are not compared.
struct Shown {
    sql: &'static str,
    key: &'static [&'static str],
    without: &'static [&'static str],
}

const fn shown(sql: &'static str, key: &'static [&'static str], without: &'static [&'static str]) -> Shown {
    Shown { sql, key, without }
}

/// Those that no two processes have in common.
const OF_SOCKETS: &[&str] =
    &["port", "local_port", "connect_time", "request_time", "wait", "wait_us", "ptr", "link", "remote_pid", "id"];

const ALL: &[Shown] = &[
    shown("show databases", &["name"], &[]),
    shown("show users", &["name"], &[]),
    shown("show pools", &["database", "user"], &["maxwait_us"]),
    shown("show clients", &["database", "user"], OF_SOCKETS),
    shown("show servers", &["database", "user"], OF_SOCKETS),
    shown("show config", &["key"], &[]),
];

/// The same of what PgBouncer 1.18 does not have, or has with other columns.
const NEWER: &[Shown] = &[
    shown("show state", &["key"], &[]),
    shown("show peers", &["peer_id"], &[]),
    shown("show peer_pools", &["peer_id"], &[]),
    shown("show totals", &["name"], &["value"]),
    shown("show lists", &["list"], &[]),
    shown(
        "show stats_totals",
        &["database"],
        &["bytes_received", "bytes_sent", "xact_time", "query_time", "wait_time", "client_login_count"],
    ),
];

impl Shown {
    /// The values of each row, by the values of its key.
    fn rows(&self, side: &Side) -> BTreeMap<String, BTreeMap<String, String>> {
        let table = Table::of(&mut side.console(), self.sql);
        let mut rows = BTreeMap::new();
        for at in 0..table.rows.len() {
            let value = |column: &str| table.column(column)[at].clone();
            let name = self.key.iter().map(|column| value(column)).collect::<Vec<_>>().join("/");
            // PgBouncer shows a database of `*` at times only, and counts a transaction when it begins; its console counts
            // the questions of this test.
            let unsteady: &[&str] = match self.sql {
                "show databases" => &["postgres"],
                "show lists" => &["databases"],
                "show stats_totals" => &["included", "pgbouncer"],
                _ => &[],
            };
            if unsteady.contains(&name.as_str()) {
                continue;
            }
            // How much memory PgBouncer keeps is its own business.
            if name.starts_with("free_") && value("items") != "0" {
                rows.insert(name, BTreeMap::from([("items".to_owned(), "some".to_owned())]));
                continue;
            }
            let shown = table.columns.iter().filter(|column| !self.without.contains(&column.as_str()));
            rows.insert(name, shown.map(|column| (column.clone(), side.neutral(&value(column)))).collect());
        }
        rows
    }
}

impl Side {
    /// A value without what is another one's only because it is the other process.
    fn neutral(&self, value: &str) -> String {
        let port = self.port.to_string();
        if value == port {
            return "its own port".to_owned();
        }
        value.trim().replace(self.dir.path().to_str().unwrap(), "DIR").replace(&self.sockets, "SOCKETS")
    }
}

/// Where a row differs, of the columns that both have.
fn differences(shown: &Shown, pair: &Pair) -> Differences {
    let (mut ours, theirs) = (shown.rows(&pair.ours), shown.rows(&pair.theirs));
    let mut differences = Differences::new();
    for (name, mut their) in theirs {
        let what = format!("{}: {name}", shown.sql);
        let Some(mut our) = ours.remove(&name) else {
            differences.insert(what, ("no row".to_owned(), "a row".to_owned()));
            continue;
        };
        our.retain(|column, value| their.get(column).is_some_and(|other| other != value));
        their.retain(|column, _| our.contains_key(column));
        let told = |row: BTreeMap<String, String>| {
            row.into_iter().map(|(column, value)| format!("{column}={value}")).collect::<Vec<_>>().join(", ")
        };
        if !our.is_empty() {
            differences.insert(what, (told(our), told(their)));
        }
    }
    // Settings of pgpool's own.
    if shown.sql != "show config" {
        let more = ours.into_keys().map(|name| format!("{}: {name}", shown.sql));
        differences.extend(more.map(|what| (what, ("a row".to_owned(), "no row".to_owned()))));
    }
    differences
}

/// Clients that are idle, in a transaction, and with a connection of their own.
fn at_work(side: &Side) -> Vec<Raw> {
    let clients = [
        ("alice", "app", "select 1"),
        ("bob", "included", "begin"),
        ("alice", "forced", "select 1"),
        ("carol", "postgres", "select 1"),
    ];
    let login = |(user, database, sql)| {
        let mut client = side.login(user, database);
        client.query(sql).unwrap();
        client
    };
    clients.map(login).into()
}

#[test]
fn the_console_shows_the_same_file() {
    let Some(pair) = Pair::start() else { return };
    let _clients = [at_work(&pair.ours), at_work(&pair.theirs)];
    let newer = if pair.minor >= HAS_NEWER { NEWER } else { &[] };
    let all = || ALL.iter().chain(newer).flat_map(|shown| differences(shown, &pair)).collect::<Differences>();
    // What was just done is counted a moment later.
    let mut told = String::new();
    holds_within(SOON, || {
        told = pair.unknown(&all(), known::SHOWN);
        told.is_empty()
    });
    assert!(told.is_empty(), "of PgBouncer 1.{}:{told}", pair.minor);

    let by_other_name = Table::of(&mut pair.ours.login("postgres", "pgpool"), "show clients");
    let others = by_other_name.matching(&[("user", "postgres")]).column("database");
    assert!(others.iter().all(|name| name == "pgbouncer"), "{by_other_name:?}");
    let order = |side: &Side, sql: &str, column: &str| Table::of(&mut side.console(), sql).column(column);
    let tables = [
        ("show databases", "name"),
        ("show users", "name"),
        ("show pools", "database"),
        ("show stats", "database"),
        // Sorted since 1.25.
        ("show config", "key"),
    ];
    for (sql, column) in tables.into_iter().filter(|(sql, _)| *sql != "show config" || pair.minor >= 25) {
        let (mut ours, mut theirs) = (order(&pair.ours, sql, column), order(&pair.theirs, sql, column));
        ours.retain(|name| theirs.contains(name));
        theirs.retain(|name| ours.contains(name));
        assert!(ours.iter().any(|name| name == "pgbouncer" || name == "listen_port"), "{sql}");
        assert_eq!(ours, theirs, "{sql}");
    }
}
