//! The harness tested on PostgreSQL and PgBouncer themselves: what it says of pgpool can then be believed.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Command, time::Duration};

use crate::support::{
    Cluster, Raw, Stop,
    bouncer::Bouncer,
    eventually, messages,
    process::{LoggingChild, Signal},
    programs::ended_with_this_thread,
    reply::tags,
};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn raw_client_logs_in_with_every_method() {
    let cluster = Cluster::start();
    for (user, password) in
        [("alice", "alicepw"), ("bob", "bobpw"), ("carol", "carolpw"), ("trusty", ""), ("postgres", "")]
    {
        let mut raw = Raw::login(cluster.port(), user, password, "app");
        assert_eq!(raw.value("select current_user"), user);
        assert_eq!(raw.parameters["server_encoding"], "UTF8");
        let (pid, secret) = raw.backend_key.clone().unwrap();
        assert_eq!((raw.value("select pg_backend_pid()"), secret.len()), (pid.to_string(), 4));
    }
    for user in ["alice", "bob", "carol"] {
        let error = Raw::try_login(cluster.port(), user, "wrong", "app").err().unwrap();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "28P01"));
    }

    let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    let mut raw = Raw::connect_unix(&socket);
    raw.startup(&[("user", "alice"), ("database", "app"), ("application_name", "raw")]);
    raw.authenticate("alice", "alicepw").unwrap();
    assert_eq!(raw.value("show application_name"), "raw");
}

#[test]
fn raw_client_shows_every_kind_of_message() {
    let cluster = Cluster::start();
    let mut raw = Raw::login(cluster.port(), "alice", "alicepw", "app");

    assert_eq!(
        raw.query("select 1, null; select 'x', ''").unwrap(),
        [[Some("1".to_owned()), None], [Some("x".to_owned()), Some(String::new())]]
    );
    let error = raw.query("selekt").unwrap_err();
    assert_eq!((error.severity.as_str(), error.code.as_str()), ("ERROR", "42601"));

    assert_eq!(raw.query_extended("select $1::int + 1", &[Some("41")]).unwrap(), [[Some("42".to_owned())]]);
    raw.send(&messages::extended("select $1::text", &[None]));
    let answer = raw.read_until_ready();
    assert_eq!(tags(&answer), "12TDCZ");
    assert_eq!(answer[3].row(), [None]);
    assert_eq!((answer[4].command().as_str(), answer[5].status()), ("SELECT 1", 'I'));

    raw.send(
        &[
            messages::parse("s", "select generate_series(1, 3)", &[]),
            messages::describe_statement("s"),
            messages::bind("p", "s", &[]),
            messages::execute("p", 2),
            messages::execute("p", 0),
            messages::close_portal("p"),
            messages::close_statement("s"),
            messages::flush(),
        ]
        .concat(),
    );
    let mut answer = raw.read_until(b'3');
    answer.extend(raw.read_until(b'3'));
    assert_eq!(tags(&answer), "1tT2DDsDC33");
    raw.send(&messages::sync());
    assert_eq!(tags(&raw.read_until_ready()), "Z");

    raw.query("create temp table t (x int)").unwrap();
    raw.send(
        &[
            messages::query("copy t from stdin"),
            messages::copy_data(b"1\n2"),
            messages::copy_data(b"\n"),
            messages::copy_done(),
        ]
        .concat(),
    );
    assert_eq!(tags(&raw.read_until_ready()), "GCZ");
    raw.send(&[messages::query("copy t from stdin"), messages::copy_fail("enough")].concat());
    assert_eq!(raw.expect_error().code, "57014");
    raw.read_until_ready();
    assert_eq!(raw.value("select sum(x) from t"), "3");

    raw.send(&messages::function_call(1620, &["Ab"])); // ascii(text)
    raw.read_until_ready();
    raw.send(&messages::query("begin"));
    assert_eq!(raw.read_until_ready().last().unwrap().status(), 'T');

    assert!(raw.is_silent_for(Duration::from_millis(50)));
    raw.send(&messages::terminate());
    raw.expect_eof();
}

#[test]
fn raw_client_speaks_before_the_startup_packet() {
    let cluster = Cluster::start();
    // Over TCP PostgreSQL may be able to encrypt.
    let mut raw = Raw::connect_unix(&cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port())));
    raw.send(&messages::ssl_request());
    assert_eq!(raw.read_byte(), b'N');
    raw.send(&messages::gss_request());
    assert_eq!(raw.read_byte(), b'N');
    raw.startup_with_version(9, &[("user", "trusty"), ("database", "app"), ("_pq_.nonsense", "1")]);
    raw.authenticate("trusty", "").unwrap();
    let (minor, options) = raw.negotiated.clone().unwrap();
    assert!(minor < 9);
    assert_eq!(options, ["_pq_.nonsense"]);
}

#[test]
fn a_cancel_request_reaches_its_query() {
    let cluster = Cluster::start();
    let mut raw = Raw::login(cluster.port(), "trusty", "", "app");
    raw.send(&messages::query("select pg_sleep(60)"));
    eventually(SOON, "the query runs", || {
        cluster
            .sql("app", "select count(*) from pg_stat_activity where query like '%sleep(60)%' and usename = 'trusty'")
            == "1"
    });
    Raw::cancel(cluster.port(), &raw.backend_key.clone().unwrap());
    assert_eq!(raw.expect_error().code, "57014");
}

