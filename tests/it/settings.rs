//! Settings of a session: what the login says of them is PostgreSQL's own word, they are in force on whichever backend
//! the session gets, and no other session ever sees them.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count,
    messages::{bind, copy_data, copy_done, execute, extended, flush, parse, query, sync},
    reply::{PgError, tags},
};

const SOON: Duration = Duration::from_secs(10);

type Parameters<'a> = &'a [(&'a str, &'a str)];

fn start(cluster: &Cluster, workers: usize, size: usize) -> Pooler {
    let settings = format!("[pgpool]\nauth_type = \"trust\"\nworker_threads = {workers}\ndefault_pool_size = {size}");
    Pooler::start(cluster, &settings)
}

/// Logs in with parameters of the startup packet.
fn try_login(port: u16, user: &str, parameters: Parameters<'_>) -> Result<Raw, PgError> {
    let mut client = Raw::connect(port);
    client.startup(&[&[("user", user), ("database", "app")], parameters].concat());
    client.authenticate(user, &format!("{user}pw"))?;
    Ok(client)
}

fn login(port: u16, user: &str, parameters: Parameters<'_>) -> Raw {
    try_login(port, user, parameters).unwrap_or_else(|error| panic!("{parameters:?}: {error:?}"))
}

#[test]
fn the_welcome_is_postgresqls_own() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, 2, 2);
    let cases: [Parameters<'_>; 12] = [
        &[],
        &[("application_name", "Application")],
        &[("application_name", "zażółć\u{1}")],
        &[("application_name", "a name that is much too long to be kept by PostgreSQL, which cuts it off here: ---")],
        &[("DateStyle", "iso")],
        &[("datestyle", "german"), ("TimeZone", "asia/kolkata")],
        &[("options", "-c datestyle=sql,dmy --intervalstyle=iso_8601")],
        &[("options", "-c timezone=UTC"), ("TimeZone", "Europe/Berlin")],
        &[("client_encoding", "latin1"), ("application_name", "x")],
        &[("standard_conforming_strings", "off")],
        &[("search_path", "a, \"B c\""), ("extra_float_digits", "2")],
        &[("statement_timeout", "5s"), ("app.tenant", "7")],
    ];
    // Twice, since what PostgreSQL made of a set of parameters is remembered.
    for parameters in cases.iter().chain(&cases) {
        let wanted = login(cluster.port(), "alice", parameters);
        let mut client = login(pooler.port(), "alice", parameters);
        assert_eq!(client.parameters, wanted.parameters, "{parameters:?}");
        assert_eq!(client.value("select 1"), "1");
        assert_eq!(client.parameters, wanted.parameters, "after a query: {parameters:?}");
    }
}

/// What the pooler itself sends is no reason to suspect a backend.
#[test]
fn settings_of_the_poolers_own_are_not_asked_for() {
    let cluster = Cluster::builder().conf("log_statement = 'all'").start();
    let pooler = start(&cluster, 1, 1);
    let mut client = login(pooler.port(), "alice", &[("application_name", "first"), ("work_mem", "3MB")]);
    for _ in 0..3 {
        assert_eq!(client.value("select 'of the client'"), "of the client");
    }
    let log = cluster.log();
    assert_eq!(log.matches("statement: select 'of the client'").count(), 3, "{log}");
    assert!(!log.contains("RESET") && !log.contains("pg_my_temp_schema"), "{log}");
}

#[test]
fn a_backend_is_kept_when_the_pooler_has_prepared_a_statement_on_it() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, 1, 1);
    let mut client = login(pooler.port(), "alice", &[]);
    client.value("select 1");
    client.query("prepare own as select pg_backend_pid()").unwrap();
    let first = client.value("execute own");
    cluster.terminate_backend(first.parse().unwrap());
    let second = client.value("execute own");
    assert_ne!(first, second);
    assert_eq!(client.value("execute own"), second);
}

