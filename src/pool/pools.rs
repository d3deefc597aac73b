//! All pools of the process, made when they are first needed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::cap::{Cap, Caps};
use super::lookup::Found;
use super::settings::of_login;
use super::shelf::Shelf;
use super::{ClientRecord, Clients, Credentials, Listeners, Lookups, Pool, PoolSettings, Reason, Shared};
use crate::auth::BackendSecret;
use crate::backend::{BackendRecord, Closing, Interner, Statements};
use crate::config::{Config, Database};
use crate::net::tls::{Counts, Tls};
use crate::net::{BOUNCER, Clock, Micros, Names, OWN, Zones, names_and_zones};

/// Database entry and user of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// Name of the database entry; for the fallback entry the name that the client asked for.
    pub database: Arc<str>,
    /// User that its backends log in as.
    pub user: Arc<str>,
}

/// How long a retiring pool is kept, so that a login that has just found it may join it.
const LEAVE_TAKING: Duration = Duration::from_secs(5);

/// Whether the secret of the pool's user is one that only PostgreSQL has.
fn looks_up(config: &Config, database: &Database, user: &str) -> bool {
    let known = config.user(user).is_some_and(|user| user.password.is_some());
    database.user.is_none() && !known && config.auth_source(&database.name).is_some()
}

/// All pools, and what they share.
#[derive(Debug)]
pub struct Pools {
    /// Clock, settings, ids.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// TLS as the configuration has it.
    pub tls: ArcSwap<Tls>,
    /// TLS handshakes with clients.
    pub tls_counts: Counts,
    /// Held while the configuration is replaced by one that was made from it.
    pub configuring: Mutex<()>,
    /// All clients.
    pub clients: Arc<Clients>,
    /// The credentials in use.
    pub credentials: Credentials,
    /// Clients of the process, `max_client_conn`.
    pub client_cap: Arc<Cap>,
    /// Clients per database, `max_db_client_connections`.
    pub database_clients: Caps,
    /// Clients per login user, `max_user_client_connections`.
    pub user_clients: Caps,
    /// Backends per database, `max_db_connections`.
    pub database_backends: Caps,
    /// Backends per user, `max_user_connections`.
    pub user_backends: Caps,
    /// Who listens for clients in transaction mode.
    pub listeners: Listeners,
    /// Who asks PostgreSQL for secrets.
    pub lookups: Lookups,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    paused: Mutex<Paused>,
    born: mpsc::UnboundedSender<Arc<Pool>>,
}

/// What the console has paused or disabled; all flags are independent, as PgBouncer's are.
#[derive(Debug, Default)]
struct Paused {
    all: bool,
    databases: std::collections::HashSet<String>,
    disabled: std::collections::HashSet<String>,
}

fn sorted(names: &std::collections::HashSet<String>) -> Vec<String> {
    let mut names: Vec<_> = names.iter().cloned().collect();
    names.sort_unstable();
    names
}

impl Pools {
    /// No pools yet. New ones are sent to the receiver, whose owner runs their connectors.
    #[must_use]
    pub fn new(config: Config) -> (Arc<Pools>, mpsc::UnboundedReceiver<Arc<Pool>>) {
        Pools::with_tls(config, Tls::none())
    }

    /// The same with TLS, as the configuration has it.
    #[must_use]
    pub fn with_tls(config: Config, tls: Tls) -> (Arc<Pools>, mpsc::UnboundedReceiver<Arc<Pool>>) {
        let names = names_and_zones(config.resolver.as_deref());
        Pools::with_names(config, tls, names)
    }

