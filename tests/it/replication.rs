//! Replication through pgpool, by PostgreSQL's own programs: backups, standbys, pg_receivewal, subscriptions.

use std::{fs, time::Duration};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually,
    programs::{give_to_postgres, postgres_bin_dir, unprivileged},
};

const SOON: Duration = Duration::from_secs(20);

/// Physical replication asks for a database of this name, unless it is told another.
fn pooler(cluster: &Cluster, more: &str) -> Pooler {
    let entry = format!("[databases.replication]\nhost = \"127.0.0.1\"\nport = {}\n", cluster.port());
    Pooler::trusting(cluster, 1, &format!("{more}\n{entry}"))
}

/// The column `replication` of a SHOW, without those that do not replicate.
fn shown(pooler: &Pooler, what: &str) -> Vec<String> {
    let kinds = Table::of(&mut pooler.console(), &format!("show {what}")).column("replication");
    kinds.into_iter().filter(|kind| kind != "none").collect()
}

#[test]
fn a_standby_is_made_and_follows_through_the_pooler() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, "");
    cluster.sql("app", "create table t (x int); insert into t values (1)");
    let standby = Cluster::standby_of(pooler.port());
    assert_eq!(standby.sql("app", "select x from t"), "1");
    cluster.sql("app", "insert into t values (2)");
    eventually(SOON, "it follows", || standby.sql("app", "select sum(x) from t") == "3");
    assert_eq!(
        (shown(&pooler, "clients"), shown(&pooler, "servers")),
        (vec!["physical".into()], vec!["physical".into()])
    );
    assert_eq!(cluster.sql("postgres", "select count(*) from pg_stat_replication"), "1");
    // Closed at once, and the standby comes back.
    pooler.console().query("reconnect").unwrap();
    cluster.sql("app", "insert into t values (3)");
    eventually(SOON, "it follows again", || standby.sql("app", "select sum(x) from t") == "6");
    drop(standby);
    eventually(SOON, "its connection is gone", || shown(&pooler, "servers").is_empty());
    eventually(SOON, "in PostgreSQL too", || {
        cluster.sql("postgres", "select count(*) from pg_stat_replication") == "0"
    });
}

#[test]
fn pg_receivewal_streams_through_the_pooler() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, "");
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let mut receiver = unprivileged(&postgres_bin_dir().join("pg_receivewal"), "TERM")
        .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &pooler.port().to_string(), "-D"])
        .arg(dir.path())
        .spawn()
        .unwrap();
    let files = || fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    eventually(SOON, "a segment is begun", || files().any(|name| name.ends_with(".partial")));
    cluster.sql("app", "create table t (x int); select pg_switch_wal()");
    eventually(SOON, "one is complete", || files().any(|name| name.len() == 24));
    assert_eq!(shown(&pooler, "servers"), ["physical"]);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    eventually(SOON, "its connection is gone", || shown(&pooler, "servers").is_empty());
}

#[test]
fn a_subscription_works_through_the_pooler() {
    let publisher = Cluster::builder().conf("wal_level = logical").start();
    let subscriber = Cluster::start();
    let pooler = pooler(&publisher, "");
    publisher
        .sql("app", "create table t (x int primary key); insert into t values (1); create publication p for table t");
    subscriber.sql("app", "create table t (x int primary key)");
    let source = format!("host=127.0.0.1 port={} user=postgres dbname=app", pooler.port());
    subscriber.sql("app", &format!("create subscription s connection '{source}' publication p"));
    eventually(SOON, "the table is copied", || subscriber.sql("app", "select sum(x) from t") == "1");
    publisher.sql("app", "insert into t values (2)");
    eventually(SOON, "changes follow", || subscriber.sql("app", "select sum(x) from t") == "3");
    eventually(SOON, "one walsender is left", || shown(&pooler, "servers") == ["logical"]);
    subscriber.sql("app", "drop subscription s");
    assert_eq!(publisher.sql("app", "select count(*) from pg_replication_slots"), "0");
    eventually(SOON, "its connection is gone", || shown(&pooler, "servers").is_empty());
}

fn replicating(pooler: &Pooler, database: &str, replication: &str) -> Raw {
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[
        ("user", "postgres"),
        ("database", database),
        ("replication", replication),
        ("application_name", "mine"),
    ]);
    raw
}

