//! One pgbouncer.ini, with its list of users, rules and an included file, given to PgBouncer and to pgpool: what clients
//! do comes out the same, and so does what the console shows. Whatever differs is in `known`, with the reason.
//!
//! Both run in the directory of the files, whose names in the file are relative.

mod known;

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use crate::support::{
    Cluster, Raw, Table,
    cluster::free_port,
    eventually,
    janitor::Janitor,
    messages::query,
    process::LoggingChild,
    programs::{bound_to_this_thread, find, give_to_postgres, unprivileged},
    reply::{self, PgError},
    wait::holds_within,
};
use known::{CONFIG, KNOWN};

const STARTS: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 20;

const FILE: &str = "\
;; everything that a file may have
[databases]
app = host=127.0.0.1 port=SERVER dbname=app pool_size=3
forced = host=127.0.0.1 port=SERVER dbname=app user=bob password='bobpw' pool_mode=session
# behind the socket in unix_socket_dir
socket = port=SERVER dbname='app'
rejected = host=127.0.0.1 port=SERVER dbname=app
greeted = host=127.0.0.1 port=SERVER dbname=app connect_query='set lock_timeout = ''7s''' application_name=shop
* = host=127.0.0.1 port=SERVER

[users]
carol = pool_mode=session max_user_connections=2
%include more.ini
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = LISTEN
unix_socket_dir = SOCKETS
pool_mode = transaction
max_client_conn = 0100
default_pool_size = 0x7
auth_type = hba
auth_hba_file = hba.conf
auth_file = userlist.txt
admin_users = postgres, boss
stats_users = alice
ignore_startup_parameters = extra_float_digits
server_idle_timeout = 600.5
server_check_query = select 1
server_check_delay = 1e1
log_stats = 0
pkt_buf = 8192
pkt_buf = 4096
";

const MORE: &str =
    "trusty = pool_mode=statement\n[databases]\nincluded = host=127.0.0.1 port=SERVER dbname=app min_pool_size=0\n";

const USERS: &str = "\
; what both sides know
\"alice\" \"alicepw\"
\"bob\" \"bobpw\" \"\"
\"carol\" \"carolpw\"
\"trusty\" \"trustypw\"
\"postgres\" \"postgrespw\"
";

const RULES: &str = "\
# type  database  user      address        method
host    rejected  all       127.0.0.1/32   reject
host    all       trusty    127.0.0.1/32   trust
host    all       postgres  127.0.0.1/32   trust
host    app,forced all      127.0.0.1 255.255.255.255 md5
host    all       all       127.0.0.1/32   scram-sha-256
";

/// One of the two.
struct Side {
    process: LoggingChild,
    port: u16,
    dir: TempDir,
    _janitor: Janitor,
}

impl Side {
    fn start(cluster: &Cluster, name: &str, ready: &str, command: impl Fn() -> Command) -> Side {
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("pgpool-ini-").tempdir().unwrap();
            let janitor = Janitor::watch(dir.path());
            give_to_postgres(dir.path());
            let port = free_port();
            let filled = |text: &str| {
                let text = text.replace("SERVER", &cluster.port().to_string()).replace("LISTEN", &port.to_string());
                text.replace("SOCKETS", cluster.socket_dir().to_str().unwrap())
            };
            let files = [("pgbouncer.ini", FILE), ("more.ini", MORE), ("userlist.txt", USERS), ("hba.conf", RULES)];
            for (file, text) in files {
                fs::write(dir.path().join(file), filled(text)).unwrap();
            }
            let mut command = command();
            command.current_dir(dir.path()).arg("pgbouncer.ini");
            let process = LoggingChild::spawn(name, command);
            if process.try_wait_for_log(0, ready, STARTS).is_ok() && process.log().contains("listening on 127") {
                return Side { process, port, dir, _janitor: janitor };
            }
        }
        panic!("{name} did not start");
    }

    fn try_login(&self, user: &str, password: &str, database: &str, more: &[(&str, &str)]) -> Result<Raw, PgError> {
        let mut client = Raw::connect(self.port);
        client.startup(&[&[("user", user), ("database", database)], more].concat());
        client.authenticate(user, password)?;
        Ok(client)
    }

    fn login(&self, user: &str, database: &str) -> Raw {
        let login = self.try_login(user, &format!("{user}pw"), database, &[]);
        login.unwrap_or_else(|error| panic!("{user} {database}: {error:?}\n{}", self.process.log()))
    }

    fn console(&self) -> Raw {
        self.login("postgres", "pgbouncer")
    }

    /// Changes a file.
    fn edit(&self, file: &str, change: impl Fn(String) -> String) {
        let path = self.dir.path().join(file);
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }
}

