//! What clients do with both, and what came of it: with any version of PgBouncer.

use super::{Action, SOON, Side, ask, files::USERS, outcome};
use crate::support::{Raw, Table, eventually, reply::PgError};

pub(super) const ACTIONS: &[Action] = &[
    ("an entry", |side| ask(&mut side.login("alice", "app"), "select current_user, current_database()")),
    ("a forced user", |side| ask(&mut side.login("alice", "forced"), "select current_user, current_database()")),
    ("an entry without host", |side| ask(&mut side.login("alice", "socket"), "select inet_server_addr() is null")),
    ("an entry of an included file", |side| ask(&mut side.login("alice", "included"), "select current_database()")),
    ("any other name", |side| ask(&mut side.login("alice", "postgres"), "select current_database()")),
    ("connect_query", |side| ask(&mut side.login("alice", "greeted"), "show lock_timeout")),
    ("application_name", |side| ask(&mut side.login("alice", "greeted"), "show application_name")),
    ("a name that PostgreSQL does not know", |side| {
        let mut client = side.try_login("alice", "alicepw", "nosuch", &[])?;
        ask(&mut client, "select 1")
    }),
    ("a wrong password", |side| side.try_login("alice", "wrong", "app", &[]).map(|_| String::new())),
    ("an unknown user", |side| side.try_login("nobody", "x", "app", &[]).map(|_| String::new())),
    ("a rule that rejects", |side| side.try_login("alice", "alicepw", "rejected", &[]).map(|_| String::new())),
    ("a rule that trusts", |side| {
        let mut client = side.try_login("trusty", "wrong", "app", &[])?;
        ask(&mut client, "select current_user")
    }),
    ("an ignored parameter", |side| {
        let mut client = side.try_login("alice", "alicepw", "app", &[("extra_float_digits", "3")])?;
        ask(&mut client, "show extra_float_digits")
    }),
    ("another parameter", |side| {
        let mut client = side.try_login("alice", "alicepw", "app", &[("lock_timeout", "9s")])?;
        ask(&mut client, "show lock_timeout")
    }),
    ("session mode of a user", |side| {
        let (mut one, mut other) = (side.login("carol", "app"), side.login("carol", "app"));
        let first = ask(&mut one, "select pg_backend_pid()")?;
        let second = ask(&mut other, "select pg_backend_pid()")?;
        Ok((first == ask(&mut one, "select pg_backend_pid()")? && first != second).to_string())
    }),
    ("transaction mode", |side| {
        let (mut one, mut other) = (side.login("alice", "app"), side.login("alice", "app"));
        let first = ask(&mut one, "select pg_backend_pid()")?;
        Ok((first == ask(&mut other, "select pg_backend_pid()")?).to_string())
    }),
    ("statement mode of a user", |side| {
        let mut client = side.login("trusty", "app");
        ask(&mut client, "begin")
    }),
    ("a statistician looks", |side| ask(&mut side.login("alice", "pgbouncer"), "show version").map(|_| String::new())),
    ("a statistician pauses", |side| ask(&mut side.login("alice", "pgbouncer"), "pause")),
    ("somebody else on the console", |side| {
        side.try_login("carol", "carolpw", "pgbouncer", &[]).map(|_| String::new())
    }),
    ("SET and RELOAD", |side| {
        let mut console = side.console();
        let value = |console: &mut Raw| {
            Table::of(console, "show config").matching(&[("key", "max_client_conn")]).value("value")
        };
        ask(&mut console, "set max_client_conn = 50")?;
        let set = value(&mut console);
        ask(&mut console, "reload")?;
        eventually(SOON, "a reload sets back", || value(&mut console) != set);
        Ok(format!("{set} {}", value(&mut console)))
    }),
    ("SET at the start only", |side| ask(&mut side.console(), "set listen_port = 1")),
    ("a new user after RELOAD", |side| {
        let before = side.try_login("postgres", "x", "app", &[]).is_ok();
        // PgBouncer takes a file of the same second and size for the same.
        side.edit("userlist.txt", |text| text.replace("\"alice\" \"alicepw\"", "\"alice\" \"another one\""));
        ask(&mut side.console(), "reload")?;
        let mut after = String::new();
        eventually(SOON, "the password is another", || {
            after = outcome(side.try_login("alice", "another one", "socket", &[]).map(|_| "in".to_owned()));
            after == "in"
        });
        side.edit("userlist.txt", |_| format!("{USERS}; as before\n"));
        ask(&mut side.console(), "reload")?;
        eventually(SOON, "the password is back", || side.try_login("alice", "alicepw", "socket", &[]).is_ok());
        Ok(format!("{before} {after}"))
    }),
    ("a new database after RELOAD", |side| {
        side.edit("more.ini", |text| text.replace("included =", "renamed ="));
        ask(&mut side.console(), "reload")?;
        let names = |side: &Side| Table::of(&mut side.console(), "show databases").column("name");
        eventually(SOON, "the entry is there", || names(side).contains(&"renamed".to_owned()));
        ask(&mut side.login("alice", "renamed"), "select current_database()")
    }),
    ("RELOAD of a file with a mistake", |side| {
        side.edit("pgbouncer.ini", |text| text.replace("log_stats = 0", "log_stat = 0"));
        let answer = ask(&mut side.console(), "reload");
        side.edit("pgbouncer.ini", |text| text.replace("log_stat = 0", "log_stats = 0"));
        // Of what stood behind the mistake PgBouncer knows nothing any more.
        ask(&mut side.console(), "reload")?;
        answer.map(|_| String::new()).map_err(|error| PgError { message: String::new(), ..error })
    }),
];