    /// The same with what knows the addresses of names, and their zones.
    #[must_use]
    pub fn with_names(
        config: Config,
        tls: Tls,
        (names, zones): (Names, Zones),
    ) -> (Arc<Pools>, mpsc::UnboundedReceiver<Arc<Pool>>) {
        let (born, births) = mpsc::unbounded_channel();
        let shared = Shared {
            clock: Clock::start(),
            interner: Interner::default(),
            statements: Statements::default(),
            clients: Arc::default(),
            suspension: super::Suspension::default(),
            names: Arc::new(names),
            zones,
            budgets: super::Budgets::default(),
            events: crate::metrics::Events::default(),
            ids: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let pools = Pools {
            listeners: Listeners::new(Arc::clone(&shared)),
            lookups: Lookups::new(Arc::clone(&shared)),
            clients: Arc::clone(&shared.clients),
            shared,
            config: ArcSwap::from_pointee(config),
            tls: ArcSwap::from_pointee(tls),
            tls_counts: Counts::default(),
            configuring: Mutex::default(),
            credentials: Credentials::default(),
            client_cap: Arc::default(),
            database_clients: Caps::default(),
            user_clients: Caps::default(),
            database_backends: Caps::default(),
            user_backends: Caps::default(),
            pools: Mutex::default(),
            paused: Mutex::default(),
            born,
        };
        (Arc::new(pools), births)
    }

    /// The pool of a database entry and the user that the client logged in as (a forced user replaces him).
    pub fn pool(&self, database: &Arc<Database>, login_user: &str) -> Arc<Pool> {
        self.pool_of_login(database, login_user, None)
    }

    /// The same after a login, with what was found in PostgreSQL of a user whose secret the configuration lacks: his
    /// pool logs in with it, unless the entry forces a user.
    pub fn pool_of_login(&self, database: &Arc<Database>, login_user: &str, found: Option<&Found>) -> Arc<Pool> {
        let user = database.user.as_deref().unwrap_or(login_user);
        let key = PoolKey { database: database.name.as_str().into(), user: user.into() };
        let config = self.config.load();
        let found = found.filter(|found| looks_up(&config, database, user) && found.is_latest());
        let found = found.and_then(|found| found.credential.as_ref());
        let mut pools = self.lock();
        if let Some(pool) = pools.get(&key).cloned() {
            drop(pools);
            if let Some(credential) = found {
                pool.log_in_with(credential);
            }
            pool.client_proved();
            return pool;
        }
        let secret = match found {
            Some(credential) => of_login(Arc::clone(credential)),
            None => self.credentials.of_pool(&config, database, user),
        };
        let pool = Arc::new(Pool {
            born: self.shared.clock.now(),
            counters: crate::metrics::Counters::default(),
            times: Arc::default(),
            settings: ArcSwap::from_pointee(self.settings(&config, database, user, secret)),
            shared: Arc::clone(&self.shared),
            shelf: Shelf::new(),
            queue: super::Queue::default(),
            size: Arc::default(),
            database_cap: self.database_backends.of(&key.database),
            user_cap: self.user_backends.of(&key.user),
            members: std::sync::atomic::AtomicU32::new(0),
            pins: super::PinCounts::default(),
            pinned: Arc::default(),
            opening: std::sync::atomic::AtomicU32::new(0),
            asked: Arc::default(),
            failure: Mutex::default(),
            welcome: Mutex::default(),
            accepted: Mutex::default(),
            backends: Mutex::default(),
            parked: Mutex::default(),
            closing: std::sync::atomic::AtomicBool::new(false),
            retiring: std::sync::atomic::AtomicBool::new(false),
            alarm_until: AtomicU64::new(0),
            connected_at: AtomicU64::new(0),
            failed_at: AtomicU64::new(0),
            check_refused: std::sync::atomic::AtomicBool::new(false),
            doubted: std::sync::atomic::AtomicBool::new(false),
            probed: std::sync::atomic::AtomicBool::new(false),
            next_doubt: AtomicU64::new(0),
            next_seek: AtomicU64::new(0),
            looking: tokio::sync::Mutex::default(),
            next_look: AtomicU64::new(0),
            told: tokio::sync::Notify::new(),
            touched: AtomicU64::new(self.shared.clock.now()),
            key: key.clone(),
        });
        pools.insert(key, Arc::clone(&pool));
        drop(pools);
        self.follow_pause(&pool);
        // Without a receiver the process is ending.
        let _ = self.born.send(Arc::clone(&pool));
        pool
    }

    /// The pool that a client belongs to whose own pool retires; `None` where the entry of its database is gone.
    #[must_use]
    pub fn successor(&self, client: &ClientRecord) -> Option<Arc<Pool>> {
        let name = Arc::clone(&client.pool()?.key.database);
        let database = self.config.load().database(&name)?;
        let pool = self.pool(&database, &client.identity.user);
        if self.config.load().database(&name).is_none() {
            // It went meanwhile, and whoever took it out may not have seen this pool.
            self.forget(&pool, Closing::Removed);
            return None;
        }
        Some(pool)
    }

    /// All pools, ordered by database and user.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pool>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// The pools of one database entry.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Vec<Arc<Pool>> {
        self.all().into_iter().filter(|pool| &*pool.key.database == database).collect()
    }

