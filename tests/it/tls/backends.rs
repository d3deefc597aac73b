//! TLS with PostgreSQL: whom it is spoken with, and whose certificates are taken.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use super::client;
use crate::support::{Cluster, Pki, Pooler, Raw, Stop, Table, Wanted, eventually, messages};

const SOON: Duration = Duration::from_secs(5);
const OF_OURS: &str = "select ssl || ' ' || coalesce(version, '') from pg_stat_ssl where pid = pg_backend_pid()";

/// A PostgreSQL with TLS.
fn cluster(pki: &Pki) -> Cluster {
    Cluster::builder().conf(&pki.postgres_tls()).start()
}

/// What the first query of a client gives, or is told.
fn asked(cluster: &Cluster, host: &str, settings: &str) -> Result<String, String> {
    let entry = format!("[databases.app]\nhost = \"{host}\"\nport = {}\ndbname = \"app\"\n", cluster.port());
    let pooler = Pooler::start(cluster, &format!("[pgpool]\nauth_type = \"trust\"\n{settings}\n{entry}"));
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", "app")]);
    let said = |error: crate::support::reply::PgError| format!("{} {:?}", error.message, error.detail);
    raw.authenticate("alice", "").map_err(said)?;
    raw.query(OF_OURS).map_err(said).map(|rows| rows[0][0].clone().unwrap())
}

#[test]
fn each_mode_meets_a_server_without_tls() {
    let cluster = Cluster::start();
    let ca = Pki::new().file("ca.crt");
    drop(ca);
    for mode in ["disable", "allow", "prefer"] {
        let found = asked(&cluster, "127.0.0.1", &format!("server_tls_sslmode = \"{mode}\""));
        assert_eq!(found.as_deref(), Ok("false "), "{mode}");
    }
    let pki = Pki::new();
    let ca = format!("server_tls_ca_file = \"{}\"", pki.file("ca.crt").display());
    for mode in ["require", "verify-ca", "verify-full"] {
        let said = asked(&cluster, "127.0.0.1", &format!("server_tls_sslmode = \"{mode}\"\n{ca}")).unwrap_err();
        assert!(said.contains("server does not support SSL, but SSL was required"), "{mode}: {said}");
    }
    // None is wanted of a Unix socket.
    let dir = cluster.socket_dir().display().to_string();
    let mode = format!("server_tls_sslmode = \"verify-full\"\n{ca}");
    assert_eq!(asked(&cluster, &dir, &mode).as_deref(), Ok("false "));
}

/// Where no file is named, the CAs of the system are asked, which the variable of OpenSSL's name says.
#[test]
fn the_systems_cas_count_where_no_file_is_named() {
    let pki = Pki::with_server();
    let cluster = cluster(&pki);
    let [own, other] = [pki.file("ca.crt"), pki.file("other.crt")].map(|file| file.display().to_string());
    let entry = format!("[databases.app]\nhost = \"localhost\"\nport = {}", cluster.port());
    let settings = format!("[pgpool]\nauth_type = \"trust\"\nserver_tls_sslmode = \"verify-full\"\n{entry}");
    for (file, fits) in [(own, true), (other, false)] {
        let pooler = Pooler::start_in(&cluster, &settings, &[], &[("SSL_CERT_FILE", &file)]);
        let mut raw = Raw::connect(pooler.port());
        raw.startup(&[("user", "alice"), ("database", "app")]);
        let outcome = raw.authenticate("alice", "").and_then(|()| raw.query(OF_OURS));
        assert_eq!(outcome.is_ok(), fits, "{file}: {outcome:?}");
    }
}

