//! SCRAM pass-through: the stored secret is PostgreSQL's own verifier, and what a client's login reveals opens the
//! backends of that very user.

use std::{fs, time::Duration};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, pool_number, reply::PgError};

const SOON: Duration = Duration::from_secs(5);
const NO_KEYS: &str = "server login failed: no client of this user has proved its password yet";
const OTHER_VERIFIER: &str = "server login failed: the SCRAM verifier differs from PostgreSQL's";

fn stored(cluster: &Cluster, user: &str) -> String {
    cluster.sql("postgres", &format!("select rolpassword from pg_authid where rolname = '{user}'"))
}

fn users(secrets: &[(&str, &str)]) -> String {
    secrets.iter().map(|(user, secret)| format!("[users.{user}]\npassword = \"{secret}\"\n")).collect()
}

fn refused(pooler: &Pooler, user: &str, password: &str, database: &str) -> PgError {
    Raw::try_login(pooler.port(), user, password, database).err().expect("a refusal")
}

#[test]
fn no_clear_password_is_stored_anywhere() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let alice = stored(&cluster, "alice");
        for auth_type in ["scram-sha-256", "md5", "plain"] {
            let settings = format!("auth_type = \"{auth_type}\"\n{}", users(&[("alice", &alice)]));
            let pooler = Pooler::with_workers(&cluster, workers, &settings);
            assert!(!fs::read_to_string(pooler.settings_file()).unwrap().contains("alicepw"));
            assert_eq!(refused(&pooler, "alice", "wrong", "app").code, "28P01");
            let mut one = pooler.login("alice", "alicepw", "app");
            let mut two = pooler.login("alice", "alicepw", "app");
            for client in [&mut one, &mut two] {
                client.query("begin").unwrap();
                assert_eq!(client.value("select current_user"), "alice", "{auth_type}");
            }
            assert_eq!(cluster.backend_pids("alice").len(), 2);
            // Later ones too, while nobody logs in.
            for pid in cluster.backend_pids("alice") {
                cluster.terminate_backend(pid);
            }
            one.expect_error();
            assert_eq!(two.expect_error().code, "57P01");
            let mut three = pooler.login("alice", "alicepw", "app");
            assert_eq!(three.value("select 1"), "1");
            cluster.terminate_backend(cluster.backend_pids("alice")[0]);
            assert_eq!(three.value("select 2"), "2");
            assert!(!pooler.log().contains("alicepw"));
            drop(pooler);
            eventually(SOON, "all have left", || cluster.backend_pids("alice").is_empty());
        }
    });
}

#[test]
fn nothing_can_be_opened_before_the_first_login() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!(
            "min_pool_size = 2\nserver_login_retry = 60\n{}",
            users(&[("alice", &stored(&cluster, "alice")), ("bob", "bobpw")])
        );
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        // Another user's pool is warm, so this one's turn has come.
        eventually(SOON, "bob's backends are there", || cluster.backend_pids("bob").len() == 2);
        assert!(cluster.backend_pids("alice").is_empty());
        assert!(!pooler.log().contains(NO_KEYS), "nothing is tried in vain");
        pooler.login("alice", "alicepw", "app");
        eventually(SOON, "alice's backends are there", || cluster.backend_pids("alice").len() == 2);
    });
}

/// `trust` reveals nothing, so that the first client is told; one that proves itself heals the pool at once.
#[test]
fn a_login_heals_a_pool_that_lacked_the_key() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = |auth_type: &str| {
            let users = users(&[("alice", &stored(&cluster, "alice"))]);
            format!("server_login_retry = 60\nauth_type = \"{auth_type}\"\n{users}")
        };
        let pooler = Pooler::with_workers(&cluster, workers, &settings("trust"));
        let error = refused(&pooler, "alice", "", "app");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("08006", NO_KEYS));
        assert!(error.hint.unwrap().contains("once a client has logged in"));
        pooler.wait_for_log("cannot connect to server", SOON);
        let mut console = pooler.console();
        console.query("SET auth_type = 'scram-sha-256'").unwrap();
        let mark = pooler.log_len();
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "alice");
        assert!(!pooler.log()[mark..].contains("cannot connect"));
    });
}

#[test]
fn a_forced_user_never_gets_the_keys() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("postgres", "set password_encryption = 'scram-sha-256'; create role dave login password 'davepw'");
        let host = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"app\"", cluster.port());
        let (alice, dave) = (stored(&cluster, "alice"), stored(&cluster, "dave"));
        let settings = format!(
            "server_login_retry = 60\n{}[databases.listed]\n{host}\nuser = \"dave\"\n\
             [databases.own]\n{host}\nuser = \"dave\"\npassword = \"{dave}\"\n[databases.self]\n{host}\nuser = \"alice\"\n",
            users(&[("alice", &alice), ("dave", &dave)])
        );
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        // Both have logged in, so that both keys are known.
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "alice");
        assert_eq!(pooler.login("dave", "davepw", "app").value("select current_user"), "dave");
        for (user, database) in [("alice", "listed"), ("alice", "own"), ("dave", "own"), ("alice", "self")] {
            let error = refused(&pooler, user, &format!("{user}pw"), database);
            assert!(error.message.contains("server login failed: wrong password type"), "{database}: {error:?}");
            assert!(error.hint.unwrap().contains("plain password"), "{database}");
        }
    });
}

#[test]
fn another_verifier_is_named_as_such() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("postgres", "set password_encryption = 'scram-sha-256'; create role twin password 'alicepw'");
        let settings = format!("server_login_retry = 60\n{}", users(&[("alice", &stored(&cluster, "twin"))]));
        let pooler = Pooler::with_workers(&cluster, workers, &settings);
        let error = refused(&pooler, "alice", "alicepw", "app");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("08006", OTHER_VERIFIER));
        assert!(error.hint.unwrap().contains("pg_authid.rolpassword"));
        let line = pooler.wait_for_log(OTHER_VERIFIER, SOON);
        assert!(line.contains("WARN") && line.contains("cannot connect to server"), "{line}");
        assert!(line.contains("pg_authid.rolpassword"), "{line}");
        // The one who comes next within the pause is told as well.
        let error = refused(&pooler, "alice", "alicepw", "app");
        assert!(error.message.contains(OTHER_VERIFIER) && error.hint.unwrap().contains("pg_authid"));
    });
}

#[test]
fn a_rotated_verifier_replaces_the_keys() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = || format!("server_login_retry = 60\n{}", users(&[("alice", &stored(&cluster, "alice"))]));
        let pooler = Pooler::with_workers(&cluster, workers, &settings());
        let mut early = pooler.login("alice", "alicepw", "app");
        assert_eq!(early.value("select current_user"), "alice");
        cluster.sql("postgres", "set password_encryption = 'scram-sha-256'; alter role alice password 'rotated'");
        // Backends that are open live on; new ones cannot be had with the old key.
        assert_eq!(early.value("select 1"), "1");
        let overrides = format!("[pgpool]\nworker_threads = {workers}\n{}", settings());
        let mark = pooler.reload(&cluster, &overrides);
        pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
        assert_eq!(refused(&pooler, "alice", "alicepw", "app").code, "28P01");
        pooler.console().query("RECONNECT").unwrap();
        assert_eq!(pooler.login("alice", "rotated", "app").value("select current_user"), "alice");
        assert_eq!(early.value("select 'goes on'"), "goes on");
        let mut console = pooler.console();
        eventually(SOON, "nothing is being opened", || pool_number(&mut console, "app", "alice", "sv_login") == 0);
    });
}
