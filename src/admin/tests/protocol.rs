//! The protocol as drivers speak it.

use super::*;
use crate::admin::columns::Show;
use crate::pool::Reason;

#[tokio::test]
async fn the_greeting_is_what_drivers_expect() {
    let console = Pooler::new().console(Role::Admin).await;
    let bodies: Vec<String> = console
        .greeting
        .iter()
        .filter(|message| message.tag == b'S')
        .map(|message| String::from_utf8_lossy(&message.body).replace('\0', "|"))
        .collect();
    assert_eq!(
        bodies,
        [
            "server_version|1.26.1/pgpool|",
            "pgbouncer.version|1.26.1|",
            "client_encoding|UTF8|",
            "server_encoding|UTF8|",
            "DateStyle|ISO|",
            "TimeZone|GMT|",
            "standard_conforming_strings|on|",
            "is_superuser|on|",
            "integer_datetimes|on|",
        ]
    );
    let key = &console.greeting[bodies.len()];
    assert_eq!((key.tag, key.body.as_slice()), (b'K', &[0, 0, 0, 1, 1, 2, 3, 4][..]));
    assert_eq!(console.greeting.last().unwrap().tag, b'Z');
}

#[tokio::test]
async fn simple_queries() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let version = console.ask("SHOW VERSION;").await;
    assert_eq!(tags(&version), "TDCZ");
    assert_eq!(version[0].columns(), [("version".to_owned(), 25, 0)]);
    assert_eq!(version[1].texts(), [concat!("PgBouncer 1.26.1 (pgpool ", env!("CARGO_PKG_VERSION"), ")")]);
    assert_eq!(version[2].body, b"SHOW\0");

    assert_eq!(tags(&console.ask("").await), "IZ");
    assert_eq!(tags(&console.ask("-- ping").await), "IZ");
    assert_eq!(tags(&console.ask("show version; BEGIN; show state").await), "TDCCTDDDDDDDDDDDCZ");
    let help = console.ask("SHOW HELP").await;
    assert_eq!(tags(&help), "NCZ");
    let usage = help[0].report().detail;
    assert!(usage.contains("SHOW STATS|STATS_TOTALS"));
    let words: Vec<&str> = usage.split(['|', ' ', '\n', '\t']).collect();
    for show in Show::ALL {
        assert!(words.contains(&show.name().to_ascii_uppercase().as_str()), "{show:?} is not in {usage}");
    }
    let set = console.ask("SET application_name = 'x'").await;
    assert_eq!((tags(&set).as_str(), set[0].report().message.as_str()), ("NCZ", "SET ignored"));
    assert_eq!(console.tag("BEGIN").await, "BEGIN");
    assert_eq!(console.rows("SELECT 1").await, [["1"]]);
    assert_eq!(console.rows("select current_user").await, [["operator"]]);

    let unknown = console.ask("SHOW POOLZ").await;
    assert_eq!(tags(&unknown), "EZ");
    let report = unknown[0].report();
    assert_eq!((report.severity.as_str(), report.code.as_str()), ("ERROR", "08P01"));
    assert_eq!(report.message, "invalid command 'SHOW POOLZ', use SHOW HELP;");
    assert_eq!(report.hint, "Did you mean SHOW POOLS?");

    console.send(&frame(b'X', b"")).await;
    assert!(matches!(console.end().await, ConsoleEnd::Terminated));
}

