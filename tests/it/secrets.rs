//! Secrets: files that are read again, long ones, and that none is ever shown.

use std::{fs, time::Duration};

use pgpool::config::Config;

use crate::console::TABLES;
use crate::support::{Cluster, Pooler, Raw, Table, for_each_worker_count, settings};

const SOON: Duration = Duration::from_secs(10);

/// Puts a new file in the place of the old one, as secrets are rotated.
fn replace(pooler: &Pooler, name: &str, text: &str) {
    let fresh = pooler.dir().join("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, pooler.dir().join(name)).unwrap();
}

/// Starts pgpool with files beside its settings, whose directory is known only then.
fn with_files(cluster: &Cluster, workers: usize, files: &[(&str, &str)], overrides: &str) -> Pooler {
    let pooler = Pooler::with_workers(cluster, workers, "");
    for (name, text) in files {
        fs::write(pooler.dir().join(name), text).unwrap();
    }
    let mark = pooler.reload(cluster, &format!("[pgpool]\nworker_threads = {workers}\n{overrides}"));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    pooler
}

#[test]
fn a_password_file_is_read_again_when_it_changes() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let files = [("alice.secret", "alicepw\n")];
        let overrides =
            "server_login_retry = 60\n[users.alice]\npassword = \"unset\"\npassword_file = \"alice.secret\"";
        let pooler = with_files(&cluster, workers, &files, overrides);
        let mut early = pooler.login("alice", "alicepw", "app");
        assert_eq!(early.value("select current_user"), "alice");
        let users = Table::of(&mut pooler.console(), "SHOW USERS");
        assert_eq!(users.matching(&[("name", "alice")]).value("secret_source"), "file");
        cluster.sql("postgres", "set password_encryption = 'scram-sha-256'; alter role alice password 'rotated'");
        let mark = pooler.log_len();
        replace(&pooler, "alice.secret", "rotated\n");
        let line = pooler.wait_for_log_since(mark, "secrets were read again", SOON);
        assert!(line.contains("users.alice") && !line.contains("rotated"), "{line}");
        assert_eq!(Raw::try_login(pooler.port(), "alice", "alicepw", "app").err().unwrap().code, "28P01");
        let mut late = pooler.login("alice", "rotated", "app");
        early.query("begin").unwrap();
        assert_eq!(early.value("select 'lives on'"), "lives on");
        assert_eq!(late.value("select current_user"), "alice", "a backend of the new secret");
        // What cannot be read changes nothing, and is said once.
        let mark = pooler.log_len();
        fs::remove_file(pooler.dir().join("alice.secret")).unwrap();
        pooler.wait_for_log_since(mark, "the former secret stays", SOON);
        pooler.login("alice", "rotated", "app");
        replace(&pooler, "alice.secret", "again");
        pooler.wait_for_log_since(mark, "secrets were read again", SOON);
        pooler.login("alice", "again", "app");
        assert_eq!(pooler.log()[mark..].matches("the former secret stays").count(), 1);
    });
}

#[test]
fn a_forced_users_password_file_heals_a_refused_login() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let overrides = "server_login_retry = 60\n[databases.app]\nuser = \"bob\"\npassword_file = \"bob.secret\"";
        let pooler = with_files(&cluster, workers, &[("bob.secret", "outdated")], overrides);
        assert_eq!(Raw::try_login(pooler.port(), "alice", "alicepw", "app").err().unwrap().code, "28P01");
        // Written in place, as some tools do.
        let mark = pooler.log_len();
        fs::write(pooler.dir().join("bob.secret"), "bobpw").unwrap();
        let line = pooler.wait_for_log_since(mark, "secrets were read again", SOON);
        assert!(line.contains("databases.app"), "{line}");
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select current_user"), "bob");
    });
}