fn both() -> Option<(Cluster, Side, Side)> {
    let Some(program) = find("pgbouncer") else {
        eprintln!("PgBouncer is not installed: nothing to compare with");
        return None;
    };
    let cluster = Cluster::start();
    let theirs = Side::start(&cluster, "pgbouncer", "process up", || unprivileged(&program, "KILL"));
    let pgpool = Path::new(env!("CARGO_BIN_EXE_pgpool"));
    let ours = Side::start(&cluster, "pgpool", "process up", || bound_to_this_thread(pgpool));
    Some((cluster, ours, theirs))
}

/// What came of something, as text.
fn outcome(result: Result<String, PgError>) -> String {
    match result {
        Ok(value) => value,
        Err(error) => format!("{} {}: {}", error.severity, error.code, error.message),
    }
}

/// The first value that a query answers.
fn ask(client: &mut Raw, sql: &str) -> Result<String, PgError> {
    client.send(&query(sql));
    let mut answer = Vec::new();
    // A client may be sent away.
    while let Some(message) = client.read_or_eof() {
        let ready = message.tag == b'Z';
        answer.push(message);
        if ready {
            break;
        }
    }
    let rows = reply::rows(&answer)?;
    let values = rows.first().map(|row| row.iter().map(|value| value.clone().unwrap_or_default()).collect::<Vec<_>>());
    Ok(values.unwrap_or_default().join(" "))
}

