//! `target_session_attrs`: which of several servers is used, and what becomes of it when they change their roles.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::death::Load;
use crate::support::{
    Cluster, Pooler, Raw, Stop, Table, eventually, for_each_worker_count,
    programs::{postgres_bin_dir, unprivileged},
};

const SOON: Duration = Duration::from_secs(20);

fn entry(name: &str, hosts: [&Cluster; 2], more: &str) -> String {
    let ports = hosts.map(|host| host.port().to_string()).join(",");
    format!("[databases.{name}]\nhost = \"127.0.0.1,127.0.0.1\"\nport = \"{ports}\"\ndbname = \"app\"\n{more}\n")
}

fn wants(attrs: &str) -> String {
    format!("target_session_attrs = \"{attrs}\"")
}

fn login(pooler: &Pooler, database: &str) -> Raw {
    pooler.login("alice", "alicepw", database)
}

/// The ports that several connections of this entry lead to.
fn ports(pooler: &Pooler, database: &str) -> BTreeSet<u16> {
    let mut clients: Vec<_> = (0..4).map(|_| login(pooler, database)).collect();
    let port = |client: &mut Raw| {
        client.query("begin").unwrap();
        client.value("select inet_server_port()").parse().unwrap()
    };
    clients.iter_mut().map(port).collect()
}

#[test]
fn each_wish_gets_its_server() {
    let primary = Cluster::start();
    let standby = primary.standby();
    let both = [primary.port(), standby.port()];
    let wishes = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];
    let entries: String = wishes.iter().map(|wish| entry(wish, [&primary, &standby], &wants(wish))).collect();
    let mut pooler = Pooler::trusting(&primary, 1, &format!("default_pool_size = 4\n{entries}"));
    let (p, s) = (vec![primary.port()], vec![standby.port()]);
    for (wish, wanted) in wishes.iter().zip([&both.to_vec(), &p, &s, &p, &s, &s]) {
        assert_eq!(ports(&pooler, wish), BTreeSet::from_iter(wanted.iter().copied()), "{wish}");
    }
    // Without a standby the primary will do for one who only prefers it.
    drop(standby);
    eventually(SOON, "the primary does", || ports(&pooler, "prefer-standby") == BTreeSet::from([primary.port()]));
    assert!(pooler.is_running());
}

#[test]
fn a_promoted_standby_takes_over() {
    for_each_worker_count(|workers| {
        let mut primary = Cluster::start();
        let standby = primary.standby();
        let text = entry("app", [&primary, &standby], &wants("primary"));
        let pooler = Pooler::trusting(&primary, workers, &format!("default_pool_size = 4\n{text}"));
        let load = Load::start(pooler.port(), 12);
        load.wait_for_answers(200);
        let mut idle: Vec<_> = (0..5).map(|_| login(&pooler, "app")).collect();
        idle.iter_mut().for_each(|client| assert_eq!(client.value("select 1"), "1"));
        primary.stop(Stop::Fast);
        standby.promote();
        let promoted = Instant::now();
        load.wait_for_answers(200);
        eprintln!("served again {:?} after the promotion", promoted.elapsed());
        for client in &mut idle {
            assert_eq!(client.value("select inet_server_port()"), standby.port().to_string());
        }
        let seen = load.end();
        for codes in &seen {
            assert!(codes.len() <= 2 && codes.iter().all(|code| code == "57P01" || code == "08006"), "{seen:?}");
        }
        assert!(seen.iter().filter(|codes| !codes.is_empty()).count() <= 8, "more than were in flight: {seen:?}");
    });
}

