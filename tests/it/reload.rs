//! RELOAD: all or nothing, and nothing is touched that did not change.

use std::{fs, time::Duration};

use crate::support::{Cluster, Pooler, Raw, Table, eventually, for_each_worker_count, messages, settings};

const SOON: Duration = Duration::from_secs(5);

/// Writes the file and has the console read it.
fn reload(pooler: &Pooler, cluster: &Cluster, workers: usize, overrides: &str) {
    let overrides = format!("[pgpool]\nworker_threads = {workers}\nauth_type = \"trust\"\n{overrides}");
    fs::write(pooler.settings_file(), settings::file_for(cluster, pooler.dir(), &overrides)).unwrap();
    pooler.console().query("RELOAD").unwrap();
}

fn entry(name: &str, cluster: &Cluster) -> String {
    format!("[databases.{name}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.port())
}

fn config(console: &mut Raw, key: &str) -> String {
    Table::of(console, "SHOW CONFIG").matching(&[("key", key)]).value("value")
}

#[test]
fn a_file_with_errors_changes_nothing_and_each_is_named() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 7");
        let mut client = pooler.login("alice", "alicepw", "app");
        let pid = client.value("select pg_backend_pid()");
        let good = fs::read_to_string(pooler.settings_file()).unwrap();
        let bad = good
            .replace("default_pool_size = 7", "default_pool_size = 3\nmin_pool_sise = 2\nquery_timeout = \"often\"");
        assert_ne!(good, bad);
        fs::write(pooler.settings_file(), format!("{bad}\n[databases.new]\nhost = 5\n")).unwrap();
        let mut console = pooler.console();
        let error = console.query("RELOAD").unwrap_err();
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("ERROR", "F0000", "RELOAD failed, nothing was changed"));
        let detail = error.detail.unwrap();
        for problem in ["min_pool_sise", "min_pool_size", "query_timeout", "databases.new"] {
            assert!(detail.contains(problem), "{problem} is not in: {detail}");
        }
        assert_eq!(config(&mut console, "default_pool_size"), "7");
        assert_eq!(client.value("select pg_backend_pid()"), pid);
        assert_eq!(Raw::try_login(pooler.port(), "alice", "alicepw", "new").err().unwrap().code, "3D000");
        // A signal can only log it.
        let mark = pooler.log_len();
        pooler.signal(crate::support::process::Signal::HUP);
        let line = pooler.wait_for_log_since(mark, "reload failed, nothing was changed", SOON);
        assert!(line.contains("ERROR"), "{line}");
        assert_eq!(config(&mut console, "default_pool_size"), "7");
        fs::write(pooler.settings_file(), good.replace("default_pool_size = 7", "default_pool_size = 3")).unwrap();
        console.query("RELOAD").unwrap();
        assert_eq!(config(&mut console, "default_pool_size"), "3");
    });
}

#[test]
fn unchanged_pools_keep_their_backends_and_new_sizes_apply() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut other = pooler.login("alice", "alicepw", "app");
        let pid = client.value("select pg_backend_pid()");
        reload(&pooler, &cluster, workers, "default_pool_size = 1\nquery_wait_timeout = 30");
        assert_eq!(client.value("select pg_backend_pid()"), pid);
        client.query("begin").unwrap();
        other.send(&messages::query("select 1"));
        assert!(other.is_silent_for(Duration::from_millis(300)));
        // The client that waits already gets the backend for which there is room now.
        reload(&pooler, &cluster, workers, "default_pool_size = 2");
        other.read_until_ready();
        assert_eq!(cluster.backend_pids("alice").len(), 2);
        client.query("commit").unwrap();
        reload(&pooler, &cluster, workers, "default_pool_size = 1");
        eventually(SOON, "the surplus is closed", || cluster.backend_pids("alice").len() == 1);
        assert_eq!(client.value("select 1"), "1");
    });
}

#[test]
fn users_and_passwords_apply_to_new_logins() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let users = |alice: &str, more: &str| {
            format!("[databases.app]\nuser = \"postgres\"\n[users.alice]\npassword = \"{alice}\"\n{more}")
        };
        let pooler = Pooler::with_workers(&cluster, workers, &users("old", ""));
        let mut client = pooler.login("alice", "old", "app");
        assert_eq!(Raw::try_login(pooler.port(), "dave", "davepw", "app").err().unwrap().code, "28P01");
        let overrides =
            format!("[pgpool]\nworker_threads = {workers}\n{}", users("new", "[users.dave]\npassword = \"davepw\"\n"));
        let mark = pooler.reload(&cluster, &overrides);
        pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
        pooler.login("alice", "new", "app");
        pooler.login("dave", "davepw", "app");
        assert_eq!(Raw::try_login(pooler.port(), "alice", "old", "app").err().unwrap().code, "28P01");
        assert_eq!(client.value("select 'was in already'"), "was in already");
    });
}

