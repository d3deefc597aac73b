//! Holes that others have had, by their numbers, and that they are none here.
//!
//! Those that another file is about anyway have their tests there:
//!
//! - CVE-2021-3935, CVE-2021-23214 and CVE-2021-23222, bytes that somebody puts in front of the encryption and that count
//!   as if they had come through it: `tls/openings.rs` (`what_was_put_behind_the_request_is_not_taken_for_the_clients`)
//!   for what a client sends, `tls/backends.rs` (`nothing_said_before_tls_is_believed`) for what PostgreSQL does.
//! - CVE-2025-2291, a password that has expired and lets in by auth_query: `auth_query.rs`
//!   (`who_may_not_log_in_is_refused_as_with_a_wrong_password`), and below when it expires later.
//! - CVE-2025-12819, the search_path of a client that has proved nothing and that auth_query runs with:
//!   `auth_query/attacks.rs` (`no_search_path_of_a_client_reaches_the_query`).

mod before_login;
mod rounds;

use std::{io::Write, time::Duration};

use crate::support::{
    Cluster, Pooler, Raw, Table, eventually,
    fake::{Fake, WELCOME, read_message},
    messages::{PROTOCOL_3_0, message, parse, password, query, sasl_initial, startup as startup_packet, sync},
    reply::{Message, PgError, tags},
};

const SOON: Duration = Duration::from_secs(10);
const PANIC: &str = "panicked";
/// Lengths near which signed numbers turn over.
const TURNING: [u32; 6] = [0x7fff_fffb, 0x7fff_ffff, 0x8000_0000, 0x8000_0003, 0xffff_fffb, 0xffff_fffe];

/// A client that has sent its startup packet, and whatever else, and has read nothing.
fn knock(pooler: &Pooler, database: &str, more: &[u8]) -> Raw {
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", database)]);
    let _ = raw.try_send(more);
    raw
}

fn refused(pooler: &Pooler, user: &str, database: &str) -> PgError {
    Raw::try_login(pooler.port(), user, &format!("{user}pw"), database).err().expect("a refusal")
}

/// It has not panicked and serves others.
fn assert_well(pooler: &mut Pooler) {
    assert!(pooler.is_running());
    assert_eq!(pooler.login("trusty", "trustypw", "app").value("select 1"), "1");
    let log = pooler.log();
    assert!(!log.contains(PANIC), "{}", &log[log.find(PANIC).unwrap().saturating_sub(300)..]);
}

/// CVE-2023-5869 was a count of elements multiplied by their size in 32 bits, so that less was allocated than written.
#[test]
fn cve_2023_5869_lengths_that_turn_over() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 2, "");
    for length in TURNING {
        let mut raw = Raw::connect(pooler.port());
        raw.send(&[&length.to_be_bytes()[..], &PROTOCOL_3_0.to_be_bytes(), b"user\0alice\0\0"].concat());
        assert_eq!(raw.expect_error().code, "08P01", "startup {length:#x}");
        raw.expect_eof();
    }
    // A statement with a name is one that is renamed on the way, so that its messages are taken apart and put together.
    let flights = TURNING.iter().flat_map(|length| {
        let length = length.to_be_bytes();
        let bind = |rest: &[&[u8]]| {
            let body = [&b"\0named\0"[..], &rest.concat()].concat();
            [parse("named", "select $1::text", &[]), message(b'B', &body), sync()].concat()
        };
        let counted = |tag, head: &[u8]| [message(tag, &[head, &length[..2]].concat()), sync()].concat();
        [
            bind(&[b"\0\0\0\x01", &length, b"x\0\0"]),
            bind(&[&length[..2], b"\0\0"]),
            bind(&[b"\0\0", &length[..2]]),
            bind(&[b"\0\0\0\x01\xff\xff\xff\xff", &length[..2]]),
            counted(b'P', b"other\0select 1\0"),
            message(b'F', &[&b"\0\0\x06\x54\0\0\0\x01"[..], &length, b"x\0\0"].concat()),
            message(b'F', &[&b"\0\0\x06\x54\0\0"[..], &length[..2]].concat()),
            message(b'F', &[&b"\0\0\x06\x54"[..], &length[..2], b"\0\0"].concat()),
        ]
    });
    for flight in flights {
        let answer = |mut raw: Raw| -> Vec<Message> {
            raw.send(&flight);
            let answer = raw.read_until_ready();
            assert_eq!(raw.value("select 1"), "1");
            answer
        };
        let wanted = answer(Raw::login(cluster.port(), "trusty", "", "app"));
        let given = answer(pooler.login("trusty", "", "app"));
        assert!(wanted.iter().any(|message| message.tag == b'E'), "{}", flight.escape_ascii());
        assert!(given == wanted, "{}:\n{given:?}\n{wanted:?}", flight.escape_ascii());
    }
    assert_well(&mut pooler);
}

