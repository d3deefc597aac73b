//! The console of both has the same tables, with the same columns and types, and the same to say to each command.

use std::collections::BTreeSet;

use super::{Differences, HAS_NEWER, Pair, Side, answer, known};
use crate::support::{messages::query, reply::Message};

const TABLES: &[&str] = &[
    "active_sockets",
    "clients",
    "config",
    "databases",
    "dns_hosts",
    "dns_zones",
    "fds",
    "help",
    "lists",
    "mem",
    "peer_pools",
    "peers",
    "pools",
    "servers",
    "sockets",
    "state",
    "stats",
    "stats_averages",
    "stats_totals",
    "totals",
    "users",
    "version",
];

/// In this order: some take back what others did.
const COMMANDS: &[&str] = &[
    "show",
    "show nosuch",
    "show stats nosuch",
    "select 1",
    "select version",
    "show timezone",
    "show datestyle",
    "show client_encoding",
    "show standard_conforming_strings",
    "show default_transaction_isolation",
    "set client_encoding = 'utf8'",
    "set datestyle to iso",
    "set extra_float_digits = 3",
    "set application_name = 'x'",
    "set",
    "set nosuch = 1",
    "set max_client_conn = many",
    "set max_client_conn = '99'",
    "set log_stats to 0",
    "set pool_mode = sometimes",
    "pause pgbouncer",
    "pause nosuch!",
    "pause app",
    "pause app",
    "resume app",
    "resume app",
    "resume",
    "resume pgbouncer",
    "pause",
    "pause",
    "kill app",
    "suspend",
    "resume",
    "disable",
    "disable pgbouncer",
    "disable app",
    "enable app",
    "enable",
    "enable pgbouncer",
    "reconnect",
    "reconnect app",
    "reconnect pgbouncer",
    "kill pgbouncer",
    "kill app",
    "resume app",
    "kill_client",
    "kill_client x",
    "kill_client 0",
    "wait_close",
    "wait_close app",
    "wait_close pgbouncer",
    "reload",
    "reload app",
    "shutdown now",
    "suspend app",
    "begin",
    "nonsense",
    "",
    ";",
    "show version;",
    "show version; show version",
    "SHOW Version",
    "show \"version\"",
    "show -- nothing\nversion",
];

/// Columns with the numbers of their types, and what else was answered.
fn shape(side: &Side, sql: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for message in answer(&mut side.console(), &query(sql)) {
        match message.tag {
            b'T' => parts.extend(columns(&message)),
            b'E' | b'N' => {
                let error = message.error();
                parts.push(format!("{} {}: {}", error.severity, error.code, error.message));
            }
            b'C' => parts.push(message.command()),
            b'D' => {}
            other => parts.push(char::from(other).to_string()),
        }
    }
    parts
}

fn columns(description: &Message) -> Vec<String> {
    let mut rest = description.body.get(2..).unwrap_or_default();
    let mut columns = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let kind = u32::from_be_bytes(rest[end + 7..end + 11].try_into().unwrap());
        columns.push(format!("{}:{kind}", String::from_utf8_lossy(&rest[..end])));
        rest = rest.get(end + 19..).unwrap_or_default();
    }
    columns
}

/// Where the answers differ: without the parts that both have.
fn differences(pair: &Pair, questions: impl IntoIterator<Item = (String, String)>) -> Differences {
    let mut differences = Differences::new();
    for (what, sql) in questions {
        eprintln!("{what}");
        let (ours, theirs) = (shape(&pair.ours, &sql), shape(&pair.theirs, &sql));
        let without = |parts: &[String], others: &[String]| -> (Vec<String>, Vec<String>) {
            parts.iter().cloned().partition(|part| others.contains(part))
        };
        let ((common, mine), (same, yours)) = (without(&ours, &theirs), without(&theirs, &ours));
        if mine.is_empty() && yours.is_empty() || common != same {
            if common != same {
                differences.insert(what, (ours.join(" "), theirs.join(" ")));
            }
        } else {
            differences.insert(what, (mine.join(" "), yours.join(" ")));
        }
    }
    differences
}

#[test]
fn the_console_has_the_same_tables() {
    let Some(pair) = Pair::start().filter(|pair| pair.minor >= HAS_NEWER) else { return };
    let tables = TABLES.iter().map(|name| ((*name).to_owned(), format!("show {name}")));
    pair.assert_known(&differences(&pair, tables), known::TABLES);
}

#[test]
fn commands_are_answered_in_the_same_words() {
    let Some(pair) = Pair::start().filter(|pair| pair.minor >= HAS_NEWER) else { return };
    let mut said: Vec<&str> = Vec::new();
    let numbered = COMMANDS.iter().map(|sql| {
        said.push(sql);
        match said.iter().filter(|before| *before == sql).count() {
            1 => ((*sql).to_owned(), (*sql).to_owned()),
            count => (format!("{sql} ({count})"), (*sql).to_owned()),
        }
    });
    pair.assert_known(&differences(&pair, numbered), known::COMMANDS);
}

/// What PgBouncer's help names is there, but for what has gone with a later version.
#[test]
fn the_help_names_the_same_commands() {
    let Some(pair) = Pair::start().filter(|pair| pair.minor >= HAS_NEWER) else { return };
    let words = |side: &Side| {
        let told = answer(&mut side.console(), &query("show help"));
        let detail = told.iter().find(|message| message.tag == b'N').unwrap().error().detail.unwrap();
        detail.split(['\n', '\t', '|', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (ours, theirs) = (words(&pair.ours), words(&pair.theirs));
    assert!(theirs.contains("KILL_CLIENT") && theirs.contains("WAIT_FOR_CLIENTS"), "{theirs:?}");
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
