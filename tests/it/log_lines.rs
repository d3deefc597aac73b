//! `log_format = "pgbouncer"`: the same file and the same clients, and the same lines as PgBouncer's, but for ids, ports,
//! ages and times. What differs is in `known`, with the reason.

mod known;
mod side;

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use regex::Regex;
use rustls::version::TLS13;

use crate::support::{
    Cluster, Pki, Raw, messages,
    process::{LoggingChild, Signal},
    programs::{bound_to_this_thread, find, give_to_postgres, unprivileged},
    wait::holds_within,
};
use known::{LINES, WORDS, known};
use side::{OURS, STARTS, Side};

const SOON: Duration = Duration::from_secs(10);

fn both(cluster: &Cluster, pki: &Pki) -> Option<(Side, Side)> {
    let Some(program) = find("pgbouncer") else {
        eprintln!("PgBouncer is not installed: nothing to compare with");
        return None;
    };
    let theirs = Side::start(cluster, pki, "log_stats = 0\n", || unprivileged(&program, "KILL"));
    let ours = Side::start(cluster, pki, OURS, || bound_to_this_thread(Path::new(env!("CARGO_BIN_EXE_pgpool"))));
    Some((ours, theirs))
}

fn bye(mut client: Raw) {
    client.send(&messages::terminate());
    client.expect_eof();
}

/// Sends a query whose answer is that the client is sent away.
fn sent_away(mut client: Raw, sql: &str) {
    client.send(&messages::query(sql));
    client.expect_error();
}

