//! Talks without COPY: simple and extended queries, pipelines, portals, FunctionCall, and what comes unasked.

use super::{
    Needs::{Session, Statements, Transactions},
    Talk, exchange,
};
use crate::support::{
    Raw,
    messages::{
        bind, close_portal, close_statement, describe_portal, describe_statement, execute, extended, flush,
        function_call, parse, query, sync,
    },
    reply::{Message, tags},
};

pub(super) fn all() -> Vec<Talk> {
    let talk = |name, needs, speak| Talk { name, needs, speak };
    vec![
        talk("simple queries", Statements, simple),
        talk("an error among several statements", Statements, error_in_the_middle),
        talk("an extended query", Statements, one_extended),
        talk("an extended query that fails at each of its steps", Statements, extended_errors),
        talk("Flush, then Sync", Statements, flush_then_sync),
        talk("several Syncs in flight, the first fails", Statements, pipelined_syncs),
        talk("queries and extended queries in one write", Statements, mixed_pipeline),
        talk("Describe and Close", Statements, describe_and_close),
        talk("a portal with a row limit within one Sync", Statements, limited_portal_in_one_sync),
        talk("notices", Statements, notices),
        talk("settings that PostgreSQL reports", Statements, reported_settings),
        talk("a function call", Statements, one_function_call),
        talk("one byte at a time", Statements, byte_by_byte),
        talk("a transaction", Transactions, transaction),
        talk("a failed transaction", Transactions, failed_transaction),
        talk("a portal over several Syncs", Transactions, portal_in_transaction),
        talk("a named statement within a transaction", Transactions, named_in_transaction),
        talk("large object functions by oid", Transactions, large_object),
        talk("pipelined transactions", Transactions, pipelined_transactions),
        talk("a named statement over several Syncs", Session, named_statement),
        talk("SQL's own PREPARE, a cursor and a temporary table", Session, session_state),
        talk("a notification of one's own", Session, own_notification),
    ]
}

fn simple(client: &mut Raw) -> Vec<Message> {
    [
        "select 1, 'two', null::int",
        "select x, y from plenty order by x",
        "select 1; select 'a' as b; select 2 where false",
        "",
        "  ;; ",
        "-- nothing",
        "insert into target select 1 where false; update target set x = 1 where false; delete from target where false",
        "selekt",
        "select 1 / 0",
        "create table made (x int); drop table made",
        "explain (costs off) select * from plenty",
        "show server_version",
    ]
    .iter()
    .flat_map(|sql| exchange(client, &query(sql), 1))
    .collect()
}

fn error_in_the_middle(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("select 1; select 1 / 0; select 2"), 1);
    assert_eq!(tags(&messages), "TDCEZ");
    messages.extend(exchange(client, &[query("select 1 / 0"), query("select 2"), query("selekt")].concat(), 3));
    messages
}

fn one_extended(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &extended("select $1::int + 1, $2::text", &[Some("41"), None]), 1);
    messages.extend(exchange(client, &extended("", &[]), 1));
    messages.extend(exchange(client, &extended("update target set x = $1 where false", &[Some("1")]), 1));
    let undescribed = [parse("", "select y from plenty order by x", &[]), bind("", "", &[]), execute("", 0), sync()];
    messages.extend(exchange(client, &undescribed.concat(), 1));
    messages.extend(exchange(client, &sync(), 1));
    messages
}

fn extended_errors(client: &mut Raw) -> Vec<Message> {
    let mut messages = Vec::new();
    for (sql, parameters) in [
        ("selekt", &[][..]),
        ("select $1::int", &[Some("x")]),
        ("select $1::int", &[]),
        ("select 1 / $1::int", &[Some("0")]),
        ("select 1; select 2", &[]),
    ] {
        messages.extend(exchange(client, &extended(sql, parameters), 1));
    }
    for lost in [bind("", "nosuch", &[]), execute("nosuch", 0), describe_statement("nosuch"), describe_portal("nosuch")]
    {
        messages.extend(exchange(client, &[lost, execute("", 0), sync()].concat(), 1));
    }
    messages
}

