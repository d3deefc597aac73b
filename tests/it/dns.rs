//! Host names by a `resolv_conf`, and connections that follow the serial of their name's zone.

use std::{fs, path::PathBuf, time::Duration};

use tempfile::TempDir;

use crate::support::{
    Cluster, Manners, Nameserver, Pooler, Raw, Table, eventually, messages, pooler, programs::give_to_postgres,
};

const SOON: Duration = Duration::from_secs(20);
const WHERE: &str = "select host(inet_server_addr())";

/// A nameserver whose zone `a.test` has `db.a.test` at 127.0.0.1, and a resolv.conf that names it.
struct Names {
    server: Nameserver,
    dir: TempDir,
}

impl Names {
    fn start() -> Self {
        let server = Nameserver::start();
        server.has_zone("a.test", 1);
        server.has_host("db.a.test", &["127.0.0.1"]);
        let dir = tempfile::Builder::new().prefix("pgpool-dns-").tempdir().expect("make a directory");
        let names = Self { server, dir };
        names.write(&names.server.line());
        give_to_postgres(names.dir.path());
        names
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), format!("{text}options timeout:2\n")).expect("write resolv.conf");
    }

    /// Settings with it, and an entry `named` for `host`.
    fn settings(&self, cluster: &Cluster, host: &str, more: &str) -> String {
        format!(
            "resolv_conf = \"{}\"\n{more}\n[databases.named]\nhost = \"{host}\"\nport = {}\ndbname = \"app\"\n",
            self.file().display(),
            cluster.port()
        )
    }

    /// Waits until the serial of `zone` has been asked for that often, from now on.
    fn wait_for_questions(&self, zone: &str, count: usize) {
        self.server.asked();
        let mut seen = 0;
        eventually(SOON, "the serial is asked for", || {
            seen += self.server.asked().iter().filter(|(name, kind, _)| (&**name, &**kind) == (zone, "SOA")).count();
            seen >= count
        });
    }
}

fn shown(pooler: &Pooler, what: &str) -> Table {
    Table::of(&mut pooler.console(), what)
}

