//! Monitoring that knows PgBouncer, unmodified, on pgpool's console: check_postgres has the same to say of both.
//!
//! So have the metrics of prometheus-pgbouncer-exporter, in its version of PyPI; Debian 12's asks for columns that
//! PgBouncer gave up with version 1.8.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::support::{
    Cluster, Pooler, Raw,
    bouncer::Bouncer,
    cluster::free_port,
    eventually, messages,
    process::LoggingChild,
    programs::{bound_to_this_thread, find, tool},
    wait::holds_within,
};

const SOON: Duration = Duration::from_secs(5);

/// What a check answers: its exit code, and each database's number.
#[derive(Debug, PartialEq)]
struct Found {
    code: Option<i32>,
    numbers: BTreeMap<String, String>,
}

fn check(port: u16, action: &str, limits: [&str; 2]) -> Found {
    let mut command = Command::new(find("check_postgres").expect("check_postgres"));
    command.args([&format!("--action={action}"), "--host=127.0.0.1", &format!("--port={port}"), "--dbuser=postgres"]);
    command.args(["--dbpass=postgrespw", "-w", limits[0], "-c", limits[1]]);
    let output = command.output().expect("start check_postgres");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (told, numbers) = text.split_once('|').unwrap_or_else(|| panic!("{action}: {output:?}"));
    assert!(told.starts_with(&format!("POSTGRES_{}", action.to_uppercase())), "{told}");
    let pairs = numbers.split_whitespace().filter_map(|pair| pair.split_once('='));
    // How long a check took differs.
    let numbers = pairs
        .map(|(name, value)| (name.trim_matches('\''), value.split(';').next().unwrap_or_default()))
        .filter(|(name, _)| *name != "time")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Found { code: output.status.code(), numbers }
}

/// One client in a transaction and one that waits, for the same pool of one.
fn two_clients(login: impl Fn() -> Raw) -> [Raw; 2] {
    let (mut running, mut waiting) = (login(), login());
    running.query("begin").unwrap();
    waiting.send(&messages::query("select 1"));
    [running, waiting]
}

#[test]
fn check_postgres_says_the_same_of_pgpool_and_pgbouncer() {
    if find("check_postgres").is_none() {
        eprintln!("check_postgres is not installed: nothing to ask the console with");
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\ndefault_pool_size = 1\nmax_client_conn = 100");
    let bouncer = Bouncer::start(&cluster, "default_pool_size = 1\nmax_client_conn = 100");
    let _clients = [
        Some(two_clients(|| pooler.login("alice", "alicepw", "app"))),
        bouncer.as_ref().map(|bouncer| two_clients(|| bouncer.login("alice", "alicepw", "app"))),
    ];
    let ports = [Some(pooler.port()), bouncer.as_ref().map(Bouncer::port)];
    let mut databases = Vec::new();
    for port in ports.into_iter().flatten() {
        eventually(SOON, "a client waits", || check(port, "pgb_pool_cl_waiting", ["8", "9"]).numbers["app"] == "1");
        // check_postgres: 0 is well, 1 a warning, 2 critical.
        for (action, limits, code, number) in [
            ("pgb_pool_cl_active", ["8", "9"], 0, Some("1")),
            ("pgb_pool_cl_waiting", ["1", "9"], 1, Some("1")),
            ("pgb_pool_cl_waiting", ["1", "1"], 2, Some("1")),
            ("pgb_pool_sv_active", ["8", "9"], 0, Some("1")),
            ("pgb_pool_sv_idle", ["8", "9"], 0, Some("0")),
            ("pgb_pool_sv_used", ["8", "9"], 0, Some("0")),
            ("pgb_pool_sv_tested", ["8", "9"], 0, Some("0")),
            ("pgb_pool_sv_login", ["8", "9"], 0, Some("0")),
            ("pgb_pool_maxwait", ["8000", "9000"], 0, None),
            ("pgbouncer_backends", ["90", "95"], 0, Some("2")),
        ] {
            let found = check(port, action, limits);
            assert_eq!(found.code, Some(code), "{action} {found:?}");
            assert!(number.is_none_or(|number| found.numbers["app"] == number), "{action} {found:?}");
            databases.push((port, action, found.numbers.into_keys().collect::<Vec<_>>()));
        }
    }
    // The console is one of them at times, under the same name.
    let of = |port| databases.iter().filter(move |(its, ..)| *its == port).map(|(_, action, names)| (action, names));
    let ours = of(pooler.port());
    assert!(ours.clone().any(|(_, names)| names.contains(&"pgbouncer".to_owned())), "{databases:?}");
    if let Some(bouncer) = &bouncer {
        assert_eq!(ours.collect::<Vec<_>>(), of(bouncer.port()).collect::<Vec<_>>());
    }
}

/// It tells whether settings were changed: a sum over SHOW CONFIG that changes with a setting, and with nothing else.
#[test]
fn check_postgres_notices_a_changed_setting() {
    let Some(program) = find("check_postgres") else { return };
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let sum = |expected: &str| {
        let mut command = Command::new(&program);
        command.args(["--action=pgbouncer_checksum", "--host=127.0.0.1", "--dbuser=postgres", "--dbpass=postgrespw"]);
        command.args([&format!("--port={}", pooler.port()), "-c", expected]);
        let output = command.output().expect("start check_postgres");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let sum = text.split("checksum: ").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        (output.status.code(), sum)
    };
    // 0 asks for the sum.
    let (_, first) = sum("0");
    let first = first.unwrap();
    assert_eq!(sum(&first).0, Some(0));
    pooler.console().query("SET default_pool_size = 7").unwrap();
    assert_eq!(sum(&first).0, Some(2));
    pooler.console().query("RELOAD").unwrap();
    assert_eq!(sum(&first).0, Some(0));
}

/// The names of the metrics that the exporter has of the console at this port.
fn metrics(program: &Path, console: u16) -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let port = free_port();
        let settings = format!(
            "exporter_host: 127.0.0.1\nexporter_port: {port}\npgbouncers:\n  - dsn: \
             postgresql://postgres:postgrespw@127.0.0.1:{console}/pgbouncer\n"
        );
        let file = dir.path().join("config.yml");
        fs::write(&file, settings).unwrap();
        let mut command = bound_to_this_thread(program);
        command.arg("--config").arg(&file);
        let _exporter = LoggingChild::spawn("the exporter", command);
        let mut text = String::new();
        let answers = || {
            let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else { return false };
            text.clear();
            socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            socket.read_to_string(&mut text).is_ok() && text.contains("pgbouncer_up 1.0")
        };
        if holds_within(Duration::from_secs(20), answers) {
            let lines = text.lines().filter(|line| line.starts_with("pgbouncer_"));
            let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
            return lines.map(name).collect();
        }
    }
    panic!("the exporter does not answer");
}

#[test]
fn the_exporter_of_prometheus_has_the_same_metrics_of_pgpool_and_pgbouncer() {
    let Some(program) = tool("pgbouncer-exporter") else { return };
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "");
    let ours = metrics(&program, pooler.port());
    assert!(ours.len() > 15 && ours.contains("pgbouncer_pools_client_waiting_connections"), "{ours:?}");
    if let Some(bouncer) = Bouncer::start(&cluster, "") {
        let mut theirs = metrics(&program, bouncer.port());
        // Of a column that PgBouncer calls reserve_pool_size since 1.24, which this exporter does not know.
        theirs.remove("pgbouncer_databases_database_reserve_pool_size");
        assert_eq!(ours, theirs);
    }
}
