//! After the login: what is no message closes the connection, what is only a bad message is PostgreSQL's to refuse.

use super::{Scene, assert_closed};
use crate::support::{
    Raw, for_each_worker_count,
    messages::{bind as bind_message, copy_data, copy_done, copy_fail, execute, message, parse, query, sync},
    reply::{Message, tags},
};

/// Types of messages that a client may send.
const TYPES: &[u8; 14] = b"QPBDECSHFdcfXp";

#[test]
fn what_is_no_message_closes_the_connection() {
    let scene = Scene::start("auth_type = \"trust\"");
    scene.beside_an_innocent(|| {
        for held in [false, true] {
            for tag in [b'z', 0, 0xff, b'R', b'Z', b'p', b'\n'] {
                let text = format!("invalid message type 0x{tag:02x}");
                attack(&scene, held, &message(tag, b"abc"), &text);
            }
            for tag in TYPES[..13].iter().copied() {
                for length in [0_u32, 3, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
                    let text = format!("invalid message length {length} for type 0x{tag:02x}");
                    attack(&scene, held, &[&[tag][..], &length.to_be_bytes()].concat(), &text);
                }
            }
        }
    });
}

/// One client sends `bytes`, with a transaction open or without, and is told `text`.
fn attack(scene: &Scene, held: bool, bytes: &[u8], text: &str) {
    let mut client = scene.pooler.login("alice", "alicepw", "app");
    if held {
        client.query("begin").unwrap();
    }
    client.send(bytes);
    assert_closed(&mut client, "08P01", text, text);
}