#[test]
fn a_rolling_restart_behind_two_hosts_is_seen_only_by_those_in_flight() {
    let (mut one, mut other) = (Cluster::start(), Cluster::start());
    let text = entry("app", [&one, &other], "");
    let pooler = Pooler::trusting(&one, 2, &format!("default_pool_size = 4\n{text}"));
    let load = Load::start(pooler.port(), 12);
    load.wait_for_answers(200);
    let mut idle: Vec<_> = (0..5).map(|_| login(&pooler, "app")).collect();
    for round in 0..2 {
        let host = if round == 0 { &mut one } else { &mut other };
        host.stop(Stop::Fast);
        // It goes on while the host is away.
        load.wait_for_answers(200);
        idle.iter_mut().for_each(|client| assert_eq!(client.value("select 1"), "1"));
        host.start_again();
        load.wait_for_answers(200);
    }
    let seen = load.end();
    let all = seen.iter().flatten();
    assert!(all.clone().all(|code| code == "57P01" || code == "08006"), "{seen:?}");
    assert!(all.count() <= 16, "more than were in flight: {seen:?}");
}

#[test]
fn a_server_that_begins_to_refuse_writes_is_left() {
    let (one, other) = (Cluster::start(), Cluster::start());
    for cluster in [&one, &other] {
        cluster.sql("app", "create table t (x int); grant all on t to alice");
    }
    let balance = format!("load_balance_hosts = \"disable\"\n{}", wants("read-write"));
    let pooler =
        Pooler::trusting(&one, 1, &format!("default_pool_size = 4\n{}", entry("app", [&one, &other], &balance)));
    let mut clients: Vec<_> = (0..3).map(|_| login(&pooler, "app")).collect();
    clients.iter_mut().for_each(|client| drop(client.query("begin; insert into t values (1)").unwrap()));
    clients.iter_mut().for_each(|client| drop(client.query("commit").unwrap()));
    assert_eq!(one.sql("app", "select count(*) from t"), "3");

    // A client that wants to read only is no reason to look elsewhere.
    let refused = clients[0].query("begin read only; insert into t values (1)").unwrap_err();
    assert_eq!(refused.code, "25006");
    clients[0].query("rollback").unwrap();
    assert_eq!(clients[0].value("select inet_server_port()"), one.port().to_string());

    one.sql("postgres", "alter system set default_transaction_read_only = on");
    one.reload();
    eventually(SOON, "writes arrive elsewhere", || {
        clients.iter_mut().all(|client| client.query("insert into t values (2)").is_ok())
    });
    for client in &mut clients {
        assert_eq!(client.value("select inet_server_port()"), other.port().to_string());
    }
    assert_eq!(ports(&pooler, "app").len(), 1, "all of them have left");
}

#[test]
fn a_standby_that_is_promoted_is_left_by_those_who_want_one() {
    let primary = Cluster::start();
    let (one, other) = (primary.standby(), primary.standby());
    let balance = format!("load_balance_hosts = \"disable\"\n{}", wants("standby"));
    let pooler =
        Pooler::trusting(&primary, 1, &format!("default_pool_size = 2\n{}", entry("app", [&one, &other], &balance)));
    let mut client = login(&pooler, "app");
    assert_eq!(client.value("select inet_server_port()"), one.port().to_string());
    one.promote();
    eventually(SOON, "the other standby is used", || {
        client.value("select inet_server_port()") == other.port().to_string()
    });
}

#[test]
fn a_silent_connection_to_a_standby_that_was_promoted_answers_nobody() {
    let primary = Cluster::start();
    for wish in ["standby", "read-only"] {
        let (one, other) = (primary.standby(), primary.standby());
        let balance = format!("load_balance_hosts = \"disable\"\n{}", wants(wish));
        let text = entry("app", [&one, &other], &balance);
        let pooler = Pooler::trusting(&primary, 1, &format!("default_pool_size = 4\n{text}"));
        assert_eq!(ports(&pooler, "app"), BTreeSet::from([one.port()]), "{wish}");
        let mut clients: Vec<_> = (0..3).map(|_| login(&pooler, "app")).collect();
        let silent = Instant::now();
        one.promote();
        eventually(SOON, "they have been silent for a second", || silent.elapsed() > Duration::from_millis(1200));
        for client in &mut clients {
            assert_eq!(client.value("select inet_server_port()"), other.port().to_string(), "{wish}");
        }
        // One was asked; the others went with it.
        assert_eq!(pooler.log().matches("closing because: host is not what").count(), 4, "{}", pooler.log());
    }
}

