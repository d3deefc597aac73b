//! SHOW LISTENERS: the backends that listen for all clients of a database.

use super::columns::{Row, row};
use crate::net::Target;
use crate::pool::{HubShown, Pools};

/// The rows, by database.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    pools.listeners.shown().iter().map(listener_row).collect()
}

fn listener_row(hub: &HubShown) -> Row {
    // Of several hosts the one that is in use.
    let (host, port) = match (&*hub.targets, &hub.endpoint) {
        ([Target::Tcp { host, port }], _) => (host.clone(), *port),
        ([Target::Unix { path, port }], _) => {
            (path.parent().map(|dir| dir.display().to_string()).unwrap_or_default(), *port)
        }
        (_, Some(endpoint)) => (endpoint.host(), endpoint.port()),
        (_, None) => (String::new(), 0),
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
