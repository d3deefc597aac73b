//! Settings of PgBouncer's that are small: what each promises, seen from outside.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use crate::support::{
    Cluster, Pooler, Raw, eventually,
    messages::query,
    pooler,
    process::Signal,
    reply::{PgError, tags},
    table::{Table, pool_number},
};

const SOON: Duration = Duration::from_secs(10);

fn trusting(port: u16, parameters: &[(&str, &str)]) -> Raw {
    let mut client = Raw::connect(port);
    client.startup(&[&[("user", "alice"), ("database", "app")], parameters].concat());
    client.authenticate("alice", "alicepw").expect("a login");
    client
}

#[test]
fn simple_queries_can_be_refused() {
    let cluster = Cluster::start();
    for mode in ["session", "transaction"] {
        let pooler = Pooler::trusting(&cluster, 1, &format!("pool_mode = \"{mode}\"\ndisable_pqexec = true"));
        let mut client = trusting(pooler.port(), &[]);
        assert_eq!(client.query_extended("select 1", &[]).unwrap().len(), 1);
        client.send(&query("select 2"));
        let PgError { severity, message, .. } = client.expect_error();
        assert_eq!((severity.as_str(), message.as_str()), ("FATAL", "PQexec disallowed"));
        client.expect_eof();
        // The console's are no concern of PostgreSQL's.
        assert!(!Table::of(&mut pooler.console(), "show pools").column("database").is_empty());
    }
}

#[test]
fn a_client_is_told_something_at_its_login() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "login_notify_message = \"maintenance at noon\"");
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app")]);
    let welcome = client.read_until_ready();
    assert!(tags(&welcome).ends_with("KNZ"), "{}", tags(&welcome));
    let notice = welcome.iter().find(|message| message.tag == b'N').unwrap();
    assert!(notice.body.windows(19).any(|part| part == b"maintenance at noon"), "{notice:?}");
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn an_application_name_tells_the_clients_address() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "application_name_add_host = true\ndefault_pool_size = 1");
    let shown = |client: &mut Raw| client.value("show application_name");
    let (mut shop, mut other) =
        (trusting(pooler.port(), &[("application_name", "shop")]), trusting(pooler.port(), &[]));
    for client in [&mut shop, &mut other] {
        let name = shown(client);
        let (name, host) = name.split_once(" - 127.0.0.1:").unwrap_or_else(|| panic!("{name}"));
        assert!(["shop", "app"].contains(&name) && host.parse::<u16>().is_ok(), "{name} {host}");
    }
    assert_ne!(shown(&mut shop), shown(&mut other));
    let long = "x".repeat(100);
    let mut client = trusting(pooler.port(), &[("application_name", &long)]);
    let name = shown(&mut client);
    assert!(name.len() == 63 && name.contains("x - 127.0.0.1:"), "{name}");
    assert_eq!(client.parameters.get("application_name"), Some(&name));
}

#[test]
fn a_connection_is_opened_with_a_query() {
    let cluster = Cluster::start();
    let settings = "[databases.app]\nconnect_query = \"set lock_timeout = '7s'\"\n[databases.odd]\nhost = \"127.0.0.1\"\n\
                    dbname = \"app\"\nconnect_query = \"select no_such_function()\"";
    let odd = format!("{settings}\nport = {}", cluster.port());
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nauth_type = \"trust\"\n{odd}"));
    assert_eq!(trusting(pooler.port(), &[]).value("show lock_timeout"), "7s");
    assert_eq!(Raw::login(pooler.port(), "alice", "alicepw", "odd").value("select 1"), "1");
    eventually(SOON, "the log has the error", || pooler.log().contains("connect_query failed"));
}

