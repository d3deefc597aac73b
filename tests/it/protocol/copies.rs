//! Talks with COPY, where the protocol changes hands in the middle of a message flow and where errors cross with data.

use super::{
    Needs::{Statements, Transactions},
    Talk, exchange,
};
use crate::support::{
    Raw,
    messages::{bind, copy_data, copy_done, copy_fail, describe_portal, execute, extended, flush, parse, query, sync},
    reply::{Message, tags},
};

const IN: &str = "copy target from stdin";
const BINARY_IN: &str = "copy target from stdin (format binary)";
const OUT: &str = "copy (select x, y from plenty order by x) to stdout";

/// The head of a binary COPY, one row of an int and a text, and the end.
const BINARY_ROW: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\
                            \0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x02hi\xff\xff";

pub(super) fn all() -> Vec<Talk> {
    let talk = |name, needs, speak| Talk { name, needs, speak };
    vec![
        talk("COPY out", Statements, copy_out),
        talk("COPY out that fails in the middle", Statements, copy_out_fails),
        talk("COPY in", Statements, copy_in),
        talk("COPY in, all in one write", Statements, copy_in_at_once),
        talk("COPY in, binary", Statements, copy_in_binary),
        talk("CopyFail", Statements, fail),
        talk("COPY in that PostgreSQL refuses at once", Statements, refused),
        talk("COPY in with a bad row and the client still sending", Statements, bad_row),
        talk("COPY in by extended query", Statements, extended_in),
        talk("COPY in by extended query, Sync before the data", Statements, extended_in_early_sync),
        talk("COPY in by extended query with a bad row", Statements, extended_bad_row),
        talk("COPY in by extended query that is refused at once", Statements, extended_refused),
        talk("COPY among other statements of one query", Statements, copy_among_others),
        talk("stray copy messages", Statements, stray),
        talk("COPY within a transaction", Transactions, copy_in_transaction),
    ]
}

fn copy_out(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query(OUT), 1);
    assert!(tags(&messages).starts_with("Hdd") && tags(&messages).ends_with("dcCZ"));
    messages.extend(exchange(client, &query("copy plenty to stdout (format binary)"), 1));
    messages.extend(exchange(client, &extended(OUT, &[]), 1));
    messages.extend(exchange(client, &[query(OUT), extended(OUT, &[]), query("select 1")].concat(), 3));
    messages
}

fn copy_out_fails(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("copy (select 1 / (x - 50) from plenty) to stdout"), 1);
    assert!(tags(&messages).ends_with("dEZ"));
    messages.extend(exchange(client, &extended("copy (select 1 / (x - 50) from plenty) to stdout", &[]), 1));
    messages
}

fn copy_in(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("truncate target"), 1);
    client.send(&query(IN));
    messages.push(client.read());
    client.send(&copy_data(b"1\tone\n2\tt"));
    client.send(&[copy_data(b"wo\n"), copy_data(b""), sync(), flush(), copy_data(b"3\tthree\n")].concat());
    messages.extend(exchange(client, &copy_done(), 1));
    assert_eq!(tags(&messages), "CZGCZ");
    messages.extend(contents(client));
    messages
}

fn copy_in_at_once(client: &mut Raw) -> Vec<Message> {
    let flight = [query("truncate target"), query(IN), copy_data(b"1\tone\n"), copy_done(), query("select 1")];
    let mut messages = exchange(client, &flight.concat(), 3);
    let long = vec![b'y'; 100_000];
    let flight = [query(IN), copy_data(b"2\t"), copy_data(&long), copy_data(b"\n"), copy_done(), query("select 2")];
    messages.extend(exchange(client, &flight.concat(), 2));
    messages.extend(contents(client));
    messages
}

fn copy_in_binary(client: &mut Raw) -> Vec<Message> {
    let (first, second) = BINARY_ROW.split_at(25);
    let flight = [query("truncate target"), query(BINARY_IN), copy_data(first), copy_data(second), copy_done()];
    let mut messages = exchange(client, &flight.concat(), 2);
    assert_eq!(tags(&messages), "CZGCZ", "{messages:?}");
    messages.extend(exchange(client, &[query(BINARY_IN), copy_data(b"nonsense"), copy_done()].concat(), 1));
    messages.extend(contents(client));
    messages
}

fn fail(client: &mut Raw) -> Vec<Message> {
    client.send(&query(IN));
    let mut messages = vec![client.read()];
    messages.extend(exchange(client, &[copy_data(b"9\tnine\n"), copy_fail("enough")].concat(), 1));
    assert_eq!(tags(&messages), "GEZ");
    messages.extend(exchange(client, &[query(IN), copy_fail(""), query("select 1")].concat(), 2));
    let by_extended =
        [parse("", IN, &[]), bind("", "", &[]), execute("", 0), copy_fail("x"), sync(), query("select 2")];
    messages.extend(exchange(client, &by_extended.concat(), 2));
    messages
}

fn refused(client: &mut Raw) -> Vec<Message> {
    // PostgreSQL ignores the copy messages that follow.
    let flight = [query("copy nosuch from stdin"), copy_data(b"1\n"), copy_done(), query("select 1")];
    let messages = exchange(client, &flight.concat(), 2);
    assert_eq!(tags(&messages), "EZTDCZ");
    messages
}

