//! SHOW PINS: the clients that keep their backend between transactions, and why.

use super::civil;
use super::columns::{Row, row};
use crate::pool::{ClientRecord, Pin, Pools};

/// The rows, the oldest pin first.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    let all = pools.clients.all().into_iter();
    let mut pins: Vec<_> = all.filter_map(|client| client.pin().map(|pin| (client, pin))).collect();
    pins.sort_by_key(|(_, pin)| pin.since);
    pins.iter().map(|(client, pin)| pin_row(pools, client, pin)).collect()
}

fn pin_row(pools: &Pools, client: &ClientRecord, pin: &Pin) -> Row {
    let clock = &pools.shared.clock;
    let who = &client.identity;
    let backend = Some(client.link()).filter(|id| *id != 0);
    let record = backend.and_then(|id| client.pool()?.backend(id));
    row![
        client.id,
        &*who.user,
        &*who.database,
        who.peer.host(),
        who.peer.port(),
        client.application_name(),
        backend,
        record.map(|record| record.process_id),
        pin.features.join(", "),
        civil::utc(clock.wall(pin.since)),
        clock.now().saturating_sub(pin.since) / 1_000_000,
        &*pin.why,
    ]
}
