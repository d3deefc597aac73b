//! `/healthz` and `/readyz`: what they answer, and that they always do.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, Stop, eventually, for_each_worker_count, http, process::Signal};

const SOON: Duration = Duration::from_secs(10);
const HTTP: &str = "http_addr = \"127.0.0.1:0\"";

fn settings(more: &str) -> String {
    format!("[pgpool]\n{HTTP}\n{more}")
}

/// Status and first line.
fn ask(port: u16, path: &str) -> (u16, String) {
    let answer = http::get(port, path);
    (answer.status, answer.body.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn a_process_is_healthy_until_it_drains() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, &settings("drain_timeout = 60").replace("[pgpool]\n", ""));
        let port = pooler.http_port();
        assert_eq!(ask(port, "/healthz"), (200, "ok".to_owned()));
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("begin").unwrap();
        pooler.signal(Signal::TERM);
        eventually(SOON, "it drains", || ask(port, "/healthz") == (503, "draining".to_owned()));
        assert_eq!(ask(port, "/readyz/app"), (503, "draining".to_owned()));
        client.query("commit").unwrap();
        drop(client);
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}

#[test]
fn a_database_is_ready_while_postgresql_is_there() {
    let mut cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, &settings("server_login_retry = 1"));
    let port = pooler.http_port();
    let (status, line) = ask(port, "/readyz/app");
    assert!(status == 200 && line.starts_with("ready: not used yet"), "{status} {line}");
    let mut client = pooler.login("alice", "alicepw", "app");
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(ask(port, "/readyz/app"), (200, "ready: connections to PostgreSQL 1, clients that wait 0".to_owned()));
    assert_eq!(ask(port, "/readyz"), (200, "app: ready: connections to PostgreSQL 1, clients that wait 0".to_owned()));
    assert_eq!(ask(port, "/readyz/nosuch"), (404, "no such database".to_owned()));

    let mut console = pooler.console();
    for (command, undo, why) in
        [("PAUSE app", "RESUME app", "paused"), ("DISABLE app", "ENABLE app", "disabled"), ("SUSPEND", "RESUME", "")]
    {
        console.query(command).unwrap();
        let expected = if why.is_empty() { "suspended".to_owned() } else { format!("not ready: {why}") };
        assert_eq!(ask(port, "/readyz/app"), (503, expected), "{command}");
        console.query(undo).unwrap();
        eventually(SOON, "it is ready again", || ask(port, "/readyz/app").0 == 200);
    }

    cluster.stop(Stop::Fast);
    eventually(SOON, "the loss is noticed", || ask(port, "/readyz/app").0 == 503);
    let (status, line) = ask(port, "/readyz/app");
    assert!(status == 503 && line.starts_with("not ready: ") && line.ends_with("(08006)"), "{status} {line}");
    cluster.start_again();
    // Nobody but who asks makes it try.
    eventually(SOON, "it is back", || ask(port, "/readyz/app").0 == 200);
}

/// An entry that names its user can be tried before any client comes.
#[test]
fn a_database_that_refuses_the_login_is_not_ready() {
    let cluster = Cluster::start();
    let entry = |name: &str, password: &str| {
        format!(
            "[databases.{name}]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\nuser = \"alice\"\npassword = \"{password}\"\n",
            cluster.port()
        )
    };
    let pooler =
        Pooler::start(&cluster, &format!("{}\n{}{}", settings(""), entry("right", "alicepw"), entry("wrong", "x")));
    let port = pooler.http_port();
    assert_eq!(ask(port, "/readyz/right"), (200, "ready: connections to PostgreSQL 1, clients that wait 0".to_owned()));
    let (status, line) = ask(port, "/readyz/wrong");
    assert_eq!(status, 503);
    assert_eq!(line, "not ready: password authentication failed for user \"alice\" (28P01)");
    let all = http::get(port, "/readyz");
    let lines: Vec<_> = all.body.lines().collect();
    assert_eq!((all.status, lines.len()), (503, 3), "{all:?}");
    // Who comes by another name may be anybody.
    let stranger = http::request(port, "GET /readyz/wrong HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!((stranger.status, stranger.body.as_str()), (503, "not ready: no connection to PostgreSQL (28P01)\n"));
    let stranger = http::request(port, "GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!((stranger.status, stranger.body.as_str()), (503, "2 of 3 databases are ready\n"));
}

/// PostgreSQL's host takes connections and says nothing.
#[test]
fn an_answer_never_hangs() {
    let cluster = Cluster::start();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let entry = format!(
        "[databases.silent]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"alice\"\npassword = \"x\"\n",
        silent.local_addr().unwrap().port()
    );
    let pooler = Pooler::start(&cluster, &format!("{}\n{entry}", settings("")));
    let port = pooler.http_port();
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(ask(port, "/readyz/silent"), (503, "not ready: no connection to PostgreSQL within 2 s".to_owned()));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    assert_eq!(ask(port, "/healthz"), (200, "ok".to_owned()));
}

/// Names that only the fallback entry serves make no pools.
#[test]
fn asking_for_names_makes_no_pools() {
    let cluster = Cluster::start();
    let entry = format!(
        "[databases.\"*\"]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"alice\"\npassword = \"alicepw\"\n",
        cluster.port()
    );
    let pooler = Pooler::start(&cluster, &format!("{}\n{entry}", settings("")));
    for number in 0..20 {
        assert_eq!(ask(pooler.http_port(), &format!("/readyz/app{number}")).0, 200);
    }
    let pools = pooler.console().query("SHOW POOLS").unwrap();
    assert_eq!(pools.len(), 1, "the console's own: {pools:?}");
}

#[test]
fn the_next_process_serves_http_too() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::start(&cluster, &settings("").replace(":0", &format!(":{}", free_port())));
    let port = pooler.http_port();
    assert_eq!(ask(port, "/healthz").0, 200);
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("begin").unwrap();
    let _successor = pooler.successor();
    // The former process is still there, and answers no more.
    for _ in 0..50 {
        assert_eq!(ask(port, "/healthz"), (200, "ok".to_owned()));
    }
    assert!(pooler.is_running());
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn an_address_that_is_taken_keeps_nobody_from_being_served() {
    let cluster = Cluster::start();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nhttp_addr = \"{address}\""));
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    let line = pooler.wait_for_log("cannot listen on http_addr", SOON);
    assert!(line.contains("ERROR") && line.contains(&address.to_string()), "{line}");
}
