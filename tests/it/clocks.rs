//! The timeouts of clients: when they strike, when they do not, and what the client is told.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually, for_each_worker_count, messages, pool_number, reply::PgError,
};

const SOON: Duration = Duration::from_secs(5);

/// What a client is told at its end: FATAL, then the end of the stream.
fn last_words(client: &mut Raw) -> PgError {
    let error = client.expect_error();
    assert_eq!(error.severity, "FATAL", "{error:?}");
    client.expect_eof();
    error
}

fn told(error: &PgError) -> (&str, &str) {
    (error.code.as_str(), error.message.as_str())
}

/// Logs in with an application name.
fn named(pooler: &Pooler, name: &str) -> Raw {
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app"), ("application_name", name)]);
    client.authenticate("alice", "alicepw").unwrap();
    client
}

#[test]
fn query_wait_timeout_tells_who_holds_the_pool() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1\nquery_wait_timeout = 0.6");
        let mut holder = named(&pooler, "nightly-report");
        let mut waiter = pooler.login("alice", "alicepw", "app");
        holder.query("begin").unwrap();
        let start = Instant::now();
        waiter.send(&messages::query("select 1"));
        let error = last_words(&mut waiter);
        let waited = start.elapsed();
        assert!((Duration::from_millis(600)..Duration::from_millis(2500)).contains(&waited), "{waited:?}");
        assert_eq!(told(&error), ("53300", "query_wait_timeout"));
        let detail = error.detail.unwrap();
        assert!(
            detail.starts_with("Pool app/alice: size 1, in use 1 (1 idle in transaction), idle 0, opening 0"),
            "{detail}"
        );
        let holds = "The oldest lease is held by client ";
        assert!(detail.contains(holds) && detail.contains("(application nightly-report, 127.0.0.1:"), "{detail}");
        assert!(detail.contains("idle in transaction."), "{detail}");
        let hint = error.hint.unwrap();
        assert!(hint.contains("SHOW HOLDERS"), "{hint}");
        // The holder is not touched, and the queue is empty.
        assert_eq!(holder.value("select 2"), "2");
        let mut console = pooler.console();
        eventually(SOON, "nobody waits", || pool_number(&mut console, "app", "alice", "cl_waiting") == 0);
    });
}

#[test]
fn query_wait_timeout_of_an_entry_goes_before_the_general_one() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let settings = "default_pool_size = 1\nquery_wait_timeout = 60\n[databases.app]\nquery_wait_timeout = 0.4";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut holder = pooler.login("alice", "alicepw", "app");
        holder.query("begin").unwrap();
        let mut waiter = pooler.login("alice", "alicepw", "app");
        waiter.send(&messages::query("select 1"));
        assert_eq!(told(&last_words(&mut waiter)), ("53300", "query_wait_timeout"));
    });
}

/// As in PgBouncer, whatever the manual's order suggests.
#[test]
fn query_wait_timeout_of_a_user_goes_before_that_of_an_entry() {
    let cluster = Cluster::start();
    let settings =
        "default_pool_size = 1\n[databases.app]\nquery_wait_timeout = 60\n[users.alice]\nquery_wait_timeout = 0.4";
    let pooler = Pooler::trusting(&cluster, 1, settings);
    let mut holder = pooler.login("alice", "alicepw", "app");
    holder.query("begin").unwrap();
    let mut waiter = pooler.login("alice", "alicepw", "app");
    waiter.send(&messages::query("select 1"));
    assert_eq!(told(&last_words(&mut waiter)), ("53300", "query_wait_timeout"));
}

/// Each has its own text in PgBouncer: where the query is queued, and where it runs.
#[test]
fn query_timeout_says_where_the_query_was() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 1\nquery_timeout = 0.5");
    let mut holder = pooler.login("alice", "alicepw", "app");
    holder.query("begin").unwrap();
    let mut waiter = pooler.login("alice", "alicepw", "app");
    waiter.send(&messages::query("select 1"));
    assert_eq!(told(&last_words(&mut waiter)), ("57014", "query_timeout"));
    holder.send(&messages::query("select pg_sleep(60)"));
    assert_eq!(told(&last_words(&mut holder)), ("57014", "query timeout"));
}

#[test]
fn query_wait_timeout_stands_still_in_pause() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "query_wait_timeout = 0.8");
        let mut client = pooler.login("alice", "alicepw", "app");
        let mut console = pooler.console();
        console.query("PAUSE").unwrap();
        client.send(&messages::query("select 'after the pause'"));
        assert!(client.is_silent_for(Duration::from_millis(1800)), "it was answered in PAUSE");
        assert_eq!(pool_number(&mut console, "app", "alice", "cl_waiting"), 1);
        console.query("RESUME").unwrap();
        assert_eq!(client.read_until(b'D').pop().unwrap().row(), [Some("after the pause".to_owned())]);
    });
}

#[test]
fn query_wait_notify_tells_a_client_once_that_it_waits() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1\nquery_wait_notify = 0.3");
        let mut holder = pooler.login("alice", "alicepw", "app");
        let mut waiter = pooler.login("alice", "alicepw", "app");
        holder.query("begin").unwrap();
        waiter.send(&messages::query("select 1"));
        let notice = waiter.read();
        assert_eq!(notice.tag, b'N');
        let notice = notice.error();
        assert_eq!((notice.severity.as_str(), notice.code.as_str()), ("NOTICE", "00000"));
        let text = "No server connection available in postgres backend, client being queued";
        assert_eq!(notice.message, text);
        assert!(waiter.is_silent_for(Duration::from_millis(900)), "it was told twice");
        holder.query("commit").unwrap();
        assert_eq!(waiter.read_until_ready().len(), 4);
        // A wait that is short is none to be told of.
        waiter.send(&messages::query("select 2"));
        assert_eq!(waiter.read_until_ready().iter().filter(|message| message.tag == b'N').count(), 0);
    });
}

