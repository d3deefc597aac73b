//! Several processes behind one port: a cancel request finds the process whose client it is for, in PgBouncer's layout of
//! keys.

mod mixed;

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, process::Signal, table::Table,
};

const SOON: Duration = Duration::from_secs(10);

fn with_peers(cluster: &Cluster, workers: usize, id: u16, port: u16, peers: &str) -> Pooler {
    let settings = format!("so_reuseport = true\nlisten_port = {port}\npeer_id = {id}\nauth_type = \"trust\"\n{peers}");
    Pooler::with_workers(cluster, workers, &settings)
}

fn runs(cluster: &Cluster) -> bool {
    cluster.sql("app", "select count(*) from pg_stat_activity where query like 'select pg_sleep%'") == "1"
}

/// Cancels by a Unix socket, so that the process that is asked is known.
fn cancel_at(pooler: &Pooler, key: &(u32, Vec<u8>)) {
    let mut raw = Raw::connect_unix(pooler.socket());
    raw.send(&messages::cancel_request(key.0, &key.1));
    raw.expect_eof();
}

#[test]
fn a_cancel_request_finds_the_process_of_its_client() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let second = with_peers(&cluster, workers, 0x0102, port, "");
        let dir = second.dir().display();
        let peers =
            format!("[peers.258]\nhost = \"{dir}\"\nport = {port}\npool_size = 2\n[peers.3]\nhost = \"/nowhere\"");
        let first = with_peers(&cluster, workers, 1, port, &peers);
        assert_eq!(first.port(), second.port());
        let mut client = Raw::connect_unix(second.socket());
        client.startup(&[("user", "alice"), ("database", "app")]);
        client.authenticate("alice", "alicepw").unwrap();
        let key = client.backend_key.clone().unwrap();
        let [_, low, high, _] = key.0.to_be_bytes();
        assert_eq!((low, high, key.1.len(), key.1[3] & 3), (2, 1, 4, 3));
        assert!(i32::try_from(key.0).is_ok());

        client.send(&messages::query("select pg_sleep(60)"));
        eventually(SOON, "the query runs", || runs(&cluster));
        cancel_at(&first, &key);
        assert_eq!(client.expect_error().code, "57014");
        client.read_until_ready();

        // Passed on three times already, it goes no further; nor does one of a peer that is not there, or of nobody.
        client.send(&messages::query("select pg_sleep(60)"));
        eventually(SOON, "the query runs", || runs(&cluster));
        let mut spent = key.clone();
        spent.1[3] &= !3;
        cancel_at(&first, &spent);
        cancel_at(&first, &(3 << 16, spent.1.clone()));
        cancel_at(&first, &(4 << 16, key.1.clone()));
        cancel_at(&first, &(7, key.1.clone()));
        assert!(client.is_silent_for(Duration::from_millis(300)));
        // At its own process the count does not matter.
        cancel_at(&second, &spent);
        assert_eq!(client.expect_error().code, "57014");

        let mut console = first.console_unix();
        let shown = Table::of(&mut console, "show peers");
        assert_eq!(shown.column("peer_id"), ["3", "258"]);
        assert_eq!(shown.column("pool_size"), ["20", "2"]);
        let shown = Table::of(&mut console, "show peer_pools");
        assert_eq!(shown.column("cl_active_cancel_req"), ["0", "0"]);
    });
}

#[test]
fn a_peer_may_be_named_at_a_reload() {
    let cluster = Cluster::start();
    let mut second = Pooler::trusting(&cluster, 1, "peer_id = 2");
    let first = Pooler::trusting(&cluster, 1, "peer_id = 1");
    let mut client = second.login("alice", "alicepw", "app");
    let named = format!(
        "[pgpool]\nauth_type = \"trust\"\nworker_threads = 1\npeer_id = 1\n[peers.2]\nhost = \"127.0.0.1\"\nport = {}",
        second.port()
    );
    let mark = first.reload(&cluster, &named);
    first.wait_for_log_since(mark, "configuration reloaded", SOON);
    client.send(&messages::query("select pg_sleep(60)"));
    eventually(SOON, "the query runs", || runs(&cluster));
    Raw::cancel(first.port(), client.backend_key.as_ref().unwrap());
    assert_eq!(client.expect_error().code, "57014");
    second.signal(Signal::QUIT);
    assert_eq!(second.wait_exit(SOON).code(), Some(0));
}

/// Connects, runs one transaction and leaves.
fn try_transaction(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(&messages::startup(196_608, &[("user", "alice"), ("database", "app")]))?;
    until_ready(&mut stream)?;
    stream.write_all(&messages::query("select 1"))?;
    until_ready(&mut stream)?;
    stream.write_all(&messages::terminate())
}

fn until_ready(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body)?;
        match head[0] {
            b'Z' => return Ok(()),
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
            _ => {}
        }
    }
}

/// A rolling restart: clients that connect for each transaction notice nothing of eight processes that end.
#[test]
fn no_transaction_fails_while_processes_behind_one_port_are_restarted() {
    for drain in ["drain_window = 0\ndrain_timeout = 0", "drain_window = 1\ndrain_timeout = 5"] {
        for_each_worker_count(|workers| {
            let cluster = Cluster::start();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let start = || with_peers(&cluster, workers, 0, port, &format!("log_disconnections = false\n{drain}"));
            let mut processes = [start(), start()];
            let over = AtomicBool::new(false);
            let looping = || {
                let (mut done, mut failures) = (0, Vec::new());
                while !over.load(Relaxed) {
                    match try_transaction(port) {
                        Ok(()) => done += 1,
                        Err(error) => failures.push(error),
                    }
                }
                (done, failures)
            };
            let (mut done, mut failures) = (0, Vec::new());
            thread::scope(|scope| {
                let clients: Vec<_> = (0..6).map(|_| scope.spawn(looping)).collect();
                for turn in 0..8 {
                    thread::sleep(Duration::from_millis(200));
                    let process = &mut processes[turn % 2];
                    process.signal(Signal::TERM);
                    assert_eq!(process.wait_exit(SOON).code(), Some(0));
                    *process = start();
                }
                over.store(true, Relaxed);
                for client in clients {
                    let (some, failed) = client.join().unwrap();
                    done += some;
                    failures.extend(failed);
                }
            });
            // Where the system does not let this user filter what comes to a socket, it resets who connects between the
            // last look at the queue and the close.
            let by_system = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
            assert!(failures.iter().all(by_system) && failures.len() <= 2, "{failures:?}, {done} done");
            assert!(done > 100, "{done}");
            eprintln!("{done} transactions, {} reset", failures.len());
        });
    }
}

/// The same as one would see it from a single client: who connects in the moment of the end is served.
#[test]
fn who_has_connected_when_the_end_begins_is_served() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let mut pooler = Pooler::trusting(&cluster, workers, "drain_window = 0.001\ndrain_timeout = 20");
        let mut connected: Vec<Raw> = (0..20).map(|_| Raw::connect(pooler.port())).collect();
        connected.push(Raw::connect_unix(pooler.socket()));
        pooler.signal(Signal::TERM);
        for mut client in connected {
            client.startup(&[("user", "alice"), ("database", "app")]);
            client.authenticate("alice", "alicepw").unwrap();
            assert_eq!(client.value("select 'served'"), "served");
            let told = client.expect_error();
            assert_eq!((told.code.as_str(), told.message.as_str()), ("57P01", "pooler is shutting down"));
        }
        assert_eq!(pooler.wait_exit(SOON).code(), Some(0));
    });
}
