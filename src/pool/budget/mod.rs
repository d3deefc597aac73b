//! The budget: how many of a PostgreSQL server's connection slots all pools together may hold.
//!
//! Each server (host and port) has its [`Slots`], whichever databases, users and pools lead to it. A [`Keeper`](Slots::keep)
//! asks the server now and then how many slots there are and who has them ([`inquiry`]), works out what is ours
//! ([`facts`]), and has idle backends closed where others need it. What is short is shared fairly ([`share`]). Several
//! pgpools in front of one server see each other by the name of the connection that the keeper asks on.
//!
//! Invariant: no more backends exist, or are being opened, than the limit that was in force when the last one was asked
//! for; a permit is taken first and given back last.

mod ceiling;
mod dues;
mod facts;
mod inquiry;
mod keeper;
mod member;
mod share;
mod shown;
mod slots;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::cap::Starving;
use super::{Pool, PoolSettings, Pools};
use crate::backend::{BackendRecord, Closing, Route};
use crate::net::Target;
use slots::Short;

pub use ceiling::Refusal;
pub use facts::{Bound, Facts, Peer, Rule};
pub use shown::BudgetShown;
pub use slots::{SlotPermit, Slots};

/// Most connections to a server of which nothing is known yet.
const FIRST: u32 = 4;

/// The budgets of all servers.
#[derive(Debug)]
pub struct Budgets {
    servers: Mutex<HashMap<Target, Arc<Slots>>>,
    /// Tells this process's budgets from those of others.
    ids: AtomicU64,
    /// Somebody runs the keepers.
    kept: AtomicBool,
    born: UnboundedSender<Arc<Slots>>,
    births: Mutex<Option<UnboundedReceiver<Arc<Slots>>>>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        let (born, births) = unbounded_channel();
        let mut random = [0; 8];
        // Without entropy two processes may take each other for one; they share less well then.
        let _ = getrandom::fill(&mut random);
        Budgets {
            servers: Mutex::default(),
            ids: AtomicU64::new(u64::from_ne_bytes(random)),
            kept: AtomicBool::new(false),
            born,
            births: Mutex::new(Some(births)),
        }
    }
}

impl Budgets {
    /// The new budgets, whose owner runs their keepers; once.
    pub fn births(&self) -> Option<UnboundedReceiver<Arc<Slots>>> {
        self.kept.store(true, Relaxed);
        self.births.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The budget of a server.
    pub(super) fn of(&self, target: &Target) -> Arc<Slots> {
        let mut servers = self.lock();
        if let Some(slots) = servers.get(target) {
            return Arc::clone(slots);
        }
        let slots = Arc::new(Slots::new(target.clone(), self.ids.fetch_add(1, Relaxed)));
        if self.kept.load(Relaxed) {
            // Until it is known how many there are.
            slots.limit_to(FIRST);
        }
        servers.insert(target.clone(), Arc::clone(&slots));
        // Without a receiver the process is ending.
        let _ = self.born.send(Arc::clone(&slots));
        slots
    }

    /// The budgets of all servers of a route, in its order.
    pub(super) fn of_route(&self, route: &Route) -> Vec<Arc<Slots>> {
        route.targets().iter().map(|target| self.of(target)).collect()
    }

    /// All of them, by the server's name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Slots>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_cached_key(|slots| slots.target.to_string());
        all
    }

    /// Makes all keepers look.
    pub fn look(&self) {
        for slots in self.lock().values() {
            slots.asked.notify_one();
        }
    }

    /// Forgets the budget of a server that nobody but its keeper cares for; says whether it did.
    fn retire(&self, slots: &Arc<Slots>) -> bool {
        let mut servers = self.lock();
        let alone = Arc::strong_count(slots) <= 2;
        if alone {
            servers.remove(&slots.target);
        }
        alone
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Arc<Slots>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolSettings {
    /// Whether backends may be opened at this server.
    pub(super) fn leads_to(&self, slots: &Slots) -> bool {
        self.slots.iter().any(|known| std::ptr::eq(&raw const **known, slots))
    }

    /// The budget of the server that a backend is at.
    pub(super) fn slots_of(&self, record: &BackendRecord) -> Option<&Arc<Slots>> {
        self.slots.iter().find(|slots| slots.target == record.target)
    }

    /// The budget of the server that comes next.
    pub(super) fn next_slots(&self, pool: &Pool) -> Option<&Arc<Slots>> {
        match self.slots.as_slice() {
            [only] => Some(only),
            several => several.get(self.spec.route.likely(pool.shared.clock.now())),
        }
    }
}

impl Pool {
    /// Whether its backends may be at this server.
    #[must_use]
    pub fn leads_to(&self, slots: &Slots) -> bool {
        self.settings.load().leads_to(slots)
    }

    /// A place for one more backend, which counts as one of the pool's already. Where there is none and a client waits
    /// for it (`starving`), an idle backend of somebody else's goes, and the connector is woken when there may be one.
    pub(super) fn slot(
        &self,
        pools: &Pools,
        settings: &PoolSettings,
        starving: Option<&mut Vec<Starving>>,
    ) -> Option<SlotPermit> {
        let slots = settings.next_slots(self)?;
        let short = match slots.acquire(self, settings) {
            Ok(permit) => return Some(permit),
            Err(short) => short,
        };
        starving?.push(slots.starve(short, settings, &self.asked));
        let here = |record: &BackendRecord| record.target == slots.target;
        slots.settle(pools, Some(self), self.shared.clock.now());
        // Nobody takes more than his due, and nobody has less taken away.
        let spares = |pool: &Pool| {
            let settings = pool.settings.load();
            settings.leads_to(slots) && slots.has_too_much(pool, &settings)
        };
        if !slots.is_due(self, settings) {
            return None;
        }
        match short {
            Short::Server => {
                slots.lacking();
                if !pools.evict_at(Closing::EvictedForSlots, Some(self), &spares, &here) {
                    pools.lookups.give_up(&self.key);
                }
            }
            Short::Role => {
                let same = |pool: &Pool| spares(pool) && pool.settings.load().spec.user == settings.spec.user;
                pools.evict_at(Closing::EvictedForSlots, Some(self), &same, &here);
            }
            Short::Database => {
                let same = |pool: &Pool| spares(pool) && pool.settings.load().spec.dbname == settings.spec.dbname;
                pools.evict_at(Closing::EvictedForSlots, Some(self), &same, &here);
            }
        }
        slots.acquire(self, settings).ok()
    }

    /// A place for a connection of the pooler's own (who listens, who looks up users), or nothing where there is none and
    /// no idle backend can be had for it.
    pub(super) fn own_slot(&self, pools: &Pools) -> Option<SlotPermit> {
        let settings = self.settings.load();
        pools.own_slot(settings.next_slots(self)?, &settings.spec.user, &settings.spec.dbname)
    }
}

impl Pools {
    /// See [`Pool::own_slot`].
    pub(super) fn own_slot(&self, slots: &Arc<Slots>, role: &str, database: &str) -> Option<SlotPermit> {
        slots.acquire_own(role, database).or_else(|| {
            let here = |record: &BackendRecord| record.target == slots.target;
            self.evict_at(Closing::EvictedForSlots, None, &|pool| pool.settings.load().leads_to(slots), &here);
            slots.acquire_own(role, database)
        })
    }
}