#[test]
fn a_changed_backend_password_heals_a_pool_at_once() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = |password: &str| format!("server_login_retry = 60\n[users.alice]\npassword = \"{password}\"");
        let pooler = Pooler::trusting(&cluster, workers, &settings("outdated"));
        assert_eq!(Raw::try_login(pooler.port(), "alice", "", "app").err().unwrap().code, "28P01");
        reload(&pooler, &cluster, workers, &settings("alicepw"));
        assert_eq!(pooler.login("alice", "", "app").value("select current_user"), "alice");
    });
}

#[test]
fn a_moved_database_is_followed_as_backends_are_released() {
    for_each_worker_count(|workers| {
        let (here, there) = (Cluster::start(), Cluster::start());
        let pooler = Pooler::trusting(&here, workers, "");
        let mut busy = pooler.login("alice", "alicepw", "app");
        let mut idle = pooler.login("alice", "alicepw", "app");
        let port = |client: &mut Raw| client.value("select inet_server_port()");
        busy.query("begin").unwrap();
        assert_eq!(port(&mut busy), here.port().to_string());
        assert_eq!(port(&mut idle), here.port().to_string());
        reload(&pooler, &here, workers, &entry("app", &there));
        assert_eq!(port(&mut busy), here.port().to_string(), "in the middle of a transaction");
        assert_eq!(port(&mut idle), there.port().to_string());
        busy.query("commit").unwrap();
        assert_eq!(port(&mut busy), there.port().to_string());
        eventually(SOON, "nothing is left there", || here.backend_pids("alice").is_empty());
    });
}

/// An entry `app` that forces this user, whom PostgreSQL trusts.
fn forcing(cluster: &Cluster, user: &str) -> String {
    let entry = entry("app", cluster);
    format!("default_pool_size = 2\n{entry}user = \"{user}\"\npool_mode = \"transaction\"\n")
}

#[test]
fn a_changed_forced_user_reaches_those_who_are_connected() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("app", "alter role trusty set lock_timeout = '7s'; alter role postgres set lock_timeout = '8s'");
        let pooler = Pooler::trusting(&cluster, workers, &forcing(&cluster, "trusty"));
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut busy = pooler.login("bob", "bobpw", "app");
        let mut pinned = pooler.login("carol", "carolpw", "app");
        let who = "select current_user || ' ' || session_user";
        assert_eq!(client.value(who), "trusty trusty");
        assert_eq!(client.parameters["session_authorization"], "trusty");
        client
            .query("set TimeZone = 'Asia/Tokyo'; set work_mem = '7MB'; listen news; prepare mine as select 42")
            .unwrap();
        client.send(&[messages::parse("named", "select current_user, $1::int", &[]), messages::sync()].concat());
        client.read_until_ready();
        busy.query("begin").unwrap();
        pinned.query("create temp table t as select 1").unwrap();

        reload(&pooler, &cluster, workers, &forcing(&cluster, "postgres"));
        // Who is within a transaction, or keeps a connection, is left alone.
        assert_eq!(busy.value(who), "trusty trusty");
        busy.query("commit").unwrap();
        assert_eq!(pinned.value(who), "trusty trusty");
        client.send(&messages::query(who));
        let answer = client.read_until_ready();
        let told: Vec<_> = answer.iter().filter(|message| message.tag == b'S').collect();
        assert!(told.iter().any(|message| message.body == b"session_authorization\0postgres\0"), "{answer:?}");
        assert!(told.iter().any(|message| message.body == b"is_superuser\0on\0"), "{answer:?}");
        for client in [&mut client, &mut busy] {
            assert_eq!(client.value(who), "postgres postgres");
            assert_eq!(client.value("show lock_timeout"), "8s");
        }
        // What is its own came along.
        assert_eq!(
            client.value("select current_setting('TimeZone') || ' ' || current_setting('work_mem')"),
            "Asia/Tokyo 7MB"
        );
        assert_eq!(client.value("execute mine"), "42");
        client.send(&[messages::bind("", "named", &[Some("5")]), messages::execute("", 0), messages::sync()].concat());
        let answer = client.read_until_ready();
        assert!(answer.iter().any(|message| message.tag == b'D'), "{answer:?}");
        // The connection that listens is replaced as well, of which a client is told.
        eventually(SOON, "it still hears", || {
            busy.query("notify news").unwrap();
            while !client.is_silent_for(Duration::from_millis(200)) {
                if client.read().tag == b'A' {
                    return true;
                }
            }
            false
        });
        client.query("reset TimeZone; set role alice").unwrap();
        assert_eq!(client.value(who), "alice postgres");

        pinned.query("drop table t").unwrap();
        assert_eq!(pinned.value(who), "postgres postgres");
        eventually(SOON, "nobody is left there", || cluster.backend_pids("trusty").is_empty());
        // The former user may go, and somebody new comes to the same pool.
        assert_eq!(pooler.login("alice", "alicepw", "app").value(who), "postgres postgres");
        eventually(Duration::from_secs(15), "the former pool is forgotten", || {
            let pools = Table::of(&mut pooler.console(), "SHOW POOLS");
            pools.matching(&[("database", "app"), ("user", "trusty")]).rows.is_empty()
        });
        let pools = Table::of(&mut pooler.console(), "SHOW POOLS").matching(&[("database", "app")]);
        assert_eq!(pools.column("user"), ["postgres"]);
    });
}