/// CVE-2024-10977 was text of somebody who had not yet been authenticated, shown as if it were the server's word.
#[test]
fn cve_2024_10977_words_of_a_stranger() {
    let cluster = Cluster::start();
    let forged = "SFATAL\0C28P01\0Mdial 555\nINFO forged line\x1b[2J\0Dsend it to evil.example\0Hand quickly\0\0";
    let error = message(b'E', forged.as_bytes());
    let fake = Fake::start(move |_, socket| socket.write_all(&error));
    let mut pooler = fake.pooler(&cluster, "auth_user = \"carol\"\nauth_query_lifetime = 0\n");
    // Who has proved nothing, and is looked up there, hears nothing of it.
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "somebody"), ("database", "elsewhere")]);
    let told = raw.authenticate("somebody", "").unwrap_err();
    assert_eq!(
        (told.code.as_str(), told.message.as_str(), &told.detail),
        ("08006", "auth_query failed: no answer from PostgreSQL", &None)
    );
    let said = format!("{told:?}");
    assert!(!said.contains("555") && !said.contains("evil") && !said.contains("quickly"), "{said}");
    pooler.wait_for_log("dial 555", SOON);
    assert_well(&mut pooler);
}

/// CVE-2025-58160 was text of a peer that a log showed as it came: with lines of its own, and commands for the terminal
/// of whoever reads it.
#[test]
fn cve_2025_58160_lines_of_a_stranger_in_the_log() {
    let cluster = Cluster::start();
    let forged = |who: &str| format!("{who} said\n2026-01-01T00:00:00Z  INFO forged line\r\x1b[2J\u{9b}2J\x08");
    let error = message(b'E', format!("SFATAL\0C28P01\0M{}\0\0", forged("server")).as_bytes());
    let fake = Fake::start(move |_, socket| socket.write_all(&error));
    let pooler = fake.pooler(&cluster, "");
    refused(&pooler, "alice", "elsewhere");
    let name = forged("client");
    refused(&pooler, &name, "app");
    let mut raw = Raw::connect(pooler.port());
    raw.startup(&[("user", "alice"), ("database", &forged("database"))]);
    raw.authenticate("alice", "").unwrap_err();
    for who in ["server", "client", "database"] {
        let line = pooler.wait_for_log(&format!("{who} said"), SOON);
        assert!(line.contains("said\\n2026-01-01T00:00:00Z  INFO forged line\\r\\u{1b}[2J"), "{line}");
    }
    let log = pooler.log();
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    assert!(!log.contains(|character: char| character.is_control() && character != '\n'), "{log}");
}

/// CVE-2025-2291 was a lookup that did not ask until when the password is valid.
#[test]
fn cve_2025_2291_a_password_that_expires_later() {
    let cluster = Cluster::start();
    cluster.sql(
        "app",
        "create role asker login password 'askerpw'; grant select on pg_authid to asker;
         create role lasting login password 'lastingpw' valid until '2999-01-01'",
    );
    let settings = "auth_user = \"asker\"\nauth_query_lifetime = 0\n[users.asker]\npassword = \"askerpw\"\n";
    let pooler = Pooler::with_workers(&cluster, 2, settings);
    assert_eq!(pooler.login("lasting", "lastingpw", "app").value("select current_user"), "lasting");
    cluster.sql("app", "alter role lasting valid until '2020-01-01'");
    assert_eq!(refused(&pooler, "lasting", "app").code, "28P01");
}

