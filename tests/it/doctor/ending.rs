//! `--terminate`: who is ended, who is spared, and that nobody is without a yes.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{doctor, dsn, named, pooled};
use crate::support::{Cluster, Raw, eventually};

#[test]
fn only_those_that_match_are_ended() {
    let cluster = Cluster::start();
    let mut leak: Vec<Raw> = (0..3).map(|_| named(&cluster, "trusty", "leak")).collect();
    let mut open = named(&cluster, "trusty", "leak");
    open.query("begin").unwrap();
    let mut other = named(&cluster, "trusty", "o'ther \\");
    let mut root = named(&cluster, "postgres", "leak");
    let dsn = dsn(&cluster);

    // Nobody to ask, so nobody is ended.
    let refused = doctor(&["--dsn", &dsn, "--terminate", "idle>0s"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(refused.stderr.contains("nobody can be asked") && refused.stderr.contains("--yes"), "{refused:?}");
    assert_eq!(leak[0].value("select 1"), "1");

    let none = doctor(&["--dsn", &dsn, "--terminate", "idle>1h", "--yes"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), "nothing to end\n"));

    let ended = doctor(&["--dsn", &dsn, "--terminate", "idle-in-transaction>0s", "--yes"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("1 of 1 ended\n"), "{ended:?}");
    assert_eq!(open.expect_error().code, "57P01");
    assert_eq!(leak[0].value("select 1"), "1");

    let ended = doctor(&["--dsn", &dsn, "--terminate", "application=leak", "--yes"]);
    assert!(ended.stdout.contains("spared: process") && ended.stdout.contains("a superuser's (--superusers)"));
    assert!(ended.stdout.ends_with("3 of 3 ended\n"), "{ended:?}");
    for raw in &mut leak {
        assert_eq!(raw.expect_error().code, "57P01");
    }
    assert_eq!(other.value("select 1"), "1");
    let two = ["--terminate", "application=o'ther \\", "--terminate", "application=leak", "--yes", "--superusers"];
    let ended = doctor(&[&["--dsn", dsn.as_str()], &two[..]].concat());
    assert!(ended.stdout.ends_with("2 of 2 ended\n"), "{ended:?}");
    assert_eq!((other.expect_error().code, root.expect_error().code), ("57P01".into(), "57P01".into()));
}

#[test]
fn a_terminal_is_asked() {
    let cluster = Cluster::start();
    let mut leak = named(&cluster, "trusty", "leak");
    let command =
        format!("{} doctor --dsn '{}' --terminate application=leak", env!("CARGO_BIN_EXE_pgpool"), dsn(&cluster));
    let answer = |text: &str| {
        let mut child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let no = answer("n\n");
    assert!(no.contains("end 1 connections? [y/N]") && no.contains("nothing was ended"), "{no}");
    assert_eq!(leak.value("select 1"), "1");
    let yes = answer("y\n");
    assert!(yes.contains("1 of 1 ended"), "{yes}");
    assert_eq!(leak.expect_error().code, "57P01");
}

#[test]
fn without_the_right_nobody_is_ended_and_it_is_said() {
    let cluster = Cluster::start();
    cluster.sql("app", "grant pg_read_all_stats to bob");
    let mut leak = named(&cluster, "trusty", "leak");
    let bob = format!("postgres://bob:bobpw@127.0.0.1:{}/app", cluster.port());
    let told = doctor(&["--dsn", &bob, "--terminate", "application=leak", "--yes"]);
    assert!(told.stdout.contains("GRANT pg_signal_backend") && told.stdout.ends_with("0 of 1 ended\n"), "{told:?}");
    assert_eq!(leak.value("select 1"), "1");
}

#[test]
fn the_poolers_own_connections_are_spared() {
    let cluster = Cluster::start();
    let pooler = pooled(&cluster, "slot_budget = \"off\"\n");
    let mut client = pooler.login("alice", "alicepw", "app");
    let before = client.value("select pg_backend_pid()");
    let mut direct = named(&cluster, "trusty", "direct");
    let file = pooler.settings_file();
    let orders = [file.to_str().unwrap(), "--user", "postgres", "--terminate", "idle>0s", "--yes"];
    let ended = doctor(&orders);
    assert!(ended.stdout.contains("one of the running pgpool's (--pooler)"), "{ended:?}");
    assert!(ended.stdout.ends_with("1 of 1 ended\n"), "{ended:?}");
    assert_eq!(direct.expect_error().code, "57P01");
    assert_eq!(client.value("select pg_backend_pid()"), before);
    let ended = doctor(&[&orders[..], &["--pooler"]].concat());
    assert!(ended.stdout.ends_with("1 of 1 ended\n"), "{ended:?}");
    eventually(super::SOON, "the backend is gone", || cluster.backend_pids("alice").is_empty());
    assert_ne!(client.value("select pg_backend_pid()"), before);
}