#[test]
fn what_postgresql_refuses_is_refused_in_its_words() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, 1, 1);
    let mut innocent = login(pooler.port(), "alice", &[("work_mem", "3MB")]);
    let cases: [Parameters<'_>; 10] = [
        &[("nosuch_setting", "1")],
        &[("options", "-c nosuch_setting=1")],
        &[("DateStyle", "nonsense")],
        &[("statement_timeout", "soon")],
        &[("work_mem", "1")],
        &[("TimeZone", "Nowhere/Land")],
        &[("client_encoding", "klingon")],
        &[("max_connections", "3")],
        &[("log_statement", "all")],
        &[("work_mem", "2MB"), ("nosuch_setting", "1")],
    ];
    for parameters in cases {
        let wanted = try_login(cluster.port(), "alice", parameters).err().unwrap();
        assert_eq!(wanted.severity, "FATAL");
        let given = try_login(pooler.port(), "alice", parameters).err().unwrap();
        assert_eq!(
            (given.severity, given.code, given.message),
            (wanted.severity, wanted.code, wanted.message),
            "{parameters:?}"
        );
        assert_eq!(innocent.value("show work_mem"), "3MB");
    }
    assert_eq!(cluster.backend_pids("alice").len(), 1, "a refused login cost a backend");
    assert_eq!(login(pooler.port(), "alice", &[]).value("show work_mem"), "4MB");
}

#[test]
fn settings_of_the_login_are_in_force_on_every_backend() {
    let cluster = Cluster::start();
    cluster.sql("app", "create schema one authorization alice; create schema \"Two words\" authorization alice");
    let kinds: [(Parameters<'_>, Parameters<'_>); 4] = [
        (
            &[("search_path", "one, public"), ("statement_timeout", "61s"), ("app.x", "it's \\1"), ("work_mem", "1MB")],
            &[("search_path", "one, public"), ("statement_timeout", "61s"), ("app.x", "it's \\1"), ("work_mem", "1MB")],
        ),
        (
            &[(
                "options",
                "-c search_path=\"Two\\ words\",pg_catalog -c statement_timeout=62s --work-mem=2MB -capp.x=",
            )],
            &[
                ("search_path", "\"Two words\",pg_catalog"),
                ("statement_timeout", "62s"),
                ("work_mem", "2MB"),
                ("app.x", ""),
            ],
        ),
        (
            &[("TimeZone", "Asia/Kolkata"), ("application_name", "App"), ("options", "-c application_name=other")],
            &[("timezone", "Asia/Kolkata"), ("application_name", "App"), ("search_path", "\"$user\", public")],
        ),
        (
            &[("application_name", "app"), ("DateStyle", "SQL, DMY"), ("client_encoding", "LATIN1")],
            &[
                ("application_name", "app"),
                ("datestyle", "SQL, DMY"),
                ("client_encoding", "LATIN1"),
                ("work_mem", "4MB"),
                ("statement_timeout", "0"),
            ],
        ),
    ];
    for_each_worker_count(|workers| {
        let pooler = start(&cluster, workers, 1);
        let mut clients: Vec<Raw> =
            kinds.iter().map(|(parameters, _)| login(pooler.port(), "alice", parameters)).collect();
        for round in 0..60 {
            // An order in which each follows each of the others.
            let index = (round * round + round / 4) % clients.len();
            let client = &mut clients[index];
            for (name, wanted) in kinds[index].1 {
                assert_eq!(client.value(&format!("show {name}")), *wanted, "client {index}, {name}, round {round}");
            }
        }
        assert_eq!(cluster.backend_pids("alice").len(), 1);
    });
}

