//! Files of keys and certificates: what is wrong with one is said, and a reload takes new ones.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::{client, pooler};
use crate::support::{
    Cluster, Pki, Raw, Wanted,
    pooler::{run, write_settings},
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_start_names_the_setting_the_file_and_the_reason() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    pki.issue("another", "another", Wanted::default());
    fs::write(pki.file("empty.pem"), "nothing\n").unwrap();
    fs::write(pki.file("broken.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(pki.file("encrypted.key"), encrypted).unwrap();
    let file = |name: &str| format!("\"{}\"", pki.file(name).display());
    let tls = |mode: &str, key: &str, certificate: &str| {
        format!(
            "client_tls_sslmode = \"{mode}\"\nclient_tls_key_file = {}\nclient_tls_cert_file = {}\n",
            file(key),
            file(certificate)
        )
    };
    let good = tls("require", "server.key", "server.crt");
    let verify = tls("verify-ca", "server.key", "server.crt");
    let cases = [
        ("client_tls_sslmode = \"require\"".to_owned(), "needs client_tls_key_file and client_tls_cert_file"),
        (tls("prefer", "gone.key", "server.crt"), "gone.key: No such file or directory"),
        (tls("prefer", "server.key", "gone.crt"), "gone.crt: No such file or directory"),
        (tls("prefer", "another.key", "server.crt"), "the key is not the one of the certificate in"),
        (tls("prefer", "empty.pem", "server.crt"), "there is no private key in PEM in it"),
        (tls("prefer", "encrypted.key", "server.crt"), "the key is encrypted"),
        (tls("prefer", "server.key", "empty.pem"), "there is no certificate in PEM in it"),
        (tls("prefer", "server.key", "broken.pem"), "certificate 1 in it cannot be read"),
        (tls("prefer", "server.key", "server.key"), "there is no certificate in PEM in it"),
        (verify.clone(), "client_tls_sslmode = verify-ca needs client_tls_ca_file"),
        (format!("{verify}client_tls_ca_file = {}", file("empty.pem")), "there is no certificate in PEM in it"),
        (
            format!("{verify}client_tls_ca_file = {}\nclient_tls_crl_file = {}", file("ca.crt"), file("ca.crt")),
            "there is no revocation list in PEM in it",
        ),
        (format!("{good}auth_type = \"cert\""), "auth_type = cert needs client_tls_sslmode = verify-full"),
        (format!("{good}client_tls_protocols = \"tlsv1.0\""), "use tlsv1.2, tlsv1.3 or secure"),
        (format!("{good}client_tls_ciphers = \"RC4-SHA\""), "`RC4-SHA` is not possible with rustls"),
        (format!("server_tls_key_file = {}", file("server.key")), "go together"),
        ("server_tls_sslnegotiation = \"direct\"".to_owned(), "needs server_tls_sslmode = require or more, not prefer"),
        (
            "server_tls_sslmode = \"disable\"\nserver_channel_binding = \"require\"".to_owned(),
            "server_channel_binding = require needs TLS",
        ),
        (
            format!("server_tls_sslmode = \"verify-ca\"\nserver_tls_ca_file = {}", file("gone.crt")),
            "server_tls_ca_file ",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (settings, expected) in cases {
        let path = write_settings(&cluster, dir.path(), &format!("[pgpool]\n{settings}\n"));
        let path = path.to_str().unwrap();
        for arguments in [&["check", path][..], &[path]] {
            let finished = run(arguments, SOON);
            assert_eq!(finished.code, Some(1), "{settings}: {finished:?}");
            assert!(finished.stderr.contains(expected), "{settings}: {finished:?}");
        }
    }
    // Names of files count from the directory of the configuration.
    for name in ["server.key", "server.crt"] {
        fs::copy(pki.file(name), dir.path().join(name)).unwrap();
    }
    let relative = good.replace(&format!("{}/", Path::new(&pki.file("")).display()).replace("//", "/"), "");
    assert!(relative.contains("\"server.key\""), "{relative}");
    let path = write_settings(&cluster, dir.path(), &format!("[pgpool]\n{relative}\n"));
    let finished = run(&["check", path.to_str().unwrap()], SOON);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn a_reload_takes_new_certificates_and_disturbs_nobody() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let config = client(&pki);
    let shown = |raw: &mut Raw| raw.tls().peer_certificates().unwrap()[0].as_ref().to_vec();
    let mut old = Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
    let first = shown(&mut old);
    let pid = old.value("select pg_backend_pid()");
    old.query("begin").unwrap();

    // A reload that changes nothing leaves the tickets valid.
    pooler.console_unix().query("RELOAD").unwrap();
    let mut resumed = Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
    assert_eq!(resumed.tls().handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    drop(resumed);

    // One with a bad file changes nothing.
    let key = fs::read(pki.file("server.key")).unwrap();
    pki.issue("next", "localhost", Wanted { names: &["localhost"], ..Wanted::default() });
    fs::copy(pki.file("next.key"), pki.file("server.key")).unwrap();
    let error = pooler.console_unix().query("RELOAD").unwrap_err();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("F0000", "RELOAD failed, nothing was changed"));
    let detail = error.detail.unwrap();
    assert!(detail.contains("client_tls_key_file") && detail.contains("is not the one of the certificate"), "{detail}");
    let fresh = client(&pki);
    assert_eq!(shown(&mut Raw::login_tls(pooler.port(), &fresh, "alice", "alicepw")), first);
    drop(key);

    // With both files it takes.
    fs::copy(pki.file("next.crt"), pki.file("server.crt")).unwrap();
    pooler.console_unix().query("RELOAD").unwrap();
    let mut new = Raw::login_tls(pooler.port(), &Arc::clone(&config), "alice", "alicepw");
    assert_eq!(new.tls().handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_ne!(shown(&mut new), first);
    assert_eq!(old.value("select pg_backend_pid()"), pid);
    old.query("commit").unwrap();

    // TLS may be switched off and on again; who has it keeps it.
    pooler.console_unix().query("SET client_tls_sslmode = 'disable'").unwrap();
    let mut raw = Raw::connect(pooler.port());
    raw.send(&crate::support::messages::ssl_request());
    assert_eq!(raw.read_byte(), b'N');
    assert_eq!(old.value("select 1"), "1");
    pooler.console_unix().query("RELOAD").unwrap();
    Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
}
