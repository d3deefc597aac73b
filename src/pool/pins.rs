//! Pins: clients that keep their backend between transactions, because they left something on it. What they are told
//! that must not, or may not any more, is here as well.
//!
//! How many may is a cap of the pool; a [`Pin`] says why one does. It is set and cleared by the client's own session,
//! and read by the console and by the reports of this layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::facts::{described, seconds, theirs};
use super::{ClientRecord, Permit, Pool, PoolSettings};
use crate::net::{Clock, Micros};
use crate::wire::sqlstate;
use crate::wire::write::Report;

/// Why a client keeps its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What is left on the backend: names of `session_features`, and others that no policy is about.
    pub features: Vec<&'static str>,
    /// Since when.
    pub since: Micros,
    /// What did it, in a few words.
    pub why: Box<str>,
}

/// What can pin: the names of `session_features`, what pins whatever they say, and the rest.
const PINNING: [&str; 8] =
    ["advisory_locks", "temp_tables", "cursors", "listen", "load", "settings", "long_statements", "other"];

/// How many pins of a pool there are for each of what can pin; kept by the clients, read without a lock.
#[derive(Debug, Default)]
pub struct PinCounts([AtomicU32; PINNING.len()]);

impl PinCounts {
    /// Each name with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u32)> {
        PINNING.into_iter().zip(&self.0).map(|(name, count)| (name, count.load(Relaxed)))
    }

    pub(super) fn change(&self, old: &[&str], new: &[&str]) {
        let of = |features: &[&str], at: usize| {
            let place = |name: &&str| PINNING.iter().position(|known| known == name).unwrap_or(PINNING.len() - 1);
            u32::from(features.iter().any(|name| place(name) == at))
        };
        for (at, count) in self.0.iter().enumerate() {
            match (of(old, at), of(new, at)) {
                (0, 1) => drop(count.fetch_add(1, Relaxed)),
                (1, 0) => drop(count.fetch_sub(1, Relaxed)),
                _ => {}
            }
        }
    }
}

impl Pool {
    /// The right to pin a backend to a client, if fewer than `max_pinned` are; it lasts as long as the permit.
    pub fn try_pin(&self, settings: &PoolSettings) -> Option<Permit> {
        self.pinned.acquire(settings.max_pinned)
    }

    /// How many backends are pinned.
    #[must_use]
    pub fn pinned_count(&self) -> u32 {
        self.pinned.used()
    }
}

/// The clients of a pool that are pinned, each with its pin, the oldest pin first.
pub(super) fn pins(pool: &Pool) -> Vec<(Arc<ClientRecord>, Pin)> {
    let all = pool.shared.clients.all().into_iter().filter(|client| theirs(client, pool));
    let mut pins: Vec<_> = all.filter_map(|client| client.pin().map(|pin| (client, pin))).collect();
    pins.sort_by_key(|(_, pin)| pin.since);
    pins
}

/// "client 7 (application x, 10.0.0.1:5000) for 3.0 s: temp_tables (CREATE TEMP TABLE)"
pub(super) fn pin_described(client: &ClientRecord, pin: &Pin, now: Micros) -> String {
    let held = seconds(Clock::between(pin.since, now));
    let why = if pin.why.is_empty() { String::new() } else { format!(" ({})", pin.why) };
    format!("{} for {held}: {}{why}", described(client), pin.features.join(", "))
}

/// What a client is told whose statement would pin its backend, when no more may be pinned. `what` is a name in a
/// [`Pin`], or completes "the statement would have left behind ...".
#[must_use]
pub fn pin_refused(pool: &Pool, client: &ClientRecord, what: &str) -> Report {
    let feature = Feature::named(what);
    let left = feature.map_or(what, |feature| feature.one);
    let limit = match pool.settings.load().max_pinned {
        u32::MAX => String::new(),
        limit => format!(" of at most {limit}"),
    };
    let mut detail = format!(
        "The statement would have left behind {left}. Pool {}/{}: {}{limit} connections are pinned.",
        pool.key.database,
        pool.key.user,
        pool.pinned_count()
    );
    let others = pins(pool).into_iter().find(|(holder, _)| holder.id != client.id);
    if let Some((holder, pin)) = others {
        let now = pool.shared.clock.now();
        detail.push_str(&format!(" The oldest pin is that of {}.", pin_described(&holder, &pin, now)));
    }
    let hint = match feature {
        Some(feature) => format!("{} Otherwise raise max_pinned, or {SESSION_POOL}", feature.instead),
        None => format!("Raise max_pinned, or {SESSION_POOL}"),
    };
    Report::error(sqlstate::CONFIGURATION_LIMIT, "too many pinned connections").detail(detail).hint(hint)
}