#[tokio::test]
async fn extended_queries_in_text_and_binary() {
    let pooler = Pooler::new();
    let database = pooler.pools.config.load().database("one").unwrap();
    pooler.pools.pool(&database, "alice");
    let mut console = pooler.console(Role::Stats).await;
    for (format, own) in [(0, b"1".to_vec()), (1, vec![0, 0, 0, 1])] {
        let all = [
            parse("", "SHOW POOLS"),
            frame(b'D', b"S\0"),
            bind("", &[format]),
            frame(b'D', b"P\0"),
            execute(),
            execute(),
            sync(),
        ];
        console.send(&all.concat()).await;
        let answers = console.until_ready().await;
        assert_eq!(tags(&answers), "1tT2TDDCCZ");
        assert_eq!(answers[1].body, [0, 0]);
        assert!(answers[2].columns().iter().all(|column| column.2 == 0));
        assert!(answers[4].columns().iter().all(|column| column.2 == format));
        assert_eq!(answers[4].columns()[2], ("cl_active".to_owned(), 23, format));
        assert_eq!(answers[5].values()[0], Some(b"one".to_vec()));
        assert_eq!(answers[6].values()[2], Some(own));
        assert_eq!(answers[6].values()[16], None);
    }
    // A named statement, numeric in binary, one format per column, no Describe.
    let mut formats = vec![0; 1];
    formats.resize(13, 1);
    console.send(&[parse("s", "SHOW STATS_TOTALS"), bind("s", &formats), execute(), sync()].concat()).await;
    let answers = console.until_ready().await;
    assert_eq!(tags(&answers), "12DDCZ");
    assert_eq!(answers[2].values()[..2], [Some(b"one".to_vec()), Some(vec![0; 8])]);
    assert_eq!(answers[3].values()[3], Some(vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 2]));
    // The statement outlives Sync, the portal does not.
    console.send(&[bind("s", &[]), sync(), execute(), sync(), bind("s", &[]), sync()].concat()).await;
    assert_eq!(tags(&console.until_ready().await), "2Z");
    let lost = console.until_ready().await;
    assert_eq!((tags(&lost).as_str(), lost[0].report().code.as_str()), ("EZ", "34000"));
    assert_eq!(tags(&console.until_ready().await), "2Z");
    // Flush sends what there is; what has no rows says so; an empty query is one.
    console.send(&[frame(b'C', b"Ss\0"), parse("", "BEGIN"), frame(b'D', b"S\0"), frame(b'H', b"")].concat()).await;
    for expected in [b'3', b'1', b't', b'n'] {
        assert_eq!(console.next().await.unwrap().tag, expected);
    }
    console.send(&[bind("", &[]), execute(), parse("", ""), bind("", &[]), execute(), sync()].concat()).await;
    assert_eq!(tags(&console.until_ready().await), "2C12IZ");
}

/// What psycopg sends for SQLAlchemy's hstore.
#[tokio::test]
async fn who_looks_for_types_may_have_parameters() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let text = "SELECT typname AS name, oid FROM pg_type t WHERE t.oid = to_regtype($1) AND oid > $2";
    let declared = frame(b'P', [format!("s\0{text}\0").as_bytes(), &[0, 1, 0, 0, 4, 0x13]].concat().as_slice());
    let two = frame(b'B', b"\0s\0\0\0\0\x02\0\0\0\x06hstore\xff\xff\xff\xff\0\0");
    console.send(&[declared, frame(b'D', b"Ss\0"), two, execute(), sync()].concat()).await;
    let answers = console.until_ready().await;
    assert_eq!(tags(&answers), "1tT2CZ");
    assert_eq!(answers[1].body, [0, 2, 0, 0, 4, 0x13, 0, 0, 0, 25]);
    for (bind, message) in [
        (bind("s", &[]), "bind message supplies 0 parameters, but prepared statement \"s\" requires 2"),
        (
            frame(b'B', b"\0s\0\0\0\0\x01\0\0\0\x01x\0\0"),
            "bind message supplies 1 parameters, but prepared statement \"s\" requires 2",
        ),
    ] {
        console.send(&[bind, sync()].concat()).await;
        let answers = console.until_ready().await;
        assert_eq!((tags(&answers).as_str(), answers[0].report().message.as_str()), ("EZ", message));
    }
}

