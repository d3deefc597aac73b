//! SCRAM that is bound to the TLS connection, on both sides.

use super::{pooler, psql};
use crate::support::{Cluster, Pki, Pooler, Raw, Wanted};

#[test]
fn libpq_may_insist_on_channel_binding() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_RSA_SHA384,
        &rcgen::PKCS_RSA_SHA512,
        &rcgen::PKCS_ED25519,
    ] {
        pki.self_signed("server", algorithm);
        let pooler = pooler(&cluster, &pki, "prefer", "");
        for version in ["TLSv1.3", "TLSv1.2"] {
            let tls = format!("user=alice sslmode=require ssl_max_protocol_version={version}");
            let required = psql(&pooler, &format!("{tls} channel_binding=require"), "select 1");
            if std::ptr::eq(algorithm, &raw const rcgen::PKCS_ED25519) {
                // There is no hash to bind to, and it is not offered.
                assert!(required.as_ref().is_err_and(|said| said.contains("channel binding")), "{required:?}");
            } else {
                assert_eq!(required.as_deref(), Ok("1"), "{algorithm:?} {version}");
            }
            for binding in ["prefer", "disable"] {
                let found = psql(&pooler, &format!("{tls} channel_binding={binding}"), "select 1");
                assert_eq!(found.as_deref(), Ok("1"), "{algorithm:?} {version} {binding}");
            }
            let wrong = psql(&pooler, &format!("{tls} channel_binding=require password=wrong"), "select 1");
            assert!(wrong.is_err());
        }
        let plain = psql(&pooler, "user=alice sslmode=disable channel_binding=require", "select 1").unwrap_err();
        assert!(plain.contains("channel binding"), "{plain}");
        assert_eq!(psql(&pooler, "user=alice sslmode=disable", "select 1").as_deref(), Ok("1"));
    }
}

#[test]
fn logins_to_postgresql_are_bound() {
    let pki = Pki::with_server();
    pki.issue("alice", "alice", Wanted::default());
    let cluster = Cluster::builder().conf(&pki.postgres_tls()).start();
    let asked = |settings: &str, user: &str| {
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\nauth_type = \"trust\"\n{settings}"));
        let mut raw = Raw::connect(pooler.port());
        raw.startup(&[("user", user), ("database", "app")]);
        raw.authenticate(user, "").map_err(|error| error.message)?;
        raw.query("select 1").map(drop).map_err(|error| error.message)
    };
    for binding in ["disable", "prefer", "require"] {
        let settings = format!("server_tls_sslmode = \"require\"\nserver_channel_binding = \"{binding}\"");
        assert_eq!(asked(&settings, "alice"), Ok(()), "{binding}");
        // MD5 and no password at all are not bound to anything.
        for user in ["bob", "trusty"] {
            match asked(&settings, user) {
                Err(said) if binding == "require" => assert!(said.contains("channel binding is required"), "{said}"),
                found => assert_eq!((found, binding == "require"), (Ok(()), false), "{binding} {user}"),
            }
        }
    }
    // Where PostgreSQL speaks no TLS there is nothing to bind to.
    let plain = Cluster::start();
    let pooler = Pooler::start(&plain, "[pgpool]\nauth_type = \"trust\"\nserver_channel_binding = \"require\"");
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", "app")]);
    let said = raw.authenticate("alice", "").unwrap_err();
    assert!(said.message.contains("channel binding is required"), "{said:?}");
}