#[test]
fn a_query_for_new_connections_may_be_anything() {
    let cluster = Cluster::start();
    let notice = "do $$ begin raise notice 'hello'; end $$; listen news; notify news, 'own'";
    let queries = [
        ("out", "copy (select generate_series(1, 9000)) to stdout", ""),
        ("in", "create temp table t (x int); copy t from stdin", "the pooler has no data"),
        ("both", "copy (select 1) to stdout; copy pg_class from stdin; select 1", "connect_query failed"),
        ("words", notice, ""),
    ];
    for (name, query, said) in queries {
        let entry = format!(
            "[databases.{name}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\nconnect_query = \"{query}\"",
            cluster.port()
        );
        let pooler = Pooler::trusting(&cluster, 1, &entry);
        let mut client = Raw::login(pooler.port(), "alice", "alicepw", name);
        assert_eq!([client.value("select 1"), client.value("select 2")], ["1", "2"], "{name}");
        let log = pooler.log();
        assert_eq!(log.contains("connect_query failed"), !said.is_empty(), "{name}: {log}");
        assert!(log.contains(said), "{name}: {log}");
    }
}

#[test]
fn pools_that_nobody_uses_are_forgotten() {
    let cluster = Cluster::start();
    let star = format!("[databases.\"*\"]\nhost = \"127.0.0.1\"\nport = {}", cluster.port());
    let times = [("autodb_idle_timeout = 0.1", true, false), ("pool_idle_timeout = 0.1", true, true)];
    for (setting, made_up, entry) in times {
        let pooler = Pooler::trusting(&cluster, 1, &format!("server_idle_timeout = 0.1\n{setting}\n{star}"));
        drop(trusting(pooler.port(), &[]).value("select 1"));
        drop(Raw::login(pooler.port(), "alice", "alicepw", "postgres").value("select 1"));
        let mut console = pooler.console();
        let mut there = |database: &str| {
            let pools = Table::of(&mut console, "show pools").column("database");
            pools.iter().any(|name| name == database)
        };
        eventually(SOON, "the made up pool goes", || there("postgres") != made_up);
        if entry {
            eventually(SOON, "the pool of the entry goes", || !there("app"));
        } else {
            assert!(there("app"));
            assert_eq!(pool_number(&mut pooler.console(), "app", "alice", "cl_active"), 0);
        }
    }
}

#[test]
fn the_sockets_file_has_its_group() {
    let cluster = Cluster::start();
    let own = fs::metadata(Pooler::start(&cluster, "").dir()).unwrap().gid();
    let settings = format!("[pgpool]\nunix_socket_group = \"{own}\"\nunix_socket_mode = \"0770\"");
    let pooler = Pooler::start(&cluster, &settings);
    let file = fs::metadata(pooler.socket()).unwrap();
    assert_eq!((file.gid(), file.permissions().mode() & 0o777), (own, 0o770));
}

#[test]
fn the_log_is_a_file_too_and_is_made_anew() {
    let cluster = Cluster::start();
    let mut pooler =
        Pooler::start(&cluster, "[pgpool]\nauth_type = \"trust\"\nlogfile = \"pgpool.log\"\npidfile = \"pgpool.pid\"");
    let file = |name: &str| fs::read_to_string(pooler.dir().join(name)).unwrap_or_default();
    assert!(file("pgpool.log").contains("pgpool is ready") && pooler.log().contains("pgpool is ready"));
    assert_eq!(file("pgpool.pid"), format!("{}\n", pooler.pid()));
    fs::rename(pooler.dir().join("pgpool.log"), pooler.dir().join("pgpool.log.1")).unwrap();
    eventually(SOON, "lines go to a new file", || {
        drop(trusting(pooler.port(), &[]));
        file("pgpool.log").contains("alice")
    });
    // Another one that would write the same file does not start while this one runs.
    let second = pooler.dir().join("second.toml");
    fs::write(&second, "[pgpool]\nlisten_port = 0\nunix_socket_dir = \"\"\npidfile = \"pgpool.pid\"\n").unwrap();
    let refused = pooler::run(&[second.to_str().unwrap()], SOON);
    assert!(refused.stderr.contains("which is running"), "{refused:?}");
    let pidfile = pooler.dir().join("pgpool.pid");
    pooler.signal(Signal::QUIT);
    pooler.wait_exit(SOON);
    assert!(!pidfile.exists());
}

