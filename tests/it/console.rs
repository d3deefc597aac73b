//! What the console shows: tables, columns, and exact numbers after a known piece of work; who may look.

use std::process::{Command, Output};
use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, Table, bouncer::Bouncer, eventually, for_each_worker_count, messages};

const SOON: Duration = Duration::from_secs(5);

/// The tables with PgBouncer's columns in PgBouncer's order.
pub(crate) const TABLES: [(&str, &str); 18] = [
    ("VERSION", "version"),
    ("STATE", "key value"),
    ("CONFIG", "key value default changeable"),
    (
        "DATABASES",
        "name host port database force_user pool_size min_pool_size reserve_pool_size server_lifetime pool_mode \
         load_balance_hosts max_connections current_connections max_client_connections current_client_connections \
         paused disabled",
    ),
    (
        "USERS",
        "name pool_size reserve_pool_size pool_mode max_user_connections current_connections \
         max_user_client_connections current_client_connections secret_source",
    ),
    (
        "POOLS",
        "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel \
         sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode load_balance_hosts",
    ),
    ("CLIENTS", SOCKETS),
    ("SERVERS", SOCKETS),
    ("SOCKETS", DEBUGGED),
    ("ACTIVE_SOCKETS", DEBUGGED),
    (
        "FDS",
        "fd task user database addr port cancel link client_encoding std_strings datestyle timezone password \
         scram_client_key scram_server_key",
    ),
    ("MEM", "name size used free memtotal"),
    ("LISTS", "list items"),
    (
        "STATS",
        "database total_server_assignment_count total_xact_count total_query_count total_received total_sent \
         total_xact_time total_query_time total_wait_time total_client_parse_count total_server_parse_count \
         total_bind_count total_client_login_count avg_server_assignment_count avg_xact_count avg_query_count avg_recv \
         avg_sent avg_xact_time avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count \
         avg_bind_count avg_client_login_count",
    ),
    (
        "STATS_TOTALS",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
         wait_time client_parse_count server_parse_count bind_count client_login_count",
    ),
    (
        "STATS_AVERAGES",
        "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time \
         wait_time avg_client_parse_count avg_server_parse_count avg_bind_count avg_client_login_count",
    ),
    ("TOTALS", "name value"),
    ("HELP", ""),
];

const SOCKETS: &str = "type user database replication state addr port local_addr local_port connect_time request_time \
                       wait wait_us close_needed ptr link remote_pid tls application_name prepared_statements id";

const DEBUGGED: &str = "type user database replication state addr port local_addr local_port connect_time \
                        request_time wait wait_us close_needed ptr link remote_pid tls application_name \
                        prepared_statements id recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail";

fn psql(pooler: &Pooler, user: &str, database: &str, sql: &str) -> Output {
    let dsn = pooler.dsn(user, &format!("{user}pw"), database);
    Command::new("psql").args(["-XAw", "-d", &dsn, "-c", sql]).output().expect("start psql")
}

#[test]
fn psql_shows_every_table_with_its_columns() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("select 1").unwrap();
        for database in ["pgpool", "pgbouncer"] {
            for (name, columns) in TABLES {
                let output = psql(&pooler, "postgres", database, &format!("SHOW {name};"));
                assert!(output.status.success(), "{name}: {output:?}");
                let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                if name == "HELP" {
                    assert!(err.starts_with("NOTICE:") && err.contains("DETAIL:") && err.contains("SHOW"), "{err}");
                    continue;
                }
                assert_eq!(out.lines().next().unwrap(), columns.replace(' ', "|"), "{name}");
                assert!(out.lines().count() > 2, "{name} has no rows: {out}");
            }
        }
    });
}

#[tokio::test]
async fn a_driver_reads_the_same_over_the_extended_protocol() {
    let cluster = Cluster::start();
    for workers in [1, 2] {
        let pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("select 1").unwrap();
        for database in ["pgpool", "pgbouncer"] {
            let dsn = pooler.dsn("postgres", "postgrespw", database);
            let (driver, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            for (name, columns) in TABLES {
                let statement = driver.prepare(&format!("SHOW {name}")).await.unwrap();
                let names: Vec<_> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
                assert_eq!(names.join(" "), columns, "{name}");
                let rows = driver.query(&statement, &[]).await.unwrap();
                assert_eq!(rows.is_empty(), name == "HELP", "{name}");
            }
            let pools = driver.query("SHOW POOLS", &[]).await.unwrap();
            let pool = pools.iter().find(|row| row.get::<_, &str>("user") == "alice").unwrap();
            assert_eq!((pool.get::<_, i32>("cl_active"), pool.get::<_, &str>("pool_mode")), (1, "transaction"));
            drop(driver);
            connection.await.unwrap().unwrap();
        }
    }
}

/// What psql and drivers ask a database is answered or refused, and the session goes on.
#[test]
fn what_only_a_database_has_is_refused_softly() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let asked = [
        ("\\l", "ERROR:"),
        ("\\d", "ERROR:"),
        ("\\du", "ERROR:"),
        ("\\df", "ERROR:"),
        ("select * from pg_catalog.pg_settings;", "no tables and no functions"),
        ("\\conninfo", "connected to database \"pgbouncer\""),
        ("\\encoding", "UTF8"),
        ("set client_encoding to 'UTF8';", "SET"),
        ("set extra_float_digits = 3;", "SET ignored"),
        ("show transaction isolation level;", "read committed"),
        ("set session characteristics as transaction isolation level serializable;", "SET ignored"),
        ("set application_name = 'x';", "SET ignored"),
        ("select version();", "PostgreSQL 15.0 (pgpool "),
        ("select current_schema();", "current_schema"),
        ("begin; show state; commit;", "suspended"),
    ];
    for (text, expected) in asked {
        let dsn = pooler.dsn("postgres", "postgrespw", "pgbouncer");
        let output = Command::new("psql").args(["-XAw", "-d", &dsn, "-c", text, "-c", "SHOW LISTS"]).output().unwrap();
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(told.contains(expected), "{text}: {told}");
        assert!(told.contains("used_clients") && output.status.success(), "{text} ends the session: {told}");
    }
}

