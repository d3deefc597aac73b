//! Where there is nothing to see: the wrong place, the wrong password, a role without rights.

use super::{codes, doctor, document, dsn, finding, named, quietly};
use crate::support::{Cluster, Pooler, bouncer::Bouncer, cluster::free_port};

/// Runs it where it must not succeed: one line, with a hint, and Nagios's unknown.
fn refused(dsn: &str) -> String {
    let finished = doctor(&["--dsn", dsn]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    assert!(finished.stdout.starts_with("PGPOOL UNKNOWN - ") && finished.stdout.contains("HINT: "), "{finished:?}");
    finished.stdout
}

#[test]
fn each_failure_has_a_line_and_a_hint() {
    let cluster = Cluster::start();
    let port = cluster.port();
    assert!(refused(&format!("host=127.0.0.1 port={} user=x", free_port())).contains("is PostgreSQL running"));
    assert!(
        refused(&format!("postgres://alice:wrong@127.0.0.1:{port}/app"))
            .contains("(28P01) HINT: the password is wrong")
    );
    assert!(refused(&format!("postgres://trusty@127.0.0.1:{port}/none")).contains("(3D000) HINT: name a database"));
    assert!(
        refused(&format!("host=127.0.0.1 port={port} user=alice dbname=app"))
            .contains("HINT: the server wants a password")
    );
    assert!(refused(&format!("{} sslmode=require", dsn(&cluster))).contains("HINT: the server has no TLS"));
    assert!(refused("host=/nowhere user=x").contains("HINT: there is no such socket"));
    for (text, part) in [("hots=x", "\"hots\""), ("postgres://h:x/d", "no port"), ("host=h sslmode=perhaps", "sslmode")]
    {
        let finished = doctor(&["--dsn", text]);
        assert_eq!(finished.code, Some(3));
        assert!(finished.stdout.contains(part), "{finished:?}");
    }
    let missing = doctor(&["/nowhere/pgpool.toml"]);
    assert_eq!(missing.code, Some(3));
    assert!(missing.stdout.contains("cannot read the file"), "{missing:?}");
    assert_eq!(doctor(&[]).code, Some(2), "clap's own");
}

#[test]
fn a_pooler_is_told_from_postgresql() {
    let cluster = Cluster::start();
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\npool_mode = \"{mode}\""));
        let told = refused(&pooler.dsn("trusty", "trustypw", "app"));
        let wanted = format!("PostgreSQL itself: host=127.0.0.1 port={};", cluster.port());
        assert!(told.contains("is a pooler") && told.contains(&wanted), "{told}");
        let told = refused(&pooler.dsn("postgres", "postgrespw", "pgpool"));
        assert!(told.contains("is the console of a pooler (PgBouncer 1.26.1 (pgpool"), "{told}");
    }
    let Some(bouncer) = Bouncer::start(&cluster, "") else { return };
    assert!(refused(&bouncer.dsn("alice", "alicepw", "app")).contains("is a pooler"));
    assert!(refused(&bouncer.dsn("postgres", "postgrespw", "pgbouncer")).contains("console of a pooler (PgBouncer"));
}

#[test]
fn a_role_without_rights_hears_what_it_lacks() {
    let cluster = Cluster::start();
    let mut open = named(&cluster, "trusty", "secretive");
    open.query("begin").unwrap();
    open.query("select 'hunter2'").unwrap();
    let bob = format!("postgres://bob:bobpw@127.0.0.1:{}/app", cluster.port());
    let (code, found) = document(&["--dsn", &bob, "--transaction-age", "0s"]);
    assert_eq!(code, 0, "{found}");
    assert_eq!(codes(&found), ["no_timeout", "hidden", "unknown"]);
    assert!(finding(&found, "hidden").contains("(1 are shown without state"), "{found}");
    assert!(finding(&found, "hidden").contains("GRANT pg_monitor TO \"bob\""));
    let slots = &found["servers"][0]["facts"]["slots"];
    assert_eq!((&slots["used"], &slots["hidden"]), (&1.into(), &1.into()));
    let shown = doctor(&["--dsn", &bob]).stdout;
    assert!(shown.contains("by state        (hidden) 1") && !shown.contains("hunter2"), "{shown}");

    quietly(&cluster, "grant pg_monitor to bob");
    let (code, found) = document(&["--dsn", &bob, "--transaction-age", "0s"]);
    assert_eq!((code, codes(&found)), (1, vec!["idle_in_transaction", "no_timeout"]), "{found}");

    // A server that keeps its views to itself.
    quietly(&cluster, "revoke select on pg_settings from public; revoke pg_monitor from bob");
    let (code, found) = document(&["--dsn", &bob]);
    assert_eq!(code, 0, "{found}");
    assert!(found["servers"][0]["facts"]["unknown"]["pg_settings"].as_str().unwrap().contains("permission denied"));
    assert_eq!(found["servers"][0]["facts"]["slots"]["used"], 1);
    quietly(&cluster, "revoke select on pg_stat_activity from public");
    let (code, found) = document(&["--dsn", &bob]);
    assert_eq!((code, &found["servers"][0]["facts"]["slots"]), (1, &serde_json::Value::Null));
    assert!(finding(&found, "slots_unknown").contains("could not be found out"));
}
