//! Asks a server everything that the doctor looks at. What a role may not see becomes an unknown, never an error.

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::{
    Concurrency, Facts, HeldLock, OwnLimit, PreparedTransaction, ReplicationSlot, Server, Session, Setting, Slots,
    Waiter,
};
use crate::cli::link::{Link, LinkError, Way};

/// How often the activity is looked at, and how far apart.
const LOOKS: u32 = 10;

const PREPARE: &str = "set statement_timeout = '20s'; set lock_timeout = '5s'; set search_path = pg_catalog; \
                       set timezone = 'UTC'; set idle_in_transaction_session_timeout = '1min'";

const SERVER: &str = "select json_build_object('version', current_setting('server_version'), \
    'version_num', current_setting('server_version_num')::int, 'now', clock_timestamp(), \
    'started', pg_postmaster_start_time(), 'in_recovery', pg_is_in_recovery(), 'pid', pg_backend_pid(), \
    'address', host(inet_server_addr()), 'port', inet_server_port(), 'user', current_user, \
    'database', current_database(), \
    'superuser', (select rolsuper from pg_roles where rolname = current_user), \
    'sees_all', (select rolsuper from pg_roles where rolname = current_user) \
                or pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'))";

/// The settings that matter, besides those of providers.
const SETTINGS: &[&str] = &[
    "max_connections",
    "port",
    "superuser_reserved_connections",
    "reserved_connections",
    "rds.rds_superuser_reserved_connections",
    "max_wal_senders",
    "max_replication_slots",
    "max_worker_processes",
    "max_prepared_transactions",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
    "tcp_user_timeout",
    "client_connection_check_interval",
    "authentication_timeout",
    "work_mem",
    "hash_mem_multiplier",
    "shared_buffers",
    "huge_pages",
    "max_parallel_workers_per_gather",
    "log_connections",
];

const SESSIONS: &str = "select row_to_json(s) from (select a.pid, a.backend_start::text as backend_start, \
    a.datname as database, a.usename as \"user\", coalesce(a.application_name, '') as application, \
    coalesce(host(a.client_addr), case when a.client_port = -1 then 'local' end) as address, a.backend_type as kind, \
    a.state, a.wait_event_type as wait_type, a.wait_event as wait, \
    extract(epoch from clock_timestamp() - a.backend_start)::float8 as session_age, \
    extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_age, \
    extract(epoch from clock_timestamp() - a.state_change)::float8 as state_age, left(a.query, 200) as query, \
    coalesce(r.rolsuper, false) as superuser, \
    coalesce(a.query = '<insufficient privilege>', false) as hidden \
    from pg_stat_activity a left join pg_roles r on r.oid = a.usesysid \
    where a.pid <> pg_backend_pid() order by a.backend_start, a.pid) s";

const WAITERS: &str = "select row_to_json(s) from (select pid, pg_blocking_pids(pid) as blockers, \
    coalesce(extract(epoch from clock_timestamp() - state_change), 0)::float8 as age, left(query, 200) as query \
    from pg_stat_activity where wait_event_type = 'Lock' limit 200) s";

const LOCKS: &str = "select row_to_json(s) from (select distinct l.pid, l.mode, \
    case when l.relation is null then l.locktype \
         when l.database = (select oid from pg_database where datname = current_database()) \
         then coalesce((select c.relname from pg_class c where c.oid = l.relation)::text, l.relation::text) \
         else 'relation ' || l.relation || ' of another database' end as what \
    from pg_locks l join pg_stat_activity a using (pid) \
    where a.state like 'idle in transaction%' and l.granted and l.locktype <> 'virtualxid' order by 1, 3 limit 1000) s";

const PREPARED: &str = "select row_to_json(s) from (select gid, owner, database, \
    extract(epoch from clock_timestamp() - prepared)::float8 as age from pg_prepared_xacts order by prepared) s";

const REPLICATION: &str = "select row_to_json(s) from (select slot_name as name, slot_type as kind, active, \
    pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, \
    restart_lsn)::bigint as retained_bytes from pg_replication_slots order by slot_name) s";

