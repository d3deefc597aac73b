//! SHOW POOLS, CLIENTS, SERVERS and SOCKETS: snapshots of what clients and backends say of themselves.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::columns::{Cell, Row, row};
use super::{DATABASE, civil};
use crate::backend::{BackendRecord, BackendState};
use crate::net::{Clock, Micros, pointer};
use crate::pool::{ClientRecord, Phase, Pool, PoolKey, Pools};

/// What SHOW CLIENTS calls what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientState {
    Active,
    Idle,
    Waiting,
}

impl ClientState {
    fn as_str(self) -> &'static str {
        match self {
            ClientState::Active => "active",
            ClientState::Idle => "idle",
            ClientState::Waiting => "waiting",
        }
    }
}

/// The state of a client; `None` before its login is over, unless it waits for its first backend.
fn client_state(client: &ClientRecord) -> Option<ClientState> {
    match client.phase() {
        Phase::Waiting => Some(ClientState::Waiting),
        _ if !client.admitted() => None,
        // As in PgBouncer: active is who has a backend.
        _ if client.pool().is_none() => Some(ClientState::Idle),
        Phase::Running | Phase::InTransaction => Some(ClientState::Active),
        // In session mode the backend stays.
        Phase::Idle if client.link() != 0 => Some(ClientState::Active),
        Phase::Idle | Phase::Login => Some(ClientState::Idle),
    }
}

/// How many clients the console has.
pub(super) fn consoles(pools: &Pools) -> usize {
    pools.clients.all().iter().filter(|client| client.admitted() && client.pool().is_none()).count()
}

/// Clients of one pool.
#[derive(Clone, Copy, Debug, Default)]
struct Clients {
    active: u32,
    waiting: u32,
}

/// Backends of one pool.
#[derive(Clone, Copy, Debug, Default)]
struct Servers {
    active: u32,
    being_canceled: u32,
    idle: u32,
    used: u32,
    tested: u32,
    /// Cancel requests on their way to them.
    cancels: u32,
}

/// The rows of SHOW POOLS, by name, the console's among them.
pub(super) fn pools(pools: &Pools) -> Vec<Row> {
    let now = pools.shared.clock.now();
    let mut clients: HashMap<Option<PoolKey>, Clients> = HashMap::new();
    for client in pools.clients.all() {
        let Some(state) = client_state(&client) else { continue };
        let count = clients.entry(client.pool().map(|pool| pool.key.clone())).or_default();
        match state {
            ClientState::Active | ClientState::Idle => count.active += 1,
            ClientState::Waiting => count.waiting += 1,
        }
    }
    let of = |key: Option<&PoolKey>| clients.get(&key.cloned()).copied().unwrap_or_default();
    let all = pools.all();
    let mut lookups = lookups(pools);
    let mut rows: Vec<(String, Row)> = all
        .iter()
        .map(|pool| {
            let more = lookups.remove(&(pool.key.database.to_string(), pool.key.user.to_string()));
            (pool.key.database.to_string(), pool_row(pool, of(Some(&pool.key)), more.unwrap_or_default(), now))
        })
        .collect();
    // Where nobody but auth_query is.
    rows.extend(
        lookups
            .into_iter()
            .map(|((database, user), servers)| (database.clone(), lookup_row(pools, &database, &user, servers))),
    );
    let zero = 0u32;
    let own = of(None).active;
    let console = row![
        DATABASE,
        DATABASE,
        own,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        "statement",
        Cell::Null,
    ];
    rows.push((DATABASE.to_owned(), console));
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The connections of auth_query, by database and user.
fn lookups(pools: &Pools) -> BTreeMap<(String, String), Servers> {
    let mut found: BTreeMap<_, Servers> = BTreeMap::new();
    for record in pools.lookups.backends() {
        let servers = found.entry((record.database.to_string(), record.user.to_string())).or_default();
        match record.state() {
            BackendState::Active => servers.active += 1,
            _ => servers.idle += 1,
        }
    }
    found
}

/// How many pools SHOW POOLS has, the console's among them.
pub(super) fn pool_count(pools: &Pools) -> usize {
    let all = pools.all();
    let mut lookups = lookups(pools);
    for pool in &all {
        lookups.remove(&(pool.key.database.to_string(), pool.key.user.to_string()));
    }
    all.len() + lookups.len() + 1
}

fn lookup_row(pools: &Pools, database: &str, user: &str, servers: Servers) -> Row {
    let config = pools.config.load();
    let entry = config.database(database);
    let mode = entry.as_ref().map_or(config.general.pool_mode, |entry| config.pool_mode(entry, None));
    let balance = entry.and_then(|entry| entry.shown_balance());
    let zero = 0u32;
    row![
        database,
        user,
        zero,
        zero,
        zero,
        zero,
        servers.active,
        zero,
        zero,
        servers.idle,
        zero,
        zero,
        zero,
        zero,
        zero,
        mode.as_str(),
        balance,
    ]
}

/// `servers` has those that are not the pool's own and count here all the same.
fn pool_row(pool: &Pool, clients: Clients, mut servers: Servers, now: Micros) -> Row {
    let counts = pool.counts();
    let settings = pool.settings.load();
    let long_idle = long_idle(pool, now);
    for record in pool.backends() {
        servers.cancels += record.cancels();
        match server_state(&record, &long_idle) {
            "active" => servers.active += 1,
            "being_canceled" => servers.being_canceled += 1,
            "idle" => servers.idle += 1,
            "used" => servers.used += 1,
            _ => servers.tested += 1,
        }
    }
    let maxwait = counts.oldest.map_or(0, |since| now.saturating_sub(since));
    row![
        &*pool.key.database,
        &*pool.key.user,
        clients.active,
        clients.waiting,
        servers.cancels,
        // A request that its pool has to be asked for does not wait.
        0u32,
        servers.active,
        servers.cancels,
        servers.being_canceled,
        servers.idle,
        servers.used,
        servers.tested,
        counts.opening,
        maxwait / 1_000_000,
        maxwait % 1_000_000,
        settings.mode.as_str(),
        settings.database.shown_balance(),
    ]
}

/// Ids of the backends that were idle for longer than `server_check_delay`, PgBouncer's "used" ones.
fn long_idle(pool: &Pool, now: Micros) -> Vec<u64> {
    let settings = pool.settings.load();
    if settings.check_query.is_none() {
        return Vec::new();
    }
    let long = |since: Micros| now.saturating_sub(since) > settings.check_delay_micros;
    pool.idle_since().into_iter().filter(|(_, since)| long(*since)).map(|(id, _)| id).collect()
}

fn server_state(record: &BackendRecord, long_idle: &[u64]) -> &'static str {
    match record.state() {
        BackendState::Active => "active",
        BackendState::Idle if long_idle.contains(&record.id) => "used",
        BackendState::Idle => "idle",
        BackendState::Tested => "tested",
        BackendState::BeingCanceled => "being_canceled",
    }
}

