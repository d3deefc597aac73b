//! The first things that an operator does: psql and pgbench through the pooler, a wrong password, an unknown database.
//!
//! Each check also runs against PgBouncer, so that a failure means pgpool and not the check.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use crate::support::{
    Cluster, Pooler, Raw, bouncer::Bouncer, for_each_worker_count, pooler, process::Signal, programs::find,
    reply::PgError,
};

const ENDS: Duration = Duration::from_secs(10);

#[test]
fn psql_and_pgbench_work_through_pgpool() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::start(&cluster, &format!("[pgpool]\nworker_threads = {workers}\ndefault_pool_size = 3"));
        check_psql(&|user, password, database| pooler.dsn(user, password, database));
        check_pgbench(&cluster, &pooler.dsn("alice", "alicepw", "app"));
        for refusal in refusals(pooler.port()) {
            assert_eq!((refusal.severity.as_str(), refusal.code.as_str()), ("FATAL", "28P01"), "{refusal:?}");
        }
        // Eight pgbench clients were served by at most three backends.
        assert!(cluster.backend_pids("alice").len() <= 3);
    });
}

#[test]
fn psql_and_pgbench_work_through_pgbouncer() {
    let cluster = Cluster::start();
    let Some(bouncer) = Bouncer::start(&cluster, "default_pool_size = 3") else { return };
    check_psql(&|user, password, database| bouncer.dsn(user, password, database));
    check_pgbench(&cluster, &bouncer.dsn("alice", "alicepw", "app"));
    // The SQLSTATE of a refusal depends on PgBouncer's version.
    for refusal in refusals(bouncer.port()) {
        assert_eq!(refusal.severity, "FATAL", "{refusal:?}");
    }
    assert!(cluster.backend_pids("alice").len() <= 3);
}

#[test]
fn signals_end_pgpool() {
    let cluster = Cluster::start();
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT] {
        let mut pooler = Pooler::start(&cluster, "");
        assert_eq!(pooler.login("alice", "alicepw", "app").value("select 1"), "1");
        pooler.signal(signal);
        let status = pooler.wait_exit(ENDS);
        assert!(status.code().is_some(), "{signal:?} killed pgpool: {status}");
    }
}

#[test]
fn check_tells_good_settings_from_bad_ones() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let file = pooler::write_settings(&cluster, dir.path(), "");
    let good = pooler::run(&["check", file.to_str().unwrap()], ENDS);
    assert_eq!(good.code, Some(0), "{good:?}");

    fs::write(&file, "[pgpool]\npool_mod = \"transaction\"\n").unwrap();
    let bad = pooler::run(&["check", file.to_str().unwrap()], ENDS);
    assert_ne!(bad.code, Some(0), "{bad:?}");
    assert!(bad.stderr.contains("pool_mod"), "{bad:?}");
}

#[test]
fn check_tells_what_a_reload_would_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let old = file(
        "old.ini",
        "[databases]\na = host=h\nb = host=h password=x user=u\nc =\ne = host=h\n[users]\nann = pool_size=1\n\
         [pgbouncer]\nlisten_port = 1\nmax_client_conn = 5\n",
    );
    let new = file(
        "new.ini",
        "[databases]\na = host=i\nb = host=h password=y user=u\nd =\ne = host=h user=v\n[users]\nann = pool_size=2\n\
         [pgbouncer]\nlisten_port = 2\nmax_client_conn = 6\nadmin_users = ann\n",
    );
    let run = |new: &str| pooler::run(&["check", new, "--against", &old], ENDS);
    let told = run(&new);
    assert_eq!(told.code, Some(0), "{told:?}");
    let lines: Vec<&str> = told.stdout.lines().filter(|line| !line.starts_with("warning")).collect();
    assert_eq!(
        lines,
        [
            "reload: max_client_conn: 5 -> 6",
            "reload: admin_users: (empty) -> ann",
            "restart: listen_port: 1 -> 2",
            "reload: database \"d\" is new",
            "reload: database \"c\" goes, and its clients are disconnected",
            "reload: database \"a\" changes, and its connections are replaced",
            "reload: database \"b\" changes",
            "reload: database \"e\" changes, and new clients get connections of its user",
            "reload: user \"ann\" changes",
            &format!("{new}: no problem found"),
        ]
    );
    assert!(run(&old).stdout.contains("nothing changes\n"));
    // What convert writes changes nothing, whatever the defaults of the formats are.
    let toml = file("pgpool.toml", &pooler::run(&["convert", &old], ENDS).stdout);
    let told = run(&toml);
    assert!(told.stdout.contains("nothing changes\n"), "{told:?}");
}

