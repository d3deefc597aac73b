//! Cancel requests: they end the query of the client whose key they carry, running or queued, and nobody else's.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually, for_each_worker_count,
    messages::{extended, flush, parse, query, sync, terminate},
    reply::{Message, tags},
};

const SOON: Duration = Duration::from_secs(10);
const MODES: [&str; 3] = ["session", "transaction", "statement"];
/// Long enough for an answer that must not come.
const MOMENT: Duration = Duration::from_millis(50);
const HAMMERED_FOR: Duration = Duration::from_millis(1200);

type Key = (u32, Vec<u8>);

fn start(cluster: &Cluster, mode: &str, workers: usize, size: usize) -> Pooler {
    let settings = format!(
        "[pgpool]\nauth_type = \"trust\"\npool_mode = \"{mode}\"\nworker_threads = {workers}\ndefault_pool_size = {size}"
    );
    Pooler::start(cluster, &settings)
}

fn key(client: &Raw) -> Key {
    client.backend_key.clone().unwrap()
}

/// Sends a query that lasts a minute, and waits until PostgreSQL runs it.
fn begin_to_sleep(cluster: &Cluster, client: &mut Raw, request: &[u8]) {
    client.send(request);
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like '%sleep(60)%' \
                   and usename = 'alice'";
    eventually(SOON, "the query runs", || cluster.sql("app", running) == "1");
}

/// How many clients wait for a backend of alice's.
fn waiting(console: &mut Raw) -> String {
    let pools = console.query("show pools").unwrap();
    let alice = pools.into_iter().find(|row| row[1].as_deref() == Some("alice")).unwrap();
    alice[3].clone().unwrap()
}

fn assert_canceled(answer: &[Message]) {
    assert_eq!(tags(answer), "EZ", "{answer:?}");
    let error = answer[0].error();
    assert_eq!(
        (error.severity.as_str(), error.code.as_str(), error.message.as_str()),
        ("ERROR", "57014", "canceling statement due to user request")
    );
}

#[test]
fn a_running_query_is_canceled_and_the_session_goes_on() {
    let cluster = Cluster::start();
    for (mode, workers) in MODES.into_iter().zip([2, 1, 2]) {
        let pooler = start(&cluster, mode, workers, 1);
        for minor in [0, 2] {
            let mut client = Raw::connect(pooler.port());
            client.startup_with_version(minor, &[("user", "alice"), ("database", "app")]);
            client.authenticate("alice", "alicepw").unwrap();
            begin_to_sleep(&cluster, &mut client, &query("select 1 from pg_sleep(60)"));
            Raw::cancel(pooler.port(), &key(&client));
            let answer = client.read_until_ready();
            assert_canceled(&answer[1..]);
            assert_eq!((answer[0].tag, answer[2].status()), (b'T', 'I'));
            begin_to_sleep(&cluster, &mut client, &extended("select 2 from pg_sleep(60)", &[]));
            Raw::cancel(pooler.port(), &key(&client));
            let answer = client.read_until_ready();
            assert_eq!(tags(&answer), "12TEZ");
            assert_eq!((answer[3].error().code.as_str(), answer[4].status()), ("57014", 'I'));
            assert_eq!(client.value("select 'on'"), "on");
        }
        assert_eq!(cluster.backend_pids("alice").len(), 1, "a backend was lost");
    }
}

#[test]
fn a_query_in_a_transaction_is_canceled_and_the_transaction_fails() {
    let cluster = Cluster::start();
    for mode in ["session", "transaction"] {
        let pooler = start(&cluster, mode, 2, 1);
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("begin").unwrap();
        begin_to_sleep(&cluster, &mut client, &query("select 1 from pg_sleep(60)"));
        Raw::cancel(pooler.port(), &key(&client));
        let answer = client.read_until_ready();
        assert_eq!((answer[1].error().code.as_str(), answer[2].status()), ("57014", 'E'));
        assert_eq!(client.query("select 1").unwrap_err().code, "25P02");
        client.query("rollback").unwrap();
        assert_eq!(client.value("select 1"), "1");
    }
}

#[test]
fn a_queued_client_is_answered_at_once() {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        for (mode, hold, end) in [
            ("session", query("select 1"), terminate()),
            ("transaction", query("begin"), query("commit")),
            ("statement", [parse("", "select 1", &[]), flush()].concat(), sync()),
        ] {
            let pooler = start(&cluster, mode, workers, 1);
            let mut console = pooler.console();
            let mut holder = pooler.login("alice", "alicepw", "app");
            let mut client = pooler.login("alice", "alicepw", "app");
            holder.send(&hold);
            holder.read();
            for request in [
                query("select 'refused'"),
                extended("select 'refused'", &[]),
                [parse("", "select 1", &[]), parse("", "selekt", &[]), sync()].concat(),
            ] {
                client.send(&request);
                eventually(SOON, "the client is queued", || waiting(&mut console) == "1");
                Raw::cancel(pooler.port(), &key(&client));
                let answer = client.read_until_ready();
                assert_canceled(&answer);
                assert_eq!(answer[1].status(), 'I');
                assert_eq!(waiting(&mut console), "0");
            }
            // Of two requests only the first is refused; the other one waits for its turn.
            client.send(&[query("select 'refused'"), query("select 'served'")].concat());
            eventually(SOON, "the client is queued", || waiting(&mut console) == "1");
            Raw::cancel(pooler.port(), &key(&client));
            assert_canceled(&client.read_until_ready());
            assert!(client.is_silent_for(MOMENT), "{mode}: the second request was answered");
            holder.send(&end);
            let answer = client.read_until_ready();
            assert_eq!((tags(&answer).as_str(), answer[1].row()), ("TDCZ", vec![Some("served".to_owned())]));
        }
    });
}

