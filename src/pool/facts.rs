//! What a client is told when it gets no backend or loses it: PgBouncer's texts with a SQLSTATE that means something,
//! and in DETAIL the facts about its pool: how full it is, and who holds it.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::pins::{pin_described, pins};
use super::{ClientRecord, Failure, Phase, Pool, Pools, Reason};
use crate::net::Clock;
use crate::wire::sqlstate;
use crate::wire::write::Report;

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
    let mut text = format!(
        "Pool {}/{}: size {size}, in use {in_use}, idle {}, opening {}, waiting {}.",
        pool.key.database, pool.key.user, counts.idle, counts.opening, counts.waiting
    );
    // Writing to a String cannot fail.
    let _ = match client.phase() {
        Phase::Waiting => {
            write!(text, " This client has waited {}.", seconds(Clock::between(client.since.load(Relaxed), now)))
        }
        _ => Ok(()),
    };
    if let Some(holder) = oldest_holder(pools, pool) {
        let held = Clock::between(holder.transaction_since.load(Relaxed), now);
        let doing = match holder.phase() {
            Phase::InTransaction => "idle in transaction",
            Phase::Running => "running a query",
            _ => "idle in its session",
        };
        let _ = write!(text, " The oldest lease is held by {} for {}, {doing}.", described(&holder), seconds(held));
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

fn oldest_holder(pools: &Pools, pool: &Pool) -> Option<std::sync::Arc<ClientRecord>> {
    let holds = |client: &ClientRecord| client.link() != 0 && theirs(client, pool);
    let holders = pools.clients.all().into_iter().filter(|client| holds(client));
    holders.min_by_key(|client| client.transaction_since.load(Relaxed))
}

/// Whether the client belongs to this pool.
pub(super) fn theirs(client: &ClientRecord, pool: &Pool) -> bool {
    client.pool().is_some_and(|theirs| std::ptr::eq(&raw const **theirs, pool))
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
        Reason::LoginTimeout => {
            (sqlstate::CANNOT_CONNECT_NOW, "client_login_timeout", "The login took longer than client_login_timeout.")
        }
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
