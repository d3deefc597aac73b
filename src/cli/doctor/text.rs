//! The report for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::advice::Provider;
use super::facts::{Facts, Session};
use super::findings::Severity;
use super::pooler::Pooler;
use super::report::{Looked, Report};
use crate::cli::age;

/// How many rows of a list are shown.
const SHOWN: usize = 10;
/// How much of a query is shown.
const QUERY: usize = 80;

/// All of it.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", report.status_line());
    for looked in &report.servers {
        server(&mut out, looked);
    }
    match &report.pooler {
        Some(Ok(shown)) => pooler(&mut out, shown),
        Some(Err(error)) => drop(writeln!(out, "\npgpool: no console to ask ({error})")),
        None => {}
    }
    out
}

fn server(out: &mut String, looked: &Looked) {
    let facts = &looked.facts;
    let role = if facts.server.in_recovery { "standby" } else { "primary" };
    let _ = writeln!(
        out,
        "\n== {}: PostgreSQL {}, {role}, since {}",
        facts.target, facts.server.version, facts.server.started
    );
    arithmetic(out, facts);
    if !looked.findings.is_empty() {
        let _ = writeln!(out, "\nfindings (docs/doctor.md has a section for each)");
        for finding in &looked.findings {
            let severity = match finding.severity {
                Severity::Info => "info",
                Severity::Warning => "WARNING",
                Severity::Critical => "CRITICAL",
            };
            let _ = writeln!(out, "  {severity:8} {}: {}", finding.code, printable(&finding.message));
        }
    }
    breakdown(out, facts);
    sessions(out, facts);
    transactions(out, facts);
    replication(out, facts);
    settings(out, facts);
    if !looked.advice.is_empty() {
        let _ = writeln!(out, "\nadvice (nothing of it has been done)");
        for advice in &looked.advice {
            let _ = writeln!(out, "  - {}; {}:", printable(&advice.why), advice.takes_effect);
            for line in &advice.how {
                let _ = writeln!(out, "      {}", printable(line));
            }
        }
    }
    if let Some(note) = Provider::of(facts).note() {
        let _ = writeln!(out, "  - {note}");
    }
}

fn arithmetic(out: &mut String, facts: &Facts) {
    let Some(slots) = &facts.slots else {
        let _ = writeln!(out, "\nslots: unknown");
        return;
    };
    let _ = writeln!(out, "\nslots");
    let _ = writeln!(out, "  {:6} max_connections", slots.max_connections);
    for (count, name) in [
        (slots.superuser_reserved_connections, "superuser_reserved_connections"),
        (slots.reserved_connections, "reserved_connections (for pg_use_reserved_connections)"),
        (slots.rds_superuser_reserved_connections, "rds.rds_superuser_reserved_connections"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "- {count:6} {name}");
        }
    }
    let _ = writeln!(out, "= {:6} for ordinary roles", slots.ordinary);
    let hidden =
        if slots.hidden > 0 { format!(", {} of them hidden from this role", slots.hidden) } else { String::new() };
    let _ = writeln!(
        out,
        "- {:6} taken by clients ({:.0}%; this connection not counted{hidden})",
        slots.used, slots.percent
    );
    let _ = writeln!(out, "= {:6} left", slots.left);
    if let Some(senders) = facts.number("max_wal_senders") {
        let used = facts.sessions.iter().filter(|session| session.is_walsender()).count();
        let counted =
            if facts.server.version_num < 120_000 { "within max_connections" } else { "not of max_connections" };
        let _ = writeln!(out, "  walsenders: {used} of max_wal_senders {senders}, {counted}");
    }
    for limit in &facts.limits {
        let _ = writeln!(
            out,
            "  {} {}: {} of its own limit of {}",
            limit.kind,
            printable(&limit.name),
            limit.used,
            limit.limit
        );
    }
    if !facts.demand_told.is_empty() {
        let _ = writeln!(out, "\nwhat the configuration may ask for here");
        for line in facts.demand_told.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
}

/// Counts by one property after the other.
fn breakdown(out: &mut String, facts: &Facts) {
    type By = fn(&Session) -> String;
    let kinds: [(&str, By); 5] = [
        ("database", |session| or_unknown(session.database.as_ref())),
        ("user", |session| or_unknown(session.user.as_ref())),
        ("application", |session| {
            if session.application.is_empty() { String::from("(none)") } else { session.application.clone() }
        }),
        ("state", |session| if session.hidden { String::from("(hidden)") } else { or_unknown(session.state.as_ref()) }),
        ("address", |session| or_unknown(session.address.as_ref())),
    ];
    if facts.clients().next().is_none() {
        return;
    }
    let _ = writeln!(out, "\nwho holds them");
    for (name, by) in kinds {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for session in facts.clients() {
            *counts.entry(by(session)).or_default() += 1;
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let more = counts.len().saturating_sub(SHOWN);
        let mut listed: Vec<String> =
            counts.into_iter().take(SHOWN).map(|(value, count)| format!("{} {count}", printable(&value))).collect();
        if more > 0 {
            listed.push(format!("{more} more"));
        }
        let _ = writeln!(out, "  by {name:12} {}", listed.join(", "));
    }
    let pooled = facts.clients().filter(|session| session.pooler).count();
    if pooled > 0 {
        let _ = writeln!(out, "  of them {pooled} belong to pgpool");
    }
}

fn or_unknown(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| String::from("?"))
}