#[test]
fn each_mode_meets_each_certificate() {
    let pki = Pki::with_server();
    let mut cluster = cluster(&pki);
    pki.issue("named", "", Wanted { names: &["localhost"], ..Wanted::default() });
    pki.issue("addressed", "localhost", Wanted { names: &["127.0.0.1"], ..Wanted::default() });
    pki.issue("common", "localhost", Wanted::default());
    pki.issue("other", "db.example.com", Wanted { names: &["db.example.com"], ..Wanted::default() });
    pki.issue("foreign", "localhost", Wanted { names: &["localhost"], foreign: true, ..Wanted::default() });
    pki.issue("expired", "localhost", Wanted { names: &["localhost"], expired: true, ..Wanted::default() });
    pki.issue("revoked", "localhost", Wanted { names: &["localhost"], serial: 66, ..Wanted::default() });
    pki.issue("rsa", "localhost", Wanted { algorithm: Some(&rcgen::PKCS_RSA_SHA256), ..Wanted::default() });
    pki.revoke("list.crl", &[66]);
    let ca = format!("server_tls_ca_file = \"{}\"", pki.file("ca.crt").display());
    let crl = format!("{ca}\nserver_tls_crl_file = \"{}\"", pki.file("list.crl").display());
    let ok = Ok("true TLSv1.3");
    let table = [
        ("named", "require", "localhost", "", ok),
        ("named", "verify-ca", "127.0.0.1", ca.as_str(), ok),
        ("named", "verify-full", "localhost", &ca, ok),
        ("named", "verify-full", "127.0.0.1", &ca, Err("not valid for name")),
        ("addressed", "verify-full", "127.0.0.1", &ca, ok),
        // The common name counts only where there are no other names.
        ("addressed", "verify-full", "localhost", &ca, Err("not valid for name")),
        ("common", "verify-full", "localhost", &ca, ok),
        ("common", "verify-full", "127.0.0.1", &ca, Err("not valid for name")),
        ("other", "verify-ca", "localhost", &ca, ok),
        ("other", "verify-full", "localhost", &ca, Err("not valid for name")),
        ("foreign", "prefer", "localhost", "", ok),
        ("foreign", "require", "localhost", "", ok),
        ("foreign", "verify-ca", "localhost", &ca, Err("UnknownIssuer")),
        ("foreign", "verify-full", "localhost", &ca, Err("UnknownIssuer")),
        ("expired", "allow", "localhost", "", ok),
        ("expired", "verify-ca", "localhost", &ca, Err("expired")),
        ("revoked", "verify-full", "localhost", &ca, ok),
        ("revoked", "verify-full", "localhost", &crl, Err("Revoked")),
        ("named", "verify-full", "localhost", &crl, ok),
        ("rsa", "verify-full", "localhost", &ca, ok),
    ];
    let mut shown = "";
    for (certificate, mode, host, files, expected) in table {
        if shown != certificate {
            shown = certificate;
            for kind in ["crt", "key"] {
                // Written over, so that it stays the server's own.
                let to = pki.file(&format!("postgres-server.{kind}"));
                fs::write(to, fs::read(pki.file(&format!("{certificate}.{kind}"))).unwrap()).unwrap();
            }
            cluster.restart(Stop::Fast);
        }
        let found = asked(&cluster, host, &format!("server_tls_sslmode = \"{mode}\"\n{files}"));
        let said = format!("{certificate}, {mode}, {host}: {found:?}");
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{said}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{said}"),
            _ => panic!("{said}"),
        }
    }
    // Nothing of what was decided about the certificate is decided about the versions.
    let old = "server_tls_sslmode = \"require\"\nserver_tls_protocols = \"tlsv1.2\"";
    assert_eq!(asked(&cluster, "localhost", old).as_deref(), Ok("true TLSv1.2"));
}

