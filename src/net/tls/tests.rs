//! Two ends of TLS over a pair of Unix sockets, and certificates as bytes.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SignatureAlgorithm};
use tokio::net::UnixStream;

use super::*;
use crate::net::{Peek, Stream};

/// A configuration with TLS on both sides, and its files.
fn configured(more: &str) -> (tempfile::TempDir, Tls) {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.path().join("a.crt"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("a.key"), key.serialize_pem()).unwrap();
    let text = format!(
        "[pgpool]\nclient_tls_sslmode = \"require\"\nclient_tls_cert_file = \"a.crt\"\nclient_tls_key_file = \"a.key\"\n\
         server_tls_sslmode = \"verify-full\"\nserver_tls_ca_file = \"a.crt\"\n{more}\n[databases.a]\n"
    );
    let config = Config::parse(&text, &dir.path().join("x.toml")).unwrap().config;
    let tls = Tls::load(&config, None).unwrap();
    (dir, tls)
}

/// A server's and a client's end.
async fn pair(tls: &Tls) -> (Stream, Stream) {
    let (one, other) = UnixStream::pair().unwrap();
    let (mut server, mut client) = (Stream::from(one), Stream::from(other));
    let turns = Turnstile::new(1);
    let acceptor = tls.acceptor.as_ref().unwrap();
    let (accepted, connected) =
        tokio::join!(server.accept_tls(acceptor, Vec::new(), &turns), client.connect_tls(&tls.connector, "localhost"));
    accepted.unwrap();
    connected.unwrap();
    (server, client)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn send(stream: &mut Stream, bytes: &[u8], step: usize) {
    for part in bytes.chunks(step) {
        stream.write_all(part).await.unwrap();
    }
}

async fn receive(stream: &mut Stream, count: usize, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buf = vec![0; step];
    while all.len() < count {
        let read = std::future::poll_fn(|cx| stream.poll_read(cx, &mut buf)).await.unwrap();
        assert!(read > 0);
        all.extend_from_slice(&buf[..read]);
    }
    all
}

fn noise(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at * 31 % 251).unwrap() ^ seed).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_pass_in_both_directions(
        there in 0usize..300_000, back in 0usize..300_000,
        steps in [1usize..70_000, 1usize..70_000, 1usize..70_000, 1usize..70_000],
        old in any::<bool>(),
    ) {
        runtime().block_on(async {
            let (_dir, tls) = configured(if old { "client_tls_protocols = \"tlsv1.2\"" } else { "" });
            let (mut server, mut client) = pair(&tls).await;
            let (up, down) = (noise(there, 1), noise(back, 2));
            // Few bytes at a time for little data only, or it takes forever.
            let step = |at: usize, count: usize| steps[at].max(count / 200 + 1);
            let ((), got_down) = tokio::join!(
                async {
                    let got_up = receive(&mut server, there, step(0, there)).await;
                    assert!(got_up == up);
                    send(&mut server, &down, step(1, back)).await;
                },
                async {
                    send(&mut client, &up, step(2, there)).await;
                    receive(&mut client, back, step(3, back)).await
                }
            );
            assert!(got_down == down);
        });
    }

    #[test]
    fn arbitrary_bytes_are_no_certificate(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Certificate::parse(&bytes).map(|parsed| (parsed.subject(), parsed.signature_hash()));
    }

    #[test]
    fn a_damaged_certificate_is_read_or_not(at in 0usize..400, byte in any::<u8>()) {
        let mut der = made(&rcgen::PKCS_ECDSA_P256_SHA256, &[(DnType::CommonName, "alice")]);
        let length = der.len();
        der[at % length] = byte;
        if let Some(parsed) = Certificate::parse(&der) {
            let _ = (parsed.subject(), parsed.common_name(), parsed.signature_hash(), parsed.has_alternative_names());
            let _ = (parsed.is_valid_at(0), parsed.key());
        }
        let _ = Certificate::parse(&der[..at % length]);
    }

    /// Whatever a client says instead of a handshake, it is told off and nothing else happens.
    #[test]
    fn arbitrary_bytes_are_no_handshake(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), tls_like in any::<bool>()) {
        if tls_like && bytes.len() > 5 {
            bytes[..3].copy_from_slice(&[0x16, 3, 1]);
        }
        runtime().block_on(async {
            let (_dir, tls) = configured("");
            let (one, mut other) = UnixStream::pair().unwrap();
            let mut server = Stream::from(one);
            let turns = Turnstile::new(1);
            tokio::io::AsyncWriteExt::write_all(&mut other, &bytes).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut other).await.unwrap();
            assert!(server.accept_tls(tls.acceptor.as_ref().unwrap(), Vec::new(), &turns).await.is_err());
            assert!(server.session().is_none());
            assert!(server.write_all(b"x").await.is_err());
        });
    }
}

