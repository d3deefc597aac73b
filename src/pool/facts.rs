//! What a client is told when it gets no backend or loses it: PgBouncer's texts with a SQLSTATE that means something,
//! and in DETAIL the facts about its pool: how full it is, and who holds it.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::holders::{Holder, Holding, holders};
use super::pins::{pin_described, pins};
use super::{ClientRecord, Failure, Phase, Pool, PoolKey, Pools, Reason};
use crate::net::Clock;
use crate::wire::sqlstate;
use crate::wire::write::Report;

/// How long a transaction may rest before it is named in a hint.
const LONG: std::time::Duration = std::time::Duration::from_millis(500);

/// One paragraph: the pool and its size, in use, idle, waiting; how long this client has waited; the oldest lease and
/// who holds it; how many backends are pinned, and the oldest pin; the last trouble with PostgreSQL.
#[must_use]
pub fn facts(pools: &Pools, pool: &Pool, client: &ClientRecord) -> String {
    let now = pools.shared.clock.now();
    let counts = pool.counts();
    let size = match pool.settings.load().size {
        0 => "unlimited".to_owned(),
        size => size.to_string(),
    };
    let in_use = counts.total.saturating_sub(counts.idle).saturating_sub(counts.opening);
    let mine = holders(pools, Some(pool));
    let resting = mine.iter().filter(|holder| holder.state == Holding::IdleInTransaction).count();
    let mut text = format!(
        "Pool {}/{}: size {size}, in use {in_use} ({resting} idle in transaction), idle {}, opening {}, waiting {}.",
        pool.key.database, pool.key.user, counts.idle, counts.opening, counts.waiting
    );
    // Writing to a String cannot fail.
    let _ = match client.phase() {
        Phase::Waiting => {
            write!(text, " This client has waited {}.", seconds(Clock::between(client.since.load(Relaxed), now)))
        }
        _ => Ok(()),
    };
    text.push_str(&slots(pools, pool));
    // Where this pool has nothing, somebody else has what it needs.
    let (oldest, whose) = match mine.into_iter().next() {
        None if counts.total <= counts.opening => (holders(pools, None).into_iter().next(), " of all pools"),
        mine => (mine, ""),
    };
    if let Some(holder) = oldest {
        let held = seconds(Clock::between(holder.since, now));
        let who = described(&holder.client);
        let _ = write!(text, " The oldest lease{whose} is held by {who} for {held}, {}.", holder.state.words());
    }
    let pinned = pool.pinned_count();
    if pinned > 0 {
        let _ = write!(text, " Pinned connections: {pinned}");
        let _ = match pins(pool).first() {
            Some((holder, pin)) => write!(text, ", the oldest to {}.", pin_described(holder, pin, now)),
            None => write!(text, "."),
        };
    }
    if let Some(failure) = pool.failure() {
        let ago = seconds(Clock::between(failure.last, now));
        let _ = write!(text, " Last server error, {ago} ago: {} ({}).", failure.message, failure.code);
    }
    text
}

/// " Server db:5432: 14 slots held of a budget of 14 (max_connections 20, 3 reserved, 2 used by others)." Nothing where
/// slots are not what is short.
fn slots(pools: &Pools, pool: &Pool) -> String {
    let mut text = String::new();
    for slots in pools.shared.budgets.all().into_iter().filter(|slots| pool.leads_to(slots)) {
        let shown = slots.shown();
        let Some(limit) = shown.limit.filter(|limit| shown.held >= *limit) else { continue };
        // Writing to a String cannot fail.
        let _ = write!(text, " Server {}: {} slots held of a budget of {limit}", shown.target, shown.held);
        if let Some((facts, max)) = shown.facts.as_ref().and_then(|facts| Some((facts, facts.max_connections?))) {
            let (kept, others) = (facts.kept(), facts.others);
            let _ = write!(text, " (max_connections {max}, {kept} reserved, {others} used by others)");
        }
        text.push('.');
    }
    text
}

/// What a client may do about it that has waited in vain.
#[must_use]
pub fn advice(pools: &Pools, pool: &Pool) -> String {
    let settings = pool.settings.load();
    let counts = pool.counts();
    let PoolKey { database, user } = &pool.key;
    if !slots(pools, pool).is_empty() && (settings.size == 0 || counts.total < settings.size) {
        return "PostgreSQL has no connection left for this pool: look at SHOW BUDGET for who has them and at SHOW HOLDERS \
                for how long. Shorten transactions, give slots back elsewhere, or raise max_connections of PostgreSQL."
            .to_owned();
    }
    let now = pools.shared.clock.now();
    let holders = holders(pools, Some(pool));
    let rests = |holder: &&Holder| holder.state == Holding::IdleInTransaction;
    if let Some(holder) = holders.first().filter(|holder| rests(holder) && Clock::between(holder.since, now) > LONG) {
        return format!(
            "Look at {}, which keeps a connection and does nothing. SHOW HOLDERS lists all; idle_transaction_timeout ends \
             such transactions.",
            described(&holder.client)
        );
    }
    format!(
        "Raise pool_size of {database}/{user}, shorten the transactions, or look at SHOW HOLDERS and SHOW POOLS for who \
         holds the connections."
    )
}

