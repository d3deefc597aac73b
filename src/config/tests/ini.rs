//! A pgbouncer.ini: the same settings in PgBouncer's spelling, with its defaults, sections and includes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::config::{AuthType, Config, General, Host, Loaded, PoolMode, Problems, SecretSource};

fn parse(text: &str) -> Result<Loaded, Problems> {
    Config::parse(text, Path::new("pgbouncer.ini"))
}

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn problems(text: &str) -> String {
    parse(text).map(|_| ()).unwrap_err().to_string()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.warnings.iter().map(|warning| warning.to_string().replace("pgbouncer.ini:", "")).collect()
}

/// Files in a directory that goes with the returned value.
fn files(files: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let text = text.replace("DIR", dir.path().to_str().unwrap());
        fs::write(dir.path().join(name), text).unwrap();
    }
    let main = dir.path().join("pgbouncer.ini");
    (dir, main)
}

#[test]
fn a_usual_file() {
    let (dir, main) = files(&[
        (
            "pgbouncer.ini",
            ";; shop\n[databases]\nshop = host=db1.internal port=6543 dbname='the shop' pool_size=5 pool_mode=transaction\n\
             forced = user=app password='it''s \\o/' connect_query='' \n* = auth_user=looker reserve_pool=2\n\
             [users]\nann = pool_mode=statement max_user_connections=7 query_timeout=3\n\
             [pgbouncer]\nlisten_addr = *\nlisten_port = 0x1920\nauth_type = trust\nauth_file = DIR/userlist.txt\n\
             unix_socket_dir = /run/x\nadmin_users = ann, bob\nserver_idle_timeout = 0.5\nlog_stats=0\n\
             max_client_conn = 0100\n",
        ),
        ("userlist.txt", "\"bob\" \"md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n\"ann\" \"secret\"\n"),
    ]);
    // An empty value is one of PgBouncer's mistakes.
    let error = Config::load(&main).unwrap_err().to_string();
    assert_eq!(error, format!("{}:4: `connect_query` in [databases.forced] is empty: leave it out", main.display()));
    let text = fs::read_to_string(&main).unwrap().replace("connect_query='' ", "");
    fs::write(&main, text).unwrap();
    let Loaded { config, warnings } = Config::load(&main).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings, []);
    let general = &config.general;
    assert_eq!((general.listen_addr.as_slice(), general.listen_port), ([String::from("*")].as_slice(), 6432));
    assert_eq!((general.auth_type, general.max_client_conn), (AuthType::Trust, 64));
    assert_eq!((general.server_idle_timeout, general.log_stats), (Duration::from_millis(500), false));
    assert_eq!(general.auth_file, Some(dir.path().join("userlist.txt")));
    let shop = &config.databases["shop"];
    assert_eq!((&shop.host, &shop.port), (&vec![Host::Name("db1.internal".into())], &vec![6543]));
    assert_eq!((shop.backend_dbname(), shop.pool_size), ("the shop", Some(5)));
    let forced = &config.databases["forced"];
    assert_eq!(forced.host, [Host::Socket("/run/x".into())], "PgBouncer's socket directory goes both ways");
    assert_eq!(config.forced_secret(forced).unwrap().expose(), "it's \\o/");
    let any = config.database("whatever").unwrap();
    assert_eq!(
        (any.auth_user.as_deref(), any.reserve_pool_size, any.backend_dbname()),
        (Some("looker"), Some(2), "whatever")
    );
    let ann = config.user("ann").unwrap();
    assert_eq!((ann.pool_mode, ann.max_user_connections), (Some(PoolMode::Statement), Some(7)));
    assert_eq!((ann.secret_source, ann.query_timeout), (SecretSource::AuthFile, Some(Duration::from_secs(3))));
}

#[test]
fn what_is_not_said_is_pgbouncers_default() {
    let general = config("[pgbouncer]\n").general;
    assert_eq!((general.listen_addr.len(), general.max_client_conn), (0, 100));
    assert_eq!((general.auth_type, general.pool_mode), (AuthType::Md5, PoolMode::Session));
    assert_eq!((general.tcp_keepidle, general.tcp_user_timeout), (Duration::ZERO, Duration::ZERO));
    let config = config("[databases]\na =\n[pgbouncer]\nunix_socket_dir =\nlisten_addr = x\n");
    assert_eq!(config.databases["a"].host, [Host::Socket("/tmp".into())]);
    let shown = config.shown();
    let row = shown.iter().find(|row| row.key == "max_client_conn").unwrap();
    assert_eq!((row.value.as_str(), row.default.as_str()), ("100", "100"));
}

