//! What is kept of the answers, for how long, and what makes them be asked again.

use super::{SOON, pooler, questions, refused, settings, start};
use crate::support::{Raw, Table, eventually};
use std::thread;

#[test]
fn an_answer_serves_many_logins() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 600\nauth_query_negative_lifetime = 600");
    for _ in 0..5 {
        pooler.login("alice", "alicepw", "app");
    }
    assert_eq!(questions(&cluster, "alice"), 1);
    let pooler = super::pooler(&cluster, "auth_query_lifetime = 0\nauth_query_negative_lifetime = 0");
    for _ in 0..3 {
        pooler.login("alice", "alicepw", "app");
        assert_eq!(refused(&pooler, "ghost", "x", "app").code, "28P01");
    }
    assert_eq!((questions(&cluster, "alice"), questions(&cluster, "ghost")), (4, 3));
}

#[test]
fn logins_at_the_same_time_share_one_question() {
    const CLIENTS: usize = 20;
    let cluster = start();
    let query = "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(1) WHERE rolname = $1";
    let pooler = pooler(&cluster, &format!("auth_query = \"{query}\"\nauth_query_lifetime = 600"));
    let port = pooler.port();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| thread::spawn(move || drop(Raw::login(port, "alice", "alicepw", "app")))).collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(questions(&cluster, "alice"), 1);
}

#[test]
fn one_who_leaves_does_not_take_the_answer_from_the_others() {
    let cluster = start();
    let query = "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(1) WHERE rolname = $1";
    let pooler = pooler(&cluster, &format!("auth_query = \"{query}\"\nauth_query_lifetime = 600"));
    let mut first = Raw::connect(pooler.port());
    first.startup(&[("user", "alice"), ("database", "app")]);
    eventually(SOON, "it is asked", || questions(&cluster, "alice") == 1);
    let port = pooler.port();
    let second = thread::spawn(move || Raw::login(port, "alice", "alicepw", "app").value("select current_user"));
    drop(first);
    assert_eq!(second.join().unwrap(), "alice");
    assert_eq!(questions(&cluster, "alice"), 1);
}

#[test]
fn a_rotated_password_works_after_one_refusal() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 600\nserver_login_retry = 60");
    let mut early = pooler.login("alice", "alicepw", "app");
    assert_eq!(early.value("select current_user"), "alice");
    eventually(SOON, "the answer is old enough to be doubted", || {
        cluster.sql(
            "app",
            "select count(*) from pg_stat_activity where usename = 'asker' and state = 'idle' \
                            and now() - state_change > '1.1 s'",
        ) == "1"
    });
    cluster.sql("app", "alter role alice password 'rotated'");
    assert_eq!(refused(&pooler, "alice", "rotated", "app").code, "28P01");
    pooler.console().query("RECONNECT").unwrap();
    assert_eq!(pooler.login("alice", "rotated", "app").value("select current_user"), "alice");
    assert_eq!(refused(&pooler, "alice", "alicepw", "app").code, "28P01");
    // The pool has the new key; who was in goes on.
    assert_eq!(early.value("select current_user"), "alice");
    assert_eq!(questions(&cluster, "alice"), 2);
}

#[test]
fn a_new_user_is_found_after_a_refusal() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_negative_lifetime = 600");
    assert_eq!(refused(&pooler, "late", "pw", "app").code, "28P01");
    cluster.sql("app", "create role late login password 'pw'");
    eventually(SOON, "the user is found", || Raw::try_login(pooler.port(), "late", "pw", "app").is_ok());
}

#[test]
fn a_reload_asks_anew_and_keeps_the_pools_going() {
    let cluster = start();
    let pooler = pooler(&cluster, "auth_query_lifetime = 600");
    let mut early = pooler.login("alice", "alicepw", "app");
    early.query("select 1").unwrap();
    // The same settings: the key that the login has revealed is still there, without another login.
    let again = format!("[pgpool]\nworker_threads = 2\n{}", settings("auth_query_lifetime = 600"));
    let mark = pooler.reload(&cluster, &again);
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    cluster.terminate_backend(cluster.backend_pids("alice")[0]);
    assert_eq!(early.value("select current_user"), "alice");
    pooler.login("alice", "alicepw", "app");
    assert_eq!(questions(&cluster, "alice"), 2);
    // Another query counts at once.
    let nobody = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND false";
    let overrides = format!("[pgpool]\nworker_threads = 2\n{}", settings(&format!("auth_query = \"{nobody}\"")));
    let mark = pooler.reload(&cluster, &overrides);
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    assert_eq!(refused(&pooler, "alice", "alicepw", "app").code, "28P01");
    assert_eq!(early.value("select 'still in'"), "still in");
    // And so does none.
    let overrides = format!("[pgpool]\nworker_threads = 2\n{}", settings("")).replace("auth_user = \"asker\"", "");
    let mark = pooler.reload(&cluster, &overrides);
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    assert_eq!(refused(&pooler, "alice", "alicepw", "app").code, "28P01");
}

#[test]
fn show_users_says_where_a_secret_came_from() {
    let cluster = start();
    let pooler = pooler(&cluster, "");
    pooler.login("alice", "alicepw", "app");
    let users = Table::of(&mut pooler.console(), "SHOW USERS");
    let source = |name: &str| users.matching(&[("name", name)]).value("secret_source");
    assert_eq!((source("alice"), source("asker")), ("query".to_owned(), "config".to_owned()));
    let servers = Table::of(&mut pooler.console(), "SHOW SERVERS");
    assert_eq!(servers.matching(&[("user", "asker"), ("database", "app")]).rows.len(), 1);
}