/// Whether the client belongs to this pool.
pub(super) fn theirs(client: &ClientRecord, pool: &Pool) -> bool {
    client.pool().is_some_and(|theirs| std::ptr::eq(&raw const *theirs, pool))
}

/// "client 7 (application x, 10.0.0.1:5000)"
pub(super) fn described(client: &ClientRecord) -> String {
    let name = client.application_name();
    let name = if name.is_empty() { "unnamed application".to_owned() } else { format!("application {name}") };
    format!("client {} ({name}, {})", client.id, client.identity.peer)
}

pub(super) fn seconds(time: std::time::Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What a client is told when no backend can be opened.
#[must_use]
pub fn failure_report(failure: &Failure) -> Report {
    if failure.refused && !failure.cached {
        // PostgreSQL's own words, as if the client had connected by itself.
        let mut report = Report::new("FATAL", failure.code.clone(), failure.message.clone());
        report.detail.clone_from(&failure.detail);
        report.hint.clone_from(&failure.hint);
        return report;
    }
    let message = format!("server login has been failing, cached error: {} (server_login_retry)", failure.message);
    Report::new("FATAL", failure.code.clone(), message).hint(match failure.hint.as_str() {
        "" => "The pooler cannot open connections to PostgreSQL; it tries again by itself.",
        hint => hint,
    })
}

/// What a client is told that was interrupted; nothing where its session goes on.
#[must_use]
pub fn reason_report(reason: Reason) -> Option<Report> {
    let (code, message, hint) = match reason {
        Reason::Canceled => (sqlstate::QUERY_CANCELED, "canceling statement due to user request", ""),
        Reason::Notify | Reason::ServerFailed => return None,
        Reason::QueryWaitTimeout => (
            sqlstate::TOO_MANY_CONNECTIONS,
            "query_wait_timeout",
            "Raise pool_size, shorten the transactions, or look at SHOW POOLS and SHOW SERVERS for who holds the \
             connections.",
        ),
        Reason::QueuedTooLong => (
            sqlstate::QUERY_CANCELED,
            "query_timeout",
            "The query waited for a connection for query_timeout of the pooler.",
        ),
        Reason::QueryTimeout => (sqlstate::QUERY_CANCELED, "query timeout", "query_timeout of the pooler has passed."),
        Reason::IdleTransactionTimeout => (
            sqlstate::IDLE_IN_TRANSACTION_TIMEOUT,
            "idle transaction timeout",
            "The client left a transaction open without sending anything for idle_transaction_timeout.",
        ),
        Reason::TransactionTimeout => {
            (sqlstate::TRANSACTION_TIMEOUT, "transaction timeout", "transaction_timeout of the pooler has passed.")
        }
        Reason::ClientIdleTimeout => {
            (sqlstate::IDLE_SESSION_TIMEOUT, "client_idle_timeout", "The client sent nothing for client_idle_timeout.")
        }
        Reason::LoginTimeout => (
            sqlstate::CANNOT_CONNECT_NOW,
            "client_login_timeout (server down)",
            "The login took longer than client_login_timeout: it waited for the first connection to PostgreSQL.",
        ),
        Reason::SuspendTimeout => (
            sqlstate::ADMIN_SHUTDOWN,
            "suspend_timeout",
            "The pooler was suspended, and the client did not take its answers for suspend_timeout.",
        ),
        Reason::DatabaseRemoved => (sqlstate::ADMIN_SHUTDOWN, "database removed", ""),
        Reason::Killed => (sqlstate::ADMIN_SHUTDOWN, "admin forced disconnect", ""),
        Reason::ServerShutdown => {
            (sqlstate::ADMIN_SHUTDOWN, "server shutting down", "Connect again; another pooler may serve.")
        }
        Reason::ListenerLost => (
            sqlstate::CONNECTION_FAILURE,
            "connection to the listening backend was lost",
            "Notifications may have been missed. Connect again, LISTEN again, and look at what they would have told; \
             listener_lost of the pooler is disconnect.",
        ),
        Reason::ServerReplaced => (
            sqlstate::ADMIN_SHUTDOWN,
            "database configuration changed",
            "Connect again; server_fast_close of the pooler is set.",
        ),
        Reason::Shutdown => {
            (sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down", "Connect again; another pooler may serve.")
        }
    };
    Some(Report::fatal(code, message).hint(hint))
}
