//! A fleet of pgpools and PgBouncers: a cancel request that comes to one of them finds a client of any other.

use std::{
    io::Read,
    net::TcpListener,
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use super::{SOON, runs};
use crate::support::{Cluster, Pooler, Raw, bouncer::Bouncer, cluster::free_port, eventually, messages};

/// What no request takes that is passed on by several processes.
const A_WHILE: Duration = Duration::from_millis(500);
/// Clients that come until some of them are with either of two processes at one port.
const CLIENTS: usize = 40;
const ROUNDS: usize = 12;

type Key = (u32, Vec<u8>);

/// The settings of pgpool as a member; each peer with its port at 127.0.0.1.
fn pgpool(cluster: &Cluster, id: u16, port: u16, peers: &[(u16, u16)]) -> Pooler {
    let peers: String =
        peers.iter().map(|(id, port)| format!("[peers.{id}]\nhost = \"127.0.0.1\"\nport = {port}\n")).collect();
    let settings =
        format!("peer_id = {id}\nlisten_port = {port}\nso_reuseport = true\ncancel_wait_timeout = 3\n{peers}");
    Pooler::trusting(cluster, 1, &settings)
}

/// The same of PgBouncer.
fn pgbouncer(cluster: &Cluster, id: u16, port: u16, peers: &[(u16, u16)]) -> Bouncer {
    let peers: String = peers.iter().map(|(id, port)| format!("{id} = host=127.0.0.1 port={port}\n")).collect();
    let settings = format!("peer_id = {id}\nso_reuseport = 1\ncancel_wait_timeout = 3\n[peers]\n{peers}");
    Bouncer::newer(cluster, Some(port), &settings)
}

fn login(socket: &Path) -> Raw {
    let mut client = Raw::connect_unix(socket);
    client.startup(&[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "alicepw").unwrap();
    client
}

fn key_of(client: &Raw) -> Key {
    client.backend_key.clone().unwrap()
}

/// Whose key it is, and how often a request with it may be passed on.
fn read(key: &Key) -> (u16, u8) {
    let [_, low, high, _] = key.0.to_be_bytes();
    (u16::from_le_bytes([low, high]), key.1[3] & 3)
}

fn with_hops(key: &Key, hops: u8) -> Key {
    let mut key = key.clone();
    key.1[3] = (key.1[3] & !3) | hops;
    key
}

fn cancel_at(socket: &Path, key: &Key) {
    let mut raw = Raw::connect_unix(socket);
    raw.send(&messages::cancel_request(key.0, &key.1));
    raw.expect_eof();
}

/// A query of the client's runs in PostgreSQL.
fn sleep(cluster: &Cluster, client: &mut Raw) {
    client.send(&messages::query("select pg_sleep(60)"));
    eventually(SOON, "the query runs", || runs(cluster));
}

/// It was cancelled, and the client goes on.
fn expect_canceled(cluster: &Cluster, client: &mut Raw) {
    assert_eq!(client.expect_error().code, "57014");
    client.read_until_ready();
    assert_eq!(client.value("select 1"), "1");
    eventually(SOON, "no query runs", || !runs(cluster));
}

/// A member that is none: the keys of the requests that come to it.
fn listener() -> (u16, Receiver<Key>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut request = [0; 16];
            if socket.read_exact(&mut request).is_ok() {
                let id = u32::from_be_bytes(request[8..12].try_into().unwrap());
                let _ = sender.send((id, request[12..].to_vec()));
            }
        }
    });
    (port, receiver)
}

#[test]
fn a_request_finds_its_client_from_the_one_to_the_other() {
    let cluster = Cluster::start();
    let (ours, theirs) = (free_port(), free_port());
    // Both bytes of an id count.
    let pgbouncer = pgbouncer(&cluster, 0x0102, theirs, &[(0x0304, ours)]);
    let pgpool = pgpool(&cluster, 0x0304, ours, &[(0x0102, theirs)]);
    let sockets = [pgpool.socket().to_owned(), pgbouncer.socket()];
    for (home, id, other) in [(0, 0x0304, 1), (1, 0x0102, 0)] {
        let mut client = login(&sockets[home]);
        let key = key_of(&client);
        assert_eq!((read(&key), key.1.len()), ((id, 3), 4));
        for at in [other, home, other] {
            sleep(&cluster, &mut client);
            cancel_at(&sockets[at], &key);
            expect_canceled(&cluster, &mut client);
        }
        // By its own process the count is not looked at; another one passes on what may be passed on.
        for (at, hops) in [(home, 0), (other, 1), (other, 2)] {
            sleep(&cluster, &mut client);
            cancel_at(&sockets[at], &with_hops(&key, hops));
            expect_canceled(&cluster, &mut client);
        }
        sleep(&cluster, &mut client);
        cancel_at(&sockets[other], &with_hops(&key, 0));
        let wrong = (key.0, key.1.iter().map(|byte| byte ^ 4).collect());
        cancel_at(&sockets[other], &wrong);
        // Nobody's, by an id that none has.
        cancel_at(&sockets[other], &(0x0055_6677, key.1.clone()));
        cancel_at(&sockets[home], &(0x0055_6677, key.1.clone()));
        assert!(client.is_silent_for(A_WHILE), "somebody else's request has hit");
        cancel_at(&sockets[other], &key);
        expect_canceled(&cluster, &mut client);
    }
}

