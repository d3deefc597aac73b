//! LISTEN by clients that hold no backend.

use std::time::Duration;

use crate::support::{
    Cluster, Pooler, Raw, eventually, for_each_worker_count, messages::extended, reply::Message, table::Table,
};

const SOON: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(30);
const LISTENING: &str = "select pid from pg_stat_activity where application_name = 'pgpool listener'";

/// Channel and payload of the next notification.
fn next(client: &mut Raw) -> (String, String) {
    let message = client.read();
    assert_eq!(message.tag, b'A', "{message:?} is no notification");
    let mut strings = message.strings(4).into_iter();
    (strings.next().unwrap(), strings.next().unwrap())
}

fn note(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

fn notify(cluster: &Cluster, notes: &[(&str, &str)]) {
    for (channel, payload) in notes {
        cluster.sql("app", &format!("notify {channel}, '{payload}'"));
    }
}

/// A client that listens on `marker`, behind which it can be said that nothing else has come.
fn listener(pooler: &Pooler) -> Raw {
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("listen marker").unwrap();
    client
}

fn nothing_before(cluster: &Cluster, client: &mut Raw, marker: &str) {
    notify(cluster, &[("marker", marker)]);
    assert_eq!(next(client), note("marker", marker));
}

#[test]
fn idle_clients_are_told_and_hold_no_backend() {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 1");
        let [mut first, mut second] = [(), ()].map(|()| listener(&pooler));
        first.query_extended("listen news", &[]).unwrap();
        assert!(super::pins(&pooler).rows.is_empty());
        notify(&cluster, &[("news", "one"), ("news", "two")]);
        assert_eq!([next(&mut first), next(&mut first)], [note("news", "one"), note("news", "two")]);
        nothing_before(&cluster, &mut first, "m1");
        assert_eq!(next(&mut second), note("marker", "m1"));
        // A client hears itself, and once.
        first.query("notify news, 'own'").unwrap();
        assert_eq!(next(&mut first), note("news", "own"));
        nothing_before(&cluster, &mut first, "m2");
        assert_eq!(next(&mut second), note("marker", "m2"));
        assert_eq!(second.value("select count(*) from pg_listening_channels()"), "0", "of a backend that is shared");
        assert_eq!(cluster.sql("app", LISTENING).lines().count(), 1);
    });
}

/// Statements after which the channel is not listened on.
const SILENT: &[&[&str]] = &[
    &["begin", "listen news", "rollback"],
    &["begin", "savepoint a", "listen news", "rollback to a", "commit"],
    &["listen news", "unlisten news"],
    &["begin; listen news; unlisten news; commit"],
];

#[test]
fn what_is_undone_is_not_heard() {
    let cluster = Cluster::start();
    let pooler = super::with(&cluster, "default_pool_size = 1");
    for statements in SILENT {
        let mut client = listener(&pooler);
        for sql in *statements {
            client.query(sql).unwrap_or_else(|error| panic!("{statements:?}: {error:?}"));
        }
        notify(&cluster, &[("news", "x")]);
        nothing_before(&cluster, &mut client, "only");
    }
    // UNLISTEN that is rolled back has not happened.
    let mut client = listener(&pooler);
    client.query("listen news").unwrap();
    client.query("begin").unwrap();
    client.query("unlisten *").unwrap();
    client.query("rollback").unwrap();
    notify(&cluster, &[("news", "still")]);
    assert_eq!(next(&mut client), note("news", "still"));
    for all in ["unlisten *", "discard all"] {
        client.query("listen news; listen marker").unwrap();
        client.query(all).unwrap();
        notify(&cluster, &[("news", "x"), ("marker", "x")]);
        assert!(client.is_silent_for(MOMENT), "behind {all}");
        assert_eq!(client.value("select 1"), "1");
    }
}

