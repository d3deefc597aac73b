//! What is wrong, or will be, by the facts: pure, so that each rule is tested by a table. docs/doctor.md has a section for
//! each code.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::{Facts, Session};
use crate::cli::age;

/// How bad; the order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Info,
    Warning,
    Critical,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What counts as too much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) warn: f64,
    pub(crate) critical: f64,
    /// Seconds.
    pub(crate) leak_age: f64,
    /// Seconds.
    pub(crate) transaction_age: f64,
}

/// How many idle connections of one kind are a leak.
const LEAK: usize = 3;
/// From how much retained WAL an inactive slot is a warning, bytes.
const MUCH_WAL: i64 = 1 << 30;
/// Clocks that differ by less are no finding, seconds.
const JUMP: f64 = -2.0;

/// Many idle connections of one application.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Leak {
    pub(crate) application: String,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) address: String,
    pub(crate) connections: usize,
    pub(crate) oldest: f64,
}

/// The leaked pools: idle connections of the same application, role, database and address, all older than `age` seconds.
/// Idle in a transaction counts as well: some drivers begin one with the first query.
pub(crate) fn leaks(facts: &Facts, age: f64) -> Vec<Leak> {
    let mut groups: BTreeMap<[String; 4], Vec<f64>> = BTreeMap::new();
    let idle = |session: &&Session| session.is_idle() || session.is_idle_in_transaction();
    for session in facts.clients().filter(idle).filter(|session| !session.pooler && session.idle_for() >= age) {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| String::from("?"));
        let key = [session.application.clone(), text(&session.user), text(&session.database), text(&session.address)];
        groups.entry(key).or_default().push(session.idle_for());
    }
    let mut found: Vec<Leak> = groups
        .into_iter()
        .filter(|(_, ages)| ages.len() >= LEAK)
        .map(|([application, user, database, address], ages)| Leak {
            application,
            user,
            database,
            address,
            connections: ages.len(),
            oldest: ages.into_iter().fold(0.0, f64::max),
        })
        .collect();
    found.sort_by_key(|leak| std::cmp::Reverse(leak.connections));
    found
}

/// Everything that is found, the worst first.
pub(crate) fn findings(facts: &Facts, bounds: &Bounds) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    slots(facts, bounds, &mut found);
    transactions(facts, bounds, &mut found);
    for leak in leaks(facts, bounds.leak_age) {
        let name = if leak.application.is_empty() { "(no application_name)" } else { &leak.application };
        found.add(
            Severity::Warning,
            "leaked_pool",
            format!(
                "{} connections of {name} ({}@{} from {}) have been idle for {} and more, the oldest for {}",
                leak.connections,
                leak.user,
                leak.database,
                leak.address,
                age::shown(bounds.leak_age),
                age::shown(leak.oldest)
            ),
        );
    }
    replication(facts, &mut found);
    surroundings(facts, &mut found);
    let mut found = found.0;
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, severity: Severity, code: &'static str, message: String) {
        self.0.push(Finding { severity, code, message });
    }
}

fn by_percent(percent: f64, bounds: &Bounds) -> Option<Severity> {
    match percent {
        percent if percent >= bounds.critical => Some(Severity::Critical),
        percent if percent >= bounds.warn => Some(Severity::Warning),
        _ => None,
    }
}

fn slots(facts: &Facts, bounds: &Bounds, found: &mut Found) {
    match &facts.slots {
        Some(slots) => {
            if let Some(severity) = by_percent(slots.percent, bounds) {
                let message = format!(
                    "{:.0}% of the slots for ordinary roles are taken: {} of {}, {} left",
                    slots.percent, slots.used, slots.ordinary, slots.left
                );
                found.add(severity, "slots", message);
            }
        }
        None => found.add(
            Severity::Warning,
            "slots_unknown",
            String::from("how many slots there are and are taken could not be found out"),
        ),
    }
    for limit in &facts.limits {
        let percent = f64::from(limit.used) * 100.0 / f64::from(limit.limit.max(1));
        if let Some(severity) = by_percent(percent, bounds).filter(|_| limit.limit > 0 || limit.used > 0) {
            let message = format!(
                "the {} \"{}\" has {} of the {} connections that it may have (CONNECTION LIMIT)",
                limit.kind, limit.name, limit.used, limit.limit
            );
            found.add(severity, "own_limit", message);
        }
    }
    if let (Some(demand), Some(slots)) = (facts.demand, &facts.slots)
        && demand > u64::from(slots.ordinary)
    {
        let (severity, kept) = if facts.demand_kept {
            (Severity::Info, "; slot_budget keeps pgpool within them, and clients wait for what is missing")
        } else {
            (Severity::Warning, "")
        };
        let message = format!(
            "the configuration may ask for {demand} connections, and there are {} slots for ordinary roles{kept}",
            slots.ordinary
        );
        found.add(severity, "demand", message);
    }
}

