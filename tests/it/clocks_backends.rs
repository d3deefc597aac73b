//! The clocks of backends: connecting, retrying, ageing, idling, being checked.

use std::{
    collections::HashSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, pool_number};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn server_connect_timeout_ends_a_silent_server() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        // The kernel accepts for it, and nobody ever answers.
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = silent.local_addr().unwrap().port();
        let settings = format!(
            "server_connect_timeout = 0.4\nserver_login_retry = 1\n[databases.silent]\nhost = \"127.0.0.1\"\nport = {port}"
        );
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let start = Instant::now();
        let error = Raw::try_login(pooler.port(), "alice", "alicepw", "silent").err().unwrap();
        let waited = start.elapsed();
        assert!((Duration::from_millis(1000)..SOON).contains(&waited), "{waited:?}");
        let text = "server login has been failing, cached error: connect timeout (server_login_retry)";
        assert_eq!((error.severity.as_str(), error.code.as_str(), error.message.as_str()), ("FATAL", "08006", text));
        assert!(pooler.log().matches("error=connect timeout").count() >= 2, "one attempt is not enough");
        // Other databases are not held up.
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    });
}

#[test]
fn server_lifetime_replaces_backends_between_transactions() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2\nserver_lifetime = 1");
        let mut client = pooler.login("alice", "alicepw", "app");
        let pid = client.value("select pg_backend_pid()");
        client.query("begin").unwrap();
        assert_eq!(client.value("select pg_backend_pid()"), pid);
        assert!(client.is_silent_for(Duration::from_millis(1700)), "a transaction was cut off");
        assert_eq!(client.value("select pg_backend_pid()"), pid, "the same backend to the end of the transaction");
        client.query("commit").unwrap();
        assert_ne!(client.value("select pg_backend_pid()"), pid, "it is past its time");
        // On the shelf it ends without a client.
        eventually(SOON, "the idle backend is closed", || cluster.backend_pids("alice").is_empty());
        assert_eq!(client.value("select 1"), "1");
    });
}

#[test]
fn a_lifetime_of_zero_uses_each_backend_once() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1\nserver_lifetime = 0");
        let mut client = pooler.login("alice", "alicepw", "app");
        let pids: HashSet<_> = (0..5).map(|_| client.value("select pg_backend_pid()")).collect();
        assert_eq!(pids.len(), 5);
    });
}

#[test]
fn server_idle_timeout_closes_down_to_min_pool_size() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "server_idle_timeout = 0.7\ndefault_pool_size = 4\nmin_pool_size = 1";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut clients: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
        assert_eq!(cluster.backend_pids("alice").len(), 4);
        clients[1..].iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
        // The one in a transaction is never idle, and counts for the minimum.
        eventually(SOON, "the idle backends are closed", || cluster.backend_pids("alice").len() == 1);
        assert_eq!(clients[0].value("select 1"), "1");
        clients[0].query("commit").unwrap();
        let kept = cluster.backend_pids("alice");
        assert!(clients[0].is_silent_for(Duration::from_millis(1500)));
        assert_eq!(cluster.backend_pids("alice"), kept, "min_pool_size is kept");
    });
}

#[test]
fn server_check_query_runs_as_often_as_server_check_delay_says() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::builder().conf("log_statement = 'all'").start();
        let checks = || cluster.log().matches("statement: select 'a check'").count();
        let settings = "default_pool_size = 1\nserver_check_query = \"select 'a check'\"\nserver_check_delay = 0";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut client = pooler.login("alice", "alicepw", "app");
        for number in 0..5 {
            assert_eq!(client.value(&format!("select {number}")), number.to_string());
        }
        let always = checks();
        assert!((4..=6).contains(&always), "{always} checks for five queries");

        pooler.console().query("SET server_check_delay = 60").unwrap();
        for _ in 0..5 {
            client.value("select 1");
        }
        assert_eq!(checks(), always, "nothing was idle for a minute");
    });
}

/// A server that answers is there, whatever it says: PgBouncer goes on as well, and no connection is wasted.
#[test]
fn a_check_that_postgresql_refuses_costs_nothing() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "default_pool_size = 1\nserver_check_delay = 0\nserver_check_query = \"selec 1\"\n";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut client = pooler.login("alice", "alicepw", "app");
        let pid = client.value("select pg_backend_pid()");
        for _ in 0..3 {
            assert_eq!(client.value("select pg_backend_pid()"), pid);
        }
        assert_eq!(pooler.log().matches("PostgreSQL refuses server_check_query").count(), 1);
    });
}

#[test]
fn a_backend_that_fails_its_check_is_replaced() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("app", "create table sick (pid int); grant all on sick to public");
        // Ends the backends that are listed, and no other; alice may end her own.
        let check = "select pg_terminate_backend(pid) from sick where pid = pg_backend_pid()";
        let settings = format!("default_pool_size = 1\nserver_check_delay = 0\nserver_check_query = \"{check}\"\n");
        let pooler = Pooler::trusting(&cluster, workers, &settings);
        let mut client = pooler.login("alice", "alicepw", "app");
        let pid = client.value("select pg_backend_pid()");
        assert_eq!(client.value("select pg_backend_pid()"), pid);
        cluster.sql("app", &format!("insert into sick values ({pid})"));
        assert_ne!(client.value("select pg_backend_pid()"), pid);
        // What needs a check before its next use is shown as used.
        let mut console = pooler.console();
        let counts = ["sv_idle", "sv_used"].map(|name| pool_number(&mut console, "app", "alice", name));
        assert_eq!(counts, [0, 1]);
    });
}
