//! SHOW DATABASES.

use std::collections::BTreeSet;

use super::DATABASE;
use super::columns::{Cell, Row, row};
use crate::config::{Config, Database};
use crate::pool::Pools;

/// Names of all databases but the console: those of the configuration, and those that the fallback entry made for
/// clients, as long as they have pools.
pub(super) fn names(pools: &Pools) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = pools.config.load().databases.keys().cloned().collect();
    names.extend(pools.all().iter().map(|pool| pool.key.database.to_string()));
    names
}

/// The rows, by name, the console's among them.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    let config = pools.config.load();
    let entry = |name: &String| {
        // An entry that a reload took away is shown by what its pools still go by.
        let left = || Some(pools.of_database(name).first()?.settings.load().database.clone());
        config.database(name).or_else(left)
    };
    let all = names(pools);
    let (before, after): (Vec<_>, Vec<_>) = all.iter().partition(|name| name.as_str() < DATABASE);
    let row = |name: &&String| Some(database(pools, &config, &*entry(name)?));
    let mut rows: Vec<Row> = before.iter().filter_map(row).collect();
    rows.push(console(pools, &config));
    rows.extend(after.iter().filter_map(row));
    rows
}

fn database(pools: &Pools, config: &Config, entry: &Database) -> Row {
    let name = &entry.name;
    row![
        name.as_str(),
        Some(entry.shown_hosts()).filter(|hosts| !hosts.is_empty()),
        entry.port.first().copied().unwrap_or_default(),
        entry.backend_dbname(),
        entry.user.as_deref(),
        config.pool_size(entry, None),
        config.min_pool_size(entry),
        config.reserve_pool_size(entry, None),
        config.server_lifetime(entry).as_secs(),
        entry.pool_mode.map(|mode| mode.as_str()),
        entry.shown_balance(),
        config.max_db_connections(entry),
        pools.database_backends.used(name),
        config.max_db_client_connections(entry),
        pools.database_clients.used(name),
        pools.database_paused(name),
        pools.is_disabled(name),
    ]
}

/// The console's own row, with the values of PgBouncer's.
fn console(pools: &Pools, config: &Config) -> Row {
    let general = &config.general;
    row![
        DATABASE,
        Cell::Null,
        general.listen_port,
        DATABASE,
        DATABASE,
        2u32,
        0u32,
        0u32,
        general.server_lifetime.as_secs(),
        "statement",
        Cell::Null,
        general.max_db_connections,
        0u32,
        general.max_db_client_connections,
        super::sockets::consoles(pools),
        false,
        false,
    ]
}
