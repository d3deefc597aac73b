//! SHOW HOLDERS: who holds a connection to PostgreSQL, since when, and what for; the oldest first.

use super::civil;
use super::columns::{Row, row};
use crate::pool::{Holder, Pools, holders, last_query};

/// The rows.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    holders(pools, None).iter().map(|holder| holder_row(pools, holder)).collect()
}

fn holder_row(pools: &Pools, holder: &Holder) -> Row {
    let clock = &pools.shared.clock;
    let (client, backend) = (&holder.client, &holder.backend);
    let who = &client.identity;
    let query = last_query(pools, backend);
    let pin = client.pin().map(|pin| pin.features.join(", "));
    row![
        client.id,
        &*who.user,
        &*who.database,
        who.peer.host(),
        who.peer.port(),
        client.application_name(),
        backend.id,
        backend.process_id,
        backend.target.to_string(),
        civil::utc(clock.wall(holder.since)),
        clock.now().saturating_sub(holder.since) / 1_000_000,
        holder.state.name(),
        pin,
        query.as_ref().map(|query| query.fingerprint.clone()),
        query.and_then(|query| query.text),
    ]
}
