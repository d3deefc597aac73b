//! SHOW FDS: which file descriptor belongs to whom.
//!
//! PgBouncer hands its connections over by it, with cancel keys and passwords; here it only shows, and those columns are
//! NULL.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::columns::{Cell, Row, row};
use super::{Context, is_console};
use crate::net::Endpoint;

/// The rows: what is listened on, clients, backends. Those of the console are left out, as in PgBouncer.
pub(super) fn rows(context: &Context) -> Vec<Row> {
    let pools = &context.pools;
    let mut clients = pools.clients.all();
    clients.retain(|client| !is_console(&client.identity.database));
    let backends: Vec<_> = pools.all().iter().flat_map(|pool| pool.backends()).collect();
    let of_client: HashMap<u64, u32> =
        clients.iter().map(|client| (client.id, client.descriptor.load(Relaxed))).collect();
    let of_backend: HashMap<u64, u32> = backends.iter().map(|record| (record.id, record.descriptor)).collect();
    let linked = |all: &HashMap<u64, u32>, id: u64| all.get(&id).copied().unwrap_or(0);

    let mut rows = Vec::new();
    for (descriptor, endpoint) in context.control.listening() {
        rows.push(fd_row(descriptor, "pooler", None, &endpoint, 0));
    }
    for client in &clients {
        let who = &client.identity;
        let link = linked(&of_backend, client.link());
        let name = Some((&*who.user, &*who.database));
        let mut row = fd_row(client.descriptor.load(Relaxed), "client", name, &who.peer, link);
        for (cell, setting) in
            row.iter_mut().skip(8).zip(["client_encoding", "standard_conforming_strings", "DateStyle", "TimeZone"])
        {
            *cell = client.setting(setting).into();
        }
        rows.push(row);
    }
    for record in &backends {
        let link = linked(&of_client, record.link());
        let name = Some((&*record.user, &*record.database));
        rows.push(fd_row(record.descriptor, "server", name, &record.endpoint, link));
    }
    rows
}

fn fd_row(descriptor: u32, task: &str, name: Option<(&str, &str)>, endpoint: &Endpoint, link: u32) -> Row {
    row![
        descriptor,
        task,
        name.map(|(user, _)| user),
        name.map(|(_, database)| database),
        endpoint.host(),
        endpoint.port(),
        Cell::Null,
        link,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
    ]
}