fn bad_row(client: &mut Raw) -> Vec<Message> {
    client.send(&query(IN));
    let mut messages = vec![client.read()];
    client.send(&copy_data(b"not a number\tx\n"));
    let good: Vec<u8> = b"1\tone\n".repeat(2000);
    for _ in 0..20 {
        client.send(&copy_data(&good));
    }
    messages.extend(client.read_until_ready());
    assert_eq!(tags(&messages), "GEZ");
    // The answer is there, and the client has not noticed.
    client.send(&[copy_data(&good), copy_done()].concat());
    messages.extend(exchange(client, &query("select 'next'"), 1));
    let at_once = [query(IN), copy_data(b"bad\n"), copy_data(&good), copy_done(), query("select 'next'")];
    messages.extend(exchange(client, &at_once.concat(), 2));
    messages
}

fn extended_in(client: &mut Raw) -> Vec<Message> {
    client.send(&[parse("", IN, &[]), bind("", "", &[]), describe_portal(""), execute("", 0), flush()].concat());
    let mut messages = client.read_until(b'G');
    client.send(&[copy_data(b"4\tfour\n"), copy_done(), flush()].concat());
    messages.extend(client.read_until(b'C'));
    messages.extend(exchange(client, &sync(), 1));
    let at_once = [parse("", IN, &[]), bind("", "", &[]), execute("", 0), copy_data(b"5\tfive\n"), copy_done(), sync()];
    messages.extend(exchange(client, &[at_once.concat(), query("select 'next'")].concat(), 2));
    assert_eq!(tags(&messages), "12nGCZ12GCZTDCZ");
    messages.extend(exchange(client, &query("truncate target"), 1));
    messages
}

/// What libpq does: Sync behind Execute, and another one behind CopyDone.
fn extended_in_early_sync(client: &mut Raw) -> Vec<Message> {
    client.send(&[parse("", IN, &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    let mut messages = client.read_until(b'G');
    messages.extend(exchange(client, &[copy_data(b"6\tsix\n"), copy_done(), sync()].concat(), 1));
    assert_eq!(tags(&messages), "12GCZ");
    client.send(&[parse("", IN, &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    messages.extend(client.read_until(b'G'));
    messages.extend(exchange(client, &[copy_fail("no"), sync(), query("select 'next'")].concat(), 2));
    messages
}

fn extended_bad_row(client: &mut Raw) -> Vec<Message> {
    client.send(&[parse("", IN, &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    let mut messages = client.read_until(b'G');
    client.send(&copy_data(b"bad\n"));
    messages.extend(client.read_until(b'E'));
    messages.extend(exchange(client, &[copy_data(b"1\tx\n"), copy_done(), sync(), query("select 'next'")].concat(), 2));
    assert_eq!(tags(&messages), "12GEZTDCZ");
    let at_once = [parse("", IN, &[]), bind("", "", &[]), execute("", 0), copy_data(b"bad\n"), copy_done(), sync()];
    messages.extend(exchange(client, &[at_once.concat(), query("select 'next'")].concat(), 2));
    messages
}

fn extended_refused(client: &mut Raw) -> Vec<Message> {
    let sql = "copy nosuch from stdin";
    let flight = [parse("", sql, &[]), bind("", "", &[]), execute("", 0), copy_data(b"1\n"), copy_done(), sync()];
    exchange(client, &[flight.concat(), query("select 'next'")].concat(), 2)
}

fn copy_among_others(client: &mut Raw) -> Vec<Message> {
    let sql = format!("truncate target; {IN}; select count(*) from target; {OUT}; {IN}; select count(*) from target");
    let flight = [query(&sql), copy_data(b"1\ta\n"), copy_done(), copy_data(b"2\tb\n"), copy_done()];
    let mut messages = exchange(client, &flight.concat(), 1);
    let mut wanted = tags(&messages);
    wanted.retain(|tag| tag != 'd');
    assert_eq!(wanted, "CGCTDCHcCGCTDCZ");
    messages.extend(exchange(client, &query("truncate target"), 1));
    messages
}

fn stray(client: &mut Raw) -> Vec<Message> {
    let strays = [copy_data(b"x"), copy_done(), copy_fail("y"), flush()].concat();
    let mut messages = exchange(client, &[strays.clone(), query("select 1")].concat(), 1);
    messages.extend(exchange(client, &[query("select 2"), strays.clone(), query("select 3")].concat(), 2));
    messages.extend(exchange(client, &[extended("select 4", &[]), strays, extended("select 5", &[])].concat(), 2));
    messages
}

fn copy_in_transaction(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("begin"), 1);
    messages.extend(exchange(client, &[query(IN), copy_data(b"1\ta\n"), copy_done()].concat(), 1));
    messages.extend(exchange(client, &[query(IN), copy_data(b"bad\n"), copy_done()].concat(), 1));
    messages.extend(exchange(client, &query("commit"), 1));
    messages.extend(contents(client));
    messages
}

/// What the table holds, which is emptied.
fn contents(client: &mut Raw) -> Vec<Message> {
    let messages = exchange(client, &query("select x, left(y, 9), length(y) from target order by 1, 2"), 1);
    exchange(client, &query("truncate target"), 1);
    messages
}