    /// The backend of this id.
    #[must_use]
    pub fn backend(&self, id: u64) -> Option<Arc<BackendRecord>> {
        self.all().iter().find_map(|pool| pool.backend(id))
    }

    /// Closes the longest idle backend of a pool other than `taker`'s that `which` chooses; pools in which clients wait
    /// and backends that `min_pool_size` keeps are spared where another can be had.
    pub(super) fn evict(&self, why: Closing, taker: Option<&Pool>, which: &dyn Fn(&Pool) -> bool) -> bool {
        self.evict_at(why, taker, which, &|_| true)
    }

    /// The same, of backends that `there` chooses.
    pub(super) fn evict_at(
        &self,
        why: Closing,
        taker: Option<&Pool>,
        which: &dyn Fn(&Pool) -> bool,
        there: &dyn Fn(&BackendRecord) -> bool,
    ) -> bool {
        let mut found: Vec<_> = self
            .all()
            .into_iter()
            .filter(|pool| taker.is_none_or(|taker| !std::ptr::eq(&raw const **pool, taker)) && which(pool))
            .filter_map(|pool| {
                let counts = pool.counts();
                let kept = counts.total <= pool.settings.load().min;
                let since = pool.oldest_idle(there)?;
                (counts.waiting == 0).then_some((kept, since, pool))
            })
            .collect();
        found.sort_by_key(|&(kept, since, _)| (kept, since));
        found.iter().any(|(_, _, pool)| {
            // It may have been lent meanwhile; then the next one goes.
            pool.evict_oldest(why, there) > 0
        })
    }

    /// Puts a configuration in force: every pool gets its new settings; those whose database is gone end, with their
    /// clients. The caller holds `configuring`.
    pub fn put_in_force(&self, config: Config) {
        let before = self.config.swap(Arc::new(config));
        let config = self.config.load_full();
        for pool in self.all() {
            let Some(database) = config.database(&pool.key.database) else {
                self.remove(&pool);
                continue;
            };
            let old = pool.settings.load_full();
            if database.user.as_deref().is_some_and(|forced| forced != &*pool.key.user) {
                // Another user is forced now: a pool of its own serves new clients, this one ends with its clients.
                if !pool.retiring.load(Relaxed) {
                    pool.retire();
                }
                continue;
            }
            let secret = match self.credentials.of_pool(&config, &database, &pool.key.user) {
                // A secret that the configuration never had, but PostgreSQL; whether it still holds is asked at the
                // next login.
                BackendSecret::None
                    if looks_up(&before, &old.database, &pool.key.user)
                        && looks_up(&config, &database, &pool.key.user) =>
                {
                    old.spec.secret.clone()
                }
                secret => secret,
            };
            let mut settings = self.settings(&config, &database, &pool.key.user, secret);
            let moved = !Database::same_target(&old.database, &database) || !old.spec.same_way(&settings.spec);
            if !moved {
                settings.spec.route = Arc::clone(&old.spec.route);
            }
            pool.retiring.store(false, Relaxed);
            pool.configure(settings, moved);
            if moved {
                self.listeners.follow(&pool, config.general.listener_lost);
            }
        }
        self.credentials.follow(&config);
        self.lookups.follow(&config);
        self.listeners.look();
        self.shared.budgets.look();
    }

    fn settings(&self, config: &Config, database: &Arc<Database>, user: &str, secret: BackendSecret) -> PoolSettings {
        let mut settings = PoolSettings::resolve(config, database, user, secret);
        settings.spec.tls = Arc::clone(&self.tls.load().connector);
        settings.spec.names = Arc::clone(&self.shared.names);
        settings.slots = self.shared.budgets.of_route(&settings.spec.route);
        settings
    }

    fn remove(&self, pool: &Arc<Pool>) {
        let theirs = |client: &ClientRecord| client.pool().is_some_and(|its| Arc::ptr_eq(&its, pool));
        let count = self.clients.interrupt(Reason::DatabaseRemoved, theirs);
        let database = &pool.key.database;
        tracing::warn!(target: OWN, %database, clients = count, "database removed");
        tracing::warn!(target: BOUNCER, "dropping database '{database}' as it does not exist anymore or inactive \
                                         auto-database");
        self.forget(pool, Closing::Removed);
    }

