//! The slots of one PostgreSQL server: how many we may hold, who holds them, and who gives one back for whom.
//!
//! A place is a [`SlotPermit`], taken before a connection is opened and given back when it is closed. While nobody lacks
//! one that is all there is to it: two counters and a flag. Where a pool lacks what is its due, the flag is up, the shares
//! of all pools are worked out, a pool takes only up to its share, and who has more gives back what comes back to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::ceiling::{Ceiling, Refusal};
use super::facts::{Facts, Rule};
use super::shown::BudgetShown;
use crate::backend::BackendRecord;
use crate::net::{Micros, Target};
use crate::pool::cap::{Cap, Caps, Permit, Starving};
use crate::pool::{Pool, PoolKey, PoolSettings};

/// One server's slots.
#[derive(Debug)]
pub struct Slots {
    /// The server.
    pub target: Target,
    /// By which other pgpools tell this budget from theirs.
    pub(super) id: u64,
    /// Wakes the keeper.
    pub(super) asked: Notify,
    pub(super) held: Arc<Cap>,
    /// Those of them whose connections are not there yet.
    pub(super) opening: AtomicU32,
    pub(super) roles: Caps,
    pub(super) databases: Caps,
    pub(super) limit: AtomicU32,
    /// Somebody lacks his share, or more is held than may be.
    pub(super) pressed: AtomicBool,
    /// The keeper knows that slots are short.
    pub(super) tight: AtomicBool,
    pub(super) refusals: AtomicU64,
    book: Mutex<Book>,
    /// What the keeper has last shown.
    pub(super) published: ArcSwapOption<BudgetShown>,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) rule: Rule,
    pub(super) facts: Option<Facts>,
    /// Why there are no facts.
    pub(super) trouble: Option<String>,
    pub(super) ceiling: Option<Ceiling>,
    /// The same for roles and databases that PostgreSQL has said are full.
    pub(super) role_ceilings: BTreeMap<String, Ceiling>,
    pub(super) database_ceilings: BTreeMap<String, Ceiling>,
    pub(super) shares: HashMap<PoolKey, u32>,
    pub(super) settled: Micros,
    pub(super) refusal: Option<Refusal>,
}

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// The server, or the pool's share of it.
    Server,
    /// The role's limit.
    Role,
    /// The database's limit.
    Database,
}

/// The right to one connection to a server.
#[derive(Debug)]
pub struct SlotPermit {
    _server: Permit,
    _role: Permit,
    _database: Permit,
    _opening: Option<Opening>,
    slots: Arc<Slots>,
}

/// Counts a connection until it is there.
#[derive(Debug)]
struct Opening(Arc<Slots>);

impl Opening {
    fn new(slots: &Arc<Slots>) -> Option<Opening> {
        slots.opening.fetch_add(1, Relaxed);
        Some(Opening(Arc::clone(slots)))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Relaxed);
    }
}

impl SlotPermit {
    /// The server.
    #[must_use]
    pub(in crate::pool) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// The permit of a connection that is there now, for where it really leads to: another one, if its pool has several
    /// hosts.
    pub(in crate::pool) fn opened(
        mut self,
        pool: &Pool,
        settings: &PoolSettings,
        record: &BackendRecord,
    ) -> Option<SlotPermit> {
        match settings.slots_of(record) {
            Some(slots) if !Arc::ptr_eq(slots, &self.slots) => {
                let permit = slots.acquire(pool, settings).ok()?;
                Some(SlotPermit { _opening: None, ..permit })
            }
            _ => {
                self._opening = None;
                Some(self)
            }
        }
    }

    /// Whether anybody lacks a slot there.
    #[inline]
    pub(in crate::pool) fn is_pressed(&self) -> bool {
        self.slots.pressed.load(Relaxed)
    }
}

impl Slots {
    pub(super) fn new(target: Target, id: u64) -> Slots {
        Slots {
            target,
            id,
            asked: Notify::new(),
            held: Arc::default(),
            opening: AtomicU32::new(0),
            roles: Caps::default(),
            databases: Caps::default(),
            limit: AtomicU32::new(u32::MAX),
            pressed: AtomicBool::new(false),
            tight: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
            book: Mutex::default(),
            published: ArcSwapOption::empty(),
        }
    }