#[test]
fn two_processes_share_a_port() {
    let cluster = Cluster::start();
    let start = |settings: &str| Pooler::trusting(&cluster, 1, settings);
    let one = start("so_reuseport = true");
    let other = start(&format!("so_reuseport = true\nlisten_port = {}", one.port()));
    assert_eq!(one.port(), other.port());
    eventually(SOON, "both are chosen by the system", || {
        assert_eq!(trusting(one.port(), &[]).value("select 1"), "1");
        [&one, &other].iter().all(|pooler| pooler.log().contains("login succeeded"))
    });
    assert!(one.log().contains("a cancel request may come to another process"));
}

#[test]
fn a_connection_that_is_to_be_replaced_ends_with_its_session() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "pool_mode = \"session\"\nserver_fast_close = true");
    let (mut idle, mut busy) = (trusting(pooler.port(), &[]), trusting(pooler.port(), &[]));
    assert_eq!(idle.value("select 1"), "1");
    busy.query("begin").unwrap();
    pooler.console().query("RECONNECT").unwrap();
    let error = idle.expect_error();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("57P01", "database configuration changed"));
    assert_eq!(busy.value("select 2"), "2");
    busy.query("commit").unwrap();
    assert_eq!(busy.expect_error().message, "database configuration changed");
    // A backend of today is nobody's end.
    let mut fresh = trusting(pooler.port(), &[]);
    assert_eq!(fresh.value("select 3"), "3");
    assert!(fresh.is_silent_for(Duration::from_millis(700)));
}

/// As PgBouncer: SET names the file of the next RELOAD, and of those that follow.
#[test]
fn a_reload_may_read_another_file() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 3");
    let mut console = pooler.console();
    let value = |console: &mut Raw, key: &str| {
        Table::of(console, "SHOW CONFIG").matching(&[("key", key)]).column("value").remove(0)
    };
    let first = value(&mut console, "conffile");
    let text = fs::read_to_string(&first).unwrap();
    let other = std::path::Path::new(&first).with_file_name("other.toml");
    fs::write(&other, text.replace("default_pool_size = 3", "default_pool_size = 4")).unwrap();
    console.query(&format!("SET conffile = '{}'", other.display())).unwrap();
    assert_eq!(value(&mut console, "default_pool_size"), "3");
    console.query("RELOAD").unwrap();
    assert_eq!(
        (value(&mut console, "default_pool_size"), value(&mut console, "conffile").as_str()),
        ("4".to_owned(), other.to_str().unwrap())
    );
    fs::write(&other, text.replace("default_pool_size = 3", "default_pool_size = 5")).unwrap();
    console.query("RELOAD").unwrap();
    assert_eq!(value(&mut console, "default_pool_size"), "5");
    // One that is not there changes nothing.
    console.query("SET conffile = '/nonexistent/pgpool.toml'").unwrap();
    let error = console.query("RELOAD").unwrap_err();
    assert!(error.detail.as_ref().unwrap().contains("/nonexistent/pgpool.toml: cannot read the file"), "{error:?}");
    assert_eq!(value(&mut console, "default_pool_size"), "5");
}

#[test]
fn who_sets_what_has_no_effect_is_told_so() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let mut console = pooler.console();
    console.send(&query("SET sbuf_loopcnt = 7"));
    let answer = console.read_until_ready();
    assert_eq!(tags(&answer), "NCZ");
    assert!(answer[0].body.windows(13).any(|part| part == b"has no effect"), "{answer:?}");
    assert_eq!(Table::of(&mut console, "SHOW CONFIG").matching(&[("key", "sbuf_loopcnt")]).column("value"), ["7"]);
}