/// What PostgreSQL's own manual has people make: a certificate that is its own CA, and CAs that sign with version 1.
#[test]
fn certificates_of_the_manual_are_taken() {
    let pki = Pki::new();
    let openssl = |arguments: &str| {
        let done = std::process::Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(pki.file(""))
            .output()
            .expect("start openssl");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    openssl("req -new -x509 -days 365 -nodes -text -out server.crt -keyout server.key -subj /CN=localhost");
    let cluster = cluster(&pki);
    let itself = format!("server_tls_ca_file = \"{}\"", pki.file("server.crt").display());
    let full = format!("server_tls_sslmode = \"verify-full\"\n{itself}");
    assert_eq!(asked(&cluster, "localhost", &full).as_deref(), Ok("true TLSv1.3"));
    let said = asked(&cluster, "127.0.0.1", &full).unwrap_err();
    assert!(said.contains("not valid for name"), "{said}");
    drop(cluster);

    openssl("req -new -nodes -text -out server.csr -keyout server.key -subj /CN=localhost");
    openssl("req -new -x509 -days 365 -nodes -out root.crt -keyout root.key -subj /CN=root");
    openssl("x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out server.crt");
    let cluster = self::cluster(&pki);
    assert_eq!(asked(&cluster, "localhost", "").as_deref(), Ok("true TLSv1.3"));
    let old = "server_tls_protocols = \"tlsv1.2\"";
    assert_eq!(asked(&cluster, "localhost", old).as_deref(), Ok("true TLSv1.2"));
}

#[test]
fn postgresql_may_ask_for_our_certificate() {
    let pki = Pki::with_server();
    pki.issue("alice", "alice", Wanted::default());
    pki.issue("bob", "bob", Wanted::default());
    let cluster = Cluster::builder().conf(&pki.postgres_tls()).hba("hostssl all alice 127.0.0.1/32 cert").start();
    let settings = |name: &str| {
        let (certificate, key) = (pki.file(&format!("{name}.crt")), pki.file(&format!("{name}.key")));
        format!(
            "server_tls_sslmode = \"require\"\nserver_tls_cert_file = \"{}\"\nserver_tls_key_file = \"{}\"",
            certificate.display(),
            key.display()
        )
    };
    assert_eq!(asked(&cluster, "127.0.0.1", &settings("alice")).as_deref(), Ok("true TLSv1.3"));
    let said = asked(&cluster, "127.0.0.1", &settings("bob")).unwrap_err();
    assert!(said.contains("certificate authentication failed for user \"alice\""), "{said}");
    assert!(asked(&cluster, "127.0.0.1", "server_tls_sslmode = \"require\"").is_err());
}

/// A pgpool behind a pgpool: it knows TLS that begins at once, and counts handshakes.
#[test]
fn tls_begins_at_once_and_cancel_requests_are_encrypted_too() {
    let pki = Pki::with_server();
    let cluster = Cluster::start();
    let behind = super::pooler(&cluster, &pki, "require", "");
    let handshakes = || {
        let table = Table::of(&mut behind.console_unix(), "SHOW STATE");
        table.matching(&[("key", "tls_handshakes")]).value("value").parse::<u32>().unwrap()
    };
    for negotiation in ["direct", "postgres"] {
        let front = Pooler::start(
            &cluster,
            &format!(
                "[pgpool]\nserver_tls_sslmode = \"verify-full\"\nserver_tls_sslnegotiation = \"{negotiation}\"\n\
                 server_tls_ca_file = \"{}\"\nserver_channel_binding = \"require\"\nslot_budget = \"off\"\n\
                 [databases.app]\nhost = \"localhost\"\nport = {}\ndbname = \"app\"\n",
                pki.file("ca.crt").display(),
                behind.port()
            ),
        );
        let before = handshakes();
        let mut raw = front.login("alice", "alicepw", "app");
        assert_eq!(raw.value("select 1"), "1");
        assert_eq!(handshakes(), before + 1);
        let servers = Table::of(&mut front.console(), "SHOW SERVERS");
        assert_eq!(servers.matching(&[("user", "alice")]).value("tls"), "TLSv1.3/TLS_AES_256_GCM_SHA384");
        let key = raw.backend_key.clone().unwrap();
        raw.send(&messages::query("select pg_sleep(60)"));
        eventually(SOON, "it sleeps", || {
            cluster.sql("postgres", "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1"
        });
        Raw::cancel(front.port(), &key);
        assert_eq!(raw.expect_error().code, "57014");
        raw.read_until_ready();
        assert_eq!(handshakes(), before + 2, "{negotiation}");
        assert_eq!(raw.value("select 2"), "2");
    }
}

#[test]
fn cancel_requests_reach_postgresql_through_tls() {
    let pki = Pki::with_server();
    let cluster = cluster(&pki);
    let pooler = Pooler::start(&cluster, "[pgpool]\nserver_tls_sslmode = \"require\"");
    let mut raw = pooler.login("alice", "alicepw", "app");
    for _ in 0..5 {
        let pid = raw.value("select pg_backend_pid()");
        let key = raw.backend_key.clone().unwrap();
        raw.send(&messages::query("select pg_sleep(60)"));
        eventually(SOON, "it sleeps", || {
            cluster.sql("postgres", "select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1"
        });
        Raw::cancel(pooler.port(), &key);
        assert_eq!(raw.expect_error().code, "57014");
        raw.read_until_ready();
        // PostgreSQL's end of that connection was an orderly one, so the backend is not in doubt.
        assert_eq!(raw.value("select pg_backend_pid()"), pid);
    }
}

#[test]
fn changed_settings_replace_backends_and_changed_files_do_not() {
    let pki = Pki::with_server();
    let cluster = cluster(&pki);
    let ca = pki.file("copy.crt");
    fs::copy(pki.file("ca.crt"), &ca).unwrap();
    let with = |mode: &str| {
        format!(
            "[pgpool]\nauth_type = \"trust\"\nserver_tls_sslmode = \"{mode}\"\nserver_tls_ca_file = \"{}\"",
            ca.display()
        )
    };
    let pooler = Pooler::start(&cluster, &with("disable"));
    let mut raw = pooler.login("alice", "", "app");
    let mut busy = pooler.login("alice", "", "app");
    busy.query("begin").unwrap();
    let kept = busy.value("select pg_backend_pid()");
    let plain = raw.value("select pg_backend_pid()");
    let mark = pooler.reload(&cluster, &with("require"));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    assert_eq!(raw.value(OF_OURS), "true TLSv1.3");
    assert_ne!(raw.value("select pg_backend_pid()"), plain);
    // A transaction is not disturbed.
    assert_eq!(busy.value("select pg_backend_pid()"), kept);
    busy.query("commit").unwrap();
    assert_eq!(busy.value(OF_OURS), "true TLSv1.3");

    let mark = pooler.reload(&cluster, &with("verify-ca"));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    let pid = raw.value("select pg_backend_pid()");
    fs::copy(pki.file("other.crt"), &ca).unwrap();
    let mark = pooler.reload(&cluster, &with("verify-ca"));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    assert_eq!(raw.value("select pg_backend_pid()"), pid);
    // New ones are held to it.
    pooler.console().query("RECONNECT").unwrap();
    let refused = Raw::try_login(pooler.port(), "alice", "", "app").err().unwrap();
    assert!(refused.message.contains("UnknownIssuer"), "{refused:?}");
    // And a file that is gone refuses the reload.
    fs::remove_file(&ca).unwrap();
    let mark = pooler.reload(&cluster, &with("verify-ca"));
    let line = pooler.wait_for_log_since(mark, "reload failed, nothing was changed", SOON);
    assert!(line.contains("server_tls_ca_file") && line.contains("No such file"), "{line}");
}

/// Whoever sits in between can answer the request for TLS; what he says is not for the client's ears, and what he puts
/// behind the answer is not taken for PostgreSQL's.
#[test]
fn nothing_said_before_tls_is_believed() {
    let cluster = Cluster::start();
    let mut error = messages::message(b'E', b"SFATAL\0C42501\0Mtell me your password\0\0");
    let ready = [messages::message(b'R', &[0; 4]), messages::message(b'Z', b"I")].concat();
    for answer in [std::mem::take(&mut error), [b"S".as_slice(), &ready].concat()] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            while let Ok((mut socket, _)) = listener.accept() {
                let mut request = [0; 8];
                let _ = socket.read_exact(&mut request);
                let _ = socket.write_all(&answer);
                let _ = socket.read_to_end(&mut Vec::new());
            }
        });
        let pooler = Pooler::start(
            &cluster,
            &format!(
                "[pgpool]\nauth_type = \"trust\"\nserver_login_retry = 1\nquery_wait_timeout = 4\n\
                 [databases.app]\nhost = \"127.0.0.1\"\nport = {port}\n"
            ),
        );
        let mut raw = Raw::connect(pooler.port());
        raw.startup(&[("user", "alice"), ("database", "app")]);
        let said = raw.authenticate("alice", "").unwrap_err();
        let all = format!("{} {:?} {:?}", said.message, said.detail, said.hint);
        assert!(!all.contains("password") && all.contains("SSL") | all.contains("TLS"), "{all}");
    }
}

#[test]
fn tls_on_both_sides_carries_what_is_asked() {
    let pki = Pki::with_server();
    let cluster = cluster(&pki);
    let pooler = super::pooler(&cluster, &pki, "require", "server_tls_sslmode = \"require\"");
    let config = client(&pki);
    let mut raw = Raw::login_tls(pooler.port(), &config, "alice", "alicepw");
    assert_eq!(raw.value(OF_OURS), "true TLSv1.3");
    let long = "x".repeat(1_000_000);
    assert!(raw.value(&format!("select '{long}'")) == long);
    assert_eq!(raw.value("select length(string_agg(repeat('y', 1000), '')) from generate_series(1, 5000)"), "5000000");
    // PostgreSQL's death is noticed through TLS.
    let pid: u32 = raw.value("select pg_backend_pid()").parse().unwrap();
    cluster.terminate_backend(pid);
    assert_ne!(raw.value("select pg_backend_pid()"), pid.to_string());
}
