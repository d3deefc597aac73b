//! Messages of sizes that no buffer fits: around the buffer's size, and far above it.

use std::fmt::Write;

use super::{assert_same, exchange};
use crate::support::{
    Cluster, Pooler, Raw, for_each_worker_count,
    messages::{bind, copy_data, copy_done, execute, extended, parse, query, sync},
    process::memory_kib,
};

const MEGABYTE: usize = 1 << 20;

#[test]
fn messages_around_the_size_of_a_buffer_pass() {
    let cluster = Cluster::start();
    cluster.sql("app", "create table target (y text); grant all on target to public");
    for_each_worker_count(|workers| {
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\nworker_threads = {workers}"));
        let mut direct = Raw::login(cluster.port(), "alice", "alicepw", "app");
        let mut client = pooler.login("alice", "alicepw", "app");
        // Rows, with and without something before them in the buffer.
        let rows = query("select repeat('x', g) from generate_series(65480, 65545) g");
        assert_same("rows", &exchange(&mut client, &rows, 1), &exchange(&mut direct, &rows, 1));
        let copy = query("copy (select repeat('x', g) from generate_series(65500, 65545) g) to stdout");
        assert_same("copied rows", &exchange(&mut client, &copy, 1), &exchange(&mut direct, &copy, 1));
        for length in (65_515..65_545).chain([131_050, 131_060, 131_070, 196_600]) {
            // A message that ends at each place around the end of the buffer, by itself and with others behind it.
            let text = "y".repeat(length);
            let flight = [query(&format!("select length('{text}')")), extended("select length($1)", &[Some(&text)])];
            for flight in flight.iter().map(|flight| [flight.as_slice(), &query("select 1")].concat()) {
                let name = format!("{length} bytes");
                assert_same(&name, &exchange(&mut client, &flight, 2), &exchange(&mut direct, &flight, 2));
            }
        }
    });
}

#[test]
fn messages_of_megabytes_pass_both_ways() {
    let cluster = Cluster::start();
    cluster.sql("app", "create table target (y text); grant all on target to public");
    for_each_worker_count(|workers| {
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\nworker_threads = {workers}"));
        let mut client = pooler.login("alice", "alicepw", "app");
        let text = "z".repeat(5 * MEGABYTE);
        assert_eq!(client.value(&format!("select length('{text}')")), text.len().to_string());
        let rows = client.query_extended("select $1::text, length($1)", &[Some(&text)]).unwrap();
        assert!(rows[0][0].as_ref() == Some(&text), "the value came back changed");
        let mut list = "select 0".to_owned();
        for number in 1..2_000 {
            write!(list, "; select {number}").unwrap();
        }
        let rows = client.query(&list).unwrap();
        let numbers: Vec<String> = rows.into_iter().flatten().flatten().collect();
        assert_eq!(numbers, (0..2_000).map(|number| number.to_string()).collect::<Vec<_>>());
        let flight = [query("copy target from stdin"), copy_data(text.as_bytes()), copy_done()].concat();
        exchange(&mut client, &flight, 1);
        assert_eq!(client.value("select sum(length(y)) from target"), text.len().to_string());
        client.query("truncate target").unwrap();
    });
}

#[test]
fn an_error_of_megabytes_and_a_notice_of_megabytes_pass() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let mut client = pooler.login("alice", "alicepw", "app");
    let error = client.query("do $$ begin raise exception '%', repeat('e', 3000000); end $$").unwrap_err();
    assert_eq!((error.code.as_str(), error.message.len()), ("P0001", 3_000_000));
    client.send(&query("do $$ begin raise notice '%', repeat('n', 3000000); end $$"));
    assert_eq!(client.read().error().message.len(), 3_000_000);
    client.read_until_ready();
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_row_of_a_hundred_megabytes_costs_no_memory() {
    const LENGTH: usize = 100_000_000;
    let cluster = Cluster::start();
    for_each_worker_count(|workers| {
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\nworker_threads = {workers}"));
        let mut client = pooler.login("alice", "alicepw", "app");
        client.query("select 1").unwrap();
        let before = memory_kib(pooler.pid(), "VmHWM");
        let flight = [parse("", "select repeat('r', 100000000)", &[]), bind("", "", &[]), execute("", 0), sync()];
        let messages = exchange(&mut client, &flight.concat(), 1);
        let row = messages.iter().find(|message| message.tag == b'D').unwrap();
        assert!(row.body.len() == LENGTH + 6 && row.body[6..].iter().all(|byte| *byte == b'r'), "the row was changed");
        let grown = memory_kib(pooler.pid(), "VmHWM") - before;
        assert!(grown < 4 * 1024, "the pooler grew by {grown} KiB");
        assert_eq!(client.value("select 1"), "1");
    });
}
