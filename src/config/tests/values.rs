//! How each type of value is written, in TOML and in PgBouncer's spelling, and shown.

use std::path::PathBuf;
use std::time::Duration;

use super::{config, problems};
use crate::config::{AuthType, FileMode, General, Host, LogFormat, PoolMode, PrepareUnnamed, SetError, Table};

fn general(line: &str) -> General {
    config(&format!("[pgpool]\n{line}\n")).general
}

fn refused(line: &str) -> String {
    let text = problems(&format!("[pgpool]\n{line}\n"));
    let (_, message) = text.split_once("[pgpool]: ").unwrap_or_else(|| panic!("{text}"));
    message.to_owned()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(config("").general, General::default());
    assert_eq!(config("[pgpool]").general, General::default());
    let general = General::default();
    assert_eq!((general.listen_port, general.max_client_conn, general.default_pool_size), (6432, 1000, 20));
    assert_eq!((general.pool_mode, general.auth_type), (PoolMode::Session, AuthType::ScramSha256));
    assert_eq!(general.log_format, LogFormat::Text);
    assert!(general.workers() > 0);
}

#[test]
fn booleans() {
    for yes in ["true", "1", "\"1\"", "\"true\"", "\"on\"", "\"YES\""] {
        assert!(general(&format!("server_round_robin = {yes}")).server_round_robin, "{yes}");
    }
    for no in ["false", "0", "\"0\"", "\"false\"", "\"off\"", "\"no\""] {
        assert!(!general(&format!("log_stats = {no}")).log_stats, "{no}");
    }
    assert_eq!(refused("log_stats = 2"), "expected true or false, found an integer");
    assert_eq!(refused("log_stats = \"maybe\""), "`maybe` is not true or false");
}

#[test]
fn numbers() {
    assert_eq!(general("listen_port = 0").listen_port, 0);
    assert_eq!(general("listen_port = \"65535\"").listen_port, 65535);
    assert_eq!(general("max_client_conn = 0x10").max_client_conn, 16);
    assert_eq!(general("max_client_conn = \"0x10\"").max_client_conn, 16);
    assert_eq!(general("max_client_conn = 10_000").max_client_conn, 10_000);
    assert_eq!(general("worker_threads = 3").workers(), 3);
    assert_eq!(refused("listen_port = 65536"), "65536 is outside the range 0 to 65535");
    assert_eq!(refused("listen_port = -1"), "-1 is outside the range 0 to 65535");
    assert_eq!(refused("listen_port = true"), "expected a whole number, found a boolean");
    assert_eq!(refused("listen_port = 1.0"), "expected a whole number, found a float");
    assert_eq!(refused("listen_port = [1]"), "expected a whole number, found a list of other things than strings");
    assert_eq!(refused("listen_port = 1979-05-27"), "expected a whole number, found a date");
    for text in ["", "x", "08", "1e3", "--1", "0x", "1 2", "+1"] {
        assert_eq!(refused(&format!("listen_port = \"{text}\"")), format!("`{text}` is not a whole number"));
    }
    let huge = "9".repeat(60);
    assert!(refused(&format!("max_client_conn = {huge}")).ends_with("is outside the range 0 to 2147483647"));
    assert!(refused(&format!("max_client_conn = \"{huge}\"")).ends_with("is not a whole number"));
}

#[test]
fn times() {
    assert_eq!(general("query_timeout = 90").query_timeout, Duration::from_secs(90));
    assert_eq!(general("query_timeout = 0.25").query_timeout, Duration::from_millis(250));
    assert_eq!(general("query_timeout = \"2min\"").query_timeout, Duration::from_secs(120));
    assert_eq!(general("tcp_user_timeout = 1500").tcp_user_timeout, Duration::from_millis(1500));
    assert_eq!(refused("query_timeout = -1"), "-1 is outside the range 0 to 2147483647 seconds");
    assert_eq!(refused("query_timeout = nan"), "expected a time in seconds, like 30, 0.5 or \"2min\", found a float");
    assert_eq!(refused("query_timeout = \"2 weeks\""), "`2 weeks` is not a time in seconds, like 30, 0.5 or \"2min\"");
    assert_eq!(refused("stats_period = 0"), "0 is outside the range 1 to 2147483647 seconds");
}

#[test]
fn lists() {
    let both = vec![String::from("a"), String::from("b")];
    assert_eq!(general("admin_users = \"a, b\"").admin_users, both);
    assert_eq!(general("admin_users = \" a,,b, \"").admin_users, both);
    assert_eq!(general("admin_users = [\"a\", \"b\"]").admin_users, both);
    assert_eq!(general("admin_users = [\"a,b\"]").admin_users, ["a,b"]);
    assert_eq!(general("listen_addr = \"\"").listen_addr, Vec::<String>::new());
    assert_eq!(general("listen_addr = \"*\"").listen_addr, ["*"]);
    assert!(refused("admin_users = [\"a\", 1]").contains("a list of other things than strings"));
}