#[test]
fn the_last_value_counts_and_another_section_sets_back() {
    let text = "[pgbouncer]\nmax_client_conn = 5\nmax_client_conn = 6\n[databases]\na = pool_size=1\n\
                [databases]\na = port=1 port=2\nb =\n";
    assert_eq!(config(text).general.max_client_conn, 6);
    let a = config(text).databases["a"].clone();
    assert_eq!((a.pool_size, &*a.port, config(text).databases.len()), (None, &[2][..], 2));
    assert_eq!(
        warnings(text),
        [
            "3: `max_client_conn` occurs again after line 2; the last one counts",
            "7: `port` in [databases.a] occurs twice; the last one counts",
            "7: `a` occurs again after line 5; the last one counts",
        ]
    );
    let text =
        "[databases]\na =\n[pgbouncer]\nmax_client_conn = 5\nauth_user = x\nuser = y\n[pgbouncer]\nlog_stats = 0\n";
    let general = config(text).general;
    assert_eq!((general.max_client_conn, general.log_stats), (100, false));
    assert_eq!((general.auth_user.as_deref(), general.user.as_str()), (Some("x"), "y"), "they have no default");
    assert_eq!(warnings(text), ["7: another [pgbouncer] sets back what stands before it: max_client_conn"]);
}

#[test]
fn zeros_and_minus_one_mean_what_they_mean_to_pgbouncer() {
    let config = config(
        "[databases]\na = pool_size=0 min_pool_size=-1 max_db_connections=0 server_lifetime=0 query_wait_timeout=0\n\
         [users]\nu = pool_size=-1 max_user_connections=0 query_timeout=0 reserve_pool_size=0\n\
         [pgbouncer]\nmax_db_connections = 3\nquery_timeout = 9\nmin_pool_size = 1\n",
    );
    let (a, u) = (&config.databases["a"], config.user("u"));
    assert_eq!((a.pool_size, a.min_pool_size, config.max_db_connections(a)), (Some(0), None, 3));
    assert_eq!((config.server_lifetime(a), a.query_wait_timeout), (Duration::from_secs(3600), Some(Duration::ZERO)));
    let user = u.unwrap();
    assert_eq!(
        (user.pool_size, user.reserve_pool_size, config.max_user_connections(u.map(|u| &**u))),
        (None, Some(0), 0)
    );
    assert_eq!(config.query_timeout(u.map(|u| &**u)), Duration::from_secs(9));
}

