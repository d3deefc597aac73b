//! SHOW LISTENERS: the backends that listen for all clients of a database.

use super::columns::{Row, row};
use crate::net::Target;
use crate::pool::{HubShown, Pools};

/// The rows, by database.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    pools.listeners.shown().iter().map(listener_row).collect()
}

fn listener_row(hub: &HubShown) -> Row {
    let (host, port) = match &hub.target {
        Target::Tcp { host, port } => (host.clone(), *port),
        Target::Unix { path, port } => (path.parent().map(|dir| dir.display().to_string()).unwrap_or_default(), *port),
    };
    row![
        &*hub.database,
        host,
        port,
        hub.state.to_string(),
        hub.channels,
        hub.clients,
        Some(hub.process_id).filter(|id| *id != 0),
        hub.delivered,
        hub.dropped,
        hub.losses,
    ]
}