/// SHOW DNS_ZONES in a line.
fn zones(pooler: &Pooler) -> String {
    let table = shown(pooler, "show dns_zones");
    assert_eq!(table.columns, ["zonename", "serial", "count"]);
    let line = |row: &Vec<Option<String>>| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    table.rows.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn addresses(pooler: &Pooler, host: &str) -> String {
    shown(pooler, "show dns_hosts").matching(&[("hostname", host)]).value("addrs")
}

fn listed(pooler: &Pooler, list: &str) -> u64 {
    shown(pooler, "show lists").matching(&[("list", list)]).number("items")
}

fn login(pooler: &Pooler) -> Raw {
    pooler.login("alice", "alicepw", "named")
}

#[test]
fn connections_follow_a_zone_with_another_serial() {
    let one = Cluster::start();
    let _other = Cluster::builder().beside(&one, "127.0.0.2").start();
    let names = Names::start();
    let settings = |period: &str| {
        names.settings(&one, "db.a.test", &format!("dns_max_ttl = 3600\ndns_zone_check_period = {period}"))
    };
    let pooler = Pooler::trusting(&one, 2, &settings("0.5"));
    let mut client = login(&pooler);
    assert_eq!(client.value(WHERE), "127.0.0.1");
    let mut busy = login(&pooler);
    busy.query("begin").unwrap();
    assert_eq!(busy.value(WHERE), "127.0.0.1");
    eventually(SOON, "the zone is known", || zones(&pooler) == "a.test 1 1");
    assert_eq!((listed(&pooler, "dns_names"), listed(&pooler, "dns_zones")), (1, 1));
    let host = shown(&pooler, "show dns_hosts").matching(&[("hostname", "db.a.test")]);
    assert_eq!(host.value("addrs"), "127.0.0.1:0");
    assert!((3500..=3600).contains(&host.number("ttl")), "{host:?}");

    names.server.has_host("db.a.test", &["127.0.0.2"]);
    names.wait_for_questions("a.test", 2);
    assert_eq!(client.value(WHERE), "127.0.0.1", "the answer counts for an hour");

    names.server.has_zone("a.test", 2);
    eventually(SOON, "connections go where the name leads now", || client.value(WHERE) == "127.0.0.2");
    assert_eq!((zones(&pooler), addresses(&pooler, "db.a.test")), ("a.test 2 1".into(), "127.0.0.2:0".into()));
    assert_eq!(busy.value(WHERE), "127.0.0.1", "a transaction is not interrupted");
    busy.query("commit").unwrap();
    assert_eq!(busy.value(WHERE), "127.0.0.2");
    pooler.wait_for_log("zone has another serial zone=\"a.test\" before=1 serial=2", SOON);

    let mark = pooler.reload(&one, &format!("[pgpool]\nworker_threads = 2\nauth_type = \"trust\"\n{}", settings("0")));
    pooler.wait_for_log_since(mark, "configuration reloaded", SOON);
    eventually(SOON, "zones are not followed any more", || zones(&pooler).is_empty());
    names.server.asked();
    assert_eq!(listed(&pooler, "dns_zones"), 0);
    pooler.console().query("set dns_zone_check_period = '500ms'").unwrap();
    eventually(SOON, "they are again", || zones(&pooler) == "a.test 2 1");
}

#[test]
fn a_zone_that_cannot_be_asked_is_said_once() {
    let cluster = Cluster::start();
    let names = Names::start();
    names.server.behaves(Manners::HidesZones);
    let settings = names.settings(&cluster, "db.a.test", "dns_max_ttl = 3600\ndns_zone_check_period = \"200ms\"");
    let settings = format!("[pgpool]\nauth_type = \"trust\"\n{settings}");
    let pooler = Pooler::start_with(&cluster, &settings, &["-v"]);
    assert_eq!(login(&pooler).value("select 1"), "1");
    names.wait_for_questions("db.a.test", 6);
    assert_eq!(zones(&pooler), "a.test 0 1", "as PgBouncer shows what it does not know");
    names.server.behaves(Manners::Answers);
    eventually(SOON, "the zone is known", || zones(&pooler) == "a.test 1 1");
    names.server.behaves(Manners::HidesZones);
    names.wait_for_questions("a.test", 6);
    assert_eq!(zones(&pooler), "a.test 1 1", "what was known last");
    names.server.behaves(Manners::Answers);
    pooler.wait_for_log("the zone's serial is told again", SOON);
    let log = pooler.log();
    for complaint in ["cannot find the zone of a host name", "cannot ask for the zone's serial"] {
        assert_eq!(log.matches(complaint).count(), 1, "{complaint}");
    }
    let port = names.server.port();
    assert!(log.contains(&format!("host=\"db.a.test\" error=nameserver 127.0.0.1:{port} answers: Server Failure")));
    assert!(!log.contains("querying"), "what libraries tell in passing is not logged");
}

#[test]
fn a_resolv_conf_completes_names_and_leaves_the_hosts_file_in_force() {
    let cluster = Cluster::start();
    let names = Names::start();
    names.write(&format!("search b.test a.test\n{}", names.server.line()));
    names.server.has_zone("b.test", 1);
    names.server.has_zone(".", 1);
    let more = format!(
        "[databases.local]\nhost = \"localhost\"\nport = {port}\ndbname = \"app\"\n\
         [databases.lost]\nhost = \"no\"\nport = {port}\n",
        port = cluster.port()
    );
    let pooler = Pooler::trusting(&cluster, 1, &format!("{}{more}", names.settings(&cluster, "db", "")));
    assert_eq!(login(&pooler).value(WHERE), "127.0.0.1");
    assert_eq!(addresses(&pooler, "db"), "127.0.0.1:0");
    names.server.asked();
    assert_eq!(pooler.login("alice", "alicepw", "local").value(WHERE), "127.0.0.1");
    assert!(names.server.asked().iter().all(|(name, ..)| !name.contains("localhost")));
    let mut lost = Raw::connect(pooler.port());
    lost.startup(&[("user", "alice"), ("database", "lost")]);
    pooler.wait_for_log("no such host name", SOON);
    let asked: Vec<String> = names.server.asked().into_iter().map(|(name, ..)| name).collect();
    assert!(["no.b.test", "no.a.test", "no"].iter().all(|name| asked.iter().any(|asked| asked == name)), "{asked:?}");
}

#[test]
fn a_name_that_no_entry_has_any_more_is_forgotten() {
    let cluster = Cluster::start();
    let names = Names::start();
    names.server.has_host("new.a.test", &["127.0.0.1"]);
    let settings = |host: &str| names.settings(&cluster, host, "dns_max_ttl = 1\ndns_zone_check_period = 1");
    let pooler = Pooler::trusting(&cluster, 1, &settings("db.a.test"));
    let mut client = login(&pooler);
    assert_eq!(client.value(WHERE), "127.0.0.1");
    eventually(SOON, "the zone is known", || zones(&pooler) == "a.test 1 1");
    let hosts = || shown(&pooler, "show dns_hosts").column("hostname");
    assert_eq!(hosts(), ["db.a.test"]);
    pooler
        .reload(&cluster, &format!("[pgpool]\nworker_threads = 1\nauth_type = \"trust\"\n{}", settings("new.a.test")));
    eventually(SOON, "the new name is known and the old one is not", || {
        client.value("select 1");
        hosts() == ["new.a.test"]
    });
    eventually(SOON, "the same for their zones", || zones(&pooler) == "a.test 1 1");
}

#[test]
fn what_is_wrong_with_a_resolv_conf_is_said_where_it_is_named() {
    let cluster = Cluster::start();
    let names = Names::start();
    let dir = tempfile::tempdir().unwrap();
    give_to_postgres(dir.path());
    let missing = dir.path().join("missing.conf");
    let broken = dir.path().join("broken.conf");
    let odd = dir.path().join("odd.conf");
    fs::write(&broken, "search a.test\nnameserver ns.a.test\n").unwrap();
    fs::write(&odd, format!("search a.test\noptions no-such\n{}", names.server.line())).unwrap();
    let toml = |file: &PathBuf| format!("[pgpool]\nresolv_conf = \"{}\"\n", file.display());
    let ini = |file: &PathBuf| format!("[pgbouncer]\nresolv_conf = {}\n", file.display());
    let run = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        pooler::run(&["check", path.to_str().unwrap()], SOON)
    };
    for (name, text) in [("pgpool.toml", &toml as &dyn Fn(&PathBuf) -> String), ("pgbouncer.ini", &ini)] {
        let checked = run(name, &text(&missing));
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let told = format!("{name}:2: cannot read resolv_conf {}: No such file or directory", missing.display());
        assert!(checked.stderr.contains(&told) && checked.stderr.contains("leave the setting out"), "{checked:?}");
        let checked = run(name, &text(&broken));
        assert_eq!(checked.code, Some(1), "{checked:?}");
        let about = format!("{name}:2: resolv_conf {}", broken.display());
        for told in [
            format!("{about}: it names no nameserver: add a line"),
            format!("{about}, line 2: `ns.a.test` is no address of a nameserver: write an IP address"),
        ] {
            assert!(checked.stderr.contains(&told), "{told}\n{checked:?}");
        }
        let checked = run(name, &text(&odd));
        let told = format!("{name}:2: resolv_conf {}, line 2: `options no-such` is not understood", odd.display());
        assert!(checked.code == Some(0) && checked.stdout.contains(&told), "{checked:?}");
        let checked = run(name, &text(&names.file()));
        assert!(checked.code == Some(0) && !checked.stdout.contains("resolv_conf"), "{checked:?}");
    }

    // A reload takes nothing over, be it the name of the file or what is in it.
    let pooler = Pooler::trusting(&cluster, 1, &names.settings(&cluster, "db.a.test", ""));
    let head = "[pgpool]\nworker_threads = 1\nauth_type = \"trust\"\n";
    let other = names.dir.path().join("other.conf");
    fs::copy(names.file(), &other).unwrap();
    let renamed = names.settings(&cluster, "db.a.test", "").replace("resolv.conf", "other.conf");
    let mark = pooler.reload(&cluster, &format!("{head}{renamed}"));
    let line = pooler.wait_for_log_since(mark, "resolv_conf was changed from", SOON);
    assert!(line.contains("this takes effect only at a restart"), "{line}");
    names.write(&format!("search a.test\n{}", names.server.line()));
    let mark = pooler.reload(&cluster, &format!("{head}{}", names.settings(&cluster, "db.a.test", "")));
    pooler.wait_for_log_since(mark, "the file of resolv_conf has changed: this takes effect only at a restart", SOON);
    names.write("nameserver x\n");
    let mark = pooler.reload(&cluster, &format!("{head}{}", names.settings(&cluster, "db.a.test", "")));
    pooler.wait_for_log_since(mark, "`x` is no address of a nameserver", SOON);
    assert_eq!(login(&pooler).value(WHERE), "127.0.0.1");
    let mut refused = pooler.console();
    refused.send(&messages::query("set resolv_conf = '/etc/resolv.conf'"));
    let notice = refused.read_until_ready().into_iter().find(|message| message.tag == b'N').expect("a warning");
    assert!(notice.error().message.contains("resolv_conf"), "{notice:?}");
}