#[test]
fn descriptors_are_those_of_the_process() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("set timezone to 'Asia/Tokyo'").unwrap();
    client.query("begin").unwrap();
    let fds = Table::of(&mut pooler.console(), "SHOW FDS");
    for fd in fds.column("fd") {
        let link = std::fs::read_link(format!("/proc/{}/fd/{fd}", pooler.pid())).unwrap();
        assert!(link.to_string_lossy().starts_with("socket:"), "{fd}: {link:?}");
    }
    let (client, server) = (fds.matching(&[("task", "client")]), fds.matching(&[("task", "server")]));
    assert_eq!((client.value("fd"), server.value("fd")), (server.value("link"), client.value("link")));
    assert_eq!((client.value("timezone").as_str(), client.value("std_strings").as_str()), ("Asia/Tokyo", "on"));
    assert_eq!(fds.matching(&[("task", "pooler")]).column("addr"), ["127.0.0.1", "unix"]);
}

#[test]
fn numbers_after_known_work_are_exact() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 3");
        let mut console = pooler.console();
        let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        for _ in 0..5 {
            clients[0].query("select 1").unwrap();
        }
        for sql in ["begin", "select 1", "select 2", "commit"] {
            clients[1].query(sql).unwrap();
        }
        clients[2].query_extended("select $1::int", &[Some("1")]).unwrap();
        let stats = ["xact_count", "query_count", "server_assignment_count", "client_login_count", "bind_count"];
        let expected = [7, 10, 7, 3, 0];
        let mut seen = [0; 5];
        let totals = |console: &mut Raw| {
            let table = Table::of(console, "SHOW STATS_TOTALS").matching(&[("database", "app")]);
            stats.map(|name| table.number(name))
        };
        eventually(SOON, "all is counted", || {
            seen = totals(&mut console);
            seen[1] >= expected[1]
        });
        assert_eq!(seen, expected, "{stats:?}");
        let table = Table::of(&mut console, "SHOW STATS").matching(&[("database", "app")]);
        assert_eq!(stats.map(|name| table.number(&format!("total_{name}"))), expected);
        assert!(table.number("total_received") > 100 && table.number("total_sent") > table.number("total_received"));

        clients[0].query("begin").unwrap();
        clients[1].query("begin").unwrap();
        clients[2].send(&messages::query("select pg_sleep(20)"));
        let mut fourth = pooler.login("alice", "alicepw", "app");
        fourth.send(&messages::query("select 4"));
        let pool = |console: &mut Raw| {
            let table = Table::of(console, "SHOW POOLS").matching(&[("database", "app"), ("user", "alice")]);
            ["cl_active", "cl_waiting", "sv_active", "sv_idle"].map(|name| table.number(name))
        };
        eventually(SOON, "three are served and one waits", || pool(&mut console) == [3, 1, 3, 0]);
        let states = Table::of(&mut console, "SHOW CLIENTS").matching(&[("user", "alice")]).column("state");
        assert_eq!(states, ["active", "active", "active", "waiting"]);
        let servers = Table::of(&mut console, "SHOW SERVERS").matching(&[("state", "active")]);
        let mut pids: Vec<u32> = servers.column("remote_pid").iter().map(|pid| pid.parse().unwrap()).collect();
        let mut real = cluster.backend_pids("alice");
        pids.sort_unstable();
        real.sort_unstable();
        assert_eq!(pids, real);
        clients[0].query("commit").unwrap();
        fourth.read_until_ready();
        clients[1].query("commit").unwrap();
        eventually(SOON, "two are idle", || pool(&mut console) == [4, 0, 1, 2]);
        let lists = Table::of(&mut console, "SHOW LISTS");
        let items = |name: &str| lists.matching(&[("list", name)]).number("items");
        // As in PgBouncer these count what there is; idle ones are not free.
        let counts = ["databases", "used_clients", "used_servers", "free_servers"].map(items);
        assert_eq!(counts, [2, 5, 3, 0]);
    });
}

