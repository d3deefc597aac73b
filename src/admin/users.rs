//! SHOW USERS.

use std::collections::{BTreeMap, BTreeSet};

use super::DATABASE;
use super::columns::{Row, row};
use crate::config::{SecretSource, User};
use crate::pool::Pools;

/// Names of all users: those of the configuration, those learnt from pools and clients, and the console's own.
pub(super) fn names(pools: &Pools) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = pools.config.load().users.keys().cloned().collect();
    names.insert(DATABASE.to_owned());
    names.extend(pools.all().iter().map(|pool| pool.key.user.to_string()));
    let clients = pools.clients.all();
    names.extend(clients.iter().filter(|client| client.admitted()).map(|client| client.identity.user.to_string()));
    names
}

/// The rows.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    let config = pools.config.load();
    // Those of the console do not count for the limit.
    let mut consoles: BTreeMap<String, u32> = BTreeMap::new();
    for client in pools.clients.all().iter().filter(|client| client.admitted() && client.pool().is_none()) {
        *consoles.entry(client.identity.user.to_string()).or_default() += 1;
    }
    let row = |name: &String| {
        let user = config.user(name).map(AsRef::as_ref);
        row![
            name.as_str(),
            size(user.and_then(|user: &User| user.pool_size)),
            size(user.and_then(|user| user.reserve_pool_size)),
            user.and_then(|user| user.pool_mode).map(|mode| mode.as_str()),
            config.max_user_connections(user),
            pools.user_backends.used(name),
            config.max_user_client_connections(user),
            pools.user_clients.used(name) + consoles.get(name).copied().unwrap_or(0),
            secret_source(pools, name, user),
        ]
    };
    names(pools).iter().map(row).collect()
}

/// Where the user's secret came from; never what it is.
fn secret_source(pools: &Pools, name: &str, user: Option<&User>) -> &'static str {
    match user.map_or(SecretSource::None, |user| user.secret_source) {
        SecretSource::Config => "config",
        SecretSource::PasswordFile | SecretSource::AuthFile => "file",
        SecretSource::None if pools.lookups.knows(name) => "query",
        SecretSource::None => "none",
    }
}

/// PgBouncer shows sizes as padded text here, and an unset one as no text at all.
fn size(size: Option<u32>) -> String {
    size.map(|size| format!("{size:9}")).unwrap_or_default()
}
