//! What clients do with both, for what PgBouncer 1.19 to 1.24 have.

use std::collections::BTreeMap;

use super::{Action, SOON, Side, answer, ask, outcome};
use crate::support::{
    Raw, Table, eventually,
    messages::{bind, close_statement, describe_statement, execute, parse, query, sync},
    reply::{self, Message, PgError},
};

/// A value that a prepared statement gives, or the error; `wanted` go before its execution.
fn flight(client: &mut Raw, messages: &[Vec<u8>]) -> Result<String, PgError> {
    let all = answer(client, &messages.concat());
    let rows = reply::rows(&all)?;
    let values: Vec<String> = rows.into_iter().flatten().map(Option::unwrap_or_default).collect();
    Ok(format!("{} {}", reply::tags(&all), values.join(" ")))
}

fn run(name: &str, value: &str) -> [Vec<u8>; 3] {
    [bind("", name, &[Some(value)]), execute("", 0), sync()]
}

/// Has a pool of two lend its other connection in the meantime.
fn on_the_other(side: &Side, then: impl FnOnce() -> Result<String, PgError>) -> Result<String, PgError> {
    let mut holder = side.login("alice", "named");
    ask(&mut holder, "begin")?;
    let result = then();
    ask(&mut holder, "rollback")?;
    result
}

/// With which words the client is sent away.
fn sent_away(client: &mut Raw) -> Result<String, PgError> {
    let mut told = Ok("closed without a word".to_owned());
    while let Some(message) = client.read_or_eof() {
        if message.tag == b'E' {
            told = Err(message.error());
        }
    }
    told
}

fn client_of(side: &Side, user: &str) -> Table {
    Table::of(&mut side.console(), "show clients").matching(&[("user", user)])
}

fn column(side: &Side, show: &str, name: &str, column: &str) -> String {
    Table::of(&mut side.console(), show).matching(&[("name", name)]).value(column)
}

/// The counters of prepared statements of a database.
fn counted(side: &Side, database: &str) -> Vec<u64> {
    let table = Table::of(&mut side.console(), "show stats_totals").matching(&[("database", database)]);
    ["client_parse_count", "server_parse_count", "bind_count"].map(|name| table.number(name)).into()
}