type Action = (&'static str, fn(&Side, &Cluster, &Pki));

const ACTIONS: &[Action] = &[
    ("a login", |side, _, _| {
        let mut client = side.login("alice", "app");
        client.value("select 1");
        bye(client);
    }),
    ("a client that leaves", |side, _, _| drop(side.login("alice", "app").value("select 1"))),
    ("an unknown user", |side, _, _| side.refused("nobody", "x", "app")),
    ("a wrong password, by SCRAM", |side, _, _| side.refused("alice", "wrong", "app")),
    ("a wrong password, by MD5", |side, _, _| side.refused("bob", "wrong", "app")),
    ("a wrong password, in the clear", |side, _, _| side.refused("trusty", "wrong", "app")),
    ("an unknown database", |side, _, _| side.refused("alice", "alicepw", "nosuch")),
    ("an unknown user of an unknown database", |side, _, _| side.refused("nobody", "x", "nosuch")),
    ("a rule that rejects", |side, _, _| side.refused("alice", "alicepw", "rejected")),
    ("a stranger on the console", |side, _, _| side.refused("alice", "alicepw", "pgbouncer")),
    ("a disabled database", |side, _, _| {
        side.command("DISABLE disabled");
        side.refused("alice", "alicepw", "disabled");
        side.command("ENABLE disabled");
    }),
    ("too many clients", |side, _, _| {
        let mut console = side.login("postgres", "pgbouncer");
        console.query("SET max_client_conn = 1").unwrap();
        let mut client = Raw::connect(side.port);
        client.startup(&[("user", "alice"), ("database", "app")]);
        client.expect_error();
        console.query("SET max_client_conn = 100").unwrap();
        bye(console);
    }),
    ("a login without a user", |side, _, _| {
        let mut client = Raw::connect(side.port);
        client.startup(&[("database", "app")]);
        client.expect_error();
    }),
    ("a login by the Unix socket", |side, _, _| {
        let mut client = Raw::connect_unix(&side.dir.path().join(format!(".s.PGSQL.{}", side.port)));
        client.startup(&[("user", "alice"), ("database", "app")]);
        client.authenticate("alice", "").unwrap();
        client.value("select 1");
        bye(client);
    }),
    ("a login with TLS", |side, _, pki| {
        let mut client =
            Raw::login_tls(side.port, &std::sync::Arc::new(pki.client(&[&TLS13], None)), "alice", "alicepw");
        client.value("select 1");
        bye(client);
    }),
    ("a server behind a Unix socket", |side, _, _| {
        let mut client = side.login("alice", "socket");
        client.value("select 1");
        bye(client);
    }),
    ("a database that PostgreSQL does not have", |side, _, _| side.refused("alice", "alicepw", "missing")),
    ("a server that is away", |side, _, _| {
        let from = side.process.log().len();
        let mut client = Raw::connect(side.port);
        client.startup(&[("user", "trusty"), ("database", "away")]);
        client.send(&messages::password("trustypw"));
        side.process.wait_for_log(from, "closing because: connect failed", SOON);
    }),
    ("a cancel request with a wrong key", |side, _, _| Raw::cancel(side.port, &(1, vec![1, 2, 3, 4]))),
    ("KILL", |side, _, _| {
        let mut client = side.login("alice", "app");
        client.value("select 1");
        side.command("KILL app");
        client.expect_error();
        side.command("RESUME app");
    }),
    ("an idle connection that is ended", |side, cluster, _| {
        let mut client = side.login("alice", "app");
        let pid = client.value("select pg_backend_pid()");
        let from = side.process.log().len();
        cluster.sql("app", &format!("select pg_terminate_backend({pid})"));
        side.process.wait_for_log(from, " S-0x", SOON);
        bye(client);
    }),
    ("a connection that is ended in a transaction", |side, cluster, _| {
        let mut client = side.login("alice", "app");
        client.query("begin").unwrap();
        let pid = client.value("select pg_backend_pid()");
        cluster.sql("app", &format!("select pg_terminate_backend({pid})"));
        client.expect_error();
        while client.read_or_eof().is_some() {}
    }),
    ("a client that leaves in a transaction", |side, _, _| {
        let from = side.process.log().len();
        side.login("alice", "app").query("begin").map(drop).unwrap();
        side.process.wait_for_log(from, "client disconnect while server was not ready", SOON);
    }),
    ("query_wait_timeout", |side, _, _| {
        side.command("SET query_wait_timeout = 1");
        let mut holder = side.login("alice", "tiny");
        holder.query("begin").unwrap();
        sent_away(side.login("alice", "tiny"), "select 1");
        holder.query("commit").unwrap();
        bye(holder);
        side.command("SET query_wait_timeout = 120");
    }),
    ("query_timeout", |side, _, _| {
        side.command("SET query_timeout = 1");
        sent_away(side.login("alice", "app"), "select pg_sleep(60)");
        side.command("SET query_timeout = 0");
    }),
    ("idle_transaction_timeout", |side, _, _| {
        side.command("SET idle_transaction_timeout = 1");
        let mut client = side.login("alice", "app");
        client.query("begin").unwrap();
        client.expect_error();
        side.command("SET idle_transaction_timeout = 0");
    }),
    ("client_idle_timeout", |side, _, _| {
        side.command("SET client_idle_timeout = 1");
        let mut client = side.login("alice", "app");
        client.value("select 1");
        client.expect_error();
        side.command("SET client_idle_timeout = 0");
    }),
    ("server_idle_timeout", |side, _, _| {
        let mut client = side.login("alice", "app");
        client.value("select 1");
        let mut console = side.login("postgres", "pgbouncer");
        console.query("SET server_idle_timeout = 1").unwrap();
        assert!(holds_within(SOON, || console.query("SHOW SERVERS").unwrap().is_empty()));
        console.query("SET server_idle_timeout = 600").unwrap();
        bye(console);
        bye(client);
    }),
    ("server_lifetime", |side, _, _| {
        let mut client = side.login("alice", "app");
        client.value("select 1");
        let from = side.process.log().len();
        side.command("SET server_lifetime = 1");
        side.process.wait_for_log(from, "server lifetime over", SOON);
        side.command("SET server_lifetime = 3600");
        bye(client);
    }),
    ("PAUSE and RESUME", |side, _, _| {
        for command in ["PAUSE", "RESUME", "PAUSE app", "RESUME app", "RESUME app"] {
            side.command(command);
        }
    }),
    ("RECONNECT", |side, _, _| {
        let mut client = side.login("alice", "app");
        client.value("select 1");
        let from = side.process.log().len();
        side.command("RECONNECT app");
        side.process.wait_for_log(from, "database configuration changed", SOON);
        side.command("RECONNECT");
        side.command("WAIT_CLOSE");
        bye(client);
    }),
    ("commands that fail", |side, _, _| {
        side.command("SHOW NONSENSE");
        side.command("SET no_such_setting = 1");
        side.command("PAUSE nosuch");
    }),
    ("RELOAD", |side, _, _| side.command("RELOAD")),
    ("SIGHUP", |side, _, _| side.process.signal(Signal::HUP)),
    ("SIGUSR1 and SIGUSR2", |side, _, _| {
        let from = side.process.log().len();
        side.process.signal(Signal::USR1);
        side.process.wait_for_log(from, "got SIGUSR1", SOON);
        side.process.signal(Signal::USR2);
    }),
    ("SIGINT", |side, _, _| side.process.signal(Signal::INT)),
];

/// Lines without what differs from run to run, each with the other end of the client that it is about. Each has the shape
/// of PgBouncer's.
fn masked(log: &str) -> Vec<(String, String)> {
    let shape = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC \[\d+\] ((?:LOG|WARNING|ERROR|FATAL|DEBUG|NOISE) .*)$";
    let shape = Regex::new(shape).unwrap();
    let client = Regex::new(r" C-0x\S+ \S+@(\S+) ").unwrap();
    let masks = [
        (r"\b([CS])-0x[0-9a-f]{6,}: ", "$1-ID: "),
        (r"@(127\.0\.0\.1|unix|unix\(\d+\)):\d+ ", "@$1:PORT "),
        (r"@unix\(\d+\)", "@unix(PID)"),
        (r"listening on 127\.0\.0\.1:\d+", "listening on 127.0.0.1:PORT"),
        (r"\(from 127\.0\.0\.1:\d+\)", "(from ADDRESS)"),
        (r"\(age=\d+s\)$", "(age)"),
    ];
    let masks = masks.map(|(pattern, instead)| (Regex::new(pattern).unwrap(), instead));
    let mask = |line: String| masks.iter().fold(line, |line, (mask, to)| mask.replace_all(&line, *to).into_owned());
    let line = |line: &str| {
        let words = shape.captures(line).unwrap_or_else(|| panic!("not PgBouncer's shape: {line}"))[1].to_owned();
        let whose = client.captures(&words).map_or_else(String::new, |found| found[1].to_owned());
        (whose, mask(words))
    };
    log.lines().map(line).collect()
}

/// What is to be compared: the lines of each client, in their order, and those of the process; then all of servers, whose
/// order is nobody's promise, and which pgpool tries more often where they fail.
fn to_compare(log: &str) -> Vec<String> {
    let mut clients: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut servers = Vec::new();
    for (whose, line) in masked(log) {
        if LINES.iter().any(|(part, _)| line.contains(part)) {
            continue;
        }
        let line = known(&line);
        if line.contains(" S-ID: ") || line.contains("server login") {
            servers.push(line);
        } else {
            clients.entry(whose).or_default().push(line);
        }
    }
    servers.sort();
    servers.dedup();
    let mut all: Vec<String> = clients.into_values().map(|lines| lines.join("\n    ")).collect();
    all.sort();
    all.extend(servers);
    all
}

#[test]
fn lines_are_pgbouncers() {
    let (cluster, pki) = (Cluster::start(), Pki::with_server());
    let Some((ours, theirs)) = both(&cluster, &pki) else { return };
    let mut wrong = Vec::new();
    let mut compare = |what: &str, from: (usize, usize)| {
        let said = || (to_compare(&ours.process.log()[from.0..]), to_compare(&theirs.process.log()[from.1..]));
        if !holds_within(SOON, || {
            let (ours, theirs) = said();
            ours == theirs
        }) {
            let (ours, theirs) = said();
            wrong.push(format!(
                "{what}\n  pgpool:\n    {}\n  PgBouncer:\n    {}",
                ours.join("\n    "),
                theirs.join("\n    ")
            ));
        }
    };
    compare("the start", (0, 0));
    for (what, action) in ACTIONS {
        let from = (ours.process.log().len(), theirs.process.log().len());
        action(&theirs, &cluster, &pki);
        action(&ours, &cluster, &pki);
        compare(what, from);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    read_by_pgbadger(&ours.process.log(), &theirs.process.log());
    banned(&ours.process.log());
}

/// pgBadger counts the same logins and the same errors.
fn read_by_pgbadger(ours: &str, theirs: &str) {
    let Some(program) = find("pgbadger") else {
        eprintln!("pgBadger is not installed: nobody reads the lines");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let counts = |name: &str, log: &str| {
        let (file, report) = (dir.path().join(name), dir.path().join(format!("{name}.json")));
        fs::write(&file, log).unwrap();
        let status = Command::new(&program).args(["--quiet", "-x", "json", "-o"]).arg(&report).arg(&file).status();
        assert!(status.unwrap().success());
        let found: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        let errors = found["pgb_error_info"].as_object().unwrap().iter();
        let errors = errors.map(|(text, of)| (text.clone(), of["count"].as_u64().unwrap()));
        // How often a server that is away is tried is in `known`.
        let errors: BTreeMap<_, _> = errors.filter(|(text, _)| !WORDS.iter().any(|word| text.contains(word))).collect();
        let logins = ["count", "user", "host", "database", "database_user", "database_host"];
        (logins.map(|key| found["pgb_connection_info"][key].clone()), errors)
    };
    let (ours, theirs) = (counts("pgpool.log", ours), counts("pgbouncer.log", theirs));
    assert!(ours.0[0].as_u64().unwrap() > 20, "{ours:?}");
    assert!(ours.1.len() > 10, "{ours:?}");
    assert_eq!(ours, theirs);
}

/// What fail2ban looks for in PgBouncer's log finds the address of each failed login.
fn banned(log: &str) {
    let found = |pattern: &str| {
        let pattern = Regex::new(pattern).unwrap();
        log.lines().filter(|line| pattern.captures(line).is_some_and(|found| &found[1] == "127.0.0.1")).count()
    };
    let head = r"C-0x[0-9a-f]+: (?:\S+)/(?:\S+)@(\d+\.\d+\.\d+\.\d+):\d+ ";
    assert_eq!(found(&format!(r"{head}closing because: .*authentication failed \(age=\d+s\)$")), 5);
    assert_eq!(found(&format!(r" WARNING {head}pooler error: .*authentication failed$")), 5);
    assert_eq!(found(&format!(r"{head}no such user: ")), 2);
}

/// Waits for a stats line, with its numbers masked.
fn stats(side: &Side) -> String {
    let line = side.process.wait_for_log(0, "LOG stats: ", SOON);
    let words = line.split("LOG ").nth(1).unwrap().to_owned();
    Regex::new(r"\d+").unwrap().replace_all(&words, "N").into_owned()
}

#[test]
fn the_line_of_statistics_is_pgbouncers() {
    let (cluster, pki) = (Cluster::start(), Pki::with_server());
    let Some(program) = find("pgbouncer") else { return };
    let more = "log_stats = 1\nstats_period = 1\n";
    let ours = Side::start(&cluster, &pki, more, || bound_to_this_thread(Path::new(env!("CARGO_BIN_EXE_pgpool"))));
    let theirs = Side::start(&cluster, &pki, more, || unprivileged(&program, "KILL"));
    let (mut ours, theirs) = (stats(&ours), stats(&theirs));
    assert_eq!(
        ours,
        "stats: N xacts/s, N queries/s, N client parses/s, N server parses/s, N binds/s, in N B/s, out N B/s, xact N us, \
         query N us, wait N us"
    );
    if !theirs.contains("parses") {
        // Before 1.24.
        ours = ours.replace("N client parses/s, N server parses/s, N binds/s, ", "");
    }
    // Since 1.26.
    assert_eq!(ours, theirs.replace("N client logins/s, ", ""));
}

#[test]
fn a_toml_may_choose_it_and_the_zone_is_the_systems() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let file = dir.path().join("pgpool.toml");
    let text = format!(
        "[pgpool]\nlisten_addr = \"\"\nunix_socket_dir = {:?}\nlog_format = \"pgbouncer\"\nlogfile = \"log\"\n\
         [databases.app]\nhost = \"127.0.0.1\"\nport = {}\n",
        dir.path(),
        cluster.port()
    );
    fs::write(&file, text).unwrap();
    let mut command = bound_to_this_thread(Path::new(env!("CARGO_BIN_EXE_pgpool")));
    command.env("TZ", "XYZ-3").arg(&file);
    let process = LoggingChild::spawn("pgpool", command);
    let line = process.wait_for_log(0, "process up: pgpool ", STARTS);
    assert!(line.contains(&format!(" XYZ [{}] LOG process up", process.pid())), "{line}");
    let logged = || fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert!(holds_within(SOON, || logged().contains(&line)), "{}", logged());
}
