//! What flows through TLS arrives as it was sent, in whatever pieces; and ends are noticed.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::version;

use super::{BOTH, client, pooler, psql};
use crate::support::{Cluster, Pki, Pooler, Raw, Table, eventually, messages, process::memory_kib, reply::rows};

const SOON: Duration = Duration::from_secs(5);

fn clients(pooler: &Pooler, user: &str) -> usize {
    let table = Table::of(&mut pooler.console_unix(), "SHOW CLIENTS");
    table.column("user").iter().filter(|name| *name == user).count()
}

#[test]
fn large_results_and_copies_arrive_whole() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let sql = "select md5(i::text), repeat(chr(97 + i % 26), i % 20000) from generate_series(1, 2000) i";
    let direct = cluster.sql("app", sql);
    assert!(direct.len() > 1_900_000);
    for parameters in ["", "ssl_max_protocol_version=TLSv1.2"] {
        let found = psql(&pooler, &format!("user=alice sslmode=require {parameters}"), sql).unwrap();
        assert!(found == direct, "{} bytes instead of {}", found.len(), direct.len());
    }
    cluster.sql("app", "create table copied (line text); grant all on copied to alice");
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    raw.send(&messages::query("copy copied from stdin"));
    assert_eq!(raw.read().tag, b'G');
    for at in 0..3000 {
        raw.send(&messages::copy_data(format!("{at} {}\n", "y".repeat(at)).as_bytes()));
    }
    raw.send(&messages::copy_done());
    raw.read_until_ready();
    assert_eq!(raw.value("select count(*) || ' ' || sum(length(line)) from copied"), "3000 4512390");
    raw.send(&messages::query("copy copied to stdout"));
    let copied: usize =
        raw.read_until_ready().iter().filter(|message| message.tag == b'd').map(|row| row.body.len()).sum();
    assert_eq!(copied, 4_512_390 + 3000);
}

#[test]
fn requests_arrive_in_any_pieces() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        for (record, segment) in [(None, 1), (Some(40), usize::MAX), (Some(33), 7), (Some(1000), 333)] {
            let mut config = pki.client(versions, None);
            config.max_fragment_size = record;
            let mut raw = Raw::connect(pooler.port()).start_tls(&Arc::new(config), segment).unwrap();
            raw.startup(&[("user", "alice"), ("database", "app")]);
            raw.authenticate("alice", "alicepw").unwrap();
            let mut pipeline = Vec::new();
            for at in 0..30 {
                pipeline.extend(messages::extended(
                    "select $1 || length($2)",
                    &[Some(&at.to_string()), Some(&"z".repeat(at))],
                ));
                pipeline.extend(messages::query(&format!("select {at} /* {} */", "x".repeat(at * 7))));
            }
            raw.send(&pipeline);
            for at in 0..30 {
                assert_eq!(rows(&raw.read_until_ready()).unwrap(), [[Some(format!("{at}{at}"))]]);
                assert_eq!(rows(&raw.read_until_ready()).unwrap(), [[Some(at.to_string())]]);
            }
        }
    }
}

#[test]
fn keys_may_be_renewed_at_any_time() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    for at in 0..50 {
        raw.tls().refresh_traffic_keys().unwrap();
        assert_eq!(raw.value(&format!("select {at}")), at.to_string());
    }
}

#[test]
fn a_slow_reader_costs_no_memory() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    assert_eq!(raw.value("select 1"), "1");
    let before = memory_kib(pooler.pid(), "VmHWM");
    raw.send(&messages::query("select repeat('x', 10000) from generate_series(1, 6000)"));
    // Others are served meanwhile.
    for _ in 0..50 {
        assert_eq!(pooler_value(&pooler, &pki), "7");
    }
    let count = raw.read_until_ready().iter().filter(|message| message.tag == b'D').count();
    assert_eq!(count, 6000);
    let after = memory_kib(pooler.pid(), "VmHWM");
    assert!(after - before < 8 * 1024, "{before} KiB grew to {after} KiB");
}

fn pooler_value(pooler: &Pooler, pki: &Pki) -> String {
    Raw::login_tls(pooler.port(), &client(pki), "bob", "bobpw").value("select 7")
}