#[test]
fn a_password_file_that_is_none_is_a_problem_of_the_configuration() {
    let cluster = Cluster::start();
    let pooler = Pooler::with_workers(&cluster, 1, "");
    let user = "[users.alice]\npassword_file = \"alice.secret\"\n";
    for (text, overrides, problem) in [
        (None, user.replace("password_file", "password = \"unset\"\npassword_file"), "cannot read password_file"),
        (Some(""), user.replace("password_file", "password = \"unset\"\npassword_file"), "it is empty"),
        (Some("pw"), user.to_owned(), "[users.alice] has both `password` and `password_file`"),
    ] {
        if let Some(text) = text {
            fs::write(pooler.dir().join("alice.secret"), text).unwrap();
        }
        let file = settings::file_for(&cluster, pooler.dir(), &overrides);
        fs::write(pooler.settings_file(), file).unwrap();
        let error = pooler.console().query("RELOAD").unwrap_err();
        assert!(error.detail.as_deref().is_some_and(|detail| detail.contains(problem)), "{problem}: {error:?}");
    }
    pooler.login("alice", "alicepw", "app");
}

#[test]
fn the_auth_file_is_read_again_at_a_reload() {
    let cluster = Cluster::start();
    let overrides = "auth_file = \"userlist.txt\"\n[databases.app]\nuser = \"postgres\"";
    let pooler = with_files(&cluster, 2, &[("userlist.txt", "\"eve\" \"one\"\n")], overrides);
    let mut early = pooler.login("eve", "one", "app");
    replace(&pooler, "userlist.txt", "\"eve\" \"two\"\n\"mallory\" \"three\"\n");
    pooler.login("eve", "one", "app");
    pooler.console().query("RELOAD").unwrap();
    pooler.login("eve", "two", "app");
    pooler.login("mallory", "three", "app");
    assert_eq!(Raw::try_login(pooler.port(), "eve", "one", "app").err().unwrap().code, "28P01");
    assert_eq!(early.value("select 'in'"), "in");
}

#[test]
fn secrets_may_be_long() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::builder().hba("host all clear 127.0.0.1/32 password").start();
        let long = "0123456789".repeat(1000);
        cluster.sql(
            "postgres",
            &format!(
                "set password_encryption = 'scram-sha-256'; create role big login password '{long}';
                 create role clear login password '{long}'"
            ),
        );
        for auth_type in ["plain", "md5", "scram-sha-256"] {
            let users = ["big", "clear"].map(|user| format!("[users.{user}]\npassword = \"{long}\"\n")).concat();
            // The client of these tests pays for the length in each round.
            let overrides = format!(
                "auth_type = \"{auth_type}\"\nscram_iterations = 16\n{users}[users.file]\npassword_file = \"long\"\n"
            );
            let pooler = with_files(&cluster, workers, &[("long", &long)], &overrides);
            for user in ["big", "clear"] {
                assert_eq!(pooler.login(user, &long, "app").value("select current_user"), user, "{auth_type}");
                let almost = &long[..long.len() - 1];
                let error = Raw::try_login(pooler.port(), user, almost, "app").err().unwrap();
                assert_eq!(error.code, "28P01", "{auth_type}: not even the last character is left out");
            }
        }
        // More than PostgreSQL takes is refused, and only where a password was asked for is it more than a little.
        for (auth_type, most) in [("plain", 65_535), ("scram-sha-256", 10_003)] {
            let pooler = Pooler::with_workers(&cluster, workers, &format!("auth_type = \"{auth_type}\""));
            let mut client = Raw::connect(pooler.port());
            client.startup(&[("user", "alice"), ("database", "app")]);
            client.read();
            let mut header = vec![b'p'];
            header.extend_from_slice(&u32::to_be_bytes(most + 1));
            client.send(&header);
            assert_eq!(client.expect_error().message, "invalid password message length", "{auth_type}");
        }
    });
}

/// Every secret here has this in it; a verifier's keys are looked for besides.
const MARK: &str = "Zk7qSECRET";

