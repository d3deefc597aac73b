//! PgBouncer's signals: USR1 and USR2, TERM, INT and QUIT, once and twice.

use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, process::Signal};

const SOON: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_millis(300);

fn refuses_connections(pooler: &Pooler) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", pooler.port())).is_err()
}

#[test]
fn usr1_pauses_and_usr2_resumes() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("select 1").unwrap();
        pooler.signal(Signal::USR1);
        pooler.wait_for_log("PAUSE by signal", SOON);
        eventually(SOON, "the backends are closed", || cluster.backend_pids("alice").is_empty());
        client.send(&messages::query("select 'resumed'"));
        assert!(client.is_silent_for(A_WHILE));
        pooler.signal(Signal::USR2);
        assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some("resumed".to_owned())]);
    });
}

#[test]
fn term_waits_for_clients() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut client = pooler.login("alice", "alicepw", "app");
        pooler.signal(Signal::TERM);
        eventually(SOON, "nobody is let in", || refuses_connections(&pooler));
        assert_eq!(client.value("select 'still served'"), "still served");
        // The Unix socket stays for the console alone.
        let mut late = Raw::connect_unix(pooler.socket());
        late.startup(&[("user", "alice"), ("database", "app")]);
        let error = late.expect_error();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("57P01", "pooler is shutting down"));
        let mut console = Raw::connect_unix(pooler.socket());
        console.startup(&[("user", "postgres"), ("database", "pgpool")]);
        console.authenticate("postgres", "postgrespw").unwrap();
        assert_eq!(console.query("RESUME").unwrap_err().message, "pooler is shutting down");
        assert!(pooler.is_running());
        drop(client);
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}

#[test]
fn int_waits_for_servers() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut busy = pooler.login("alice", "alicepw", "app");
        let mut idle = pooler.login("alice", "alicepw", "app");
        busy.query("begin").unwrap();
        pooler.signal(Signal::INT);
        eventually(SOON, "nobody is let in", || refuses_connections(&pooler));
        idle.send(&messages::query("select 1"));
        let error = idle.expect_error();
        assert_eq!((error.code.as_str(), error.message.as_str()), ("57P01", "server shutting down"));
        assert_eq!(busy.value("select 'goes on'"), "goes on");
        busy.send(&messages::query("commit"));
        assert_eq!(busy.read().command(), "COMMIT");
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}

#[test]
fn quit_and_a_second_signal_end_at_once() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for (first, second) in
            [(Signal::QUIT, None), (Signal::TERM, Some(Signal::TERM)), (Signal::INT, Some(Signal::INT))]
        {
            let mut pooler = Pooler::trusting(&cluster, workers, "");
            let mut busy = pooler.login("alice", "alicepw", "app");
            busy.query("begin").unwrap();
            pooler.signal(first);
            if let Some(second) = second {
                eventually(SOON, "nobody is let in", || refuses_connections(&pooler));
                assert_eq!(busy.value("select 'goes on'"), "goes on");
                pooler.signal(second);
            }
            let error = busy.expect_error();
            let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
            assert_eq!(told, ("FATAL", "57P01", "pooler is shutting down"));
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        }
    });
}
