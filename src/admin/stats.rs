//! Statistics: totals, averages, and the line of them in the log.
//!
//! Averages are PgBouncer's: over the last full period plus the present one, so that they neither jump at its end nor
//! start from nothing. Counters belong to pools and are summed per database; the console has its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::DATABASE;
use super::columns::{Cell, Row};
use crate::metrics::{Averages, Counters, Totals};
use crate::net::Micros;
use crate::pool::{PoolKey, Pools};

/// The statistics of the process.
#[derive(Debug, Default)]
pub struct StatsBook {
    /// What the console itself counts.
    pub console: Counters,
    book: Mutex<Book>,
}

/// The ends of the last two periods. The process's start stands for those that have not been.
#[derive(Debug, Default)]
struct Book {
    older: Snapshot,
    newer: Snapshot,
}

#[derive(Debug, Default)]
struct Snapshot {
    at: Micros,
    totals: HashMap<PoolKey, Totals>,
}

/// Totals of a database, and what was added to them since the older end.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    totals: Totals,
    averages: Averages,
}

/// What the columns show, in their order.
const VALUES: usize = 12;

impl StatsBook {
    /// Ends a period. To be called every `stats_period`.
    pub fn tick(&self, pools: &Pools, now: Micros) {
        let newer = Snapshot { at: now, totals: self.totals(pools) };
        let mut book = self.book();
        book.older = std::mem::replace(&mut book.newer, newer);
    }

    /// The period that ended with the last tick, as PgBouncer logs it.
    #[must_use]
    pub fn log_line(&self) -> String {
        let book = self.book();
        let mut delta = Totals::default();
        for (key, totals) in &book.newer.totals {
            delta = delta.plus(totals.since(book.older.of(key)));
        }
        let period = book.newer.at.saturating_sub(book.older.at);
        let [_, xacts, queries, received, sent, xact, query, wait, parses, server_parses, binds, _] =
            averages(&Averages { period, delta });
        format!(
            "stats: {xacts} xacts/s, {queries} queries/s, {parses} client parses/s, {server_parses} server parses/s, \
             {binds} binds/s, in {received} B/s, out {sent} B/s, xact {xact} us, query {query} us, wait {wait} us"
        )
    }

    /// SHOW STATS.
    pub(super) fn rows(&self, pools: &Pools) -> Vec<Row> {
        self.per_database(pools, |sum| totals(&sum.totals).into_iter().chain(averages(&sum.averages)))
    }

    /// SHOW STATS_TOTALS.
    pub(super) fn total_rows(&self, pools: &Pools) -> Vec<Row> {
        self.per_database(pools, |sum| totals(&sum.totals))
    }

    /// SHOW STATS_AVERAGES.
    pub(super) fn average_rows(&self, pools: &Pools) -> Vec<Row> {
        self.per_database(pools, |sum| averages(&sum.averages))
    }

    /// SHOW TOTALS.
    pub(super) fn sum_rows(&self, pools: &Pools) -> Vec<Row> {
        const NAMES: [&str; VALUES] = [
            "server_assignment_count",
            "xact_count",
            "query_count",
            "client_bytes",
            "server_bytes",
            "xact_time",
            "query_time",
            "wait_time",
            "ps_client_parse_count",
            "ps_server_parse_count",
            "ps_bind_count",
            "client_login_count",
        ];
        let sum = self.sums(pools).into_values().reduce(Sum::plus).unwrap_or_default();
        let all = [("total_", totals(&sum.totals)), ("avg_", averages(&sum.averages))];
        let row = |prefix, name, value: u64| vec![Cell::from(format!("{prefix}{name}")), value.into()];
        all.into_iter()
            .flat_map(|(prefix, values)| {
                NAMES.into_iter().zip(values).map(move |(name, value)| row(prefix, name, value))
            })
            .collect()
    }

    fn per_database<V>(&self, pools: &Pools, values: impl Fn(&Sum) -> V) -> Vec<Row>
    where
        V: IntoIterator<Item = u64>,
    {
        let row = |(database, sum): (String, Sum)| {
            let mut row = vec![Cell::from(database)];
            row.extend(values(&sum).into_iter().map(Cell::from));
            row
        };
        self.sums(pools).into_iter().map(row).collect()
    }