/// CVE-2026-6664 was a length in a SCRAM message whose check turned over, so that reading went past the packet.
#[test]
fn cve_2026_6664_lengths_in_scram() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::start(&cluster, "");
    let lengths = TURNING.into_iter().chain([0, 1, 22, 24, 1 << 16, 1 << 30, 0xffff_ffff]);
    for length in lengths {
        for rest in [&b""[..], b"n", b"n,,n=,r=abcdefghijklmno"] {
            let mut raw = knock(&pooler, "app", b"");
            assert_eq!(raw.read().tag, b'R');
            raw.send(&message(b'p', &[&b"SCRAM-SHA-256\0"[..], &length.to_be_bytes(), rest].concat()));
            let answer = raw.read();
            // 2^32-1 says that no first answer comes with it; the server then asks for one.
            assert_eq!(answer.tag, if length == 0xffff_ffff && rest.is_empty() { b'R' } else { b'E' }, "{answer:?}");
            if answer.tag == b'E' {
                assert_eq!(answer.error().code, "08P01", "{length:#x}");
            }
        }
    }
    assert_well(&mut pooler);
}

/// CVE-2026-6665 was a nonce of a server that did not fit where the client's last message was put together.
#[test]
fn cve_2026_6665_long_answers_in_scram() {
    let cluster = Cluster::start();
    let fake = Fake::start(|name, socket| {
        socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
        let first = String::from_utf8_lossy(&read_message(socket)?).into_owned();
        let ours = first.rsplit_once("r=").unwrap().1;
        let many = |count: usize| "x".repeat(count);
        let last = |text: &str| message(b'R', &[&b"\0\0\0\x0b"[..], text.as_bytes()].concat());
        let (nonce, salt) = (format!("r={ours}more"), "c2FsdHNhbHRzYWx0c2FsdA==");
        socket.write_all(&last(&match name {
            "nonce200" => format!("{nonce}{},s={salt},i=4096", many(200)),
            "nonce900" => format!("{nonce}{},s={salt},i=4096", many(900)),
            "nonce9000" => format!("{nonce}{},s={salt},i=4096", many(9000)),
            "salt" => format!("{nonce},s={},i=4096", "c2FsdHNh".repeat(1100)),
            _ => format!("{nonce},s={salt},i=4096,x={}", many(9000)),
        }))?;
        read_message(socket)?;
        socket.write_all(&message(b'R', format!("\0\0\0\x0cv={}", many(9000)).as_bytes()))
    });
    let mut pooler = fake.pooler(&cluster, "");
    for name in ["nonce200", "nonce900", "nonce9000", "salt", "extension"] {
        let told = refused(&pooler, "alice", name);
        assert_eq!(told.severity, "FATAL", "{name}");
        assert!(!format!("{told:?}").contains("xxxx"), "{name}: {told:?}");
    }
    assert_well(&mut pooler);
}

