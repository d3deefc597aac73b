//! Where the figures of the slot budget join the metrics and the page.
//!
//! Nothing keeps a budget yet: [`budget`] is the one place to fill in, from snapshots of the pools. Rows of the table of
//! metrics, the page, the alerts and the dashboard read what it answers.

use crate::pool::Pools;

/// How the slots of one PostgreSQL server stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// `host:port`.
    pub(super) name: String,
    /// `max_connections`.
    pub(super) max: u64,
    /// Slots that PostgreSQL reserves for superusers and the like.
    pub(super) reserved: u64,
    /// Taken by others than this pooler.
    pub(super) others: u64,
    /// Taken by this pooler.
    pub(super) ours: u64,
    /// How many this pooler may take.
    pub(super) budget: u64,
    /// Whether that is less than it is configured to be.
    pub(super) shrunk: bool,
    /// How often PostgreSQL has said that it has no slot left (SQLSTATE 53300).
    pub(super) refusals: u64,
}

/// What one pool has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) database: String,
    pub(super) user: String,
    /// How many backends it may have at present.
    pub(super) share: u64,
    /// Leases that were taken for lost.
    pub(super) leaks: u64,
}

/// The budget at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) servers: Vec<Server>,
    pub(super) shares: Vec<Share>,
}

/// The present figures.
pub(super) fn budget(_pools: &Pools) -> Budget {
    Budget::default()
}
