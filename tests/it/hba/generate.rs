//! Random lines of pg_hba.conf: good ones, and ones with a mistake.

use crate::support::random::Random;

/// What PostgreSQL 16 has and 15 has not may be used.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    pub(super) expressions: bool,
}

/// A line for the users and databases of the test's cluster, of what both PostgreSQL and pgpool have.
pub(super) fn good(random: &mut Random, dialect: Dialect) -> String {
    let kind =
        random.pick(&["local", "local", "host", "host", "host", "hostnossl", "hostssl", "hostnogssenc", "hostgssenc"]);
    let mut databases: Vec<&str> = vec![
        "all",
        "all",
        "app",
        "\"app\"",
        "postgres",
        "sameuser",
        "samerole",
        "samegroup",
        "\"all\"",
        "replication",
        "alice",
        "\"sameuser\"",
        "App",
    ];
    let mut users: Vec<&str> = vec![
        "all",
        "all",
        "alice",
        "bob",
        "\"carol\"",
        "trusty",
        "\"all\"",
        "\"+bob\"",
        "a\"lic\"e",
        "+staff",
        "+\"app\"",
        "+alice",
        "+nosuch",
    ];
    if dialect.expressions {
        databases.extend(["/^a", "/p+$", "\"/^(app|x,y)$\"", "/^[[:alpha:]]{3}$"]);
        users.extend(["/^[ab]", "/.*y$", "\"/^.{3,4}$\"", "/^(?:alice|x)$"]);
    }
    let mut line = format!("{kind} {} {}", list(random, &databases), list(random, &users));
    if kind != "local" {
        let address = random.pick(&[
            "all",
            "127.0.0.0/8",
            "127.0.0.1/32",
            "127.0.0.2/31",
            "127.0.0.1/0",
            "0.0.0.0/0",
            "127.0.0.2 255.255.255.255",
            "127.1.0.2 255.0.255.255",
            "10.0.0.0/8",
            "::1/128",
            "::/0",
            "::ffff:0:0/80",
            "samehost",
            "samenet",
            "localhost",
            "LocalHost",
            ".localdomain",
            "\"all\"",
        ]);
        line = format!("{line} {address}");
    }
    let method = match kind {
        "local" => random.pick(&[
            "trust",
            "reject",
            "md5",
            "password",
            "scram-sha-256",
            "peer",
            "peer map=m",
            "ident map=\"m\"",
        ]),
        "hostssl" => random.pick(&["trust", "md5 clientcert=verify-ca", "cert", "cert clientname=DN map=m"]),
        "hostgssenc" => random.pick(&["trust", "reject", "md5"]),
        _ => random.pick(&["trust", "reject", "md5", "password", "scram-sha-256"]),
    };
    let tail = random.pick(&["", "", "", " # comment", "\t", " \\\n"]);
    format!("{line} {method}{tail}")
}

fn list(random: &mut Random, names: &[&str]) -> String {
    let mut list = random.pick(names).to_owned();
    while random.once_in(3) {
        let comma = random.pick(&[",", ", ", ",,"]);
        list = format!("{list}{comma}{}", random.pick(names));
    }
    list
}

/// A line in which something may have been done to a good one.
pub(super) fn doubtful(random: &mut Random, dialect: Dialect) -> String {
    let line = good(random, dialect);
    let mut words: Vec<&str> = line.split(' ').collect();
    let at = random.below(words.len());
    match random.below(6) {
        0 => drop(words.remove(at)),
        1 => words.insert(at, words[random.below(words.len())]),
        2 | 3 => {
            words[at] = random.pick(&[
                "hots",
                "local,host",
                "trust,md5",
                "10.0.0.0/33",
                "10.0.0.0/x",
                "::1/129",
                "10.0.0.1",
                "255.255.255.0",
                "ff::",
                "example.com/8",
                "cert",
                "peer",
                "scram",
                "map=x",
                "map",
                "foo=bar",
                "clientcert=verify-full",
                "clientname=CN",
                "\"\"",
                "@missing",
                "samehost,all",
                "a,b",
                "#",
                "md5",
                "reject",
            ]);
        }
        4 => words.truncate(at),
        _ => {}
    }
    words.join(" ")
}
