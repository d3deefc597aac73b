//! The owner of the process is let into the console by its socket without a password, and nobody else is.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use crate::support::{
    Cluster, Pooler, Raw, Table,
    bouncer::Bouncer,
    programs::{find, give_to_postgres, is_root, unprivileged},
};

/// psql as the user that the tests have the poolers run as.
fn as_owner(host: &str, port: u16, user: &str, database: &str, sql: &str) -> Output {
    let psql = find("psql").expect("psql");
    let mut command = if is_root() { unprivileged(&psql, "KILL") } else { Command::new(psql) };
    let dsn = format!("host={host} port={port} user={user} dbname={database} sslmode=disable");
    command.args(["-XAtw", "-d", &dsn, "-c", sql]).output().expect("start psql")
}

fn told(output: Output) -> String {
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    format!("{out}{err}")
}

/// A name for the socket that psql can say: it takes no port 0.
fn named(socket: &Path) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("pgpool-own-").tempdir().unwrap();
    give_to_postgres(dir.path());
    symlink(socket, dir.path().join(".s.PGSQL.6432")).unwrap();
    dir
}

#[test]
fn the_owner_needs_no_password_and_others_do() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let dir = named(pooler.socket());
    let host = dir.path().to_str().unwrap();
    for (user, database) in [("pgbouncer", "pgbouncer"), ("pgpool", "pgpool"), ("pgbouncer", "pgpool")] {
        let output = as_owner(host, 6432, user, database, "RECONNECT");
        assert_eq!(told(output), "RECONNECT\n", "{user} {database}");
    }
    let fds = told(as_owner(host, 6432, "pgbouncer", "pgbouncer", "SHOW FDS"));
    assert!(fds.contains("|pooler|"), "{fds}");
    // Another name, another database, TCP.
    for (host, port, user, database) in [
        (host, 6432, "postgres", "pgbouncer"),
        (host, 6432, "pgbouncer", "app"),
        ("127.0.0.1", pooler.port(), "pgbouncer", "pgbouncer"),
    ] {
        let told = told(as_owner(host, port, user, database, "SHOW STATE"));
        assert!(told.contains("password"), "{host} {user} {database}: {told}");
    }
    if is_root() {
        // This process is another user, root though it is.
        let mut other = Raw::connect_unix(pooler.socket());
        other.startup(&[("user", "pgbouncer"), ("database", "pgbouncer")]);
        let error = other.authenticate("pgbouncer", "").unwrap_err();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"));
    }
}

/// What SHOW CLIENTS calls the processes of this user's clients.
fn processes(console: &mut Raw, user: &str) -> Vec<String> {
    Table::of(console, "SHOW CLIENTS").matching(&[("user", user)]).column("remote_pid")
}

#[test]
fn a_client_of_the_socket_is_shown_with_its_process() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let own = std::process::id().to_string();
    let mut console = pooler.console_unix();
    assert_eq!(processes(&mut console, "postgres"), std::slice::from_ref(&own));
    let _distant = pooler.login("alice", "alicepw", "app");
    assert_eq!(processes(&mut console, "alice"), ["0"]);
    if let Some(bouncer) = Bouncer::start(&cluster, "") {
        let mut console = Raw::connect_unix(&bouncer.dir().join(format!(".s.PGSQL.{}", bouncer.port())));
        console.startup(&[("user", "postgres"), ("database", "pgbouncer")]);
        console.authenticate("postgres", "postgrespw").unwrap();
        assert_eq!(processes(&mut console, "postgres"), [own]);
    }
}

#[test]
fn pgbouncer_does_the_same() {
    let cluster = Cluster::start();
    let Some(bouncer) = Bouncer::start(&cluster, "") else { return };
    let dir = bouncer.dir().to_str().unwrap();
    assert_eq!(told(as_owner(dir, bouncer.port(), "pgbouncer", "pgbouncer", "RECONNECT")), "RECONNECT\n");
    // Who may be on the console is asked behind the password in newer versions.
    let by_tcp = if bouncer.minor() >= 24 { "password" } else { "not allowed" };
    for (host, user, refusal) in [(dir, "postgres", "password"), ("127.0.0.1", "pgbouncer", by_tcp)] {
        let told = told(as_owner(host, bouncer.port(), user, "pgbouncer", "SHOW VERSION"));
        assert!(told.contains(refusal), "{host} {user}: {told}");
    }
}
