//! How PostgreSQL's connection slots stand, for the metrics and the page: from what the keepers have published.

use std::collections::HashMap;

use crate::pool::{PoolKey, Pools};

/// How the slots of one PostgreSQL server stand. `None`: it does not tell, or there is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// `host:port`.
    pub(super) name: String,
    /// `max_connections`.
    pub(super) max: Option<u64>,
    /// Slots that PostgreSQL reserves for superusers and the like.
    pub(super) reserved: Option<u64>,
    /// Taken by others than this pooler.
    pub(super) others: Option<u64>,
    /// Taken by this pooler.
    pub(super) ours: u64,
    /// How many this pooler may take.
    pub(super) budget: Option<u64>,
    /// Whether less is tried, since PostgreSQL has refused.
    pub(super) shrunk: bool,
    /// How often PostgreSQL has said that it has no slot left (SQLSTATE 53300).
    pub(super) refusals: u64,
}

/// The budget at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) servers: Vec<Server>,
    /// How many connections each pool may have, where that was worked out.
    pub(super) shares: HashMap<PoolKey, u64>,
}

/// The present figures.
pub(super) fn budget(pools: &Pools) -> Budget {
    let mut budget = Budget::default();
    for slots in pools.shared.budgets.all() {
        let Some(shown) = slots.published() else { continue };
        let facts = shown.facts.as_ref();
        budget.servers.push(Server {
            name: shown.target.to_string(),
            max: facts.and_then(|facts| facts.max_connections).map(u64::from),
            reserved: facts.map(|facts| facts.kept().into()),
            others: facts.map(|facts| facts.others.into()),
            ours: shown.held.into(),
            budget: shown.limit.map(u64::from),
            shrunk: shown.ceiling.is_some(),
            refusals: shown.refusals,
        });
        for (key, share) in shown.shares {
            *budget.shares.entry(key).or_default() += u64::from(share);
        }
    }
    budget
}