#[test]
fn the_time_of_its_last_request_moves_with_the_stream() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, "");
    let mut walsender = replicating(&pooler, "app", "database");
    walsender.read_until_ready();
    let times = || {
        ["show servers", "show clients"].map(|what| {
            let table = Table::of(&mut pooler.console(), what).matching(&[("replication", "logical")]);
            [table.value("connect_time"), table.value("request_time")]
        })
    };
    eventually(SOON, "it has moved", || {
        walsender.query("IDENTIFY_SYSTEM").unwrap();
        times().iter().all(|[connected, request]| request > connected)
    });
    // It is looked once a second, and nothing passes.
    assert!(walsender.is_silent_for(Duration::from_millis(1300)));
    let before = times();
    assert!(walsender.is_silent_for(Duration::from_millis(2100)));
    assert_eq!(times(), before);
    eventually(SOON, "it moves on", || {
        walsender.query("IDENTIFY_SYSTEM").unwrap();
        times().iter().zip(&before).all(|([_, now], [_, before])| now > before)
    });
}

#[test]
fn its_connection_counts_and_makes_others_wait() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, "default_pool_size = 1");
    let mut client = pooler.login("postgres", "postgrespw", "app");
    assert_eq!(client.value("select 1"), "1");
    // The idle connection makes room.
    let mut walsender = replicating(&pooler, "app", "database");
    walsender.read_until_ready();
    let system = walsender.query("IDENTIFY_SYSTEM").unwrap();
    assert_eq!(system[0][3].as_deref(), Some("app"));
    assert_eq!(walsender.value("SHOW application_name"), "mine");
    client.send(&crate::support::messages::query("select 2"));
    assert!(client.is_silent_for(Duration::from_millis(400)), "the place is taken");
    let mut second = replicating(&pooler, "app", "database");
    assert!(second.is_silent_for(Duration::from_millis(400)), "of a second one, too");
    drop(second);
    drop(walsender);
    assert!(client.read_until_ready().iter().any(|message| message.tag == b'D'));
}

#[test]
fn one_that_waits_is_woken_by_a_free_place_by_resume_and_by_a_higher_limit() {
    let cluster = Cluster::start();
    let other = format!("[databases.other]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"", cluster.port());
    let pooler = pooler(&cluster, &format!("max_user_connections = 1\n{other}"));
    let waits = || {
        let mut raw = replicating(&pooler, "app", "database");
        assert!(raw.is_silent_for(Duration::from_millis(100)), "there is no place");
        raw
    };
    let mut client = pooler.login("postgres", "postgrespw", "other");
    client.query("begin").unwrap();
    let mut first = waits();
    // The connection is given back, and makes room.
    client.query("commit").unwrap();
    first.read_until_ready();
    let mut second = waits();
    drop(first);
    second.read_until_ready();
    let mut third = waits();
    pooler.console().query("SET max_user_connections = 2").unwrap();
    third.read_until_ready();
    drop((second, third));
    eventually(SOON, "their connections are gone", || shown(&pooler, "servers").is_empty());
    pooler.console().query("PAUSE app").unwrap();
    let mut fourth = waits();
    pooler.console().query("RESUME app").unwrap();
    fourth.read_until_ready();
}

#[test]
fn a_query_of_its_own_can_be_cancelled() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, "");
    let mut walsender = replicating(&pooler, "app", "database");
    walsender.read_until_ready();
    walsender.send(&crate::support::messages::query("select pg_sleep(60)"));
    let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
    eventually(SOON, "the query runs", || cluster.sql("postgres", running) == "1");
    Raw::cancel(pooler.port(), &walsender.backend_key.clone().unwrap());
    assert_eq!(walsender.read_until(b'E').pop().unwrap().error().code, "57014");
}

#[test]
fn rules_tell_physical_replication_from_databases() {
    let cluster = Cluster::start();
    let allowed = |rules: &str, database: &str, replication: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hba");
        fs::write(&file, rules).unwrap();
        let settings = format!("[pgpool]\nauth_type = \"hba\"\nauth_hba_file = \"{}\"\n", file.display());
        let entry = format!("[databases.replication]\nhost = \"127.0.0.1\"\nport = {}\n", cluster.port());
        let pooler = Pooler::start(&cluster, &format!("{settings}{entry}"));
        replicating(&pooler, database, replication).read().tag == b'R'
    };
    let (all, keyword) = ("host all all 127.0.0.1/32 trust\n", "host replication all 127.0.0.1/32 trust\n");
    assert_eq!([allowed(all, "app", "true"), allowed(all, "app", "database")], [false, true]);
    assert_eq!([allowed(keyword, "replication", "1"), allowed(keyword, "app", "database")], [true, false]);
}

#[test]
fn what_postgresql_refuses_is_told_in_its_words() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nauth_type = \"trust\"");
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", "app"), ("replication", "database")]);
    let error = raw.read_until(b'E').pop().unwrap().error();
    assert_eq!((error.code.as_str(), error.severity.as_str()), ("42501", "FATAL"), "{error:?}");
    let mut console = Raw::connect(pooler.port());
    console.startup(&[("user", "postgres"), ("database", "pgpool"), ("replication", "true")]);
    assert_eq!(console.read().error().code, "0A000");
}