fn transactions(facts: &Facts, bounds: &Bounds, found: &mut Found) {
    let old = |session: &&Session| session.is_idle_in_transaction() && session.idle_for() >= bounds.transaction_age;
    for session in facts.sessions.iter().filter(old) {
        let message = format!(
            "process {} ({}) has been idle in a transaction for {}",
            session.pid,
            session.who(),
            age::shown(session.idle_for())
        );
        found.add(Severity::Warning, "idle_in_transaction", message);
    }
    for waiter in &facts.waiters {
        let blocking =
            |session: &&Session| waiter.blockers.contains(&i64::from(session.pid)) && session.is_idle_in_transaction();
        for session in facts.sessions.iter().filter(blocking) {
            let message = format!(
                "process {} has waited for {} for a lock of process {} ({}), which is idle in a transaction",
                waiter.pid,
                age::shown(waiter.age),
                session.pid,
                session.who()
            );
            found.add(Severity::Warning, "blocked", message);
        }
        // pg_blocking_pids says 0 for a prepared transaction.
        if waiter.blockers.contains(&0) {
            let message = format!(
                "process {} has waited for {} for a lock of a prepared transaction",
                waiter.pid,
                age::shown(waiter.age)
            );
            found.add(Severity::Warning, "blocked", message);
        }
    }
    for prepared in facts.prepared_transactions.iter().filter(|prepared| prepared.age >= bounds.transaction_age) {
        let message = format!(
            "the prepared transaction '{}' of {} in {} is {} old: it holds its locks until somebody ends it",
            prepared.gid,
            prepared.owner,
            prepared.database,
            age::shown(prepared.age)
        );
        found.add(Severity::Warning, "prepared_transaction", message);
    }
}

fn replication(facts: &Facts, found: &mut Found) {
    for slot in facts.replication_slots.iter().filter(|slot| !slot.active) {
        let retained = slot.retained_bytes.unwrap_or(0);
        let severity = if retained >= MUCH_WAL { Severity::Warning } else { Severity::Info };
        let message = format!(
            "nobody uses the {} replication slot \"{}\", which retains {} MB of WAL",
            slot.kind,
            slot.name,
            retained >> 20
        );
        found.add(severity, "inactive_replication_slot", message);
    }
}