#[test]
fn a_pgbouncer_ini_is_checked_and_converted() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ini = write(
        "pgbouncer.ini",
        "[databases]\na = host=h password='x y' user=u\n[pgbouncer]\npkt_buf = 8192\nlog_stats = 0\n",
    );
    let checked = pooler::run(&["check", &ini], ENDS);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("4: `pkt_buf` of PgBouncer has no effect: "), "{checked:?}");
    let converted = pooler::run(&["convert", &ini], ENDS);
    assert_eq!(converted.code, Some(0), "{converted:?}");
    for told in ["2: databases.a.host: same\n", "4: pkt_buf: ignored: ", "5: log_stats: same\n", "warning: "] {
        assert!(converted.stderr.contains(told), "{told}: {converted:?}");
    }
    let toml = write("pgpool.toml", &converted.stdout);
    assert!(converted.stdout.contains("\npassword = \"x y\"\n"), "{converted:?}");
    let checked = pooler::run(&["check", &toml], ENDS);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let wrong = pooler::run(&["convert", &write("bad.ini", "[pgbouncer]\nlog_stat = 0\n[x]\n")], ENDS);
    assert!(wrong.code == Some(1) && wrong.stdout.is_empty() && wrong.stderr.lines().count() == 2, "{wrong:?}");
}

/// `dsn` makes a URL of a user, a password and a database.
fn check_psql(dsn: &dyn Fn(&str, &str, &str) -> String) {
    let output = psql(&dsn("alice", "alicepw", "app"), "select current_user, 1");
    assert_eq!((stdout(&output), stderr(&output)), ("alice|1\n".to_owned(), String::new()));

    let output = psql(&dsn("alice", "wrong", "app"), "select 1");
    assert!(!output.status.success() && stderr(&output).contains("authentication failed"), "{output:?}");

    let output = psql(&dsn("alice", "alicepw", "nosuch"), "select 1");
    assert!(!output.status.success() && stderr(&output).contains("nosuch"), "{output:?}");
}

/// What a wrong password and an unknown user are told.
fn refusals(port: u16) -> [PgError; 2] {
    [("alice", "wrong"), ("nobody", "alicepw")]
        .map(|(user, password)| Raw::try_login(port, user, password, "app").err().unwrap())
}

fn check_pgbench(cluster: &Cluster, dsn: &str) {
    let program = find("pgbench")
        .or_else(|| Some(crate::support::programs::postgres_bin_dir().join("pgbench")).filter(|file| file.is_file()))
        .expect("pgbench (on Debian: apt-get install postgresql-contrib)");
    let port = cluster.port().to_string();
    let made = Command::new(&program)
        .args(["-i", "-q", "-s", "1", "-p", &port, "-U", "alice", "-h", "127.0.0.1", "app"])
        .env("PGPASSWORD", "alicepw")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    for protocol in ["simple", "extended"] {
        let output = Command::new(&program).args(["-n", "-c", "8", "-T", "2", "-M", protocol, dsn]).output().unwrap();
        let printed = stdout(&output);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(printed.contains("number of failed transactions: 0 "), "{printed}");
    }
}

fn psql(dsn: &str, sql: &str) -> Output {
    Command::new("psql").args(["-XAtq", "-d", dsn, "-c", sql]).env("PGCONNECT_TIMEOUT", "10").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
