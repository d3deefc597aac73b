//! Who holds connections to PostgreSQL: SHOW HOLDERS, `leak_threshold`, and what a client is told that waits in vain.

use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, Table, eventually, for_each_worker_count};

const SOON: Duration = Duration::from_secs(10);

fn application(pooler: &Pooler, name: &str) -> Raw {
    let mut client = Raw::connect(pooler.port());
    client.startup(&[("user", "alice"), ("database", "app"), ("application_name", name)]);
    client.authenticate("alice", "alicepw").unwrap();
    client
}

fn holder(console: &mut Raw, name: &str) -> Table {
    Table::of(console, "show holders").matching(&[("application_name", name)])
}

#[test]
fn holders_are_listed_with_what_they_do() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 8");
        let mut console = pooler.console();
        let mut idle = application(&pooler, "idle");
        idle.query("select 1").unwrap();
        let mut report = application(&pooler, "report");
        report.query("begin").unwrap();
        report.query("select count(*) from pg_class where relname = 'one'").unwrap();
        let mut other = application(&pooler, "other");
        other.query("begin").unwrap();
        other.query("SELECT count(*)\nFROM pg_class -- why\nWHERE relname = 'two'").unwrap();
        let mut pinned = application(&pooler, "pinned");
        pinned.query("create temp table mine (a int)").unwrap();
        let mut prepared = application(&pooler, "prepared");
        prepared.query("begin").unwrap();
        prepared.query_extended("select count(*) from pg_class where relname = $1", &[Some("three")]).unwrap();
        let all = Table::of(&mut console, "show holders");
        assert_eq!(all.column("application_name"), ["report", "other", "pinned", "prepared"], "{all:?}");
        let row = all.matching(&[("application_name", "report")]);
        assert_eq!(row.value("state"), "idle in transaction");
        let pid: u32 = row.value("server_pid").parse().unwrap();
        assert!(cluster.backend_pids("alice").contains(&pid));
        let print = row.value("fingerprint");
        assert_eq!(print.len(), 16);
        for same in ["other", "prepared"] {
            assert_eq!(all.matching(&[("application_name", same)]).value("fingerprint"), print, "{same}");
        }
        let row = all.matching(&[("application_name", "pinned")]);
        assert_eq!((row.value("state"), row.value("pinned")), ("pinned".to_owned(), "temp_tables".to_owned()));
        assert_ne!(row.value("fingerprint"), print);
        assert!(all.column("query").iter().all(String::is_empty), "no text without being told to");
        console.query("set log_query_text = 1").unwrap();
        assert_eq!(holder(&mut console, "pinned").value("query"), "create temp table mine (a int)");
        assert!(holder(&mut console, "prepared").value("query").contains("relname = $1"));
        report.query("commit").unwrap();
        assert_eq!(holder(&mut console, "report").rows.len(), 0);
    });
}

#[test]
fn a_leak_is_told_once_with_its_application() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, "leak_threshold = 0.5");
        let mut console = pooler.console();
        let mut leak = application(&pooler, "forgetful");
        leak.query("begin").unwrap();
        leak.query("select 'secret' as kept").unwrap();
        let mut honest = application(&pooler, "honest");
        let line = pooler.wait_for_log("leak_threshold", SOON);
        for part in ["forgetful", "idle in transaction", "Pool app/alice"] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!pooler.log().contains("secret"), "{line}");
        // Two more looks at it.
        for _ in 0..10 {
            honest.query("select pg_sleep(0.1)").unwrap();
        }
        let told = || pooler.log().matches("holds a connection to PostgreSQL for longer").count();
        assert_eq!(told(), 1);
        // Another lease is another leak.
        leak.query("commit").unwrap();
        leak.query("begin").unwrap();
        eventually(SOON, "it is told again", || told() == 2);
        assert_eq!(holder(&mut console, "forgetful").rows.len(), 1);
    });
}

#[test]
fn a_session_that_rests_is_no_leak_until_somebody_waits_for_it() {
    let cluster = Cluster::start();
    let settings = "pool_mode = \"session\"\ndefault_pool_size = 1\nleak_threshold = 0.3\nquery_wait_timeout = 2";
    let pooler = Pooler::trusting(&cluster, 1, settings);
    let mut resting = application(&pooler, "resting");
    resting.query("select 1").unwrap();
    resting.query("select pg_sleep(0.1)").unwrap();
    let mut console = pooler.console();
    eventually(SOON, "it has rested", || holder(&mut console, "resting").number("held") >= 1);
    assert!(!pooler.log().contains("for longer than leak_threshold"));
    assert_eq!(holder(&mut console, "resting").value("state"), "idle");
    let mut waiting = application(&pooler, "waiting");
    waiting.send(&crate::support::messages::query("select 1"));
    pooler.wait_for_log("for longer than leak_threshold", SOON);
    let told = waiting.expect_error();
    assert_eq!(told.message, "query_wait_timeout");
    assert!(told.detail.as_deref().is_some_and(|detail| detail.contains("application resting")), "{told:?}");
}

#[test]
fn the_hint_names_the_client_that_keeps_a_connection_for_nothing() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 1\nquery_wait_timeout = 1");
    let mut holder = application(&pooler, "night job");
    holder.query("begin").unwrap();
    let mut waiting = application(&pooler, "waiting");
    waiting.send(&crate::support::messages::query("select 1"));
    let told = waiting.expect_error();
    let (detail, hint) = (told.detail.unwrap(), told.hint.unwrap());
    assert!(detail.contains("in use 1 (1 idle in transaction)"), "{detail}");
    assert!(hint.contains("application night job") && hint.contains("idle_transaction_timeout"), "{hint}");
    // Where all are at work, the pool is too small.
    holder.send(&crate::support::messages::query("select pg_sleep(10)"));
    let mut waiting = application(&pooler, "waiting");
    waiting.send(&crate::support::messages::query("select 1"));
    let hint = waiting.expect_error().hint.unwrap();
    assert!(hint.contains("Raise pool_size of app/alice"), "{hint}");
}
