//! Lending: the pools of backends, their limits, and the clients that they are lent to.
//!
//! A [`Pool`] is the backends of one (database entry, user) pair. [`Pool::try_checkout`] is the warm path: a seat, the
//! shelf's lock, and a look whether the backend is still alive. [`Pool::checkout`] waits, first come first served, for
//! whichever comes first: a backend given back, or one that the [`connector`] opened. What comes out is a [`Lease`],
//! and [`Lease::release`] is the only way back.

mod budget;
mod cap;
mod client;
mod connector;
mod dedicated;
mod drain;
mod facts;
mod glance;
mod holders;
mod interrupt;
mod lease;
mod listen;
mod look;
mod lookup;
mod pins;
mod plan;
mod pools;
mod queue;
mod settings;
mod shelf;
mod suspend;
mod sweep;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::auth::{BackendSecret, Credential};
use crate::backend::{BackendRecord, Closing, Interner, State, Statements};
use crate::metrics::{Counters, Events, Times};
use crate::net::{BOUNCER, Clock, Micros, Names, OWN, Zones};
use queue::Queue;
use settings::of_login;
use shelf::{Held, Shelf, Taken};

pub use budget::{Bound, BudgetShown, Budgets, Facts, Peer, Refusal, Rule, SlotPermit, Slots};
pub use cap::{Cap, Caps, Permit};
pub use client::{ClientIdentity, ClientRecord, Clients, Listed, Phase};
pub use connector::Failure;
pub use dedicated::{Dedicated, NoDedicated, Wanted};
pub use facts::{advice, facts, failure_report, reason_report};
pub use glance::Glance;
pub use holders::{Holder, Holding, LastQuery, holders, last_query};
pub use interrupt::{Interrupt, Reason};
pub use lease::Lease;
pub use listen::{Hub, HubShown, HubState, Listeners, Mailbox, NoListener, Subscription};
pub use lookup::{Desk, Found, FoundRoles, LookupError, Lookups, Misfit};
pub use pins::{Pin, PinCounts, feature_rejected, feature_warning, pin_refused};
pub use pools::{PoolKey, Pools};
pub use settings::{Credentials, PoolSettings, lifetimes, socket_options};
pub use suspend::{Suspended, Suspension};
pub use sweep::{WaitRules, sweep};
pub use wait::{WaitEnd, Waiting};

/// What all pools of a process share.
#[derive(Debug)]
pub struct Shared {
    /// The process's clock.
    pub clock: Clock,
    /// The process's settings in use.
    pub interner: Interner,
    /// The process's prepared statements.
    pub statements: Statements,
    /// All clients.
    pub clients: Arc<Clients>,
    /// Whether everything stands still.
    pub suspension: Suspension,
    /// The addresses of PostgreSQL's hosts.
    pub names: Arc<Names>,
    /// The zones that their names are in.
    pub zones: Zones,
    /// How many connections PostgreSQL has for us.
    pub budgets: Budgets,
    /// What happens to the process as a whole.
    pub events: Events,
    /// Source of the ids of clients and backends.
    pub ids: AtomicU64,
}

impl Shared {
    /// The next id; clients and backends share one sequence, as PgBouncer's do.
    pub fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed) + 1
    }

    /// The id that was given out last.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.ids.load(Relaxed)
    }
}

/// Numbers of one pool for the console, one moment's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Backends open, opening included.
    pub total: u32,
    /// Backends being opened.
    pub opening: u32,
    /// Backends on the shelf.
    pub idle: u32,
    /// Clients that wait for a backend.
    pub waiting: u32,
    /// Since when the first of them waits.
    pub oldest: Option<Micros>,
}