#[test]
fn what_a_session_sets_follows_it_and_shows_nowhere_else() {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let pooler = start(&cluster, workers, 1);
        let mut clients = [(); 3].map(|()| login(pooler.port(), "alice", &[]));
        let values: [Parameters<'_>; 3] = [
            &[("application_name", "App"), ("timezone", "Asia/Tokyo"), ("datestyle", "German, DMY")],
            &[("application_name", "app"), ("client_encoding", "LATIN1"), ("intervalstyle", "iso_8601")],
            &[
                ("application_name", ""),
                ("timezone", "UTC"),
                ("datestyle", "ISO, MDY"),
                ("client_encoding", "UTF8"),
                ("intervalstyle", "postgres"),
            ],
        ];
        for (client, values) in clients.iter_mut().zip(values) {
            for (name, value) in values {
                client.query(&format!("set {name} = '{value}'")).unwrap();
            }
        }
        for round in 0..30 {
            let index = (round * round + round / 3) % 3;
            for (name, wanted) in values[index] {
                assert_eq!(clients[index].value(&format!("show {name}")), *wanted, "client {index}, round {round}");
            }
        }
        // What goes back with its transaction goes back for the next one as well.
        let [first, second, _] = &mut clients;
        first.query("begin; set local timezone = 'Asia/Kolkata'; set application_name = 'gone'").unwrap();
        first.query("rollback").unwrap();
        assert_eq!(second.value("show timezone"), "UTC");
        assert_eq!(
            (first.value("show timezone"), first.value("show application_name")),
            ("Asia/Tokyo".to_owned(), "App".to_owned())
        );
        // Text arrives in the encoding that its client speaks.
        first.query("create table words as select U&'\\00e9' as word").unwrap();
        second.send(&query("select word from words"));
        assert_eq!(second.read_until_ready()[1].body, b"\0\x01\0\0\0\x01\xe9");
        first.send(&query("select word from words"));
        assert_eq!(first.read_until_ready()[1].body, b"\0\x01\0\0\0\x02\xc3\xa9");
        first.query("drop table words").unwrap();
    });
}

/// PostgreSQL does not report these; but the pooler knows that a command of SET's kind may have changed them.
#[test]
fn what_one_session_overrides_is_in_force_for_the_next_one() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, 1, 1);
    let parameters: Parameters<'_> = &[("work_mem", "3MB"), ("app.x", "mine")];
    let mut first = login(pooler.port(), "alice", parameters);
    let mut second = login(pooler.port(), "alice", parameters);
    let mut plain = login(pooler.port(), "alice", &[]);
    for change in [
        "set work_mem = '9MB'",
        "reset all",
        "begin; set app.x = 'other'; commit",
        "begin; set local work_mem = '8MB'; rollback",
        "discard all",
        "reset work_mem",
    ] {
        first.query(change).unwrap();
        assert_eq!((second.value("show work_mem"), second.value("show app.x")), ("3MB".to_owned(), "mine".to_owned()));
        first.query(change).unwrap();
        assert_eq!(plain.value("show work_mem"), "4MB", "{change}");
        assert_eq!(plain.value("select coalesce(current_setting('app.x', true), '')"), "", "{change}");
    }
}

#[test]
fn the_session_authorization_follows_its_session() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, 1, 1);
    let mut lowered = login(pooler.port(), "postgres", &[]);
    let mut root = login(pooler.port(), "postgres", &[("application_name", "root")]);
    lowered.query("set session authorization alice").unwrap();
    for _ in 0..5 {
        assert_eq!(root.value("select session_user || current_user"), "postgrespostgres");
        assert_eq!(root.value("show is_superuser"), "on");
        assert_eq!(lowered.value("select session_user || current_user"), "alicealice");
        assert_eq!(lowered.value("show is_superuser"), "off");
    }
    lowered.query("reset session authorization").unwrap();
    assert_eq!(root.value("select session_user"), "postgres");
    assert_eq!(lowered.value("select session_user"), "postgres");
    assert_eq!(cluster.backend_pids("postgres").len(), 1);
}

