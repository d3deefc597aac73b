//! One pgbouncer.ini, with its list of users, rules and an included file, given to PgBouncer and to pgpool: what clients
//! do comes out the same, and so does what the console shows. Whatever differs is in `known`, with the reason.
//!
//! PgBouncer is the system's, or `$PGPOOL_PGBOUNCER`. What its version has is in the file, and is compared. Both run in
//! the directory of the files, whose names in the file are relative.

mod actions;
mod ends;
mod files;
mod known;
mod newer;
mod shapes;
mod shown;

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use crate::support::{
    Cluster, Raw,
    cluster::free_port,
    janitor::Janitor,
    messages::query,
    process::LoggingChild,
    programs::{bound_to_this_thread, give_to_postgres, minor_version, pgbouncer},
    reply::{self, PgError},
};
use files::{FILE, MORE, NEWER, NEWEST, NEWEST_ENTRIES, ROLES, RULES, USERS};
use known::Known;

const STARTS: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(10);
const ATTEMPTS: usize = 20;
/// The first versions whose settings are in [`NEWER`] and [`NEWEST`].
const HAS_NEWER: u32 = 24;
const HAS_NEWEST: u32 = 26;

/// One of the two.
struct Side {
    process: LoggingChild,
    port: u16,
    dir: TempDir,
    /// Where PostgreSQL's socket is, and its own.
    sockets: String,
    _janitor: Janitor,
}

impl Side {
    fn start(cluster: &Cluster, name: &str, ready: &str, (text, command): (&str, impl Fn() -> Command)) -> Side {
        let sockets = cluster.socket_dir().display().to_string();
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("pgpool-ini-").tempdir().unwrap();
            let janitor = Janitor::watch(dir.path());
            give_to_postgres(dir.path());
            let port = free_port();
            let filled = |text: &str| {
                let text = text.replace("SERVER", &cluster.port().to_string()).replace("LISTEN", &port.to_string());
                text.replace("SOCKETS", &sockets)
            };
            let files = [("pgbouncer.ini", text), ("more.ini", MORE), ("userlist.txt", USERS), ("hba.conf", RULES)];
            for (file, text) in files {
                fs::write(dir.path().join(file), filled(text)).unwrap();
            }
            let mut command = command();
            command.current_dir(dir.path()).arg("pgbouncer.ini");
            let process = LoggingChild::spawn(name, command);
            if process.try_wait_for_log(0, ready, STARTS).is_ok() && process.log().contains("listening on 127") {
                return Side { process, port, dir, sockets: sockets.clone(), _janitor: janitor };
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

/// What pgpool and what PgBouncer came to, by what was done.
type Differences = BTreeMap<String, (String, String)>;

/// Both, with the second number of PgBouncer's version.
struct Pair {
    _cluster: Cluster,
    ours: Side,
    theirs: Side,
    minor: u32,
}

impl Pair {
    /// `None` where there is no PgBouncer.
    fn start() -> Option<Pair> {
        let program = pgbouncer()?;
        let minor = minor_version(&program);
        let text = match minor {
            HAS_NEWEST.. => [FILE, NEWEST, NEWER, NEWEST_ENTRIES].concat(),
            HAS_NEWER.. => [FILE, NEWER].concat(),
            _ => FILE.to_owned(),
        };
        let cluster = Cluster::start();
        for role in ROLES {
            cluster.sql("app", &format!("create role {role} login password '{role}pw'"));
        }
        let theirs = Side::start(&cluster, "pgbouncer", "process up", (&text, || bound_to_this_thread(&program)));
        let pgpool = Path::new(env!("CARGO_BIN_EXE_pgpool"));
        let ours = Side::start(&cluster, "pgpool", "process up", (&text, || bound_to_this_thread(pgpool)));
        Some(Pair { _cluster: cluster, ours, theirs, minor })
    }

    /// What both come to, where they differ.
    fn differences<'a>(&self, questions: impl IntoIterator<Item = (&'a str, impl Fn(&Side) -> String)>) -> Differences {
        let mut differences = Differences::new();
        for (name, question) in questions {
            // Seen where a test fails.
            eprintln!("{name}");
            let (ours, theirs) = (question(&self.ours), question(&self.theirs));
            if ours != theirs {
                differences.insert(name.to_owned(), (ours, theirs));
            }
        }
        differences
    }

    /// The differences are those of a list, as far as it is about this version.
    fn assert_known(&self, differences: &Differences, list: &[Known]) {
        let told = self.unknown(differences, list);
        assert!(told.is_empty(), "of PgBouncer 1.{}:{told}", self.minor);
    }

    /// The others, and those of the list that are none; nothing where all is known.
    fn unknown(&self, differences: &Differences, list: &[Known]) -> String {
        let of_this = list.iter().inspect(|known| assert!(!known.why.is_empty()));
        let of_this = of_this.filter(|known| known.is_of(self.minor));
        let known: BTreeMap<_, _> = of_this.map(|known| (known.what, (known.ours, known.theirs))).collect();
        let mut told = String::new();
        for (what, (ours, theirs)) in differences {
            if known.get(what.as_str()) != Some(&(ours.as_str(), theirs.as_str())) {
                let _ = write!(told, "\n{what}\n  pgpool    {ours}\n  PgBouncer {theirs}");
            }
        }
        for what in known.keys().filter(|what| !differences.contains_key(**what)) {
            let _ = write!(told, "\n{what}: does not differ any more");
        }
        told
    }
}

/// What came of something, as text.
fn outcome(result: Result<String, PgError>) -> String {
    match result {
        Ok(value) => value,
        Err(error) => format!("{} {}: {}", error.severity, error.code, error.message),
    }
}

/// All messages up to ReadyForQuery, or to the end: a client may be sent away.
fn answer(client: &mut Raw, bytes: &[u8]) -> Vec<reply::Message> {
    client.send(bytes);
    let mut answer = Vec::new();
    while let Some(message) = client.read_or_eof() {
        let ready = message.tag == b'Z';
        answer.push(message);
        if ready {
            break;
        }
    }
    answer
}

/// The first row that a query answers.
fn ask(client: &mut Raw, sql: &str) -> Result<String, PgError> {
    let rows = reply::rows(&answer(client, &query(sql)))?;
    let values = rows.first().map(|row| row.iter().map(|value| value.clone().unwrap_or_default()).collect::<Vec<_>>());
    Ok(values.unwrap_or_default().join(" "))
}

/// What is done, and how.
type Action = (&'static str, fn(&Side) -> Result<String, PgError>);

#[test]
fn clients_and_the_console_fare_the_same() {
    let Some(pair) = Pair::start() else { return };
    let newer = if pair.minor >= HAS_NEWER { newer::ACTIONS } else { &[] };
    let newest = if pair.minor >= HAS_NEWEST { newer::NEWEST } else { &[] };
    let all = actions::ACTIONS.iter().chain(newer).chain(newest);
    let differences = pair.differences(all.map(|(name, action)| (*name, |side: &Side| outcome(action(side)))));
    pair.assert_known(&differences, known::ACTIONS);
}
