//! What is there for Prometheus and Grafana: every metric that it names exists, promtool accepts all of it, and a real
//! Prometheus scrapes a real pgpool by it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    Cluster, Pooler,
    cluster::free_port,
    eventually, http,
    process::LoggingChild,
    programs::{ended_with_this_thread, find},
};

const SOON: Duration = Duration::from_secs(30);

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

/// Names of the table, by its documentation, which another test holds to it.
fn known() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = line.split_once('`').unwrap();
        if rest.starts_with(" | histogram") {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    assert!(names.len() > 50 && names.contains("pgpool_query_seconds_bucket"), "{names:?}");
    names
}

/// Everything in a text that looks like a metric of pgpool.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("pgpool_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn assert_known(text: &str) {
    let (named, known) = (named(text), known());
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(!named.is_empty() && unknown.is_empty(), "no such metrics: {unknown:?}");
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(find("promtool").expect("promtool, of Debian's package prometheus"))
        .args(arguments)
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}\n{}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn alerts_are_sound_and_name_metrics_that_exist() {
    let rules = contrib("prometheus/pgpool.rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()]);
    promtool(&["test", "rules", contrib("prometheus/pgpool.rules.test.yml").to_str().unwrap()]);
    let text = fs::read_to_string(rules).unwrap();
    assert_known(&text);
    assert_known(&fs::read_to_string(contrib("prometheus/pgpool.rules.test.yml")).unwrap());
    // Each alert is tested both ways.
    let tests = fs::read_to_string(contrib("prometheus/pgpool.rules.test.yml")).unwrap();
    for alert in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert_eq!(tests.matches(&format!("alertname: {alert}")).count(), 2, "{alert}");
    }
    // Thresholds that were agreed on.
    for part in ["> 0.8", "pgpool_leaks_total", "pgpool_server_budget_shrunk", "pgpool_login_failures_total"] {
        assert!(text.contains(part), "{part}");
    }
}

fn collect<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            if key == name {
                found.push(value);
            }
            collect(value, name, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

/// Grafana itself is not here: its file is JSON of the shape that it imports, with queries that Prometheus understands.
#[test]
fn the_dashboard_asks_for_what_exists() {
    let text = fs::read_to_string(contrib("grafana/pgpool.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(variables, ["datasource", "job", "instance", "database"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(taken.insert((place("x") + x, place("y") + y)), "two panels at one place: {panel}");
        }
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{panel}");
        assert!(is_row || panel["datasource"]["uid"] == "${datasource}", "{panel}");
    }
    let mut queries = Vec::new();
    collect(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 30);
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, query) in queries.iter().enumerate() {
        let query = query.as_str().unwrap().replace("$__rate_interval", "5m");
        for variable in ["$job", "$instance", "$database"] {
            assert!(!query.contains(&format!("=\"{variable}\"")), "several may be chosen: {query}");
        }
        rules.push_str(&format!("  - record: q{number}\n    expr: {}\n", serde_json::to_string(&query).unwrap()));
        assert_known(&query);
    }
    assert_known(&text);
    let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    fs::write(file.path(), rules).unwrap();
    promtool(&["check", "rules", "--lint=none", file.path().to_str().unwrap()]);
}

fn query(port: u16, promql: &str) -> Value {
    let encoded: String = promql.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = http::get(port, &format!("/api/v1/query?query={encoded}"));
    // The body may come in chunks; the JSON is one line of it.
    let json = answer.body.lines().find(|line| line.starts_with('{')).unwrap_or("null");
    serde_json::from_str::<Value>(json).unwrap_or(Value::Null)["data"]["result"].clone()
}

#[test]
fn prometheus_scrapes_and_alerts() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nhttp_addr = \"127.0.0.1:0\"");
    let mut client = pooler.login("alice", "alicepw", "app");
    client.query("select 1").unwrap();

    let dir = tempfile::tempdir().unwrap();
    fs::copy(contrib("prometheus/pgpool.rules.yml"), dir.path().join("pgpool.rules.yml")).unwrap();
    let config = fs::read_to_string(contrib("prometheus/prometheus.yml")).unwrap();
    let target = format!("127.0.0.1:{}", pooler.http_port());
    assert!(config.contains("\"127.0.0.1:9127\"") && config.contains("scrape_interval: 15s"));
    let config = config.replace("127.0.0.1:9127", &target).replace("scrape_interval: 15s", "scrape_interval: 1s");
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    promtool(&["check", "config", file.to_str().unwrap()]);

    let port = free_port();
    let mut command = ended_with_this_thread(&find("prometheus").expect("Debian's package prometheus"));
    command.args([
        &format!("--config.file={}", file.display()),
        &format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        &format!("--web.listen-address=127.0.0.1:{port}"),
    ]);
    command.stdout(Stdio::null());
    let prometheus = LoggingChild::spawn("prometheus", command);
    prometheus.wait_for_log(0, "Server is ready to receive web requests", SOON);
    eventually(SOON, "it has scraped", || query(port, "up{job=\"pgpool\"}")[0]["value"][1] == "1");
    eventually(SOON, "the query is counted", || {
        query(port, "pgpool_queries_total{database=\"app\",user=\"alice\"}")[0]["value"][1] == "1"
    });
    let kinds = http::get(port, "/api/v1/metadata").body;
    assert!(kinds.contains("pgpool_query_seconds") && kinds.contains("\"histogram\""));
    let rules = http::get(port, "/api/v1/rules").body;
    assert!(rules.contains("PgpoolClientsWaiting") && !rules.contains("\"health\":\"err\""), "{rules}");
}
