//! Lines by themselves: what they mean, printed again, and what is wrong with them.

use super::{faults, maps, rules};

#[test]
fn lines_that_are_understood() {
    let cases = [
        ("local all all trust", "local all all trust"),
        ("host all all all reject", "host all all all reject"),
        ("\"host\" a b 10.0.0.0/8 \"md5\"", r#"host "a" "b" 10.0.0.0 255.0.0.0 md5"#),
        ("host a,b c,d 10.1.2.3/8 password", r#"host "a","b" "c","d" 10.1.2.3 255.0.0.0 password"#),
        ("host sameuser all 0.0.0.0/0 scram-sha-256", "host sameuser all 0.0.0.0 0.0.0.0 scram-sha-256"),
        (
            "host replication all ::1/128 trust",
            "host replication all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust",
        ),
        ("host \"all\" \"all\" ::/0 trust", r#"host "all" "all" :: :: trust"#),
        (
            "host \"sameuser\",\"replication\",\"@f\" \"+g\" samenet trust",
            r#"host "sameuser","replication","@f" "+g" samenet trust"#,
        ),
        ("local samerole,x +g,y trust", r#"local samerole,"x" +"g","y" trust"#),
        ("local samegroup +\"a \"\"b\",+all trust", r#"local samerole +"a ""b",+"all" trust"#),
        ("hostnossl all all 10.0.0.0 255.0.255.0 trust", "hostnossl all all 10.0.0.0 255.0.255.0 trust"),
        ("hostgssenc all all samehost reject", "hostgssenc all all samehost reject"),
        ("hostnogssenc all all samehost peer.example.com trust", ""),
        ("hostnogssenc all all .example.com md5", r#"hostnogssenc all all ".example.com" md5"#),
        ("host all all \"all\" md5", r#"host all all "all" md5"#),
        ("host all all ::ffff:10.1.0.0/112 md5", ""),
        ("host /^a,b /x all md5", r#"host "/^a","b" "/x" all md5"#),
        ("host \"/^a{1,2}$\" /^x.*$ all md5", r#"host "/^a{1,2}$" "/^x.*$" all md5"#),
        ("local all all peer map=x", r#"local all all peer "map=x""#),
        ("local all all ident map=", "local all all peer"),
        ("host all all all ident map=x", "host all all all reject"),
        ("hostgssenc all all all gss include_realm=0 krb_realm=X", "hostgssenc all all all reject"),
        ("host all all all radius radiusservers=a", "host all all all reject"),
        (
            "hostssl all all all cert map=\"a b\" clientname=DN",
            r#"hostssl all all all cert "map=a b" clientcert=verify-full clientname=DN"#,
        ),
        ("hostssl all all all md5 clientcert=verify-ca", "hostssl all all all md5 clientcert=verify-ca"),
        (
            "host all all all pam pamservice=x pam_use_hostname=1",
            "host all all all pam \"pamservice=x\" pam_use_hostname=1",
        ),
        ("local all all pam pamservice=../x", ""),
        ("local all all md5 pamservice=x", ""),
        ("local a\"b\"\"c\" all trust # x", r#"local "ab""c" all trust"#),
    ];
    for (line, printed) in cases {
        match rules(line) {
            Ok(rules) => {
                assert_eq!(rules.0[0].to_string(), printed, "{line}");
                let again = super::rules(printed).unwrap();
                assert!(again.0[0].says(&rules.0[0]), "{line}");
            }
            Err(faults) => assert_eq!(printed, "", "{line}: {faults:?}"),
        }
    }
}

/// A bad line and what is said about it, behind its place.
const REFUSED: &[(&str, &str)] = &[
    ("", "hba: there is no rule in this file: write one, such as \"host all all 127.0.0.1/32 scram-sha-256\""),
    (
        "hosts all all all trust",
        "invalid connection type \"hosts\": write local, host, hostssl, hostnossl, hostgssenc or hostnogssenc",
    ),
    ("local,host all all trust", "multiple values specified for connection type: write one, without commas"),
    ("local", "end-of-line before database specification"),
    ("local all", "end-of-line before role specification"),
    ("local all all", "end-of-line before authentication method"),
    ("host all all", "end-of-line before IP address specification"),
    (
        "host all all 10.0.0.1 # /8",
        "end-of-line before netmask specification: specify an address range in CIDR notation, as in 10.0.0.1/32, or provide a separate netmask",
    ),
    ("host all all 10.0.0.1,10.0.0.2 trust", "multiple values specified for host address: write one, without commas"),
    (
        "host all all 10.0.0.1 trust",
        "invalid IP mask \"trust\": specify an address range in CIDR notation, or provide a separate netmask",
    ),
    ("host all all 10.0.0.1 ff00:: trust", "IP address and mask do not match: both have to be IPv4 or both IPv6"),
    (
        "host all all 10.0.0.0/33 trust",
        "invalid CIDR mask in address \"10.0.0.0/33\": write 0 to 32 for IPv4, 0 to 128 for IPv6",
    ),
    (
        "host all all 10.0.0.0/ trust",
        "invalid CIDR mask in address \"10.0.0.0/\": write 0 to 32 for IPv4, 0 to 128 for IPv6",
    ),
    (
        "host all all 10.0.0.0/+8 trust",
        "invalid CIDR mask in address \"10.0.0.0/+8\": write 0 to 32 for IPv4, 0 to 128 for IPv6",
    ),
    ("host all all ::/129 trust", "invalid CIDR mask in address \"::/129\": write 0 to 32 for IPv4, 0 to 128 for IPv6"),
    (
        "host all all 10.0.0.256/8 trust",
        "invalid IP address \"10.0.0.256/8\": write an address with its mask (192.0.2.0/24), a host name, all, samehost or samenet",
    ),
    (
        "host all all 10.1 trust",
        "invalid IP address \"10.1\": write an address with its mask (192.0.2.0/24), a host name, all, samehost or samenet",
    ),
    (
        "host all all ::ffff:10.1.0.0/112 md5",
        "address \"::ffff:10.1.0.0/112\" is an IPv4 address written as IPv6, which fits no client: write 10.1.0.0 255.255.0.0",
    ),
    (
        "host all all fe80::1%eth0/64 trust",
        "address \"fe80::1%eth0/64\" names an interface: leave out what begins with %",
    ),
    ("host all all example.com/8 trust", "specifying both host name and CIDR mask is invalid: \"example.com/8\""),
    ("local all /( trust", "invalid regular expression \"(\": unclosed group"),
    (
        r"local all /\bapp trust",
        r#"regular expression "\bapp": \b does not mean the same here as in PostgreSQL; write characters, classes such as [0-9a-f], ^ and $"#,
    ),
    (
        "local all all scram",
        "invalid authentication method \"scram\": pgpool knows trust, reject, password, md5, scram-sha-256, cert, peer, ldap, pam",
    ),
    ("host all all all md5,trust", "multiple values specified for authentication method: write one, without commas"),
    ("host all all all peer", "peer authentication is only supported on local sockets: write it on a \"local\" line"),
    (
        "host all all all cert",
        "cert authentication is only supported on hostssl connections: write it on a \"hostssl\" line",
    ),
    ("local all all peer mapx", "authentication option not in name=value format: mapx"),
    ("local all all peer mpa=x", "unrecognized authentication option name: \"mpa\", did you mean map?"),
    ("local all all peer krb_realm=x", "unrecognized authentication option name: \"krb_realm\""),
    ("local all all md5 map=x", "authentication option \"map\" is only valid for authentication methods peer and cert"),
    ("local all all md5 clientcert=verify-ca", "clientcert can only be configured for \"hostssl\" rows"),
    ("hostssl all all all md5 clientcert=1", "invalid value for clientcert: write verify-ca or verify-full"),
    (
        "hostssl all all all cert clientcert=verify-ca",
        "clientcert only accepts \"verify-full\" when using \"cert\" authentication",
    ),
    ("hostssl all all all cert clientname=cn", "invalid value for clientname: write CN or DN"),
    ("local all \"all trust", "a quote is not closed: end the name with \""),
];

#[test]
fn lines_that_are_refused_say_what_to_write() {
    for (line, message) in REFUSED {
        let expected = if message.starts_with("hba:") { (*message).to_owned() } else { format!("hba:1: {message}") };
        assert_eq!(faults(rules(line)), [expected], "{line}");
    }
}

#[test]
fn every_bad_line_is_told_and_the_file_is_refused() {
    let text = "local all all trust\nhots all all all trust\nhost all all \\\n  all\nhost all all all md5\nlocal x\n";
    let expected = [
        "hba:2: invalid connection type \"hots\": write local, host, hostssl, hostnossl, hostgssenc or hostnogssenc",
        "hba:3: end-of-line before authentication method",
        "hba:6: end-of-line before role specification",
    ];
    assert_eq!(faults(rules(text)), expected);
}

#[test]
fn maps_are_read_and_refused() {
    let good = [
        ("m root postgres", r#""m" "root" "postgres""#),
        ("m \"a b\" all", r#""m" "a b" all"#),
        ("m a \"all\"", r#""m" "a" "all""#),
        (r"m /^(.*)@x$ \1_app", r#""m" "/^(.*)@x$" "\1_app""#),
        ("m /^a /^b", r#""m" "/^a" "/^b""#),
        (r"m a \1", r#""m" "a" "\1""#),
    ];
    for (line, printed) in good {
        let read = maps(line).unwrap();
        assert_eq!(read.0[0].to_string(), printed, "{line}");
        assert_eq!(maps(printed).unwrap(), read);
    }
    assert_eq!(maps("# nothing").unwrap().0, []);
    let bad = [
        ("m", "end-of-line before system user name"),
        ("m a", "end-of-line before database user name"),
        ("m a b c", "there is more on the line than map, system user and database user"),
        ("m a b,c", "multiple values specified for database user name: write one, without commas"),
        ("m a +b", "\"+b\" in a map is not supported: write the names of the members, or an expression"),
        ("m /( b", "invalid regular expression \"(\": unclosed group"),
        (
            r"m /a \1",
            "regular expression \"a\" has no subexpressions as requested by backreference in the database user: put ( ) around what \\1 stands for",
        ),
    ];
    for (line, message) in bad {
        assert_eq!(faults(maps(line)), [format!("ident:1: {message}")], "{line}");
    }
}
