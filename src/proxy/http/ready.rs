//! `/readyz` and `/readyz/DATABASE`: whether a backend can be had.
//!
//! A database is ready while a backend of it is open. Where none is, one is opened by the way that clients' are, and
//! waited for, but never for long: what answers too late is not ready. An entry that was never used and names no user
//! cannot be tried; it counts as ready, or it would never get its first client.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep};

use super::health::end_described;
use super::{Answer, Http, text};
use crate::config::Config;
use crate::net::Micros;
use crate::pool::{Failure, Pool};

/// How long a backend is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All databases of the configuration.
    All,
    /// One.
    One(String),
}

/// What is known of a database.
enum Verdict {
    Ready(String),
    NotReady(String),
    /// A backend is being opened.
    Trying,
}

/// What a path asks for, if it is one of this module's.
pub(super) fn asked_for(path: &str) -> Option<Asked> {
    let rest = path.strip_prefix("/readyz")?;
    match rest.strip_prefix('/') {
        Some(name) if !name.is_empty() => decoded(name).map(Asked::One),
        Some(_) => Some(Asked::All),
        None => rest.is_empty().then_some(Asked::All),
    }
}

/// A part of a path without its percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Http {
    /// `frank`: who asks may hear names and PostgreSQL's words.
    pub(super) async fn ready(&self, asked: Asked, frank: bool) -> Answer {
        if let Some(how) = self.proxy.ending_now() {
            return text(StatusCode::SERVICE_UNAVAILABLE, end_described(how));
        }
        if self.proxy.pools.is_suspended() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "suspended");
        }
        let config = self.proxy.pools.config.load_full();
        let (names, one) = match asked {
            Asked::All => (config.databases.keys().cloned().collect(), false),
            Asked::One(name) if config.database(&name).is_none() => {
                return text(StatusCode::NOT_FOUND, "no such database");
            }
            Asked::One(name) => (vec![name], true),
        };
        let verdicts = self.verdicts(&config, &names, frank).await;
        let ready = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        let status = if ready == names.len() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if !one && !frank {
            return text(status, &format!("{ready} of {} databases are ready", names.len()));
        }
        let line = |(name, verdict): (&String, &Result<String, String>)| {
            let who = if one { String::new() } else { format!("{}: ", name.escape_debug()) };
            match verdict {
                Ok(why) => format!("{who}{why}"),
                Err(why) => format!("{who}not ready: {why}"),
            }
        };
        let lines: Vec<_> = names.iter().zip(&verdicts).map(line).collect();
        text(status, &lines.join("\n"))
    }

    /// What is known of each database when all are, or when it has lasted long enough.
    async fn verdicts(&self, config: &Config, names: &[String], frank: bool) -> Vec<Result<String, String>> {
        let begun = self.proxy.pools.shared.clock.now();
        let deadline = Instant::now() + PATIENCE;
        for name in names {
            if let Verdict::Trying = self.verdict(config, name, begun, frank) {
                self.try_one(config, name);
            }
        }
        loop {
            let all: Vec<_> = names.iter().map(|name| self.verdict(config, name, begun, frank)).collect();
            let trying = all.iter().any(|verdict| matches!(verdict, Verdict::Trying));
            if !trying || Instant::now() >= deadline {
                let late = || Err(format!("no connection to PostgreSQL within {} s", PATIENCE.as_secs()));
                return all
                    .into_iter()
                    .map(|verdict| match verdict {
                        Verdict::Ready(why) => Ok(why),
                        Verdict::NotReady(why) => Err(why),
                        Verdict::Trying => late(),
                    })
                    .collect();
            }
            sleep(LOOK).await;
        }
    }

    fn verdict(&self, config: &Config, name: &str, begun: Micros, frank: bool) -> Verdict {
        let pools = &self.proxy.pools;
        if pools.is_paused(name) {
            return Verdict::NotReady("paused".to_owned());
        }
        if pools.is_disabled(name) {
            return Verdict::NotReady("disabled".to_owned());
        }
        let now = pools.shared.clock.now();
        let own = pools.of_database(name);
        let seen = own.iter().map(|pool| pool.glance(now));
        let (open, waiting) = seen.fold((0, 0), |sum, seen| (sum.0 + seen.open, sum.1 + seen.waiting));
        if open > 0 {
            return Verdict::Ready(format!("ready: connections to PostgreSQL {open}, clients that wait {waiting}"));
        }
        let failure = own.iter().filter_map(|pool| pool.failure()).max_by_key(|failure| failure.last);
        if let Some(failure) = failure.filter(|failure| failure.last >= begun || now < failure.retry_at) {
            return Verdict::NotReady(described(&failure, frank));
        }
        if self.candidate(config, name, &own) || !own.is_empty() {
            return Verdict::Trying;
        }
        Verdict::Ready("ready: not used yet, and without a user to try it with".to_owned())
    }

    /// Whether a pool may be made to try the database with: none for names that only the fallback entry serves, which
    /// are as many as anybody likes to ask for.
    fn candidate(&self, config: &Config, name: &str, own: &[Arc<Pool>]) -> bool {
        let forced = |entry: &crate::config::Database| entry.user.is_some();
        own.is_empty() && config.databases.get(name).is_some_and(|entry| forced(entry))
    }

    /// Has a backend opened.
    fn try_one(&self, config: &Config, name: &str) {
        let pools = &self.proxy.pools;
        let own = pools.of_database(name);
        if self.candidate(config, name, &own)
            && let Some(entry) = config.database(name)
        {
            pools.pool(&entry, "").probe();
        }
        // Whatever user it takes.
        own.iter().for_each(|pool| pool.probe());
    }
}

fn described(failure: &Failure, frank: bool) -> String {
    let Failure { code, message, .. } = failure;
    match frank {
        true => format!("{} ({code})", message.replace(char::is_control, " ")),
        false => format!("no connection to PostgreSQL ({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_databases() {
        let one = |name: &str| Some(Asked::One(name.to_owned()));
        assert_eq!(asked_for("/readyz"), Some(Asked::All));
        assert_eq!(asked_for("/readyz/"), Some(Asked::All));
        assert_eq!(asked_for("/readyz/app"), one("app"));
        assert_eq!(asked_for("/readyz/a%2Fb%20%C3%A4/c"), one("a/b ä/c"));
        for path in ["/readyzz", "/", "/readyz/%", "/readyz/%4", "/readyz/%zz", "/readyz/%ff"] {
            assert_eq!(asked_for(path), None, "{path}");
        }
    }
}
