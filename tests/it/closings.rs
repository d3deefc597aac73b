//! Why connections to PostgreSQL end, in the log: the same actions on pgpool and on PgBouncer, the same words.

use std::time::Duration;

use crate::support::{Cluster, Pooler, Raw, bouncer::Bouncer, messages, wait::holds_within};

const SOON: Duration = Duration::from_secs(10);
const SETTINGS: &str = "server_lifetime = 3600\nlog_stats = 0";

/// One of the two.
trait Side {
    fn at(&self) -> u16;
    fn commands(&self) -> Raw;
    fn said(&self) -> String;
}

impl Side for Pooler {
    fn at(&self) -> u16 {
        self.port()
    }

    fn commands(&self) -> Raw {
        self.console()
    }

    fn said(&self) -> String {
        self.log()
    }
}

impl Side for Bouncer {
    fn at(&self) -> u16 {
        self.port()
    }

    fn commands(&self) -> Raw {
        self.console()
    }

    fn said(&self) -> String {
        self.log()
    }
}

impl dyn Side + '_ {
    fn client(&self, user: &str) -> Raw {
        Raw::login(self.at(), user, &format!("{user}pw"), "app")
    }
}

/// What is done, and the reason that the connection's end then has.
type Action = (&'static str, fn(&dyn Side, &Cluster));

/// Which PgBouncer has clients do since 1.23.
const REPLICATES: &str = "evicted for pool_size";

const ACTIONS: &[Action] = &[
    ("server idle timeout", |side, _| {
        side.commands().query("SET server_idle_timeout = 1").unwrap();
        side.client("alice").value("select 1");
    }),
    ("server lifetime over", |side, _| {
        side.commands().query("SET server_idle_timeout = 600").unwrap();
        side.commands().query("SET server_lifetime = 1").unwrap();
        side.client("alice").value("select 1");
    }),
    ("pause mode", |side, _| {
        side.commands().query("SET server_lifetime = 3600").unwrap();
        side.client("alice").value("select 1");
        side.commands().query("PAUSE").unwrap();
        side.commands().query("RESUME").unwrap();
    }),
    ("database configuration changed", |side, _| {
        side.client("alice").value("select 1");
        side.commands().query("RECONNECT").unwrap();
    }),
    ("close_needed", |side, _| {
        let mut client = side.client("alice");
        client.query("begin").unwrap();
        side.commands().query("RECONNECT").unwrap();
        client.query("commit").unwrap();
    }),
    ("server conn crashed?", |side, cluster| {
        let pid = side.client("alice").value("select pg_backend_pid()");
        cluster.sql("app", &format!("select pg_terminate_backend({pid})"));
    }),
    ("evicted for max_db_connections", |side, _| {
        side.commands().query("SET max_db_connections = 1").unwrap();
        side.client("alice").value("select 1");
        side.client("bob").value("select 1");
        side.commands().query("SET max_db_connections = 0").unwrap();
    }),
    ("evicted for max_user_connections", |side, _| {
        side.commands().query("SET max_user_connections = 1").unwrap();
        side.client("alice").value("select 1");
        Raw::login(side.at(), "alice", "alicepw", "other").value("select 1");
        side.commands().query("SET max_user_connections = 0").unwrap();
    }),
    (REPLICATES, |side, _| {
        side.commands().query("SET default_pool_size = 1").unwrap();
        side.client("postgres").value("select 1");
        let mut replica = Raw::connect(side.at());
        replica.startup(&[("user", "postgres"), ("database", "app"), ("replication", "database")]);
        replica.authenticate("postgres", "postgrespw").unwrap();
        replica.query("IDENTIFY_SYSTEM").unwrap();
        side.commands().query("SET default_pool_size = 20").unwrap();
    }),
    ("client disconnect while server was not ready", |side, _| side.client("bob").query("begin").map(drop).unwrap()),
    ("query timeout", |side, _| {
        side.commands().query("SET query_timeout = 1").unwrap();
        let mut client = side.client("bob");
        client.send(&messages::query("select pg_sleep(60)"));
        client.expect_error();
    }),
    ("idle transaction timeout", |side, _| {
        side.commands().query("SET query_timeout = 0").unwrap();
        side.commands().query("SET idle_transaction_timeout = 1").unwrap();
        let mut client = side.client("bob");
        client.query("begin").unwrap();
        client.expect_error();
    }),
    ("database removed", |side, _| {
        side.commands().query("SET idle_transaction_timeout = 0").unwrap();
        side.client("bob").value("select 1");
        side.commands().query("KILL app").unwrap();
    }),
];

/// The reasons that the log gives for connections to PostgreSQL since a position, without their ages.
fn reasons(log: &str) -> Vec<String> {
    let of_server = |line: &&str| line.contains("LOG S-") || (line.contains("pid=") && !line.contains("client{"));
    let lines = log.lines().filter(|line| line.contains("closing because: ")).filter(of_server);
    let reason = |line: &str| Some(line.split("closing because: ").nth(1)?.split(" (age=").next()?.to_owned());
    lines.filter_map(reason).collect()
}

/// With a PgBouncer of this version, or one whose words are the same.
fn all_said(side: &dyn Side, cluster: &Cluster, minor: u32) {
    for (reason, action) in ACTIONS.iter().filter(|(reason, _)| *reason != REPLICATES || minor >= 23) {
        // Since 1.26 it says for what.
        let reason = if minor >= 26 { reason } else { reason.split(" for ").next().unwrap() };
        let before = side.said().len();
        action(side, cluster);
        let told = holds_within(SOON, || reasons(&side.said()[before..]).iter().any(|said| *said == reason));
        assert!(told, "{reason}: {:?}", reasons(&side.said()[before..]));
    }
}

#[test]
fn each_end_of_a_connection_is_logged_with_pgbouncers_reason() {
    let cluster = Cluster::start();
    let (settings, port) = (SETTINGS.replace(" = 0", " = false"), cluster.port());
    let entry = format!("[databases.other]\nhost = \"127.0.0.1\"\nport = {port}\ndbname = \"app\"");
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nclient_death_grace = 0\n{settings}\n{entry}"));
    all_said(&pooler, &cluster, 26);
    let age = pooler
        .log()
        .lines()
        .any(|line| line.contains("closing because: server lifetime over (age=") && line.contains("database=app"));
    assert!(age, "{}", pooler.log());
    let entry = format!("[databases]\nother = host=127.0.0.1 port={port} dbname=app");
    if let Some(bouncer) = Bouncer::start(&cluster, &format!("{SETTINGS}\nlog_disconnections = 1\n{entry}")) {
        all_said(&bouncer, &cluster, bouncer.minor());
    }
}

#[test]
fn nothing_is_said_of_ends_where_that_is_switched_off() {
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "[pgpool]\nlog_disconnections = false");
    let side: &dyn Side = &pooler;
    side.client("alice").value("select 1");
    side.commands().query("RECONNECT").unwrap();
    let mut client = side.client("alice");
    client.send(&messages::query("select 1"));
    client.read_until_ready();
    assert!(!pooler.log().contains("closing because"), "{}", pooler.log());
}
