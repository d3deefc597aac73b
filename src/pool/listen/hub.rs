//! One database's hub: it keeps a listening backend as long as somebody listens.
//!
//! A lost backend is replaced with a growing pause in between; what was listened on is listened on again before anything
//! else, and then the gap is said. The limits over several pools hold for it, `pool_size` does not.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::NoListener;
use super::line::{Line, Loss, Over, Talk};
use super::roll::{Calls, Roll};
use crate::backend::{BackendRecord, BackendState, Closing, Identity, Spec, connect};
use crate::config::ListenerLost;
use crate::net::{Endpoint, OWN, Target};
use crate::pool::connector::passing_pause;
use crate::pool::{Cap, Listing, Permit, Pool, Pools, Shared};

/// Longest pause between two attempts, if PostgreSQL did not refuse the login.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a hub that is held up by PAUSE looks.
const LOOK: Duration = Duration::from_millis(250);

/// What a hub listens to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) targets: Box<[Target]>,
    pub(super) dbname: String,
}

impl Key {
    pub(super) fn of(pool: &Pool) -> Key {
        let settings = pool.settings.load();
        Key { targets: settings.spec.route.targets().into(), dbname: settings.spec.dbname.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let targets = self.targets.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&targets.join(","))
    }
}

/// What a hub does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubState {
    /// The first connection is being opened.
    Opening,
    /// It listens.
    Listening,
    /// The connection was lost, and not everything is listened on again.
    Lost,
}

impl fmt::Display for HubState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HubState::Opening => "opening",
            HubState::Listening => "listening",
            HubState::Lost => "lost",
        })
    }
}

/// One hub, for the console.
#[derive(Clone, Debug)]
pub struct HubShown {
    /// Database in PostgreSQL.
    pub database: String,
    /// Where PostgreSQL may be.
    pub targets: Box<[Target]>,
    /// Where the listening backend is.
    pub endpoint: Option<Endpoint>,
    /// What the hub does.
    pub state: HubState,
    /// Channels with subscribers.
    pub channels: usize,
    /// Clients that listen.
    pub clients: usize,
    /// Process id of the listening backend, 0 for none.
    pub process_id: u32,
    /// Notifications that were put into mailboxes.
    pub delivered: u64,
    /// Notifications that did not fit.
    pub dropped: u64,
    /// Times that the backend was lost while clients listened.
    pub losses: u64,
}

/// The hub of one database; run by a task of its own.
#[derive(Debug)]
pub struct Hub {
    pub(super) key: Key,
    /// Wakes its task.
    pub(super) asked: Notify,
    shared: Arc<Shared>,
    roll: Mutex<Roll>,
    /// The backend, and the pool that it counts for.
    backend: Mutex<Option<(Arc<Pool>, Arc<BackendRecord>)>>,
    paused: AtomicBool,
    delivered: AtomicU64,
    dropped: AtomicU64,
    losses: AtomicU64,
}

/// Why no line could be opened.
enum Trouble {
    /// Nothing may be opened at present.
    Held,
    /// It failed.
    Failed(NoListener),
}

impl Hub {
    pub(super) fn new(key: Key, shared: Arc<Shared>) -> Hub {
        Hub {
            key,
            asked: Notify::new(),
            shared,
            roll: Mutex::default(),
            backend: Mutex::default(),
            paused: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            losses: AtomicU64::new(0),
        }
    }

    /// Listens until nobody has wanted it for a while.
    pub async fn run(self: Arc<Self>, pools: Arc<Pools>) {
        let mut failures = 0;
        while !pools.listeners.retire(&self) {
            let pause = match self.open(&pools, failures).await {
                Ok(mut line) => {
                    let over = Box::pin(line.run(&self, &pools)).await;
                    if line.talk.settled {
                        failures = 0;
                    }
                    match self.close(line, over, &pools) {
                        Some(loss) => self.pause_after(&loss, failures),
                        None => continue,
                    }
                }
                Err(Trouble::Held) => LOOK,
                Err(Trouble::Failed(why)) => self.failed(why, &pools, failures),
            };
            failures = failures.saturating_add(1);
            sleep(pause).await;
        }
    }

