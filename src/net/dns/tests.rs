//! What is asked of which nameserver, in which order, and what is made of the answers.

use std::time::Instant;

use super::*;
use crate::config::Remark;

/// The same nameserver as that of the integration tests.
#[path = "../../../tests/it/support/nameserver.rs"]
mod nameserver;

use nameserver::{Manners, Nameserver};

/// What asks these nameservers, by a file with these lines besides.
fn dns(servers: &[&Nameserver], more: &str) -> Arc<Dns> {
    let lines: String = servers.iter().map(|server| server.line()).collect();
    let (conf, remarks) = ResolvConf::parse(format!("{lines}{more}").as_bytes());
    assert_eq!(remarks, Vec::<Remark>::new());
    let mut dns = Dns::new(&conf);
    dns.hosts = HostsFile::at("/nonexistent/hosts".into());
    Arc::new(dns)
}

/// A nameserver with the zone `a.test`.
fn server() -> Nameserver {
    let server = Nameserver::start();
    server.has_zone("a.test", 7);
    server.has_host("db.a.test", &["10.0.0.1", "10.0.0.2"]);
    server
}

async fn addresses(dns: &Arc<Dns>, host: &str) -> String {
    match dns.resolve(host).await {
        Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

async fn zone(dns: &Arc<Dns>, host: &str) -> String {
    match dns.zone_of(host).await {
        Ok(Some(soa)) => format!("{} {}", soa.zone, soa.serial),
        Ok(None) => String::from("none"),
        Err(error) => error.to_string(),
    }
}

/// Names and types of the questions.
fn questions(server: &Nameserver) -> Vec<String> {
    server.asked().into_iter().map(|(name, kind, _)| format!("{name} {kind}")).collect()
}

#[tokio::test]
async fn addresses_of_both_families_are_asked_for() {
    let server = server();
    server.has_host("both.a.test", &["10.0.0.1", "10.0.0.1", "::1"]);
    server.has_host("_under_score.a.test", &["10.0.0.3"]);
    let asks = dns(&[&server], "");
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.1:0 10.0.0.2:0");
    let mut asked = questions(&server);
    asked.sort();
    assert_eq!(asked, ["db.a.test A", "db.a.test AAAA"]);
    assert_eq!(addresses(&asks, "_under_score.a.test.").await, "10.0.0.3:0");
    let both = addresses(&asks, "both.a.test").await;
    assert!(both == "[::1]:0 10.0.0.1:0" || both == "10.0.0.1:0 [::1]:0", "{both}");
    server.asked();
    let asks = dns(&[&server], "options no-aaaa\n");
    assert_eq!(addresses(&asks, "both.a.test").await, "10.0.0.1:0");
    assert_eq!(questions(&server), ["both.a.test A"]);
    let asks = dns(&[&server], "options single-request\n");
    addresses(&asks, "both.a.test").await;
    assert_eq!(questions(&server), ["both.a.test AAAA", "both.a.test A"]);
    assert_eq!(addresses(&asks, ".").await, "not a host name: it is empty");
    let long = format!("{}.test", "a".repeat(64));
    assert!(addresses(&asks, &long).await.starts_with("not a host name: "));
}

#[tokio::test]
async fn nothing_is_kept() {
    let server = server();
    let asks = dns(&[&server], "options no-aaaa\n");
    for address in ["10.0.0.3", "10.0.0.4"] {
        server.has_host("db.a.test", &[address]);
        assert_eq!(addresses(&asks, "db.a.test").await, format!("{address}:0"));
    }
    for serial in [3, 4] {
        server.has_zone("a.test", serial);
        assert_eq!(zone(&asks, "db.a.test").await, format!("a.test {serial}"));
        assert_eq!(addresses(&asks, "no.a.test").await, "no such host name");
    }
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn names_are_completed_as_resolv_conf_says() {
    let server = server();
    server.has_zone("b.test", 1);
    server.has_zone("test", 1);
    let asks = dns(&[&server], "search b.test a.test\noptions no-aaaa attempts:1\n");
    let asked = async |host: &str| {
        let found = addresses(&asks, host).await;
        let asked: Vec<String> = server.asked().into_iter().map(|(name, ..)| name).collect();
        (found, asked.join(" "))
    };
    let pair = |found: &str, asked: &str| (found.to_owned(), asked.to_owned());
    let found = "10.0.0.1:0 10.0.0.2:0";
    assert_eq!(asked("db").await, pair(found, "db.b.test db.a.test"));
    assert_eq!(asked("db.a.test").await, pair(found, "db.a.test"));
    server.has_host("x.y.a.test", &["10.0.0.9"]);
    assert_eq!(asked("x.y").await, pair("10.0.0.9:0", "x.y x.y.b.test x.y.a.test"), "which refuses what is not there");
    let refused = format!("nameserver 127.0.0.1:{} answers: Query Refused", server.port());
    assert_eq!(asked("db.").await, pair(&refused, "db"));
    assert_eq!(asked("localhost").await, pair("127.0.0.1:0", ""), "which is nobody's to say");
    assert_eq!(asked("no").await.1, "no.b.test no.a.test no");
    let asks = dns(&[&server], "search a.test\noptions no-aaaa ndots:2\n");
    assert_eq!(addresses(&asks, "no.test").await, "no such host name");
    assert_eq!(questions(&server), ["no.test.a.test A", "no.test A"]);
}

#[tokio::test]
async fn the_next_nameserver_is_asked_where_one_does_not_answer() {
    let (first, second) = (server(), server());
    second.has_host("db.a.test", &["10.0.0.8"]);
    let asks = dns(&[&first, &second], "options no-aaaa timeout:1 attempts:1\n");
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.1:0 10.0.0.2:0", "the first where it answers");
    first.behaves(Manners::Fails);
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.8:0");
    first.behaves(Manners::IsSilent);
    let start = Instant::now();
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.8:0");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    second.behaves(Manners::Fails);
    let failure = addresses(&asks, "db.a.test").await;
    assert_eq!(failure, format!("nameserver 127.0.0.1:{} answers: Server Failure", second.port()));
    first.behaves(Manners::Fails);
    second.asked();
    let stubborn = dns(&[&first, &second], "options no-aaaa attempts:3\n");
    addresses(&stubborn, "db.a.test").await;
    assert_eq!(questions(&second).len(), 3, "each attempt");

    // A domain that nothing is heard of is no reason to look in the next one.
    second.behaves(Manners::IsSilent);
    let asks = dns(&[&second], "search b.test a.test\noptions no-aaaa timeout:1 attempts:1\n");
    let failure = addresses(&asks, "db").await;
    assert!(failure.starts_with(&format!("no nameserver has answered (127.0.0.1:{}: ", second.port())), "{failure}");
    assert!(questions(&second).iter().all(|asked| asked == "db.b.test A"));
}

#[tokio::test]
async fn nameservers_take_turns_where_that_is_asked_for() {
    let (first, second) = (server(), server());
    let asks = dns(&[&first, &second], "options no-aaaa rotate\n");
    for _ in 0..4 {
        addresses(&asks, "db.a.test").await;
    }
    assert_eq!((first.asked().len(), second.asked().len()), (2, 2));
}

#[tokio::test]
async fn what_does_not_fit_comes_by_tcp() {
    let server = server();
    server.behaves(Manners::Cuts);
    let asks = dns(&[&server], "options no-aaaa\n");
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.1:0 10.0.0.2:0");
    let by_tcp: Vec<bool> = server.asked().into_iter().map(|(.., by_tcp)| by_tcp).collect();
    assert_eq!(by_tcp, [false, true]);
    server.behaves(Manners::Answers);
    let asks = dns(&[&server], "options no-aaaa use-vc\n");
    assert_eq!(addresses(&asks, "db.a.test").await, "10.0.0.1:0 10.0.0.2:0");
    assert!(server.asked().iter().all(|(.., by_tcp)| *by_tcp));
}

#[tokio::test]
async fn the_zone_is_the_one_that_the_name_is_in() {
    let server = server();
    server.has_zone("own.a.test", 9);
    server.has_host("own.a.test", &["10.0.0.1"]);
    server.has_host("x.deep.a.test", &["10.0.0.1"]);
    server.has_zone("else.test", 5);
    server.has_host("there.else.test", &["10.0.0.1"]);
    server.has_alias("alias.a.test", "there.else.test");
    let asks = dns(&[&server], "search b.test A.Test\n");
    server.has_zone("b.test", 1);
    server.has_zone("localdomain", 1);
    for (host, expected) in [
        ("db.a.test", "a.test 7"),
        ("DB.A.test", "a.test 7"),
        ("x.deep.a.test", "a.test 7"),
        ("own.a.test", "own.a.test 9"),
        ("no.a.test.", "a.test 7"),
        ("alias.a.test", "a.test 7"),
        ("a.test.", "a.test 7"),
        // Completed as for its addresses.
        ("db", "a.test 7"),
        ("nowhere", "b.test 1"),
        ("localhost", "none"),
        ("x.localdomain.", "localdomain 1"),
    ] {
        assert_eq!(zone(&asks, host).await, expected, "{host}");
    }
    server.asked();
    zone(&asks, "db.a.test").await;
    assert_eq!(questions(&server), ["db.a.test SOA"], "one question is enough");

    // Where the answer does not tell, the names above are asked about; the root is nobody's zone.
    server.behaves(Manners::IsTerse);
    assert_eq!(zone(&asks, "x.deep.a.test.").await, "a.test 7");
    assert_eq!(questions(&server), ["x.deep.a.test SOA", "deep.a.test SOA", "a.test SOA"]);
    server.behaves(Manners::Answers);
    server.has_zone(".", 1);
    assert_eq!(zone(&asks, "x.nowhere.").await, "none");
    server.behaves(Manners::HidesZones);
    assert!(zone(&asks, "db.a.test").await.ends_with("answers: Server Failure"));
}
