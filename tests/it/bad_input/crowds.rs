//! Many clients that do nothing, and clients that do not read: they cost little and hold up nobody.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{GROWTH, Scene};
use crate::support::{Raw, eventually, messages::query, process::memory_kib};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn ten_thousand_silent_connections_cost_little() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    let count = most.map_or(10_000, |most| usize::try_from(most).unwrap().saturating_sub(200).min(10_000));
    let scene = Scene::start("");
    let mut before = 0;
    let mut silent: Vec<Raw> = Vec::new();
    scene.pooler.login("alice", "alicepw", "app").query("select 1").unwrap();
    let pid = scene.pooler.pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    before += memory_kib(pid, "VmRSS");
    silent.extend((0..count).map(|_| Raw::connect(scene.pooler.port())));
    eventually(SOON, "all are accepted", || descriptors() > count);
    let each = (memory_kib(pid, "VmRSS") - before) * 1024 / count as u64;
    eprintln!("{count} connections, {each} bytes each");
    assert!(each < 12 * 1024, "{each} bytes for each of {count} connections");
    assert_eq!(scene.pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    drop(silent);
    eventually(SOON, "all are gone", || descriptors() < 100);
    assert_eq!(scene.pooler.login("alice", "alicepw", "app").value("select 1"), "1");
}

#[test]
fn clients_that_do_not_read_hold_up_nobody() {
    let scene = Scene::start("auth_type = \"trust\"");
    scene.beside_an_innocent(|| {
        let before = memory_kib(scene.pooler.pid(), "VmRSS");
        // Two of three backends of the pool.
        let mut deaf: Vec<Raw> = (0..2).map(|_| scene.pooler.login("alice", "alicepw", "app")).collect();
        for client in &mut deaf {
            client.send(&query("select repeat('x', 10000) from generate_series(1, 100000)"));
        }
        let stuck = "select count(*) from pg_stat_activity where usename = 'alice' and wait_event = 'ClientWrite'";
        eventually(SOON, "both backends are stuck", || scene.cluster.sql("app", stuck) == "2");
        let mut other = scene.pooler.login("alice", "alicepw", "app");
        for _ in 0..50 {
            assert_eq!(other.value("select 1"), "1");
        }
        let grown = memory_kib(scene.pooler.pid(), "VmRSS").saturating_sub(before);
        assert!(grown < GROWTH, "the pooler grew by {grown} KiB");
        drop(deaf);
        let busy = "select count(*) from pg_stat_activity where usename = 'alice' and state <> 'idle'";
        eventually(SOON, "their backends are free", || scene.cluster.sql("app", busy) == "0");
    });
}