#[test]
fn query_timeout_ends_a_query_and_its_session() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "query_timeout = 0.5");
        let mut quick = pooler.login("alice", "alicepw", "app");
        assert_eq!(quick.value("select pg_sleep(0.1)"), "");
        let pid = quick.value("select pg_backend_pid()");
        quick.send(&messages::query("select pg_sleep(20)"));
        assert_eq!(told(&last_words(&mut quick)), ("57014", "query timeout"));
        eventually(SOON, "the pool is free", || pool_number(&mut pooler.console(), "app", "alice", "sv_active") == 0);
        let mut next = pooler.login("alice", "alicepw", "app");
        assert_eq!(next.value("select pg_backend_pid()"), pid, "the query was cancelled");
        // Idle in a transaction is no query.
        next.query("begin").unwrap();
        assert!(next.is_silent_for(Duration::from_millis(1200)));
        assert_eq!(next.value("select 1"), "1");
    });
}

#[test]
fn idle_transaction_timeout_ends_idle_transactions_only() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "idle_transaction_timeout = 0.5");
        let mut idle = pooler.login("alice", "alicepw", "app");
        let mut between = pooler.login("alice", "alicepw", "app");
        let mut busy = pooler.login("alice", "alicepw", "app");
        between.query("select 1").unwrap();
        busy.send(&messages::query("select pg_sleep(1.2)"));
        idle.query("begin").unwrap();
        assert_eq!(told(&last_words(&mut idle)), ("25P03", "idle transaction timeout"));
        busy.read_until_ready();
        assert_eq!(between.value("select 1"), "1");
        // A failed transaction holds its backend as well.
        between.query("begin").unwrap();
        between.query("select 1/0").unwrap_err();
        assert_eq!(told(&last_words(&mut between)), ("25P03", "idle transaction timeout"));
    });
}

#[test]
fn transaction_timeout_counts_from_the_first_message() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "transaction_timeout = 0.8");
        let mut client = pooler.login("alice", "alicepw", "app");
        // Short transactions one after another take longer together.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1500) {
            client.query("select pg_sleep(0.05)").unwrap();
        }
        client.query("begin").unwrap();
        let start = Instant::now();
        let error = loop {
            client.send(&messages::query("select pg_sleep(0.05)"));
            let mut answer = std::iter::from_fn(|| client.read_or_eof()).take_while(|message| message.tag != b'Z');
            if let Some(message) = answer.find(|message| message.tag == b'E') {
                break message.error();
            }
            assert!(start.elapsed() < SOON, "the transaction goes on");
        };
        assert_eq!((error.severity.as_str(), told(&error)), ("FATAL", ("25P04", "transaction timeout")));
        assert!(start.elapsed() >= Duration::from_millis(750), "{:?}", start.elapsed());
    });
}

#[test]
fn client_idle_timeout_spares_those_in_a_transaction() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "client_idle_timeout = 0.6");
        let mut idle = pooler.login("alice", "alicepw", "app");
        let mut busy = pooler.login("alice", "alicepw", "app");
        busy.query("begin").unwrap();
        assert_eq!(told(&last_words(&mut idle)), ("57P05", "client_idle_timeout"));
        assert!(busy.is_silent_for(Duration::from_millis(900)));
        busy.query("commit").unwrap();
        assert_eq!(told(&last_words(&mut busy)), ("57P05", "client_idle_timeout"));
    });
}

/// However long a client takes to hear that it is over: what it held is free at once.
#[test]
fn who_does_not_listen_holds_nothing() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2\nidle_transaction_timeout = 0.5");
        let mut console = pooler.console();
        let mut other = pooler.login("alice", "alicepw", "app");
        other.query("create table held (id int)").unwrap();
        for killed in [false, true] {
            let mut deaf = named(&pooler, "deaf");
            deaf.query("begin; lock table held").unwrap();
            let begun = Instant::now();
            if killed {
                let clients = Table::of(&mut console, "SHOW CLIENTS").matching(&[("application_name", "deaf")]);
                console.query(&format!("KILL_CLIENT {}", clients.number("id"))).unwrap();
            }
            other.query("begin; lock table held; commit").unwrap();
            // A client may take two seconds.
            let waited = begun.elapsed();
            assert!(waited < Duration::from_millis(1900), "{waited:?}, killed: {killed}");
            eventually(SOON, "it is not a client any more", || {
                Table::of(&mut console, "SHOW CLIENTS").matching(&[("application_name", "deaf")]).rows.is_empty()
            });
            assert!(begun.elapsed() < Duration::from_millis(1900));
            assert_eq!(last_words(&mut deaf).code, if killed { "57P01" } else { "25P03" });
        }
    });
}

#[test]
fn client_login_timeout_ends_logins_wherever_they_stand() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::with_workers(&cluster, workers, "client_login_timeout = 2");
        let port = pooler.port();
        let starts: [fn(&mut Raw); 3] = [
            |_| {},
            |client| client.send(&messages::startup(messages::PROTOCOL_3_0, &[])[..6]),
            |client| client.startup(&[("user", "alice"), ("database", "app")]),
        ];
        let clients = starts.map(|start| {
            thread::spawn(move || {
                let mut client = Raw::connect(port);
                start(&mut client);
                last_words(&mut client)
            })
        });
        for client in clients {
            assert_eq!(told(&client.join().unwrap()), ("57P03", "client_login_timeout"));
        }
        // A login that is over is not ended any more.
        let mut client = pooler.login("alice", "alicepw", "app");
        assert!(client.is_silent_for(Duration::from_millis(2500)));
        assert_eq!(client.value("select 1"), "1");
    });
}
