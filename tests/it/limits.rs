//! How many backends there are: sizes of pools, caps over pools, and who is served when they are used up.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, messages, pool_number};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_pool_never_exceeds_its_size() {
    const CLIENTS: usize = 40;
    const SIZE: usize = 4;
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &format!("default_pool_size = {SIZE}"));
        let port = pooler.port();
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let over = Arc::clone(&over);
                thread::spawn(move || {
                    let mut pids = HashSet::new();
                    let mut client = Raw::login(port, "alice", "alicepw", "app");
                    while !over.load(Relaxed) {
                        let answer = client.query(&format!("select pg_backend_pid(), {number}, pg_sleep(0.002)"));
                        let row = answer.unwrap().remove(0);
                        assert_eq!(row[1], Some(number.to_string()), "another client's row");
                        pids.insert(row[0].clone().unwrap());
                    }
                    pids
                })
            })
            .collect();
        let mut watcher = Raw::login(cluster.port(), "postgres", "", "postgres");
        let used = || cluster.backend_pids("alice").len();
        eventually(SOON, "the pool is filled", || used() == SIZE);
        let mut most = 0;
        for _ in 0..300 {
            let count: usize = watcher
                .value(
                    "select count(*) from pg_stat_activity where usename = 'alice' and datname = 'app' \
                        and application_name not like 'pgpool budget %'",
                )
                .parse()
                .unwrap();
            assert!(count <= SIZE, "{count} backends");
            most = most.max(count);
        }
        over.store(true, Relaxed);
        let pids: HashSet<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert_eq!((most, pids.len()), (SIZE, SIZE), "all of the pool is used, and nothing was opened twice");
    });
}

#[test]
fn waiters_are_served_first_come_first_served() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let mut console = pooler.console();
        let mut holder = pooler.login("alice", "alicepw", "app");
        holder.query("create sequence turns; create table served (turn int, who int)").unwrap();
        let mut waiters: Vec<_> = (0..10).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        holder.query("begin").unwrap();
        for (number, waiter) in waiters.iter_mut().enumerate() {
            waiter.send(&messages::query(&format!("insert into served values (nextval('turns'), {number})")));
            let queued = number as u64 + 1;
            eventually(SOON, "the client is queued", || {
                pool_number(&mut console, "app", "alice", "cl_waiting") == queued
            });
        }
        holder.query("commit").unwrap();
        // One who comes back goes to the end of the queue.
        let last = holder.value("select count(*) from served");
        for waiter in &mut waiters {
            assert!(waiter.read_until_ready().iter().all(|message| message.tag != b'E'));
        }
        assert_eq!(last, "10");
        let order = holder.value("select string_agg(who::text, ' ' order by turn) from served");
        assert_eq!(order, "0 1 2 3 4 5 6 7 8 9");
    });
}

#[test]
fn a_waiter_takes_a_new_backend_while_all_others_are_busy() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 3");
        let mut holders: Vec<_> = (0..2).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        for holder in &mut holders {
            holder.query("begin").unwrap();
        }
        let mut third = pooler.login("alice", "alicepw", "app");
        third.query("begin").unwrap();
        assert_eq!(cluster.backend_pids("alice").len(), 3);
        // A raised size serves who waits already, without anything given back.
        let mut fourth = pooler.login("alice", "alicepw", "app");
        fourth.send(&messages::query("select 4"));
        assert!(fourth.is_silent_for(Duration::from_millis(300)));
        pooler.console().query("SET default_pool_size = 4").unwrap();
        assert_eq!(fourth.read_until_ready().len(), 4);
        assert_eq!(cluster.backend_pids("alice").len(), 4);
    });
}

#[test]
fn min_pool_size_is_filled_without_clients_and_refilled() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = format!(
            "min_pool_size = 0\ndefault_pool_size = 6\n[databases.app]\nmin_pool_size = 3\n[databases.forced]\n\
             host = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\nuser = \"trusty\"\nmin_pool_size = 2\n\
             [users]\nbob = \"unset\"\ncarol = \"unset\"\npostgres = \"unset\"\ntrusty = \"unset\"\n",
            cluster.port()
        );
        let _pooler = Pooler::trusting(&cluster, workers, &settings);
        for (user, size) in [("alice", 3), ("trusty", 2)] {
            eventually(SOON, "the pool is filled", || cluster.backend_pids(user).len() == size);
        }
        let before = cluster.backend_pids("alice");
        cluster.terminate_backend(before[0]);
        cluster.terminate_backend(before[1]);
        eventually(SOON, "the pool is filled again", || cluster.backend_pids("alice").len() == 3);
        let after = cluster.backend_pids("alice");
        assert!(after.contains(&before[2]) && !after.contains(&before[0]) && !after.contains(&before[1]));
    });
}

