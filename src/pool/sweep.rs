//! The sweeper: every timeout of clients and backends, looked at a few times a second instead of by a timer per query.
//!
//! The verdict on a client is a pure function of what its record says; [`sweep`] applies it and tends the shelves.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::holders::{Holder, Holding, holder, last_query};
use super::{ClientRecord, Phase, Pool, PoolSettings, Pools, Reason, facts};
use crate::backend::Closing;
use crate::config::PoolMode;
use crate::net::{Clock, Micros};
use crate::wire::startup::Replication;

/// The limits of one client; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitRules {
    /// `client_login_timeout`
    pub login: Duration,
    /// `client_idle_timeout`
    pub idle: Duration,
    /// `query_wait_timeout`
    pub wait: Duration,
    /// `query_wait_notify`
    pub notify: Duration,
    /// `query_timeout`
    pub query: Duration,
    /// `idle_transaction_timeout`
    pub idle_transaction: Duration,
    /// `transaction_timeout`
    pub transaction: Duration,
    /// `server_fast_close`, where the client's backend has to be closed
    pub replace: bool,
}

/// What the sweeper sees of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    phase: Phase,
    /// Time in this phase; for a wait, the time in PAUSE is left out.
    phase_for: Duration,
    /// Time since the transaction began.
    transaction_for: Duration,
    /// Time since the login began.
    connected_for: Duration,
    /// Whether the login is over.
    admitted: bool,
}

fn verdict(seen: &Seen, rules: &WaitRules) -> Option<Reason> {
    let over = |time: Duration, limit: Duration| !limit.is_zero() && time > limit;
    if !seen.admitted && over(seen.connected_for, rules.login) {
        return Some(Reason::LoginTimeout);
    }
    match seen.phase {
        Phase::Login => None,
        Phase::Idle if rules.replace => Some(Reason::ServerReplaced),
        Phase::Idle => over(seen.phase_for, rules.idle).then_some(Reason::ClientIdleTimeout),
        Phase::Waiting if over(seen.phase_for, rules.wait) => Some(Reason::QueryWaitTimeout),
        Phase::Waiting if over(seen.phase_for, rules.query) => Some(Reason::QueuedTooLong),
        Phase::Waiting => over(seen.phase_for, rules.notify).then_some(Reason::Notify),
        Phase::Running if over(seen.phase_for, rules.query) => Some(Reason::QueryTimeout),
        Phase::InTransaction if over(seen.phase_for, rules.idle_transaction) => Some(Reason::IdleTransactionTimeout),
        Phase::Running | Phase::InTransaction => {
            over(seen.transaction_for, rules.transaction).then_some(Reason::TransactionTimeout)
        }
    }
}

/// Looks at every client and every shelf once. `last` is when it did so before.
pub fn sweep(pools: &Pools, last: Micros) {
    let now = pools.shared.clock.now();
    let leak = pools.config.load().general.leak_threshold;
    for client in pools.clients.all() {
        if let Some(pool) = client.pool() {
            pool.touched.store(now, Relaxed);
        }
        sweep_client(pools, &client, last, now);
        if !leak.is_zero() && client.link() != 0 && !pools.is_suspended() {
            tell_leak(pools, &client, leak, now);
        }
    }
    if pools.is_suspended() {
        return;
    }
    for pool in pools.all() {
        sweep_pool(&pool, now);
        pools.forget_if_unused(&pool, now);
    }
    pools.listeners.look();
}

fn sweep_client(pools: &Pools, client: &ClientRecord, last: Micros, now: Micros) {
    if client.identity.replication != Replication::None && client.admitted() {
        // It neither queries nor rests.
        return;
    }
    let phase = client.phase();
    let since = client.since.load(Relaxed);
    let config = pools.config.load();
    let mut rules = WaitRules { login: config.general.client_login_timeout, ..WaitRules::default() };
    let mut grace = 0;
    if let Some(pool) = client.pool() {
        let settings = pool.settings.load();
        let login_user = config.user(&client.identity.user).map(AsRef::as_ref);
        rules.idle = config.client_idle_timeout(login_user);
        rules.wait = config.query_wait_timeout(&settings.database, login_user);
        rules.query = settings.query_timeout;
        rules.idle_transaction = settings.idle_transaction_timeout;
        rules.transaction = settings.transaction_timeout;
        if phase == Phase::Idle && config.general.server_fast_close && settings.mode == PoolMode::Session {
            rules.replace = pool.listed().get(&client.link()).is_some_and(|record| record.close_needed());
        }
        if phase == Phase::Waiting {
            if pool.paused() || pools.is_suspended() {
                client.grace.fetch_add(now.saturating_sub(last.max(since)), Relaxed);
            }
            grace = client.grace.load(Relaxed);
            // Once per wait: at the first look after the time has passed.
            let waited_before = Clock::between(since, last);
            if waited_before <= settings.query_wait_notify {
                rules.notify = settings.query_wait_notify;
            }
        }
    }
    if pools.is_suspended() {
        // Who stands still runs out of no time.
        return;
    }
    let seen = Seen {
        phase,
        phase_for: Clock::between(since.saturating_add(grace), now),
        transaction_for: Clock::between(client.transaction_since.load(Relaxed), now),
        connected_for: Clock::between(client.identity.connected, now),
        admitted: client.admitted(),
    };
    // The phase and its start are two loads; if the session moved on in between, the next look will tell.
    if let Some(reason) = verdict(&seen, &rules)
        && client.phase() == phase
        && client.since.load(Relaxed) == since
    {
        client.interrupt.raise(reason);
    }
}

