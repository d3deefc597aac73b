//! Every `sslmode` of libpq against every `client_tls_sslmode`.

use super::{pooler, psql};
use crate::support::{Cluster, Pki, Table};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Tls,
    Plain,
    Refused(&'static str),
}

#[test]
fn each_sslmode_meets_each_client_tls_sslmode() {
    use Verdict::{Plain, Refused, Tls};

    let cluster = Cluster::start();
    let pki = Pki::with_server();
    pki.issue("alice", "alice", crate::support::Wanted::default());
    let pooler = pooler(&cluster, &pki, "disable", "");
    let mut console = pooler.console_unix();
    let ca = format!("sslrootcert={}", pki.file("ca.crt").display());
    let other = format!("sslrootcert={}", pki.file("other.crt").display());
    let (crt, key) = (pki.file("alice.crt"), pki.file("alice.key"));
    let shown = format!("sslcert={} sslkey={}", crt.display(), key.display());
    let none = Refused("server does not support SSL");
    let required = Refused("SSL required");
    let foreign = Refused("certificate verify failed");
    // What the client says; disable, then allow and prefer, then require, then verify-ca and verify-full without and with
    // a certificate.
    let table = [
        ("disable", [Plain, Plain, required, required, required]),
        // libpq tries TLS when it was refused without.
        ("allow", [Plain, Plain, Tls, Refused("certificate required"), Tls]),
        ("prefer", [Plain, Tls, Tls, Refused("certificate required"), Tls]),
        ("require", [none, Tls, Tls, Refused("certificate required"), Tls]),
        ("verify-ca", [none, Tls, Tls, Refused("certificate required"), Tls]),
        ("verify-full", [none, Tls, Tls, Refused("certificate required"), Tls]),
        ("verify-full other", [none, foreign, foreign, foreign, foreign]),
    ];
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        console.query(&format!("SET client_tls_sslmode = '{mode}'")).unwrap();
        for (theirs, row) in table {
            let column = ["disable", "prefer", "require", "verify-full", "-"].iter().position(|name| *name == mode);
            let column = column.unwrap_or(if mode == "allow" { 1 } else { 3 });
            let (sslmode, roots) = match theirs.split_once(' ') {
                Some((sslmode, _)) => (sslmode, other.as_str()),
                None if theirs.starts_with("verify") => (theirs, ca.as_str()),
                None => (theirs, ""),
            };
            let mut tries = vec![("", row[column])];
            if column == 3 {
                tries.push((shown.as_str(), row[4]));
            }
            for (shown, expected) in tries {
                let parameters = format!("user=alice sslmode={sslmode} {roots} {shown}");
                let found = psql(&pooler, &parameters, "\\conninfo");
                let said = format!("{mode}: {parameters}: {found:?}");
                match (expected, found) {
                    (Tls, Ok(text)) => assert!(text.contains("SSL connection (protocol: TLSv1.3"), "{said}"),
                    (Plain, Ok(text)) => assert!(!text.contains("SSL connection"), "{said}"),
                    (Refused(why), Err(text)) => assert!(text.contains(why), "{said}"),
                    _ => panic!("{said}"),
                }
            }
        }
    }
    // No TLS is wanted of the Unix socket.
    assert_eq!(
        Table::of(&mut console, "SHOW CONFIG").matching(&[("key", "client_tls_sslmode")]).value("value"),
        "verify-full"
    );
}

#[test]
fn versions_and_suites_are_those_of_the_settings() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    let pooler = pooler(&cluster, &pki, "require", "");
    let mut console = pooler.console_unix();
    let cases = [
        ("", "", "protocol: TLSv1.3, cipher: TLS_AES_256_GCM_SHA384", "TLSv1.3/TLS_AES_256_GCM_SHA384"),
        (
            "SET client_tls13_ciphers = 'TLS_CHACHA20_POLY1305_SHA256'",
            "",
            "cipher: TLS_CHACHA20_POLY1305_SHA256",
            "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            "",
            "ssl_max_protocol_version=TLSv1.2",
            "protocol: TLSv1.2, cipher: ECDHE-ECDSA-AES256-GCM-SHA384",
            "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (
            "SET client_tls_ciphers = 'ECDHE-ECDSA-CHACHA20-POLY1305'",
            "ssl_max_protocol_version=TLSv1.2",
            "cipher: ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ("SET client_tls_protocols = 'tlsv1.2'", "", "protocol: TLSv1.2", "TLSv1.2/ECDHE-ECDSA-CHACHA20-POLY1305"),
    ];
    for (set, parameters, shown, described) in cases {
        if !set.is_empty() {
            console.query(set).unwrap();
        }
        let mark = pooler.log_len();
        let found = psql(&pooler, &format!("user=alice sslmode=require {parameters}"), "\\conninfo").unwrap();
        assert!(found.contains(shown), "{set} {parameters}: {found}");
        pooler.wait_for_log_since(mark, &format!("tls=\"{described}\""), std::time::Duration::from_secs(5));
    }
    let found = psql(&pooler, "user=alice sslmode=require ssl_min_protocol_version=TLSv1.3", "select 1");
    assert!(found.unwrap_err().contains("alert protocol version"));
    for (key, value, why) in [
        ("client_tls_protocols", "tlsv1.1", "use tlsv1.2, tlsv1.3 or secure"),
        ("client_tls_ciphers", "DES-CBC3-SHA", "there are ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("client_tls_dheparams", "strong", "is none of auto, none, legacy"),
        ("client_tls_ecdhcurve", "secp521r1", "there are X25519"),
        ("client_tls_cert_file", "/nonexistent", "client_tls_cert_file /nonexistent: No such file"),
    ] {
        let error = console.query(&format!("SET {key} = '{value}'")).unwrap_err();
        assert!(error.message.contains(why), "{error:?}");
    }
    console.query("SET client_tls_dheparams = 'none'").unwrap();
    console.query("SET client_tls_ecdhcurve = 'secp384r1'").unwrap();
    assert!(psql(&pooler, "user=alice sslmode=require", "select 1").is_ok());
}
