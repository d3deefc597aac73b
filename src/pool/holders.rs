//! Who holds backends: every lease, since when, and what its client does with it. Read from the public records; nothing
//! that a session does waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::facts::theirs;
use super::{ClientRecord, Phase, Pool, Pools};
use crate::backend::BackendRecord;
use crate::net::Micros;
use crate::sql::fingerprint;
use crate::wire::startup::Replication;

/// How much of a text counts, bytes.
const MOST_SHOWN: usize = 256;

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

/// What a backend last ran.
#[derive(Clone, Debug)]
pub struct LastQuery {
    /// The same for queries that differ in their constants, in hexadecimal; of a long text only its beginning counts.
    pub fingerprint: String,
    /// The beginning of its text, with `log_query_text`.
    pub text: Option<String>,
}

/// What a backend last ran, as far as that was noted.
#[must_use]
pub fn last_query(pools: &Pools, backend: &BackendRecord) -> Option<LastQuery> {
    let text = match backend.statement.load(Relaxed) {
        0 => backend.noted_text(),
        id => {
            let all = pools.shared.statements.shown();
            let known = all.iter().find(|statement| statement.id == id)?;
            let text = known.text();
            text.get(..text.len().min(MOST_SHOWN)).unwrap_or_default().to_vec()
        }
    };
    let shown = pools.config.load().general.log_query_text;
    (!text.is_empty()).then(|| LastQuery {
        fingerprint: format!("{:016x}", fingerprint(&text)),
        text: shown.then(|| String::from_utf8_lossy(&text).into_owned()),
    })
}

/// What a client holds, if anything.
pub(super) fn holder(client: &Arc<ClientRecord>) -> Option<Holder> {
    let id = Some(client.link()).filter(|id| *id != 0)?;
    let backend = client.pool()?.backend(id)?;
    let state = match client.phase() {
        _ if client.identity.replication != Replication::None => Holding::Replicating,
        Phase::Running => Holding::Running,
        Phase::InTransaction => Holding::IdleInTransaction,
        Phase::Idle | Phase::Login | Phase::Waiting if client.pin().is_some() => Holding::Pinned,
        Phase::Idle | Phase::Login | Phase::Waiting => Holding::Idle,
    };
    let since = backend.request.load(Relaxed);
    Some(Holder { client: Arc::clone(client), backend, since, state })
}

/// All leases, or those of one pool, the oldest first.
#[must_use]
pub fn holders(pools: &Pools, of: Option<&Pool>) -> Vec<Holder> {
    let all = pools.clients.all();
    let asked = all.iter().filter(|client| of.is_none_or(|of| theirs(client, of)));
    let mut holders: Vec<Holder> = asked.filter_map(holder).collect();
    holders.sort_by_key(|holder| holder.since);
    holders
}