#[tokio::test]
async fn what_is_decrypted_is_readable_and_half_a_record_is_not() {
    let (_dir, tls) = configured("");
    let (mut server, mut client) = pair(&tls).await;
    let mut cx = Context::from_waker(Waker::noop());
    let mut byte = [0];
    // The ticket that the server has sent is nothing to read.
    assert!(matches!(client.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    assert_eq!(client.peek(), Peek::Quiet);

    server.write_all(b"abc").await.unwrap();
    assert_eq!(client.peek(), Peek::Readable);
    client.read_exact(&mut byte).await.unwrap();
    assert!(client.readable());
    assert!(matches!(client.poll_read_ready(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!(client.try_read(&mut byte).unwrap(), 1);
    assert!(client.poll_closed(&mut cx).is_pending());
    assert_eq!(client.try_read(&mut byte).unwrap(), 1);
    assert_eq!(byte, *b"c");
    assert!(!client.readable());

    // Half a record.
    let (one, mut other) = UnixStream::pair().unwrap();
    let (relayed, mut seen) = UnixStream::pair().unwrap();
    let (mut server, mut client) = (Stream::from(one), Stream::from(relayed));
    let turns = Turnstile::new(1);
    let relay = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut other, &mut seen).await;
    });
    let (accepted, connected) = tokio::join!(
        server.accept_tls(tls.acceptor.as_ref().unwrap(), Vec::new(), &turns),
        client.connect_tls(&tls.connector, "localhost")
    );
    accepted.unwrap();
    connected.unwrap();
    server.write_all(b"whole").await.unwrap();
    assert_eq!(receive(&mut client, 5, 9).await, b"whole");
    relay.abort();
    drop(relay.await);
    assert_eq!(std::future::poll_fn(|cx| client.poll_read(cx, &mut byte)).await.unwrap(), 0);
}

#[tokio::test]
async fn half_a_record_is_quiet_and_an_end_is_an_end() {
    let (_dir, tls) = configured("");
    for goodbye in [true, false] {
        let (mut server, mut client) = pair(&tls).await;
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        assert!(client.poll_read(&mut cx, &mut byte).is_pending());
        assert!(client.poll_closed(&mut cx).is_pending());
        if goodbye {
            let finished = tokio::join!(server.finish(), async {
                std::future::poll_fn(|cx| client.poll_closed(cx)).await;
                let read = std::future::poll_fn(|cx| client.poll_read(cx, &mut byte)).await.unwrap();
                assert_eq!((read, client.peek(), client.readable()), (0, Peek::Closed, true));
                drop(client);
            });
            finished.0.unwrap();
        } else {
            drop(server);
            std::future::poll_fn(|cx| client.poll_closed(cx)).await;
            assert_eq!(client.peek(), Peek::Closed);
            assert_eq!(std::future::poll_fn(|cx| client.poll_read(cx, &mut byte)).await.unwrap(), 0);
        }
    }
    // The frame of a record and one byte of it.
    let (one, other) = UnixStream::pair().unwrap();
    let mut client = Stream::from(other);
    let mut server = Stream::from(one);
    let turns = Turnstile::new(1);
    let (accepted, connected) = tokio::join!(
        server.accept_tls(tls.acceptor.as_ref().unwrap(), Vec::new(), &turns),
        client.connect_tls(&tls.connector, "localhost")
    );
    accepted.unwrap();
    connected.unwrap();
    let mut byte = [0];
    // What stands below TLS is written as it is.
    assert_eq!(client.without_tls().try_write(&[0x17, 3, 3, 0, 40, 1]).unwrap(), 6);
    assert_eq!(server.peek(), Peek::Quiet);
    assert!(!server.readable());
    assert!(matches!(server.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffers() {
    let (_dir, tls) = configured("");
    let (mut server, mut client) = pair(&tls).await;
    let bytes = noise(100_000, 7);
    tokio::join!(send(&mut server, &bytes, 50_000), async { drop(receive(&mut client, 100_000, 9_000).await) });
    let mut cx = Context::from_waker(Waker::noop());
    for stream in [&mut server, &mut client] {
        assert!(stream.poll_read(&mut cx, &mut [0]).is_pending());
        assert_eq!(stream.tls_buffers(), 0);
    }
}

#[tokio::test]
async fn a_reload_without_changes_keeps_what_there_is() {
    let (dir, tls) = configured("");
    let text = "[pgpool]\nclient_tls_sslmode = \"prefer\"\nclient_tls_cert_file = \"a.crt\"\n\
                client_tls_key_file = \"a.key\"\nserver_tls_sslmode = \"disable\"\n[databases.a]\n";
    let config = Config::parse(text, &dir.path().join("x.toml")).unwrap().config;
    let again = Tls::load(&config, Some(&tls)).unwrap();
    assert!(Arc::ptr_eq(tls.acceptor.as_ref().unwrap(), again.acceptor.as_ref().unwrap()));
    assert!(!tls.connector.same_settings(&again.connector));
    let (_other, fresh) = configured("");
    assert!(!Arc::ptr_eq(tls.acceptor.as_ref().unwrap(), fresh.acceptor.as_ref().unwrap()));
}

/// Only so many compute at a time, and others run in between.
#[tokio::test]
async fn handshakes_take_turns() {
    let (_dir, tls) = configured("");
    let turns = Turnstile::new(1);
    let acceptor = tls.acceptor.as_ref().unwrap();
    let mut work = Vec::new();
    for _ in 0..20 {
        let (one, other) = UnixStream::pair().unwrap();
        work.push((Stream::from(one), Stream::from(other)));
    }
    let done = std::cell::Cell::new(0);
    let most = std::cell::Cell::new(0);
    let handshakes = async {
        let mut pending: Vec<_> = work
            .iter_mut()
            .map(|(server, client)| {
                Box::pin(async {
                    let (accepted, connected) = tokio::join!(
                        server.accept_tls(acceptor, Vec::new(), &turns),
                        client.connect_tls(&tls.connector, "localhost")
                    );
                    accepted.unwrap();
                    connected.unwrap();
                    done.set(done.get() + 1);
                })
            })
            .collect();
        std::future::poll_fn(|cx| {
            let before = done.get();
            pending.retain_mut(|one| one.as_mut().poll(cx).is_pending());
            most.set(most.get().max(done.get() - before));
            if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    };
    handshakes.await;
    assert_eq!(done.get(), 20);
    // Each needs a turn of its own to come to its end.
    assert!(most.get() <= 2, "{} ended in one turn", most.get());
}

fn made(algorithm: &'static SignatureAlgorithm, subject: &[(DnType, &str)]) -> Vec<u8> {
    let values: Vec<_> = subject.iter().map(|(kind, text)| (kind.clone(), DnValue::from(*text))).collect();
    made_of(algorithm, values)
}

fn made_of(algorithm: &'static SignatureAlgorithm, subject: Vec<(DnType, DnValue)>) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind, value);
    }
    params.self_signed(&key).unwrap().der().to_vec()
}

#[test]
fn signatures_have_their_hashes() {
    let table = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Some(SignatureHash::Sha256)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Some(SignatureHash::Sha384)),
        (&rcgen::PKCS_RSA_SHA256, Some(SignatureHash::Sha256)),
        (&rcgen::PKCS_RSA_SHA384, Some(SignatureHash::Sha384)),
        (&rcgen::PKCS_RSA_SHA512, Some(SignatureHash::Sha512)),
        (&rcgen::PKCS_ED25519, None),
    ];
    for (algorithm, expected) in table {
        let der = made(algorithm, &[(DnType::CommonName, "x")]);
        let parsed = Certificate::parse(&der).unwrap();
        assert_eq!(parsed.signature_hash(), expected, "{algorithm:?}");
        assert!(parsed.is_self_issued() && parsed.key().is_some());
        assert!(parsed.is_valid_at(1_700_000_000) && !parsed.is_valid_at(1) && !parsed.is_valid_at(100_000_000_000));
    }
}

#[test]
fn subjects_are_written_as_postgresql_does() {
    type Name = Vec<(DnType, DnValue)>;
    let table: [(Name, &str, Option<&str>); 6] = [
        (vec![(DnType::CommonName, "alice".into())], "CN=alice", Some("alice")),
        (
            vec![
                (DnType::CountryName, "DE".into()),
                (DnType::OrganizationName, "Test, Inc.".into()),
                (DnType::CommonName, " a+b;c ".into()),
            ],
            "CN=\\ a\\+b\\;c\\ ,O=Test\\, Inc.,C=DE",
            Some(" a+b;c "),
        ),
        (vec![(DnType::CommonName, "Jürgen".into())], "CN=J\\C3\\BCrgen", Some("Jürgen")),
        (
            vec![(DnType::CommonName, DnValue::BmpString("Jürgen".try_into().unwrap()))],
            "CN=J\\C3\\BCrgen",
            Some("Jürgen"),
        ),
        (vec![(DnType::CommonName, "al\0ice".into())], "CN=al\\00ice", None),
        (vec![(DnType::CustomDnType(vec![1, 2, 840, 113556, 1]), "x".into())], "1.2.840.113556.1=x", None),
    ];
    for (subject, text, name) in table {
        let der = made_of(&rcgen::PKCS_ECDSA_P256_SHA256, subject);
        let parsed = Certificate::parse(&der).unwrap();
        assert_eq!((parsed.subject().as_deref(), parsed.common_name().as_deref()), (Some(text), name));
    }
}