fn flush_then_sync(client: &mut Raw) -> Vec<Message> {
    client.send(&[parse("", "select 1 / $1::int", &[]), describe_statement(""), flush()].concat());
    let mut messages = client.read_until(b'T');
    client.send(&[bind("", "", &[Some("1")]), execute("", 0), flush()].concat());
    messages.extend(client.read_until(b'C'));
    // After an error PostgreSQL says nothing more until Sync.
    client.send(&[bind("", "", &[Some("0")]), execute("", 0), flush()].concat());
    messages.extend(client.read_until(b'E'));
    messages.extend(exchange(client, &[bind("", "", &[Some("1")]), execute("", 0), flush(), sync()].concat(), 1));
    assert_eq!(tags(&messages), "1tT2DCEZ");
    messages
}

fn pipelined_syncs(client: &mut Raw) -> Vec<Message> {
    let flight = [
        parse("", "select 1 / 0", &[]),
        bind("", "", &[]),
        execute("", 0),
        parse("", "select 'skipped'", &[]),
        sync(),
        extended("select 2", &[]),
        sync(),
        extended("selekt", &[]),
        extended("select 3", &[]),
    ];
    let messages = exchange(client, &flight.concat(), 5);
    assert_eq!(tags(&messages), "1EZ12TDCZZEZ12TDCZ", "{messages:?}");
    messages
}

fn mixed_pipeline(client: &mut Raw) -> Vec<Message> {
    let flight = [
        query("select 1"),
        extended("select 2", &[]),
        query("select 3; select 4"),
        function_call(1620, &["A"]),
        query(""),
        extended("select 1 / 0", &[]),
        query("select 5"),
    ];
    exchange(client, &flight.concat(), 7)
}

fn describe_and_close(client: &mut Raw) -> Vec<Message> {
    let flight = [
        parse("one", "select $1::int as a, $2::timestamptz as b", &[]),
        describe_statement("one"),
        bind("door", "one", &[Some("1"), None]),
        describe_portal("door"),
        close_portal("door"),
        close_portal("never was"),
        close_statement("one"),
        close_statement("never was"),
        parse("two", "delete from target where false", &[]),
        describe_statement("two"),
        close_statement("two"),
        sync(),
    ];
    let messages = exchange(client, &flight.concat(), 1);
    assert_eq!(tags(&messages), "1tT2T33331tn3Z");
    messages
}

fn limited_portal_in_one_sync(client: &mut Raw) -> Vec<Message> {
    let flight = [
        parse("", "select x from plenty order by x limit 5", &[]),
        bind("p", "", &[]),
        execute("p", 2),
        execute("p", 2),
        execute("p", 2),
        execute("p", 2),
        sync(),
    ];
    let messages = exchange(client, &flight.concat(), 1);
    assert_eq!(tags(&messages), "12DDsDDsDCCZ");
    messages
}

fn notices(client: &mut Raw) -> Vec<Message> {
    let talkative = "do $$ begin raise notice 'one'; raise warning 'two' using detail = 'three'; end $$";
    let mut messages = exchange(client, &query(talkative), 1);
    assert_eq!(tags(&messages), "NNCZ");
    messages.extend(exchange(client, &extended("drop table if exists nosuch", &[]), 1));
    messages
}

fn reported_settings(client: &mut Raw) -> Vec<Message> {
    let mut messages = Vec::new();
    for sql in [
        "set application_name = 'Talk'",
        "set application_name = 'talk'",
        "set timezone = 'Asia/Kolkata'; select '2024-01-01 00:00+00'::timestamptz",
        "set datestyle = 'german'; select '2024-02-01'::date",
        "reset datestyle; reset timezone; reset application_name",
    ] {
        messages.extend(exchange(client, &query(sql), 1));
    }
    messages.extend(exchange(client, &extended("set intervalstyle = 'iso_8601'", &[]), 1));
    messages.extend(exchange(client, &query("select interval '1 day 2 hours'"), 1));
    messages.extend(exchange(client, &query("reset intervalstyle"), 1));
    messages
}

fn one_function_call(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &function_call(1620, &["A"]), 1); // ascii(text)
    messages.extend(exchange(client, &function_call(1, &[]), 1));
    messages.extend(exchange(client, &[function_call(1620, &[]), function_call(1620, &["B"])].concat(), 2));
    assert_eq!(tags(&messages), "VZEZEZVZ");
    messages
}

fn byte_by_byte(client: &mut Raw) -> Vec<Message> {
    let flight = [query("select 'slow'"), extended("select $1::text", &[Some("slower")]), sync()].concat();
    for byte in flight {
        client.send(&[byte]);
    }
    (0..3).flat_map(|_| client.read_until_ready()).collect()
}

