//! `/metrics`: what it has is true, is Prometheus' format, and is for those who may read it.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::support::{Cluster, Pooler, Raw, eventually, for_each_worker_count, http, messages, programs::find};

const SOON: Duration = Duration::from_secs(10);
const HTTP: &str = "http_addr = \"127.0.0.1:0\"";

/// Samples by name and labels, as they are written.
pub(super) struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub(super) fn of(pooler: &Pooler) -> Scrape {
        let answer = http::get(pooler.http_port(), "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
        Scrape::read(&answer.body)
    }

    fn read(text: &str) -> Scrape {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let twice = samples.insert(series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")));
            assert!(twice.is_none(), "{series} is there twice");
        }
        Scrape(samples)
    }

    pub(super) fn get(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {:#?}", self.0.keys()))
    }

    /// A value of the pool of alice and the database app.
    fn alice(&self, name: &str) -> f64 {
        self.get(&format!("{name}{{database=\"app\",user=\"alice\"}}"))
    }

    fn alice_in(&self, name: &str, label: &str, value: &str) -> f64 {
        self.get(&format!("{name}{{database=\"app\",user=\"alice\",{label}=\"{value}\"}}"))
    }
}

/// What promtool has to say against a text; nothing where all is well.
fn promtool(text: &str) -> String {
    let program = find("promtool").expect("promtool, of Debian's package prometheus");
    let mut command = Command::new(program);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn metrics_are_prometheus_format_and_true() {
    for_each_worker_count(|workers| {
        let cluster = Cluster::start();
        let pooler = Pooler::trusting(&cluster, workers, &format!("{HTTP}\ndefault_pool_size = 1"));
        let text = http::get(pooler.http_port(), "/metrics").body;
        assert_eq!(promtool(&text), "");

        let mut alice = pooler.login("alice", "alicepw", "app");
        for _ in 0..20 {
            alice.query("select 1").unwrap();
        }
        alice.query("begin").unwrap();
        alice.query("select pg_sleep(0.02)").unwrap();
        let mut second = pooler.login("alice", "alicepw", "app");
        second.send(&messages::query("select 2"));
        eventually(SOON, "the second waits", || {
            Scrape::of(&pooler).alice_in("pgpool_pool_clients", "state", "waiting") > 0.0
        });
        let seen = Scrape::of(&pooler);
        assert_eq!(seen.alice_in("pgpool_pool_clients", "state", "active"), 1.0);
        assert_eq!(seen.alice_in("pgpool_pool_backends", "state", "active"), 1.0);
        assert_eq!(seen.alice_in("pgpool_pool_backends", "state", "idle"), 0.0);
        assert!(seen.alice("pgpool_pool_max_wait_seconds") > 0.0);
        assert_eq!(seen.alice("pgpool_pool_size"), 1.0);
        assert_eq!(seen.get("pgpool_clients"), 2.0);
        // The pooler's own, on which it asks for slots, may be there.
        assert!((1.0..=2.0).contains(&seen.get("pgpool_database_backends{database=\"app\"}")));
        assert_eq!(seen.get("pgpool_database_clients{database=\"app\"}"), 2.0);
        alice.query("commit").unwrap();
        second.read_until_ready();

        // A turn is counted when it is over, a moment after its answer.
        eventually(SOON, "all is counted", || Scrape::of(&pooler).alice("pgpool_queries_total") == 24.0);
        let seen = Scrape::of(&pooler);
        assert_eq!(seen.alice("pgpool_transactions_total"), 22.0);
        assert_eq!(seen.alice("pgpool_query_seconds_count"), 24.0);
        assert_eq!(seen.alice("pgpool_transaction_seconds_count"), 22.0);
        assert_eq!(seen.alice_in("pgpool_query_seconds_bucket", "le", "+Inf"), 24.0);
        let (fast, slow) = (
            seen.alice_in("pgpool_query_seconds_bucket", "le", "0.01"),
            seen.alice_in("pgpool_query_seconds_bucket", "le", "10"),
        );
        assert!((20.0..24.0).contains(&fast) && slow == 24.0, "{fast} {slow}");
        assert!(seen.alice("pgpool_query_seconds_sum") >= 0.02);
        // The first of all and the second client.
        assert_eq!(seen.alice("pgpool_wait_seconds_count"), 2.0);
        assert_eq!(seen.alice("pgpool_assignments_total"), 22.0);
        assert_eq!(seen.alice("pgpool_connect_seconds_count"), 1.0);
        assert_eq!(seen.alice("pgpool_logins_total"), 2.0);
        assert_eq!(seen.get("pgpool_login_seconds_count"), 2.0);
        assert!(seen.alice("pgpool_received_bytes_total") > 300.0 && seen.alice("pgpool_sent_bytes_total") > 400.0);
        assert!(seen.get("process_resident_memory_bytes") > 1e6 && seen.get("process_open_fds") > 5.0);
        assert!(seen.get("pgpool_log_lines_total{level=\"info\"}") >= 3.0);
        assert_eq!(promtool(&http::get(pooler.http_port(), "/metrics").body), "");

        // The console counts the same.
        let totals = pooler.console().query("SHOW STATS").unwrap();
        let app = totals.iter().find(|row| row[0].as_deref() == Some("app")).unwrap();
        assert_eq!(app[2].as_deref(), Some("22"), "{app:?}");
    });
}

#[test]
fn failures_are_counted_by_what_they_were() {
    let cluster = Cluster::start();
    let entry = format!(
        "[databases.gone]\nhost = \"127.0.0.1\"\nport = 1\nuser = \"alice\"\n[databases.app]\nport = {}",
        cluster.port()
    );
    let more = "max_prepared_statements = 10\nmax_pinned = 1\nserver_login_retry = 1\nquery_wait_timeout = 10";
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\n{HTTP}\n{more}\n{entry}"));
    for (user, password, database) in
        [("alice", "wrong", "app"), ("nobody", "x", "app"), ("alice", "alicepw", "nosuch")]
    {
        assert!(Raw::try_login(pooler.port(), user, password, database).is_err());
    }
    let seen = Scrape::of(&pooler);
    assert_eq!(seen.get("pgpool_login_failures_total{reason=\"password\"}"), 2.0);
    assert_eq!(seen.get("pgpool_login_failures_total{reason=\"refused\"}"), 1.0);
    assert_eq!(seen.get("pgpool_errors_total{class=\"28\"}"), 2.0);
    assert_eq!(seen.get("pgpool_errors_total{class=\"3D\"}"), 1.0);

    // What pins is seen by what it is.
    let mut pinned = pooler.login("alice", "alicepw", "app");
    pinned.query("create temp table t (x int)").unwrap();
    let pin = "pgpool_pool_pins{database=\"app\",user=\"alice\",feature=\"temp_tables\"} 1\n";
    eventually(SOON, "the pin is seen", || http::get(pooler.http_port(), "/metrics").body.contains(pin));
    assert_eq!(Scrape::of(&pooler).alice("pgpool_pool_pinned"), 1.0);
    let mut other = pooler.login("alice", "alicepw", "app");
    assert_eq!(other.query("create temp table t (x int)").unwrap_err().code, "53400");
    assert_eq!(Scrape::of(&pooler).get("pgpool_errors_total{class=\"53\"}"), 1.0);
    drop(pinned);
    eventually(SOON, "the pin is gone", || {
        let text = http::get(pooler.http_port(), "/metrics").body;
        Scrape::read(&text).alice("pgpool_pool_pinned") == 0.0 && !text.contains("feature=\"temp_tables\"")
    });

    assert!(Raw::try_login(pooler.port(), "alice", "alicepw", "gone").is_err());
    let seen = Scrape::of(&pooler);
    let gone = |name: &str| seen.get(&format!("{name}{{database=\"gone\",user=\"alice\"}}"));
    assert!(gone("pgpool_connect_failures_total") >= 1.0 && gone("pgpool_connect_seconds_count") >= 1.0);
    assert_eq!(gone("pgpool_pool_connect_failing"), 1.0);
    assert_eq!(seen.alice("pgpool_pool_connect_failing"), 0.0);
}

#[test]
fn slots_and_leaks_are_those_of_the_budget() {
    let cluster = Cluster::builder().max_connections(20).start();
    let settings = format!("[pgpool]\n{HTTP}\nleak_threshold = 1\ndefault_pool_size = 3");
    let pooler = Pooler::start(&cluster, &settings);
    let mut clients: Vec<_> = (0..3).map(|_| pooler.login("alice", "alicepw", "app")).collect();
    for client in &mut clients {
        client.query("begin").unwrap();
    }
    let server = |name: &str| format!("{name}{{server=\"127.0.0.1:{}\"}}", cluster.port());
    eventually(SOON, "the server was asked", || Scrape::of(&pooler).0.contains_key(&server("pgpool_server_slots_max")));
    let seen = Scrape::of(&pooler);
    assert_eq!(seen.get(&server("pgpool_server_slots_max")), 20.0);
    assert_eq!(seen.get(&server("pgpool_server_slots_reserved")), 3.0);
    assert!(seen.get(&server("pgpool_server_slots_ours")) >= 3.0);
    assert!(seen.get(&server("pgpool_server_slots_budget")) >= 3.0);
    assert!(seen.0.contains_key(&server("pgpool_server_slots_others")));
    assert_eq!(seen.get(&server("pgpool_server_budget_shrunk")), 0.0);
    assert_eq!(seen.get(&server("pgpool_server_53300_total")), 0.0);
    eventually(SOON, "the leaks are counted", || Scrape::of(&pooler).alice("pgpool_leaks_total") == 3.0);
    assert_eq!(promtool(&http::get(pooler.http_port(), "/metrics").body), "");
    let shown: serde_json::Value = serde_json::from_str(&http::get(pooler.http_port(), "/status.json").body).unwrap();
    assert_eq!(shown["servers"][0]["max"], 20);
    assert_eq!(shown["holders_all"], 3);
    assert_eq!(shown["holders"][0]["leak"], true);
}

/// A name may be anything that a client or a configuration says.
#[test]
fn names_are_escaped_and_bounded() {
    let cluster = Cluster::start();
    let entry = format!(
        "[databases.\"*\"]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"trusty\"\ndbname = \"app\"",
        cluster.port()
    );
    let pooler = Pooler::start(
        &cluster,
        &format!("[pgpool]\n{HTTP}\nmax_client_conn = 1000\nmax_user_connections = 20\nauth_type = \"trust\"\n{entry}"),
    );
    let port = pooler.http_port();
    let odd = "a\"b\\c{}\n=x";
    let mut client = pooler.login("alice", "", odd);
    client.query("select 1").unwrap();
    eventually(SOON, "its query is counted", || {
        let text = http::get(port, "/metrics").body;
        text.contains("pgpool_queries_total{database=\"a\\\"b\\\\c{}\\n=x\",user=\"trusty\"} 1\n")
    });

    let all = 230;
    let before = Scrape::of(&pooler).0.len();
    for number in 0..all {
        let mut client = pooler.login("alice", "", &format!("db{number}"));
        client.query("select 1").unwrap();
    }
    let others = "pgpool_queries_total{database=\"other\",user=\"other\"}";
    eventually(SOON, "all are counted", || Scrape::of(&pooler).0.get(others) == Some(&31.0));
    let text = http::get(port, "/metrics").body;
    assert_eq!(promtool(&text), "");
    let series = Scrape::read(&text);
    assert_eq!(series.0.keys().filter(|name| name.starts_with("pgpool_queries_total")).count(), 201);
    assert_eq!(series.get("pgpool_pools"), 231.0);
    assert!(series.0.len() < before * 230, "{} {before}", series.0.len());
    // Who has a name keeps it, whatever comes.
    let first = "pgpool_queries_total{database=\"db0\",user=\"trusty\"}";
    assert_eq!(series.get(first), 1.0);
    let mut client = pooler.login("alice", "", "aaa");
    client.query("select 1").unwrap();
    eventually(SOON, "one more is counted", || Scrape::of(&pooler).0.get(others) == Some(&32.0));
    assert_eq!(Scrape::of(&pooler).get(first), 1.0);
}

#[test]
fn a_socket_for_everybody_asks_for_credentials() {
    for auth_type in ["scram-sha-256", "md5", "trust"] {
        let cluster = Cluster::start();
        let verifier = cluster.sql("app", "select rolpassword from pg_authid where rolname = 'alice'");
        let users = format!("[users.alice]\npassword = '{verifier}'\n[users.bob]\npassword = \"bobpw\"");
        let pooler = Pooler::start(
            &cluster,
            &format!(
                "[pgpool]\nhttp_addr = \"*:0\"\nauth_type = \"{auth_type}\"\nadmin_users = [\"postgres\"]\nstats_users = [\"alice\"]\n{users}"
            ),
        );
        let port = pooler.http_port();
        for path in ["/", "/metrics", "/status.json", "/status.js", "/status.css"] {
            let refused = http::get(port, path);
            assert_eq!(refused.status, 401, "{path}");
            assert!(
                refused.head.to_lowercase().contains("www-authenticate: basic realm=\"pgpool\""),
                "{}",
                refused.head
            );
            for (pair, status) in [
                ("alice:alicepw", 200),
                ("postgres:postgrespw", 200),
                ("alice:wrong", 401),
                ("alice:", 401),
                ("postgres:", 401),
                // No user of the console.
                ("bob:bobpw", 401),
                ("nobody:x", 401),
            ] {
                if status == 401 && path != "/metrics" {
                    continue;
                }
                assert_eq!(http::get_as(port, path, &base64(pair)).status, status, "{auth_type} {path} {pair}");
            }
        }
        assert_eq!(http::get(port, "/healthz").status, 200);
        assert_eq!(http::get(port, "/readyz/app").status, 200);
        assert_eq!(http::get(port, "/nothing").status, 404);
        assert!(pooler.log().contains("HTTP request refused"), "{}", pooler.log());
        assert!(!pooler.log().contains("alicepw"));
    }
}

/// A page of somebody else's may have its name lead to a loopback socket, and read what is there.
#[test]
fn a_loopback_socket_is_open_by_loopback_names_only() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\n{HTTP}"));
    let port = pooler.http_port();
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:9127", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:9127", 200),
        ("evil.example", 401),
        ("localhost.evil.example", 401),
        ("127.0.0.1.evil.example", 401),
        ("10.0.0.1", 401),
        ("", 401),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(http::request(port, &request).status, status, "{host}");
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(http::request(port, absolute).status, 401);
    assert_eq!(http::request(port, "GET /metrics HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(http::get_as(port, "/metrics", &base64("postgres:postgrespw")).status, 200);
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}
