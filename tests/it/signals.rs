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
fn term_waits_for_clients_where_they_may_stay() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "drain_window = 0\ndrain_timeout = 0");
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

/// What a client that waits for something is told at the end.
fn is_told(client: &mut Raw) {
    let error = client.expect_error();
    let told = (error.severity.as_str(), error.code.as_str(), error.message.as_str());
    assert_eq!(told, ("FATAL", "57P01", "pooler is shutting down"));
}

#[test]
fn term_lets_transactions_end_and_tells_idle_clients() {
    for mode in ["transaction", "session"] {
        for_each_worker_count(|workers| {
            let cluster = Cluster::start();
            let settings = format!("pool_mode = \"{mode}\"\ndrain_window = 1\ndefault_pool_size = 3");
            let mut pooler = Pooler::trusting(&cluster, workers, &settings);
            let mut idle = pooler.login("alice", "alicepw", "app");
            let mut listening = pooler.login("alice", "alicepw", "app");
            let mut busy = pooler.login("alice", "alicepw", "app");
            idle.query("select 1").unwrap();
            // Its connection is its own where notifications are the session's, and pinned by the table.
            listening.query("create temporary table kept(a int)").unwrap();
            busy.query("begin").unwrap();
            pooler.signal(Signal::TERM);
            is_told(&mut idle);
            is_told(&mut listening);
            assert_eq!(busy.value("select 'goes on'"), "goes on");
            assert!(pooler.is_running());
            // It has been asked to leave by now, and gets the answer that it waits for first.
            assert!(busy.is_silent_for(Duration::from_secs(1)));
            busy.send(&messages::query("commit"));
            assert_eq!(busy.read().command(), "COMMIT");
            assert_eq!(busy.read().status(), 'I');
            is_told(&mut busy);
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        });
    }
}

#[test]
fn term_serves_queued_clients_and_ends_at_its_deadline() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "drain_window = 0.001\ndrain_timeout = 2\ndefault_pool_size = 1";
        let mut pooler = Pooler::trusting(&cluster, workers, settings);
        let mut holder = pooler.login("alice", "alicepw", "app");
        let mut queued = pooler.login("alice", "alicepw", "app");
        let mut endless = pooler.login("bob", "bobpw", "app");
        holder.query("begin").unwrap();
        endless.query("begin").unwrap();
        queued.send(&messages::query("select 'served'"));
        assert!(queued.is_silent_for(A_WHILE));
        pooler.signal(Signal::TERM);
        assert!(queued.is_silent_for(A_WHILE));
        holder.send(&messages::query("rollback"));
        assert_eq!(queued.read_until(b'D').pop().unwrap().row(), [Some("served".to_owned())]);
        is_told(&mut endless);
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        pooler.wait_for_log("clients are still there, ending", SOON);
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

/// The commands of the console: the more urgent one of two counts, and none but the plain one cuts anybody off.
#[test]
fn a_second_shutdown_of_the_console_cuts_nobody_off() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        const COMMANDS: [&str; 3] = ["SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN DRAIN", "SHUTDOWN WAIT_FOR_SERVERS"];
        for (first, second) in COMMANDS.iter().flat_map(|first| COMMANDS.iter().map(move |second| (*first, *second))) {
            eprintln!("{first}, {second}");
            let mut pooler = Pooler::trusting(&cluster, workers, "drain_window = 0.001\ndrain_timeout = 20");
            let mut busy = pooler.login("alice", "alicepw", "app");
            let mut idle = pooler.login("alice", "alicepw", "app");
            busy.query("begin").unwrap();
            let mut console = pooler.console_unix();
            for command in [first, second] {
                console.query(command).unwrap();
            }
            assert!(busy.is_silent_for(A_WHILE));
            assert_eq!(busy.value("select 'goes on'"), "goes on");
            busy.send(&messages::query("commit"));
            assert_eq!(busy.read().command(), "COMMIT");
            assert_eq!(busy.read().status(), 'I');
            match [first, second].iter().max_by_key(|command| COMMANDS.iter().position(|one| one == *command)) {
                Some(&"SHUTDOWN WAIT_FOR_CLIENTS") => {
                    assert_eq!(idle.value("select 'stays'"), "stays");
                    drop((busy, idle));
                }
                Some(&"SHUTDOWN DRAIN") => {
                    is_told(&mut idle);
                    is_told(&mut busy);
                }
                _ => drop(idle.expect_error()),
            }
            assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
        }
        let mut pooler = Pooler::trusting(&cluster, workers, "");
        let mut busy = pooler.login("alice", "alicepw", "app");
        busy.query("begin").unwrap();
        let mut console = pooler.console_unix();
        console.query("SHUTDOWN WAIT_FOR_CLIENTS").unwrap();
        console.send(&messages::query("SHUTDOWN"));
        is_told(&mut busy);
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}
