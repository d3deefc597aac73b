//! Entries with several hosts: which one a connection goes to, and what becomes of it when one of them is away.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Pooler, Raw, Stop, Table, eventually, messages};

const SOON: Duration = Duration::from_secs(10);

/// An entry `app` with these ports of 127.0.0.1.
fn entry(ports: &[u16], more: &str) -> String {
    let hosts = ["127.0.0.1"].repeat(ports.len()).join(",");
    let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    format!("[databases.app]\nhost = \"{hosts}\"\nport = \"{ports}\"\n{more}")
}

/// How many connections there are to each port.
fn servers(pooler: &Pooler) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for row in pooler.console().query("show servers").unwrap() {
        *counts.entry(row[6].as_ref().unwrap().parse().unwrap()).or_default() += 1;
    }
    counts
}

/// Clients that have a connection each.
fn holders(pooler: &Pooler, count: usize) -> Vec<Raw> {
    let mut clients: Vec<_> = (0..count).map(|_| pooler.login("alice", "alicepw", "app")).collect();
    clients.iter_mut().for_each(|client| drop(client.query("begin").unwrap()));
    clients
}

#[test]
fn connections_take_turns_or_stay() {
    let (mut one, other) = (Cluster::start(), Cluster::start());
    let ports = [one.port(), other.port()];
    let pooler = Pooler::trusting(&one, 1, &format!("default_pool_size = 4\n{}", entry(&ports, "")));
    let held = holders(&pooler, 4);
    assert_eq!(servers(&pooler), BTreeMap::from([(ports[0], 2), (ports[1], 2)]));
    let console = pooler.console().query("show databases").unwrap();
    let app = console.into_iter().find(|row| row[0].as_deref() == Some("app")).unwrap();
    assert_eq!(app[1], Some(format!("127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1])));
    assert_eq!(app[10].as_deref(), Some("round-robin"));
    drop(held);

    let disable = "load_balance_hosts = \"disable\"";
    let pooler = Pooler::trusting(&one, 1, &format!("default_pool_size = 4\n{}", entry(&ports, disable)));
    let held = holders(&pooler, 3);
    assert_eq!(servers(&pooler), BTreeMap::from([(ports[0], 3)]));
    drop(held);
    one.stop(Stop::Fast);
    let held = holders(&pooler, 2);
    assert_eq!(servers(&pooler), BTreeMap::from([(ports[1], 2)]));
    one.start_again();
    let more = holders(&pooler, 2);
    assert_eq!(servers(&pooler), BTreeMap::from([(ports[1], 4)]), "it stays where it went");
    drop((held, more));
}

#[test]
fn a_host_that_is_away_holds_up_nobody() {
    let cluster = Cluster::start();
    // Nobody ever answers there.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let gone = { TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port() };
    let ports = [gone, silent.local_addr().unwrap().port(), cluster.port()];
    let settings = format!("default_pool_size = 8\nserver_connect_timeout = 3\n{}", entry(&ports, ""));
    let pooler = Pooler::trusting(&cluster, 1, &settings);
    let start = Instant::now();
    let held = holders(&pooler, 2);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Now it is known who does not answer.
    let start = Instant::now();
    let more = holders(&pooler, 6);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(servers(&pooler), BTreeMap::from([(cluster.port(), 8)]));
    drop((held, more));
}

#[test]
fn a_host_that_refuses_the_login_is_left_out() {
    let (one, other) = (Cluster::start(), Cluster::builder().hba("host app alice 127.0.0.1/32 reject").start());
    let ports = [one.port(), other.port()];
    let pooler = Pooler::trusting(&one, 1, &format!("default_pool_size = 4\n{}", entry(&ports, "")));
    let held = holders(&pooler, 4);
    assert_eq!(servers(&pooler), BTreeMap::from([(ports[0], 4)]));
    assert!(pooler.log().contains("no connection to this host, trying the others"));
    drop(held);
}

#[test]
fn a_cancel_request_goes_to_the_host_of_its_query() {
    let (one, other) = (Cluster::start(), Cluster::start());
    let ports = [one.port(), other.port()];
    let pooler = Pooler::trusting(&one, 1, &entry(&ports, ""));
    let mut held = holders(&pooler, 4);
    for client in &mut held {
        let port = client.value("select inet_server_port()");
        let here = if port == one.port().to_string() { &one } else { &other };
        client.send(&messages::query("select pg_sleep(60)"));
        let running = "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'";
        eventually(SOON, "the query runs", || here.sql("postgres", running) == "1");
        Raw::cancel(pooler.port(), &client.backend_key.clone().unwrap());
        assert_eq!(client.read_until(b'E').pop().unwrap().error().code, "57014");
        client.read_until_ready();
    }
}

#[test]
fn the_names_that_were_looked_up_are_shown() {
    let cluster = Cluster::start();
    let entries = format!(
        "[databases.named]\nhost = \"localhost\"\nport = {port}\ndbname = \"app\"\n\
         [databases.nowhere]\nhost = \"nosuch.invalid\"\nport = {port}\n",
        port = cluster.port()
    );
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nauth_type = \"trust\"\n{entries}"));
    let shown = |what: &str| Table::of(&mut pooler.console(), what);
    assert!(shown("show dns_hosts").rows.is_empty());
    assert_eq!(pooler.login("alice", "alicepw", "named").value("select 1"), "1");
    let mut lost = Raw::connect(pooler.port());
    lost.startup(&[("user", "alice"), ("database", "nowhere")]);
    eventually(Duration::from_secs(10), "the failure is known", || shown("show dns_hosts").rows.len() == 2);
    let hosts = shown("show dns_hosts");
    assert_eq!(hosts.columns, ["hostname", "ttl", "addrs"]);
    let found = hosts.matching(&[("hostname", "localhost")]);
    assert!(found.value("addrs").split(',').any(|address| address == "127.0.0.1:0"), "{found:?}");
    assert!(found.number("ttl") <= 15, "{found:?}");
    assert_eq!(hosts.matching(&[("hostname", "nosuch.invalid")]).value("addrs"), "");
    assert_eq!(shown("show lists").matching(&[("list", "dns_names")]).number("items"), 2);
    assert!(shown("show dns_zones").rows.is_empty(), "they are not followed by default");
}

#[test]
fn a_name_without_an_address_is_told_in_pgbouncers_words() {
    let cluster = Cluster::start();
    let entry = "server_login_retry = 0.5\n[databases.nowhere]\nhost = \"nosuch.invalid\"\n";
    let pooler = Pooler::trusting(&cluster, 1, entry);
    let error = Raw::try_login(pooler.port(), "alice", "alicepw", "nowhere").err().unwrap();
    let (begin, end) =
        ("server login has been failing, cached error: server DNS lookup failed: ", " (server_login_retry)");
    assert!(error.message.starts_with(begin) && error.message.ends_with(end), "{error:?}");
    assert!(pooler.log().contains("error=server DNS lookup failed"), "{}", pooler.log());
}

#[test]
fn postgresql_behind_an_abstract_socket() {
    let name = format!("@pgpool-server-{}", std::process::id());
    let cluster = Cluster::builder().conf(&format!("unix_socket_directories = '{name}'")).start();
    let entry = format!("[databases.abstract]\nhost = \"{name}\"\nport = {}\ndbname = \"app\"\n", cluster.port());
    let pooler = Pooler::start(&cluster, &format!("[pgpool]\nauth_type = \"trust\"\n{entry}"));
    let mut client = pooler.login("alice", "alicepw", "abstract");
    assert_eq!(client.value("select inet_server_addr() is null"), "t");
    let host = Table::of(&mut pooler.console(), "show databases").matching(&[("name", "abstract")]).value("host");
    assert_eq!(host, name);
}
