//! Backends that die, and a PostgreSQL that goes away: who hears of it, who does not, and how it goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, Raw, Stop, eventually, for_each_worker_count, messages, reply::PgError};

const SOON: Duration = Duration::from_secs(10);
const TERMINATED: (&str, &str) = ("57P01", "terminating connection due to administrator command");

/// All errors up to the end of the stream, each FATAL.
fn last_words(client: &mut Raw) -> Vec<(String, String)> {
    let errors = std::iter::from_fn(|| client.read_or_eof()).filter(|message| message.tag == b'E');
    let told = |error: PgError| {
        assert_eq!(error.severity, "FATAL", "{error:?}");
        (error.code, error.message)
    };
    errors.map(|message| told(message.error())).collect()
}

fn words(told: &[(&str, &str)]) -> Vec<(String, String)> {
    told.iter().map(|(code, message)| ((*code).to_owned(), (*message).to_owned())).collect()
}

#[test]
fn a_backend_that_died_on_the_shelf_is_never_lent() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        for round_robin in [false, true] {
            let settings = format!("default_pool_size = 3\nserver_round_robin = {round_robin}");
            let pooler = Pooler::trusting(&cluster, workers, &settings);
            let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
            for _ in 0..2 {
                clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
                clients.iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
                for pid in cluster.backend_pids("alice") {
                    cluster.terminate_backend(pid);
                }
                for client in &mut clients {
                    assert_eq!(client.value("select 1"), "1");
                }
            }
        }
    });
}

#[test]
fn a_backend_that_is_terminated_in_a_turn_takes_one_client_with_it() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 3");
        let mut other = pooler.login("alice", "alicepw", "app");
        let mut bystander = pooler.login("alice", "alicepw", "app");
        bystander.query("begin").unwrap();
        for running in [true, false] {
            let mut victim = pooler.login("alice", "alicepw", "app");
            victim.query("begin").unwrap();
            let pid = victim.value("select pg_backend_pid()").parse().unwrap();
            if running {
                victim.send(&messages::query("select pg_sleep(30)"));
                let running =
                    format!("select count(*) from pg_stat_activity where pid = {pid} and query like '%sleep(30)'");
                eventually(SOON, "the query runs", || cluster.sql("postgres", &running) == "1");
            }
            cluster.terminate_backend(pid);
            assert_eq!(last_words(&mut victim), words(&[TERMINATED, ("08006", "server conn crashed?")]));
            assert_eq!(other.value("select 'not touched'"), "not touched");
            assert_eq!(bystander.value("select 'neither'"), "neither");
        }
        bystander.query("commit").unwrap();
        // The pool is whole again.
        let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
    });
}

#[test]
fn clients_between_transactions_survive_a_crash() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 3");
        let mut clients: Vec<_> = (0..4).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        let mut victim = clients.pop().unwrap();
        for client in &mut clients {
            assert_eq!(client.value("select 1"), "1");
        }
        victim.query("begin").unwrap();
        let pid = victim.value("select pg_backend_pid()").parse().unwrap();
        cluster.kill_backend(pid);
        // It could say nothing any more, and PostgreSQL ends all the others.
        assert_eq!(last_words(&mut victim), words(&[("08006", "server conn crashed?")]));
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.value(&format!("select {number}")), number.to_string());
        }
        cluster.wait_until_recovered();
    });
}

/// Clients that ask for their own numbers without a pause, until told to end.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(port: u16, clients: u64) -> Self {
        let (over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |number| {
            let (over, answers) = (Arc::clone(&over), Arc::clone(&answers));
            thread::spawn(move || ask_until(port, number, &over, &answers))
        };
        let clients = (0..clients).map(client).collect();
        Self { over, answers, clients }
    }

    pub(crate) fn wait_for_answers(&self, more: u64) {
        let goal = self.answers.load(Relaxed) + more;
        eventually(SOON, "the load goes on", || self.answers.load(Relaxed) >= goal);
    }

    /// The SQLSTATEs that the clients saw.
    pub(crate) fn end(self) -> Vec<Vec<String>> {
        self.over.store(true, Relaxed);
        self.clients.into_iter().map(|client| client.join().unwrap()).collect()
    }
}