    /// How many connections to it we have, those included that are being opened.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held.used()
    }

    /// A place for a connection of this role to this database, whatever is short.
    pub(super) fn force(self: &Arc<Self>, role: &str, database: &str) -> SlotPermit {
        SlotPermit {
            _server: Permit::beyond(&self.held),
            _role: Permit::beyond(&self.roles.of(role)),
            _database: Permit::beyond(&self.databases.of(database)),
            _opening: None,
            slots: Arc::clone(self),
        }
    }

    /// A place for a backend of `pool`, which counts as one of the pool's already.
    pub(super) fn acquire(self: &Arc<Self>, pool: &Pool, settings: &PoolSettings) -> Result<SlotPermit, Short> {
        let (role, database) = (&settings.spec.user, &settings.spec.dbname);
        let (role_room, database_room) = {
            let book = self.book();
            if self.pressed.load(Relaxed) {
                let share = book.shares.get(&pool.key).copied().unwrap_or(0);
                if self.held_by(pool, settings) > share {
                    return Err(Short::Server);
                }
            }
            (book.role_room(role), book.database_room(database))
        };
        let role = Self::within(&self.roles.of(role), role_room).ok_or(Short::Role)?;
        let database = Self::within(&self.databases.of(database), database_room).ok_or(Short::Database)?;
        let server = self.held.acquire(self.limit.load(Relaxed)).ok_or(Short::Server)?;
        let opening = Opening::new(self);
        Ok(SlotPermit { _server: server, _role: role, _database: database, _opening: opening, slots: Arc::clone(self) })
    }

    /// A place for a connection of the pooler's own.
    pub(super) fn acquire_own(self: &Arc<Self>, role: &str, database: &str) -> Option<SlotPermit> {
        let (role_room, database_room) = {
            let book = self.book();
            (book.role_room(role), book.database_room(database))
        };
        let role = Self::within(&self.roles.of(role), role_room)?;
        let database = Self::within(&self.databases.of(database), database_room)?;
        // Before the server was asked there is no limit but for pools, and it is beside those: without a connection of a
        // pool it could not be asked.
        let server = if self.was_asked() {
            self.held.acquire(self.limit.load(Relaxed))?
        } else {
            let more = |limit: u32| (limit != u32::MAX).then(|| limit.saturating_add(1));
            let _ = self.limit.fetch_update(Relaxed, Relaxed, more);
            Permit::beyond(&self.held)
        };
        Some(SlotPermit { _server: server, _role: role, _database: database, _opening: None, slots: Arc::clone(self) })
    }

    fn within(cap: &Arc<Cap>, room: Option<u32>) -> Option<Permit> {
        match room {
            None => Some(Permit::beyond(cap)),
            // One is always tried, or nobody would find out that there is room again.
            Some(room) => cap.acquire(room.max(1)),
        }
    }

    /// Has `waker` told when a place of what is short may be free.
    pub(super) fn starve(&self, short: Short, settings: &PoolSettings, waker: &Arc<Notify>) -> Starving {
        match short {
            Short::Server => self.held.starve(waker),
            Short::Role => self.roles.of(&settings.spec.user).starve(waker),
            Short::Database => self.databases.of(&settings.spec.dbname).starve(waker),
        }
    }

    /// Whether somebody waits for a place here who could use that of an idle backend.
    pub(in crate::pool) fn offer(&self) {
        if self.held.starved() {
            self.held.wake();
        }
    }

    /// How many of a pool's backends are here.
    pub(super) fn held_by(&self, pool: &Pool, settings: &PoolSettings) -> u32 {
        let total = pool.size.used();
        if settings.slots.len() < 2 {
            return total;
        }
        let elsewhere = pool.backends().iter().filter(|record| record.target != self.target).count();
        total.saturating_sub(u32::try_from(elsewhere).unwrap_or(u32::MAX))
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