pub(super) const ACTIONS: &[Action] = &[
    ("a named statement follows its client", |side| {
        let mut client = side.login("alice", "named");
        let parsed = flight(&mut client, &[parse("s", "select $1::text", &[]), describe_statement("s"), sync()])?;
        let there = flight(&mut client, &run("s", "one"))?;
        let elsewhere = on_the_other(side, || flight(&mut client, &run("s", "two")))?;
        let again = flight(&mut client, &[parse("t", "select $1::text", &[]), sync()])?;
        let closed = flight(&mut client, &[close_statement("s"), close_statement("nosuch"), sync()])?;
        Ok(format!("{parsed}, {there}, {elsewhere}, {again}, {closed}"))
    }),
    ("what is counted of statements", |side| {
        let before = counted(side, "named");
        let mut client = side.login("alice", "named");
        flight(&mut client, &[parse("s", "select $1::int + 1", &[]), sync()])?;
        for value in ["1", "2", "3"] {
            flight(&mut client, &run("s", value))?;
        }
        let mut other = side.login("alice", "named");
        flight(&mut other, &[parse("x", "select $1::int + 1", &[]), sync()])?;
        flight(&mut other, &run("x", "4"))?;
        let rows = Table::of(&mut side.console(), "show clients").matching(&[("database", "named")]);
        let after: Vec<u64> = counted(side, "named").iter().zip(before).map(|(new, old)| new - old).collect();
        Ok(format!("{after:?} {:?}", rows.column("prepared_statements")))
    }),
    ("what is counted of unnamed ones", |side| {
        let before = counted(side, "named");
        let mut client = side.login("alice", "named");
        flight(&mut client, &[parse("", "select $1::int + 2", &[]), sync()])?;
        flight(&mut client, &run("", "1"))?;
        let after: Vec<u64> = counted(side, "named").iter().zip(before).map(|(new, old)| new - old).collect();
        Ok(format!("{after:?}"))
    }),
    ("a statement that is not there", |side| flight(&mut side.login("alice", "named"), &run("nosuch", "1"))),
    ("a statement's name that is taken", |side| {
        let mut client = side.login("alice", "named");
        let one = [parse("s", "select 1", &[]), sync()];
        flight(&mut client, &one)?;
        flight(&mut client, &one)
    }),
    ("DEALLOCATE ALL", |side| {
        let mut client = side.login("alice", "named");
        let one = [parse("s", "select 1", &[]), sync()];
        flight(&mut client, &one)?;
        ask(&mut client, "deallocate all")?;
        flight(&mut client, &one)
    }),
    ("DISCARD ALL", |side| {
        let mut client = side.login("alice", "named");
        let one = [parse("s", "select 1", &[]), sync()];
        flight(&mut client, &one)?;
        ask(&mut client, "discard all")?;
        flight(&mut client, &one)
    }),
    ("track_extra_parameters", |side| {
        let (mut one, mut other) = (side.login("alice", "app"), side.login("alice", "app"));
        ask(&mut one, "set intervalstyle = 'iso_8601'")?;
        let theirs = ask(&mut other, "select interval '1 day'")?;
        Ok(format!("{theirs} {}", ask(&mut one, "select interval '1 day'")?))
    }),
    ("a tracked parameter in options", |side| {
        let options = "-c IntervalStyle=iso_8601 --DateStyle=german -cextra_float_digits=1";
        let mut client = side.try_login("alice", "alicepw", "app", &[("options", options)])?;
        ask(&mut client, "select interval '1 day', date '2020-01-02'")
    }),
    ("another parameter in options", |side| {
        let mut client = side.try_login("alice", "alicepw", "app", &[("options", "-c lock_timeout=9s")])?;
        ask(&mut client, "show lock_timeout")
    }),
    ("options of another form", |side| {
        side.try_login("alice", "alicepw", "app", &[("options", "-B 100")]).map(|_| String::new())
    }),
    ("a newer protocol", |side| {
        let mut client = Raw::connect(side.port);
        client.startup_with_version(9, &[("user", "alice"), ("database", "app"), ("_pq_.nosuch", "1")]);
        client.authenticate("alice", "alicepw")?;
        Ok(format!("{:?} {}", client.negotiated, client.backend_key.unwrap().1.len()))
    }),
    ("auth_query in auth_dbname", |side| ask(&mut side.login("looker", "looked"), "select current_user")),
    ("auth_query without a user", |side| side.try_login("nobody", "x", "looked", &[]).map(|_| String::new())),
    ("hosts that take turns", |side| {
        let mut hosts: Vec<String> = (0..4)
            .map(|_| side.login("alice", "balanced"))
            .collect::<Vec<_>>()
            .iter_mut()
            .map(|client| {
                ask(client, "begin").unwrap();
                ask(client, "select coalesce(host(inet_server_addr()), 'socket')").unwrap()
            })
            .collect();
        hosts.sort_unstable();
        Ok(hosts.join(" "))
    }),
    ("hosts that do not", |side| {
        let mut clients: Vec<Raw> = (0..3).map(|_| side.login("alice", "sticky")).collect();
        let host = |client: &mut Raw| {
            ask(client, "begin").unwrap();
            ask(client, "select coalesce(host(inet_server_addr()), 'socket')").unwrap()
        };
        Ok(clients.iter_mut().map(host).collect::<Vec<_>>().join(" "))
    }),
    ("max_db_client_connections", |side| {
        let _first = side.login("alice", "few");
        side.try_login("alice", "alicepw", "few", &[]).map(|_| String::new())
    }),
    ("max_user_client_connections", |side| {
        let _first = side.login("single", "app");
        side.try_login("single", "singlepw", "app", &[]).map(|_| String::new())
    }),
    ("pool_size and reserve_pool_size of a user", |side| {
        let mut clients: Vec<Raw> = (0..3).map(|_| side.login("narrow", "app")).collect();
        for client in &mut clients {
            client.send(&query("begin"));
        }
        let pool = || {
            let table = Table::of(&mut side.console(), "show pools").matching(&[("user", "narrow")]);
            (table.number("sv_active"), table.number("cl_waiting"))
        };
        eventually(SOON, "the reserve is used", || pool() == (2, 1));
        Ok(format!("{:?}", pool()))
    }),
    ("query_timeout of a user", |side| {
        let mut client = side.login("hasty", "app");
        client.send(&query("select pg_sleep(60)"));
        sent_away(&mut client)
    }),
    ("client_idle_timeout of a user", |side| {
        let mut client = side.login("idler", "app");
        ask(&mut client, "select 1")?;
        sent_away(&mut client)
    }),
    ("idle_transaction_timeout of a user", |side| {
        let mut client = side.login("sleeper", "app");
        ask(&mut client, "begin")?;
        sent_away(&mut client)
    }),
    ("KILL_CLIENT", |side| {
        let mut client = side.login("bob", "app");
        ask(&mut client, "select 1")?;
        let id = client_of(side, "bob").value("id");
        ask(&mut side.console(), &format!("kill_client {id}"))?;
        sent_away(&mut client)
    }),
    ("KILL_CLIENT in a transaction", |side| {
        let mut client = side.login("bob", "app");
        ask(&mut client, "begin")?;
        let id = client_of(side, "bob").value("id");
        ask(&mut side.console(), &format!("kill_client {id}"))?;
        sent_away(&mut client)
    }),
    ("KILL_CLIENT of nobody", |side| ask(&mut side.console(), "kill_client 999999")),
    ("KILL_CLIENT of a word", |side| ask(&mut side.console(), "kill_client bob")),
    ("KILL_CLIENT without", |side| ask(&mut side.console(), "kill_client")),
    ("KILL_CLIENT by a statistician", |side| ask(&mut side.login("alice", "pgbouncer"), "kill_client 1")),
    ("one sequence of ids", |side| {
        let mut client = side.login("bob", "app");
        ask(&mut client, "begin")?;
        let servers = Table::of(&mut side.console(), "show servers").matching(&[("user", "bob"), ("state", "active")]);
        let (own, server) = (client_of(side, "bob").number("id"), servers.number("id"));
        Ok(format!("{} {}", own != server, servers.value("application_name")))
    }),
    ("a logical replication client", |side| replication(side, "database")),
    ("a physical replication client", |side| replication(side, "true")),
    ("PAUSE of a database", |side| {
        let mut console = side.console();
        ask(&mut console, "pause app")?;
        let paused = column(side, "show databases", "app", "paused");
        let again = outcome(ask(&mut console, "pause app"));
        ask(&mut console, "resume app")?;
        Ok(format!("{paused} {again} {}", column(side, "show databases", "app", "paused")))
    }),
    ("PAUSE in SHOW STATE", |side| {
        let mut console = side.console();
        let state = |console: &mut Raw| {
            let table = Table::of(console, "show state");
            ["active", "paused"].map(|key| table.matching(&[("key", key)]).value("value")).join(" ")
        };
        let before = state(&mut console);
        ask(&mut console, "pause")?;
        let during = state(&mut console);
        ask(&mut console, "resume")?;
        Ok(format!("{before}, {during}, {}", state(&mut console)))
    }),
    ("DISABLE and ENABLE", |side| {
        let mut console = side.console();
        ask(&mut console, "disable lasting")?;
        let disabled = column(side, "show databases", "lasting", "disabled");
        let refused = outcome(side.try_login("alice", "alicepw", "lasting", &[]).map(|_| String::new()));
        ask(&mut console, "enable lasting")?;
        Ok(format!("{disabled} {refused} {}", ask(&mut side.login("alice", "lasting"), "select 1")?))
    }),
    ("KILL", |side| {
        let (mut console, mut client) = (side.console(), side.login("alice", "lasting"));
        ask(&mut client, "select 1")?;
        ask(&mut console, "kill lasting")?;
        let told = outcome(sent_away(&mut client));
        let paused = column(side, "show databases", "lasting", "paused");
        ask(&mut console, "resume lasting")?;
        Ok(format!("{told} {paused} {}", ask(&mut side.login("alice", "lasting"), "select 1")?))
    }),
    ("the extended protocol on the console", |side| {
        let all = answer(&mut side.console(), &crate::support::messages::extended("show version", &[]));
        reply::rows(&all).map(|_| reply::tags(&all))
    }),
    ("parameters at login", |side| Ok(told(&side.login("alice", "app").parameters))),
    ("parameters of the console", |side| Ok(told(&side.console().parameters))),
    ("what is told of the pooler", |side| Ok(told(&side.login("alice", "app").told_of_pooler))),
    ("the same in session mode", |side| Ok(told(&side.login("carol", "app").told_of_pooler))),
    ("the same for replication", |side| {
        Ok(told(&side.try_login("postgres", "", "app", &[("replication", "database")])?.told_of_pooler))
    }),
    ("the same of the console", |side| Ok(told(&side.console().told_of_pooler))),
    ("a notice at login", |side| {
        let mut client = Raw::connect(side.port);
        client.startup(&[("user", "trusty"), ("database", "app")]);
        let all = client.read_until_ready();
        let told: Vec<PgError> = all.iter().filter(|message| message.tag == b'N').map(Message::error).collect();
        Ok(format!("{told:?}"))
    }),
];

