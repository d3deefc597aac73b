//! Which rule counts, and which user of the system may be which user of the database.

use std::net::IpAddr;
use std::sync::Arc;

use super::{maps, rules};
use crate::hba::{
    CertificateError, Channel, ClientCertificate, Decision, Facts, HostName, IdentMaps, Interfaces, Memberships,
    Surroundings,
};

fn tcp(address: &str) -> Channel {
    Channel::Plain { peer: address.parse().unwrap() }
}

const LOCAL: Channel = Channel::Local { peer_uid: Some(0) };

fn tls(certificate: Option<ClientCertificate>) -> Channel {
    Channel::Tls { peer: IpAddr::from([10, 0, 0, 1]), certificate }
}

/// The line that counts, from 1; 0 = none.
fn line(text: &str, channel: &Channel, database: &str, user: &str) -> usize {
    let facts = Facts { channel, databases: &[database], user, replication: false };
    match rules(text).unwrap().decide(&facts, &Surroundings::default()) {
        Decision::Rule(rule) => rule.place.line,
        Decision::NoRule => 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_rule_that_fits_counts() {
    let text = "local app alice trust\nhost app,shop alice,bob 10.0.0.0/8 md5\nhost all carol ::/0 md5\n\
                hostssl all all all trust\nhostgssenc all all all trust\nhostnogssenc sameuser all 10.0.0.0/8 reject\n\
                host \"all\" \"all\" all md5\nhost /^t_[0-9]+$ /^a all md5\nhost all all 192.168.1.0 255.255.0.255 md5\n\
                host replication all all trust";
    let cases = [
        (LOCAL, "app", "alice", 1),
        (LOCAL, "app", "bob", 0),
        (tcp("10.1.2.3"), "app", "alice", 2),
        (tcp("::ffff:10.1.2.3"), "shop", "bob", 2),
        (tcp("11.1.2.3"), "app", "alice", 0),
        (tcp("10.1.2.3"), "App", "alice", 0),
        (tcp("10.1.2.3"), "x", "carol", 0),
        (tcp("fe80::1"), "x", "carol", 3),
        (tls(None), "x", "y", 4),
        (tls(None), "app", "alice", 2),
        (tcp("10.0.0.1"), "dave", "dave", 6),
        (tcp("11.0.0.1"), "all", "all", 7),
        (tcp("11.0.0.1"), "t_12", "anna", 8),
        (tcp("11.0.0.1"), "t_12x", "anna", 0),
        (tcp("11.0.0.1"), "t_12", "banna", 0),
        (tcp("192.168.77.0"), "x", "y", 9),
        (tcp("192.168.77.1"), "x", "y", 0),
        (tcp("11.0.0.1"), "replication", "y", 0),
    ];
    for (channel, database, user, expected) in cases {
        assert_eq!(line(text, &channel, database, user), expected, "{channel:?} {database} {user}");
    }
}

#[test]
fn an_empty_list_of_names_fits_nobody() {
    let files = super::Memory::of(&[("hba", "local @none all trust\nlocal all @none trust"), ("none", "")]);
    let rules = crate::hba::read_rules(std::path::Path::new("hba"), &files).unwrap();
    let facts = Facts { channel: &LOCAL, databases: &["all"], user: "all", replication: false };
    assert_eq!(rules.decide(&facts, &Surroundings::default()), Decision::NoRule);
}

#[test]
fn physical_replication_needs_its_keyword() {
    let decide = |text: &str| {
        let facts = Facts { channel: &LOCAL, databases: &["app"], user: "app", replication: true };
        matches!(rules(text).unwrap().decide(&facts, &Surroundings::default()), Decision::Rule(_))
    };
    assert!(decide("local replication all trust"));
    for other in ["all", "app", "sameuser", "/app", "\"replication\""] {
        assert!(!decide(&format!("local {other} all trust")), "{other}");
    }
}

#[test]
fn the_console_has_two_names() {
    let rules = rules("local pgbouncer all reject\nlocal all all trust\n").unwrap();
    for names in [["pgpool", "pgbouncer"], ["pgbouncer", "pgpool"]] {
        let facts = Facts { channel: &LOCAL, databases: &names, user: "a", replication: false };
        let Decision::Rule(rule) = rules.decide(&facts, &Surroundings::default()) else { panic!() };
        assert_eq!(rule.place.line, 1, "{names:?}");
    }
}

#[test]
fn host_names_are_asked_for_and_believed_when_confirmed() {
    let decide = |text: &str, user: &str, name: HostName| {
        let surroundings = Surroundings { name, ..Surroundings::default() };
        let channel = tcp("10.0.0.1");
        let facts = Facts { channel: &channel, databases: &["app"], user, replication: false };
        let rules = rules(text).unwrap();
        match rules.decide(&facts, &surroundings) {
            Decision::Rule(rule) => format!("line {}", rule.place.line),
            Decision::InDoubt(rule) => format!("doubt {}", rule.place.line),
            Decision::NoRule => "none".to_owned(),
            Decision::NeedsHostName => "name".to_owned(),
            Decision::NeedsInterfaces => "interfaces".to_owned(),
            Decision::NeedsMemberships => "roles".to_owned(),
        }
    };
    let text = "host all bob all trust\nhost all all db.example.com trust\nhost all all .Example.org md5\n\
                host all all bad.test reject\nhost all all all scram-sha-256";
    let named = |name: &str| HostName::Confirmed(name.to_owned());
    // Nothing is looked up for a rule that is not about the user, nor where an earlier one counts.
    assert_eq!(decide(text, "bob", HostName::Unasked), "line 1");
    assert_eq!(decide("host all bob x.y trust\nhost all all all md5", "carol", HostName::Unasked), "line 2");
    assert_eq!(decide(text, "carol", HostName::Unasked), "name");
    assert_eq!(decide(text, "carol", named("DB.example.com")), "line 2");
    assert_eq!(decide(text, "carol", named("a.b.example.ORG")), "line 3");
    assert_eq!(decide(text, "carol", named("example.org")), "line 5");
    assert_eq!(decide(text, "carol", named("bad.test")), "line 4");
    assert_eq!(decide(text, "carol", HostName::None), "line 5");
    // A rule that lets in does not, and one that rejects does, while nobody knows.
    assert_eq!(decide(text, "carol", HostName::Unknown), "doubt 4");
    assert_eq!(decide("host all all a.b trust", "carol", HostName::Unknown), "none");
}

#[test]
fn this_machine_and_its_networks() {
    let text = "host all all samehost trust\nhost all all samenet md5\nhost all all 0.0.0.0/0 password";
    let of = |value: &str| value.parse::<IpAddr>().unwrap();
    let known =
        Interfaces::Known(vec![(of("10.1.2.3"), of("255.255.0.0")), (of("fe80::1"), of("ffff:ffff:ffff:ffff::"))]);
    let decide = |text: &str, peer: &str, interfaces: &Interfaces| {
        let surroundings = Surroundings { interfaces: interfaces.clone(), ..Surroundings::default() };
        let channel = tcp(peer);
        let facts = Facts { channel: &channel, databases: &["app"], user: "u", replication: false };
        match rules(text).unwrap().decide(&facts, &surroundings) {
            Decision::Rule(rule) => rule.place.line,
            Decision::InDoubt(_) => 77,
            Decision::NeedsInterfaces => 88,
            Decision::NoRule | Decision::NeedsHostName | Decision::NeedsMemberships => 0,
        }
    };
    for (peer, expected) in
        [("10.1.2.3", 1), ("10.1.9.9", 2), ("10.2.0.1", 3), ("fe80::2", 2), ("fe80::1", 1), ("::1", 0)]
    {
        assert_eq!(decide(text, peer, &known), expected, "{peer}");
    }
    assert_eq!(decide(text, "10.1.2.3", &Interfaces::Unasked), 88);
    assert_eq!(decide(text, "10.1.2.3", &Interfaces::Unknown), 3);
    assert_eq!(decide("host all all samenet reject\nhost all all all trust", "10.1.2.3", &Interfaces::Unknown), 77);
}

#[test]
fn memberships_are_asked_for_where_they_decide_and_nothing_counts_without_them() {
    let decide = |text: &str, (user, database): (&str, &str), roles: Option<&[&str]>| {
        let memberships = roles.map_or(Memberships::Unasked, |roles| {
            Memberships::Known(Arc::new(roles.iter().copied().map(Into::into).collect()))
        });
        let surroundings = Surroundings { memberships, ..Surroundings::default() };
        let channel = tcp("10.0.0.1");
        let facts = Facts { channel: &channel, databases: &[database], user, replication: false };
        match rules(text).unwrap().decide(&facts, &surroundings) {
            Decision::Rule(rule) => rule.place.line,
            Decision::NoRule => 0,
            Decision::NeedsMemberships => 99,
            other => panic!("{other:?}"),
        }
    };
    let text = "host app alice,+staff 10.0.0.0/8 md5\nhost app \"+staff\" all trust\nhost all +staff 11.0.0.0/8 md5\n\
                host samerole all all reject\nhost app +out x.example md5\nhost all bob all trust\n";
    assert_eq!(decide(text, ("alice", "app"), None), 1, "who is named need not be a member");
    assert_eq!(decide(text, ("bob", "app"), None), 99);
    assert_eq!(decide(text, ("bob", "app"), Some(&["bob", "staff"])), 1);
    assert_eq!(decide(text, ("bob", "app"), Some(&["bob", "app"])), 4);
    assert_eq!(decide(text, ("bob", "app"), Some(&["bob"])), 6);
    assert_eq!(decide(text, ("bob", "app"), Some(&[])), 6);
    assert_eq!(decide(text, ("bob", "bob"), Some(&["bob"])), 4, "everybody is a member of himself");
    assert_eq!(decide(text, ("+staff", "app"), Some(&[])), 2);
    assert_eq!(decide("host all +a 11.0.0.0/8 md5\nhost b +a all md5", ("x", "app"), None), 0, "no need to ask");
    assert_eq!(decide("host all +a x.example md5\nhost all all all md5", ("x", "app"), None), 99, "roles before names");
}

#[test]
fn the_console_is_nobodys_role() {
    let rules = rules("local samerole all trust\nlocal all +pgbouncer md5\n").unwrap();
    let roles = Arc::new(["pgbouncer".into(), "pgpool".into()].into());
    let surroundings = Surroundings { memberships: Memberships::Known(roles), ..Surroundings::default() };
    let facts = Facts { channel: &LOCAL, databases: &["pgpool", "pgbouncer"], user: "a", replication: false };
    let Decision::Rule(rule) = rules.decide(&facts, &surroundings) else { panic!() };
    assert_eq!(rule.place.line, 2);
}

#[test]
fn maps_say_who_may_be_whom() {
    let maps = maps(
        "m root postgres\nm \"a b\" ab\nm ops all\nr /^(.*)@corp$ \\1\nr /^svc_(x)?y$ <\\1>\nr /^any /^app_\nr q \\1\n\
         all root root",
    )
    .unwrap();
    let cases = [
        (None, "alice", "alice", true),
        (None, "alice", "bob", false),
        (Some("m"), "root", "postgres", true),
        (Some("m"), "root", "root", false),
        (Some("m"), "a b", "ab", true),
        (Some("m"), "ops", "whoever", true),
        (Some("r"), "alice@corp", "alice", true),
        (Some("r"), "alice@corp", "bob", false),
        (Some("r"), "alice@corp.evil", "alice", false),
        (Some("r"), "svc_xy", "<x>", true),
        (Some("r"), "svc_y", "<>", false),
        (Some("r"), "anybody", "app_1", true),
        (Some("r"), "anybody", "1app_1", false),
        (Some("r"), "q", "\\1", true),
        (Some("missing"), "root", "root", false),
    ];
    for (map, system, user, expected) in cases {
        assert_eq!(maps.permits(map, system, user), expected, "{map:?} {system} {user}");
    }
    assert!(maps.has("m") && !maps.has("n"));
}

#[test]
fn certificates_are_looked_at_where_a_rule_asks_for_one() {
    let certificate = |common: Option<&str>| ClientCertificate {
        common_name: common.map(str::to_owned),
        distinguished_name: "CN=alice,O=x".to_owned(),
    };
    let check = |line: &str, map: &str, channel: &Channel| {
        let facts = Facts { channel, databases: &["app"], user: "alice", replication: false };
        let maps: IdentMaps = maps(map).unwrap();
        rules(line).unwrap().0[0].check_certificate(&facts, &maps)
    };
    let (none, alice, bob, nameless) = (
        tls(None),
        tls(Some(certificate(Some("alice")))),
        tls(Some(certificate(Some("bob")))),
        tls(Some(certificate(None))),
    );
    assert_eq!(check("hostssl all all all md5", "", &none), Ok(()));
    let line = "hostssl all all all md5 clientcert=verify-ca";
    assert_eq!(check(line, "", &none), Err(CertificateError::Missing));
    assert_eq!(check(line, "", &tcp("10.0.0.1")), Err(CertificateError::Missing));
    assert_eq!(check(line, "", &bob), Ok(()));
    for line in ["hostssl all all all cert", "hostssl all all all md5 clientcert=verify-full"] {
        assert_eq!(check(line, "", &none), Err(CertificateError::Missing));
        assert_eq!(check(line, "", &alice), Ok(()));
        assert_eq!(check(line, "", &bob), Err(CertificateError::OtherUser));
        assert_eq!(check(line, "", &nameless), Err(CertificateError::NoName));
    }
    assert_eq!(check("hostssl all all all cert map=m", "m bob alice", &bob), Ok(()));
    let line = "hostssl all all all cert clientname=DN map=m";
    assert_eq!(check(line, "m \"/^CN=alice,O=x$\" alice", &alice), Ok(()));
    assert_eq!(check(line, "m alice alice", &alice), Err(CertificateError::OtherUser));
}