#[test]
fn ends_are_noticed_with_and_without_leave() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "default_pool_size = 1");
    // Idle, and its socket is closed.
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    assert_eq!(raw.value("select 1"), "1");
    raw.shutdown_write();
    eventually(SOON, "the client is gone", || clients(&pooler, "alice") == 0);
    raw.expect_eof();
    // Idle, and takes leave of TLS only.
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    raw.tls().send_close_notify();
    raw.send(b"");
    eventually(SOON, "the client is gone", || clients(&pooler, "alice") == 0);
    raw.expect_eof();
    // Idle, and what comes is no TLS.
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    raw.send_below_tls(b"Q\0\0\0\x0dselect 1\0 and much more of it, so that it could be a record");
    eventually(SOON, "the client is gone", || clients(&pooler, "alice") == 0);
    // Queued for the one backend.
    let mut holder = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    holder.query("begin").unwrap();
    let mut waiter = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    waiter.send(&messages::query("select 2"));
    let waiting = || {
        let table = Table::of(&mut pooler.console_unix(), "SHOW POOLS");
        table.matching(&[("database", "app"), ("user", "alice")]).value("cl_waiting").to_owned()
    };
    eventually(SOON, "one waits", || waiting() == "1");
    drop(waiter);
    eventually(SOON, "nobody waits", || waiting() == "0" && clients(&pooler, "alice") == 1);
    // In the middle of a query: the backend is saved.
    let pid = holder.value("select pg_backend_pid()");
    holder.send(&messages::query("select pg_sleep(60)"));
    drop(holder);
    let mut next = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    assert_eq!(next.value("select pg_backend_pid()"), pid);
    assert_eq!(next.value("select now() = statement_timestamp()"), "t");
}

#[test]
fn a_client_is_told_its_last_words_through_tls() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let mut raw = Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
    let id =
        Table::of(&mut pooler.console_unix(), "SHOW CLIENTS").matching(&[("user", "alice")]).value("id").to_owned();
    pooler.console_unix().query(&format!("KILL_CLIENT {id}")).unwrap();
    assert_eq!(raw.expect_error().code, "57P01");
    raw.expect_eof();
    let mut raw = Raw::connect(pooler.port()).ask_tls(&client(&pki)).unwrap();
    raw.startup(&[("user", "alice"), ("database", "nowhere")]);
    assert_eq!(raw.authenticate("alice", "alicepw").unwrap_err().code, "3D000");
    raw.expect_eof();
}

#[test]
fn a_hundred_clients_share_four_backends() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "auth_type = \"trust\"\ndefault_pool_size = 4\nworker_threads = 2");
    let config = client(&pki);
    let start = Instant::now();
    thread::scope(|scope| {
        for number in 0..100 {
            let (config, port) = (Arc::clone(&config), pooler.port());
            scope.spawn(move || {
                let mut raw = Raw::login_tls(port, &config, "alice", "");
                raw.set_read_timeout(Duration::from_secs(60));
                for turn in 0..20 {
                    let length = 1 + (number * 37 + turn * 911) % 20_000;
                    let sql = format!("select '{number}:{turn}:' || repeat('{}', {length})", number % 10);
                    let expected = format!("{number}:{turn}:{}", (number % 10).to_string().repeat(length));
                    assert!(raw.value(&sql) == expected, "client {number}, turn {turn}");
                }
                raw.send(&messages::terminate());
            });
        }
    });
    eprintln!("a hundred clients took {:?}", start.elapsed());
    assert!(cluster.backend_pids("alice").len() <= 4);
}

#[test]
fn cancel_requests_come_through_tls() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let config = Arc::new(pki.client(BOTH, None));
    let mut raw = Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
    let (id, secret) = raw.backend_key.clone().unwrap();
    raw.send(&messages::query("select pg_sleep(60)"));
    eventually(SOON, "it sleeps", || {
        cluster.sql("postgres", "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1"
    });
    let mut canceller = Raw::connect(pooler.port()).ask_tls(&config).unwrap();
    canceller.send(&messages::cancel_request(id, &secret));
    canceller.expect_eof();
    assert_eq!(raw.expect_error().code, "57014");
    raw.read_until_ready();
    assert_eq!(raw.value("select 1"), "1");
}