    fn sums(&self, pools: &Pools) -> BTreeMap<String, Sum> {
        let totals = self.totals(pools);
        let now = pools.shared.clock.now();
        let book = self.book();
        let period = now.saturating_sub(book.older.at);
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        for (key, totals) in totals {
            let delta = totals.since(book.older.of(&key));
            let one = Sum { totals, averages: Averages { period, delta } };
            let sum = sums.entry(key.database.to_string()).or_default();
            *sum = sum.plus(one);
        }
        sums
    }

    fn totals(&self, pools: &Pools) -> HashMap<PoolKey, Totals> {
        let pools = pools.all().into_iter().map(|pool| (pool.key.clone(), pool.counters.totals()));
        let console = PoolKey { database: DATABASE.into(), user: DATABASE.into() };
        pools.chain([(console, self.console.totals())]).collect()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    fn of(&self, key: &PoolKey) -> Totals {
        self.totals.get(key).copied().unwrap_or_default()
    }
}

impl Sum {
    /// Both have the same period, but for an empty one.
    fn plus(self, other: Sum) -> Sum {
        let period = self.averages.period.max(other.averages.period);
        let delta = self.averages.delta.plus(other.averages.delta);
        Sum { totals: self.totals.plus(other.totals), averages: Averages { period, delta } }
    }
}

fn totals(totals: &Totals) -> [u64; VALUES] {
    [
        totals.server_assignment_count,
        totals.xact_count,
        totals.query_count,
        totals.received,
        totals.sent,
        totals.xact_time,
        totals.query_time,
        totals.wait_time,
        totals.client_parse_count,
        totals.server_parse_count,
        totals.bind_count,
        totals.client_login_count,
    ]
}

/// Counts and bytes per second, times per thing that took them.
fn averages(averages: &Averages) -> [u64; VALUES] {
    let delta = &averages.delta;
    let rate = |count| averages.per_second(count);
    [
        rate(delta.server_assignment_count),
        rate(delta.xact_count),
        rate(delta.query_count),
        rate(delta.received),
        rate(delta.sent),
        Averages::each(delta.xact_time, delta.xact_count),
        Averages::each(delta.query_time, delta.query_count),
        Averages::each(delta.wait_time, delta.server_assignment_count),
        rate(delta.client_parse_count),
        rate(delta.server_parse_count),
        rate(delta.bind_count),
        rate(delta.client_login_count),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::metrics::add;

    const SECOND: Micros = 1_000_000;

    #[tokio::test(start_paused = true)]
    async fn averages_span_the_last_full_period_and_the_present_one() {
        let (pools, _births) = Pools::new(Config::default());
        let book = StatsBook::default();
        let average = || {
            let rows = book.average_rows(&pools);
            assert_eq!(rows[0][0], Cell::from(DATABASE));
            rows[0][3].clone()
        };
        add(&book.console.query_count, 600);
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert_eq!(average(), Cell::Count(9), "600 in a little more than 60 s");
        book.tick(&pools, 60 * SECOND);
        assert!(book.log_line().starts_with("stats: 0 xacts/s, 10 queries/s, 0 client parses/s, "));
        add(&book.console.query_count, 1200);
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert_eq!(average(), Cell::Count(14), "1800 in 120 s, since there was no period before");
        book.tick(&pools, 120 * SECOND);
        assert_eq!(average(), Cell::Count(19), "1200 in the last 60 s");
        book.tick(&pools, 180 * SECOND);
        assert!(book.log_line().contains(" 0 queries/s"));
    }

    #[tokio::test]
    async fn times_are_divided_by_what_took_them() {
        let (pools, _births) = Pools::new(Config::default());
        let book = StatsBook::default();
        for (counter, value) in [
            (&book.console.query_count, 4),
            (&book.console.query_time, 400),
            (&book.console.wait_time, 90),
            (&book.console.server_assignment_count, 3),
        ] {
            add(counter, value);
        }
        book.tick(&pools, SECOND);
        assert_eq!(
            book.log_line(),
            "stats: 0 xacts/s, 4 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, in 0 B/s, out 0 B/s, \
             xact 0 us, query 100 us, wait 30 us"
        );
        let totals = book.sum_rows(&pools);
        assert_eq!(totals.len(), 24);
        assert_eq!(totals[7], [Cell::from("total_wait_time"), Cell::Count(90)]);
        assert_eq!(totals[12][0], Cell::from("avg_server_assignment_count"));
    }
}
