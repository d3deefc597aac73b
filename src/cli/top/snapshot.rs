//! What the console shows at one moment, and the rates between two.

use std::collections::BTreeMap;
use std::time::Instant;

use pgpool::backend::TextTable;

use crate::cli::link::{Link, LinkError};

/// One look at the console.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    pub(crate) version: String,
    pub(crate) paused: bool,
    pub(crate) pools: TextTable,
    pub(crate) clients: TextTable,
    /// `SHOW HOLDERS` where the console knows it; else the clients that hold a connection.
    pub(crate) holders: TextTable,
    /// By database: transactions, queries, microseconds of waiting.
    totals: BTreeMap<String, [f64; 3]>,
}

/// What happened per second between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) transactions: f64,
    pub(crate) queries: f64,
    /// Milliseconds that a transaction waited for its connection, on average.
    pub(crate) wait: f64,
}

const POOLS: &[&str] = &[
    "database",
    "user",
    "cl_active",
    "cl_waiting",
    "sv_active",
    "sv_idle",
    "sv_used",
    "sv_login",
    "maxwait",
    "pool_mode",
];
const CLIENTS: &[&str] =
    &["id", "ptr", "database", "user", "state", "application_name", "addr", "port", "wait", "request_time", "link"];

const HOLDERS: &[&str] = &[
    "client_id",
    "database",
    "user",
    "application_name",
    "addr",
    "held",
    "state",
    "pinned",
    "server_pid",
    "query",
    "fingerprint",
];

/// Looks.
///
/// # Errors
/// [`LinkError`].
pub(crate) async fn take(link: &mut Link) -> Result<Snapshot, LinkError> {
    let version = link.value("SHOW VERSION").await?.unwrap_or_default();
    let pools = link.table("SHOW POOLS").await?;
    let clients = link.table("SHOW CLIENTS").await?;
    let stats = link.table("SHOW STATS").await?;
    let state = optional(link, "SHOW STATE").await?.unwrap_or_default();
    let holders = optional(link, "SHOW HOLDERS").await?;
    Ok(Snapshot::of(version, [pools, clients, stats, state], holders))
}

