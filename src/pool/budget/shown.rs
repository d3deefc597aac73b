//! How a budget stands, for those who look: the console, the metrics, the reports to clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::ceiling::Refusal;
use super::facts::{Facts, Rule};
use super::slots::Slots;
use crate::net::Target;
use crate::pool::PoolKey;

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

impl Slots {
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
}