/// Tells of a client that holds a backend for too long, once per lease. In session mode one that does nothing may, while
/// nobody waits for it.
fn tell_leak(pools: &Pools, client: &Arc<ClientRecord>, limit: Duration, now: Micros) {
    let Some(Holder { backend, since, state, .. }) = holder(client) else { return };
    let Some(pool) = client.pool().filter(|_| Clock::between(since, now) > limit) else { return };
    let rests = state == Holding::Idle && pool.counts().waiting == 0;
    if rests || state == Holding::Replicating || client.leak.swap(since, Relaxed) == since {
        return;
    }
    crate::metrics::add(&pool.counters.leaks, 1);
    let query = last_query(pools, &backend);
    let (fingerprint, text) = query.map(|query| (query.fingerprint, query.text)).unzip();
    client.span().in_scope(|| {
        tracing::warn!(
            application = client.application_name(),
            held = Clock::between(since, now).as_secs(),
            state = state.name(),
            pid = backend.process_id,
            query = fingerprint,
            text = text.flatten(),
            detail = facts(pools, &pool, client),
            "client holds a connection to PostgreSQL for longer than leak_threshold"
        );
    });
}

/// Closes idle backends that died, are too old, or have been idle for too long.
fn sweep_pool(pool: &Pool, now: Micros) {
    let settings = pool.settings.load();
    let interner = &pool.shared.interner;
    let total = pool.counts().total;
    let mut spare = total.saturating_sub(settings.min);
    let mut surplus = match settings.size {
        0 => 0,
        size => total.saturating_sub(size.saturating_add(settings.reserve)),
    };
    pool.close_idle_mut(|held| {
        let record = &held.backend.record;
        let aged = expired(&settings, record.id, now.saturating_sub(record.connected));
        let idle = Clock::between(held.backend.idle_since, now);
        let unused = !settings.idle_timeout.is_zero() && idle > settings.idle_timeout && spare > 0;
        let record = Arc::clone(record);
        if held.backend.settle_idle(interner).is_err() {
            // What it said is read and gone; whoever has been promised it must not get it.
            record.close_because(Closing::Crashed);
            record.need_close();
        }
        let reasons = [
            (record.close_needed(), Closing::Replaced),
            (unused, Closing::IdleTimeout),
            (aged, Closing::Lifetime),
            (surplus > 0, Closing::TooMany),
        ];
        let reason = reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason));
        if let Some(reason) = reason {
            record.close_because(reason);
        }
        let out = reason.is_some();
        spare = spare.saturating_sub(u32::from(out));
        surplus = surplus.saturating_sub(u32::from(out));
        out
    });
    pool.unpark();
    pool.seek_standby(now);
}

/// Whether a backend of this age is to be closed; `server_lifetime` is spread over a fifth, so that backends opened
/// together do not end together. A lifetime of 0 is the release's business.
pub(super) fn expired(settings: &PoolSettings, id: u64, age: Micros) -> bool {
    let lifetime = settings.lifetime_micros;
    lifetime > 0 && age.saturating_add(lifetime / 80 * (id % 16)) >= lifetime
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(phase: Phase, seconds: u32) -> Seen {
        Seen {
            phase,
            phase_for: SECOND * seconds,
            transaction_for: SECOND * seconds * 2,
            connected_for: SECOND * 100,
            admitted: true,
        }
    }

    #[test]
    fn each_phase_has_its_clock() {
        let none = WaitRules::default();
        let rules = WaitRules {
            login: SECOND * 60,
            idle: SECOND * 5,
            wait: SECOND * 4,
            notify: SECOND * 2,
            query: SECOND * 8,
            idle_transaction: SECOND * 3,
            transaction: SECOND * 14,
            replace: false,
        };
        let cases = [
            (Phase::Idle, 5, None),
            (Phase::Idle, 6, Some(Reason::ClientIdleTimeout)),
            (Phase::Waiting, 2, None),
            (Phase::Waiting, 3, Some(Reason::Notify)),
            (Phase::Waiting, 5, Some(Reason::QueryWaitTimeout)),
            (Phase::Running, 7, None),
            (Phase::Running, 8, Some(Reason::TransactionTimeout)),
            (Phase::Running, 9, Some(Reason::QueryTimeout)),
            (Phase::InTransaction, 3, None),
            (Phase::InTransaction, 4, Some(Reason::IdleTransactionTimeout)),
            (Phase::Login, 1000, None),
        ];
        for (phase, seconds, expected) in cases {
            assert_eq!(verdict(&seen(phase, seconds), &rules), expected, "{phase:?} for {seconds} s");
            assert_eq!(verdict(&seen(phase, seconds), &none), None);
        }
        let replaced = WaitRules { replace: true, ..none };
        assert_eq!(verdict(&seen(Phase::Idle, 0), &replaced), Some(Reason::ServerReplaced));
        assert_eq!(verdict(&seen(Phase::InTransaction, 9), &replaced), None);
        let late = Seen { admitted: false, ..seen(Phase::Login, 100) };
        assert_eq!(verdict(&late, &rules), Some(Reason::LoginTimeout));
        assert_eq!(verdict(&Seen { phase: Phase::Waiting, ..late }, &rules), Some(Reason::LoginTimeout));
    }
}