#[test]
fn includes_go_on_in_their_section() {
    let (dir, main) = files(&[
        ("pgbouncer.ini", "[pgbouncer]\n%include DIR/one.ini\nb = port=4\nc = port=x\n"),
        ("one.ini", "listen_port = 1\n%include DIR/two.ini\n"),
        ("two.ini", "[databases]\na = port=3\nbad\n"),
    ]);
    let error = Config::load(&main).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
    assert_eq!(
        error,
        "DIR/pgbouncer.ini:4: `port` in [databases.c]: `x` is not a whole number\n\
         DIR/two.ini:3: expected `name = value`, [section], %include FILE, or a comment that begins with `;` or `#`"
    );
    fs::write(dir.path().join("two.ini"), "[databases]\na = port=3\n").unwrap();
    fs::write(&main, fs::read_to_string(&main).unwrap().replace("port=x", "port=5")).unwrap();
    let config = Config::load(&main).unwrap_or_else(|problems| panic!("{problems}")).config;
    assert_eq!((config.general.listen_port, config.databases.len()), (1, 3));
    // A file that includes itself ends.
    fs::write(dir.path().join("two.ini"), format!("%include {}/two.ini\n", dir.path().display())).unwrap();
    let error = Config::load(&main).unwrap_err().to_string();
    assert!(error.ends_with("two.ini: files include each other more than 10 times deep"), "{error}");
    fs::remove_file(dir.path().join("two.ini")).unwrap();
    let error = Config::load(&main).unwrap_err().to_string();
    assert!(error.contains("one.ini:2: cannot read %include ") && error.contains("No such file"), "{error}");
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = "max_client_conn = 1\n[pgbouncer]\nmax_client_con = 5\nlisten_port = 70000\npool_size = 4\n\
                default_pool_size = 20 ; many\nauth_file = /nonexistent/userlist.txt\ndisable_pqexec = maybe\nconnect\n\
                [databse]\nx = y\n[pgpool]\n[databases]\na = host=h bogus=1\nb = host='h\nc = port=\npgbouncer = host=x\n\
                d = max_client_conn=3\ne = pool_mode=many\n[users]\nu = port=1\n%include /nonexistent/x.ini\n[u\n";
    let expected = [
        "1: `max_client_conn` stands in no section, such as [pgbouncer]",
        "3: unknown setting `max_client_con` in [pgbouncer], did you mean `max_client_conn`?",
        "4: `listen_port` in [pgbouncer]: 70000 is outside the range 0 to 65535",
        "5: `pool_size` belongs into [databases] or [users]",
        "6: `default_pool_size` in [pgbouncer]: `20 ; many` is not a whole number; a comment stands on a line of its own",
        "7: cannot read auth_file /nonexistent/userlist.txt: No such file or directory (os error 2)",
        "8: `disable_pqexec` in [pgbouncer]: `maybe` is not true or false",
        "9: expected `name = value`, [section], %include FILE, or a comment that begins with `;` or `#`",
        "10: unknown section [databse], did you mean [databases]?",
        "12: unknown section [pgpool]: its settings stand in [pgbouncer]",
        "14: unknown setting `bogus` in [databases.a]",
        "15: `databases.b`: a quote is not closed",
        "16: `port` in [databases.c] is empty: leave it out",
        "17: the database name `pgbouncer` is reserved for the console",
        "18: `max_client_conn` belongs into [pgbouncer]",
        "19: `pool_mode` in [databases.e]: `many` is none of session, transaction, statement",
        "21: `port` belongs into [databases]",
        "22: cannot read %include /nonexistent/x.ini: No such file or directory (os error 2)",
        "23: a section's closing bracket is missing: write [name]",
    ];
    let found = problems(text).replace("pgbouncer.ini:", "");
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_has_no_effect_is_said() {
    let text = "[databases]\na = load_balance_hosts=disable\nb = load_balance_hosts=Round-Robin\n[peers]\n1 = host=/x\n\
                [peers]\n[pgbouncer]\npkt_buf = 4096\nsbuf_loopcnt = 0\nsuspend_timeout = 10.0\nso_reuseport = 1\npeer_id=1\n";
    let found = warnings(text);
    let starts = ["9: `sbuf_loopcnt` of PgBouncer has no effect: "];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    assert!(found.iter().zip(starts).all(|(found, start)| found.starts_with(start)), "{found:#?}");
}

#[test]
fn peers_are_read_and_may_go_on() {
    let text = "[peers]\n1 = host=/x\n[databases]\na =\n[peers]\n2 = host=h port=7000 pool_size=3\n\
                [pgbouncer]\npeer_id = 1\nso_reuseport = 1\n";
    let config = config(text);
    let peers: Vec<_> = config.peers.values().map(|peer| (peer.id, peer.port, peer.pool_size)).collect();
    assert_eq!((config.general.peer_id, peers), (1, vec![(1, 6432, None), (2, 7000, Some(3))]));
    assert_eq!(warnings(text), [""; 0]);
    assert_eq!(
        problems("[peers]\nx = host=h\n"),
        "pgbouncer.ini:2: `x` in [peers]: a peer's name is its peer_id, from 1 to 16383"
    );
}

#[test]
fn every_setting_of_pgpool_may_stand_there() {
    use crate::config::Table;
    for row in General::ROWS {
        let text = format!("[pgbouncer]\n{} = {}\n", row.name, (row.show)(&General::default()));
        if let Err(problems) = parse(&text) {
            assert!(!problems.to_string().contains(" in [pgbouncer]"), "{problems}");
        }
    }
}

#[test]
fn a_file_of_another_name_is_known_by_its_section() {
    let text = "; a comment\n[databases]\na = host=x\n [pgbouncer] \nmax_client_conn = 0x10\n";
    for (name, ini) in [("x.conf", true), ("pgbouncer", true), ("x.INI", true), ("x.toml", false)] {
        let loaded = Config::parse(text, Path::new(name));
        assert_eq!(loaded.is_ok_and(|loaded| loaded.config.ini && loaded.config.general.max_client_conn == 16), ini);
    }
    assert!(!Config::parse("[pgpool]\n", Path::new("x.conf")).unwrap().config.ini);
}
