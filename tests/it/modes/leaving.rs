//! Clients that leave in the middle of something: nothing that they had begun is done, and their backend is cleaned and
//! lent again, or closed where that cannot be.

use super::{Pair, SOON, backend_pid};
use crate::support::{
    Raw, eventually,
    messages::{bind, copy_data, execute, flush, message, parse, query, sync, terminate},
};

/// What a client does before it leaves.
struct Departure {
    name: &'static str,
    /// Sent first and answered up to this message.
    start: Vec<u8>,
    until: u8,
    /// Sent last, the answer not read.
    rest: Vec<u8>,
    /// Whether the backend can be used again.
    saved: bool,
}

fn departures() -> Vec<Departure> {
    let begin = || query("begin; insert into marks values (1)");
    let departure = |name, start, until, rest| Departure { name, start, until, rest, saved: name != "half a CopyData" };
    let partial = |bytes: Vec<u8>| bytes[..bytes.len() - 3].to_vec();
    vec![
        departure("an open transaction", begin(), b'Z', vec![]),
        departure("an open transaction, with a goodbye", begin(), b'Z', terminate()),
        departure("a failed transaction, with a goodbye", query("begin; select 1 / 0"), b'Z', terminate()),
        departure("a query under way", query("select 1"), b'Z', query("select pg_sleep(20)")),
        departure(
            "a pipeline under way",
            query("select 1"),
            b'Z',
            [query("select 1"), query("select pg_sleep(20)")].concat(),
        ),
        departure(
            "a large result not read",
            query("select 1"),
            b'Z',
            query("select repeat('x', 1000) from generate_series(1, 100000)"),
        ),
        departure("a Parse without Sync", [parse("", "select 1", &[]), flush()].concat(), b'1', vec![]),
        departure("an error without Sync", [parse("", "selekt", &[]), flush()].concat(), b'E', terminate()),
        departure(
            "an Execute without Sync",
            [parse("", "insert into marks values (1)", &[]), bind("", "", &[]), execute("", 0), flush()].concat(),
            b'C',
            terminate(),
        ),
        departure("COPY in", query("copy marks from stdin"), b'G', copy_data(b"1\n")),
        departure(
            "COPY in, with a goodbye",
            query("copy marks from stdin"),
            b'G',
            [copy_data(b"1\n"), terminate()].concat(),
        ),
        departure("half a CopyData", query("copy marks from stdin"), b'G', partial(copy_data(b"1\n2\n3\n"))),
        departure("half a Query", query("select 1"), b'Z', partial(query("insert into marks values (1)"))),
        departure("half a Parse behind a transaction's start", begin(), b'Z', partial(parse("", "commit", &[]))),
        departure(
            "half a Query behind a whole one",
            query("select 1"),
            b'Z',
            [query("select 1"), partial(query("insert into marks values (1)"))].concat(),
        ),
        departure("an unknown message in a transaction", begin(), b'Z', message(b'z', b"")),
        departure(
            "a Bind without its Sync",
            query("select 1"),
            b'Z',
            [parse("", "select 1", &[]), bind("", "", &[])].concat(),
        ),
    ]
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_a_clean_backend_in_transaction_mode() {
    check("transaction", 1);
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_a_clean_backend_in_session_mode() {
    check("session", 2);
}

fn check(mode: &str, workers: usize) {
    let pair = Pair::start(mode, workers);
    let Pair { cluster, pooler, first, second, .. } = pair;
    drop((first, second));
    for Departure { name, start, until, rest, saved } in departures() {
        let half = mode == "session" && name.starts_with("half");
        let mut client = pooler.login("alice", "alicepw", "app");
        let dirty = backend_pid(&mut client);
        client.send(&start);
        client.read_until(until);
        client.send(&rest);
        drop(client);
        let mut next = pooler.login("alice", "alicepw", "app");
        assert_eq!(backend_pid(&mut next) == dirty, saved && !half, "{mode}: {name}");
        assert_eq!(next.value("select count(*) from marks"), "0", "{mode}: {name}");
        next.send(&terminate());
        next.expect_eof();
        let left = format!(
            "select count(*) from pg_stat_activity where pid = {dirty} and state = 'active' or state like 'idle in%'"
        );
        eventually(SOON, name, || cluster.sql("app", &left) == "0");
    }
}

/// Whoever leaves between two transactions costs nothing, whatever he had begun to say.
#[test]
fn a_client_that_leaves_in_between_leaves_its_backend_behind() {
    let mut pair = Pair::start("transaction", 1);
    let pid = backend_pid(&mut pair.second);
    let heads: [&[u8]; 6] = [b"", b"Q", b"Q\0\0\0", b"X", &terminate(), &[flush(), b"P\0".to_vec()].concat()];
    for head in heads {
        let mut client = pair.pooler.login("alice", "alicepw", "app");
        assert_eq!(backend_pid(&mut client), pid);
        client.send(head);
        drop(client);
        assert_eq!(backend_pid(&mut pair.second), pid, "{head:?}");
    }
    // A whole transaction sent and not waited for is done, or its backend closed; never half of either.
    for _ in 0..20 {
        let mut client: Raw = pair.pooler.login("alice", "alicepw", "app");
        client
            .send(&[query("begin; insert into marks values (1), (1)"), query("commit"), sync(), terminate()].concat());
        drop(client);
        let count: u32 = pair.second.value("select count(*) from marks").parse().unwrap();
        assert_eq!(count % 2, 0);
    }
}
