//! All pools of the process, made when they are first needed.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::cap::{Cap, Caps};
use super::shelf::Shelf;
use super::{Clients, Credentials, Pool, PoolSettings, Shared};
use crate::backend::{BackendRecord, Interner};
use crate::config::{Config, Database};
use crate::net::Clock;

/// Database entry and user of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// Name of the database entry; for the fallback entry the name that the client asked for.
    pub database: Arc<str>,
    /// User that its backends log in as.
    pub user: Arc<str>,
}

/// All pools, and what they share.
#[derive(Debug)]
pub struct Pools {
    /// Clock, settings, ids.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub config: ArcSwap<Config>,
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

impl Pools {
    /// No pools yet. New ones are sent to the receiver, whose owner runs their connectors.
    #[must_use]
    pub fn new(config: Config) -> (Arc<Pools>, mpsc::UnboundedReceiver<Arc<Pool>>) {
        let (born, births) = mpsc::unbounded_channel();
        let shared = Shared { clock: Clock::start(), interner: Interner::default(), ids: AtomicU64::new(0) };
        let pools = Pools {
            shared: Arc::new(shared),
            config: ArcSwap::from_pointee(config),
            clients: Arc::default(),
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
        let user = database.user.as_deref().unwrap_or(login_user);
        let key = PoolKey { database: database.name.as_str().into(), user: user.into() };
        let mut pools = self.lock();
        if let Some(pool) = pools.get(&key) {
            return Arc::clone(pool);
        }
        let config = self.config.load();
        let secret = self.credentials.of_pool(&config, database, user);
        let pool = Arc::new(Pool {
            counters: crate::metrics::Counters::default(),
            settings: ArcSwap::from_pointee(PoolSettings::resolve(&config, database, user, secret)),
            shared: Arc::clone(&self.shared),
            shelf: Shelf::new(),
            queue: super::Queue::default(),
            size: Arc::default(),
            database_cap: self.database_backends.of(&key.database),
            user_cap: self.user_backends.of(&key.user),
            opening: std::sync::atomic::AtomicU32::new(0),
            missed: std::sync::atomic::AtomicBool::new(false),
            asked: Arc::default(),
            failure: Mutex::default(),
            welcome: Mutex::default(),
            accepted: Mutex::default(),
            backends: Mutex::default(),
            parked: Mutex::default(),
            closing: std::sync::atomic::AtomicBool::new(false),
            key: key.clone(),
        });
        if self.is_paused(&key.database) {
            pool.set_paused(true);
        }
        pools.insert(key, Arc::clone(&pool));
        // Without a receiver the process is ending.
        let _ = self.born.send(Arc::clone(&pool));
        pool
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

    /// Closes the longest idle backend of a pool other than `taker` that `which` chooses; pools in which clients wait
    /// and backends that `min_pool_size` keeps are spared where another can be had.
    pub(super) fn evict(&self, taker: &Pool, which: &dyn Fn(&Pool) -> bool) -> bool {
        let mut found: Vec<_> = self
            .all()
            .into_iter()
            .filter(|pool| !std::ptr::eq(&raw const **pool, taker) && which(pool))
            .filter_map(|pool| {
                let counts = pool.counts();
                let kept = counts.total <= pool.settings.load().min;
                let since = pool.shelf.lock().backends.iter().map(|held| held.backend.idle_since).min()?;
                (counts.waiting == 0).then_some((kept, since, pool))
            })
            .collect();
        found.sort_by_key(|&(kept, since, _)| (kept, since));
        found.iter().any(|(_, since, pool)| {
            let mut one = true;
            pool.close_idle_mut(|held| std::mem::take(&mut one) && held.backend.idle_since <= *since) > 0
        })
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
            let paused = self.is_paused(&pool.key.database);
            if pool.paused() != paused {
                pool.set_paused(paused);
            }
        }
        changed
    }

    /// Whether everything is paused.
    #[must_use]
    pub fn all_paused(&self) -> bool {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).all
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

    /// Takes a pool out for good.
    pub fn forget(&self, pool: &Pool) {
        self.lock().remove(&pool.key);
        pool.close();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