#[test]
fn connections_go_back_to_a_standby_that_is_preferred() {
    for size in [1, 4] {
        let primary = Cluster::start();
        let mut standby = primary.standby();
        let text = entry("app", [&primary, &standby], &wants("prefer-standby"));
        let settings = format!("default_pool_size = {size}\nserver_login_retry = 1\n{text}");
        let pooler = Pooler::trusting(&primary, 1, &settings);
        let mut clients: Vec<_> = (0..size).map(|_| login(&pooler, "app")).collect();
        let mut are_at = |cluster: &Cluster| {
            clients.iter_mut().for_each(|client| drop(client.query("begin")));
            let port = cluster.port().to_string();
            let all = clients.iter_mut().all(|client| {
                client.query("select inet_server_port()").is_ok_and(|rows| rows[0][0].as_deref() == Some(&*port))
            });
            clients.iter_mut().for_each(|client| drop(client.query("rollback")));
            all
        };
        assert!(are_at(&standby), "{size}");
        standby.stop(Stop::Fast);
        eventually(SOON, "the primary will do", || are_at(&primary));
        // What is opened to look for a standby in vain is not kept.
        let looks = || pooler.log().matches("nobody needs it any more").count();
        eventually(SOON, "it was looked for", || size == 1 || looks() >= 2);
        assert!(backends(&pooler, "app") <= size);
        standby.start_again();
        eventually(SOON, "they are back", || are_at(&standby));
    }
}

#[test]
fn who_prefers_a_standby_leaves_one_that_is_promoted_for_another() {
    let primary = Cluster::start();
    let (one, other) = (primary.standby(), primary.standby());
    let balance = format!("load_balance_hosts = \"disable\"\n{}", wants("prefer-standby"));
    let text = entry("app", [&one, &other], &balance);
    let settings = format!("default_pool_size = 4\nserver_login_retry = 1\n{text}");
    let pooler = Pooler::trusting(&primary, 1, &settings);
    let mut client = login(&pooler, "app");
    assert_eq!(client.value("select inet_server_port()"), one.port().to_string());
    one.promote();
    eventually(SOON, "the other standby is used", || {
        client.value("select inet_server_port()") == other.port().to_string()
    });
    assert_eq!(ports(&pooler, "app"), BTreeSet::from([other.port()]));
}

/// How many connections this entry has.
fn backends(pooler: &Pooler, database: &str) -> usize {
    Table::of(&mut pooler.console(), "show servers").matching(&[("database", database)]).rows.len()
}

/// What a new client is told of its server.
fn told(pooler: &Pooler, database: &str) -> [String; 2] {
    let client = login(pooler, database);
    ["in_hot_standby", "default_transaction_read_only"].map(|name| client.parameters[name].clone())
}

/// Whether libpq takes a connection with this wish.
fn libpq_takes(pooler: &Pooler, database: &str, wish: &str) -> bool {
    let port = pooler.port();
    let target = format!("host=127.0.0.1 port={port} user=alice dbname={database} target_session_attrs={wish}");
    let psql = unprivileged(&postgres_bin_dir().join("psql"), "TERM").args(["-XAtc", "select 1", &target]).output();
    psql.unwrap().status.success()
}

/// The entries `node`, of this server alone.
fn node(cluster: &Cluster) -> String {
    format!("[databases.node]\nhost = \"127.0.0.1\"\nport = {}\ndbname = \"app\"\n", cluster.port())
}

