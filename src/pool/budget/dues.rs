//! What is each pool's due of a server's slots where they are short, and who gives one back.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

use super::member::{Member, bounded, narrow, sum};
use super::share::{Claim, shares};
use super::slots::{Book, Slots};
use crate::net::Micros;
use crate::pool::{Pool, PoolSettings, Pools};

/// How long shares count while nothing asks for others, microseconds.
const SETTLED: Micros = 50_000;

impl Slots {
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
    pub(super) fn wake(&self) {
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
}

/// Held while a backend is closed that somebody else's connection takes the place of.
pub(in crate::pool) struct Taking<'a> {
    _book: MutexGuard<'a, Book>,
}
