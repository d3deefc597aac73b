//! A backend lent to one session.
//!
//! Invariants: [`Lease::release`] is the only way back to the shelf, and its caller vouches that nothing is owed and the
//! connection stands idle between two messages. A lease that is dropped in any other way closes the backend.

use std::sync::Arc;
use std::time::Duration;

use super::shelf::{Held, Taken};
use super::sweep::expired;
use super::{ClientRecord, Pool, PoolSettings};
use crate::backend::{Backend, BackendState, Closing, ExchangeError};
use crate::net::Micros;

/// Longest that a query of the pooler's own may take, whatever `server_connect_timeout` allows.
const OWN_QUERY: Duration = Duration::from_secs(60);

/// A backend lent to one session.
#[derive(Debug)]
pub struct Lease {
    /// When it was lent, where that had to be looked up; 0 else.
    pub(super) lent: Micros,
    held: Box<Held>,
    seat: Taken,
    pool: Arc<Pool>,
}

impl Lease {
    pub(super) fn new(held: Box<Held>, seat: Taken, pool: Arc<Pool>) -> Lease {
        Lease { lent: 0, held, seat, pool }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Backend {
        &self.held.backend
    }

    /// The backend.
    #[must_use]
    pub fn backend_mut(&mut self) -> &mut Backend {
        &mut self.held.backend
    }

    /// When it was lent, if it had to be waited for.
    #[must_use]
    pub fn waited_until(&self) -> Option<Micros> {
        (self.lent > 0).then_some(self.lent)
    }

    /// The pool that it comes from.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// This lease if its backend can be used, else nothing; the backend is closed then. `handed`: it comes straight from
    /// another session, so that the runtime may not have seen yet that it died.
    pub(super) fn alive(mut self, handed: bool) -> Option<Lease> {
        if self.held.backend.record.close_needed() {
            self.close(Closing::Obsolete);
            return None;
        }
        let Lease { held, pool, .. } = &mut self;
        let (backend, interner) = (&mut held.backend, &pool.shared.interner);
        let look = if handed { backend.settle_handed(interner) } else { backend.settle_idle(interner) };
        match look {
            Ok(()) => Some(self),
            Err(dead) => {
                let record = &self.backend().record;
                record.close_because(Closing::Crashed);
                self.pool.alarm();
                tracing::info!(database = %record.database, user = %record.user, id = record.id, %dead, "idle backend is gone");
                None
            }
        }
    }

    /// Links the backend and the client to each other.
    #[inline]
    pub fn link(&self, client: &ClientRecord, now: Micros) {
        let record = &self.backend().record;
        record.set_state(BackendState::Active);
        record.request.store(now, std::sync::atomic::Ordering::Relaxed);
        record.set_link(client.id);
    }

    /// Whether it was idle for so long that it has to be checked first.
    #[must_use]
    pub fn check_due(&self, settings: &PoolSettings, now: Micros) -> bool {
        now.saturating_sub(self.backend().idle_since) >= settings.trusted_micros
    }

    /// The lease after a check, by `server_check_query` where that is due. A server that answers lives, whatever it thinks
    /// of the query, and any query has PostgreSQL tell whether it is still a standby. Nothing where it does not answer, or
    /// is not what it has to be any more; the backend is closed then.
    ///
    /// Cancel safety: safe; the backend is closed.
    pub async fn checked(mut self, settings: &PoolSettings, now: Micros) -> Option<Lease> {
        let idle = now.saturating_sub(self.backend().idle_since);
        let query = settings.check_query.as_deref().filter(|_| idle >= settings.check_delay_micros);
        match self.query(query.unwrap_or_default(), settings.spec.timeout).await {
            Ok(()) => {}
            Err(ExchangeError::Refused(said)) => {
                if !self.pool.check_refused.swap(true, std::sync::atomic::Ordering::Relaxed) {
                    let (database, user, error) = (&self.pool.key.database, &self.pool.key.user, &said.message);
                    tracing::warn!(%database, %user, error, "PostgreSQL refuses server_check_query; it is there, though");
                }
            }
            Err(error) => {
                self.backend().record.close_because(Closing::CheckFailed);
                let what =
                    if query.is_some() { "server_check_query failed" } else { "an idle connection does not answer" };
                tracing::info!(%error, "{what}");
                return None;
            }
        }
        if self.backend().record.close_needed() {
            self.pool.moved_away(&self.backend().record);
            self.close(Closing::Obsolete);
            return None;
        }
        Some(self)
    }

    /// Runs a query of the pooler's own on it.
    ///
    /// Cancel safety: none; the lease must be dropped then.
    ///
    /// # Errors
    /// [`ExchangeError`]; `TimedOut` after `limit`.
    pub async fn query(&mut self, sql: &str, limit: Duration) -> Result<(), ExchangeError> {
        self.query_bytes(sql.as_bytes(), limit).await
    }

    /// Like [`Lease::query`], for text in a client's encoding.
    ///
    /// # Errors
    /// [`ExchangeError`]; `TimedOut` after `limit`.
    pub async fn query_bytes(&mut self, sql: &[u8], limit: Duration) -> Result<(), ExchangeError> {
        self.query_row(sql, limit).await.map(drop)
    }

    /// Like [`Lease::query_bytes`]; answers the values of the first row, as text.
    ///
    /// # Errors
    /// [`ExchangeError`]; `TimedOut` after `limit`.
    pub async fn query_row(&mut self, sql: &[u8], limit: Duration) -> Result<Vec<Option<Box<[u8]>>>, ExchangeError> {
        let run = self.held.backend.query_row(sql, &self.pool.shared.interner);
        tokio::time::timeout(limit.min(OWN_QUERY), run)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    /// After a reset: the settings that we made are gone (`all`), or not known any more.
    pub fn forget_settings(&mut self, all: bool) {
        let (state, interner) = (&mut self.held.backend.state, &self.pool.shared.interner);
        state.extra = if all { interner.collect([]) } else { interner.forget(&state.extra) };
    }

    /// Gives the backend back. The caller vouches for design's first invariant: nothing is owed, the last ReadyForQuery
    /// said idle, the read buffer is empty and no COPY is open.
    pub fn release(self) {
        let (settings, now) = (self.pool.settings.load_full(), self.pool.shared.clock.now());
        self.release_at(&settings, now);
    }

    /// [`Lease::release`] by a caller who knows the pool's settings and the time.
    pub fn release_at(mut self, settings: &PoolSettings, now: Micros) {
        let backend = self.backend_mut();
        backend.idle_since = now;
        backend.record.released.store(now, std::sync::atomic::Ordering::Relaxed);
        backend
            .record
            .prepared
            .store(u32::try_from(backend.prepared.len()).unwrap_or(u32::MAX), std::sync::atomic::Ordering::Relaxed);
        let record = &self.held.backend.record;
        record.set_link(0);
        if record.being_canceled() {
            record.set_state(BackendState::BeingCanceled);
            self.park();
            return;
        }
        if let Some(why) = self.expired(settings, now) {
            self.close(why);
            return;
        }
        if self.held.slot.is_pressed() {
            self = match self.yielded(settings) {
                Some(lease) => lease,
                None => return,
            };
        }
        let record = &self.held.backend.record;
        record.set_state(BackendState::Idle);
        let Lease { held, seat, pool, .. } = self;
        match pool.shelf.put(held, seat) {
            Ok(()) => pool.offer(settings),
            Err(held) => {
                held.backend.record.close_because(pool.why_not_kept());
                held.terminate();
            }
        }
    }

    /// Closes a backend that stands between two messages.
    pub fn close(self, why: Closing) {
        self.backend().record.close_because(why);
        let Lease { held, seat, .. } = self;
        drop(seat);
        held.terminate();
    }

    /// Where slots are short, gives this one up for somebody who lacks his share.
    #[cold]
    fn yielded(self, settings: &PoolSettings) -> Option<Lease> {
        let (slots, pool) = (Arc::clone(self.held.slot.slots()), Arc::clone(&self.pool));
        let Some(taking) = slots.takes_back(&pool, settings) else { return Some(self) };
        self.close(Closing::EvictedForSlots);
        drop(taking);
        None
    }

    fn expired(&self, settings: &PoolSettings, now: Micros) -> Option<Closing> {
        let record = &self.backend().record;
        let over = settings.size > 0 && self.pool.size.used() > settings.size.saturating_add(settings.reserve);
        let aged = settings.lifetime_micros == 0 || expired(settings, record.id, now.saturating_sub(record.connected));
        let reasons = [(aged, Closing::Lifetime), (record.close_needed(), Closing::Needed), (over, Closing::TooMany)];
        reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
    }

    /// Sets the lease aside until the cancel requests for its last query are over.
    fn park(self) {
        let pool = Arc::clone(&self.pool);
        pool.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(self);
        // It may have been over before the lease was set aside.
        pool.unpark();
    }
}