#[test]
fn who_waits_for_a_user_who_may_not_come_in_any_more_gets_the_new_one() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &forcing(&cluster, "trusty"));
        let mut client = pooler.login("alice", "alicepw", "app");
        assert_eq!(client.value("select current_user"), "trusty");
        pooler.console().query("pause app").unwrap();
        client.send(&messages::query("select current_user"));
        assert!(client.is_silent_for(Duration::from_millis(300)));
        cluster.sql("app", "alter role trusty nologin");
        reload(&pooler, &cluster, workers, &forcing(&cluster, "postgres"));
        pooler.console().query("resume app").unwrap();
        assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some("postgres".to_owned())]);
        client.read_until_ready();
    });
}

#[test]
fn a_session_keeps_its_connection_when_another_user_is_forced() {
    let cluster = Cluster::start();
    let forcing = |user: &str| forcing(&cluster, user).replace("transaction", "session");
    let pooler = Pooler::trusting(&cluster, 1, &forcing("trusty"));
    let mut holds = pooler.login("alice", "alicepw", "app");
    let mut fresh = pooler.login("bob", "bobpw", "app");
    assert_eq!(holds.value("select current_user"), "trusty");
    reload(&pooler, &cluster, 1, &forcing("postgres"));
    assert_eq!(holds.value("select current_user"), "trusty");
    assert_eq!(fresh.value("select current_user"), "postgres", "it had none yet");
}

#[test]
fn a_removed_database_sends_its_clients_away() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &entry("extra", &cluster));
        let mut gone = pooler.login("alice", "alicepw", "extra");
        let mut stays = pooler.login("alice", "alicepw", "app");
        gone.query("begin").unwrap();
        stays.query("select 1").unwrap();
        assert_eq!(cluster.backend_pids("alice").len(), 2);
        reload(&pooler, &cluster, workers, "");
        let error = gone.expect_error();
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "57P01", "database removed"));
        gone.expect_eof();
        assert_eq!(stays.value("select 'stays'"), "stays");
        eventually(SOON, "its backend is closed", || cluster.backend_pids("alice").len() == 1);
        assert_eq!(Raw::try_login(pooler.port(), "alice", "alicepw", "extra").err().unwrap().code, "3D000");
        // It can come back.
        reload(&pooler, &cluster, workers, &entry("extra", &cluster));
        assert_eq!(pooler.login("alice", "alicepw", "extra").value("select 1"), "1");
    });
}

#[test]
fn settings_for_the_start_are_warned_about_and_keep_their_values() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "listen_backlog = 100");
        let mark = pooler.log_len();
        reload(&pooler, &cluster, workers, "listen_backlog = 200\nmax_client_conn = 50");
        let line = pooler.wait_for_log_since(mark, "listen_backlog was changed from 100 to 200", SOON);
        assert!(line.contains("WARN") && line.contains("takes effect only at a restart"), "{line}");
        let mut console = pooler.console();
        assert_eq!(config(&mut console, "listen_backlog"), "100");
        assert_eq!(config(&mut console, "max_client_conn"), "50");
    });
}
