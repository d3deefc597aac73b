//! What the console does: PAUSE and its kin, seen from clients and from PostgreSQL.

use std::{thread, time::Duration};

use crate::support::{Cluster, Pooler, Raw, Table, eventually, for_each_worker_count, messages, pool_number};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(300);

/// One more entry for the same database.
fn other(cluster: &Cluster) -> String {
    format!("[databases.other]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"", cluster.port())
}

fn refusal(console: &mut Raw, command: &str) -> String {
    let error = console.query(command).unwrap_err();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "08P01"), "{error:?}");
    error.message
}

fn row(client: &mut Raw) -> Option<String> {
    let row = client.read_until(b'D').pop().unwrap().row().remove(0);
    client.read_until_ready();
    row
}

#[test]
fn pause_waits_for_transactions_and_holds_new_queries() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for database in ["", " app"] {
            let pooler = Pooler::trusting(&cluster, workers, &other(&cluster));
            let mut console = pooler.console();
            let mut running = pooler.login("alice", "alicepw", "app");
            let mut idle = pooler.login("alice", "alicepw", "app");
            let mut elsewhere = pooler.login("alice", "alicepw", "other");
            elsewhere.query("select 1").unwrap();
            running.query("begin").unwrap();
            let mut pausing = pooler.console();
            pausing.send(&messages::query(&format!("PAUSE{database}")));
            assert!(pausing.is_silent_for(A_WHILE), "it did not wait for the transaction");
            idle.send(&messages::query("select 'late'"));
            assert!(idle.is_silent_for(A_WHILE));
            assert_eq!(running.value("select 'goes on'"), "goes on");
            running.query("commit").unwrap();
            let tags: Vec<_> = pausing.read_until_ready().iter().map(|message| message.tag).collect();
            assert_eq!(tags, *b"CZ");
            assert_eq!(pool_number(&mut console, "app", "alice", "sv_idle"), 0);
            let state = Table::of(&mut console, "SHOW STATE").matching(&[("key", "paused")]).value("value");
            let paused = Table::of(&mut console, "SHOW DATABASES").matching(&[("name", "app")]).value("paused");
            if database.is_empty() {
                assert_eq!(
                    (state.as_str(), refusal(&mut console, "PAUSE").as_str()),
                    ("yes", "already suspended/paused")
                );
                elsewhere.send(&messages::query("select 'held'"));
                assert!(elsewhere.is_silent_for(A_WHILE));
                assert!(cluster.backend_pids("alice").is_empty());
            } else {
                assert_eq!((state.as_str(), paused.as_str()), ("no", "1"));
                elsewhere.send(&messages::query("select 'held'"));
            }
            running.send(&messages::query("select 'later'"));
            console.query(&format!("RESUME{database}")).unwrap();
            assert_eq!(row(&mut elsewhere).as_deref(), Some("held"));
            assert_eq!(row(&mut idle).as_deref(), Some("late"));
            assert_eq!(row(&mut running).as_deref(), Some("later"));
            let again = refusal(&mut console, &format!("RESUME{database}"));
            let expected =
                if database.is_empty() { "pooler is not paused/suspended" } else { "database app is not paused" };
            assert_eq!(again, expected);
        }
    });
}

/// Ctrl-C in psql is a cancel request with the key of its session.
#[test]
fn a_cancel_request_takes_back_what_waits() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut watching = pooler.console();
        let mut console = pooler.console();
        let key = console.backend_key.clone().unwrap();
        client.query("begin").unwrap();
        watching.query("RECONNECT").unwrap();
        for command in ["WAIT_CLOSE", "WAIT_CLOSE app", "PAUSE app", "PAUSE"] {
            console.send(&messages::query(command));
            assert!(console.is_silent_for(A_WHILE), "{command} does not wait");
            Raw::cancel(pooler.port(), &key);
            let error = console.expect_error();
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "57014"), "{command}");
            console.read_until_ready();
            let state = Table::of(&mut watching, "SHOW STATE").matching(&[("key", "active")]).value("value");
            let paused = Table::of(&mut watching, "SHOW DATABASES").matching(&[("name", "app")]).number("paused");
            assert_eq!((state.as_str(), paused), ("yes", 0), "{command} is in force");
        }
        // One that comes late has nothing to cancel.
        Raw::cancel(pooler.port(), &key);
        console.query("SHOW STATE").unwrap();
        console.send(&messages::query("WAIT_CLOSE"));
        client.query("commit").unwrap();
        assert_eq!(console.read().command(), "WAIT_CLOSE");
    });
}