#[tokio::test]
async fn an_error_skips_to_sync() {
    let pooler = Pooler::new();
    let mut console = pooler.console(Role::Admin).await;
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (parse("", "SELECT * FROM t"), "E", "08P01"),
        (parse("", "RELOAD; RELOAD"), "E", "42601"),
        (parse("", "KILL_CLIENT $1"), "E", "0A000"),
        (bind("nope", &[]), "E", "26000"),
        (frame(b'D', b"Pnope\0"), "E", "34000"),
        (frame(b'D', b"Snope\0"), "E", "26000"),
        (execute(), "E", "34000"),
        ([parse("", "SHOW STATE"), bind("", &[0, 0, 0])].concat(), "1E", "08P01"),
        ([parse("", "SHOW STATE"), bind("", &[2])].concat(), "1E", "22023"),
        ([parse("", "RELOAD"), frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x01x\0\0")].concat(), "1E", "08P01"),
        ([parse("a", ""), parse("a", "")].concat(), "1E", "42P05"),
    ];
    for (bytes, before, code) in cases {
        console.send(&[bytes, execute(), query("SHOW STATE"), sync()].concat()).await;
        let answers = console.until_ready().await;
        assert_eq!(tags(&answers), format!("{before}Z"), "{code}");
        assert_eq!(answers[before.len() - 1].report().code, code);
        console.send(&[parse("", "SHOW STATE"), bind("", &[]), execute(), sync()].concat()).await;
        assert_eq!(tags(&console.until_ready().await), "12DDDDDDDDDDDCZ");
    }
    // asyncpg waits for the error before it sends Sync.
    console.send(&[parse("", "nope"), frame(b'D', b"S\0"), frame(b'H', b"")].concat()).await;
    assert_eq!(console.next().await.unwrap().report().code, "08P01");
    console.send(&sync()).await;
    assert_eq!(tags(&console.until_ready().await), "Z");
    for tag in [b'F', b'd', b'c', b'f'] {
        console.send(&frame(tag, b"")).await;
        let answers = console.until_ready().await;
        assert_eq!((tags(&answers).as_str(), answers[0].report().code.as_str()), ("EZ", "0A000"));
    }
}

#[tokio::test]
async fn what_the_protocol_does_not_allow_ends_the_session() {
    let pooler = Pooler::new();
    let cases: Vec<Vec<u8>> = vec![
        vec![b'Q', 0, 1, 0, 1],
        vec![b'Q', 0, 0, 0, 3],
        vec![b'?', 0, 0, 0, 4],
        frame(b'p', b"secret\0"),
        frame(b'Q', b"no end"),
        frame(b'B', b"\0\0\0\x01"),
        frame(b'P', b"\0"),
        frame(b'D', b"Q\0"),
        frame(b'E', b"\0"),
        frame(b'C', b""),
    ];
    for bytes in cases {
        let mut console = pooler.console(Role::Admin).await;
        console.send(&bytes).await;
        let last = console.next().await.unwrap().report();
        assert_eq!((last.severity.as_str(), last.code.as_str()), ("FATAL", "08P01"), "{bytes:?}");
        assert!(matches!(console.end().await, ConsoleEnd::Violation(_)));
    }
    // The longest that is allowed.
    let mut console = pooler.console(Role::Admin).await;
    let long = query(&" ".repeat(64 * 1024 - 5));
    assert_eq!(long.len(), 64 * 1024 + 1);
    console.send(&long).await;
    assert_eq!(tags(&console.until_ready().await), "IZ");
}

#[tokio::test]
async fn others_end_the_session() {
    let pooler = Pooler::new();
    for (reason, text) in [(Reason::Shutdown, "pooler is shutting down"), (Reason::Killed, "admin forced disconnect")] {
        let mut console = pooler.console(Role::Admin).await;
        // A cancel request with nothing to cancel changes nothing.
        console.record.interrupt.raise(Reason::Canceled);
        assert_eq!(console.tag("SHOW STATE").await, "SHOW");
        console.record.interrupt.raise(reason);
        let last = console.next().await.unwrap().report();
        assert_eq!((last.code.as_str(), last.message.as_str()), ("57P01", text));
        assert!(matches!(console.end().await, ConsoleEnd::Interrupted(with) if with == reason));
    }
    let console = pooler.console(Role::Admin).await;
    drop(console.stream);
    assert!(matches!(console.task.await.unwrap(), ConsoleEnd::Closed));
}