/// Two clients have one text, on one backend and then on two, and another that cannot be parsed. What has no name does
/// not count. Answers the Parses of clients, those that PostgreSQL got, and the Binds.
fn prepare(port: u16, console: &mut Raw) -> [u64; 3] {
    let run = |name: &str| [messages::bind("", name, &[]), messages::execute("", 0), messages::sync()].concat();
    let mut clients = [(); 2].map(|()| Raw::login(port, "alice", "alicepw", "app"));
    let mut ask = |client: usize, request: Vec<u8>| {
        let raw: &mut Raw = &mut clients[client];
        raw.send(&request);
        raw.read_until_ready()
    };
    for (client, name) in [(0, "a"), (1, "b")] {
        ask(client, [messages::parse(name, "select 1", &[]), run(name)].concat());
        ask(client, run(name));
        ask(client, messages::extended("select 2", &[]));
    }
    ask(0, messages::query("begin"));
    ask(1, run("b"));
    ask(0, [messages::parse("wrong", "selec", &[]), messages::sync()].concat());
    ask(0, messages::query("rollback"));
    let names = ["client_parse_count", "server_parse_count", "bind_count"];
    let mut counts = || {
        let table = Table::of(console, "SHOW STATS").matching(&[("database", "app")]);
        names.map(|name| table.number(&format!("total_{name}")))
    };
    eventually(SOON, "all is counted", || counts()[2] >= 5);
    counts()
}

#[test]
fn statements_are_counted_as_by_pgbouncer() {
    let cluster = Cluster::start();
    let expected = [3, 3, 5];
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        assert_eq!(prepare(pooler.port(), &mut pooler.console()), expected);
    });
    let Some(bouncer) = Bouncer::start(&cluster, "default_pool_size = 2") else { return };
    let mut console = bouncer.console();
    // Versions before 1.21 have no such columns, and older ones than 1.24 do not follow statements by themselves.
    let columns = Table::of(&mut console, "SHOW STATS").columns;
    if columns.iter().any(|column| column == "total_server_parse_count") {
        assert_eq!(prepare(bouncer.port(), &mut console), expected);
    }
}

#[test]
fn a_long_transaction_is_counted_while_it_lasts() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let (mut console, mut client) = (pooler.console(), pooler.login("alice", "alicepw", "app"));
    client.query("begin").unwrap();
    client.query("select pg_sleep(0.4)").unwrap();
    let table = Table::of(&mut console, "SHOW STATS_TOTALS").matching(&[("database", "app")]);
    let counted = ["server_assignment_count", "query_count", "xact_count"].map(|name| table.number(name));
    assert_eq!(counted, [1, 2, 0]);
    assert!(table.number("query_time") > 300_000, "{table:?}");
}

#[test]
fn what_is_prepared_on_backends_is_counted() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 2");
    let (mut console, mut client) = (pooler.console(), pooler.login("alice", "alicepw", "app"));
    let counted = |console: &mut Raw| {
        let table = Table::of(console, "SHOW STATS_TOTALS").matching(&[("database", "app")]);
        ["client_parse_count", "server_parse_count", "bind_count"].map(|name| table.number(name))
    };
    let mut flight = |messages: &[Vec<u8>]| {
        client.send(&[messages.concat(), messages::sync()].concat());
        client.read_until_ready();
    };
    let run = [messages::bind("", "s", &[]), messages::execute("", 0)];
    flight(&[messages::parse("s", "select 1", &[])]);
    (0..3).for_each(|_| flight(&run));
    assert_eq!(counted(&mut console), [1, 1, 3]);
    // On another backend it is prepared once more.
    let mut holder = pooler.login("alice", "alicepw", "app");
    holder.query("begin").unwrap();
    (0..2).for_each(|_| flight(&run));
    assert_eq!(counted(&mut console), [1, 2, 5]);
}

#[test]
fn those_who_may_only_look_change_nothing() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "stats_users = [\"carol\"]");
        let mut looker = pooler.login("carol", "carolpw", "pgbouncer");
        assert_eq!(Table::of(&mut looker, "SHOW STATE").matching(&[("key", "paused")]).value("value"), "no");
        for command in [
            "PAUSE",
            "RESUME",
            "PAUSE app",
            "DISABLE app",
            "ENABLE app",
            "RECONNECT",
            "KILL app",
            "RELOAD",
            "SHUTDOWN",
            "SET default_pool_size = 1",
        ] {
            let error = looker.query(command).unwrap_err();
            let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
            assert_eq!(told, ("ERROR", "08P01", "admin access needed"), "{command}");
        }
        for database in ["pgpool", "pgbouncer"] {
            let error = Raw::try_login(pooler.port(), "alice", "alicepw", database).err().unwrap();
            assert_eq!((error.severity.as_str(), error.message.as_str()), ("FATAL", "not allowed"));
            assert_eq!(error.code, "42501");
        }
        let error = pooler.console().query("SHOW POOL").unwrap_err();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "08P01"));
        assert!(error.message.contains("use SHOW HELP;"), "{error:?}");
    });
}
