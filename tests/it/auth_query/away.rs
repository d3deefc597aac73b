//! Lookups while PostgreSQL is away, paused, or has no room.

use super::{SOON, pooler, questions, refused, settings, start};
use crate::support::{Pooler, Raw, Stop, eventually};
use std::{thread, time::Duration};

#[test]
fn logins_wait_while_postgresql_is_away() {
    let mut cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 0");
    pooler.login("alice", "alicepw", "app");
    cluster.stop(Stop::Fast);
    let port = pooler.port();
    let waiting = thread::spawn(move || Raw::login(port, "alice", "alicepw", "app").value("select current_user"));
    pooler.wait_for_log("cannot connect to server for auth_query", SOON);
    cluster.start_again();
    assert_eq!(waiting.join().unwrap(), "alice");
}

#[test]
fn those_who_wait_for_too_long_are_told() {
    let mut cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 0\nserver_login_retry = 1");
    cluster.stop(Stop::Fast);
    let error = refused(&pooler, "alice", "alicepw", "app");
    let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
    assert_eq!(told, ("FATAL", "08006", "auth_query failed: no answer from PostgreSQL"));
    cluster.start_again();
    eventually(SOON, "it works again", || Raw::try_login(pooler.port(), "alice", "alicepw", "app").is_ok());
}

#[test]
fn a_connection_that_died_unseen_costs_nothing() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 0");
    for _ in 0..3 {
        pooler.login("alice", "alicepw", "app");
        cluster.terminate_backend(cluster.backend_pids("asker")[0]);
    }
    pooler.login("alice", "alicepw", "app");
}

#[test]
fn a_refused_auth_user_is_the_operators_to_read() {
    let cluster = start();
    let wrong = settings("server_login_retry = 60").replace("askerpw", "outdated");
    let pooler = Pooler::with_workers(&cluster, 2, &wrong);
    for _ in 0..2 {
        let error = refused(&pooler, "alice", "alicepw", "app");
        assert_eq!((error.code.as_str(), error.message.contains("auth_query failed")), ("08006", true), "{error:?}");
        assert!(!format!("{error:?}").contains("asker"), "{error:?}");
    }
    pooler.wait_for_log("cannot connect to server for auth_query", SOON);
    let log = pooler.log();
    assert_eq!(log.matches("cannot connect to server for auth_query").count(), 1, "it is not tried once per login");
    assert!(log.contains("password authentication failed for user \"asker\""), "{log}");
    // A reload that puts it right counts at once.
    let mark =
        pooler.reload(&cluster, &format!("[pgpool]\nworker_threads = 2\n{}", settings("server_login_retry = 60")));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    pooler.login("alice", "alicepw", "app");
}

#[test]
fn pause_holds_lookups_and_closes_their_connection() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 0");
    pooler.login("alice", "alicepw", "app");
    assert_eq!(cluster.backend_pids("asker").len(), 1);
    let mut console = pooler.console();
    console.query("PAUSE").unwrap();
    eventually(SOON, "it is closed", || cluster.backend_pids("asker").is_empty());
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app")]);
    assert!(client.is_silent_for(Duration::from_millis(600)));
    console.query("RESUME").unwrap();
    client.authenticate("alice", "alicepw").unwrap();
    let pid = cluster.backend_pids("asker");
    console.query("RECONNECT").unwrap();
    eventually(SOON, "it is replaced or closed", || cluster.backend_pids("asker") != pid);
}

/// One connection for everything: lookups and pools give way to each other.
#[test]
fn limits_over_several_pools_hold_and_are_shared() {
    let cluster = start();
    cluster.sql("app", "create role eve login password 'evepw'");
    let pooler = pooler(&cluster, "auth_query_lifetime = 0\nmax_db_connections = 1");
    for _ in 0..3 {
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "alice");
        assert_eq!(pooler.login("eve", "evepw", "app").value("select current_user"), "eve");
        assert_eq!(refused(&pooler, "ghost", "x", "app").code, "28P01");
        let count = "select count(*) from pg_stat_activity where datname = 'app' and usename <> 'postgres'";
        assert!(cluster.sql("postgres", count).parse::<u32>().unwrap() <= 1);
    }
    assert!(questions(&cluster, "alice") >= 3);
}

#[test]
fn a_question_that_takes_too_long_is_given_up() {
    let cluster = start();
    let query = "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(60) WHERE rolname = $1";
    let pooler = pooler(&cluster, &format!("auth_query = \"{query}\"\nserver_connect_timeout = 1"));
    let error = refused(&pooler, "alice", "alicepw", "app");
    assert_eq!((error.code.as_str(), error.message.contains("auth_query failed")), ("08006", true), "{error:?}");
    pooler.wait_for_log("auth_query failed: timeout", SOON);
}