const LIMITS: &str = "select row_to_json(s) from (select 'role' as kind, rolname as name, rolconnlimit as \"limit\" \
    from pg_roles where rolconnlimit >= 0 and rolcanlogin and not rolsuper \
    union all select 'database', datname, datconnlimit from pg_database where datconnlimit >= 0 and datallowconn) s";

const ACTIVITY: &str = "select count(*), count(*) filter (where wait_event_type is null) from pg_stat_activity \
    where state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()";

/// A server that was looked at, with the connection to it.
pub(crate) struct Examined {
    pub(crate) link: Link,
    pub(crate) facts: Facts,
}

/// Connects and asks.
///
/// # Errors
/// Nothing can be said of it: no connection, or it is no PostgreSQL.
pub(crate) async fn examine(way: &Way, cores: Option<u32>, looks: bool) -> Result<Examined, LinkError> {
    let mut link = Link::open(way).await?;
    let server = identify(&mut link, way).await?;
    let mut facts = Facts { target: way.shown(), server, ..Facts::default() };
    facts.cores = cores.or_else(|| way.is_local().then(cores_here).flatten());
    let mut unknown = BTreeMap::new();
    // Before those that are for this session only.
    facts.settings = settings(&mut link, &mut unknown).await;
    link.table(PREPARE).await?;
    facts.sessions = known(&mut link, "sessions", SESSIONS, &mut unknown).await;
    facts.waiters = known::<Waiter>(&mut link, "waiters", WAITERS, &mut unknown).await;
    facts.locks = known::<HeldLock>(&mut link, "locks", LOCKS, &mut unknown).await;
    facts.prepared_transactions =
        known::<PreparedTransaction>(&mut link, "prepared_transactions", PREPARED, &mut unknown).await;
    facts.replication_slots = known::<ReplicationSlot>(&mut link, "replication_slots", REPLICATION, &mut unknown).await;
    facts.limits = known(&mut link, "limits", LIMITS, &mut unknown).await;
    if !facts.server.sees_all {
        unknown.insert(String::from("concurrency"), String::from("the states of other roles' sessions are hidden"));
    } else if looks {
        facts.concurrency = concurrency(&mut link, &mut unknown).await;
    }
    facts.unknown = unknown;
    count(&mut facts);
    Ok(Examined { link, facts })
}

/// The slots of a server, and what tells it from others whatever it is called: an alias of a host, its socket.
///
/// # Errors
/// Nothing can be said of it.
pub(crate) async fn slots(way: &Way) -> Result<(String, Slots), LinkError> {
    let mut link = Link::open(way).await?;
    let server = identify(&mut link, way).await?;
    let mut facts = Facts { server, ..Facts::default() };
    let mut unknown = BTreeMap::new();
    facts.settings = settings(&mut link, &mut unknown).await;
    facts.sessions = known(&mut link, "sessions", SESSIONS, &mut unknown).await;
    facts.unknown = unknown;
    count(&mut facts);
    link.close().await;
    let reasons = || facts.unknown.values().cloned().collect::<Vec<_>>().join("; ");
    let identity = format!("{} {}", facts.server.started, facts.text("port").unwrap_or_default());
    let slots = facts.slots.ok_or_else(|| LinkError::Said(format!("{}: {}", way.shown(), reasons())))?;
    Ok((identity, slots))
}

/// Counts the slots and the own limits by the sessions.
fn count(facts: &mut Facts) {
    let total = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let used = total(facts.clients().count());
    let hidden = total(facts.clients().filter(|session| session.hidden).count());
    let mut limits: Vec<OwnLimit> = std::mem::take(&mut facts.limits);
    for limit in &mut limits {
        let of = |session: &&Session| {
            let name = if limit.kind == "role" { &session.user } else { &session.database };
            name.as_deref() == Some(limit.name.as_str())
        };
        limit.used = total(facts.clients().filter(of).count());
    }
    facts.limits = limits;
    if !facts.unknown.contains_key("sessions") {
        facts.slots = Slots::of(|name| facts.number(name), used, hidden);
    }
}

