//! SUSPEND: nothing moves until RESUME, or until the console that commanded it is gone.

use std::{
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::support::{Cluster, Pooler, Raw, Table, eventually, for_each_worker_count, messages, process::Signal};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(300);

fn refusal(console: &mut Raw, command: &str) -> String {
    let error = console.query(command).unwrap_err();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "08P01"), "{error:?}");
    error.message
}

fn is_suspended(console: &mut Raw) -> bool {
    let state = Table::of(console, "SHOW STATE");
    let says = |key: &str| state.matching(&[("key", key)]).value("value");
    let suspended = says("suspended") == "yes";
    assert_eq!((says("active") == "yes", says("paused").as_str()), (!suspended, "no"));
    suspended
}

/// A login that waits for its answer.
fn late(pooler: &Pooler) -> Receiver<String> {
    let (port, (done, outcome)) = (pooler.port(), channel());
    thread::spawn(move || done.send(Raw::login(port, "alice", "alicepw", "app").value("select 'late'")));
    outcome
}

#[test]
fn nothing_moves_until_resume() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        let mut console = pooler.console();
        let mut clients: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        clients[0].query("begin").unwrap();
        clients[1].send(&messages::query("select pg_sleep(1), 'slow'"));
        let states = |console: &mut Raw| {
            Table::of(console, "SHOW CLIENTS").matching(&[("user", "alice")]).column("state").join(" ")
        };
        eventually(SOON, "it runs", || states(&mut console) == "active active idle idle");
        clients[2].send(&messages::query("select 'queued'"));
        eventually(SOON, "it waits", || states(&mut console) == "active active waiting idle");
        console.query("SUSPEND").unwrap();
        assert!(is_suspended(&mut console));
        clients[3].send(&messages::query("select 'idle'"));
        clients[0].send(&messages::query("select 'in a transaction'"));
        let late = late(&pooler);
        for client in &mut clients {
            assert!(client.is_silent_for(A_WHILE));
        }
        assert!(late.try_recv().is_err());
        // Whoever is an administrator still gets at the console.
        let mut other = pooler.console();
        for command in ["SUSPEND", "PAUSE", "PAUSE app", "KILL app"] {
            assert_eq!(refusal(&mut other, command), "already suspended/paused", "{command}");
        }
        assert_eq!(refusal(&mut other, "RESUME app"), "database app is not paused");
        other.query("RESUME").unwrap();
        assert!(!is_suspended(&mut console));
        for (client, answer) in clients[..2].iter_mut().zip(["in a transaction", "slow"]) {
            let row = client.read_until(b'D').pop().unwrap().row();
            assert_eq!(row.last().unwrap().as_deref(), Some(answer));
            client.read_until_ready();
        }
        clients[0].query("commit").unwrap();
        for (client, answer) in clients[2..].iter_mut().zip(["queued", "idle"]) {
            assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some(answer.to_owned())]);
        }
        assert_eq!(late.recv_timeout(SOON).unwrap(), "late");
        assert_eq!(refusal(&mut console, "RESUME"), "pooler is not paused/suspended");
        console.query("PAUSE app").unwrap();
        assert_eq!(refusal(&mut console, "SUSPEND"), "cannot suspend with paused databases");
        console.query("RESUME app").unwrap();
        console.query("PAUSE").unwrap();
        assert_eq!(refusal(&mut console, "SUSPEND"), "already suspended/paused");
    });
}

#[test]
fn it_ends_with_the_session_that_commanded_it() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "");
        let mut watching = pooler.console();
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut console = pooler.console();
        console.query("SUSPEND").unwrap();
        client.send(&messages::query("select 'held'"));
        assert!(client.is_silent_for(A_WHILE) && is_suspended(&mut watching));
        drop(console);
        assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some("held".to_owned())]);
        client.read_until_ready();
        assert!(!is_suspended(&mut watching));
        // One that is over is not ended by the end of its session.
        let mut console = pooler.console();
        console.query("SUSPEND").unwrap();
        watching.query("RESUME").unwrap();
        watching.query("SUSPEND").unwrap();
        console.send(&messages::terminate());
        console.expect_eof();
        assert!(is_suspended(&mut watching));
        pooler.signal(Signal::USR1);
        pooler.wait_for_log("PAUSE by signal is ignored", SOON);
        pooler.signal(Signal::USR2);
        assert_eq!(client.value("select 'goes on'"), "goes on");
    });
}

#[test]
fn who_does_not_read_is_waited_for_until_suspend_timeout() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 2, "");
    let mut console = pooler.console();
    let mut deaf = pooler.login("alice", "alicepw", "app");
    deaf.send(&messages::query("select repeat('x', 1000) from generate_series(1, 100000)"));
    let full = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'";
    let mut looks = 0;
    eventually(SOON, "its answer piles up", || {
        looks = if cluster.sql("app", full) == "1" { looks + 1 } else { 0 };
        looks > 10
    });
    let mut suspending = pooler.console();
    let key = suspending.backend_key.clone().unwrap();
    suspending.send(&messages::query("SUSPEND"));
    assert!(suspending.is_silent_for(A_WHILE), "it did not wait for who does not read");
    Raw::cancel(pooler.port(), &key);
    let error = suspending.expect_error();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "57014"));
    suspending.read_until_ready();
    assert!(!is_suspended(&mut console));
    console.query("SET suspend_timeout = 0.5").unwrap();
    suspending.query("SUSPEND").unwrap();
    assert!(pooler.log().contains("suspend_timeout"));
    assert!(Table::of(&mut console, "SHOW CLIENTS").matching(&[("user", "alice")]).rows.is_empty());
    suspending.query("RESUME").unwrap();
    assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
}
