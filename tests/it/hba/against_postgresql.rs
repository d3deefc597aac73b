//! The same rules in PostgreSQL and in pgpool: whether a line is one, and what a client is asked for or told.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use pgpool::hba::{Fault, Files, Mistake, read_rules};

use super::{Rules, generate, system_user};
use crate::support::{Cluster, Pooler, Raw, eventually, random::Random};

const SOON: Duration = Duration::from_secs(10);
const FILES: u64 = 40;
const ROUNDS: u64 = 10;
/// What lets the test itself in.
const PRELUDE: &str = "local all postgres trust\nhost pgbouncer postgres all trust\n";

const USERS: [&str; 4] = ["alice", "bob", "carol", "trusty"];

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }
}

fn dialect(cluster: &Cluster) -> generate::Dialect {
    let version: u32 = cluster.sql("postgres", "show server_version_num").parse().unwrap();
    generate::Dialect { expressions: version >= 160_000 }
}

/// What pgpool refuses on purpose and PostgreSQL takes.
fn on_purpose(mistake: &Mistake) -> bool {
    match mistake {
        Mistake::OpenQuote | Mistake::Dialect { .. } | Mistake::Scope(_) | Mistake::Mapped { .. } => true,
        // To PostgreSQL these are host names, which nobody can have.
        Mistake::Address(text) => text.is_empty() || text.contains(['=', '+', ':']),
        _ => false,
    }
}

#[test]
fn hba_lines_are_good_or_bad_as_in_postgresql() {
    let random = Random::announced();
    let cluster = Cluster::start();
    let dialect = dialect(&cluster);
    let file = cluster.data_dir().join("pg_hba.conf");
    let mut seen = (0, 0);
    for number in 0..FILES {
        let mut random = random.part(number);
        let text: String = (0..30).map(|_| generate::doubtful(&mut random, dialect) + "\n").collect();
        let text = format!("{PRELUDE}{text}");
        // PostgreSQL goes by what it has read; the view reads the file.
        fs::write(&file, &text).unwrap();
        let query = "select line_number, error from pg_hba_file_rules where error is not null \
                     and error !~ 'cannot match because (SSL is disabled|GSSAPI)' order by 1";
        let theirs = cluster.sql("postgres", query);
        let theirs: BTreeSet<usize> = theirs.lines().filter_map(|line| line.split('|').next()?.parse().ok()).collect();
        let faults = read_rules(&file, &Disk).err().unwrap_or_default();
        let bad = |faults: Vec<&Fault>| faults.iter().filter_map(|fault| fault.line).collect::<BTreeSet<usize>>();
        let ours = bad(faults.iter().collect());
        let without_reason = bad(faults.iter().filter(|fault| !on_purpose(&fault.mistake)).collect());
        // Lines with methods that only PostgreSQL has refuse here, and what follows the method is not read.
        let others = ["ident", "gss", "sspi", "radius", "bsd", "oauth"];
        let theirs_alone = |number: &usize| {
            let line = text.lines().nth(number - 1).unwrap_or_default();
            line.split_whitespace().any(|word| others.contains(&word.trim_matches('"')))
        };
        let differ = theirs.difference(&ours).chain(without_reason.difference(&theirs));
        let differ: Vec<_> = differ.filter(|number| !theirs_alone(number)).collect();
        assert!(
            differ.is_empty(),
            "lines {differ:?} of\n{text}\nours: {faults:#?}\ntheirs: {}",
            cluster.sql("postgres", query)
        );
        seen = (seen.0 + ours.len(), seen.1 + text.lines().count());
    }
    eprintln!("{} of {} lines were bad", seen.0, seen.1);
    assert!(seen.0 > 100 && seen.0 < seen.1, "the generator has become one-sided");
}

/// What a client hears first: what it is asked for, or the error.
fn first_word(mut client: Raw, user: &str, database: &str) -> String {
    client.startup(&[("user", user), ("database", database)]);
    let message = client.read();
    match message.tag {
        b'R' => format!("request {}", u32::from_be_bytes(message.body[..4].try_into().unwrap())),
        _ => {
            let error = message.error();
            format!("{} {} {}", error.severity, error.code, error.message)
        }
    }
}

#[test]
fn hba_clients_hear_the_same_from_pgpool_and_postgresql() {
    let random = Random::announced();
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database alice");
    cluster.sql("postgres", "alter role trusty superuser password 'trustypw'");
    cluster.sql(
        "postgres",
        "create role staff; create role crew noinherit in role staff; grant crew to alice; create role app; \
         grant app, alice to bob; grant postgres to carol",
    );
    let dialect = dialect(&cluster);
    let map = format!("m {} alice\nm {0} trusty\n", system_user());
    let files = Rules::new(PRELUDE, &map);
    fs::write(cluster.data_dir().join("pg_ident.conf"), &map).unwrap();
    // Whoever is let in gets at PostgreSQL.
    let target =
        format!("host = \"{}\"\nport = {}\nuser = \"postgres\"\n", cluster.socket_dir().display(), cluster.port());
    let asks = "auth_user = \"postgres\"\nauth_dbname = \"app\"\n";
    let entry = format!("[databases.app]\n{target}[databases.\"*\"]\n{target}");
    // What is stored decides what a client is asked for.
    let secret = |user: &str| {
        let stored = cluster.sql("postgres", &format!("select rolpassword from pg_authid where rolname = '{user}'"));
        format!("[users.{user}]\npassword = \"{stored}\"\n")
    };
    let users: String = USERS.map(secret).concat();
    let pooler = Pooler::with_workers(&cluster, 1, &format!("{}{asks}{entry}{users}", files.settings()));
    let loaded = || cluster.sql("postgres", "select pg_conf_load_time()");
    let mut heard = BTreeSet::new();
    for number in 0..ROUNDS {
        let mut random = random.part(number);
        let lines: String = (0..8).map(|_| generate::good(&mut random, dialect) + "\n").collect();
        let text = format!("{PRELUDE}{lines}");
        fs::write(cluster.data_dir().join("pg_hba.conf"), &text).unwrap();
        let before = loaded();
        cluster.reload();
        eventually(SOON, "PostgreSQL has read its files", || loaded() != before);
        files.write("pg_hba.conf", &text);
        pooler.console().query("RELOAD").unwrap();
        for (user, database) in
            USERS.iter().flat_map(|user| ["app", "postgres", "alice"].map(|database| (*user, database)))
        {
            for source in [None, Some("127.0.0.1"), Some("127.0.0.2")] {
                let theirs = match source {
                    None => Raw::connect_unix(&cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()))),
                    Some(source) => Raw::connect_from(source, cluster.port()),
                };
                let ours = match source {
                    None => Raw::connect_unix(pooler.socket()),
                    Some(source) => Raw::connect_from(source, pooler.port()),
                };
                let (theirs, ours) = (first_word(theirs, user, database), first_word(ours, user, database));
                assert_eq!(ours, theirs, "{user} to {database} from {source:?} with\n{text}");
                heard.insert(theirs.split(' ').take(4).collect::<Vec<_>>().join(" "));
            }
        }
    }
    eprintln!("{heard:#?}");
    assert!(heard.len() >= 5, "the generator has become one-sided: {heard:?}");
}