/// CVE-2026-6666 was an error of a server without SQLSTATE, which was read where there was none.
#[test]
fn cve_2026_6666_errors_without_fields() {
    let cluster = Cluster::start();
    let errors: [(&str, &[u8]); 5] = [
        ("nothing", b""),
        ("terminator", b"\0"),
        ("message", b"SFATAL\0Mgone\0\0"),
        ("unended", b"SFATAL\0Mgone"),
        ("empty", b"S\0C\0M\0\0"),
    ];
    let fake = Fake::start(move |name, socket| {
        let (when, what) = name.split_once('_').unwrap();
        let error = message(b'E', errors.iter().find(|(name, _)| *name == what).unwrap().1);
        if when == "login" {
            return socket.write_all(&error);
        }
        socket.write_all(WELCOME)?;
        read_message(socket)?;
        socket.write_all(&[error, message(b'Z', b"I")].concat())
    });
    let mut pooler = fake.pooler(&cluster, "");
    for (name, _) in errors {
        assert_eq!(refused(&pooler, "alice", &format!("login_{name}")).severity, "FATAL", "{name}");
        let mut raw = pooler.login("alice", "alicepw", &format!("query_{name}"));
        raw.send(&query("select 1"));
        assert_eq!(raw.read().tag, b'E', "{name}");
    }
    assert_well(&mut pooler);
}

/// CVE-2026-6667 was KILL_CLIENT, open to those who may only look.
#[test]
fn cve_2026_6667_killing_by_those_who_may_look() {
    let cluster = Cluster::start();
    let pooler = Pooler::trusting(&cluster, 2, "stats_users = [\"carol\"]");
    let mut victim = pooler.login("alice", "alicepw", "app");
    victim.query("select 1").unwrap();
    let mut looker = pooler.login("carol", "carolpw", "pgpool");
    let id = Table::of(&mut looker, "SHOW CLIENTS").matching(&[("user", "alice")]).value("ptr").to_owned();
    for text in [format!("KILL_CLIENT {id}"), format!("kill_client {id};")] {
        let told = looker.query(&text).unwrap_err();
        assert_eq!(told.message, "admin access needed", "{text}");
        let told = looker.query_extended(&text, &[]).unwrap_err();
        assert_eq!(told.message, "admin access needed", "{text}");
    }
    assert_eq!(victim.value("select 1"), "1");
}

/// CVE-2026-107350 was a second startup packet in the middle of SCRAM that changed who is logging in.
#[test]
fn cve_2026_107350_a_second_startup_packet() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::start(&cluster, "");
    let packet = startup_packet(PROTOCOL_3_0, &[("user", "postgres"), ("database", "app")]);
    for database in ["app", "nosuch", "pgpool"] {
        for begun in [false, true] {
            let mut raw = knock(&pooler, database, b"");
            assert_eq!(raw.read().tag, b'R');
            if begun {
                raw.send(&sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnopqrstuvwx"));
                assert_eq!(raw.read().tag, b'R');
            }
            raw.send(&packet);
            let told = raw.expect_error();
            assert_eq!((told.severity.as_str(), told.code.as_str()), ("FATAL", "08P01"), "{database}: {told:?}");
            raw.expect_eof();
        }
    }
    assert_well(&mut pooler);
}

/// CVE-2026-107349 was an option without a name, at which the reader of options did not move on.
#[test]
fn cve_2026_107349_options_without_a_name() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::trusting(&cluster, 2, "ignore_startup_parameters = \"extra_float_digits\"");
    for options in ["-c=", "-c =", "--=", "-c=x", "-c", "--", "-c -c", "\\", "-c \\", "-", "-c=  -c="] {
        let mut raw = Raw::connect(pooler.port());
        raw.startup(&[("user", "alice"), ("database", "app"), ("options", options)]);
        // A name that is there and odd is PostgreSQL's to refuse; what is none is refused at once.
        assert!(matches!(raw.read().tag, b'E' | b'R'), "{options}");
    }
    assert_well(&mut pooler);
}

