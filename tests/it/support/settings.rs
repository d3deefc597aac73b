//! A pgpool configuration as a test writes it: the harness's defaults with the test's own TOML laid over them.

use std::path::Path;

use toml::{Table, Value};

use super::cluster::Cluster;

/// The file for a pgpool in front of `cluster`: `defaults`, and where both name a key the one of `overrides`.
pub(crate) fn file_for(cluster: &Cluster, socket_dir: &Path, overrides: &str) -> String {
    let mut settings = parse(&defaults(cluster, socket_dir));
    lay_over(&mut settings, parse(overrides));
    settings.to_string()
}

/// Every role of [`Cluster`] with its password, `postgres` as the console's administrator, and the database `app`.
/// `trusty` and `postgres`, whom PostgreSQL trusts, have passwords here because pgpool asks everybody for one.
fn defaults(cluster: &Cluster, socket_dir: &Path) -> String {
    format!(
        r#"
[pgpool]
listen_addr = "127.0.0.1"
listen_port = 0
unix_socket_dir = "{socket_dir}"
pool_mode = "transaction"
auth_type = "scram-sha-256"
admin_users = ["postgres"]
min_pool_size = 0

[databases.app]
host = "127.0.0.1"
port = {port}
dbname = "app"

[users.alice]
password = "alicepw"
[users.bob]
password = "bobpw"
[users.carol]
password = "carolpw"
[users.trusty]
password = "trustypw"
[users.postgres]
password = "postgrespw"
"#,
        socket_dir = socket_dir.display(),
        port = cluster.port(),
    )
}

fn parse(text: &str) -> Table {
    text.parse().unwrap_or_else(|error| panic!("a test's settings: {error}\n{text}"))
}

/// A table is laid over a table key by key; anything else replaces what was there. The string `"unset"` removes.
fn lay_over(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, Value::String(word)) if word == "unset" => drop(lower.remove(&key)),
            (_, value) => drop(lower.insert(key, value)),
        }
    }
}

#[test]
fn settings_are_laid_over_the_defaults() {
    let mut settings = parse("[pgpool]\na = 1\nb = 2\nc = 3\n[users.x]\npassword = \"p\"");
    lay_over(&mut settings, parse("[pgpool]\nb = [\"two\"]\nc = \"unset\"\n[databases.\"*\"]\nhost = \"h\\\"\\n\""));
    let again = parse(&settings.to_string());
    let wanted =
        parse("[pgpool]\na = 1\nb = [\"two\"]\n[users.x]\npassword = \"p\"\n[databases.\"*\"]\nhost = \"h\\\"\\n\"");
    assert_eq!(again, wanted);
}
