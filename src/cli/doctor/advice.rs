//! What could be done, as statements to run and where to change what; nothing here is ever applied.

use serde::Serialize;

use super::facts::{Facts, Slots};
use super::findings::{Bounds, leaks};
use crate::cli::link::literal;

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    pub(crate) why: String,
    /// What to run or to change, a line each.
    pub(crate) how: Vec<String>,
    /// When it counts.
    pub(crate) takes_effect: &'static str,
}

const AT_ONCE: &str = "at once";
const RELOAD: &str = "after a reload, for new transactions";
const RESTART: &str = "after a restart of PostgreSQL";
/// What a backend that does nothing takes, MB; measured ones are between 2 (fresh) and 20 (a large catalogue cached).
const BACKEND_MEGABYTES: u64 = 10;

/// Who runs the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Provider {
    Own,
    Rds,
    CloudSql,
    Azure,
}

impl Provider {
    /// By settings that only theirs have.
    pub(crate) fn of(facts: &Facts) -> Provider {
        let has = |prefix: &str| facts.settings.keys().any(|name| name.starts_with(prefix));
        match () {
            () if has("rds.") => Provider::Rds,
            () if has("cloudsql.") => Provider::CloudSql,
            () if has("azure.") => Provider::Azure,
            () => Provider::Own,
        }
    }

    fn set(self, name: &str, value: &str) -> Vec<String> {
        match self {
            Provider::Own => {
                let mut how = vec![format!("ALTER SYSTEM SET {name} = {value};")];
                if name != "max_connections" {
                    how.push(String::from("SELECT pg_reload_conf();"));
                }
                how
            }
            Provider::Rds => {
                vec![format!("in the DB parameter group: {name} = {value} (ALTER SYSTEM is not available)")]
            }
            Provider::CloudSql => vec![format!("as a database flag of the instance: {name} = {value}")],
            Provider::Azure => vec![format!("as a server parameter: {name} = {value}")],
        }
    }

    /// What its users have to know about slots.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Provider::Own => None,
            Provider::Rds => Some(
                "Amazon RDS or Aurora: max_connections follows the memory of the instance class unless the parameter \
                 group says otherwise; a change is static and needs a reboot. rdsadmin takes slots of its own, and \
                 rds.rds_superuser_reserved_connections keeps some for members of rds_superuser.",
            ),
            Provider::CloudSql => Some(
                "Google Cloud SQL: max_connections follows the memory of the machine unless a flag says otherwise; a change \
                 restarts the instance. cloudsqladmin takes slots of its own.",
            ),
            Provider::Azure => Some(
                "Azure Database for PostgreSQL: max_connections follows the size of the server; a change is static and needs \
                 a restart. Slots are kept for replication and monitoring of the provider (azuresu).",
            ),
        }
    }
}

/// All of it.
pub(crate) fn advice(facts: &Facts, bounds: &Bounds) -> Vec<Advice> {
    let provider = Provider::of(facts);
    let mut found = Vec::new();
    for leak in leaks(facts, bounds.leak_age) {
        found.push(Advice {
            why: format!(
                "{} connections of \"{}\" are open and unused: close them there (a pool's size and idle timeout, a \
                 connection that is not given back), or free the slots now",
                leak.connections, leak.application
            ),
            how: vec![format!(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle%' AND application_name = {} \
                 AND usename = {} AND state_change < now() - interval '{:.0} s';",
                literal(&leak.application),
                literal(&leak.user),
                bounds.leak_age
            )],
            takes_effect: AT_ONCE,
        });
    }
    if facts.text("idle_in_transaction_session_timeout") == Some("0") {
        found.push(Advice {
            why: String::from("end transactions that their client has forgotten"),
            how: provider.set("idle_in_transaction_session_timeout", "'5min'"),
            takes_effect: RELOAD,
        });
    }
    if facts.server.version_num >= 140_000 && facts.text("client_connection_check_interval") == Some("0") {
        found.push(Advice {
            why: String::from("notice clients that have vanished while their query runs"),
            how: provider.set("client_connection_check_interval", "'10s'"),
            takes_effect: RELOAD,
        });
    }
    found.extend(pool_sizes(facts));
    if let Some(slots) = &facts.slots {
        found.extend(more_slots(facts, slots, bounds, provider));
    }
    found
}

