//! Session mode: a client has its backend to itself, and the next client gets it as good as new.

use super::{Pair, SOON, backend_pid, waiting};
use crate::support::{
    Raw, eventually, for_each_worker_count,
    messages::{parse, query, sync, terminate},
    reply::tags,
};

#[test]
fn a_session_keeps_its_backend_and_leaves_it_clean() {
    for_each_worker_count(|workers| {
        for says_goodbye in [true, false] {
            let mut pair = Pair::start("session", workers);
            let pid = backend_pid(&mut pair.first);
            leave_traces(&mut pair.first);
            assert_eq!(backend_pid(&mut pair.first), pid);
            pair.second_asks_and_waits();
            if says_goodbye {
                pair.first.send(&terminate());
                pair.first.expect_eof();
            } else {
                pair.first = Raw::connect(pair.pooler.port());
            }
            pair.second_is_served();
            assert_eq!(backend_pid(&mut pair.second), pid, "the backend was not reused");
            assert_no_traces(&mut pair.second);
            assert_eq!(pair.cluster.backend_pids("alice").len(), 1);
        }
    });
}

#[test]
fn a_client_that_has_asked_for_nothing_holds_no_backend() {
    let mut pair = Pair::start("session", 1);
    let pid = backend_pid(&mut pair.first);
    pair.second_asks_and_waits();
    // A third one does not stand in the way.
    let _third = pair.pooler.login("alice", "alicepw", "app");
    assert_eq!(waiting(&mut pair.console), 1);
    pair.first.send(&terminate());
    pair.second_is_served();
    assert_eq!(backend_pid(&mut pair.second), pid);
}

/// A backend that DISCARD ALL fails on is not lent again.
#[test]
fn a_backend_that_cannot_be_reset_is_closed() {
    let mut pair = Pair::start("session", 1);
    let pid = backend_pid(&mut pair.first);
    pair.first.send(&terminate());
    pair.first.expect_eof();
    assert_eq!(backend_pid(&mut pair.second), pid);
    pair.pooler.reload(
        &pair.cluster,
        "[pgpool]\npool_mode = \"session\"\ndefault_pool_size = 1\nserver_reset_query = \"select 1 / 0\"",
    );
    let console = &mut pair.console;
    eventually(SOON, "the settings apply", || {
        let config = console.query("show config").unwrap();
        config
            .iter()
            .any(|row| row[0].as_deref() == Some("server_reset_query") && row[1].as_deref() == Some("select 1 / 0"))
    });
    // Its session began with the settings of before.
    pair.second.send(&terminate());
    pair.second.expect_eof();
    let mut third = pair.pooler.login("alice", "alicepw", "app");
    let pid = backend_pid(&mut third);
    third.send(&terminate());
    third.expect_eof();
    let mut fourth = pair.pooler.login("alice", "alicepw", "app");
    assert_ne!(backend_pid(&mut fourth), pid);
}

fn leave_traces(client: &mut Raw) {
    client.query("create temp table trace (x int); create temp sequence counter; select nextval('counter')").unwrap();
    client.query("prepare by_sql as select 1; set work_mem = '5MB'; set timezone = 'Asia/Tokyo'").unwrap();
    client.query("set application_name = 'first'; select pg_advisory_lock(1, 2); listen gossip").unwrap();
    client.query("begin; declare c cursor with hold for select 1; commit; set search_path = pg_catalog").unwrap();
    client.send(&[parse("by_protocol", "select 1", &[]), sync()].concat());
    assert_eq!(tags(&client.read_until_ready()), "1Z");
}

fn assert_no_traces(client: &mut Raw) {
    for (sql, wanted) in [
        ("select count(*) from pg_class where relname in ('trace', 'counter')", "0"),
        ("select count(*) from pg_prepared_statements", "0"),
        ("show work_mem", "4MB"),
        ("show timezone", "UTC"),
        ("show application_name", ""),
        ("show search_path", "\"$user\", public"),
        ("select count(*) from pg_locks where locktype = 'advisory'", "0"),
        ("select count(*) from pg_listening_channels()", "0"),
        ("select count(*) from pg_cursors where name = 'c'", "0"),
    ] {
        assert_eq!(client.value(sql), wanted, "{sql}");
    }
    client.send(&query("execute by_sql"));
    assert_eq!(client.expect_error().code, "26000");
    client.read_until_ready();
}
