//! The table of metrics: one row each, from which come the text for Prometheus and `docs/metrics.md`.

use std::sync::atomic::Ordering::Relaxed;

use super::budget::Server;
use super::scene::{DatabaseShown, Scene, Shown};
use crate::metrics::{Events, Kind, LogCounts, Series, Text, Value};
use crate::net::tls;

/// One metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
    /// Adds its samples.
    pub(super) read: fn(&Source<'_>, &mut Samples<'_>),
}

/// What metrics are read from.
pub(super) struct Source<'a> {
    pub(super) scene: &'a Scene,
    pub(super) events: &'a Events,
    pub(super) tls: &'a tls::Counts,
    pub(super) log: &'a LogCounts,
}

/// Takes the samples of one metric.
pub(super) struct Samples<'a> {
    text: &'a mut Text,
    metric: &'static Metric,
}

impl Samples<'_> {
    /// A sample with the values of its labels.
    fn add(&mut self, labels: &[&str], value: impl Into<Value>) {
        let series = Series { name: self.metric.name, labels: self.metric.labels, values: labels };
        self.text.sample(&series, &value.into());
    }

    fn maybe(&mut self, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.add(&[], value);
        }
    }
}

/// All of them as Prometheus reads them.
pub(super) fn exposition(source: &Source<'_>) -> String {
    let mut text = Text::default();
    for metric in METRICS {
        text.begin(metric.name, metric.kind, metric.help);
        (metric.read)(source, &mut Samples { text: &mut text, metric });
    }
    text.finish()
}

const POOL: &[&str] = &["database", "user"];
const SERVER: &[&str] = &["server"];

fn each_pool<V: Into<Value>>(source: &Source<'_>, out: &mut Samples<'_>, value: fn(&Shown) -> V) {
    for pool in &source.scene.pools {
        out.add(&[&pool.database, &pool.user], value(pool));
    }
}

fn each_database<V: Into<Value>>(source: &Source<'_>, out: &mut Samples<'_>, value: fn(&DatabaseShown) -> V) {
    for database in &source.scene.databases {
        out.add(&[&database.name], value(database));
    }
}

fn each_server<V: Into<Value>>(source: &Source<'_>, out: &mut Samples<'_>, value: fn(&Server) -> Option<V>) {
    for server in &source.scene.budget.servers {
        if let Some(value) = value(server) {
            out.add(&[&server.name], value);
        }
    }
}

macro_rules! metrics {
    ($( $name:literal $kind:ident $labels:expr, $help:literal, $read:expr; )*) => {
        /// All metrics, in the order in which they are shown.
        pub(super) const METRICS: &[Metric] =
            &[ $( Metric { name: $name, kind: Kind::$kind, help: $help, labels: $labels, read: $read }, )* ];
    };
}

