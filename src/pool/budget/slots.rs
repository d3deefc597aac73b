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

use super::facts::{Bound, Facts, Peer, Rule, limit};
use super::member::{Member, bounded, narrow, sum};
use super::share::{Claim, shares};
use crate::backend::BackendRecord;
use crate::config::SlotBudget;
use crate::net::{Clock, Micros, Target};
use crate::pool::cap::{Cap, Caps, Permit, Starving};
use crate::pool::{Pool, PoolKey, PoolSettings, Pools};
use crate::wire::view::Diagnostic;

/// How long shares count while nothing asks for others, microseconds.
const SETTLED: Micros = 50_000;
/// How long after PostgreSQL was full nothing more is tried than what is held, and between two steps up, microseconds.
const STEP: Micros = 500_000;
/// Above that a ceiling says nothing any more.
const MOST_CEILING: u32 = 10_000;
/// Where PostgreSQL finds that a role has all its connections; its messages are translated.
const OF_ROLE: &str = "InitializeSessionUserId";
/// The same of a database.
const OF_DATABASE: &str = "CheckMyDatabase";

/// One server's slots.
#[derive(Debug)]
pub struct Slots {
    /// The server.
    pub target: Target,
    /// By which other pgpools tell this budget from theirs.
    pub(super) id: u64,
    /// Wakes the keeper.
    pub(super) asked: Notify,
    held: Arc<Cap>,
    /// Those of them whose connections are not there yet.
    opening: AtomicU32,
    roles: Caps,
    databases: Caps,
    limit: AtomicU32,
    /// Somebody lacks his share, or more is held than may be.
    pressed: AtomicBool,
    /// The keeper knows that slots are short.
    tight: AtomicBool,
    refusals: AtomicU64,
    book: Mutex<Book>,
    /// What the keeper has last shown.
    published: ArcSwapOption<BudgetShown>,
}

#[derive(Debug, Default)]
struct Book {
    rule: Rule,
    facts: Option<Facts>,
    /// Why there are no facts.
    trouble: Option<String>,
    ceiling: Option<Ceiling>,
    /// The same for roles and databases that PostgreSQL has said are full.
    role_ceilings: BTreeMap<String, Ceiling>,
    database_ceilings: BTreeMap<String, Ceiling>,
    shares: HashMap<PoolKey, u32>,
    settled: Micros,
    refusal: Option<Refusal>,
}

/// What is tried at most for a while, since PostgreSQL had no more.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    most: u32,
    moved: Micros,
}

/// A 53300 of PostgreSQL.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When.
    pub at: Micros,
    /// What it said.
    pub message: String,
    /// The server was full, and not only the role or the database.
    pub server: bool,
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

/// One server's budget, for the console and whoever else shows it.
#[derive(Clone, Debug)]
pub struct BudgetShown {
    /// The server.
    pub target: Target,
    /// The settings in force.
    pub rule: Rule,
    /// What is known of the server.
    pub facts: Option<Facts>,
    /// Why nothing is.
    pub trouble: Option<String>,
    /// What we hold.
    pub held: u32,
    /// What we may hold; `None`: no limit.
    pub limit: Option<u32>,
    /// What is tried at most since PostgreSQL was full.
    pub ceiling: Option<u32>,
    /// How often PostgreSQL was full.
    pub refusals: u64,
    /// The last time.
    pub refusal: Option<Refusal>,
    /// Each pool's due, where slots are short.
    pub shares: HashMap<PoolKey, u32>,
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

    /// What is known and done at present.
    #[must_use]
    pub fn shown(&self) -> BudgetShown {
        let book = self.book();
        BudgetShown {
            target: self.target.clone(),
            rule: book.rule,
            facts: book.facts.clone(),
            trouble: book.trouble.clone(),
            held: self.held(),
            limit: Some(self.limit.load(Relaxed)).filter(|limit| *limit != u32::MAX),
            ceiling: book.ceiling.map(|ceiling| ceiling.most),
            refusals: self.refusals.load(Relaxed),
            refusal: book.refusal.clone(),
            shares: book.shares.clone(),
        }
    }