#[test]
fn what_postgresql_refuses_does_not_end_the_session() {
    let scene = Scene::start("auth_type = \"trust\"");
    scene.cluster.sql("app", "create table target (x int); grant all on target to public");
    let bind = |rest: &[u8]| [parse("", "select $1::text", &[]), message(b'B', rest), sync()].concat();
    let copying = |last: Vec<u8>| [query("copy target from stdin"), last].concat();
    let flights: Vec<(Vec<u8>, usize)> = vec![
        (bind(b""), 1),
        (bind(b"\0"), 1),
        (bind(b"\0\0\0\0"), 1),
        (bind(b"\0\0\x7f\xff"), 1),
        (bind(b"\0\0\0\0\xff\xff"), 1),
        (bind(b"\0\0\0\0\0\x01\x7f\xff\xff\xff"), 1),
        (bind(b"\0\0\0\0\0\x01\0\0\0\x09abc\0\0"), 1),
        (bind(b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), 1),
        (bind(b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\x09\0\0"), 1),
        (bind(b"\0\0\0\0\0\x01\xff\xff\xff\xff\0\0trailing"), 1),
        ([message(b'P', b""), sync()].concat(), 1),
        ([message(b'P', b"\0select 1"), sync()].concat(), 1),
        ([message(b'P', b"\0select 1\0\x7f\xff"), sync()].concat(), 1),
        ([message(b'E', b"\0"), sync()].concat(), 1),
        ([message(b'D', b"Zx\0"), sync()].concat(), 1),
        ([message(b'C', b""), sync()].concat(), 1),
        (message(b'S', b"x"), 1),
        (message(b'Q', b""), 1),
        (message(b'Q', b"select 1"), 1),
        (message(b'Q', b"select 1\0select 2\0"), 1),
        (message(b'Q', b"select '\xff\xfe'\0"), 1),
        (message(b'Q', b"select '\xc3'\0"), 1),
        ([message(b'P', &[&b"\0select '\xff'\0\0\0"[..]].concat()), sync()].concat(), 1),
        (bind(b"\0\0\0\0\0\x01\0\0\0\x02\xc3\x28\0\0"), 1),
        (message(b'F', b""), 1),
        (message(b'F', b"\0\0\x06\x54\0\0\x7f\xff"), 1),
        (copying([copy_data(b"\xff\n"), message(b'c', b"")].concat()), 1),
        (copying(message(b'f', b"no end")), 1),
    ];
    for_each_worker_count(|_| {
        let mut direct = Raw::login(scene.cluster.port(), "alice", "alicepw", "app");
        let mut client = scene.pooler.login("alice", "alicepw", "app");
        scene.beside_an_innocent(|| {
            for (flight, count) in &flights {
                let wanted = answers(&mut direct, flight, *count);
                let given = answers(&mut client, flight, *count);
                assert!(given == wanted, "{}:\n{given:?}\n{wanted:?}", flight.escape_ascii());
                assert!(wanted.iter().any(|message| message.tag == b'E') || flight[0] == b'S', "{wanted:?}");
                assert_eq!(client.value("select 1"), "1", "{}", flight.escape_ascii());
            }
        });
        let error = client.query_extended("select convert_from($1::bytea, 'UTF8')", &[Some("\\xff")]).unwrap_err();
        assert_eq!(error.code, "22021");
    });
}

fn answers(client: &mut Raw, flight: &[u8], count: usize) -> Vec<Message> {
    client.send(flight);
    (0..count).flat_map(|_| client.read_until_ready()).collect()
}

/// PostgreSQL answers such a Flush with an error and skips to a Sync, which nothing that is owed would account for: the
/// backend would go to the next client in that state.
#[test]
fn a_flush_with_a_body_closes_the_connection() {
    let scene = Scene::start("auth_type = \"trust\"\ndefault_pool_size = 1");
    let text = "invalid message length 5 for type 0x48";
    for held in [false, true] {
        for tail in [&b""[..], &sync(), &[query("select 1"), sync()].concat()] {
            attack(&scene, held, &[&message(b'H', b"x"), tail].concat(), text);
        }
        for _ in 0..10 {
            attack(&scene, held, &[query("select 1"), message(b'H', b"x")].concat(), text);
            assert_eq!(scene.pooler.login("alice", "alicepw", "app").value("select 'next'"), "next");
        }
    }
}

/// PostgreSQL loses its place then, says so twice and closes.
#[test]
fn a_query_within_copy_in_ends_as_it_does_in_postgresql() {
    let scene = Scene::start("auth_type = \"trust\"");
    scene.cluster.sql("app", "create table target (x int); grant all on target to public");
    let last_words = |mut client: Raw| {
        client.send(&query("copy target from stdin"));
        assert_eq!(client.read().tag, b'G');
        client.send(&[query("select 1"), query("select 2")].concat());
        let mut words = Vec::new();
        while let Some(message) = client.read_or_eof() {
            words.push(message);
        }
        words
    };
    let wanted = last_words(Raw::login(scene.cluster.port(), "alice", "alicepw", "app"));
    let given = last_words(scene.pooler.login("alice", "alicepw", "app"));
    assert_eq!(tags(&wanted), "EE");
    assert_eq!((wanted[0].error().code.as_str(), wanted[1].error().severity.as_str()), ("08P01", "FATAL"));
    assert_eq!(given[..2], wanted[..], "{given:?}");
    assert_eq!(scene.pooler.login("alice", "alicepw", "app").value("select 1"), "1");
}

#[test]
fn clients_that_leave_within_a_message_cost_nothing() {
    let scene = Scene::start("auth_type = \"trust\"");
    scene.beside_an_innocent(|| {
        for bytes in [&b"Q"[..], b"Q\0\0", b"Q\0\0\0\x20sel", b"P\0\0\xff\xff\0sel", b"Q\x3f\xff\xff\x00", b"d\0\0"] {
            for _ in 0..5 {
                let mut client = scene.pooler.login("alice", "alicepw", "app");
                client.send(bytes);
                drop(client);
            }
        }
        assert_eq!(scene.pooler.login("alice", "alicepw", "app").value("select 1"), "1");
    });
}

/// A Sync behind data that PostgreSQL refuses is answered, one within a COPY is not, and which of the two it was cannot be
/// known of a Sync that was sent before the COPY was under way. Whatever becomes of the one who does that, the next
/// client gets its own answers.
#[test]
fn a_sync_within_copy_in_does_not_shift_the_answers_of_others() {
    let scene = Scene::start("auth_type = \"trust\"\ndefault_pool_size = 1");
    scene.cluster.sql("app", "create table target (x int); grant all on target to public");
    let mut next = scene.pooler.login("alice", "alicepw", "app");
    let copy = "copy target from stdin";
    let by_extended = [parse("", copy, &[]), bind_message("", "", &[]), execute("", 0)].concat();
    for flight in [
        [query(copy), copy_data(b"bad\n"), sync(), copy_done()],
        [query(copy), copy_data(b"bad\n"), [sync(), sync()].concat(), copy_done()],
        [query(copy), copy_data(b"bad\n"), sync(), copy_fail("no")],
        [by_extended.clone(), copy_data(b"bad\n"), sync(), [copy_done(), sync()].concat()],
        [by_extended, copy_data(b"bad\n"), [sync(), sync()].concat(), copy_fail("no")],
    ] {
        for round in 0..10 {
            let mut client = scene.pooler.login("alice", "alicepw", "app");
            client.send(&flight.concat());
            assert_eq!(client.expect_error().code, "22P02");
            let wanted = format!("round {round}");
            // The backend is this client's until its COPY is over, or has been closed.
            next.send(&query(&format!("select '{wanted}'")));
            drop(client);
            let answer = next.read_until_ready();
            assert_eq!(tags(&answer), "TDCZ", "{}", flight.concat().escape_ascii());
            assert_eq!(answer[1].row(), [Some(wanted)]);
        }
    }
}