/// The backends of one (database entry, user) pair.
#[derive(Debug)]
pub struct Pool {
    /// Which pair.
    pub key: PoolKey,
    /// When it was made.
    pub born: Micros,
    /// What it counted.
    pub counters: Counters,
    /// The times that it measured.
    pub times: Arc<Times>,
    /// What it goes by at present.
    pub settings: ArcSwap<PoolSettings>,
    /// What all pools share.
    pub shared: Arc<Shared>,
    shelf: Shelf,
    queue: Queue,
    size: Arc<Cap>,
    database_cap: Arc<Cap>,
    user_cap: Arc<Cap>,
    /// Clients that have joined it.
    members: AtomicU32,
    /// What pins its clients.
    pub pins: PinCounts,
    /// Backends that clients keep between transactions, `max_pinned`.
    pinned: Arc<Cap>,
    opening: AtomicU32,
    /// Wakes the connector.
    asked: Arc<Notify>,
    failure: Mutex<Option<Failure>>,
    /// What a new client of this pool starts with.
    welcome: Mutex<Option<State>>,
    /// Startup settings that PostgreSQL accepted, and what it made of them.
    accepted: Mutex<std::collections::HashMap<Vec<(String, String)>, State>>,
    backends: Mutex<std::collections::BTreeMap<u64, Arc<BackendRecord>>>,
    /// Given back while a cancel request for its last query was under way.
    parked: Mutex<Vec<Lease>>,
    closing: AtomicBool,
    /// Nobody new comes to this pool; it ends when its last client has left.
    retiring: AtomicBool,
    /// When it last had a client or a backend.
    touched: AtomicU64,
    /// Until when backends that change hands directly are looked at by a system call, since one has just died.
    alarm_until: AtomicU64,
    /// When a backend was last opened, and when that last failed.
    connected_at: AtomicU64,
    failed_at: AtomicU64,
    /// A connection is to be opened that looks what a host is.
    doubted: AtomicBool,
    /// A backend is to be open, so that it is known whether one can be had.
    probed: AtomicBool,
    /// server_check_query was refused, which has been said.
    check_refused: AtomicBool,
    /// When the next doubt counts.
    next_doubt: AtomicU64,
    /// When a better host than those in use is looked for next.
    next_seek: AtomicU64,
    /// Held by whoever looks what the server is for clients that log in, and when the next look may begin.
    looking: tokio::sync::Mutex<()>,
    next_look: AtomicU64,
    /// Wakes who waits for the end of an attempt to open a backend.
    told: Notify,
}

/// How long the look at each backend that changes hands goes on after a death, microseconds.
const ALARM: Micros = 2_000_000;

/// Most sets of startup settings that are remembered per pool.
const ACCEPTED: usize = 1000;

impl Pool {
    /// A lease of an idle backend, if one is there and nobody waits. Costs no system call.
    #[inline]
    pub fn try_checkout(self: &Arc<Self>, settings: &PoolSettings) -> Option<Lease> {
        loop {
            let seat = self.shelf.try_seat()?;
            let lease = self.lease(seat, settings)?;
            if let Some(lease) = lease.alive(false) {
                return Some(lease);
            }
        }
    }

    #[inline]
    fn lease(self: &Arc<Self>, seat: Taken, settings: &PoolSettings) -> Option<Lease> {
        let held = self.shelf.pick(settings.round_robin)?;
        Some(Lease::new(held, seat, Arc::clone(self)))
    }