    /// A connection as the user of one who listens; after a failure the next one's pool is tried.
    async fn open(&self, pools: &Pools, failures: u32) -> Result<Line, Trouble> {
        self.roll().trying();
        let pool = self.pool(pools, failures).ok_or(Trouble::Held)?;
        self.paused.store(pool.paused(), Relaxed);
        if pool.paused() {
            return Err(Trouble::Held);
        }
        let permits = permits(&pool, pools).map_err(|limit| Trouble::Failed(NoListener::Limit(limit)))?;
        let slot = pool.own_slot(pools).ok_or(Trouble::Failed(NoListener::Limit("slot_budget")))?;
        let spec = named(pool.settings.load().spec.clone());
        let id = self.shared.next_id();
        let epoch = pool.shelf.lock().epoch;
        let who = Identity { id, database: Arc::clone(&pool.key.database), user: Arc::clone(&pool.key.user) };
        let backend = Box::pin(connect(&spec, who, &self.shared.interner, &self.shared.clock));
        let backend = backend.await.map_err(|error| Trouble::Failed(NoListener::Login(Arc::new(error))))?;
        if pool.shelf.lock().epoch != epoch {
            backend.record.need_close();
        }
        backend.record.set_state(BackendState::Active);
        pool.listed().insert(id, Arc::clone(&backend.record));
        let listing = Listing { pool: Arc::downgrade(&pool), id };
        if pool.settings.load().log_connections {
            tracing::info!(target: OWN, database = %pool.key.database, user = %pool.key.user, id,
                           address = %backend.record.endpoint, pid = backend.record.process_id,
                           "new connection to server, to listen");
        }
        *self.backend.lock().unwrap_or_else(PoisonError::into_inner) = Some((pool, Arc::clone(&backend.record)));
        // What has changed meanwhile has woken nobody.
        self.asked.notify_one();
        Ok(Line { backend, _listing: listing, _permits: permits, _slot: slot, talk: Talk::new() })
    }

    /// The pool whose user logs in.
    fn pool(&self, all: &Pools, failures: u32) -> Option<Arc<Pool>> {
        let records = self.roll().records();
        let mut pools: Vec<Arc<Pool>> = Vec::new();
        for record in &records {
            // A client that is silent is still in the pool of a user who may not be there any more.
            let retiring = record.pool().is_some_and(|pool| pool.is_retiring());
            let pool = if retiring { all.successor(record) } else { record.pool() };
            pools.extend(pool.filter(|pool| !pools.iter().any(|known| Arc::ptr_eq(known, pool))));
        }
        pools.retain(|pool| !pool.is_closed() && Key::of(pool) == self.key);
        let index = usize::try_from(failures).unwrap_or(0).checked_rem(pools.len())?;
        pools.get(index).cloned()
    }

    /// Closes the connection; answers the loss, where it was one.
    fn close(&self, line: Line, over: Over, pools: &Pools) -> Option<Loss> {
        *self.backend.lock().unwrap_or_else(PoisonError::into_inner) = None;
        line.backend.record.close_because(match &over {
            Over::Quiet => Closing::Unneeded,
            Over::Lost(Loss::Displaced) => Closing::Replaced,
            Over::Lost(_) => Closing::Crashed,
        });
        line.backend.terminate();
        let disconnect = pools.config.load().general.listener_lost == ListenerLost::Disconnect;
        let mut roll = self.roll();
        let again = roll.in_gap();
        let (clients, calls) = roll.lost(self.shared.clock.now(), disconnect);
        drop(roll);
        calls.make();
        let Over::Lost(loss) = over else { return None };
        if clients > 0 && !again {
            self.losses.fetch_add(1, Relaxed);
            pools.listeners.losses.fetch_add(1, Relaxed);
        }
        let (target, dbname) = (&self.key, &self.key.dbname);
        if clients == 0 {
            tracing::info!(database = %dbname, %target, error = %loss, "connection to the listening backend has ended");
        } else {
            tracing::warn!(database = %dbname, %target, error = %loss, clients, disconnect,
                           "connection to the listening backend was lost");
        }
        Some(loss)
    }

    fn pause_after(&self, loss: &Loss, failures: u32) -> Duration {
        match loss {
            Loss::Displaced => Duration::ZERO,
            Loss::Io(_) | Loss::Closed | Loss::Said(_) | Loss::Violation(_) | Loss::Unexpected(_) | Loss::Silent => {
                passing_pause(failures, LONGEST_PAUSE)
            }
        }
    }