#[test]
fn paths_and_modes() {
    assert_eq!(general("unix_socket_dir = \"/run/pgpool\"").unix_socket_dir, Some(PathBuf::from("/run/pgpool")));
    assert_eq!(general("unix_socket_dir = \"\"").unix_socket_dir, None);
    for mode in ["\"0700\"", "\"700\"", "\"0o700\"", "0o700"] {
        assert_eq!(general(&format!("unix_socket_mode = {mode}")).unix_socket_mode, FileMode(0o700), "{mode}");
    }
    assert_eq!(refused("unix_socket_mode = 700"), "expected a file mode in octal, like \"0777\", found an integer");
    assert_eq!(refused("unix_socket_mode = \"0888\""), "`0888` is not a file mode in octal, like \"0777\"");
    assert_eq!(refused("unix_socket_mode = \"4777\""), "4777 is outside the range 0000 to 0777");
    assert_eq!(refused("server_reset_query = \"a\\u0000b\""), "a zero byte is not allowed");
}

#[test]
fn words_of_few() {
    assert_eq!(general("pool_mode = \"transaction\"").pool_mode, PoolMode::Transaction);
    assert_eq!(general("auth_type = \"md5\"").auth_type, AuthType::Md5);
    assert_eq!(refused("pool_mode = \"tx\""), "`tx` is none of session, transaction, statement");
    assert_eq!(refused("pool_mode = 1"), "expected a pool mode, found an integer");
}

#[test]
fn prepared_statements() {
    let defaults = General::default();
    assert_eq!((defaults.max_prepared_statements, defaults.prepare_unnamed), (200, PrepareUnnamed::Auto));
    assert_eq!((defaults.max_client_statement_bytes, defaults.max_statement_bytes), (4_194_304, 268_435_456));
    assert_eq!(general("max_prepared_statements = 0").max_prepared_statements, 0);
    assert_eq!(general("prepare_unnamed = \"OFF\"").prepare_unnamed, PrepareUnnamed::Off);
    assert_eq!(refused("prepare_unnamed = \"on\""), "`on` is none of auto, off");
    assert_eq!(refused("prepare_unnamed = true"), "expected auto or off, found a boolean");
    assert_eq!(general("max_client_statement_bytes = 65536").max_client_statement_bytes, 65_536);
    let small = "65535 is outside the range 65536 to 2147483647";
    assert_eq!(refused("max_client_statement_bytes = 65535"), small);
    assert_eq!(general("max_statement_bytes = 8_589_934_592").max_statement_bytes, 8_589_934_592);
    assert_eq!(refused("max_statement_bytes = 0"), "0 is outside the range 65536 to 1099511627776");
}

#[test]
fn session_features() {
    let list = general("session_features = [\"warn\", \"listen=reject\"]");
    assert_eq!(list, general("session_features = \"listen=reject, warn\""));
    assert_eq!(list.session_features.to_string(), "warn, listen=reject");
    assert_eq!(refused("session_features = \"pin, lisen=warn\""), "unknown feature `lisen`, did you mean `listen`?");
    assert_eq!(refused("session_features = \"\""), "`` is none of pin, warn, reject, allow");
    let entry = |text: &str| config(&format!("[databases]\na = \"{text}\"\n")).databases["a"].session_features;
    assert_eq!(entry("session_features=''"), None);
    assert_eq!(entry("session_features='warn, listen=reject'"), Some(list.session_features));
}

#[test]
fn check_query_keeps_pgbouncers_spelling() {
    assert_eq!(General::default().check_query(), Some(""));
    assert_eq!(general("server_check_query = \"\"").check_query(), None);
    assert_eq!(general("server_check_query = \"select 1\"").check_query(), Some("select 1"));
}