/// What it is. PostgreSQL answers with the process that the login named; a pooler with another one, and a console not at
/// all.
async fn identify(link: &mut Link, way: &Way) -> Result<Server, LinkError> {
    // The short one first, since PgBouncer's console hangs up on a long text that it does not know.
    let asked = match link.value("select 1").await {
        Ok(_) => link.documents::<Server>(SERVER).await,
        Err(error) => Err(error),
    };
    let found = match asked {
        Ok(found) => found,
        Err(error) if error.code().is_some() => {
            let Ok(Some(version)) = link.value("show version").await else { return Err(error) };
            return Err(LinkError::Said(format!(
                "{} is the console of a pooler ({version}), not PostgreSQL. HINT: connect to PostgreSQL itself; \
                 `pgpool top` looks at a console",
                way.shown()
            )));
        }
        Err(error) => return Err(error),
    };
    let server = found.into_iter().next().ok_or_else(|| LinkError::Answer(String::from("no row")))?;
    if server.pid == link.process_id() || link.process_id() == 0 {
        return Ok(server);
    }
    let place = match (&server.address, server.port) {
        (Some(address), Some(port)) => format!("host={address} port={port}"),
        _ => String::from("its Unix socket, where the pooler reaches it"),
    };
    let other = server.port.filter(|port| *port != way.port());
    let ports = other.map(|port| format!(", and PostgreSQL listens on port {port}, not {}", way.port()));
    Err(LinkError::Said(format!(
        "{} is a pooler (pgpool or PgBouncer), not PostgreSQL: the login named the process {}, a query runs in {}{}. HINT: \
         connect to PostgreSQL itself: {place}; or name pgpool's configuration file, and both are looked at",
        way.shown(),
        link.process_id(),
        server.pid,
        ports.unwrap_or_default(),
    )))
}

/// The rows of a query; none, and a reason, if it is refused.
async fn known<T: serde::de::DeserializeOwned>(
    link: &mut Link,
    what: &str,
    sql: &str,
    unknown: &mut BTreeMap<String, String>,
) -> Vec<T> {
    match link.documents(sql).await {
        Ok(rows) => rows,
        Err(error) => {
            unknown.insert(what.to_owned(), error.to_string());
            Vec::new()
        }
    }
}

/// From `pg_settings`; where that is closed to the role, one by one.
async fn settings(link: &mut Link, unknown: &mut BTreeMap<String, String>) -> BTreeMap<String, Setting> {
    let names = SETTINGS.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let all = format!(
        "select row_to_json(s) from (select name, setting, coalesce(unit, '') as unit, pending_restart, source \
         from pg_settings where name in ({names}) or pending_restart or name like 'rds.%' or name like 'cloudsql.%' \
         or name like 'azure.%' order by name) s"
    );
    let found: Result<Vec<Setting>, LinkError> = link.documents(&all).await;
    let rows = match found {
        Ok(rows) => rows,
        Err(error) => {
            unknown.insert(String::from("pg_settings"), error.to_string());
            let single = format!(
                "select json_build_object('name', n, 'setting', current_setting(n, true), 'unit', '', \
                 'pending_restart', false, 'source', '') from unnest(array[{names}]) n"
            );
            known(link, "settings", &single, unknown).await
        }
    };
    rows.into_iter().map(|row| (row.name.clone(), row)).collect()
}

async fn concurrency(link: &mut Link, unknown: &mut BTreeMap<String, String>) -> Concurrency {
    let mut found = Concurrency::default();
    let mut sum = 0;
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let table = match link.table(ACTIVITY).await {
            Ok(table) => table,
            Err(error) => {
                unknown.insert(String::from("concurrency"), error.to_string());
                break;
            }
        };
        let number = |at: usize| table.rows.first()?.get(at)?.as_deref()?.parse::<u32>().ok();
        let (active, running) = (number(0).unwrap_or(0), number(1).unwrap_or(0));
        found.looks += 1;
        sum += active;
        found.active_most = found.active_most.max(active);
        found.running_most = found.running_most.max(running);
    }
    if found.looks > 0 {
        found.active_mean = f64::from(sum) / f64::from(found.looks);
    }
    found
}

fn cores_here() -> Option<u32> {
    std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok())
}
