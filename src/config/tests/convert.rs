//! A pgbouncer.ini in TOML is the same configuration.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;

use crate::config::{Config, Database, Table, User, convert};

/// Settings of `[pgbouncer]` with values that are not the defaults.
const GENERAL: &[(&str, &[&str])] = &[
    ("listen_addr", &["*", "127.0.0.1, ::1", ""]),
    ("listen_port", &["0x1000", "07777", "1"]),
    ("unix_socket_dir", &["/run/x", "relative", "~/x"]),
    ("unix_socket_mode", &["0700", "0x1c0"]),
    ("max_client_conn", &["1000", "0", "2147483647"]),
    ("auth_type", &["trust", "scram-sha-256", "any"]),
    ("auth_query", &["select \"a\\b\", 'c' from x where y = $1"]),
    ("auth_user", &["looker"]),
    ("admin_users", &["a, b", "\"x\""]),
    ("server_check_query", &["", "select 1", "<empty>"]),
    ("server_lifetime", &["0", "0.25", "1e4"]),
    ("tcp_keepidle", &["60", "0"]),
    ("tcp_user_timeout", &["300000", "12"]),
    ("log_stats", &["0", "7"]),
    ("pool_mode", &["transaction", "statement"]),
    ("session_features", &["allow", "pin, listen=reject"]),
    ("client_tls_protocols", &["tlsv1.3", "all"]),
    ("server_tls_ciphers", &["HIGH:!aNULL", "fast"]),
    ("ignore_startup_parameters", &["extra_float_digits,options"]),
    ("login_notify_message", &["it's \u{e4} \"test\" \u{1b}[0m"]),
    ("pkt_buf", &["4096"]),
    ("syslog", &["1", "0"]),
    ("syslog_facility", &["LOCAL3"]),
    ("suspend_timeout", &["9"]),
];

const KEYWORDS: &[&str] = &[
    "host=127.0.0.1",
    "host=/run/y,b",
    "port=6543,5432",
    "dbname='a ''b'' \\n'",
    "user=u",
    "password='p\"\\ ''x'",
    "auth_user=w",
    "pool_size=0",
    "pool_size=-1",
    "min_pool_size=3",
    "reserve_pool=4",
    "max_db_connections=0",
    "server_lifetime=7",
    "query_wait_timeout=0",
    "pool_mode=statement",
    "connect_query='select 1; -- \t'",
    "timezone=UTC",
    "load_balance_hosts=disable",
    "session_features=warn",
];

const USER: &[&str] = &["pool_mode=session", "pool_size=2", "query_timeout=0", "client_idle_timeout=9", "password=x"];

fn file() -> impl Strategy<Value = String> {
    let setting =
        select(GENERAL).prop_flat_map(|(name, values)| select(values).prop_map(move |v| format!("{name} = {v}")));
    let general = proptest::collection::vec(setting, 0..12);
    let entry = |keywords| {
        (
            select(&["a", "b.c", "\"x \"\"y\"\"\"", "\"\u{e4}\\\""][..]),
            proptest::collection::vec(select(keywords), 0..6),
        )
    };
    let entries = |keywords| {
        proptest::collection::vec(
            entry(keywords).prop_map(|(name, words)| format!("{name} = {}", words.join(" "))),
            0..4,
        )
    };
    (general, entries(KEYWORDS), entries(USER), proptest::option::of(proptest::collection::vec(select(KEYWORDS), 0..6)))
        .prop_map(|(general, databases, users, star)| {
            let star = star.map(|words| format!("* = {}", words.join(" "))).unwrap_or_default();
            let (general, databases, users) = (general.join("\n"), databases.join("\n"), users.join("\n"));
            format!("[databases]\n{databases}\n{star}\n[users]\n{users}\n[pgbouncer]\n{general}\n")
        })
}

/// `text` in TOML.
fn toml(text: &str) -> Option<(Config, String)> {
    let (loaded, places) = Config::parse_with_places(text, Path::new("pgbouncer.ini")).ok()?;
    let toml = convert::write(&loaded.config, &places);
    Some((loaded.config, toml))
}