/// Who says nothing is not accepted, and nobody waits for him; who says something is served at once.
#[test]
fn silent_connections_can_be_left_to_the_system() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "client_login_timeout = 1\nmax_client_conn_per_ip = 3");
    let mut console = pooler.console_unix();
    let hears = |mut silent: Raw| !silent.is_silent_for(Duration::from_secs(3));
    assert!(hears(Raw::connect(pooler.port())), "it is accepted, and its time is over");
    console.query("SET tcp_defer_accept = 1").unwrap();
    let silent: Vec<Raw> = (0..4).map(|_| Raw::connect(pooler.port())).collect();
    assert_eq!(trusting(pooler.port(), &[]).value("select 1"), "1", "none of them counts");
    assert!(!hears(silent.into_iter().next().unwrap()), "it was accepted");
    console.query("SET tcp_defer_accept = 0").unwrap();
    assert!(hears(Raw::connect(pooler.port())), "it is not accepted any more");
}

/// With `options` among what is to be ignored, `options` has only what PgBouncer follows.
#[test]
fn options_can_be_reduced_to_what_pgbouncer_follows() {
    let cluster = Cluster::start();
    let options = "-c endpoint=x -c work_mem=2MB -c timezone=America/Caracas -c search_path=a";
    let settings = "ignore_startup_parameters = [\"options\"]\ntrack_extra_parameters = [\"search_path\"]";
    let pooler = Pooler::trusting(&cluster, 1, settings);
    let mut client = trusting(pooler.port(), &[("options", options), ("lock_timeout", "7s")]);
    let shown = "select concat_ws(' ', current_setting('timezone'), current_setting('work_mem'), \
                 current_setting('search_path'), current_setting('lock_timeout'))";
    assert_eq!(client.value(shown), "America/Caracas 4MB a 7s");
    let plain = Pooler::trusting(&cluster, 1, "");
    let mut client = trusting(plain.port(), &[("options", "-c work_mem=2MB")]);
    assert_eq!(client.value("show work_mem"), "2MB");
}

/// What SHOW tells of somebody whose query runs.
#[test]
fn who_runs_what_is_shown_as_pgbouncer_does() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 1");
    let mut console = pooler.console();
    let mut client = trusting(pooler.port(), &[("application_name", "worker")]);
    let mut waiter = trusting(pooler.port(), &[]);
    client.send(&query("select pg_sleep(1.2)"));
    eventually(SOON, "it runs", || pool_number(&mut console, "app", "alice", "sv_active") == 1);
    waiter.send(&query("select pg_sleep(0)"));
    eventually(SOON, "it has run for a second", || {
        let wait = Table::of(&mut console, "SHOW CLIENTS").matching(&[("application_name", "worker")]).column("wait");
        wait == ["1"]
    });
    assert_eq!(Table::of(&mut console, "SHOW SERVERS").column("application_name"), ["worker"]);
    let users = Table::of(&mut console, "SHOW USERS").matching(&[("name", "postgres")]);
    assert_eq!(users.column("current_client_connections"), ["1"]);
    let id =
        Table::of(&mut console, "SHOW CLIENTS").matching(&[("application_name", "worker")]).column("ptr").remove(0);
    client.read_until_ready();
    waiter.read_until_ready();
    // The second has waited for the first, and that is part of its query; of the console's own bytes nothing counts.
    let stats = Table::of(&mut console, "SHOW STATS");
    let number = |database: &str, name: &str| stats.matching(&[("database", database)]).number(name);
    assert!(number("app", "total_query_time") > 1_900_000, "{stats:?}");
    assert_eq!(number("pgbouncer", "total_received") + number("pgbouncer", "total_sent"), 0);
    console.query(&format!("KILL_CLIENT {id}")).unwrap();
    assert_eq!(client.expect_error().message, "admin forced disconnect");
    let error = console.query("PAUSE \"*\"").unwrap_err();
    assert_eq!(error.message, "no such database: *");
}