/// Bringing a backend in line must not show in the answers, whatever the client's first message is.
#[test]
fn a_change_of_settings_adds_no_message() {
    let cluster = Cluster::start();
    cluster.sql("app", "create table target (x int); grant all on target to public");
    for_each_worker_count(|workers| {
        let pooler = start(&cluster, workers, 1);
        let kinds: [(Parameters<'_>, Parameters<'_>); 2] = [
            // In one flight with the first message; and before it.
            (&[("application_name", "one")], &[("application_name", "two"), ("DateStyle", "German")]),
            (&[("app.x", "1"), ("statement_timeout", "1min")], &[("search_path", "a")]),
        ];
        for (here, there) in kinds {
            let mut direct = login(cluster.port(), "alice", here);
            let mut client = login(pooler.port(), "alice", here);
            let mut other = login(pooler.port(), "alice", there);
            for (flight, count) in flights() {
                assert_eq!(other.value("select 1"), "1");
                direct.send(&flight);
                client.send(&flight);
                for _ in 0..count {
                    let (given, wanted) = (client.read_until_ready(), direct.read_until_ready());
                    assert!(given == wanted, "{here:?}: {given:?} instead of {wanted:?}");
                }
                let parameters = |raw: &Raw| -> BTreeMap<String, String> { raw.parameters.clone() };
                assert_eq!(parameters(&client), parameters(&direct), "{here:?}");
            }
            // Without a Sync yet.
            assert_eq!(other.value("select 1"), "1");
            client.send(&[parse("", "select 1", &[]), flush()].concat());
            assert_eq!(tags(&[client.read()]), "1");
            client.send(&sync());
            assert_eq!(tags(&client.read_until_ready()), "Z");
        }
        eventually(SOON, "one backend is left", || cluster.backend_pids("alice").len() == 1);
    });
}

/// What a turn can begin with, and how many ReadyForQuery answer it.
fn flights() -> Vec<(Vec<u8>, usize)> {
    vec![
        (query("select 1"), 1),
        (query(""), 1),
        (query("selekt"), 1),
        (query("set application_name = 'one'"), 1),
        (query("begin; select 1; commit"), 1),
        (extended("select $1::int", &[Some("1")]), 1),
        (extended("selekt", &[]), 1),
        (sync(), 1),
        ([extended("select 1 / 0", &[]), extended("select 2", &[]), query("select 3")].concat(), 3),
        ([query("copy target from stdin"), copy_data(b"1\n"), copy_done(), query("truncate target")].concat(), 2),
        (
            [
                parse("", "copy target from stdin", &[]),
                bind("", "", &[]),
                execute("", 0),
                copy_data(b"x\n"),
                copy_done(),
                sync(),
            ]
            .concat(),
            1,
        ),
        (query("copy (select 1) to stdout"), 1),
    ]
}

#[test]
fn a_reset_after_each_transaction_costs_the_statements_and_nothing_else() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(
        &cluster,
        1,
        "pool_mode = \"transaction\"\ndefault_pool_size = 1\nserver_reset_query_always = true",
    );
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("prepare one as select 'mine'").unwrap();
    for _ in 0..3 {
        assert_eq!(client.value("execute one"), "mine");
    }
}

#[test]
fn what_a_block_has_set_is_gone_when_its_pin_ends() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "pool_mode = \"transaction\"\ndefault_pool_size = 1\nmax_pinned = 1");
    let mut one = pooler.login("alice", "alicepw", "app");
    let block = "perform pg_advisory_lock(1); perform set_config('app.' || 'tenant', 'A', false);";
    one.query(&format!("do $$ begin {block} end $$")).unwrap();
    assert_eq!(one.value("select current_setting('app.tenant', true)"), "A");
    one.query("select pg_advisory_unlock(1)").unwrap();
    let mut other = pooler.login("alice", "alicepw", "app");
    assert_eq!(other.value("select coalesce(current_setting('app.tenant', true), '')"), "");
}
