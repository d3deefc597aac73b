//! What was seen of a PostgreSQL server: the documents of `--json` (docs/doctor.md names the keys).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The server itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) version: String,
    pub(crate) version_num: u32,
    pub(crate) now: String,
    pub(crate) started: String,
    pub(crate) in_recovery: bool,
    pub(crate) pid: u32,
    pub(crate) address: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) superuser: bool,
    /// Whether it may see the sessions of others.
    pub(crate) sees_all: bool,
}

/// A row of `pg_settings`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) setting: Option<String>,
    pub(crate) unit: String,
    pub(crate) pending_restart: bool,
    pub(crate) source: String,
}

/// A row of `pg_stat_activity`. Ages are of the server's clock, in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) pid: u32,
    pub(crate) backend_start: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) application: String,
    pub(crate) address: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) wait_type: Option<String>,
    pub(crate) wait: Option<String>,
    pub(crate) session_age: Option<f64>,
    pub(crate) transaction_age: Option<f64>,
    pub(crate) state_age: Option<f64>,
    pub(crate) query: Option<String>,
    pub(crate) superuser: bool,
    /// Whether it is another role's, of whom only little is shown.
    pub(crate) hidden: bool,
    /// Whether it is a connection of the pgpool that runs with the same configuration.
    #[serde(default)]
    pub(crate) pooler: bool,
}

impl Session {
    /// Whether it takes one of `max_connections`. Of a hidden one with a role that is assumed; it could be a helper of a
    /// parallel query.
    pub(crate) fn takes_slot(&self, version_num: u32) -> bool {
        match self.kind.as_deref() {
            Some("client backend") => true,
            Some("walsender") => version_num < 120_000,
            Some(_) => false,
            None => self.hidden && self.user.is_some() && self.database.is_some(),
        }
    }

    pub(crate) fn is_walsender(&self) -> bool {
        self.kind.as_deref() == Some("walsender")
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state.as_deref() == Some("idle")
    }

    pub(crate) fn is_idle_in_transaction(&self) -> bool {
        self.state.as_deref().is_some_and(|state| state.starts_with("idle in transaction"))
    }

    /// How long it has been in its state; 0 where the clock says something impossible.
    pub(crate) fn idle_for(&self) -> f64 {
        self.state_age.unwrap_or(0.0).max(0.0)
    }

    /// `user@database application address`, for people.
    pub(crate) fn who(&self) -> String {
        let (user, database) = (self.user.as_deref().unwrap_or("?"), self.database.as_deref().unwrap_or("?"));
        let application = if self.application.is_empty() { "(no application_name)" } else { &self.application };
        format!("{user}@{database} {application} from {}", self.address.as_deref().unwrap_or("?"))
    }
}

/// A lock of a session that is idle in a transaction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HeldLock {
    pub(crate) pid: u32,
    pub(crate) mode: String,
    pub(crate) what: String,
}

/// A session that waits for a lock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) pid: u32,
    pub(crate) blockers: Vec<i64>,
    pub(crate) age: f64,
    pub(crate) query: String,
}

/// A row of `pg_prepared_xacts`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PreparedTransaction {
    pub(crate) gid: String,
    pub(crate) owner: String,
    pub(crate) database: String,
    pub(crate) age: f64,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReplicationSlot {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) active: bool,
    pub(crate) retained_bytes: Option<i64>,
}

/// A role or a database with a limit of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OwnLimit {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) limit: u32,
    #[serde(default)]
    pub(crate) used: u32,
}

/// How many queries ran at once, over a few looks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Concurrency {
    pub(crate) looks: u32,
    pub(crate) active_most: u32,
    pub(crate) active_mean: f64,
    /// Of the active ones those that computed.
    pub(crate) running_most: u32,
}