fn sessions(out: &mut String, facts: &Facts) {
    let mut idle: Vec<&Session> = facts.clients().filter(|session| session.is_idle()).collect();
    idle.sort_by(|one, other| other.idle_for().total_cmp(&one.idle_for()));
    if idle.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nidle the longest ({} idle)", idle.len());
    for session in idle.into_iter().take(SHOWN) {
        let _ = writeln!(
            out,
            "  process {:<8} {:>14}  {}; last: {}",
            session.pid,
            age::shown(session.idle_for()),
            printable(&session.who()),
            query(session)
        );
    }
}

fn transactions(out: &mut String, facts: &Facts) {
    let mut open: Vec<&Session> = facts.sessions.iter().filter(|session| session.is_idle_in_transaction()).collect();
    open.sort_by(|one, other| other.idle_for().total_cmp(&one.idle_for()));
    if !open.is_empty() {
        let _ = writeln!(out, "\nidle in a transaction");
    }
    for session in open.iter().take(SHOWN) {
        let _ = writeln!(
            out,
            "  process {:<8} {:>14}  {}; last: {}",
            session.pid,
            age::shown(session.idle_for()),
            printable(&session.who()),
            query(session)
        );
        let locks: Vec<String> = facts
            .locks
            .iter()
            .filter(|lock| lock.pid == session.pid && lock.what != "transactionid")
            .map(|lock| format!("{} {}", printable(&lock.what), lock.mode))
            .collect();
        if !locks.is_empty() {
            let _ = writeln!(out, "    holds {}", locks.join(", "));
        }
        for waiter in facts.waiters.iter().filter(|waiter| waiter.blockers.contains(&i64::from(session.pid))) {
            let waited = age::shown(waiter.age);
            let _ = writeln!(out, "    process {} waits for it since {waited}: {}", waiter.pid, cut(&waiter.query));
        }
    }
    if !facts.prepared_transactions.is_empty() {
        let _ = writeln!(out, "\nprepared transactions");
        for prepared in facts.prepared_transactions.iter().take(SHOWN) {
            let _ = writeln!(
                out,
                "  '{}' of {} in {}, {} old (COMMIT PREPARED or ROLLBACK PREPARED ends it)",
                printable(&prepared.gid),
                printable(&prepared.owner),
                printable(&prepared.database),
                age::shown(prepared.age)
            );
        }
    }
}

fn replication(out: &mut String, facts: &Facts) {
    let senders: Vec<&Session> = facts.sessions.iter().filter(|session| session.is_walsender()).collect();
    if senders.is_empty() && facts.replication_slots.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nreplication");
    for sender in senders.into_iter().take(SHOWN) {
        let _ = writeln!(out, "  walsender {}: {}", sender.pid, printable(&sender.who()));
    }
    for slot in facts.replication_slots.iter().take(SHOWN) {
        let used = if slot.active { "in use" } else { "NOT IN USE" };
        let retained = slot.retained_bytes.map_or(String::from("?"), |bytes| (bytes >> 20).to_string());
        let _ = writeln!(out, "  slot {} ({}): {used}, retains {retained} MB of WAL", printable(&slot.name), slot.kind);
    }
}

fn settings(out: &mut String, facts: &Facts) {
    let names = [
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "statement_timeout",
        "transaction_timeout",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
        "tcp_user_timeout",
        "client_connection_check_interval",
    ];
    let shown: Vec<String> = names
        .into_iter()
        .filter_map(|name| {
            let setting = facts.settings.get(name)?;
            let value = setting.setting.as_deref()?;
            let value = if value == "0" { "off" } else { value };
            Some(format!("{name} {value}{}", if value == "off" { "" } else { setting.unit.as_str() }))
        })
        .collect();
    if !shown.is_empty() {
        let _ = writeln!(out, "\nwhat ends sessions by itself\n  {}", shown.join(", "));
    }
    let seen = &facts.concurrency;
    if seen.looks > 0 {
        let cores = facts.cores.map_or(String::from("cores unknown"), |cores| format!("{cores} cores"));
        let _ = writeln!(
            out,
            "\nat work: at most {} queries at once in {} looks ({:.1} on average, {} of them computing); {cores}",
            seen.active_most, seen.looks, seen.active_mean, seen.running_most
        );
    }
}

fn pooler(out: &mut String, pooler: &Pooler) {
    let _ = writeln!(
        out,
        "\n== the running pooler: {}, {} connections to PostgreSQL",
        pooler.version,
        pooler.backends.len()
    );
    for table in &pooler.tables {
        let _ = writeln!(out, "\n{}", table.command);
        let text = |value: &Option<String>| printable(value.as_deref().unwrap_or(""));
        let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(text).collect()).collect();
        let width = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at)).chain(table.columns.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
        for row in std::iter::once(&table.columns).chain(&rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
            let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

fn query(session: &Session) -> String {
    if session.hidden {
        return String::from("(hidden from this role)");
    }
    cut(session.query.as_deref().unwrap_or(""))
}

fn cut(query: &str) -> String {
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(QUERY).collect();
    let end = if short.len() < line.len() { "..." } else { "" };
    format!("{}{end}", printable(&short))
}

/// Without what a terminal might obey: names and queries are somebody else's.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}