/// A key of protocol 3.2 is longer than PgBouncer knows; it finds its client from another pgpool alone.
#[test]
fn a_long_key_is_passed_on_by_pgpool_alone() {
    let cluster = Cluster::start();
    let (home, other, third) = (free_port(), free_port(), free_port());
    let home = pgpool(&cluster, 1, home, &[]);
    let peers = [(1, home.port())];
    let (pgpool, pgbouncer) = (pgpool(&cluster, 2, other, &peers), pgbouncer(&cluster, 3, third, &peers));
    let mut client = Raw::connect(home.port());
    client.startup_with_version(2, &[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "").unwrap();
    let key = key_of(&client);
    assert_eq!((read(&key), key.1.len()), ((1, 3), 32));
    sleep(&cluster, &mut client);
    cancel_at(&pgbouncer.socket(), &key);
    assert!(client.is_silent_for(A_WHILE), "PgBouncer has learnt it: docs/differences.md says otherwise");
    cancel_at(pgpool.socket(), &key);
    expect_canceled(&cluster, &mut client);
}

/// Each of three knows but one other, to whom it gives what is for the third.
#[test]
fn a_request_goes_over_another_member_and_no_further_than_it_may() {
    let cluster = Cluster::start();
    let ports = [free_port(), free_port(), free_port()];
    let (nobody, requests) = listener();
    // 1 is a pgpool that reaches 3 and 9 by 2, a PgBouncer; 3 is a pgpool that reaches 1 and 8 by 2. 9 is behind 2 and 8
    // behind 1.
    let one = pgpool(&cluster, 1, ports[0], &[(2, ports[1]), (3, ports[1]), (9, ports[1]), (8, nobody)]);
    let two = pgbouncer(&cluster, 2, ports[1], &[(1, ports[0]), (3, ports[2]), (9, nobody), (8, ports[0])]);
    let three = pgpool(&cluster, 3, ports[2], &[(1, ports[1]), (2, ports[1]), (8, ports[1])]);
    let sockets = [one.socket().to_owned(), two.socket(), three.socket().to_owned()];
    for (home, asked) in [(2, 0), (0, 2), (1, 0), (1, 2)] {
        let mut client = login(&sockets[home]);
        let key = key_of(&client);
        sleep(&cluster, &mut client);
        cancel_at(&sockets[asked], &key);
        expect_canceled(&cluster, &mut client);
    }
    // One may be left of the count where another member is still between, but not none.
    let mut client = login(&sockets[2]);
    let key = key_of(&client);
    sleep(&cluster, &mut client);
    cancel_at(&sockets[0], &with_hops(&key, 1));
    assert!(client.is_silent_for(A_WHILE));
    cancel_at(&sockets[0], &with_hops(&key, 2));
    expect_canceled(&cluster, &mut client);

    // What arrives behind both has lost one at each: pgpool then PgBouncer, and PgBouncer then pgpool.
    let key = |id: u32, hops| with_hops(&(id << 8 | 0x0100_0005, vec![7, 7, 7, 0x80]), hops);
    for (asked, id) in [(0, 9), (1, 8)] {
        cancel_at(&sockets[asked], &key(id << 8, 3));
        assert_eq!(requests.recv_timeout(SOON), Ok(key(id << 8, 1)), "{asked}");
        cancel_at(&sockets[asked], &key(id << 8, 1));
    }
    // By three members all is used up, and goes no further.
    cancel_at(&sockets[2], &key(8 << 8, 3));
    assert_eq!(requests.recv_timeout(SOON), Ok(key(8 << 8, 0)));
    cancel_at(&sockets[2], &key(8 << 8, 2));
    assert!(requests.recv_timeout(A_WHILE).is_err());
}

/// Members that name each other for an id that neither has do so until the count is used up.
#[test]
fn a_request_does_not_go_round_for_ever() {
    let cluster = Cluster::start();
    let ports = [free_port(), free_port()];
    let pgbouncer = pgbouncer(&cluster, 2, ports[1], &[(1, ports[0]), (9, ports[0])]);
    let pgpool = pgpool(&cluster, 1, ports[0], &[(2, ports[1]), (9, ports[1])]);
    for socket in [pgpool.socket().to_owned(), pgbouncer.socket()] {
        let begun = Instant::now();
        cancel_at(&socket, &(9 << 16, vec![7, 7, 7, 3]));
        // Each waits for the next, so a circle would last until cancel_wait_timeout.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert_eq!(pgpool.login("alice", "", "app").value("select 1"), "1");
    assert_eq!(pgbouncer.login("alice", "alicepw", "app").value("select 1"), "1");
}

#[test]
fn at_one_port_a_request_finds_its_client_wherever_it_arrives() {
    let cluster = Cluster::start();
    let port = free_port();
    // To each other they are reached by their Unix sockets, since the port is both's.
    let pgbouncer = pgbouncer(&cluster, 2, port, &[]);
    let peer = format!("[peers.2]\nhost = \"{}\"\nport = {port}", pgbouncer.dir().display());
    let settings = format!("peer_id = 1\nso_reuseport = true\nlisten_port = {port}\n{peer}");
    let pgpool = Pooler::trusting(&cluster, 2, &settings);
    let named = format!("1 = host={} port={port}\n", pgpool.dir().display());
    pgbouncer.add(&named);
    pgbouncer.console_unix().query("RELOAD").unwrap();

    let mut clients: [Vec<Raw>; 2] = Default::default();
    for _ in 0..CLIENTS {
        let mut client = Raw::connect(port);
        client.startup(&[("user", "alice"), ("database", "app")]);
        client.authenticate("alice", "alicepw").unwrap();
        let (id, _) = read(&key_of(&client));
        clients[usize::from(id) - 1].push(client);
        if clients.iter().all(|some| !some.is_empty()) {
            break;
        }
    }
    for client in clients.iter_mut().map(|some| some.first_mut().expect("both take clients")) {
        let key = key_of(client);
        for _ in 0..ROUNDS {
            sleep(&cluster, client);
            Raw::cancel(port, &key);
            expect_canceled(&cluster, client);
        }
    }
}