fn surroundings(facts: &Facts, found: &mut Found) {
    let pending: Vec<&str> = facts
        .settings
        .values()
        .filter(|setting| setting.pending_restart)
        .map(|setting| setting.name.as_str())
        .collect();
    if !pending.is_empty() {
        let message = format!("changed in the files, in force after a restart: {}", pending.join(", "));
        found.add(Severity::Info, "pending_restart", message);
    }
    let off = |name: &str| facts.text(name) == Some("0");
    if off("idle_in_transaction_session_timeout") {
        let message =
            String::from("idle_in_transaction_session_timeout is off: a transaction may be left open for ever");
        found.add(Severity::Info, "no_timeout", message);
    }
    let hidden = facts.clients().filter(|session| session.hidden).count();
    if hidden > 0 || !facts.server.sees_all {
        let message = format!(
            "\"{}\" may not see the sessions of other roles ({hidden} are shown without state, address, and query); a \
             superuser can run: GRANT pg_monitor TO {}",
            facts.server.user,
            crate::cli::link::identifier(&facts.server.user)
        );
        found.add(Severity::Info, "hidden", message);
    }
    for (what, why) in &facts.unknown {
        found.add(Severity::Info, "unknown", format!("{what} could not be found out: {why}"));
    }
    let jumped = |session: &&Session| session.session_age.is_some_and(|age| age < JUMP);
    if facts.sessions.iter().any(|session| jumped(&session)) {
        let message = String::from("the server's clock has gone back: ages are too small until it has caught up");
        found.add(Severity::Info, "clock", message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{OwnLimit, PreparedTransaction, ReplicationSlot, Setting, Slots, Waiter};
    use super::*;

    const BOUNDS: Bounds = Bounds { warn: 80.0, critical: 95.0, leak_age: 600.0, transaction_age: 300.0 };

    fn session(pid: u32, application: &str, state: &str, age: f64) -> Session {
        Session {
            pid,
            application: application.to_owned(),
            user: Some("u".to_owned()),
            database: Some("d".to_owned()),
            address: Some("10.0.0.1".to_owned()),
            kind: Some("client backend".to_owned()),
            state: Some(state.to_owned()),
            state_age: Some(age),
            session_age: Some(age),
            ..Session::default()
        }
    }

    fn facts(sessions: Vec<Session>) -> Facts {
        let slots = Slots::of(|name| Some(if name == "max_connections" { 100 } else { 0 }), 10, 0);
        let mut facts = Facts { sessions, slots, ..Facts::default() };
        facts.server.sees_all = true;
        facts
    }

    fn codes(facts: &Facts) -> Vec<(Severity, &'static str)> {
        findings(facts, &BOUNDS).into_iter().map(|finding| (finding.severity, finding.code)).collect()
    }

    #[test]
    fn a_quiet_server_has_no_findings() {
        let idle = (0..9).map(|pid| session(pid, "web", "idle", 599.0)).collect();
        assert_eq!(codes(&facts(idle)), []);
    }

    #[test]
    fn percents_make_warning_and_critical() {
        for (used, expected) in [(79, None), (80, Some(Severity::Warning)), (95, Some(Severity::Critical))] {
            let mut facts = facts(Vec::new());
            facts.slots = Slots::of(|name| Some(if name == "max_connections" { 100 } else { 0 }), used, 0);
            assert_eq!(codes(&facts), expected.map(|severity| (severity, "slots")).into_iter().collect::<Vec<_>>());
        }
        let mut facts = facts(Vec::new());
        let limit = |used| OwnLimit { kind: "role".into(), name: "r".into(), limit: 10, used };
        facts.limits = vec![limit(7), limit(8), limit(10)];
        assert_eq!(codes(&facts), [(Severity::Critical, "own_limit"), (Severity::Warning, "own_limit")]);
        facts.limits = vec![OwnLimit { limit: 0, ..limit(0) }];
        assert_eq!(codes(&facts), []);
        facts.slots = None;
        assert_eq!(codes(&facts), [(Severity::Warning, "slots_unknown")]);
        facts.slots = Slots::of(|name| Some(if name == "max_connections" { 100 } else { 0 }), 1, 0);
        facts.demand = Some(101);
        assert_eq!(codes(&facts), [(Severity::Warning, "demand")]);
        facts.demand_kept = true;
        assert_eq!(codes(&facts), [(Severity::Info, "demand")]);
    }

    #[test]
    fn many_old_idle_connections_of_one_kind_are_a_leak() {
        let mut sessions: Vec<Session> = (0..4).map(|pid| session(pid, "report", "idle", 700.0)).collect();
        sessions[0].state = Some("idle in transaction".to_owned());
        sessions.extend((4..6).map(|pid| session(pid, "web", "idle", 9000.0)));
        sessions.extend((6..9).map(|pid| Session { pooler: true, ..session(pid, "pooled", "idle", 9000.0) }));
        sessions.extend((9..12).map(|pid| session(pid, "busy", "active", 9000.0)));
        let found = leaks(&facts(sessions), 600.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].application.as_str(), found[0].connections), ("report", 4));
    }

    #[test]
    fn transactions_that_hold_up_others_are_told() {
        let mut facts = facts(vec![session(1, "a", "idle in transaction", 301.0), session(2, "b", "active", 1.0)]);
        facts.waiters = vec![Waiter { pid: 2, blockers: vec![1, 0], age: 5.0, query: String::new() }];
        facts.prepared_transactions = vec![PreparedTransaction { age: 301.0, ..PreparedTransaction::default() }];
        let found: Vec<_> = codes(&facts).into_iter().map(|(_, code)| code).collect();
        assert_eq!(found, ["idle_in_transaction", "blocked", "blocked", "prepared_transaction"]);
    }

    #[test]
    fn what_is_around_is_told_and_never_alarms() {
        let mut facts = facts(vec![session(1, "a", "idle", -10.0)]);
        let setting = |name: &str, setting: &str, pending_restart| {
            let value =
                Setting { name: name.into(), setting: Some(setting.into()), pending_restart, ..Setting::default() };
            (name.to_owned(), value)
        };
        facts.settings =
            [setting("max_connections", "100", true), setting("idle_in_transaction_session_timeout", "0", false)]
                .into();
        facts.server.sees_all = false;
        facts.unknown.insert("locks".into(), "permission denied".into());
        let slot = |retained| ReplicationSlot { retained_bytes: Some(retained), ..ReplicationSlot::default() };
        facts.replication_slots = vec![slot(1 << 20), slot(1 << 30)];
        let found = codes(&facts);
        assert_eq!(found[0], (Severity::Warning, "inactive_replication_slot"));
        let rest: Vec<_> = found[1..].iter().map(|(_, code)| *code).collect();
        assert_eq!(rest, ["inactive_replication_slot", "pending_restart", "no_timeout", "hidden", "unknown", "clock"]);
        assert!(found[1..].iter().all(|(severity, _)| *severity == Severity::Info));
    }
}