fn ask_until(port: u16, number: u64, over: &AtomicBool, answers: &AtomicU64) -> Vec<String> {
    let mut codes = Vec::new();
    let mut client = Raw::login(port, "alice", "alicepw", "app");
    let mut count = 0;
    while !over.load(Relaxed) {
        count += 1;
        client.send(&messages::query(&format!("select '{number}', {count}")));
        let mut answer = std::iter::from_fn(|| client.read_or_eof()).take_while(|message| message.tag != b'Z');
        match answer.find(|message| matches!(message.tag, b'D' | b'E')) {
            Some(message) if message.tag == b'D' => {
                assert_eq!(message.row(), [Some(number.to_string()), Some(count.to_string())], "a wrong answer");
                let rest: Vec<_> = answer.collect();
                // PostgreSQL may end between the answer and its ReadyForQuery.
                if let Some(error) = rest.iter().find(|message| message.tag == b'E') {
                    codes.push(error.error().code);
                    client = Raw::login(port, "alice", "alicepw", "app");
                    continue;
                }
                assert!(rest.iter().all(|message| message.tag == b'C'), "more than one answer");
                answers.fetch_add(1, Relaxed);
            }
            Some(message) => {
                codes.push(message.error().code);
                client = Raw::login(port, "alice", "alicepw", "app");
            }
            None => panic!("closed without a word"),
        }
    }
    codes
}

#[test]
fn a_restart_under_load_is_seen_only_by_those_in_flight() {
    for_each_worker_count(|workers| {
        let mut cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 4");
        let load = Load::start(pooler.port(), 12);
        load.wait_for_answers(200);
        let mut idle: Vec<_> = (0..5).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        for client in &mut idle {
            assert_eq!(client.value("select 1"), "1");
        }
        cluster.restart(Stop::Fast);
        load.wait_for_answers(200);
        for client in &mut idle {
            assert_eq!(client.value("select 2"), "2");
        }
        let seen = load.end();
        for codes in &seen {
            // At most the one query that was under way, or one sent while PostgreSQL sent everybody away.
            assert!(codes.len() <= 2 && codes.iter().all(|code| code == "57P01" || code == "08006"), "{seen:?}");
        }
        assert!(seen.iter().filter(|codes| !codes.is_empty()).count() <= 8, "more than were in flight: {seen:?}");
    });
}

#[test]
fn clients_wait_for_a_postgresql_that_is_down() {
    for_each_worker_count(|workers| {
        let mut cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        let mut clients: Vec<_> = (0..5).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        assert_eq!(clients[0].value("select 1"), "1");
        cluster.stop(Stop::Fast);
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&messages::query(&format!("select {number}")));
        }
        assert!(clients[0].is_silent_for(Duration::from_millis(600)));
        cluster.start_again();
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some(number.to_string())]);
            client.read_until_ready();
        }
    });
}

#[test]
fn a_postgresql_that_is_down_for_long_fails_clients_fast_until_it_is_back() {
    for_each_worker_count(|workers| {
        let mut cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2\nserver_login_retry = 1");
        let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        assert_eq!(clients[0].value("select 1"), "1");
        cluster.stop(Stop::Fast);
        let text = "server login has been failing, cached error: connect failed: Connection refused (os error 111) \
                    (server_login_retry)";
        for (number, client) in clients.iter_mut().enumerate() {
            let start = Instant::now();
            client.send(&messages::query("select 1"));
            assert_eq!(last_words(client), words(&[("08006", text)]));
            let patience = Duration::from_millis(if number == 0 { 4000 } else { 500 });
            assert!(start.elapsed() < patience, "{:?}", start.elapsed());
        }
        // Nobody waits any more, and still it must be found out that PostgreSQL is back.
        cluster.start_again();
        eventually(SOON, "clients are served again", || {
            let mut client = pooler.login("alice", "alicepw", "app");
            client.send(&messages::query("select 1"));
            client.read().tag == b'T'
        });
    });
}