    /// PAUSE or RESUME of everything, or of one database. Answers whether that changed anything.
    pub fn set_paused(&self, database: Option<&str>, paused: bool) -> bool {
        let mut state = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match database {
            None => std::mem::replace(&mut state.all, paused) != paused,
            Some(name) if paused => state.databases.insert(name.to_owned()),
            Some(name) => state.databases.remove(name),
        };
        drop(state);
        for pool in self.all() {
            self.follow_pause(&pool);
        }
        self.listeners.look();
        self.lookups.look();
        changed
    }

    /// Brings a pool in line with what is paused, until nobody has changed that meanwhile.
    fn follow_pause(&self, pool: &Pool) {
        loop {
            let paused = self.is_paused(&pool.key.database);
            if pool.paused() != paused {
                pool.set_paused(paused);
            }
            if self.is_paused(&pool.key.database) == paused {
                break;
            }
        }
    }

    /// Whether everything is paused.
    #[must_use]
    pub fn all_paused(&self) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Whether any database is paused by itself.
    #[must_use]
    pub fn any_paused(&self) -> bool {
        !self.paused.lock().unwrap_or_else(PoisonError::into_inner).databases.is_empty()
    }

    /// The databases that are paused by themselves.
    #[must_use]
    pub fn paused_databases(&self) -> Vec<String> {
        sorted(&self.paused.lock().unwrap_or_else(PoisonError::into_inner).databases)
    }

    /// The databases of which new clients are refused.
    #[must_use]
    pub fn disabled_databases(&self) -> Vec<String> {
        sorted(&self.paused.lock().unwrap_or_else(PoisonError::into_inner).disabled)
    }

    /// Whether this database is paused by itself.
    #[must_use]
    pub fn database_paused(&self, database: &str) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).databases.contains(database)
    }

    /// Whether this database is paused, by itself or with everything.
    #[must_use]
    pub fn is_paused(&self, database: &str) -> bool {
        self.all_paused() || self.database_paused(database)
    }

    /// DISABLE or ENABLE: whether new clients of this database are refused.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        let mut state = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        if disabled {
            state.disabled.insert(database.to_owned());
        } else {
            state.disabled.remove(database);
        }
    }

    /// Whether new clients of this database are refused.
    #[must_use]
    pub fn is_disabled(&self, database: &str) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).disabled.contains(database)
    }

    /// Takes out a pool that nobody needs: one that retires at once when it is empty, one that the fallback entry or a
    /// user that auth_query found made when it has been empty for `autodb_idle_timeout`, any for `pool_idle_timeout`. What `min_pool_size` keeps open for
    /// such a user counts as nothing, or whoever was there once would have connections for ever.
    pub(super) fn forget_if_unused(&self, pool: &Pool, now: Micros) {
        let counts = pool.counts();
        let config = self.config.load();
        let settings = pool.settings.load();
        let found = looks_up(&config, &settings.database, &pool.key.user);
        let kept = if found && !pool.retiring.load(Relaxed) { counts.idle.min(settings.min) } else { 0 };
        if counts.total > kept || counts.waiting > 0 {
            pool.touched.store(now, Relaxed);
            return;
        }
        let empty_for = Clock::between(pool.touched.load(Relaxed), now);
        let made_up = found || !config.databases.contains_key(&*pool.key.database);
        let general = &config.general;
        let over = |limit: Duration| !limit.is_zero() && empty_for > limit;
        let idle = (made_up && over(general.autodb_idle_timeout)) || over(general.pool_idle_timeout);
        if idle || (pool.retiring.load(Relaxed) && empty_for > LEAVE_TAKING) {
            let (PoolKey { database, user }, age) = (&pool.key, empty_for.as_secs());
            tracing::info!(target: OWN, %database, %user, "pool is forgotten");
            tracing::info!(target: BOUNCER, "cleaning up idle pool for user {user} on db {database} because: pool idle \
                                             timeout (age= {age}s)");
            self.forget(pool, Closing::Unneeded);
        }
    }

    /// Takes a pool out for good.
    pub fn forget(&self, pool: &Pool, why: Closing) {
        self.lock().remove(&pool.key);
        pool.close(why);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