metrics! {
    "pgpool_info" Gauge &["version"], "Always 1; the version of pgpool.",
        |_, out| out.add(&[env!("CARGO_PKG_VERSION")], 1u32);
    "pgpool_paused" Gauge &[], "1 while everything is paused (PAUSE).", |source, out| out.add(&[], source.scene.paused);
    "pgpool_suspended" Gauge &[], "1 while everything is suspended (SUSPEND).",
        |source, out| out.add(&[], source.scene.suspended);
    "pgpool_ending" Gauge &[], "1 from the moment at which the process was told to end.",
        |source, out| out.add(&[], source.scene.ending);
    "pgpool_pools" Gauge &[], "Pools, those included that have no series of their own.",
        |source, out| out.add(&[], source.scene.all_pools);
    "pgpool_databases" Gauge &[], "Databases: those of the configuration and those that the entry * has made.",
        |source, out| out.add(&[], source.scene.all_databases);
    "pgpool_users" Gauge &[], "Users: those of the configuration and those of pools.",
        |source, out| out.add(&[], source.scene.users);
    "pgpool_clients" Gauge &[], "Client connections, those of the console included.",
        |source, out| out.add(&[], source.scene.clients);
    "pgpool_clients_max" Gauge &[], "Most client connections: max_client_conn.",
        |source, out| out.add(&[], source.scene.most_clients);
    "pgpool_clients_arriving" Gauge &[], "Connections that were accepted and have not logged in yet.",
        |source, out| out.add(&[], source.scene.arriving);

    "pgpool_pool_clients" Gauge &["database", "user", "state"], "Clients of a pool by state: active (with or without a \
        transaction, as cl_active in SHOW POOLS) or waiting for a connection to PostgreSQL.", |source, out| {
        for pool in &source.scene.pools {
            let active = pool.glance.clients.saturating_sub(pool.glance.waiting);
            out.add(&[&pool.database, &pool.user, "active"], active);
            out.add(&[&pool.database, &pool.user, "waiting"], pool.glance.waiting);
        }
    };
    "pgpool_pool_max_wait_seconds" Gauge POOL, "How long the first of the waiting clients has waited so far.",
        |source, out| each_pool(source, out, |pool| Value::Micros(pool.longest_wait));
    "pgpool_pool_backends" Gauge &["database", "user", "state"], "Connections to PostgreSQL by state: active (lent), idle, \
        used (idle for longer than server_check_delay), tested, being_canceled, opening.", |source, out| {
        for Shown { database, user, glance: seen, .. } in &source.scene.pools {
            for (state, count) in [
                ("active", seen.active),
                ("idle", seen.idle),
                ("used", seen.used),
                ("tested", seen.tested),
                ("being_canceled", seen.being_canceled),
                ("opening", seen.opening),
            ] {
                out.add(&[database, user, state], count);
            }
        }
    };
    "pgpool_pool_size" Gauge POOL, "Most connections to PostgreSQL without the reserve; 0 = no limit.",
        |source, out| each_pool(source, out, |pool| pool.size);
    "pgpool_pool_pinned" Gauge POOL, "Connections that clients keep between transactions.",
        |source, out| each_pool(source, out, |pool| pool.glance.pinned);
    "pgpool_pool_pins" Gauge &["database", "user", "feature"], "Clients that are pinned by a feature (SHOW PINS); only \
        features that pin somebody.", |source, out| {
        for pool in &source.scene.pools {
            for (feature, count) in pool.pins.iter().filter(|(_, count)| *count > 0) {
                out.add(&[&pool.database, &pool.user, feature], *count);
            }
        }
    };
    "pgpool_pool_connect_failing" Gauge POOL, "1 while the last attempt to open a connection to PostgreSQL has failed.",
        |source, out| each_pool(source, out, |pool| pool.glance.failing);

    "pgpool_assignments_total" Counter POOL, "Times that a connection was lent to a client.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.server_assignment_count);
    "pgpool_transactions_total" Counter POOL, "Transactions: from idle to idle.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.xact_count);
    "pgpool_queries_total" Counter POOL, "Queries: from the first request to ReadyForQuery.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.query_count);
    "pgpool_received_bytes_total" Counter POOL, "Bytes received from clients.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.received);
    "pgpool_sent_bytes_total" Counter POOL, "Bytes received from PostgreSQL, and sent to clients.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.sent);
    "pgpool_client_parses_total" Counter POOL, "Statements that clients prepared: with a name, or kept without.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.client_parse_count);
    "pgpool_server_parses_total" Counter POOL, "Statements that PostgreSQL was sent for these.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.server_parse_count);
    "pgpool_binds_total" Counter POOL, "Times that clients bound one of these.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.bind_count);
    "pgpool_stale_plans_total" Counter POOL, "Errors about plans that were out of date, which clients got.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.stale_plans);
    "pgpool_repeated_batches_total" Counter POOL, "Batches that were sent again, for a plan was out of date.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.repeated_batches);
    "pgpool_logins_total" Counter POOL, "Logins of clients that succeeded.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.client_login_count);
    "pgpool_connect_failures_total" Counter POOL, "Connections to PostgreSQL that could not be opened.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.connect_failures);

    "pgpool_transaction_seconds" Histogram POOL, "Time of transactions.",
        |source, out| each_pool(source, out, |pool| Value::Times(pool.counted.transaction, pool.counted.totals.xact_time));
    "pgpool_query_seconds" Histogram POOL, "Time of queries.",
        |source, out| each_pool(source, out, |pool| Value::Times(pool.counted.query, pool.counted.totals.query_time));
    "pgpool_wait_seconds" Histogram POOL, "Time for which clients waited for a connection, of those who had to.",
        |source, out| each_pool(source, out, |pool| Value::Times(pool.counted.wait, pool.counted.totals.wait_time));
    "pgpool_connect_seconds" Histogram POOL, "Time to open a connection to PostgreSQL, or to fail to.",
        |source, out| each_pool(source, out, |pool| Value::Times(pool.counted.connect, pool.counted.totals.connect_time));

    "pgpool_database_backends" Gauge &["database"], "Connections to PostgreSQL of a database, over all users.",
        |source, out| each_database(source, out, |database| database.backends);
    "pgpool_database_backends_max" Gauge &["database"], "Most of them: max_db_connections; 0 = no limit.",
        |source, out| each_database(source, out, |database| database.most_backends);
    "pgpool_database_clients" Gauge &["database"], "Client connections of a database.",
        |source, out| each_database(source, out, |database| database.clients);
    "pgpool_database_clients_max" Gauge &["database"], "Most of them: max_db_client_connections; 0 = no limit.",
        |source, out| each_database(source, out, |database| database.most_clients);
    "pgpool_database_paused" Gauge &["database"], "1 while the database is paused by itself.",
        |source, out| each_database(source, out, |database| database.paused);
    "pgpool_database_disabled" Gauge &["database"], "1 while new clients of the database are refused.",
        |source, out| each_database(source, out, |database| database.disabled);

    "pgpool_login_seconds" Histogram &[], "Time of logins of clients that succeeded, from the connection on.",
        |source, out| {
            out.add(&[], Value::Times(source.events.login.counts(), source.events.login_time.load(Relaxed)));
        };
    "pgpool_login_failures_total" Counter &["reason"], "Logins of clients that failed: password, rule (auth_hba_file, LDAP, \
        PAM), certificate, limit, refused (no such database and the like), protocol, tls, timeout, lookup (auth_query), other.",
        |source, out| source.events.login_failures.counts().for_each(|(reason, count)| out.add(&[reason], count));
    "pgpool_errors_total" Counter &["class"], "Errors that clients got from the pooler itself, by the first two characters of \
        the SQLSTATE.", |source, out| source.events.errors.counts().for_each(|(class, count)| out.add(&[class], count));
    "pgpool_log_lines_total" Counter &["level"], "Lines that were logged.",
        |source, out| source.log.0.counts().for_each(|(level, count)| out.add(&[level], count));
    "pgpool_tls_handshakes_total" Counter &[], "TLS handshakes with clients.",
        |source, out| out.add(&[], source.tls.handshakes.load(Relaxed));
    "pgpool_tls_handshakes_resumed_total" Counter &[], "Those of them that resumed an earlier session.",
        |source, out| out.add(&[], source.tls.resumed.load(Relaxed));
    "pgpool_tls_handshakes_failed_total" Counter &[], "TLS handshakes with clients that failed.",
        |source, out| out.add(&[], source.tls.failed.load(Relaxed));
    "pgpool_prepared_statements" Gauge &[], "Texts that are prepared, each once for the whole process.",
        |source, out| out.add(&[], source.scene.statements[0]);
    "pgpool_prepared_statement_bytes" Gauge &[], "Memory of those that clients have.",
        |source, out| out.add(&[], source.scene.statements[1]);
    "pgpool_prepared_statement_bytes_max" Gauge &[], "Most of it: max_statement_bytes.",
        |source, out| out.add(&[], source.scene.statements[2]);

    "pgpool_server_slots_max" Gauge SERVER, "max_connections of a PostgreSQL server.",
        |source, out| each_server(source, out, |server| server.max);
    "pgpool_server_slots_reserved" Gauge SERVER, "Those of them that PostgreSQL keeps from the pooler's roles.",
        |source, out| each_server(source, out, |server| server.reserved);
    "pgpool_server_slots_others" Gauge SERVER, "Those that others than this pooler have, other pgpools included.",
        |source, out| each_server(source, out, |server| server.others);
    "pgpool_server_slots_ours" Gauge SERVER, "Those that this pooler has.",
        |source, out| each_server(source, out, |server| Some(server.ours));
    "pgpool_server_slots_budget" Gauge SERVER, "Those that this pooler may have; absent where there is no limit.",
        |source, out| each_server(source, out, |server| server.budget);
    "pgpool_server_budget_shrunk" Gauge SERVER, "1 while less than that is tried, since PostgreSQL had no more.",
        |source, out| each_server(source, out, |server| Some(server.shrunk));
    "pgpool_server_53300_total" Counter SERVER, "Times that the server had no slot left for this pooler.",
        |source, out| each_server(source, out, |server| Some(server.refusals));
    "pgpool_pool_share" Gauge POOL, "Connections that a pool may have at present; only while slots are short.", |source, out| {
        for Shown { database, user, .. } in &source.scene.pools {
            if let Some(share) = source.scene.budget.shares.get(&(database.clone(), user.clone())) {
                out.add(&[database, user], *share);
            }
        }
    };
    "pgpool_leaks_total" Counter POOL, "Leases that lasted longer than leak_threshold.",
        |source, out| each_pool(source, out, |pool| pool.counted.totals.leaks);

    "process_resident_memory_bytes" Gauge &[], "Memory of the process that is in RAM.",
        |source, out| out.maybe(source.scene.process.resident);
    "process_virtual_memory_bytes" Gauge &[], "Memory that the process has addressed.",
        |source, out| out.maybe(source.scene.process.addressed);
    "process_cpu_seconds_total" Counter &[], "Time on a processor.", |source, out| out.maybe(source.scene.process.cpu);
    "process_open_fds" Gauge &[], "Open file descriptors.", |source, out| out.maybe(source.scene.process.descriptors);
    "process_max_fds" Gauge &[], "Most of them.", |source, out| out.maybe(source.scene.process.most_descriptors);
    "process_start_time_seconds" Gauge &[], "When the process started, in seconds since 1970.",
        |source, out| out.maybe(source.scene.process.started);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/metrics.md`.
    fn documentation() -> String {
        let mut out = String::from(HEAD);
        for Metric { name, kind, help, labels, .. } in METRICS {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            out.push_str(&format!("| `{name}` | {} | {} | {help} |\n", kind.as_str(), labels.join(", ")));
        }
        out
    }

    const HEAD: &str = "# Metrics

What `/metrics` has, in Prometheus' text format 0.0.4; [README.md](../README.md) tells how to switch it on. This page is
made from the table in the program, and a test compares the two.

- Times are seconds. Histograms have the same bounds: 100 µs, 250 µs, 500 µs, 1 ms, 2.5 ms and so on to 10 s, and 60 s.
- `pgpool_wait_seconds` counts those who had to wait; the others are `pgpool_assignments_total` less its count.
- At most 200 pools, and as many databases, have series of their own; the rest is one series whose `database` and `user` are
  `other`. What a pool has counted is gone with the pool (`pool_idle_timeout`, `autodb_idle_timeout`), which looks to
  Prometheus like a restart.
- What a server does not tell has no sample.
- A scrape takes no lock of those that transactions take.

| name | type | labels | meaning |
|---|---|---|---|
";

    #[test]
    fn the_documentation_is_that_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let (written, made) = (std::fs::read_to_string(path).unwrap_or_default(), documentation());
        if written != made {
            let fresh = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/metrics.md");
            std::fs::write(&fresh, made).unwrap();
            panic!("docs/metrics.md is out of date: copy {} there", fresh.display());
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for metric in METRICS {
            assert_eq!(METRICS.iter().filter(|other| other.name == metric.name).count(), 1, "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            let fits = |name: &str| {
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
            };
            assert!(fits(metric.name) && metric.labels.iter().all(|label| fits(label)), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.help);
        }
    }
}