fn transaction(client: &mut Raw) -> Vec<Message> {
    let statements = ["begin", "select 1", "savepoint s", "selekt", "rollback to s", "select 2", "commit", "commit"];
    let messages: Vec<_> = statements.iter().flat_map(|sql| exchange(client, &query(sql), 1)).collect();
    let statuses: String = messages.iter().filter(|message| message.tag == b'Z').map(Message::status).collect();
    assert_eq!(statuses, "TTTETTII");
    messages
}

fn failed_transaction(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &extended("begin", &[]), 1);
    messages.extend(exchange(client, &extended("select 1 / 0", &[]), 1));
    messages.extend(exchange(client, &extended("select 1", &[]), 1));
    messages.extend(exchange(client, &query("select 1"), 1));
    messages.extend(exchange(client, &query("commit"), 1));
    messages
}

fn portal_in_transaction(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("begin"), 1);
    let opened = [parse("", "select x, y from plenty order by x", &[]), bind("p", "", &[]), execute("p", 40), sync()];
    messages.extend(exchange(client, &opened.concat(), 1));
    messages.extend(exchange(client, &[execute("p", 40), sync(), execute("p", 40), sync()].concat(), 2));
    messages.extend(exchange(client, &[close_portal("p"), sync(), query("commit")].concat(), 2));
    assert_eq!(messages.iter().filter(|message| message.tag == b's').count(), 2);
    messages
}

fn named_in_transaction(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("begin"), 1);
    messages.extend(exchange(client, &[parse("s", "select $1::int * 2", &[]), sync()].concat(), 1));
    for value in ["1", "2"] {
        messages.extend(exchange(client, &[bind("", "s", &[Some(value)]), execute("", 0), sync()].concat(), 1));
    }
    messages.extend(exchange(client, &[close_statement("s"), sync(), query("commit")].concat(), 2));
    messages
}

fn large_object(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("begin"), 1);
    for (oid, arguments) in [
        (715, &["47110815"][..]),       // lo_create
        (952, &["47110815", "393216"]), // lo_open, to read and write
        (955, &["0", "\\x000102ff"]),   // lowrite
        (956, &["0", "1", "0"]),        // lo_lseek
        (954, &["0", "100"]),           // loread
        (953, &["0"]),                  // lo_close
        (964, &["47110815"]),           // lo_unlink
    ] {
        messages.extend(exchange(client, &function_call(oid, arguments), 1));
    }
    assert_eq!(tags(&messages), "CZVZVZVZVZVZVZVZ", "{messages:?}");
    messages.extend(exchange(client, &query("rollback"), 1));
    messages
}

fn pipelined_transactions(client: &mut Raw) -> Vec<Message> {
    let flight = ["begin", "select 1", "commit", "begin", "selekt", "select 2", "commit", "select 3"];
    exchange(client, &flight.map(query).concat(), flight.len())
}

fn named_statement(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &[parse("s", "select $1::int * 2", &[]), sync()].concat(), 1);
    messages.extend(exchange(client, &[parse("s", "select 1", &[]), sync()].concat(), 1));
    for value in ["1", "x", "2"] {
        let flight = [bind("", "s", &[Some(value)]), describe_portal(""), execute("", 0), sync()];
        messages.extend(exchange(client, &flight.concat(), 1));
    }
    messages.extend(exchange(client, &[close_statement("s"), sync()].concat(), 1));
    messages.extend(exchange(client, &[bind("", "s", &[Some("1")]), sync()].concat(), 1));
    messages
}

fn session_state(client: &mut Raw) -> Vec<Message> {
    [
        "prepare p as select 1",
        "execute p",
        "begin; declare c cursor with hold for select x from plenty order by x; commit",
        "fetch 3 from c",
        "create temp table mine (x int)",
        "insert into mine values (1), (2)",
        "select sum(x) from mine",
        "discard all",
        "execute p",
    ]
    .iter()
    .flat_map(|sql| exchange(client, &query(sql), 1))
    .collect()
}

fn own_notification(client: &mut Raw) -> Vec<Message> {
    let mut messages = exchange(client, &query("listen talk"), 1);
    messages.extend(exchange(client, &query("notify talk, 'payload'"), 1));
    messages.extend(exchange(client, &query("select 1"), 1));
    messages.extend(exchange(client, &query("unlisten *"), 1));
    assert_eq!(messages.iter().filter(|message| message.tag == b'A').count(), 1);
    messages
}
