//! Clients that are gone in the middle of something: what becomes of their backends.

use std::time::Duration;

use super::with;
use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count,
    messages::{copy_data, extended, parse, query},
    pool_number,
};

/// More than `client_death_grace`.
const SOON: Duration = Duration::from_secs(20);
const CLIENTS: usize = 100;

/// What a client is busy with.
fn work(number: usize) -> Vec<u8> {
    match number % 6 {
        0 => query("select pg_sleep(30)"),
        1 => [query("begin; set app.x = 'theirs'; create temp table scratch (x int)"), query("select pg_sleep(30)")]
            .concat(),
        2 => extended("select repeat('x', 1000) from generate_series(1, 1000000)", &[]),
        3 => [query("begin"), query("copy taken from stdin"), copy_data(b"1\n")].concat(),
        4 => [query("begin"), parse("s", "select 1", &[]), query("selekt")].concat(),
        _ => extended("select pg_advisory_lock_shared(1), pg_sleep(30)", &[]),
    }
}

fn pids(cluster: &Cluster) -> Vec<u32> {
    let mut pids = cluster.backend_pids("alice");
    pids.sort_unstable();
    pids
}

#[test]
fn a_hundred_busy_clients_that_vanish_cost_no_connection() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        cluster.sql("app", "create table taken (x int); grant all on taken to public");
        let settings = "default_pool_size = 10\nmax_pinned = 10\nlog_pooler_errors = false";
        let pooler = Pooler::trusting(&cluster, workers, settings);
        let mut console = pooler.console();
        let mut clients: Vec<_> = (0..10).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
        clients.iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
        let before = pids(&cluster);
        assert_eq!(before.len(), 10);
        clients.extend((10..CLIENTS).map(|_| pooler.login("alice", "alicepw", "app")));
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&work(number));
        }
        eventually(SOON, "all backends are busy", || pool_number(&mut console, "app", "alice", "sv_active") == 10);
        drop(clients);
        let idle = || {
            pool_number(&mut console, "app", "alice", "cl_active") == 0
                && cluster
                    .sql("app", "select count(*) from pg_stat_activity where usename = 'alice' and state <> 'idle'")
                    == "0"
        };
        eventually(SOON, "all backends are idle", idle);
        assert_eq!(pids(&cluster), before);
        let mut after: Vec<_> = (0..10).map(|_| pooler.login("alice", "alicepw", "app")).collect();
        after.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
        let looks = "select coalesce(current_setting('app.x', true), '') || (to_regclass('pg_temp.scratch') is null) \
                     || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())";
        after.iter_mut().for_each(|client| assert_eq!(client.value(looks), "true0"));
        assert_eq!(pids(&cluster), before);
        assert_eq!(cluster.sql("app", "select count(*) from taken"), "0");
    });
}

#[test]
fn without_a_grace_the_backend_is_closed() {
    let cluster = Cluster::start();
    let pooler = with(&cluster, "default_pool_size = 1\nclient_death_grace = 0");
    for bytes in [query("select pg_sleep(30)"), query("begin")] {
        let mut client = pooler.login("alice", "alicepw", "app");
        let pid: u32 = client.value("select pg_backend_pid()").parse().unwrap();
        client.send(&bytes);
        let mut console: Raw = pooler.console();
        eventually(SOON, "it is busy", || pool_number(&mut console, "app", "alice", "sv_active") == 1);
        drop(client);
        let mut next = pooler.login("alice", "alicepw", "app");
        assert_ne!(next.value("select pg_backend_pid()"), pid.to_string());
    }
}