/// Messages without the body that their readers take for granted have ended more than one program: each type with each
/// length up to one byte of a body, of clients before and after the login.
#[test]
fn messages_too_short_to_be_any_of_clients() {
    let cluster = Cluster::start();
    let mut pooler = Pooler::start(&cluster, "");
    for length in 0..=8_u32 {
        let mut raw = Raw::connect(pooler.port());
        raw.send(
            &[&length.to_be_bytes()[..], &PROTOCOL_3_0.to_be_bytes()[..length.saturating_sub(4).min(4) as usize]]
                .concat(),
        );
        assert_eq!(raw.expect_error().code, "08P01", "startup of {length}");
    }
    for method in ["plain", "md5", "scram-sha-256", "trust"] {
        pooler.console().query(&format!("SET auth_type = '{method}'")).unwrap();
        for length in 0..=5_u32 {
            for tag in *b"QPBDECSHFdcfXpRZKv\0\xffz" {
                // Half-way messages cost a wait: all bytes that it says are sent.
                let bytes = [&[tag][..], &length.to_be_bytes(), &[0; 1][..length.saturating_sub(4) as usize]].concat();
                let mut raw = knock(&pooler, "app", &[bytes, query("select 1"), password("x")].concat());
                if method != "trust" && (tag != b'p' || length < 4) {
                    let told = raw.expect_error();
                    assert_eq!((told.severity.as_str(), told.code.as_str()), ("FATAL", "08P01"), "{tag} {length}");
                }
            }
        }
    }
    assert_well(&mut pooler);
}

/// The same of PostgreSQL: in place of its welcome, behind it, and in answer to a query.
#[test]
fn messages_too_short_to_be_any_of_postgresql() {
    let cluster = Cluster::start();
    let fake = Fake::start(|name, socket| {
        let mut parts = name.split('_').skip(1).map(|part| part.parse::<u8>().unwrap());
        let (tag, length) = (parts.next().unwrap(), parts.next().unwrap());
        let bytes = [&[tag, 0, 0, 0, length][..], &vec![0; usize::from(length.saturating_sub(4))]].concat();
        match name.split('_').next() {
            Some("first") => socket.write_all(&bytes),
            Some("welcome") => socket.write_all(&[&WELCOME[..9], &bytes, &WELCOME[9..]].concat()),
            Some("sasl") => {
                socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
                read_message(socket)?;
                socket.write_all(&bytes)
            }
            _ => {
                socket.write_all(WELCOME)?;
                read_message(socket)?;
                socket.write_all(&bytes)
            }
        }
    });
    let mut pooler = fake.pooler(&cluster, "max_client_conn = 4000\nserver_connect_timeout = 5");
    let tags_ = b"RKSZENATDCIsnt123GHWdcvVpQ\0\xff";
    let mut count = 0;
    for place in ["first", "welcome", "sasl", "query"] {
        let mut clients = Vec::new();
        for (tag, length) in tags_.iter().flat_map(|tag| (0..=5).map(move |length| (tag, length))) {
            clients.push(knock(&pooler, &format!("{place}_{tag}_{length}"), &query("select 1")));
        }
        count += clients.len();
        eventually(SOON * 3, "each answer was given", || fake.has_served(count));
    }
    assert_well(&mut pooler);
}

/// What a short message of PostgreSQL's does to the client who asked: an error and the end, and never silence.
#[test]
fn a_short_answer_of_postgresql_ends_the_session() {
    let cluster = Cluster::start();
    let fake = Fake::start(|name, socket| {
        let parts: Vec<u8> = name.split('_').skip(1).map(|part| part.parse().unwrap()).collect();
        socket.write_all(WELCOME)?;
        read_message(socket)?;
        socket.write_all(&[parts[0], 0, 0, 0, parts[1]])
    });
    let pooler = fake.pooler(&cluster, "");
    for (tag, length) in b"ZTDCEKSN".iter().flat_map(|tag| (0..4).map(move |length| (tag, length))) {
        let mut raw = pooler.login("alice", "alicepw", &format!("short_{tag}_{length}"));
        raw.send(&query("select 1"));
        let mut all = Vec::new();
        while let Some(message) = raw.read_or_eof() {
            all.push(message);
        }
        let told = all.first().unwrap_or_else(|| panic!("{tag} {length}: closed without a word")).error();
        assert_eq!(
            (tags(&all).as_str(), told.severity.as_str(), told.code.as_str()),
            ("E", "FATAL", "08006"),
            "{told:?}"
        );
    }
}