#[test]
fn hosts() {
    let entry = |host: &str| config(&format!("[databases.a]\nhost = {host}\n")).databases["a"].clone();
    let host = |host: &str| entry(&format!("\"{host}\"")).host.clone();
    let name = |name: &str| Host::Name(String::from(name));
    assert_eq!(host("/run/pg"), [Host::Socket(PathBuf::from("/run/pg"))]);
    assert_eq!(host("::1"), [name("::1")]);
    assert_eq!(host("db.internal"), [name("db.internal")]);
    assert_eq!(host(""), []);
    assert_eq!(host("@x"), [Host::Socket(PathBuf::from("@x"))]);
    let several = [Host::Name(String::from("a")), Host::Socket(PathBuf::from("/b")), name("::1")];
    assert_eq!(host("a, /b ,::1"), several);
    assert_eq!(entry("[\"a\", \"/b\", \"::1\"]").host, several);
    for wrong in ["\"a,\"", "\",\"", "\"a b\"", "[\"a\", \"\"]", "[\"a,b\"]", "5"] {
        assert!(problems(&format!("[databases.a]\nhost = {wrong}\n")).contains("`host` in [databases.a]: "), "{wrong}");
    }
}

#[test]
fn ports_go_with_their_hosts() {
    let pairs = |ports: &str| -> Vec<(String, u16)> {
        let text = format!("[databases.a]\nhost = \"a,b\"\nport = {ports}\n");
        let hosts = config(&text).databases["a"].backend_hosts();
        hosts.into_iter().map(|(host, port)| (host.to_string(), port)).collect()
    };
    let same = [("a".to_owned(), 6), ("b".to_owned(), 6)];
    assert_eq!((pairs("6"), pairs("\"6\"")), (same.to_vec(), same.to_vec()));
    let each = [("a".to_owned(), 6), ("b".to_owned(), 7)];
    assert_eq!((pairs("\"6, 7\""), pairs("[\"6\", \"7\"]")), (each.to_vec(), each.to_vec()));
    for wrong in ["0", "\"\"", "\"6,\"", "[]", "\"6,7,8\"", "true"] {
        let found = problems(&format!("[databases.a]\nhost = \"a,b\"\nport = {wrong}\n"));
        assert!(found.contains("[databases.a]"), "{wrong}: {found}");
    }
}

#[test]
fn connection_strings_fill_the_same_settings() {
    let text =
        "[databases]\na = \"host=/tmp port=6000 dbname='my db' user=u password=p pool_size=0 pool_mode=statement\"\n";
    let tables = "[databases.a]\nhost = \"/tmp\"\nport = 6000\ndbname = \"my db\"\nuser = \"u\"\npassword = \"p\"\n\
                  pool_size = 0\npool_mode = \"statement\"\n";
    assert_eq!(config(text).databases, config(tables).databases);
    let user = config("[users]\nalice = \"pool_mode=session max_user_connections=3\"\n").users["alice"].clone();
    assert_eq!((user.pool_mode, user.max_user_connections), (Some(PoolMode::Session), Some(3)));
}

#[test]
fn set_from_the_console() {
    let mut general = General::default();
    general.set("query_timeout", "1.5").unwrap();
    general.set("log_stats", "0").unwrap();
    general.set("session_features", "reject, load=allow").unwrap();
    assert_eq!(general.session_features.to_string(), "reject, load=allow");
    assert_eq!((general.query_timeout, general.log_stats), (Duration::from_millis(1500), false));
    assert_eq!(general.set("listen_port", "1"), Err(SetError::Boot("listen_port")));
    let unknown = general.set("querytimeout", "1").unwrap_err().to_string();
    assert_eq!(unknown, "unknown setting `querytimeout`, did you mean `query_timeout`?");
    let wrong = general.set("query_timeout", "long").unwrap_err().to_string();
    assert_eq!(wrong, "`query_timeout`: `long` is not a time in seconds, like 30, 0.5 or \"2min\"");
    assert_eq!(general.query_timeout, Duration::from_millis(1500));
}

#[test]
fn shown_values_are_pgbouncers_and_read_back() {
    let mut general =
        config("[pgpool]\nadmin_users = [\"a\", \"b\"]\nquery_timeout = 0.5\nlog_stats = false\n").general;
    let shown = general.shown(&General::default());
    assert!(shown.is_sorted_by_key(|row| row.key));
    let row = |key: &str| shown.iter().find(|row| row.key == key).map(|row| (row.value.as_str(), row.default.as_str()));
    assert_eq!(row("admin_users"), Some(("a, b", "")));
    assert_eq!(row("query_timeout"), Some(("0.5", "0")));
    assert_eq!(row("log_stats"), Some(("0", "1")));
    assert_eq!(row("unix_socket_mode"), Some(("0777", "0777")));
    assert_eq!(row("listen_addr"), Some(("127.0.0.1", "127.0.0.1")));
    let unchanged = general.clone();
    for row in shown {
        let setting = General::row(row.key).unwrap();
        (setting.set)(&mut general, &crate::config::Raw::Text(&row.value)).unwrap();
        assert_eq!(general, unchanged, "{}", row.key);
    }
}
