//! `pgpool doctor` on real servers: what it finds, whom it ends, and what it says where it can see nothing.

mod bad_input;
mod ending;

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::support::{
    Cluster, Pooler, Raw,
    cluster::free_port,
    eventually, messages,
    pooler::{Finished, run},
    programs::postgres_bin_dir,
};

const SOON: Duration = Duration::from_secs(60);

/// Runs `pgpool doctor ARGUMENTS`.
fn doctor(arguments: &[&str]) -> Finished {
    run(&[&["doctor"], arguments].concat(), SOON)
}

/// The same with `--json`: its exit status and document.
fn document(arguments: &[&str]) -> (i32, Value) {
    let finished = doctor(&[arguments, &["--json"]].concat());
    let value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (finished.code.unwrap(), value)
}

/// How to reach the cluster as a superuser.
fn dsn(cluster: &Cluster) -> String {
    format!("host=127.0.0.1 port={} user=postgres dbname=app", cluster.port())
}

fn codes(document: &Value) -> Vec<&str> {
    let findings = document["servers"][0]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// The message of the first finding with that code.
fn finding<'a>(document: &'a Value, code: &str) -> &'a str {
    let findings = document["servers"][0]["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == code);
    found.unwrap_or_else(|| panic!("no {code}: {findings:?}"))["message"].as_str().unwrap()
}

/// A client of the cluster with a name.
fn named(cluster: &Cluster, user: &str, application: &str) -> Raw {
    let mut raw = Raw::login(cluster.port(), user, "", "app");
    raw.query(&format!("set application_name = '{}'", application.replace('\'', "''"))).unwrap();
    raw
}

#[test]
fn a_quiet_server_is_fine() {
    let cluster = Cluster::builder().conf("idle_in_transaction_session_timeout = '1h'").max_connections(30).start();
    let finished = doctor(&["--dsn", &dsn(&cluster)]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let first = finished.stdout.lines().next().unwrap();
    assert_eq!(first, "PGPOOL OK - 0% of 27 slots taken, 27 left | used=0;21;25;0;27");
    // What it sets for itself is not what it reports.
    assert!(
        finished
            .stdout
            .contains("idle_in_transaction_session_timeout 3600000ms, idle_session_timeout off, statement_timeout off")
    );
    let (code, document) = document(&["--dsn", &dsn(&cluster)]);
    assert_eq!((code, document["status"].as_str()), (0, Some("OK")));
    let slots = &document["servers"][0]["facts"]["slots"];
    assert_eq!((&slots["max_connections"], &slots["ordinary"], &slots["left"]), (&30.into(), &27.into(), &27.into()));
    assert_eq!(codes(&document), Vec::<&str>::new());
}

/// PostgreSQL 16 and newer keeps slots for pg_use_reserved_connections; `scripts/embedded_postgres` has such.
#[test]
fn slots_that_are_kept_for_some_roles_are_not_for_all() {
    let version = Command::new(postgres_bin_dir().join("postgres")).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let knows_them = !version.contains("(PostgreSQL) 15.");
    let (conf, kept) = if knows_them { ("reserved_connections = 5", 5) } else { ("work_mem = 4MB", 0) };
    let cluster = Cluster::builder().max_connections(20).conf(conf).start();
    let _held: Vec<Raw> = (0..17 - kept).map(|_| named(&cluster, "trusty", "greedy")).collect();
    assert_eq!(Raw::try_login(cluster.port(), "trusty", "", "app").err().unwrap().code, "53300");
    let (code, document) = document(&["--dsn", &dsn(&cluster)]);
    let slots = &document["servers"][0]["facts"]["slots"];
    assert_eq!((code, &slots["left"], &slots["ordinary"]), (2, &0.into(), &(17 - kept).into()), "{document}");
    assert_eq!(slots["reserved_connections"], kept);
    // Who may have those can still look.
    if knows_them {
        cluster.sql("app", "grant pg_use_reserved_connections, pg_monitor to bob");
        let bob = format!("postgres://bob:bobpw@127.0.0.1:{}/app", cluster.port());
        let shown = doctor(&["--dsn", &bob]);
        assert_eq!(shown.code, Some(2), "{shown:?}");
        assert!(shown.stdout.contains("-      5 reserved_connections"), "{shown:?}");
    }
}

#[test]
fn slots_that_run_out_are_a_warning_and_then_critical() {
    let cluster = Cluster::builder().max_connections(13).start();
    let mut held: Vec<Raw> = (0..8).map(|_| named(&cluster, "trusty", "greedy")).collect();
    let (code, warned) = document(&["--dsn", &dsn(&cluster)]);
    assert_eq!(code, 1, "{warned}");
    assert_eq!(finding(&warned, "slots"), "80% of the slots for ordinary roles are taken: 8 of 10, 2 left");
    assert_eq!(document(&["--dsn", &dsn(&cluster), "--warn", "90"]).0, 0);
    held.push(named(&cluster, "trusty", "greedy"));
    held.push(named(&cluster, "trusty", "greedy"));
    let finished = doctor(&["--dsn", &dsn(&cluster)]);
    assert_eq!(finished.code, Some(2));
    assert!(
        finished.stdout.starts_with("PGPOOL CRITICAL - 100% of 10 slots taken, 0 left; 1 critical"),
        "{}",
        finished.stdout
    );
    for part in ["by application  greedy 10", "by user         trusty 10", "ALTER SYSTEM SET max_connections = 33;"] {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.stdout);
    }
    // Who cannot even look says so, and whom to look as.
    let shut_out = doctor(&["--dsn", &format!("postgres://bob:bobpw@127.0.0.1:{}/app", cluster.port())]);
    assert_eq!(shut_out.code, Some(2), "{shut_out:?}");
    assert!(shut_out.stdout.contains("(53300) HINT: all slots for this role are taken; connect as a superuser"));
}