/// How many backends all pools together should have.
fn pool_sizes(facts: &Facts) -> Option<Advice> {
    let measured = facts.concurrency.active_most;
    let (most, by) = match facts.cores {
        Some(cores) => {
            let by_cores = cores.saturating_mul(2).saturating_add(1);
            let ceiling = cores.saturating_mul(4).max(by_cores);
            let most = by_cores.max(measured.saturating_mul(3) / 2).min(ceiling);
            (most, format!("{cores} cores, and at most {measured} queries were seen at once"))
        }
        None if facts.concurrency.looks > 0 => {
            let most = (measured.saturating_mul(3) / 2).max(4);
            (most, format!("at most {measured} queries were seen at once; the cores are not known (--cores)"))
        }
        None => return None,
    };
    let slots = facts.slots.as_ref().map_or(u32::MAX, |slots| slots.ordinary);
    let most = most.min(slots).max(1);
    Some(Advice {
        why: format!("all pools together need no more than about {most} connections to be as fast ({by})"),
        how: vec![
            format!("in pgpool.toml: max_server_connections = {most}"),
            String::from("and pool_mode = \"transaction\", so that clients share them"),
        ],
        takes_effect: "after a reload of pgpool",
    })
}

/// Whether to have more of them, and what that costs.
fn more_slots(facts: &Facts, slots: &Slots, bounds: &Bounds, provider: Provider) -> Option<Advice> {
    if slots.percent < bounds.warn {
        return None;
    }
    let idle = facts.clients().filter(|session| session.is_idle()).count();
    let more = (slots.max_connections / 2).max(20);
    let work_mem = facts.number("work_mem").unwrap_or(4096) / 1024;
    let cost = u64::from(more) * BACKEND_MEGABYTES;
    let pooling = if idle * 2 > slots.used as usize {
        format!("{idle} of the {} taken slots are idle: pool them before there are more; ", slots.used)
    } else {
        String::new()
    };
    let mut how = provider.set("max_connections", &(slots.max_connections + more).to_string());
    if facts.server.in_recovery || !facts.replication_slots.is_empty() {
        how.push(String::from("on standbys first: they must not have fewer than the primary"));
    }
    Some(Advice {
        why: format!(
            "{pooling}{more} more connections would cost about {cost} MB for the processes alone, and work_mem ({work_mem} \
             MB) for each sort or hash that they run at the same time"
        ),
        how,
        takes_effect: RESTART,
    })
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Concurrency, Setting};
    use super::*;

    const BOUNDS: Bounds = Bounds { warn: 80.0, critical: 95.0, leak_age: 600.0, transaction_age: 300.0 };

    fn facts(used: u32, settings: &[(&str, &str)]) -> Facts {
        let setting = |(name, value): &(&str, &str)| {
            let setting = Setting { name: (*name).into(), setting: Some((*value).into()), ..Setting::default() };
            ((*name).to_owned(), setting)
        };
        Facts {
            slots: Slots::of(|name| Some(if name == "max_connections" { 100 } else { 0 }), used, 0),
            settings: settings.iter().map(setting).collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn providers_are_told_by_their_settings() {
        let of = |name| Provider::of(&facts(0, &[(name, "x")]));
        assert_eq!(of("rds.extensions"), Provider::Rds);
        assert_eq!(of("cloudsql.iam_authentication"), Provider::CloudSql);
        assert_eq!(of("azure.extensions"), Provider::Azure);
        assert_eq!(of("work_mem"), Provider::Own);
        let how = advice(&facts(0, &[("rds.extensions", "x"), ("idle_in_transaction_session_timeout", "0")]), &BOUNDS);
        assert!(how[0].how[0].contains("parameter group") && !how[0].how[0].contains("ALTER SYSTEM SET"), "{how:?}");
    }

    #[test]
    fn more_slots_only_where_they_run_out_and_with_their_price() {
        assert_eq!(advice(&facts(10, &[]), &BOUNDS), []);
        let told = advice(&facts(90, &[("work_mem", "65536")]), &BOUNDS);
        assert_eq!(told[0].how, ["ALTER SYSTEM SET max_connections = 150;"]);
        assert_eq!(told[0].takes_effect, RESTART);
        assert!(told[0].why.contains("500 MB") && told[0].why.contains("(64 MB)"), "{}", told[0].why);
    }

    #[test]
    fn pools_follow_cores_and_what_was_seen() {
        let size = |cores, active_most| {
            let concurrency = Concurrency { looks: 10, active_most, ..Concurrency::default() };
            let advice = pool_sizes(&Facts { cores, concurrency, ..facts(1, &[]) }).unwrap();
            advice.how[0].split(" = ").nth(1).unwrap().parse::<u32>().unwrap()
        };
        assert_eq!([size(Some(8), 0), size(Some(8), 20), size(Some(8), 500)], [17, 30, 32]);
        assert_eq!([size(None, 0), size(None, 20), size(Some(64), 300)], [4, 30, 100]);
    }
}