/// The arithmetic of the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Slots {
    pub(crate) max_connections: u32,
    pub(crate) superuser_reserved_connections: u32,
    pub(crate) reserved_connections: u32,
    pub(crate) rds_superuser_reserved_connections: u32,
    /// Taken by clients, this one not counted.
    pub(crate) used: u32,
    /// Of them those whose state is not shown to this role.
    pub(crate) hidden: u32,
    /// What ordinary roles may take altogether.
    pub(crate) ordinary: u32,
    /// What is left of it.
    pub(crate) left: u32,
    /// Used of ordinary, in per cent.
    pub(crate) percent: f64,
}

impl Slots {
    /// From the settings, and from how many are used.
    pub(crate) fn of(number: impl Fn(&str) -> Option<u32>, used: u32, hidden: u32) -> Option<Slots> {
        let max_connections = number("max_connections")?;
        let reserved = |name| number(name).unwrap_or(0);
        let superuser = reserved("superuser_reserved_connections");
        let (some, rds) = (reserved("reserved_connections"), reserved("rds.rds_superuser_reserved_connections"));
        let ordinary = max_connections.saturating_sub(superuser).saturating_sub(some).saturating_sub(rds);
        let percent = if ordinary == 0 { 100.0 } else { f64::from(used) * 100.0 / f64::from(ordinary) };
        Some(Slots {
            max_connections,
            superuser_reserved_connections: superuser,
            reserved_connections: some,
            rds_superuser_reserved_connections: rds,
            used,
            hidden,
            ordinary,
            left: ordinary.saturating_sub(used),
            percent,
        })
    }
}

/// Everything about one server. What could not be found out is in `unknown`, with the reason.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Facts {
    /// How it was reached.
    pub(crate) target: String,
    pub(crate) server: Server,
    pub(crate) slots: Option<Slots>,
    pub(crate) settings: BTreeMap<String, Setting>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) locks: Vec<HeldLock>,
    pub(crate) prepared_transactions: Vec<PreparedTransaction>,
    pub(crate) replication_slots: Vec<ReplicationSlot>,
    pub(crate) limits: Vec<OwnLimit>,
    pub(crate) concurrency: Concurrency,
    pub(crate) cores: Option<u32>,
    pub(crate) unknown: BTreeMap<String, String>,
    /// The most that the configuration may ask for here, times its processes; none without a configuration.
    pub(crate) demand: Option<u64>,
    /// Whether `slot_budget` keeps the pools within the slots all the same.
    pub(crate) demand_kept: bool,
    #[serde(skip)]
    pub(crate) demand_told: String,
}

impl Facts {
    /// A setting as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }

    /// A setting as a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name)?.setting.as_deref()
    }

    /// The sessions that take slots.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().filter(|session| session.takes_slot(self.server.version_num))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arithmetic_of_slots() {
        let settings = |name: &str| match name {
            "max_connections" => Some(100),
            "superuser_reserved_connections" => Some(3),
            "reserved_connections" => Some(7),
            _ => None,
        };
        let slots = Slots::of(settings, 81, 2).unwrap();
        assert_eq!((slots.ordinary, slots.left, slots.hidden), (90, 9, 2));
        assert!((slots.percent - 90.0).abs() < 1e-9);
        // Superusers may have taken more than is ordinary.
        let slots = Slots::of(settings, 95, 0).unwrap();
        assert_eq!(slots.left, 0);
        assert!(slots.percent > 100.0);
        assert_eq!(Slots::of(|_| None, 1, 0), None);
    }

    #[test]
    fn who_takes_a_slot() {
        let session = |kind: Option<&str>, hidden, user: Option<&str>| Session {
            kind: kind.map(str::to_owned),
            hidden,
            user: user.map(str::to_owned),
            database: Some("d".to_owned()),
            ..Session::default()
        };
        assert!(session(Some("client backend"), false, None).takes_slot(150_000));
        assert!(!session(Some("walsender"), false, Some("r")).takes_slot(150_000));
        assert!(session(Some("walsender"), false, Some("r")).takes_slot(110_000));
        assert!(!session(Some("autovacuum worker"), false, None).takes_slot(150_000));
        assert!(session(None, true, Some("r")).takes_slot(150_000));
        assert!(!session(None, true, None).takes_slot(150_000));
    }
}
