//! A process that is replaced at an awkward moment: in the middle of its end, or beside somebody who has its files.

use std::{fs, path::Path, time::Duration};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, pooler, process::Signal};

const SOON: Duration = Duration::from_secs(10);

/// What a start with `-R` says that has to fail.
fn fails_to_take_over(pooler: &Pooler) -> String {
    let failed = pooler::run(&["-R", pooler.settings_file().to_str().unwrap()], SOON);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!failed.stderr.contains("pgpool is ready"), "{failed:?}");
    failed.stderr
}

fn serves_at(socket: &Path) {
    let mut client = Raw::connect_unix(socket);
    client.startup(&[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "alicepw").unwrap();
    assert_eq!(client.value("select 1"), "1");
}

fn refuses_connections(pooler: &Pooler) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", pooler.port())).is_err()
}

fn pidfile(pooler: &Pooler) -> String {
    fs::read_to_string(pooler.dir().join("pid")).unwrap_or_default().trim().to_owned()
}

#[test]
fn a_process_that_drains_is_taken_over_from() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for signal in [Signal::TERM, Signal::INT] {
            let settings = "pidfile = \"pid\"\ndrain_window = 0\ndrain_timeout = 0";
            let mut pooler = Pooler::trusting(&cluster, workers, settings);
            let mut busy = pooler.login("alice", "alicepw", "app");
            busy.query("begin").unwrap();
            pooler.signal(signal);
            eventually(SOON, "nobody is let in", || refuses_connections(&pooler));

            let mut first = pooler.successor();
            assert!(!first.log().contains("cannot listen"), "{}", first.log());
            assert_eq!(pidfile(&pooler), first.pid().to_string());
            serves_at(pooler.socket());
            assert_eq!(busy.value("select 'goes on'"), "goes on");
            // Cancel requests come to the new one.
            busy.send(&messages::query("select pg_sleep(60)"));
            eventually(SOON, "the query runs", || {
                cluster.sql("app", "select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
            });
            let key = busy.backend_key.clone().unwrap();
            let mut asking = Raw::connect_unix(pooler.socket());
            asking.send(&messages::cancel_request(key.0, &key.1));
            assert_eq!(busy.expect_error().code, "57014");
            busy.read_until_ready();
            busy.send(&messages::query("rollback"));
            assert_eq!(busy.read().command(), "ROLLBACK");
            drop(busy);
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));

            // What the new one has stays.
            serves_at(pooler.socket());
            assert_eq!(pidfile(&pooler), first.pid().to_string());
            let mut second = pooler.successor();
            assert_eq!(first.wait_exit(SOON).code(), Some(0));
            serves_at(pooler.socket());
            second.signal(Signal::TERM);
            assert_eq!(second.wait_exit(SOON).code(), Some(0));
            assert!(!pooler.socket().exists() && pidfile(&pooler).is_empty());
        }
    });
}

#[test]
fn a_pidfile_of_somebody_else_keeps_a_process_from_starting() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "pidfile = \"pid\"");
    let other = cluster.pid().to_string();
    fs::write(pooler.dir().join("pid"), &other).unwrap();
    let told = fails_to_take_over(&pooler);
    assert!(told.contains(&format!("names the process {other}")), "{told}");
    pooler.wait_for_log("another process did not take over", SOON);
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    serves_at(pooler.socket());
    // Nor is the file of somebody else removed.
    pooler.signal(Signal::TERM);
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    assert_eq!(pidfile(&pooler), other);
}

#[test]
fn a_process_that_cannot_be_taken_over_from_is_not_doubled() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "");
    let mut control = pooler.socket().as_os_str().to_owned();
    control.push(".takeover");
    fs::remove_file(&control).unwrap();
    let told = fails_to_take_over(&pooler);
    assert!(told.contains("cannot take over (-R)") && told.contains("without -R"), "{told}");
    serves_at(pooler.socket());
}

#[test]
fn files_that_are_somebody_elses_by_now_stay() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 1, "pidfile = \"pid\"");
    let other = cluster.pid().to_string();
    fs::write(pooler.dir().join("pid"), &other).unwrap();
    fs::remove_file(pooler.socket()).unwrap();
    let _another = std::os::unix::net::UnixListener::bind(pooler.socket()).unwrap();
    pooler.signal(Signal::TERM);
    assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    assert!(pooler.socket().exists());
    assert_eq!(pidfile(&pooler), other);
}
