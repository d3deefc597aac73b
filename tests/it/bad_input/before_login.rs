//! Before the login: packets that are none, packets that lie, and silence.

use std::time::{Duration, Instant};

use super::{Scene, assert_closed};
use crate::support::{
    Raw,
    messages::{PROTOCOL_3_0, message, password, query, sasl_initial, sasl_response, ssl_request, startup, untagged},
};

const LENGTH: &str = "invalid length of startup packet";
const LAYOUT: &str = "invalid startup packet layout: expected terminator as last byte";
const USER: (&str, &str) = ("user", "alice");

/// Bytes on a fresh connection, and the error that they have to get.
fn openings() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let body = |parts: &[&[u8]]| untagged(&[&PROTOCOL_3_0.to_be_bytes()[..], &parts.concat()].concat());
    let replication = |value| startup(PROTOCOL_3_0, &[USER, ("database", "app"), ("replication", value)]);
    vec![
        ("length 0", vec![0, 0, 0, 0], "08P01", LENGTH),
        ("length 3", vec![0, 0, 0, 3], "08P01", LENGTH),
        ("length 7", vec![0, 0, 0, 7, 0, 3, 0], "08P01", LENGTH),
        ("length 10001", 10_001_u32.to_be_bytes().to_vec(), "08P01", LENGTH),
        ("length 2 GB", 0x7fff_ffff_u32.to_be_bytes().to_vec(), "08P01", LENGTH),
        ("length 4 GB", 0xffff_ffff_u32.to_be_bytes().to_vec(), "08P01", LENGTH),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "08P01", LENGTH),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "08P01", LENGTH),
        ("no terminator", body(&[b"user\0alice\0"]), "08P01", LAYOUT),
        ("a name without a value", body(&[b"user\0"]), "08P01", LAYOUT),
        ("a value without an end", body(&[b"user\0alice"]), "08P01", LAYOUT),
        ("bytes behind the terminator", body(&[b"user\0alice\0\0x"]), "08P01", LAYOUT),
        ("nothing at all", body(&[]), "08P01", LAYOUT),
        ("no user", body(&[b"\0"]), "28000", "no PostgreSQL user name specified in startup packet"),
        ("an empty user", body(&[b"user\0\0\0"]), "28000", "no PostgreSQL user name specified in startup packet"),
        ("no UTF-8", body(&[b"user\0al\xffce\0\0"]), "08P01", "invalid startup packet: parameter is not valid UTF-8"),
        (
            "protocol 2.0",
            startup(2 << 16, &[USER]),
            "0A000",
            "unsupported frontend protocol 2.0: server supports 3.0 to 3.2",
        ),
        (
            "protocol 4.0",
            startup(4 << 16, &[USER]),
            "0A000",
            "unsupported frontend protocol 4.0: server supports 3.0 to 3.2",
        ),
        ("odd replication", replication("maybe"), "08P01", "invalid value for parameter \"replication\""),
        (
            "bytes behind SSLRequest",
            [ssl_request(), startup(PROTOCOL_3_0, &[USER])].concat(),
            "08P01",
            "received unencrypted data after SSL request",
        ),
        (
            "odd options",
            startup(PROTOCOL_3_0, &[USER, ("options", "-B 5")]),
            "08P01",
            "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
        ),
    ]
}

#[test]
fn opening_packets_that_cannot_be_served_are_refused() {
    let scene = Scene::start("");
    scene.beside_an_innocent(|| {
        for _ in 0..3 {
            for (name, bytes, code, text) in openings() {
                let mut client = Raw::connect(scene.pooler.port());
                client.send(&bytes);
                assert_closed(&mut client, code, text, name);
            }
        }
        // Those who leave in the middle are told nothing.
        for head in [&b"\0\0"[..], &startup(PROTOCOL_3_0, &[USER])[..9]] {
            let mut client = Raw::connect(scene.pooler.port());
            client.send(head);
            client.shutdown_write();
            client.expect_eof();
        }
    });
}

#[test]
fn answers_that_are_no_passwords_are_refused() {
    let header = |length: u32| [b"p".as_slice(), &length.to_be_bytes()].concat();
    let long = "invalid password message length";
    for (method, bad, text) in [
        ("plain", message(b'p', b"alicepw"), "invalid password packet"),
        ("md5", message(b'p', b"md5"), "invalid password packet"),
        ("scram-sha-256", password("alicepw"), "SASL authentication failed"),
        ("scram-sha-256", message(b'p', b""), "invalid password packet"),
        ("scram-sha-256", sasl_initial("SCRAM-SHA-512", b"n,,n=,r=abc"), "SASL authentication failed"),
        ("scram-sha-256", sasl_initial("SCRAM-SHA-256", b"\xff\xfe\0"), "SASL authentication failed"),
        ("scram-sha-256", message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,"), "SASL authentication failed"),
        ("scram-sha-256", message(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,"), "SASL authentication failed"),
    ] {
        let scene = Scene::start(&format!("auth_type = \"{method}\""));
        scene.beside_an_innocent(|| {
            for (bytes, text) in [
                (bad.clone(), text),
                (query("select 1"), "expected password response"),
                (header(0), long),
                (header(3), long),
                (header(if method == "plain" { 65_536 } else { 10_005 }), long),
                (header(0x7fff_ffff), long),
                (header(0xffff_ffff), long),
            ] {
                let mut client = Raw::connect(scene.pooler.port());
                client.startup(&[USER, ("database", "app")]);
                assert_eq!(client.read().tag, b'R');
                client.send(&bytes);
                assert_closed(&mut client, "08P01", text, method);
            }
        });
    }
    let scene = Scene::start("");
    let mut client = Raw::connect(scene.pooler.port());
    client.startup(&[USER, ("database", "app")]);
    client.read();
    client.send(&sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnopqrstuvwx"));
    client.read();
    client.send(&sasl_response(b"nonsense"));
    assert_closed(&mut client, "08P01", "SASL authentication failed", "the last message of SCRAM");
}

#[test]
fn silence_before_the_end_of_the_login_is_limited() {
    let scene = Scene::start("client_login_timeout = 1");
    scene.beside_an_innocent(|| {
        let packet = startup(PROTOCOL_3_0, &[USER, ("database", "app")]);
        let begun = Instant::now();
        let mut clients: Vec<Raw> = (0..4).map(|_| Raw::connect(scene.pooler.port())).collect();
        clients[1].send(&packet[..11]);
        clients[2].send(&packet);
        assert_eq!(clients[2].read().tag, b'R');
        clients[2].send(&password("x")[..4]);
        clients[3].send(&ssl_request());
        assert_eq!(clients[3].read_byte(), b'N');
        // A client that never quite stops does not get more time.
        let mut dribbler = Raw::connect(scene.pooler.port());
        let mut bytes = packet[..packet.len() - 1].iter();
        while dribbler.is_silent_for(Duration::from_millis(60)) {
            if let Some(byte) = bytes.next() {
                let _ = dribbler.try_send(&[*byte]);
            }
        }
        clients.push(dribbler);
        for client in &mut clients {
            assert_closed(client, "57P03", "client_login_timeout", "silence");
        }
        let lasted = begun.elapsed();
        assert!(lasted >= Duration::from_millis(900), "after {lasted:?}");
    });
}