#[test]
fn transactions_that_are_left_open_are_named_with_whom_they_hold_up() {
    let cluster = Cluster::builder().conf("max_prepared_transactions = 2").start();
    cluster.sql("app", "create table ticket (id int)");
    cluster.sql("app", "grant all on ticket to public");
    cluster.sql("app", "begin; create table gone (x int); prepare transaction 'forgotten'");
    cluster.sql("postgres", "alter role trusty connection limit 2");
    let mut holder = named(&cluster, "trusty", "holder");
    holder.query("begin").unwrap();
    holder.query("lock table ticket").unwrap();
    let mut waiter = named(&cluster, "trusty", "waiter");
    waiter.send(&messages::query("select * from ticket"));
    eventually(SOON, "one waits for the other", || {
        cluster.sql("app", "select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == "1"
    });
    let arguments = ["--dsn", &dsn(&cluster), "--transaction-age", "0s"];
    let (code, document) = document(&arguments);
    assert_eq!(code, 2, "the role's own limit is reached");
    assert!(finding(&document, "idle_in_transaction").contains("(trusty@app holder from 127.0.0.1) has been idle"));
    assert!(finding(&document, "blocked").contains("(trusty@app holder from 127.0.0.1), which is idle"));
    assert!(finding(&document, "prepared_transaction").contains("'forgotten' of postgres in app"));
    assert!(finding(&document, "own_limit").contains("the role \"trusty\" has 2 of the 2"));
    let shown = doctor(&arguments).stdout;
    for part in
        ["last: lock table ticket", "holds ticket AccessExclusiveLock", ": select * from ticket", "role trusty: 2 of"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    cluster.sql("app", "rollback prepared 'forgotten'");
}

#[test]
fn what_waits_for_a_restart_and_who_does_not_use_its_slot_is_told() {
    let cluster = Cluster::builder().conf("wal_level = logical").start();
    cluster.sql("app", "select pg_create_logical_replication_slot('left_behind', 'pgoutput')");
    let file = cluster.data_dir().join("postgresql.auto.conf");
    let conf = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{conf}max_connections = 77\n")).unwrap();
    cluster.reload();
    eventually(SOON, "the file was read", || {
        cluster.sql("app", "select pending_restart from pg_settings where name = 'max_connections'") == "t"
    });
    let (code, document) = document(&["--dsn", &dsn(&cluster)]);
    assert_eq!(code, 0, "{document}");
    assert!(finding(&document, "pending_restart").contains("max_connections"));
    assert!(finding(&document, "inactive_replication_slot").contains("logical replication slot \"left_behind\""));
    let slot = &document["servers"][0]["facts"]["replication_slots"][0];
    assert!(slot["retained_bytes"].as_i64().unwrap() >= 0, "{slot}");
}

/// A pgpool on a known port, so that its console is found by its configuration.
fn pooled(cluster: &Cluster, overrides: &str) -> Pooler {
    Pooler::start(cluster, &format!("[pgpool]\nlisten_port = {}\n{overrides}", free_port()))
}

#[test]
fn a_running_pgpool_is_looked_at_by_its_configuration() {
    let cluster = Cluster::builder().max_connections(20).start();
    let pooler = pooled(&cluster, "default_pool_size = 7\npool_mode = \"session\"\nslot_budget = \"off\"\n");
    let mut client = pooler.login("alice", "alicepw", "app");
    assert_eq!(client.value("select 1"), "1");
    let file = pooler.settings_file();
    let arguments = [file.to_str().unwrap(), "--user", "postgres"];
    let (code, document) = document(&arguments);
    assert!(document["pooler"]["version"].as_str().unwrap().contains("pgpool"), "{}", document["pooler_error"]);
    let facts = &document["servers"][0]["facts"];
    let ours: Vec<&Value> =
        facts["sessions"].as_array().unwrap().iter().filter(|session| session["pooler"] == true).collect();
    assert_eq!(ours.len(), 1, "{facts}");
    assert_eq!(ours[0]["user"], "alice");
    // Five users, 7 each, on a server with 17 for ordinary roles.
    assert_eq!((code, facts["demand"].as_u64()), (1, Some(35)));
    assert!(finding(&document, "demand").contains("may ask for 35 connections, and there are 17 slots"));
    let shown = doctor(&arguments).stdout;
    assert!(shown.contains("[databases.app]: 5 users x pool_size 7 = 35\n"), "{shown}");
    assert!(shown.contains("SHOW POOLS\n") && shown.contains("of them 1 belong to pgpool"), "{shown}");
}

#[test]
fn a_pgpool_that_keeps_to_the_slots_is_no_reason_to_worry() {
    let cluster = Cluster::builder().max_connections(20).start();
    let pooler = pooled(&cluster, "default_pool_size = 7\npool_mode = \"session\"\n");
    let mut client = pooler.login("alice", "alicepw", "app");
    assert_eq!(client.value("select 1"), "1");
    let (code, document) = document(&[pooler.settings_file().to_str().unwrap(), "--user", "postgres"]);
    assert_eq!(code, 0, "{document}");
    assert!(finding(&document, "demand").contains("slot_budget keeps pgpool within them"));
    let commands: Vec<&str> = document["pooler"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| table["command"].as_str().unwrap())
        .collect();
    assert_eq!(commands, ["SHOW POOLS", "SHOW BUDGET", "SHOW HOLDERS", "SHOW PINS"]);
}

#[test]
fn the_same_view_in_sql_finds_the_same() {
    let cluster = Cluster::builder().max_connections(13).start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/check_connection_health.sql");
    cluster.sql("app", &fs::read_to_string(file).unwrap());
    let _held: Vec<Raw> = (0..8).map(|_| named(&cluster, "trusty", "greedy")).collect();
    let mut open = named(&cluster, "trusty", "open");
    open.query("begin").unwrap();
    let slots = cluster.sql("app", "select ordinary, used, left_over, percent from connection_slots");
    assert_eq!(slots, "10|9|1|90.0");
    let holders = cluster.sql("app", "select role, application, state, connections from connection_holders");
    assert_eq!(holders, "trusty|greedy|idle|8\ntrusty|open|idle in transaction|1");
    let ask = "select severity, code from check_connection_health(leak_age => '0s', transaction_age => '0s')";
    let by_sql = cluster.sql("app", ask);
    assert_eq!(by_sql, "warning|idle_in_transaction\nwarning|leaked_pool\nwarning|slots\ninfo|no_timeout");
    let (_, document) = document(&["--dsn", &dsn(&cluster), "--leak-age", "0s", "--transaction-age", "0s"]);
    let mut by_doctor: Vec<String> = document["servers"][0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| format!("{}|{}", found["severity"].as_str().unwrap(), found["code"].as_str().unwrap()))
        .collect();
    by_doctor.sort_by_key(|line| (line.starts_with("info"), line.clone()));
    assert_eq!(by_doctor.join("\n"), by_sql);
    // As a role that may not see others: what is hidden is said, and counted all the same.
    cluster.sql("app", "grant select on connection_slots to bob");
    let mut bob = Raw::login(cluster.port(), "bob", "bobpw", "app");
    assert_eq!(bob.value("select used from connection_slots"), "9");
    assert!(
        bob.value("select message from check_connection_health() where code = 'hidden'")
            .contains("GRANT pg_monitor TO bob")
    );
}

#[test]
fn it_looks_again_and_again() {
    let cluster = Cluster::start();
    let script = format!(
        "timeout 60 {} doctor --dsn '{}' --watch 1 | grep -m 3 -c '^PGPOOL OK'",
        env!("CARGO_BIN_EXE_pgpool"),
        dsn(&cluster)
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "3");
}