/// A table that not every console has.
async fn optional(link: &mut Link, sql: &str) -> Result<Option<TextTable>, LinkError> {
    match link.table(sql).await {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Snapshot {
    pub(crate) fn of(version: String, tables: [TextTable; 4], holders: Option<TextTable>) -> Snapshot {
        let [pools, clients, stats, state] = tables;
        let states = state.column("key").zip(state.column("value"));
        let paused = states.into_iter().any(|pair| pair == (Some("paused"), Some("yes")));
        let clients = columns(&clients, CLIENTS);
        let holders = holders.map_or_else(|| holding(&clients), |shown| columns(&shown, HOLDERS));
        let numbers = |name: &str| {
            let values = stats.column(name).map(|value| value.and_then(|text| text.parse().ok()).unwrap_or(0.0));
            values.collect::<Vec<f64>>()
        };
        let (transactions, queries, waited) =
            (numbers("total_xact_count"), numbers("total_query_count"), numbers("total_wait_time"));
        let number = |list: &[f64], at: usize| list.get(at).copied().unwrap_or(0.0);
        let names = stats.column("database").map(|name| name.unwrap_or_default().to_owned());
        let totals = names
            .enumerate()
            // The console's own are what is asked here.
            .filter(|(_, name)| !["pgbouncer", "pgpool"].contains(&name.as_str()))
            .map(|(at, name)| (name, [number(&transactions, at), number(&queries, at), number(&waited, at)]))
            .collect();
        Snapshot { at: Instant::now(), version, paused, pools: columns(&pools, POOLS), clients, holders, totals }
    }

    /// Since an earlier look. A counter that went back was begun anew.
    pub(crate) fn since(&self, earlier: &Snapshot) -> Rates {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let mut sums = [0.0; 3];
        for (name, now) in &self.totals {
            let before = earlier.totals.get(name).copied().unwrap_or_default();
            for (sum, (now, before)) in sums.iter_mut().zip(now.iter().zip(before)) {
                *sum += if *now < before { *now } else { now - before };
            }
        }
        let [transactions, queries, waited] = sums;
        let wait = if transactions > 0.0 { waited / 1000.0 / transactions } else { 0.0 };
        Rates { transactions: transactions / seconds, queries: queries / seconds, wait }
    }

    /// The sum of a column of the pools.
    pub(crate) fn total(&self, column: &str) -> u64 {
        self.pools.column(column).flatten().filter_map(|value| value.parse::<u64>().ok()).sum()
    }
}

/// Those of the columns that the table has, in this order.
fn columns(table: &TextTable, wanted: &[&str]) -> TextTable {
    let places: Vec<(&str, usize)> = wanted
        .iter()
        .filter_map(|name| Some((*name, table.columns.iter().position(|column| column == name)?)))
        .collect();
    let row = |row: &Vec<Option<String>>| places.iter().map(|(_, at)| row.get(*at).cloned().flatten()).collect();
    TextTable {
        columns: places.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: table.rows.iter().map(row).collect(),
    }
}

/// The clients that have a connection.
fn holding(clients: &TextTable) -> TextTable {
    let linked: Vec<bool> = clients.column("link").map(|link| link.is_some_and(|link| !link.is_empty())).collect();
    let rows = clients.rows.iter().zip(linked).filter(|(_, linked)| *linked).map(|(row, _)| row.clone());
    TextTable { columns: clients.columns.clone(), rows: rows.collect() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn table(columns: &str, rows: &[&str]) -> TextTable {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let cell = |word: String| if word == "-" { None } else { Some(word) };
        TextTable {
            columns: words(columns),
            rows: rows.iter().map(|row| words(row).into_iter().map(cell).collect()).collect(),
        }
    }

    pub(crate) fn snapshot(transactions: u32) -> Snapshot {
        let pools = table(
            "database user cl_active cl_waiting sv_active sv_idle extra maxwait pool_mode",
            &[
                "app alice 3 12 2 0 x 7 transaction",
                "app bob 40 0 1 4 x 0 session",
                "crm carol 9 3 5 0 x 1 transaction",
            ],
        );
        let clients = table(
            "type id ptr database user state application_name addr port wait request_time link",
            &[
                "C 11 0x1 app alice active web 10.0.0.1 4000 0 t 0x9",
                "C 12 0x2 app alice waiting cron 10.0.0.2 4001 7 t -",
            ],
        );
        let count = format!("app {transactions} {} {}", transactions * 2, transactions * 500);
        let own = format!("pgbouncer {} 0 0", transactions * 7);
        let stats = table("database total_xact_count total_query_count total_wait_time", &[&count, &own]);
        let state = table("key value", &["active yes", "paused no"]);
        Snapshot::of(String::from("pgpool 0.1.0"), [pools, clients, stats, state], None)
    }

    #[test]
    fn rates_are_differences() {
        let before = snapshot(100);
        let mut after = snapshot(300);
        after.at = before.at + Duration::from_secs(2);
        assert_eq!(after.since(&before), Rates { transactions: 100.0, queries: 200.0, wait: 0.5 });
        // Of a pooler that was started anew.
        let mut anew = snapshot(50);
        anew.at = before.at + Duration::from_secs(1);
        assert_eq!(anew.since(&before).transactions, 50.0);
        assert_eq!(before.since(&before), Rates::default());
    }

    #[test]
    fn holders_are_the_clients_with_a_connection_where_the_console_does_not_say() {
        let seen = snapshot(1);
        assert_eq!(seen.holders.column("id").collect::<Vec<_>>(), [Some("11")]);
        assert_eq!((seen.total("cl_waiting"), seen.paused), (15, false));
        assert!(!seen.pools.columns.contains(&"extra".to_owned()));
        let known = table("client_id held", &["7 5"]);
        let tables = [known.clone(), known.clone(), known.clone(), table("key value", &["paused yes"])];
        let said = Snapshot::of(String::new(), tables, Some(known.clone()));
        assert_eq!((said.holders, said.paused), (known, true));
    }
}