#[test]
fn no_secret_is_shown_anywhere() {
    let cluster = Cluster::start();
    let secret = |name: &str| format!("{MARK}{name}");
    cluster.sql(
        "app",
        &format!(
            "set password_encryption = 'scram-sha-256'; alter role alice password '{}';
             create role asker login password '{}'; grant select on pg_authid to asker;
             create role found login password '{}'; create role forced login password '{}'",
            secret("alice"),
            secret("asker"),
            secret("found"),
            secret("forced")
        ),
    );
    let verifier = cluster.sql("postgres", "select rolpassword from pg_authid where rolname = 'alice'");
    let hashes: Vec<&str> = verifier.split(['$', ':']).filter(|part| part.len() > 40).collect();
    assert_eq!(hashes.len(), 2, "{verifier}");
    let host = format!("host = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.port());
    let overrides = format!(
        "[pgpool]\nworker_threads = 2\nauth_user = \"asker\"\nauth_file = \"userlist.txt\"\n\
         admin_users = [\"postgres\", \"filed\"]\nauth_type = \"plain\"\n\
         [databases.forced]\n{host}user = \"forced\"\npassword = \"{}\"\n\
         [databases.wrong]\n{host}user = \"forced\"\npassword = \"{}\"\n\
         [databases.filed]\n{host}user = \"forced\"\npassword_file = \"file\"\n\
         [users.alice]\npassword = \"{verifier}\"\n[users.asker]\npassword = \"{}\"\n",
        secret("forced"),
        secret("wrong"),
        secret("asker"),
    );
    let pooler = Pooler::start_with(&cluster, "", &["-v", "-v"]);
    fs::write(pooler.dir().join("userlist.txt"), format!("\"filed\" \"{}\"\n", secret("filed"))).unwrap();
    fs::write(pooler.dir().join("file"), secret("forced")).unwrap();
    let mark = pooler.reload(&cluster, &overrides);
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);

    let mut clients = Vec::new();
    for auth_type in ["plain", "md5", "scram-sha-256"] {
        pooler.console().query(&format!("SET auth_type = '{auth_type}'")).unwrap();
        for (user, database) in [("alice", "app"), ("found", "app"), ("filed", "forced"), ("filed", "filed")] {
            let mut client = pooler.login(user, &secret(user), database);
            client.query("select 1").unwrap();
            clients.push(client);
            Raw::try_login(pooler.port(), user, &secret("nonsense"), database).err().unwrap();
        }
        Raw::try_login(pooler.port(), "filed", &secret("filed"), "wrong").err().unwrap();
        Raw::try_login(pooler.port(), "ghost", &secret("ghost"), "app").err().unwrap();
    }
    let mut said = complaints(&pooler);
    let mut console = pooler.console();
    for (name, _) in TABLES {
        said.push(format!("{:?}", Table::of(&mut console, &format!("SHOW {name}"))));
    }
    replace(&pooler, "file", &secret("new"));
    pooler.wait_for_log("secrets were read again", SOON);
    let config = Config::load(&pooler.settings_file()).unwrap().config;
    said.push(format!("{config:?}{config:#?}"));
    drop(Raw::connect(pooler.port()));
    let line = pooler.wait_for_log("client left before its login was over", SOON);
    assert!(line.contains("DEBUG"), "this is not the most that can be logged: {line}");
    said.push(pooler.log());
    for text in said {
        for needle in hashes.iter().chain([&MARK]) {
            let at = text.find(needle);
            assert!(at.is_none(), "«{needle}» is shown: {}", &text[at.unwrap().saturating_sub(200)..]);
        }
    }
}

/// What is said about files with mistakes near a secret; the good ones are in force again afterwards.
fn complaints(pooler: &Pooler) -> Vec<String> {
    let good = fs::read_to_string(pooler.settings_file()).unwrap();
    let secret = |name: &str| format!("{MARK}{name}");
    let mut said = Vec::new();
    for bad in [
        format!("{good}\n[users.x]\npasswrod = \"{}\"\n", secret("typo")),
        format!("{good}\n[users.x]\npassword = \"{}\n", secret("open")),
        format!("{good}\n[users.x]\npassword = {}\n", secret("bare")),
        format!("{good}\n[users.x]\npassword = [\"{}\"]\n", secret("list")),
        format!("{good}\n[databases]\nx = \"password={} port\"\n", secret("pairs")),
        format!("{good}\n[databases]\nx = \"{}\"\n", secret("alone")),
    ] {
        fs::write(pooler.settings_file(), bad).unwrap();
        said.push(format!("{:?}", pooler.console().query("RELOAD").unwrap_err()));
    }
    fs::write(pooler.settings_file(), &good).unwrap();
    fs::write(pooler.dir().join("userlist.txt"), format!("\"filed\" \"{}\n", secret("filed"))).unwrap();
    said.push(format!("{:?}", pooler.console().query("RELOAD").unwrap_err()));
    fs::write(pooler.dir().join("userlist.txt"), format!("\"filed\" \"{}\"\n", secret("filed"))).unwrap();
    pooler.console().query("RELOAD").unwrap();
    said
}