/// For what 1.25 and 1.26 have.
pub(super) const NEWEST: &[Action] = &[
    ("query_wait_timeout of a user", |side| waits_in_vain(side, "patient", "app")),
    ("query_wait_timeout of a database", |side| waits_in_vain(side, "alice", "brief")),
    ("transaction_timeout of a user", |side| {
        let mut client = side.login("hurried", "app");
        ask(&mut client, "begin")?;
        sent_away(&mut client)
    }),
    ("NULL as the user's name by auth_query", |side| {
        side.try_login("nobody", "x", "nulls", &[]).map(|_| String::new())
    }),
];

fn waits_in_vain(side: &Side, user: &str, database: &str) -> Result<String, PgError> {
    let (mut holder, mut client) = (side.login(user, database), side.login(user, database));
    ask(&mut holder, "begin")?;
    client.send(&query("select 1"));
    sent_away(&mut client)
}

/// What a client was told at its login; of versions that they are there.
fn told(parameters: &BTreeMap<String, String>) -> String {
    let one = |(name, value): (&String, &String)| {
        let value = if name.ends_with("version") { "..." } else { value };
        format!("{name}={value}")
    };
    parameters.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn replication(side: &Side, kind: &str) -> Result<String, PgError> {
    let mut client = side.try_login("postgres", "", "app", &[("replication", kind)])?;
    let rows = reply::rows(&answer(&mut client, &query("IDENTIFY_SYSTEM")))?;
    let shown = |what: &str| {
        let kinds = Table::of(&mut side.console(), what).column("replication");
        kinds.into_iter().filter(|kind| kind != "none").collect::<Vec<_>>()
    };
    Ok(format!("{} {:?} {:?}", rows[0].len(), shown("show clients"), shown("show servers")))
}
