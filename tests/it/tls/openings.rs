//! How TLS begins: by request, at once, and with what has no place there.

use std::{sync::Arc, time::Duration};

use rustls::{HandshakeKind, version};

use super::{BOTH, client, pooler};
use crate::support::{Cluster, Pki, Pooler, Raw, Table, eventually, messages};

const SOON: Duration = Duration::from_secs(5);

fn state(pooler: &Pooler, key: &str) -> u64 {
    Table::of(&mut pooler.console_unix(), "SHOW STATE").matching(&[("key", key)]).value("value").parse().unwrap()
}

#[test]
fn requests_come_in_the_orders_that_postgresql_allows() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let config = client(&pki);
    // GSS first, which is declined.
    let mut raw = Raw::connect(pooler.port());
    raw.send(&messages::gss_request());
    assert_eq!(raw.read_byte(), b'N');
    let mut raw = raw.ask_tls(&config).unwrap();
    raw.startup(&[("user", "alice"), ("database", "app")]);
    raw.authenticate("alice", "alicepw").unwrap();
    assert_eq!(raw.value("select 1"), "1");
    // Nothing may be asked for twice, or within TLS.
    for request in [messages::ssl_request(), messages::gss_request()] {
        let mut raw = Raw::connect(pooler.port()).ask_tls(&config).unwrap();
        raw.send(&request);
        assert_eq!(raw.expect_error().message, "unexpected request for encryption");
        raw.expect_eof();
    }
    let mut raw = Raw::connect(pooler.port());
    for answer in [b"N".as_slice(), b""] {
        raw.send(&messages::gss_request());
        if let [expected] = answer {
            assert_eq!(raw.read_byte(), *expected);
        }
    }
    assert_eq!(raw.expect_error().message, "unexpected request for encryption");
    // In the clear only a cancel request is taken, which tells nothing.
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", "app")]);
    let error = raw.expect_error();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("28000", "SSL required"));
    Raw::cancel(pooler.port(), &(1, vec![0; 4]));
    // By the Unix socket there is none, and none is needed.
    let mut raw = Raw::connect_unix(pooler.socket());
    raw.send(&messages::ssl_request());
    assert_eq!(raw.read_byte(), b'N');
    raw.startup(&[("user", "alice"), ("database", "app")]);
    raw.authenticate("alice", "alicepw").unwrap();
}

#[test]
fn what_was_put_behind_the_request_is_not_taken_for_the_clients() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "prefer", "");
    let evil = messages::startup(messages::PROTOCOL_3_0, &[("user", "alice"), ("database", "app")]);
    let mut raw = Raw::connect(pooler.port());
    raw.send(&[messages::ssl_request(), evil.clone()].concat());
    assert_eq!(raw.expect_error().message, "received unencrypted data after SSL request");
    raw.expect_eof();
    // The same a little later: it is taken for TLS, and is none.
    let mark = pooler.log_len();
    let failed = state(&pooler, "tls_handshakes_failed");
    let mut raw = Raw::connect(pooler.port());
    raw.send(&messages::ssl_request());
    assert_eq!(raw.read_byte(), b'S');
    raw.send(&evil);
    // An alert is all that comes, and no message of the protocol.
    assert_eq!(raw.read_byte(), 0x15);
    let line = pooler.wait_for_log_since(mark, "TLS handshake failed", SOON);
    assert!(line.contains("peer=127.0.0.1") && line.contains("reason="), "{line}");
    assert_eq!(state(&pooler, "tls_handshakes_failed"), failed + 1);
}

#[test]
fn direct_tls_has_to_name_the_protocol() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let mut raw = Raw::connect(pooler.port()).start_tls(&client(&pki), usize::MAX).unwrap();
    assert_eq!(raw.tls().alpn_protocol(), Some(&b"postgresql"[..]));
    raw.startup(&[("user", "alice"), ("database", "app")]);
    raw.authenticate("alice", "alicepw").unwrap();
    assert_eq!(raw.value("select 1"), "1");

    let mut config = pki.client(BOTH, None);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let refused = Raw::connect(pooler.port()).start_tls(&Arc::new(config), usize::MAX).err().unwrap();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");

    let mut config = pki.client(BOTH, None);
    config.alpn_protocols.clear();
    let config = Arc::new(config);
    let mut raw = Raw::connect(pooler.port()).start_tls(&config, usize::MAX).unwrap();
    let error = raw.expect_error();
    assert!(error.message.contains("without ALPN") && error.code == "08P01", "{error:?}");
    raw.expect_eof();
    // Who asks first need not name it.
    Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
}

#[test]
fn sessions_go_on_with_tickets() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let config = Arc::new(pki.client(versions, None));
        let kinds: Vec<_> = (0..3)
            .map(|_| {
                let mut raw = Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
                assert_eq!(raw.value("select 1"), "1");
                raw.tls().handshake_kind().unwrap()
            })
            .collect();
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    }
    assert_eq!((state(&pooler, "tls_handshakes"), state(&pooler, "tls_handshakes_resumed")), (6, 4));
}

#[test]
fn a_handshake_has_the_time_of_a_login_and_no_more_room() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "auth_type = \"trust\"\nclient_login_timeout = 2");
    // Says nothing, says half of it, says too much.
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut raw = Raw::connect(pooler.port());
        raw.send(&messages::ssl_request());
        assert_eq!(raw.read_byte(), b'S');
        raw.send(bytes);
        raw.expect_eof();
    }
    let mark = pooler.log_len();
    let mut raw = Raw::connect(pooler.port());
    raw.send(&messages::ssl_request());
    assert_eq!(raw.read_byte(), b'S');
    // A ClientHello that says to be of 64,000 bytes, in records of 4096.
    let record = [&b"\x16\x03\x01\x10\x00"[..], &[0; 4096]].concat();
    let mut first = record.clone();
    first[5..9].copy_from_slice(&[1, 0, 0xfa, 0]);
    let sent = (0..20).try_for_each(|at| raw.try_send(if at == 0 { &first } else { &record }));
    drop(sent);
    let line = pooler.wait_for_log_since(mark, "TLS handshake failed", SOON);
    assert!(line.contains("reason="), "{line}");
    eventually(SOON, "all are gone", || state(&pooler, "tls_handshakes_failed") >= 1);
    Raw::login_tls(pooler.port(), &client(&pki), "alice", "alicepw");
}
