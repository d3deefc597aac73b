//! The slot budget in the metrics and on the page: what the budget's own snapshots say, in their words.

use std::collections::HashMap;

use super::scene::MOST;
use crate::pool::{BudgetShown, Pools};

/// How the slots of one PostgreSQL server stand. `None`: the server does not tell, or there is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// `host:port`.
    pub(super) name: String,
    /// `max_connections`.
    pub(super) max: Option<u32>,
    /// Slots that are kept from our roles.
    pub(super) reserved: Option<u32>,
    /// Taken by others than this pooler.
    pub(super) others: Option<u32>,
    /// Taken by this pooler.
    pub(super) ours: u32,
    /// How many this pooler may take.
    pub(super) budget: Option<u32>,
    /// Whether less is tried for a while, since PostgreSQL had no more.
    pub(super) shrunk: bool,
    /// How often PostgreSQL has said that it has no slot left (SQLSTATE 53300).
    pub(super) refusals: u64,
}

/// The budget at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) servers: Vec<Server>,
    /// What each pool may have, by database and user; only where slots are short.
    pub(super) shares: HashMap<(String, String), u64>,
}

/// The present figures.
pub(super) fn budget(pools: &Pools) -> Budget {
    let mut budget = Budget::default();
    for slots in pools.shared.budgets.all().iter().take(MOST) {
        // Without a lock, and nothing before its keeper has looked.
        let Some(shown) = slots.published() else { continue };
        for (key, share) in &shown.shares {
            *budget.shares.entry((key.database.to_string(), key.user.to_string())).or_default() += u64::from(*share);
        }
        budget.servers.push(server(&shown));
    }
    budget
}

fn server(shown: &BudgetShown) -> Server {
    let facts = shown.facts.as_ref();
    Server {
        name: shown.target.to_string(),
        max: facts.and_then(|facts| facts.max_connections),
        reserved: facts.filter(|facts| facts.max_connections.is_some()).map(|facts| facts.kept()),
        others: facts.map(|facts| facts.others),
        ours: shown.held,
        budget: shown.limit,
        shrunk: shown.ceiling.is_some(),
        refusals: shown.refusals,
    }
}