/// What a client is told whose statement uses a feature that `session_features` rejects.
#[must_use]
pub fn feature_rejected(feature: &str) -> Report {
    let known = Feature::named(feature);
    let subject = known.map_or_else(|| format!("{feature} is"), |known| known.subject.to_owned());
    let message = format!("{subject} not allowed in transaction pooling mode");
    Report::error(sqlstate::FEATURE_NOT_SUPPORTED, message).hint(hint(known))
}

/// What a client is told whose statement uses a feature that `session_features` warns of. It is sent as a notice.
#[must_use]
pub fn feature_warning(feature: &str) -> Report {
    let known = Feature::named(feature);
    let left = known.map_or(feature, |known| known.one);
    let message = format!("{left} stays behind on a connection that other clients get");
    Report::new("WARNING", sqlstate::WARNING, message).hint(hint(known))
}

fn hint(feature: Option<&Feature>) -> String {
    match feature {
        Some(feature) => format!("{} Otherwise {SESSION_POOL}", feature.instead),
        None => "Give such clients a pool with pool_mode = session.".to_owned(),
    }
}

/// The way out that every hint ends with.
const SESSION_POOL: &str = "give such clients a pool with pool_mode = session.";

/// What pins whatever the policies are, since nothing can be done about it but to keep the backend.
const LASTING: &[Feature] = &[Feature {
    name: "long_statements",
    subject: "statements that are too long to be looked at are",
    one: "a statement that is too long to be looked at",
    instead: "Send long values as parameters.",
}];

/// The words about something that is left behind.
struct Feature {
    name: &'static str,
    /// All of its kind, with the verb.
    subject: &'static str,
    /// One of it.
    one: &'static str,
    /// What does within a transaction.
    instead: &'static str,
}

impl Feature {
    fn named(name: &str) -> Option<&'static Feature> {
        FEATURES.iter().chain(LASTING).find(|feature| feature.name == name)
    }
}