#[test]
fn a_pinned_client_is_told_too() {
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let pooler = Pooler::trusting(&cluster, workers, "default_pool_size = 2");
        let mut client = listener(&pooler);
        client.query("create temp table scratch (x int)").unwrap();
        super::pins_become(&pooler, 1);
        nothing_before(&cluster, &mut client, "pinned");
        client.query("listen news").unwrap();
        notify(&cluster, &[("news", "pinned too")]);
        assert_eq!(next(&mut client), note("news", "pinned too"));
        // Within a transaction nothing comes, behind it all of it.
        client.query("begin").unwrap();
        notify(&cluster, &[("news", "later")]);
        assert!(client.is_silent_for(MOMENT));
        client.send(&extended("commit", &[]));
        let mut answer = client.read_until_ready();
        if !answer.iter().any(|message| message.tag == b'A') {
            answer.push(client.read());
        }
        assert_eq!(answer.iter().filter(|message| message.tag == b'A').count(), 1);
        client.query("drop table scratch").unwrap();
        super::pins_become(&pooler, 0);
        nothing_before(&cluster, &mut client, "free");
    });
}

#[test]
fn a_listener_that_is_killed_is_replaced_and_told_of() {
    let cluster = Cluster::start();
    let pooler = super::with(&cluster, "default_pool_size = 1");
    let mut client = listener(&pooler);
    let pid: u32 = cluster.sql("app", LISTENING).parse().unwrap();
    cluster.terminate_backend(pid);
    let warning = client.read();
    assert_eq!(warning.tag, b'N', "{warning:?}");
    assert!(Message::error(&warning).message.contains("lost"));
    nothing_before(&cluster, &mut client, "again");
    drop(client);
    eventually(SOON, "another listens", || cluster.sql("app", LISTENING).parse::<u32>().is_ok_and(|new| new != pid));

    let mark = "listener_lost = \"disconnect\"\ndefault_pool_size = 1";
    let pooler = super::with(&cluster, mark);
    let mut client = listener(&pooler);
    let all = cluster.sql("app", LISTENING);
    for pid in all.lines() {
        cluster.terminate_backend(pid.parse().unwrap());
    }
    assert_eq!(client.expect_error().severity, "FATAL");
    client.expect_eof();
}

/// The listening backend has one encoding for all.
#[test]
fn a_client_of_another_encoding_hears_in_its_own() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 2");
    let mut first = listener(&pooler);
    first.query("listen news").unwrap();
    let mut other = pooler.login("alice", "alicepw", "app");
    other.query("set client_encoding = 'LATIN1'").unwrap();
    other.query("listen news").unwrap();
    super::pins_become(&pooler, 1);
    assert_eq!(super::pins(&pooler).column("features"), ["listen"]);
    notify(&cluster, &[("news", "caf\u{e9}")]);
    assert_eq!(next(&mut first), note("news", "caf\u{e9}"));
    let message = other.read();
    assert_eq!((message.tag, message.body.ends_with(b"news\0caf\xe9\0")), (b'A', true), "{message:?}");
}

#[test]
fn show_listeners_says_who_hears() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 1, "default_pool_size = 2");
    let show = || Table::of(&mut pooler.console(), "SHOW LISTENERS");
    assert!(show().rows.is_empty());
    let [mut first, _second] = [(), ()].map(|()| listener(&pooler));
    first.query("listen news").unwrap();
    notify(&cluster, &[("news", "one")]);
    assert_eq!(next(&mut first), note("news", "one"));
    let shown = show();
    assert_eq!(shown.rows.len(), 1);
    assert_eq!((shown.value("database").as_str(), shown.value("state").as_str()), ("app", "listening"));
    let numbers = ["channels", "clients", "delivered", "dropped", "losses"].map(|name| shown.number(name));
    assert_eq!(numbers, [2, 2, 1, 0, 0]);
    assert_eq!(shown.value("remote_pid"), cluster.sql("app", LISTENING).trim());
    drop(first);
    eventually(SOON, "a client that has left is not counted", || show().number("clients") == 1);
}
