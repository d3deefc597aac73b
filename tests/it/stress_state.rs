//! Two hundred clients on eight backends, each with a tenant of its own: nobody ever sees another's rows or settings.
//!
//! The rows of all tenants stand in one table behind a policy that compares with the setting `app.tenant`, so a setting in
//! the wrong hands is a row in the wrong hands. Clients set it in every way there is, take roles, schemas, statements and
//! locks, and are killed or canceled in the middle of it; a client that has set nothing must find nothing.
//! `PGPOOL_TEST_SEED` repeats what each client does, though not in which order the system runs them, and
//! `PGPOOL_STRESS_MISCHIEF` (names with commas) tries those kinds alone.

mod client;
mod lasting;
mod passing;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use self::client::{Client, Shared};
use crate::support::{Cluster, Pooler, Raw, for_each_worker_count, random::Random};

/// What clients, and the test, get up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    /// A tenant, a role, a table or a lock for the length of a transaction.
    Local,
    /// `app.tenant` for the session, in every way there is.
    Settings,
    /// SET ROLE.
    Roles,
    /// A schema of one's own in `search_path`.
    Paths,
    /// Prepared statements by message: equal names, unequal texts.
    Named,
    /// The same by PREPARE.
    SqlPrepare,
    /// What cannot leave its backend: locks and temporary tables of the session.
    Pins,
    /// Cancel requests at any moment.
    Cancels,
    /// Clients that vanish in the middle of a query or a transaction.
    Deaths,
    /// Backends that are terminated.
    Terminations,
}

impl Mischief {
    const ALL: &[Mischief] = &[
        Mischief::Local,
        Mischief::Settings,
        Mischief::Roles,
        Mischief::Paths,
        Mischief::Named,
        Mischief::SqlPrepare,
        Mischief::Pins,
        Mischief::Cancels,
        Mischief::Deaths,
        Mischief::Terminations,
    ];
}

const CLIENTS: usize = 200;
const BACKENDS: usize = 8;
const IN_SESSION_MODE: usize = 40;
const ROLES: usize = 4;
/// How many tenants each client has to choose from, and how many rows each tenant has.
const TENANTS: usize = 3;
const ROWS: usize = 3;
/// How long it runs at least, and at most until enough has happened.
const RUNS: Duration = Duration::from_secs(5);
const RUNS_AT_MOST: Duration = Duration::from_secs(60);
const ONLY: &str = "PGPOOL_STRESS_MISCHIEF";

#[test]
fn no_setting_and_no_row_reaches_another_tenant() {
    let only = env::var(ONLY).unwrap_or_default();
    let is_tried = |kind: &&Mischief| only.is_empty() || only.split(',').any(|name| name == format!("{kind:?}"));
    let mischief: Vec<_> = Mischief::ALL.iter().filter(is_tried).copied().collect();
    for_each_worker_count(|workers| stress(&mischief, workers, CLIENTS, &format!("default_pool_size = {BACKENDS}")));
}

/// Where nothing has to be followed: what the clients expect is what PostgreSQL does.
#[test]
fn the_clients_are_right_about_a_session() {
    stress(Mischief::ALL, 1, IN_SESSION_MODE, "pool_mode = \"session\"\ndefault_pool_size = 50");
}

fn stress(mischief: &[Mischief], workers: usize, clients: usize, settings: &str) {
    let cluster = Cluster::start();
    cluster.sql("app", &tables());
    let random = Random::announced();
    let quiet = "log_connections = false\nlog_disconnections = false\nlog_pooler_errors = false";
    let pooler = Pooler::trusting(&cluster, workers, &format!("{settings}\n{quiet}"));
    let shared = Shared::new(mischief);
    let port = pooler.port();
    thread::scope(|scope| {
        for number in 0..clients {
            let (shared, random) = (&shared, random.part(number as u64));
            let run = move || Client::connect(port, number, shared, random).run();
            thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, run).unwrap();
        }
        let terminated = stir(&cluster, random.part(CLIENTS as u64), &shared);
        shared.finish(terminated);
    });
    shared.check();
}

/// Lets the clients run, and terminates one of their backends now and then: how many.
fn stir(cluster: &Cluster, mut random: Random, shared: &Shared<'_>) -> usize {
    let mut postgres = Raw::login(cluster.port(), "postgres", "", "postgres");
    let victim = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alice' \
                  order by random() limit 1";
    let begin = Instant::now();
    let mut terminated = 0;
    let goes_on = |terminated| {
        let gone = begin.elapsed();
        gone < RUNS || (gone < RUNS_AT_MOST && !shared.has_enough(terminated))
    };
    while goes_on(terminated) && !shared.is_over() {
        if shared.mischief.contains(&Mischief::Terminations) && random.once_in(4) {
            // A panic here would leave the clients running for ever.
            terminated += postgres.query(victim).map_or(0, |rows| rows.len());
        }
        thread::park_timeout(Duration::from_millis(30));
    }
    terminated
}

/// One table of all tenants behind a policy, a schema for each client with its name in a table, and roles to put on.
fn tables() -> String {
    let clients = CLIENTS - 1;
    let mut sql = format!(
        "create table owned as select format('c%s.%s', client, tenant) as tenant, row \
           from generate_series(0, {clients}) client, generate_series(0, {TENANTS} - 1) tenant, \
           generate_series(1, {ROWS}) row; \
         create index on owned (tenant); analyze owned; \
         alter table owned enable row level security; alter table owned force row level security; \
         create policy own on owned using (tenant = current_setting('app.tenant', true)); \
         grant select on owned to public; \
         do $$ begin for client in 0..{clients} loop \
           execute format('create schema c%s', client); \
           execute format('create table c%s.place as select %L::text as name', client, 'c' || client); \
           execute format('grant usage on schema c%s to public', client); \
           execute format('grant select on c%s.place to public', client); \
         end loop; end $$;"
    );
    for role in 0..ROLES {
        sql.push_str(&format!("create role hat_{role}; grant hat_{role} to alice;"));
    }
    sql
}