#[test]
fn the_reserve_is_used_after_its_timeout_only() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "default_pool_size = 1\nreserve_pool_size = 2\nreserve_pool_timeout = 1";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut clients: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        let mut console = pooler.console();
        clients[0].query("begin").unwrap();
        let start = Instant::now();
        for (number, client) in clients[1..].iter_mut().enumerate() {
            client.send(&messages::query("begin"));
            let queued = number as u64 + 1;
            eventually(SOON, "the client is queued", || {
                pool_number(&mut console, "app", "alice", "cl_waiting") == queued
            });
        }
        clients[1].read_until_ready();
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(1), "the reserve was used after {waited:?}");
        clients[2].read_until_ready();
        assert_eq!(cluster.backend_pids("alice").len(), 3);
        // Size and reserve are used up.
        assert!(clients[3].is_silent_for(Duration::from_millis(1300)));
        assert_eq!(cluster.backend_pids("alice").len(), 3);
        clients[1].query("commit").unwrap();
        clients[3].read_until_ready();
    });
}

#[test]
fn caps_over_pools_evict_idle_backends_of_siblings() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let other = format!("[databases.other]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.port());
        // Two users of one database, then two databases of one user.
        for (cap, second) in [("max_db_connections", ("bob", "app")), ("max_user_connections", ("alice", "other"))] {
            let pooler = Pooler::trusting(&cluster, workers, &format!("{cap} = 2\n{other}"));
            let login = |(user, database): (&str, &str)| pooler.login(user, &format!("{user}pw"), database);
            let both = || cluster.backend_pids("alice").len() + cluster.backend_pids("bob").len();
            let mut mine: Vec<_> = (0..2).map(|_| login(("alice", "app"))).collect();
            mine.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
            assert_eq!(both(), 2);
            // All are busy: the other pool waits. One is given back: it goes, and the other pool has room.
            let (user, database) = second;
            let mut theirs = Raw::connect(pooler.port());
            theirs.startup(&[("user", user), ("database", database)]);
            let (sent, done) = std::sync::mpsc::channel();
            let theirs = thread::spawn(move || {
                theirs.authenticate(user, &format!("{user}pw")).unwrap();
                sent.send(()).unwrap();
                theirs.query("begin").unwrap();
                theirs
            });
            assert!(done.recv_timeout(Duration::from_millis(400)).is_err(), "{cap} was exceeded");
            assert_eq!(both(), 2, "{cap}");
            mine[0].query("commit").unwrap();
            let mut theirs = theirs.join().unwrap();
            assert_eq!(both(), 2, "{cap}");
            // And back again, since both hold one now and want another.
            mine[1].query("commit").unwrap();
            theirs.query("commit").unwrap();
            mine.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
            assert_eq!(both(), 2, "{cap}");
            mine.iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
        }
    });
}

#[test]
fn round_robin_uses_all_backends_and_otherwise_one_is_enough() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for round_robin in [false, true] {
            let settings = format!("default_pool_size = 4\nserver_round_robin = {round_robin}");
            let pooler = Pooler::trusting(&cluster, workers, &settings);
            let mut clients: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "app")).collect();
            for client in &mut clients {
                client.query("begin").unwrap();
            }
            for client in &mut clients {
                client.query("commit").unwrap();
            }
            let pids: Vec<_> = (0..12).map(|_| clients[0].value("select pg_backend_pid()")).collect();
            let different: HashSet<_> = pids.iter().collect();
            assert_eq!(different.len(), if round_robin { 4 } else { 1 }, "{pids:?}");
            if round_robin {
                assert_eq!((&pids[..4], &pids[4..8]), (&pids[4..8], &pids[8..]), "in turn");
            }
        }
    });
}