#[test]
fn a_cluster_restarts_and_keeps_its_port() {
    let mut cluster = Cluster::builder()
        .max_connections(17)
        .conf("work_mem = 123kB")
        .hba("host all alice 127.0.0.1/32 reject")
        .start();
    assert_eq!(cluster.sql("app", "show max_connections; show work_mem"), "17\n123kB");
    assert_eq!(Raw::try_login(cluster.port(), "alice", "alicepw", "app").err().unwrap().code, "28000");
    cluster.sql("app", "create table kept as select 1 as x");
    for mode in [Stop::Fast, Stop::Immediate] {
        let mut raw = Raw::login(cluster.port(), "bob", "bobpw", "app");
        let port = cluster.port();
        cluster.restart(mode);
        // In a hurry PostgreSQL does not always get round to a last word.
        match raw.read_or_eof() {
            Some(last) if last.tag == b'N' => raw.expect_eof(),
            Some(last) => assert_eq!(last.error().code, "57P01"),
            None => assert!(matches!(mode, Stop::Immediate)),
        }
        assert_eq!((cluster.port(), cluster.sql("app", "select x from kept").as_str()), (port, "1"));
    }
    cluster.stop(Stop::Smart);
    assert!(!cluster.data_dir().join("postmaster.pid").exists());
}

#[test]
fn a_cluster_loses_backends() {
    let cluster = Cluster::start();
    let mut polite = Raw::login(cluster.port(), "bob", "bobpw", "app");
    let (pid, _) = polite.backend_key.clone().unwrap();
    assert_eq!(cluster.backend_pids("bob"), [pid]);
    cluster.terminate_backend(pid);
    assert_eq!(polite.expect_error().code, "57P01");
    polite.expect_eof();
    assert!(cluster.backend_pids("bob").is_empty());

    let mut killed = Raw::login(cluster.port(), "bob", "bobpw", "app");
    cluster.kill_backend(killed.backend_key.clone().unwrap().0);
    killed.expect_eof();
    eventually(SOON, "PostgreSQL notices", || cluster.log().contains("terminated by signal 9"));
    cluster.wait_until_recovered();
}

#[test]
fn a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start();
    let (pid, dir) = (cluster.pid(), cluster.socket_dir().to_owned());
    drop(cluster);
    assert!(!dir.exists() && !Path::new(&format!("/proc/{pid}")).exists());
}

/// Runs this test program's own helper below, kills it, and looks for what it had started.
#[test]
fn a_killed_test_leaves_nothing() {
    let note = tempfile::NamedTempFile::new().unwrap();
    let mut command = ended_with_this_thread(&std::env::current_exe().unwrap());
    command.args(["--exact", "harness::helper_that_never_ends", "--nocapture"]);
    command.env(HELPER_NOTE, note.path());
    let mut child = LoggingChild::spawn("helper", command);
    let mut lines = Vec::new();
    eventually(Duration::from_secs(60), "the helper has started a cluster", || {
        // It ends by itself if its name is not found, or the variable is not.
        assert!(child.is_running(), "the helper ended before it was killed");
        lines = fs::read_to_string(note.path()).unwrap().lines().map(str::to_owned).collect();
        lines.last().is_some_and(|line| line == "end")
    });
    let (pid, dir) = (&lines[0], Path::new(&lines[1]));
    assert!(Path::new("/proc").join(pid).exists() && dir.exists());
    child.signal(Signal::KILL);
    assert_eq!(child.wait_exit(SOON).signal(), Some(9), "the helper ended by itself");
    eventually(Duration::from_secs(20), "nothing is left", || !Path::new("/proc").join(pid).exists() && !dir.exists());
}

/// Names the file into which the helper writes what it has started.
const HELPER_NOTE: &str = "PGPOOL_TEST_HELPER_NOTE";

/// A test only by its form, since a test program can start nothing else of itself. Where the variable is not set nobody
/// is there to kill it, and it returns at once.
#[test]
fn helper_that_never_ends() {
    let Some(note) = std::env::var_os(HELPER_NOTE) else { return };
    let cluster = Cluster::start();
    fs::write(note, format!("{}\n{}\nend\n", cluster.pid(), cluster.socket_dir().display())).unwrap();
    Raw::login(cluster.port(), "trusty", "", "app").query("select pg_sleep(600)").unwrap();
}

#[test]
fn pgbouncer_stands_in_front_of_a_cluster() {
    let cluster = Cluster::start();
    let Some(bouncer) = Bouncer::start(&cluster, "default_pool_size = 3") else { return };
    let mut raw = bouncer.login("alice", "alicepw", "app");
    assert_eq!(raw.value("select current_user"), "alice");
    let config = bouncer.console().query("show config").unwrap();
    let size = config.iter().find(|row| row[0].as_deref() == Some("default_pool_size")).unwrap();
    assert_eq!(size[1].as_deref(), Some("3"));
}

#[test]
fn a_process_is_watched_by_its_log() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one >&2; echo two >&2; exit 3"]);
    let mut child = LoggingChild::spawn("sh", command);
    assert_eq!(child.wait_for_log(0, "tw", SOON), "two");
    assert_eq!(child.try_wait_for_log(0, "three", SOON).unwrap_err(), "its log ended");
    assert_eq!(child.wait_exit(SOON).code(), Some(3));
    assert!(!child.is_running());
}