#[test]
fn clients_are_told_what_the_server_is_now() {
    let primary = Cluster::start();
    let standby = primary.standby();
    let pooler = Pooler::trusting(&primary, 1, &node(&standby));
    assert_eq!(login(&pooler, "node").value("select 1"), "1");
    assert_eq!(told(&pooler, "node"), ["on", "off"]);
    assert!(libpq_takes(&pooler, "node", "standby") && !libpq_takes(&pooler, "node", "read-write"));
    // What came of a startup packet is remembered, too.
    let with_options = || {
        let mut client = Raw::connect(pooler.port());
        client.startup(&[("user", "alice"), ("database", "node"), ("statement_timeout", "9s")]);
        client.authenticate("alice", "alicepw").unwrap();
        client
    };
    assert_eq!(with_options().parameters["in_hot_standby"], "on");
    let mut connected = login(&pooler, "node");
    standby.promote();
    // Of the connection that is open nobody has asked anything since.
    eventually(SOON, "libpq takes it", || libpq_takes(&pooler, "node", "read-write"));
    assert_eq!(told(&pooler, "node"), ["off", "off"]);
    assert!(!libpq_takes(&pooler, "node", "standby"));
    assert_eq!(with_options().parameters["in_hot_standby"], "off");
    assert_eq!(connected.value("select pg_is_in_recovery()"), "f");
    connected.query("create temp table t (x int); drop table t").unwrap();
}

#[test]
fn clients_that_keep_their_connections_in_silence_hide_no_promotion() {
    let primary = Cluster::start();
    let standby = primary.standby();
    let session = format!("{}pool_mode = \"session\"\npool_size = 2\n", node(&standby));
    let pooler = Pooler::trusting(&primary, 1, &session);
    let mut silent = login(&pooler, "node");
    assert_eq!(silent.value("select pg_is_in_recovery()"), "t");
    standby.promote();
    eventually(SOON, "a new client is told", || told(&pooler, "node") == ["off", "off"]);
    // Where there is no room for a connection that could ask, the login does not wait for one.
    let mut other = login(&pooler, "node");
    assert_eq!(other.value("select pg_is_in_recovery()"), "f");
    let start = Instant::now();
    assert_eq!(told(&pooler, "node"), ["off", "off"]);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_changes_while_no_connection_is_open_is_asked_anew() {
    let mut primary = Cluster::start();
    let standby = primary.standby();
    let pooler = Pooler::trusting(&primary, 1, &node(&standby));
    assert_eq!(login(&pooler, "node").value("select 1"), "1");
    let servers = || Table::of(&mut pooler.console(), "show servers").rows.len();
    pooler.console().query("pause node").unwrap();
    assert_eq!(servers(), 0);
    standby.promote();
    // Nothing is asked while it is paused, and the login does not wait.
    let start = Instant::now();
    assert_eq!(told(&pooler, "node"), ["on", "off"]);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    pooler.console().query("resume node").unwrap();
    eventually(SOON, "libpq takes it", || libpq_takes(&pooler, "node", "read-write"));

    // Who asks for a default of his own has it, others the server's.
    standby.sql("postgres", "alter system set default_transaction_read_only = on");
    standby.reload();
    pooler.console().query("pause node").unwrap();
    pooler.console().query("resume node").unwrap();
    // A server that takes writes is not asked by a login; the next connection tells.
    assert_eq!(login(&pooler, "node").value("select 1"), "1");
    eventually(SOON, "the new default is told", || told(&pooler, "node") == ["off", "on"]);
    let mut client = Raw::connect(pooler.port());
    let own = [("user", "alice"), ("database", "node"), ("default_transaction_read_only", "off")];
    client.startup(&own);
    client.authenticate("alice", "alicepw").unwrap();
    assert_eq!(client.parameters["default_transaction_read_only"], "off");
    assert_eq!(client.value("show transaction_read_only"), "off");

    // A login needs no server once it is known.
    primary.stop(Stop::Fast);
    drop(standby);
    let start = Instant::now();
    assert_eq!(told(&pooler, "node"), ["off", "on"]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
