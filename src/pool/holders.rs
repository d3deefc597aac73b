//! Who holds backends: every lease, since when, and what its client does with it. Read from the public records; nothing
//! that a session does waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{ClientRecord, Phase, Pool, Pools};
use crate::backend::BackendRecord;
use crate::net::Micros;

/// What a client does with the backend that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// A query runs.
    Running,
    /// A transaction is open, and PostgreSQL waits for the client.
    IdleInTransaction,
    /// Nothing, but it left something on it.
    Pinned,
    /// Nothing, in session mode.
    Idle,
    /// It replicates.
    Replicating,
}

impl Holding {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Holding::Running => "running a query",
            Holding::IdleInTransaction => "idle in transaction",
            Holding::Pinned => "idle and pinned to it",
            Holding::Idle => "idle in its session",
            Holding::Replicating => "replicating",
        }
    }

    /// In a word, for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Holding::Running => "running",
            Holding::IdleInTransaction => "idle in transaction",
            Holding::Pinned => "pinned",
            Holding::Idle => "idle",
            Holding::Replicating => "replicating",
        }
    }
}

/// One lease.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The client.
    pub client: Arc<ClientRecord>,
    /// The backend.
    pub backend: Arc<BackendRecord>,
    /// Since when it is lent.
    pub since: Micros,
    /// What the client does.
    pub state: Holding,
}

/// All leases, or those of one pool, the oldest first.
#[must_use]
pub fn holders(pools: &Pools, of: Option<&Pool>) -> Vec<Holder> {
    let holder = |client: Arc<ClientRecord>| {
        let pool = client.pool()?;
        if of.is_some_and(|of| !std::ptr::eq(&raw const **pool, of)) {
            return None;
        }
        let backend = Some(client.link()).filter(|id| *id != 0).and_then(|id| pool.backend(id))?;
        let state = match client.phase() {
            _ if client.identity.replication != crate::wire::startup::Replication::None => Holding::Replicating,
            Phase::Running => Holding::Running,
            Phase::InTransaction => Holding::IdleInTransaction,
            Phase::Idle | Phase::Login | Phase::Waiting if client.pin().is_some() => Holding::Pinned,
            Phase::Idle | Phase::Login | Phase::Waiting => Holding::Idle,
        };
        let since = backend.request.load(Relaxed);
        Some(Holder { client, backend, since, state })
    };
    let mut all: Vec<Holder> = pools.clients.all().into_iter().filter_map(holder).collect();
    all.sort_by_key(|holder| holder.since);
    all
}
