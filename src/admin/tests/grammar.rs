//! What is a command, and which.

use crate::admin::Shutdown;
use crate::admin::columns::Show;
use crate::admin::command::{Command, parse};
use crate::admin::fakes::{Fact, find};

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn commands() {
    let cases: Vec<(&str, Command)> = vec![
        ("SHOW POOLS", Command::Show(Show::Pools)),
        ("show pools;", Command::Show(Show::Pools)),
        (" \n\tShow \"pools\" ; ", Command::Show(Show::Pools)),
        ("/* a */ SHOW -- b\n STATS_TOTALS", Command::Show(Show::StatsTotals)),
        ("SELECT stats", Command::Show(Show::Stats)),
        ("select version", Command::Show(Show::Version)),
        ("select VERSION()", Command::Select(Fact::Version)),
        ("select pg_catalog.version()", Command::Select(Fact::Version)),
        ("SELECT 1", Command::Select(Fact::Number(1))),
        ("SELECT t.oid, NULL FROM pg_type t WHERE typname = 'hstore'", Command::Types { parameters: 0 }),
        ("select oid from pg_type where typname in ($2, $1) and oid > $2", Command::Types { parameters: 2 }),
        ("select oid from pg_catalog.pg_type", Command::Types { parameters: 0 }),
        ("select current_user;", Command::Select(Fact::User)),
        ("SHOW client_encoding", Command::ShowFake(find("client_encoding").unwrap())),
        ("SHOW TimeZone", Command::ShowFake(find("timezone").unwrap())),
        ("SHOW TIME ZONE", Command::ShowFake(find("timezone").unwrap())),
        ("show transaction isolation level", Command::ShowFake(find("transaction_isolation").unwrap())),
        ("SET datestyle TO 'ISO, MDY'", Command::SetFake),
        ("SET DateStyle = ISO, MDY", Command::SetFake),
        ("SET SESSION client_encoding = 'UTF8'", Command::SetFake),
        ("set extra_float_digits=3", Command::SetFake),
        ("set time zone 'UTC'", Command::SetFake),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Command::SetFake),
        ("set query_timeout = 5", Command::Set("query_timeout".to_owned(), "5".to_owned())),
        ("set \"query_timeout\" to '2min'", Command::Set("query_timeout".to_owned(), "2min".to_owned())),
        ("set x = 1.5", Command::Set("x".to_owned(), "1.5".to_owned())),
        ("set x = -1", Command::Set("x".to_owned(), "-1".to_owned())),
        ("set x = a b, c", Command::Set("x".to_owned(), "a b,c".to_owned())),
        ("set x = ''", Command::Set("x".to_owned(), String::new())),
        (
            "set session_features = pin, listen=reject",
            Command::Set("session_features".to_owned(), "pin,listen=reject".to_owned()),
        ),
        ("SHOW PINS", Command::Show(Show::Pins)),
        ("PAUSE", Command::Pause(None)),
        ("pause MyDb", Command::Pause(some("MyDb"))),
        ("pause \"my-\"\"db\"", Command::Pause(some("my-\"db"))),
        ("RESUME a", Command::Resume(some("a"))),
        ("DISABLE a", Command::Disable(some("a"))),
        ("ENABLE", Command::Enable(None)),
        ("RECONNECT a", Command::Reconnect(some("a"))),
        ("KILL a", Command::Kill(some("a"))),
        ("KILL_CLIENT 12", Command::KillClient(some("12"))),
        ("WAIT_CLOSE", Command::WaitClose(None)),
        ("RELOAD", Command::Reload),
        ("SHUTDOWN", Command::Shutdown(Shutdown::Now)),
        ("shutdown wait_for_servers", Command::Shutdown(Shutdown::WaitForServers)),
        ("SHUTDOWN WAIT_FOR_CLIENTS", Command::Shutdown(Shutdown::WaitForClients)),
        ("BEGIN", Command::Nothing("BEGIN")),
        ("begin isolation level read committed", Command::Nothing("BEGIN")),
        ("COMMIT", Command::Nothing("COMMIT")),
        ("ROLLBACK", Command::Nothing("ROLLBACK")),
        ("DISCARD ALL", Command::Nothing("DISCARD ALL")),
    ];
    for (script, expected) in cases {
        assert_eq!(parse(script), Ok(vec![expected]), "{script}");
    }
}

#[test]
fn scripts() {
    assert_eq!(parse("-- ping"), Ok(vec![]));
    assert_eq!(parse(";"), Ok(vec![]));
    let two = vec![Command::Show(Show::Pools), Command::Reload];
    assert_eq!(parse("show pools; reload;"), Ok(two));
    // Nothing of a script is done when one of its commands is none.
    assert!(parse("reload; reloda").is_err());
}

const NO_DATABASE: &str = "The console has no tables and no functions. Connect to a database for those.";

#[test]
fn what_is_no_command() {
    let cases = [
        ("SHOW", None),
        ("SHOW POOLS x", None),
        ("SHOW POOL", Some("Did you mean SHOW POOLS?")),
        ("select cleints", Some("Did you mean SHOW CLIENTS?")),
        ("PINS", Some("Did you mean SHOW PINS?")),
        ("POOLS", Some("Did you mean SHOW POOLS?")),
        ("PAUES db", Some("Did you mean PAUSE?")),
        ("PAUSE my-db", None),
        ("SHUTDOWN now", None),
        ("RELOAD x", None),
        ("SUSPND", Some("Did you mean SUSPEND?")),
        ("SUSPEND app", None),
        ("SHOW FDZ", Some("Did you mean SHOW FDS?")),
        ("SELECT * FROM pg_class", Some(NO_DATABASE)),
        ("INSERT INTO t VALUES ('x;y')", Some(NO_DATABASE)),
        ("SET x", None),
        ("SET x =", None),
        ("'text'", None),
        ("(", None),
    ];
    for (script, hint) in cases {
        let report = parse(script).unwrap_err();
        assert_eq!((report.severity, report.code.as_str()), ("ERROR", "08P01"));
        assert_eq!(report.message, format!("invalid command '{script}', use SHOW HELP;"));
        assert_eq!(report.hint, hint.unwrap_or_default(), "{script}");
    }
    assert_eq!(parse("KILL_CLIENT $1").unwrap_err().code, "0A000");
    assert_eq!(parse("PAUSE \"x").unwrap_err().message, "unterminated quoted identifier");
    let long = parse(&"x".repeat(5000)).unwrap_err().message;
    assert!(long.len() < 300, "{long}");
}
