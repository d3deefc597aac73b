//! Certificates of clients: whose are taken, and what they prove.

use super::{pooler, psql};
use crate::support::{Cluster, Pki, Pooler, Wanted};

fn shows(pki: &Pki, name: &str) -> String {
    let (certificate, key) = (pki.file(&format!("{name}.crt")), pki.file(&format!("{name}.key")));
    format!("sslmode=require sslcert={} sslkey={}", certificate.display(), key.display())
}

fn people(pki: &Pki) {
    pki.issue("alice", "alice", Wanted { serial: 7, ..Wanted::default() });
    pki.issue("bob", "bob", Wanted { serial: 8, ..Wanted::default() });
    pki.issue("foreign", "alice", Wanted { foreign: true, ..Wanted::default() });
    pki.issue("expired", "alice", Wanted { expired: true, ..Wanted::default() });
    pki.issue("nameless", "", Wanted { names: &["alice"], ..Wanted::default() });
    pki.issue("twice", "alice\0evil", Wanted::default());
}

#[test]
fn clients_are_checked_by_the_ca() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    people(&pki);
    for mode in ["verify-ca", "verify-full"] {
        let pooler = pooler(&cluster, &pki, mode, "");
        for (who, expected) in [
            ("alice", Ok(())),
            // Any certificate of the CA lets one come as far as the password.
            ("bob", Ok(())),
            ("nameless", Ok(())),
            ("foreign", Err("alert unknown ca")),
            ("expired", Err("alert certificate expired")),
        ] {
            let found = psql(&pooler, &format!("user=alice {}", shows(&pki, who)), "select 1");
            match expected {
                Ok(()) => assert_eq!(found.as_deref(), Ok("1"), "{mode} {who}"),
                Err(alert) => {
                    assert!(found.as_ref().is_err_and(|said| said.contains(alert)), "{mode} {who}: {found:?}")
                }
            }
        }
        let none = psql(&pooler, "user=alice sslmode=require", "select 1").unwrap_err();
        assert!(none.contains("alert certificate required"), "{none}");
        pooler.wait_for_log("invalid peer certificate: certificate expired", std::time::Duration::from_secs(5));
    }
    // Where they are not to be verified they are not asked for.
    let pooler = pooler(&cluster, &pki, "require", "");
    assert_eq!(psql(&pooler, &format!("user=alice {}", shows(&pki, "foreign")), "select 1").as_deref(), Ok("1"));
}

#[test]
fn a_certificate_may_be_all_the_proof() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    people(&pki);
    let pooler = pooler(&cluster, &pki, "verify-full", "auth_type = \"cert\"\n[users.nameless]\n");
    let login = |user: &str, who: &str| psql_without_password(&pooler, &format!("user={user} {}", shows(&pki, who)));
    assert_eq!(login("alice", "alice").as_deref(), Ok("alice"));
    assert_eq!(login("bob", "bob").as_deref(), Ok("bob"));
    for (user, who) in [("alice", "bob"), ("bob", "alice"), ("alice", "nameless"), ("alice", "twice")] {
        let said = login(user, who).unwrap_err();
        assert!(
            said.contains(&format!("certificate authentication failed for user \"{user}\"")),
            "{user} {who}: {said}"
        );
    }
    let mut raw = crate::support::Raw::connect_unix(pooler.socket());
    raw.startup(&[("user", "alice"), ("database", "app")]);
    let error = raw.authenticate("alice", "alicepw").unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("28000", "certificate authentication failed for user \"alice\"")
    );
}

fn psql_without_password(pooler: &Pooler, parameters: &str) -> Result<String, String> {
    psql(pooler, &format!("{parameters} password=none"), "select current_user")
}

#[test]
fn revoked_certificates_are_refused_and_lists_are_read_again() {
    let cluster = Cluster::start();
    let pki = Pki::with_server();
    people(&pki);
    pki.revoke("list.crl", &[8]);
    let crl = format!("client_tls_crl_file = \"{}\"\n", pki.file("list.crl").display());
    let pooler = pooler(&cluster, &pki, "verify-ca", &crl);
    let login = |who: &str| psql(&pooler, &format!("user=alice {}", shows(&pki, who)), "select 1");
    assert_eq!(login("alice").as_deref(), Ok("1"));
    let said = login("bob").unwrap_err();
    assert!(said.contains("alert certificate revoked"), "{said}");
    pki.revoke("list.crl", &[7]);
    // Nothing changes before the reload.
    assert_eq!(login("alice").as_deref(), Ok("1"));
    pooler.console_unix().query("RELOAD").unwrap();
    assert!(login("alice").is_err());
    assert_eq!(login("bob").as_deref(), Ok("1"));
}