    /// Tells those who wait, where waiting would not help, and answers how long to pause.
    fn failed(&self, why: NoListener, pools: &Pools, failures: u32) -> Duration {
        let mut pause = passing_pause(failures, LONGEST_PAUSE);
        let (error, hopeless) = match &why {
            NoListener::Login(error) => (Some(Arc::clone(error)), !error.may_pass()),
            NoListener::Limit(_) => (None, true),
            NoListener::Refused(_) | NoListener::Late(..) | NoListener::Channels(_) | NoListener::Gone => (None, false),
        };
        if error.is_some() && hopeless {
            pause = pools.config.load().general.server_login_retry.max(pause);
        }
        tracing::warn!(database = %self.key.dbname, target = %self.key, error = %why, ?pause,
                       "cannot open a connection to listen on");
        let mut roll = self.roll();
        roll.note_trouble(error);
        let calls = if hopeless { roll.fail(&why) } else { Calls::default() };
        drop(roll);
        calls.make();
        pause
    }

    /// Ends the gap, if there was one and all is listened on again; answers whether nothing is missing.
    pub(super) fn regained(&self, most: u32) -> bool {
        let mut roll = self.roll();
        let regained = roll.regained(self.shared.clock.now(), most);
        let settled = !roll.in_gap();
        if settled {
            roll.note_trouble(None);
        }
        drop(roll);
        if let Some((gap, clients, calls)) = regained {
            calls.make();
            tracing::warn!(database = %self.key.dbname, target = %self.key, ?gap, clients,
                           "listening again, notifications of the time between may be lost");
        }
        settled
    }

    /// Puts a notification into the mailboxes of those who listen.
    pub(super) fn deliver(&self, channel: &[u8], message: &[u8], most: u32, calls: &mut Calls) {
        let delivery = self.roll().deliver(channel, message, most, calls);
        self.delivered.fetch_add(delivery.delivered, Relaxed);
        self.dropped.fetch_add(delivery.dropped, Relaxed);
    }

    /// Unsubscribes a client from a channel, or from all; answers whether it is subscribed to nothing here any more.
    pub(super) fn unsubscribe(&self, client: u64, channel: Option<&[u8]>) -> bool {
        let nothing = self.roll().unsubscribe(client, channel);
        self.asked.notify_one();
        nothing
    }

    /// Whether the backend should not stay where it is.
    pub(super) fn is_displaced(&self) -> bool {
        let backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner).clone();
        backend.is_some_and(|(pool, record)| {
            record.close_needed() || pool.paused() || pool.is_closed() || Key::of(&pool) != self.key
        })
    }

    /// Whether it waits for RESUME.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub(super) fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shown(&self) -> HubShown {
        let record = self.backend.lock().unwrap_or_else(PoisonError::into_inner).clone().map(|(_, record)| record);
        let roll = self.roll();
        let (channels, clients) = roll.counts();
        HubShown {
            database: self.key.dbname.clone(),
            targets: self.key.targets.clone(),
            endpoint: record.as_ref().map(|record| record.endpoint.clone()),
            state: match record {
                _ if roll.in_gap() => HubState::Lost,
                Some(_) => HubState::Listening,
                None => HubState::Opening,
            },
            channels,
            clients,
            process_id: record.map_or(0, |record| record.process_id),
            delivered: self.delivered.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            losses: self.losses.load(Relaxed),
        }
    }
}

/// Permits for the listening backend, or the limit that is used up; where an idle backend can be had for it, that goes.
fn permits(pool: &Pool, pools: &Pools) -> Result<[Permit; 2], &'static str> {
    let settings = pool.settings.load();
    let permit = |cap: &Arc<Cap>, limit: u32, why: Closing, same: &dyn Fn(&Pool) -> bool| {
        // The last connection is for queries.
        if limit == 1 {
            return None;
        }
        cap.acquire(limit).or_else(|| {
            pools.evict(why, None, same);
            cap.acquire(limit)
        })
    };
    let same_database = |other: &Pool| other.key.database == pool.key.database;
    let same_user = |other: &Pool| other.key.user == pool.key.user;
    let database = permit(&pool.database_cap, settings.max_db, Closing::EvictedForDatabase, &same_database)
        .ok_or("max_db_connections")?;
    let user =
        permit(&pool.user_cap, settings.max_user, Closing::EvictedForUser, &same_user).ok_or("max_user_connections")?;
    Ok([database, user])
}

/// With a name for `pg_stat_activity`, unless the configuration gives one.
fn named(mut spec: Spec) -> Spec {
    if !spec.parameters.iter().any(|(name, _)| *name == "application_name") {
        spec.parameters.push(("application_name", "pgpool listener".to_owned()));
    }
    spec
}