fn assert_same(text: &str, config: Config, toml: &str) {
    let again = Config::parse(toml, Path::new("pgpool.toml")).unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
    let again = Config { path: config.path.clone(), ini: config.ini, ..again.config };
    assert_eq!(format!("{again:#?}"), format!("{config:#?}"), "{text}\n{toml}");
    assert!(again == config, "a secret is another\n{text}\n{toml}");
}

proptest! {
    #[test]
    fn what_is_written_is_the_same_configuration(text in file()) {
        // Some combinations are mistakes, such as nothing to listen on.
        if let Some((config, toml)) = toml(&text) {
            assert_same(&text, config, &toml);
        }
    }
}

#[test]
fn every_setting_is_written() {
    for (name, values) in GENERAL {
        for value in *values {
            let text = format!("[pgbouncer]\nunix_socket_dir = /x\n{name} = {value}\n");
            let (config, toml) = toml(&text).unwrap_or_else(|| panic!("{text}"));
            assert!(toml.contains(&format!("\n{name} = ")), "{toml}");
            assert_same(&text, config, &toml);
        }
    }
    for (kind, all) in [("databases", KEYWORDS), ("users", USER)] {
        let text = format!("[{kind}]\na = {}\n", all.join(" "));
        let (config, toml) = toml(&text).unwrap();
        assert_same(&text, config, &toml);
    }
    assert!(
        KEYWORDS
            .iter()
            .all(|word| Database::row(word.split_once('=').unwrap().0).is_some() || word.starts_with("reserve_pool="))
    );
    assert!(USER.iter().all(|word| User::row(word.split_once('=').unwrap().0).is_some()));
}

#[test]
fn files_and_their_users_are_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        path
    };
    write("userlist.txt", "\"ann\" \"secret\"\n\"bob\" \"\"\n\"cid\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n");
    write("hba.conf", "local all all trust\nhost all all 127.0.0.1/32 md5\n");
    write("pw", "from a file\n");
    let ini = write(
        "pgbouncer.ini",
        "[pgbouncer]\nauth_file = DIR/userlist.txt\nauth_type = hba\nauth_hba_file = DIR/hba.conf\npkt_buf=1\n\
         %include DIR/more.ini\n",
    );
    let more = write(
        "more.ini",
        "[databases]\na = user=x password_file=DIR/pw\n[users]\nann = pool_size=3\nnobody =\nown = password='a b'\n",
    );
    let conversion = Config::convert(&ini).unwrap();
    let here = |path: &Path, line: &str| format!("{}:{line}", path.display());
    assert_eq!(
        conversion.report,
        [
            here(&more, "2: databases.a.password_file: same"),
            here(&more, "2: databases.a.user: same"),
            here(&more, "4: users.ann.pool_size: same"),
            here(&more, "6: users.own.password: same"),
            here(&ini, "2: auth_file: same"),
            here(&ini, "3: auth_type: same"),
            here(
                &ini,
                "4: auth_hba_file: different: a file with a mistake is refused; it may have all of PostgreSQL 16's format"
            ),
            here(&ini, "5: pkt_buf: ignored: buffers have 64 kB and are lent to those who are served"),
        ]
    );
    assert_eq!(conversion.warnings.len(), 1);
    let config = Config::load(&ini).unwrap().config;
    assert!(config.ini && config.users.len() == 5 && !config.access.rules.0.is_empty());
    // The name of the other file is of no account: the paths in it are whole.
    let toml = dir.path().join("elsewhere");
    fs::create_dir(&toml).unwrap();
    let toml = toml.join("pgpool.toml");
    fs::write(&toml, conversion.toml.as_bytes()).unwrap();
    let again = Config::load(&toml).unwrap().config;
    assert_eq!(Config { path: config.path.clone(), ini: true, ..again }, config);
    let error = Config::convert(&toml).unwrap_err().to_string();
    assert!(error.contains("only a pgbouncer.ini can be converted"), "{error}");
}