    /// Present numbers.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let short = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolCounts {
            total: self.size.used(),
            opening: self.opening.load(Relaxed),
            idle: short(self.shelf.len()),
            waiting: short(self.queue.len()),
            oldest: self.queue.oldest(),
        }
    }

    /// Backends of this pool.
    #[must_use]
    pub fn backends(&self) -> Vec<Arc<BackendRecord>> {
        self.listed().values().cloned().collect()
    }

    /// Has a backend opened where none is, though nobody needs it.
    pub fn probe(&self) {
        self.probed.store(true, Relaxed);
        self.nudge();
    }

    /// The backend of this id.
    #[must_use]
    pub fn backend(&self, id: u64) -> Option<Arc<BackendRecord>> {
        self.listed().get(&id).cloned()
    }

    /// The backends on the shelf: the id of each, and since when it is idle.
    #[must_use]
    pub fn idle_since(&self) -> Vec<(u64, Micros)> {
        self.shelf.lock().backends.iter().map(|held| (held.backend.record.id, held.backend.idle_since)).collect()
    }

    /// The settings that a new client of this pool starts with, once a backend has told them; what the server is, as it
    /// has last said.
    #[must_use]
    pub fn welcome(&self) -> Option<State> {
        let welcome = self.welcome.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(self.settings.load().spec.route.said.told(welcome, &self.shared.interner, |_| false))
    }

    /// What PostgreSQL made of these startup settings, if it has accepted them before.
    #[must_use]
    pub fn accepted(&self, settings: &[(String, String)]) -> Option<State> {
        let accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(settings).cloned()?;
        let own = |name: &str| settings.iter().any(|(asked, _)| asked == name);
        Some(self.settings.load().spec.route.said.told(accepted, &self.shared.interner, own))
    }

    /// Remembers that PostgreSQL accepted these startup settings, and what it made of them.
    pub fn accept(&self, settings: Vec<(String, String)>, state: State) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        if accepted.len() >= ACCEPTED {
            accepted.clear();
        }
        accepted.insert(settings, state);
    }

    /// The last failure to open a backend, unless one was opened since.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the pool was closed for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Whether nothing is lent or put on the shelf at present.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.shelf.lock().paused
    }

    /// PAUSE or RESUME. Paused, idle backends are closed and so is each one that comes back; clients queue.
    pub fn set_paused(&self, paused: bool) {
        self.shelf.lock().paused = paused;
        if paused {
            self.close_idle(Closing::Paused, |_| true);
        }
        self.look_again();
    }

    /// RECONNECT: closes idle backends now and the others when they come back; forgets the welcome.
    pub fn reconnect(&self) {
        self.shelf.lock().epoch += 1;
        for record in self.backends() {
            record.need_close();
        }
        *self.welcome.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.close_idle(Closing::Replaced, |held| held.backend.record.close_needed());
        self.asked.notify_one();
    }

    /// Logs in to PostgreSQL with this from here on: what was found of the pool's user at a login. One that has the same
    /// secret and of which more is known already stays.
    fn log_in_with(&self, credential: &Arc<Credential>) {
        let old = self.settings.load_full();
        let same = match &old.spec.secret {
            BackendSecret::Credential(known) | BackendSecret::Keys(known) => {
                Arc::ptr_eq(known, credential) || (known.equals(credential) && !old.spec.secret.awaits_login())
            }
            BackendSecret::None => false,
        };
        if !same {
            let mut settings = PoolSettings::clone(&old);
            settings.spec.secret = of_login(Arc::clone(credential));
            self.configure(settings, false);
        }
    }

    /// Puts new settings in force; backends that no longer fit are closed as they come back.
    pub fn configure(&self, settings: PoolSettings, new_target: bool) {
        self.settings.store(Arc::new(settings));
        // What has failed may have failed for the old settings.
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        if new_target {
            self.reconnect();
        }
        self.look_again();
    }

    /// Limits or the pause may have changed: whoever waits for a place looks.
    fn look_again(&self) {
        self.asked.notify_one();
        for cap in [&self.size, &self.database_cap, &self.user_cap] {
            cap.wake();
        }
    }

    /// Whether another user is forced for its database now; its clients leave it between two transactions.
    #[must_use]
    #[inline]
    pub fn is_retiring(&self) -> bool {
        self.retiring.load(Relaxed)
    }

    /// Keeps the pool only for what its clients have under way.
    pub fn retire(&self) {
        self.retiring.store(true, Relaxed);
        let settings = PoolSettings { min: 0, ..PoolSettings::clone(&self.settings.load()) };
        self.configure(settings, true);
    }

    /// Closes the pool for good: the connector ends, idle backends are closed, nothing comes back.
    pub fn close(&self, why: Closing) {
        self.closing.store(true, Relaxed);
        self.shelf.lock().paused = true;
        self.close_idle(why, |_| true);
        self.asked.notify_one();
    }

    /// Why nothing may be put on the shelf, where that is so.
    fn why_not_kept(&self) -> Closing {
        if self.is_closed() { Closing::Removed } else { Closing::Paused }
    }

    /// A backend has died, and others may be dying: for a while none changes hands unseen.
    pub fn alarm(&self) {
        self.alarm_until.store(self.shared.clock.now().saturating_add(ALARM), Relaxed);
    }

    /// Makes the connector look again.
    pub fn nudge(&self) {
        self.asked.notify_one();
    }

    /// A client waits: makes the connector look again, where it may open anything at all.
    fn ask(&self) {
        let settings = self.settings.load();
        if settings.size == 0 || self.size.used() < settings.size.saturating_add(settings.reserve) {
            self.asked.notify_one();
        }
    }

    /// Gives back the leases that waited for a cancel request which is over now.
    pub fn unpark(&self) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = parked.extract_if(.., |lease| !lease.backend().record.being_canceled()).collect::<Vec<_>>();
        drop(parked);
        for lease in ready {
            lease.release();
        }
    }

    /// Closes the idle backends that `which` chooses, and answers how many.
    fn close_idle(&self, why: Closing, which: impl Fn(&Held) -> bool) -> usize {
        self.close_idle_mut(|held| {
            let chosen = which(held);
            if chosen {
                held.backend.record.close_because(why);
            }
            chosen
        })
    }

    /// Closes the longest idle backend of those that `there` chooses, for somebody else.
    fn evict_oldest(&self, why: Closing, there: &dyn Fn(&BackendRecord) -> bool) -> usize {
        let oldest = self.oldest_idle(there);
        let mut one = true;
        self.close_idle_mut(|held| {
            let chosen = Some(held.backend.idle_since) == oldest && there(&held.backend.record);
            let chosen = chosen && std::mem::take(&mut one);
            if chosen {
                held.backend.record.close_because(why);
            }
            chosen
        })
    }

    /// Closes the idle backends that `which` chooses, and answers how many.
    fn close_idle_mut(&self, which: impl FnMut(&mut Held) -> bool) -> usize {
        let removed = self.shelf.remove(which);
        let count = removed.len();
        for held in removed {
            held.terminate();
        }
        count
    }

    /// Since when the longest idle backend is idle, of those that `there` chooses.
    fn oldest_idle(&self, there: &dyn Fn(&BackendRecord) -> bool) -> Option<Micros> {
        let shelf = self.shelf.lock();
        shelf.backends.iter().filter(|held| there(&held.backend.record)).map(|held| held.backend.idle_since).min()
    }

    /// Where somebody starves at a limit that this pool shares, an idle backend here is what he needs.
    fn offer(&self, settings: &PoolSettings) {
        for cap in [&self.size, &self.database_cap, &self.user_cap] {
            if cap.starved() {
                cap.wake();
            }
        }
        for slots in &settings.slots {
            slots.offer();
        }
    }

    fn listed(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<u64, Arc<BackendRecord>>> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the end of a backend, in PgBouncer's words.
fn log_close(record: &BackendRecord, now: Micros) {
    let (reason, age) = (record.closing(), Clock::between(record.connected, now).as_secs());
    let reason = reason.as_str();
    tracing::info!(target: OWN, database = %record.database, user = %record.user, id = record.id,
                   address = %record.endpoint, pid = record.process_id, "closing because: {reason} (age={age}s)");
    tracing::info!(target: BOUNCER, "{} closing because: {reason} (age={age}s)", record.party());
}

/// A backend's place in its pool's list; dropped, it is struck off and the connector looks again.
#[derive(Debug)]
struct Listing {
    pool: Weak<Pool>,
    id: u64,
}

impl Drop for Listing {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let record = pool.listed().remove(&self.id);
            if let Some(record) = record.filter(|_| pool.settings.load().log_disconnections) {
                log_close(&record, pool.shared.clock.now());
            }
            pool.nudge();
        }
    }
}

#[cfg(test)]
mod tests;