    /// Shows how it stands to whoever must not hold up anybody.
    pub(super) fn publish(&self) {
        self.published.store(Some(Arc::new(self.shown())));
    }

    /// What was shown last, with counts of this moment; takes no lock. Nothing before the keeper has looked.
    #[must_use]
    pub fn published(&self) -> Option<BudgetShown> {
        let shown = self.published.load_full()?;
        let limit = Some(self.limit.load(Relaxed)).filter(|limit| *limit != u32::MAX);
        Some(BudgetShown {
            held: self.held(),
            limit,
            refusals: self.refusals.load(Relaxed),
            ..BudgetShown::clone(&shown)
        })
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
    fn held_by(&self, pool: &Pool, settings: &PoolSettings) -> u32 {
        let total = pool.size.used();
        if settings.slots.len() < 2 {
            return total;
        }
        let elsewhere = pool.backends().iter().filter(|record| record.target != self.target).count();
        total.saturating_sub(u32::try_from(elsewhere).unwrap_or(u32::MAX))
    }

    /// PostgreSQL was full: no more than what is held is tried, for a while.
    pub(in crate::pool) fn refused(&self, said: &Diagnostic, settings: &PoolSettings, now: Micros) {
        self.refusals.fetch_add(1, Relaxed);
        let mut book = self.book();
        let quiet = book.refusal.as_ref().is_none_or(|last| Clock::between(last.at, now).as_secs() >= 10);
        let server = !matches!(said.routine.as_str(), OF_ROLE | OF_DATABASE);
        book.refusal = Some(Refusal { at: now, message: said.message.clone(), server });
        // Of those that are being opened none may come.
        let opening = self.opening.load(Relaxed);
        let ceiling = |held: u32| Ceiling { most: held.saturating_sub(opening).max(1), moved: now };
        let (user, dbname) = (&settings.spec.user, &settings.spec.dbname);
        match said.routine.as_str() {
            OF_ROLE => {
                book.role_ceilings.insert(user.clone(), ceiling(self.roles.used(user)));
            }
            OF_DATABASE => {
                book.database_ceilings.insert(dbname.clone(), ceiling(self.databases.used(dbname)));
            }
            _ => {
                let ceiling = ceiling(self.held());
                if book.rule.budget != SlotBudget::Off {
                    book.ceiling = Some(ceiling);
                    self.limit.fetch_min(ceiling.most, Relaxed);
                }
            }
        }
        if quiet {
            let facts = book.facts.as_ref();
            tracing::warn!(server = %self.target, said = said.message, held = self.held(),
                           max_connections = facts.and_then(|facts| facts.max_connections),
                           others = facts.map(|facts| facts.others),
                           "PostgreSQL is out of connection slots; clients wait, and no more is asked for until there are some");
        }
        drop(book);
        self.asked.notify_one();
    }

    /// What PostgreSQL said of itself, or why it said nothing.
    pub(super) fn learn(&self, learnt: Result<Facts, String>) {
        let mut book = self.book();
        match learnt {
            Ok(facts) => {
                book.facts = Some(facts);
                book.trouble = None;
            }
            // What was known goes on counting; the rest is learnt from refusals.
            Err(trouble) => book.trouble = Some(trouble),
        }
    }

    /// Whether the server has been asked, whatever it answered.
    pub(super) fn was_asked(&self) -> bool {
        let book = self.book();
        book.facts.is_some() || book.trouble.is_some()
    }

    /// Sets a limit for the time in which nothing is known.
    pub(super) fn limit_to(&self, most: u32) {
        self.limit.store(most, Relaxed);
    }

    /// Works out what we may hold, from what is known; answers how much too much is held.
    pub(super) fn reckon(&self, rule: Rule, own: Peer, now: Micros) -> u32 {
        let mut book = self.book();
        book.rule = rule;
        let mut most = limit(&rule, book.facts.as_ref(), own);
        book.ceiling = book
            .ceiling
            .map(|ceiling| ceiling.grown(now))
            .filter(|ceiling| rule.budget != SlotBudget::Off && ceiling.most < most.min(MOST_CEILING));
        if let Some(ceiling) = &book.ceiling {
            most = most.min(ceiling.most);
        }
        let Book { role_ceilings, database_ceilings, .. } = &mut *book;
        let has_grown = !role_ceilings.is_empty() || !database_ceilings.is_empty();
        for ceilings in [role_ceilings, database_ceilings] {
            ceilings.values_mut().for_each(|ceiling| *ceiling = ceiling.grown(now));
            ceilings.retain(|_, ceiling| ceiling.most < MOST_CEILING);
        }
        let before = self.limit.swap(most, Relaxed);
        drop(book);
        if most > before || has_grown {
            self.wake();
        }
        self.held().saturating_sub(most)
    }

    /// Works out the shares of the pools, unless that was just done; says whether anybody lacks his.
    pub(super) fn settle(&self, pools: &Pools, asking: Option<&Pool>, now: Micros) -> bool {
        {
            let mut book = self.book();
            let known = asking.is_none_or(|pool| book.shares.contains_key(&pool.key));
            if known && now.saturating_sub(book.settled) < SETTLED {
                return self.pressed.load(Relaxed);
            }
            book.settled = now;
        }
        let mut all = Vec::new();
        for pool in pools.all() {
            let settings = pool.settings.load();
            if settings.leads_to(self) {
                let claim = self.claim(&pool, &settings, now);
                all.push(Member { index: all.len(), ..Member::new(&pool, &settings, claim) });
            }
        }
        let mut book = self.book();
        let roles = bounded(&all, |member| &member.role, |role| Some((book.role_room(role)?, self.roles.used(role))));
        narrow(&mut all, &roles);
        let databases = bounded(
            &all,
            |member| &member.database,
            |name| Some((book.database_room(name)?, self.databases.used(name))),
        );
        narrow(&mut all, &databases);
        let claims: Vec<Claim> = all.iter().map(|member| member.claim).collect();
        let extra = self.held().saturating_sub(sum(claims.iter().map(|claim| claim.held)));
        let most = self.limit.load(Relaxed);
        let shares = shares(most.saturating_sub(extra), &claims);
        let is_full = self.held() >= most;
        let mut lacking = false;
        for (member, share) in all.iter().zip(&shares) {
            let lacks = member.claim.oldest.is_some() && *share > member.claim.held;
            let bounds = roles.iter().chain(&databases);
            let bounded = || bounds.clone().any(|bound| bound.is_full && bound.members.contains(&member.index));
            lacking |= lacks && (is_full || bounded());
        }
        let pressed = lacking || self.held() > most;
        book.shares = all.into_iter().map(|member| member.key).zip(shares).collect();
        self.pressed.store(pressed, Relaxed);
        drop(book);
        if pressed {
            self.wake();
        }
        pressed
    }

    /// Wakes all who lack a place.
    fn wake(&self) {
        self.held.wake();
        self.roles.wake_starved();
        self.databases.wake_starved();
    }

    /// What a pool could use of this server now.
    fn claim(&self, pool: &Pool, settings: &PoolSettings, now: Micros) -> Claim {
        let counts = pool.counts();
        let held = self.held_by(pool, settings);
        let busy = counts.total.saturating_sub(counts.idle);
        // A free seat belongs to somebody who is just being woken.
        let waiting = counts.waiting.saturating_sub(counts.idle);
        let size = if settings.size == 0 { u32::MAX } else { settings.size.saturating_add(settings.reserve) };
        let blocked = pool.paused() || pool.failure().is_some_and(|failure| !failure.full && now < failure.retry_at);
        if blocked {
            return Claim { min: 0, demand: busy.min(held), held, oldest: None };
        }
        let min = if settings.spec.secret.awaits_login() { 0 } else { settings.min.min(size) };
        let demand = busy.saturating_sub(counts.opening).saturating_add(waiting).max(busy).min(size);
        Claim { min, demand, held, oldest: counts.oldest.filter(|_| waiting > 0) }
    }

    /// What all pools could use together, and what the pooler has there for itself.
    pub(super) fn wants(&self, pools: &Pools, now: Micros) -> u32 {
        let (mut wanted, mut held) = (0u32, 0u32);
        for pool in pools.all() {
            let settings = pool.settings.load();
            if settings.leads_to(self) {
                let claim = self.claim(&pool, &settings, now);
                wanted = wanted.saturating_add(claim.demand.max(claim.min));
                held = held.saturating_add(claim.held);
            }
        }
        wanted.saturating_add(self.held().saturating_sub(held))
    }

    /// Somebody found no place: the keeper has to look, unless it does already.
    pub(super) fn lacking(&self) {
        if !self.tight.swap(true, Relaxed) {
            self.asked.notify_one();
        }
    }

    /// The keeper has found slots short, or not.
    pub(super) fn set_tight(&self, tight: bool) {
        self.tight.store(tight, Relaxed);
    }

    /// A backend was opened, after a failure or not: whether the keeper has to look.
    pub(in crate::pool) fn opened(&self, after_failure: bool) {
        if after_failure || !self.was_asked() {
            self.asked.notify_one();
        }
    }

    /// Whether a pool has more than its due, as far as that was worked out.
    pub(super) fn has_too_much(&self, pool: &Pool, settings: &PoolSettings) -> bool {
        let share = self.book().shares.get(&pool.key).copied().unwrap_or(0);
        self.held_by(pool, settings) > share
    }

    /// Whether less is tried than may be, which has to grow.
    pub(super) fn is_held_down(&self) -> bool {
        let book = self.book();
        book.ceiling.is_some() || !book.role_ceilings.is_empty() || !book.database_ceilings.is_empty()
    }

    /// Whether a role or a database has a limit of its own.
    pub(super) fn is_bounded(&self, settings: &PoolSettings) -> bool {
        let book = self.book();
        book.role_room(&settings.spec.user).is_some() || book.database_room(&settings.spec.dbname).is_some()
    }

    /// Whether a pool's due is as much as it has now.
    pub(super) fn is_due(&self, pool: &Pool, settings: &PoolSettings) -> bool {
        let share = self.book().shares.get(&pool.key).copied().unwrap_or(0);
        self.held_by(pool, settings) <= share
    }

    /// Whether a backend that comes back to `pool` has to go, for somebody who lacks his share or because too much is
    /// held; where it has, `close` closes it, and no second one is asked for meanwhile.
    pub(in crate::pool) fn takes_back(&self, pool: &Pool, settings: &PoolSettings) -> Option<Taking<'_>> {
        let book = self.book();
        let share = book.shares.get(&pool.key).copied().unwrap_or(0);
        let over = self.held_by(pool, settings) > share;
        let (role, database) = (self.roles.of(&settings.spec.user), self.databases.of(&settings.spec.dbname));
        let starved = self.held.starved() || role.starved() || database.starved();
        let wanted = starved || self.held() > self.limit.load(Relaxed);
        (over && wanted && self.pressed.load(Relaxed)).then_some(Taking { _book: book })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while a backend is closed that somebody else's connection takes the place of.
pub(in crate::pool) struct Taking<'a> {
    _book: MutexGuard<'a, Book>,
}

impl Ceiling {
    /// A step up, where it is time for one.
    fn grown(self, now: Micros) -> Ceiling {
        if now.saturating_sub(self.moved) < STEP {
            return self;
        }
        Ceiling { most: self.most.saturating_add((self.most / 8).max(1)), moved: now }
    }
}

impl Book {
    fn role_room(&self, role: &str) -> Option<u32> {
        let bound = self.facts.as_ref().and_then(|facts| facts.roles.get(role));
        room(bound, self.role_ceilings.get(role))
    }

    fn database_room(&self, database: &str) -> Option<u32> {
        let bound = self.facts.as_ref().and_then(|facts| facts.databases.get(database));
        room(bound, self.database_ceilings.get(database))
    }
}

fn room(bound: Option<&Bound>, ceiling: Option<&Ceiling>) -> Option<u32> {
    let bound = bound.map(|bound| bound.room());
    bound.into_iter().chain(ceiling.map(|ceiling| ceiling.most)).min()
}