#[test]
fn keys_that_are_wrong_are_ignored() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, "transaction", 2, 2);
    let mut client = Raw::connect(pooler.port());
    client.startup_with_version(2, &[("user", "alice"), ("database", "app")]);
    client.authenticate("alice", "alicepw").unwrap();
    let mut neighbour = pooler.login("alice", "alicepw", "app");
    let (pid, secret) = key(&client);
    begin_to_sleep(&cluster, &mut client, &query("select 1 from pg_sleep(60)"));
    let backend = key(&Raw::login(cluster.port(), "alice", "alicepw", "app"));
    let mut inverted = secret.clone();
    *inverted.last_mut().unwrap() ^= 1;
    let longer = [secret.as_slice(), b"\0"].concat();
    for wrong in [
        (pid, inverted),
        (pid, secret[..4].to_vec()),
        (pid, longer),
        (pid, vec![0; 32]),
        (pid + 1, secret.clone()),
        (pid | 1 << 31, secret.clone()),
        (key(&neighbour).0, secret.clone()),
        (pid, key(&neighbour).1),
        (0, vec![0; 4]),
        backend,
    ] {
        Raw::cancel(pooler.port(), &wrong);
    }
    assert!(client.is_silent_for(MOMENT), "a wrong key canceled the query");
    assert_eq!(neighbour.value("select 1"), "1");
    Raw::cancel(pooler.port(), &(pid, secret));
    assert_eq!(client.read_until_ready()[1].error().code, "57014");
}

/// As long as PostgreSQL has not answered, and also when the query is over meanwhile.
#[test]
fn a_cancel_on_its_way_is_shown_and_keeps_its_backend() {
    let cluster = Cluster::start();
    let pooler = start(&cluster, "transaction", 1, 1);
    let mut console = pooler.console();
    let mut client = pooler.login("alice", "alicepw", "app");
    let names = ["cl_active", "cl_active_cancel_req", "sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle"];
    let mut counts = || {
        let table = Table::of(&mut console, "SHOW POOLS").matching(&[("user", "alice")]);
        names.map(|name| table.number(name))
    };
    client.query("begin").unwrap();
    assert_eq!(counts(), [1, 0, 1, 0, 0, 0]);
    let held_up = cluster.hold_up();
    client.send(&query("commit; select pg_sleep(1)"));
    let (port, key) = (pooler.port(), key(&client));
    let canceling = thread::spawn(move || Raw::cancel(port, &key));
    eventually(SOON, "the request is on its way", || counts() == [1, 1, 1, 1, 0, 0]);
    client.read_until_ready();
    eventually(SOON, "the backend waits for it", || counts() == [1, 1, 0, 1, 1, 0]);
    drop(held_up);
    canceling.join().unwrap();
    eventually(SOON, "the backend is idle", || counts() == [1, 0, 0, 0, 0, 1]);
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_cancel_that_comes_too_late_does_nothing() {
    let cluster = Cluster::start();
    for mode in MODES {
        let pooler = start(&cluster, mode, 1, 1);
        let mut client = pooler.login("alice", "alicepw", "app");
        // Before the first query, too.
        for _ in 0..20 {
            Raw::cancel(pooler.port(), &key(&client));
            assert_eq!(client.value("select 1"), "1", "{mode}");
        }
        let mut next = pooler.login("alice", "alicepw", "app");
        let gone = key(&client);
        client.send(&terminate());
        client.expect_eof();
        for _ in 0..10 {
            Raw::cancel(pooler.port(), &gone);
            assert_eq!(next.value("select 1"), "1", "{mode}");
        }
    }
}

#[test]
fn no_cancel_hits_another_clients_query_in_transaction_mode() {
    hammer("transaction", 1);
}

#[test]
fn no_cancel_hits_another_clients_query_in_statement_mode() {
    hammer("statement", 1);
}

#[test]
fn no_cancel_hits_another_clients_query_in_session_mode() {
    hammer("session", 2);
}

/// One client is canceled all the time; the other one uses the same backends and must not notice. Different settings
/// make sure that the pooler's own statements on the backend are not hit either.
fn hammer(mode: &str, size: usize) {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let pooler = start(&cluster, mode, workers, size);
        let mut hit = named(&pooler, "hit");
        let mut spared = named(&pooler, "spared");
        let (port, key, over) = (pooler.port(), key(&hit), AtomicBool::new(false));
        let (canceled, served) = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    Raw::cancel(port, &key);
                }
            });
            let hit = scope.spawn(|| {
                let mut canceled = 0;
                while !over.load(Relaxed) {
                    match hit.query("select current_setting('application_name') from pg_sleep(0.001)") {
                        Ok(rows) => assert_eq!(rows, [[Some("hit".to_owned())]]),
                        Err(error) if error.code == "57014" => canceled += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                canceled
            });
            let ends = Instant::now() + HAMMERED_FOR;
            // Who fails from here on must not leave the others at it for ever.
            let ending = Ends(&over);
            let mut served = 0;
            // On a busy machine the hammer leaves few turns to others; some there must be.
            while (Instant::now() < ends || served <= 10 && Instant::now() < ends + SOON) && !hit.is_finished() {
                let answer = spared.query("select current_setting('application_name') from pg_sleep(0.001)");
                assert_eq!(answer.as_deref(), Ok(&[vec![Some("spared".to_owned())]][..]), "after {served} queries");
                served += 1;
            }
            drop(ending);
            (hit.join().unwrap(), served)
        });
        assert!(canceled > 2 && served > 10, "{canceled} queries were canceled, {served} served: this tests nothing");
    });
}

/// Ends what goes on until the flag is up.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn named(pooler: &Pooler, name: &str) -> Raw {
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app"), ("application_name", name)]);
    client.authenticate("alice", "alicepw").unwrap();
    client
}
