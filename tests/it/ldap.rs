//! Passwords that an LDAP directory checks, with a real slapd.

use std::{fs, time::Duration};

use crate::support::{Cluster, Pooler, Raw, directory::Directory, for_each_worker_count, reply::PgError};

const SOON: Duration = Duration::from_secs(5);

/// A pooler whose database is reached as `trusty`, so that whoever is let in gets at it.
fn start(cluster: &Cluster, directory: &Directory, settings: &str) -> Pooler {
    let authority = directory.authority().display().to_string();
    let settings = format!("[pgpool]\n{settings}\n[databases.app]\nuser = \"trusty\"\n");
    Pooler::start_in(cluster, &settings, &[], &[("SSL_CERT_FILE", &authority)])
}

fn by_options(cluster: &Cluster, directory: &Directory, options: &str) -> Pooler {
    start(cluster, directory, &format!("auth_type = \"ldap\"\nauth_ldap_options = '{options}'"))
}

fn refused(pooler: &Pooler, user: &str, password: &str) -> PgError {
    let outcome = Raw::try_login(pooler.port(), user, password, "app");
    outcome.err().unwrap_or_else(|| panic!("{user} was let in with «{password}»"))
}

fn assert_refused(pooler: &Pooler, user: &str, password: &str) {
    let error = refused(pooler, user, password);
    let words = format!("LDAP authentication failed for user \"{user}\"");
    assert_eq!((error.severity.as_str(), error.code.as_str(), error.message), ("FATAL", "28000", words));
}

#[test]
fn ldap_binds_as_the_user_by_every_way() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let directory = Directory::start();
        let (port, tls) = (directory.port, directory.tls_port);
        let people = "ou=people,dc=example,dc=net";
        let reader = "ldapbinddn=\"cn=reader,dc=example,dc=net\" ldapbindpasswd=readerpw";
        for options in [
            format!("ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid= ldapsuffix=\",{people}\""),
            format!("ldapserver=127.0.0.1 ldapport={port} ldaptls=1 ldapprefix=uid= ldapsuffix=\",{people}\""),
            format!("ldapserver=127.0.0.1 ldapport={tls} ldapscheme=ldaps ldapprefix=uid= ldapsuffix=\",{people}\""),
            format!("ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"dc=example,dc=net\" {reader}"),
            format!(
                "ldapserver=\"127.0.0.1:1 127.0.0.1:{port}\" ldapbasedn=\"{people}\" ldapsearchattribute=uid {reader}"
            ),
            format!("ldapurl=\"ldap://127.0.0.1:{port}/dc=example,dc=net?uid?sub\" {reader}"),
            format!(
                "ldapserver=127.0.0.1 ldapport={port} ldapbasedn=\"{people}\" ldapsearchfilter=\"(&(objectClass=person)(|(uid=$username)(mail=$username)))\" {reader}"
            ),
        ] {
            let pooler = by_options(
                &cluster,
                &directory,
                &format!("{options}'\nworker_threads = {workers}\nlog_format = 'text"),
            );
            for (user, password) in [("alice", "alicedir"), ("bob", "bobdir"), ("carol, the second", "caroldir")] {
                // Nobody of them but alice and bob is in the configuration, and their passwords there do not count.
                let mut client = pooler.login(user, password, "app");
                assert_eq!(client.value("select current_user"), "trusty", "{options}");
                assert_refused(&pooler, user, "wrong");
            }
            assert_refused(&pooler, "alice", "alicepw");
            assert_eq!(refused(&pooler, "alice", "").message, "empty password returned by client for user \"alice\"");
            // Names stay names.
            for user in
                ["nobody", "*", "ali*", "alice)(uid=*", "alice,ou=people", "alice,ou=people,dc=example,dc=net", "\\"]
            {
                assert_refused(&pooler, user, "alicedir");
            }
        }
    });
}

#[test]
fn ldap_of_several_entries_and_unreachable_servers_nobody_is_let_in() {
    let cluster = Cluster::start();
    let directory = Directory::start();
    let port = directory.port;
    let reader = "ldapbinddn=\"cn=reader,dc=example,dc=net\" ldapbindpasswd=readerpw";
    let base = "ldapbasedn=\"dc=example,dc=net\"";
    let cases = [
        (
            format!("ldapserver=127.0.0.1 ldapport={port} {base} ldapsearchattribute=mail {reader}"),
            "twice@example.net",
            "several entries",
        ),
        (format!("ldapserver=127.0.0.1 ldapport={port} {base} {reader}x"), "alice", "LDAP search failed"),
        (format!("ldapserver=127.0.0.1 ldapport={port} {base}"), "alice", "LDAP search failed"),
        (format!("ldapserver=127.0.0.1 ldapport=1 {base} {reader}"), "alice", "no LDAP server can be reached"),
    ];
    for (options, user, reason) in cases {
        let pooler = by_options(&cluster, &directory, &options);
        assert_refused(&pooler, user, "alicedir");
        assert!(pooler.wait_for_log("client was not admitted", SOON).contains(reason), "{}", pooler.log());
        assert!(!pooler.log().contains("readerpw"), "{}", pooler.log());
    }
    // A server whose certificate nobody vouches for hears no password.
    let options = format!(
        "ldapserver=127.0.0.1 ldapport={port} ldaptls=1 ldapprefix=uid= ldapsuffix=\",ou=people,dc=example,dc=net\""
    );
    let settings = format!("[pgpool]\nauth_type = \"ldap\"\nauth_ldap_options = '{options}'\n");
    let pooler = Pooler::start(&cluster, &settings);
    assert_refused(&pooler, "alice", "alicedir");
    pooler.wait_for_log("no LDAP server can be reached", SOON);
}

#[test]
fn ldap_by_a_rule_and_hidden_on_the_console() {
    let cluster = Cluster::start();
    let directory = Directory::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pg_hba.conf");
    let rules = format!(
        "host pgbouncer postgres all md5\nhost app alice all ldap ldapserver=127.0.0.1 ldapport={} ldapprefix=uid= \
         ldapsuffix=\",ou=people,dc=example,dc=net\"\n",
        directory.port
    );
    fs::write(&file, rules).unwrap();
    let settings = format!(
        "auth_type = \"hba\"\nauth_hba_file = \"{}\"\nauth_ldap_options = \"ldapserver=a ldapbasedn=b ldapbindpasswd=hunter2\"",
        file.display()
    );
    let pooler = start(&cluster, &directory, &settings);
    assert_eq!(pooler.login("alice", "alicedir", "app").value("select current_user"), "trusty");
    assert_refused(&pooler, "alice", "alicepw");
    assert!(refused(&pooler, "bob", "bobdir").message.starts_with("no pg_hba.conf entry"));
    let shown = pooler.console().query("SHOW CONFIG").unwrap();
    assert!(!format!("{shown:?}").contains("hunter2"));
    assert!(format!("{shown:?}").contains("********"));
}