#[test]
fn disable_refuses_new_clients_only() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &other(&cluster));
        let mut console = pooler.console();
        let mut client = pooler.login("alice", "alicepw", "app");
        console.query("DISABLE app").unwrap();
        let error = Raw::try_login(pooler.port(), "alice", "alicepw", "app").err().unwrap();
        let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
        assert_eq!(told, ("FATAL", "57P03", "database \"app\" is disabled"));
        assert_eq!(client.value("select 1"), "1");
        pooler.login("alice", "alicepw", "other");
        assert_eq!(Table::of(&mut console, "SHOW DATABASES").matching(&[("name", "app")]).number("disabled"), 1);
        console.query("ENABLE app").unwrap();
        pooler.login("alice", "alicepw", "app");
        assert_eq!(refusal(&mut console, "DISABLE nosuch"), "no such database: nosuch");
    });
}

#[test]
fn reconnect_renews_backends_as_they_are_released() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        let mut console = pooler.console();
        let mut busy = pooler.login("alice", "alicepw", "app");
        let mut idle = pooler.login("alice", "alicepw", "app");
        busy.query("begin").unwrap();
        let kept = busy.value("select pg_backend_pid()");
        let shelved = idle.value("select pg_backend_pid()");
        console.query("RECONNECT").unwrap();
        assert_eq!(busy.value("select pg_backend_pid()"), kept, "a transaction was cut off");
        let new = idle.value("select pg_backend_pid()");
        assert!(new != shelved && new != kept);
        let old = Table::of(&mut console, "SHOW SERVERS").matching(&[("close_needed", "1")]).column("remote_pid");
        assert_eq!(old, [kept]);
        busy.query("commit").unwrap();
        console.query("WAIT_CLOSE").unwrap();
        eventually(SOON, "the old ones are gone", || cluster.backend_pids("alice") == [new.parse::<u32>().unwrap()]);
    });
}

#[test]
fn kill_sends_clients_away_and_leaves_the_database_paused() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for command in ["KILL app", "KILL"] {
            let pooler = Pooler::trusting(&cluster, workers, &other(&cluster));
            let mut console = pooler.console();
            let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
            let mut elsewhere = pooler.login("alice", "alicepw", "other");
            clients[0].query("begin").unwrap();
            clients[1].send(&messages::query("select pg_sleep(20)"));
            eventually(SOON, "it runs", || pool_number(&mut console, "app", "alice", "sv_active") == 2);
            console.query(command).unwrap();
            for client in &mut clients {
                let error = client.expect_error();
                let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
                assert_eq!(told, ("FATAL", "57P01", "database removed"));
                client.expect_eof();
            }
            if command == "KILL" {
                assert_eq!(elsewhere.expect_error().message, "database removed");
            } else {
                assert_eq!(elsewhere.value("select 'not touched'"), "not touched");
            }
            eventually(SOON, "its backends are gone", || pool_number(&mut console, "app", "alice", "sv_active") == 0);
            let port = pooler.port();
            let late = thread::spawn(move || Raw::login(port, "alice", "alicepw", "app").value("select 'resumed'"));
            eventually(SOON, "the late client waits", || pool_number(&mut console, "app", "alice", "cl_waiting") == 1);
            assert!(!late.is_finished());
            console.query("RESUME app").unwrap();
            assert_eq!(late.join().unwrap(), "resumed");
        }
    });
}

#[test]
fn kill_client_ends_one() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "");
        let mut console = pooler.console();
        let mut first = pooler.login("alice", "alicepw", "app");
        let mut second = pooler.login("bob", "bobpw", "app");
        let id = Table::of(&mut console, "SHOW CLIENTS").matching(&[("user", "alice")]).value("id");
        console.query(&format!("KILL_CLIENT {id}")).unwrap();
        let error = first.expect_error();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("57P01", "admin forced disconnect"));
        first.expect_eof();
        assert_eq!(second.value("select 1"), "1");
        eventually(SOON, "it is not listed any more", || {
            Table::of(&mut console, "SHOW CLIENTS").matching(&[("id", &id)]).rows.is_empty()
        });
        assert_eq!(refusal(&mut console, &format!("KILL_CLIENT {id}")), "client not found");
    });
}

#[test]
fn shutdown_has_three_forms() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();

        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut console = pooler.console();
        let mut client = pooler.login("alice", "alicepw", "app");
        console.send(&messages::query("SHUTDOWN"));
        console.expect_eof();
        assert_eq!(client.expect_error().message, "pooler is shutting down");
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));

        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut queued = pooler.login("alice", "alicepw", "app");
        client.query("begin").unwrap();
        pooler.console().query("SHUTDOWN WAIT_FOR_SERVERS").unwrap();
        queued.send(&messages::query("select 1"));
        let error = queued.expect_error();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("57P01", "server shutting down"));
        assert_eq!(client.value("select 'goes on'"), "goes on");
        assert!(pooler.is_running());
        client.send(&messages::query("commit"));
        assert_eq!(client.read().command(), "COMMIT");
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));

        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        pooler.console().query("SHUTDOWN WAIT_FOR_CLIENTS").unwrap();
        eventually(SOON, "nobody is let in", || std::net::TcpStream::connect(("127.0.0.1", pooler.port())).is_err());
        assert_eq!(client.value("select 'still served'"), "still served");
        assert!(pooler.is_running());
        drop(client);
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}