/// The columns `local_addr` and `local_port`.
fn local(local: Option<SocketAddr>, otherwise: u16) -> (String, u16) {
    match local {
        Some(addr) => (addr.ip().to_canonical().to_string(), addr.port()),
        None => ("unix".to_owned(), otherwise),
    }
}

/// The rows of SHOW CLIENTS.
pub(super) fn clients(pools: &Pools) -> Vec<Row> {
    let clock = &pools.shared.clock;
    let now = clock.now();
    let all = pools.clients.all();
    all.iter().filter_map(|client| Some(client_row(client, client_state(client)?.as_str(), clock, now))).collect()
}

fn client_row(client: &ClientRecord, state: &str, clock: &Clock, now: Micros) -> Row {
    let who = &client.identity;
    let wait = match client.phase() {
        Phase::Waiting => now.saturating_sub(client.since.load(Relaxed)),
        // Since the query came, as in PgBouncer.
        Phase::Running => now.saturating_sub(client.request.load(Relaxed)),
        Phase::Login | Phase::Idle | Phase::InTransaction => 0,
    };
    let (local_addr, local_port) = local(who.local, who.peer.port());
    let database = if client.pool().is_none() { DATABASE } else { &*who.database };
    row![
        "C",
        &*who.user,
        database,
        who.replication.as_str(),
        state,
        who.peer.host(),
        who.peer.port(),
        local_addr,
        local_port,
        civil::utc(clock.wall(who.connected)),
        civil::utc(clock.wall(client.request.load(Relaxed))),
        wait / 1_000_000,
        wait % 1_000_000,
        false,
        pointer(client.id),
        pointer(client.link()),
        who.process,
        who.tls,
        client.application_name(),
        client.prepared.load(Relaxed),
        client.id,
    ]
}

/// The rows of SHOW SERVERS.
pub(super) fn servers(pools: &Pools) -> Vec<Row> {
    let now = pools.shared.clock.now();
    backends(pools, now).iter().map(|(record, state)| server_row(record, state, pools)).collect()
}

/// All backends with their states, those of auth_query last.
fn backends(pools: &Pools, now: Micros) -> Vec<(Arc<BackendRecord>, &'static str)> {
    let mut all = Vec::new();
    for pool in pools.all() {
        let long_idle = long_idle(&pool, now);
        all.extend(pool.backends().into_iter().map(|record| {
            let state = server_state(&record, &long_idle);
            (record, state)
        }));
    }
    all.extend(pools.lookups.backends().into_iter().map(|record| {
        let state = server_state(&record, &[]);
        (record, state)
    }));
    all
}

/// The rows of SHOW SOCKETS: all clients from the moment that they are known by name, and all backends. `at_work` leaves
/// out those that nothing is going on at: the buffers belong to whoever is served, and nobody else can look into them.
pub(super) fn sockets(pools: &Pools, at_work: bool) -> Vec<Row> {
    let clock = &pools.shared.clock;
    let now = clock.now();
    let mut rows = Vec::new();
    for client in pools.clients.all() {
        let busy = matches!(client.phase(), Phase::Waiting | Phase::Running | Phase::InTransaction);
        let state = match client_state(&client) {
            // Here PgBouncer does not tell them apart.
            Some(ClientState::Idle) => "active",
            state => state.map_or("login", ClientState::as_str),
        };
        if busy || !at_work {
            rows.push(client_row(&client, &format!("cl_{state}"), clock, now));
        }
    }
    for (record, state) in backends(pools, now) {
        if matches!(state, "active" | "tested") || !at_work {
            rows.push(server_row(&record, &format!("sv_{state}"), pools));
        }
    }
    for row in &mut rows {
        // recv_pos and the six after it.
        row.extend([0; 7].map(Cell::Count));
    }
    rows
}

fn server_row(record: &BackendRecord, state: &str, pools: &Pools) -> Row {
    let clock = &pools.shared.clock;
    let client = pools.clients.find(record.link());
    let (local_addr, local_port) = local(record.local, record.endpoint.port());
    row![
        "S",
        &*record.user,
        &*record.database,
        record.replication.as_str(),
        state,
        record.endpoint.host(),
        record.endpoint.port(),
        local_addr,
        local_port,
        civil::utc(clock.wall(record.connected)),
        civil::utc(clock.wall(record.request.load(Relaxed))),
        0u32,
        0u32,
        record.close_needed(),
        pointer(record.id),
        pointer(record.link()),
        record.process_id,
        record.tls,
        client.map(|client| client.application_name()).unwrap_or_default(),
        record.prepared.load(Relaxed),
        record.id,
    ]
}
