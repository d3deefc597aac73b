//! A 53300 of PostgreSQL is back-pressure: for a while no more is tried than what is held, and then a little more at a
//! time. What may be held at all is worked out anew with each step.

use std::sync::atomic::Ordering::Relaxed;

use super::facts::{Bound, Facts, Peer, Rule, limit};
use super::slots::{Book, Slots};
use crate::config::SlotBudget;
use crate::net::{Clock, Micros};
use crate::pool::PoolSettings;
use crate::wire::view::Diagnostic;

/// How long after PostgreSQL was full nothing more is tried than what is held, and between two steps up, microseconds.
const STEP: Micros = 500_000;
/// Above that a ceiling says nothing any more.
const MOST_CEILING: u32 = 10_000;
/// Where PostgreSQL finds that a role has all its connections; its messages are translated.
const OF_ROLE: &str = "InitializeSessionUserId";
/// The same of a database.
const OF_DATABASE: &str = "CheckMyDatabase";

/// What is tried at most for a while, since PostgreSQL had no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    pub(super) most: u32,
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

impl Slots {
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
    pub(in crate::pool) fn limit_to(&self, most: u32) {
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
    pub(super) fn role_room(&self, role: &str) -> Option<u32> {
        let bound = self.facts.as_ref().and_then(|facts| facts.roles.get(role));
        room(bound, self.role_ceilings.get(role))
    }

    pub(super) fn database_room(&self, database: &str) -> Option<u32> {
        let bound = self.facts.as_ref().and_then(|facts| facts.databases.get(database));
        room(bound, self.database_ceilings.get(database))
    }
}

fn room(bound: Option<&Bound>, ceiling: Option<&Ceiling>) -> Option<u32> {
    let bound = bound.map(|bound| bound.room());
    bound.into_iter().chain(ceiling.map(|ceiling| ceiling.most)).min()
}