/// What `session_features` is about.
const FEATURES: &[Feature] = &[
    Feature {
        name: "advisory_locks",
        subject: "session-level advisory locks are",
        one: "a session-level advisory lock",
        instead: "Use pg_advisory_xact_lock, whose lock ends with the transaction.",
    },
    Feature {
        name: "temp_tables",
        subject: "temporary tables that outlive their transaction are",
        one: "a temporary table",
        instead: "Create the table with ON COMMIT DROP, in the transaction that uses it.",
    },
    Feature {
        name: "cursors",
        subject: "cursors WITH HOLD are",
        one: "a cursor WITH HOLD",
        instead: "Use a cursor without HOLD, inside one transaction.",
    },
    Feature {
        name: "listen",
        subject: "LISTEN is",
        one: "a registration of LISTEN",
        instead: "Listen over a connection to PostgreSQL itself.",
    },
    Feature {
        name: "load",
        subject: "LOAD is",
        one: "a loaded library",
        instead: "Name the library in session_preload_libraries, by ALTER ROLE or ALTER DATABASE.",
    },
    Feature {
        name: "settings",
        subject: "session settings that cannot be followed are",
        one: "a setting that cannot be followed",
        instead: "Use SET LOCAL or set_config(..., true) inside a transaction, or ALTER ROLE ... SET.",
    },
];

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, stage};
    use super::*;
    use crate::config::SessionFeatures;
    use crate::pool::facts;

    #[test]
    fn each_feature_has_its_words() {
        let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
        assert_eq!(names, SessionFeatures::NAMES);
        assert_eq!(PINNING[..names.len()], names);
        for name in SessionFeatures::NAMES {
            let (rejected, warning) = (feature_rejected(name), feature_warning(name));
            assert_eq!((rejected.severity, rejected.code.as_str()), ("ERROR", "0A000"));
            assert_eq!((warning.severity, warning.code.as_str()), ("WARNING", "01000"));
            assert!(rejected.message.ends_with(" not allowed in transaction pooling mode"), "{}", rejected.message);
            for hint in [&rejected.hint, &warning.hint] {
                assert!(hint.ends_with(". Otherwise give such clients a pool with pool_mode = session."), "{hint}");
            }
        }
        let locks = feature_rejected("advisory_locks");
        assert_eq!(locks.message, "session-level advisory locks are not allowed in transaction pooling mode");
        assert!(locks.hint.starts_with("Use pg_advisory_xact_lock, "));
        let table = feature_warning("temp_tables").message;
        assert_eq!(table, "a temporary table stays behind on a connection that other clients get");
    }

    /// Pins a client of the stage, as its session would.
    fn pinned(stage: &Stage, feature: &'static str, why: &str) -> (Arc<ClientRecord>, Permit) {
        let permit = stage.pool.try_pin(&stage.pool.settings.load()).unwrap();
        let client = stage.client();
        client.set_pin(Some(Pin { features: vec![feature], since: stage.pools.shared.clock.now(), why: why.into() }));
        (client, permit)
    }

    #[tokio::test]
    async fn a_refused_pin_tells_who_holds_the_others() {
        let stage = stage("max_pinned = 2");
        assert!(!facts(&stage.pools, &stage.pool, &stage.client()).contains("pinned"));
        let (first, permit) = pinned(&stage, "temp_tables", "CREATE TEMP TABLE");
        let (second, _second) = pinned(&stage, "listen", "");
        let _listed: Vec<_> = [&first, &second].map(|one| stage.pools.clients.enlist(Arc::clone(one))).into();
        assert!(stage.pool.try_pin(&stage.pool.settings.load()).is_none());
        assert_eq!(stage.pool.pinned_count(), 2);

        let report = pin_refused(&stage.pool, &stage.client(), "advisory_locks");
        assert_eq!((report.severity, report.code.as_str()), ("ERROR", "53400"));
        assert_eq!(report.message, "too many pinned connections");
        let start = "The statement would have left behind a session-level advisory lock. Pool db/alice: 2 of at most 2 \
                     connections are pinned. The oldest pin is that of client ";
        assert!(report.detail.starts_with(start), "{}", report.detail);
        let who = format!("client {} (unnamed application, unix", first.id);
        let why = " s: temp_tables (CREATE TEMP TABLE).";
        assert!(report.detail.contains(&who) && report.detail.ends_with(why), "{}", report.detail);
        assert!(report.hint.starts_with("Use pg_advisory_xact_lock, ") && report.hint.contains("max_pinned"));
        let facts = facts(&stage.pools, &stage.pool, &second);
        assert!(facts.contains(" Pinned connections: 2, the oldest to client ") && facts.contains(why), "{facts}");

        let pins = |name| stage.pool.pins.counts().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!((pins("temp_tables"), pins("listen"), pins("other")), (1, 1, 0));
        first.set_pin(Some(Pin { features: vec!["temp_tables", "a trace"], ..first.pin().unwrap() }));
        assert_eq!((pins("temp_tables"), pins("listen"), pins("other")), (1, 1, 1));
        first.set_pin(None);
        assert_eq!((pins("temp_tables"), pins("listen"), pins("other")), (0, 1, 0));
        drop(permit);
        assert_eq!((first.pin(), stage.pool.pinned_count()), (None, 1));
        let words = pin_refused(&stage.pool, &second, "a trace");
        assert!(words.detail.ends_with("behind a trace. Pool db/alice: 1 of at most 2 connections are pinned."));
        let long = pin_refused(&stage.pool, &second, "long_statements");
        assert!(
            long.detail.contains("left behind a statement that is too long") && long.hint.starts_with("Send long ")
        );
        assert!(words.hint.starts_with("Raise max_pinned, or give "), "{}", words.hint);
        assert!(stage.pool.try_pin(&stage.pool.settings.load()).is_some());
    }
}