type Action = (&'static str, fn(&Side) -> Result<String, PgError>);

const ACTIONS: &[Action] = &[
    ("an entry", |side| ask(&mut side.login("alice", "app"), "select current_user, current_database()")),
    ("a forced user", |side| ask(&mut side.login("alice", "forced"), "select current_user, current_database()")),
    ("an entry without host", |side| ask(&mut side.login("alice", "socket"), "select inet_server_addr() is null")),
    ("an entry of an included file", |side| ask(&mut side.login("alice", "included"), "select current_database()")),
    ("any other name", |side| ask(&mut side.login("alice", "postgres"), "select current_database()")),
    ("connect_query", |side| ask(&mut side.login("alice", "greeted"), "show lock_timeout")),
    ("application_name", |side| ask(&mut side.login("alice", "greeted"), "show application_name")),
    ("a name that PostgreSQL does not know", |side| {
        let mut client = side.try_login("alice", "alicepw", "nosuch", &[])?;
        ask(&mut client, "select 1")
    }),
    ("a wrong password", |side| side.try_login("alice", "wrong", "app", &[]).map(|_| String::new())),
    ("an unknown user", |side| side.try_login("nobody", "x", "app", &[]).map(|_| String::new())),
    ("a rule that rejects", |side| side.try_login("alice", "alicepw", "rejected", &[]).map(|_| String::new())),
    ("a rule that trusts", |side| {
        let mut client = side.try_login("trusty", "wrong", "app", &[])?;
        ask(&mut client, "select current_user")
    }),
    ("an ignored parameter", |side| {
        let mut client = side.try_login("alice", "alicepw", "app", &[("extra_float_digits", "3")])?;
        ask(&mut client, "show extra_float_digits")
    }),
    ("another parameter", |side| {
        let mut client = side.try_login("alice", "alicepw", "app", &[("lock_timeout", "9s")])?;
        ask(&mut client, "show lock_timeout")
    }),
    ("session mode of a user", |side| {
        let (mut one, mut other) = (side.login("carol", "app"), side.login("carol", "app"));
        let first = ask(&mut one, "select pg_backend_pid()")?;
        let second = ask(&mut other, "select pg_backend_pid()")?;
        Ok((first == ask(&mut one, "select pg_backend_pid()")? && first != second).to_string())
    }),
    ("transaction mode", |side| {
        let (mut one, mut other) = (side.login("alice", "app"), side.login("alice", "app"));
        let first = ask(&mut one, "select pg_backend_pid()")?;
        Ok((first == ask(&mut other, "select pg_backend_pid()")?).to_string())
    }),
    ("statement mode of a user", |side| {
        let mut client = side.login("trusty", "app");
        ask(&mut client, "begin")
    }),
    ("a statistician looks", |side| ask(&mut side.login("alice", "pgbouncer"), "show version").map(|_| String::new())),
    ("a statistician pauses", |side| ask(&mut side.login("alice", "pgbouncer"), "pause")),
    ("somebody else on the console", |side| {
        side.try_login("carol", "carolpw", "pgbouncer", &[]).map(|_| String::new())
    }),
    ("SET and RELOAD", |side| {
        let mut console = side.console();
        let value = |console: &mut Raw| {
            Table::of(console, "show config").matching(&[("key", "max_client_conn")]).value("value")
        };
        ask(&mut console, "set max_client_conn = 50")?;
        let set = value(&mut console);
        ask(&mut console, "reload")?;
        eventually(SOON, "a reload sets back", || value(&mut console) != set);
        Ok(format!("{set} {}", value(&mut console)))
    }),
    ("SET at the start only", |side| ask(&mut side.console(), "set listen_port = 1")),
    ("a new user after RELOAD", |side| {
        let before = side.try_login("postgres", "x", "app", &[]).is_ok();
        // PgBouncer takes a file of the same second and size for the same.
        side.edit("userlist.txt", |text| text.replace("\"alice\" \"alicepw\"", "\"alice\" \"another one\""));
        ask(&mut side.console(), "reload")?;
        let mut after = String::new();
        eventually(SOON, "the password is another", || {
            after = outcome(side.try_login("alice", "another one", "socket", &[]).map(|_| "in".to_owned()));
            after == "in"
        });
        side.edit("userlist.txt", |_| format!("{USERS}; as before\n"));
        ask(&mut side.console(), "reload")?;
        eventually(SOON, "the password is back", || side.try_login("alice", "alicepw", "socket", &[]).is_ok());
        Ok(format!("{before} {after}"))
    }),
    ("a new database after RELOAD", |side| {
        side.edit("more.ini", |text| text.replace("included =", "renamed ="));
        ask(&mut side.console(), "reload")?;
        let names = |side: &Side| Table::of(&mut side.console(), "show databases").column("name");
        eventually(SOON, "the entry is there", || names(side).contains(&"renamed".to_owned()));
        ask(&mut side.login("alice", "renamed"), "select current_database()")
    }),
    ("RELOAD of a file with a mistake", |side| {
        side.edit("pgbouncer.ini", |text| text.replace("log_stats = 0", "log_stat = 0"));
        let answer = ask(&mut side.console(), "reload");
        side.edit("pgbouncer.ini", |text| text.replace("log_stat = 0", "log_stats = 0"));
        answer.map(|_| String::new()).map_err(|error| PgError { message: String::new(), ..error })
    }),
];

#[test]
fn clients_and_the_console_fare_the_same() {
    let Some((_cluster, ours, theirs)) = both() else { return };
    let mut differences = BTreeMap::new();
    for (name, action) in ACTIONS {
        let (ours, theirs) = (outcome(action(&ours)), outcome(action(&theirs)));
        if ours != theirs {
            differences.insert(*name, (ours, theirs));
        }
    }
    let known: BTreeMap<_, _> = KNOWN
        .iter()
        .inspect(|known| assert!(!known.why.is_empty()))
        .map(|known| (known.what, (known.ours.to_owned(), known.theirs.to_owned())))
        .collect();
    assert_eq!(format!("{differences:#?}"), format!("{known:#?}"));
}

/// The rows of a SHOW by the values of `key`.
fn rows(side: &Side, sql: &str, key: &[&str], columns: &[&str]) -> BTreeMap<String, Vec<String>> {
    let table = Table::of(&mut side.console(), sql);
    let names: Vec<String> = (0..table.rows.len())
        .map(|row| key.iter().map(|column| table.column(column)[row].clone()).collect::<Vec<_>>().join("/"))
        .collect();
    let values = |row: usize| columns.iter().map(|column| format!("{column}={}", table.column(column)[row])).collect();
    names.into_iter().enumerate().map(|(row, name)| (name, values(row))).collect()
}

#[test]
fn the_console_shows_the_same_file() {
    let Some((cluster, ours, theirs)) = both() else { return };
    for side in [&ours, &theirs] {
        assert_eq!(side.login("alice", "app").value("select 1"), "1");
        assert_eq!(side.login("alice", "forced").value("select 1"), "1");
        assert_eq!(side.login("carol", "postgres").value("select 1"), "1");
    }
    let port = cluster.port().to_string();
    let same = |sql: &str, key: &[&str], columns: &[&str]| {
        let shown = |side: &Side| {
            let mut rows = rows(side, sql, key, columns);
            // PgBouncer shows a database of `*` at times only.
            rows.retain(|name, _| !name.starts_with("postgres"));
            format!("{rows:#?}").replace(&format!("port={}\"", side.port), "its own port\"")
        };
        // Connections that are being reset are not idle for a moment.
        let mut both = (String::new(), String::new());
        holds_within(SOON, || {
            both = (shown(&ours), shown(&theirs));
            both.0 == both.1
        });
        assert_eq!(both.0, both.1, "{sql}");
        assert!(both.0.contains("pgbouncer"), "{}", both.0);
    };
    let columns = ["port", "database", "force_user", "pool_size", "min_pool_size", "pool_mode"];
    same("show databases", &["name"], &columns);
    same("show databases", &["name"], &["max_connections", "paused", "disabled", "pool_mode"]);
    assert!(rows(&ours, "show databases", &["name"], &["port"])["app"].contains(&format!("port={port}")));
    let host = |side: &Side, name: &str| {
        Table::of(&mut side.console(), "show databases").matching(&[("name", name)]).value("host")
    };
    assert_eq!((host(&ours, "app"), host(&theirs, "app")), ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()));
    // An entry without host: docs/pgbouncer.md.
    let sockets = cluster.socket_dir().display().to_string();
    assert_eq!((host(&ours, "socket"), host(&theirs, "socket")), (sockets, String::new()));
    same("show users", &["name"], &["name", "pool_mode"]);
    same(
        "show pools",
        &["database", "user"],
        &["cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait", "pool_mode"],
    );

    // The clients of the console, by either of its names.
    same("show clients", &["database", "user"], &["type", "state"]);
    let by_other_name = Table::of(&mut ours.login("postgres", "pgpool"), "show clients");
    assert!(by_other_name.column("database").iter().all(|name| name == "pgbouncer"), "{by_other_name:?}");
    let order = |side: &Side, sql: &str, column: &str| {
        let mut names = Table::of(&mut side.console(), sql).column(column);
        names.retain(|name| name != "postgres");
        names
    };
    for (sql, column) in
        [("show databases", "name"), ("show users", "name"), ("show pools", "database"), ("show stats", "database")]
    {
        assert!(order(&ours, sql, column).contains(&"pgbouncer".to_owned()), "{sql}");
        assert_eq!(order(&ours, sql, column), order(&theirs, sql, column), "{sql}");
    }

    let config = |side: &Side| rows(side, "show config", &["key"], &["value", "default", "changeable"]);
    let directory = ours.dir.path().to_str().unwrap();
    let (ours, theirs) = (config(&ours), config(&theirs));
    let missing: Vec<_> = theirs.keys().filter(|key| !ours.contains_key(*key)).map(String::as_str).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let mut differences = BTreeMap::new();
    for (key, values) in &theirs {
        if let Some(other) = ours.get(key).filter(|other| *other != values) {
            let parts = other.iter().zip(values).filter(|(one, two)| one != two);
            let parts: Vec<_> = parts.map(|(one, two)| format!("{one}, PgBouncer {two}")).collect();
            differences.insert(key.as_str(), parts.join("; ").replace(directory, "DIR"));
        }
    }
    for key in ["listen_port", "unix_socket_dir"] {
        differences.remove(key);
    }
    let known: BTreeMap<_, _> = CONFIG.iter().map(|(key, difference, _why)| (*key, (*difference).to_owned())).collect();
    assert_eq!(format!("{differences:#?}"), format!("{known:#?}"));
}
