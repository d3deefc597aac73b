//! A look at what a pool's server is, for a client who is about to be told.
//!
//! A standby that was promoted says so behind the next query only, and one that nobody is connected to not at all. libpq
//! judges a new connection by what it is told (`target_session_attrs`), so nobody would ever ask. What was told by a
//! turn, or by a login to PostgreSQL, within the last second needs no look. Nor does a server that takes writes: it does
//! not become a standby without ending its connections, and the next one tells; a client that comes between has a
//! connection opened by its first query and not by its login, as ever.
//!
//! A look holds up a login for a second at most. Where it fails the client is told what was known before: to log in
//! nobody needs PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use super::{Pool, PoolCounts};
use crate::backend::{BackendState, Closing};
use crate::net::Micros;

/// How long it counts what a server has said, and how often it is looked, microseconds.
pub(super) const FRESH: Micros = 1_000_000;
/// Longest that a login waits.
const PATIENCE: Duration = Duration::from_secs(1);

impl Pool {
    /// Finds out what the server is now, where that is not known well enough to be told to a new client.
    ///
    /// Cancel safety: safe; a backend that was asked is closed.
    pub async fn look_for_newcomer(self: &Arc<Self>) {
        if !self.looks_due() {
            return;
        }
        let look = async {
            // Whoever comes meanwhile has the same answer.
            let _one = self.looking.lock().await;
            if self.looks_due() {
                self.look().await;
            }
        };
        if timeout(PATIENCE + PATIENCE / 10, look).await.is_err() {
            // Others need not wait for what cannot be had at present.
            let rest = self.settings.load().login_retry.as_micros();
            let until = self.shared.clock.now().saturating_add(Micros::try_from(rest).unwrap_or(Micros::MAX));
            self.next_look.store(until, Relaxed);
        }
    }

    fn looks_due(&self) -> bool {
        let settings = self.settings.load();
        if settings.spec.route.said.refuses_writes() != Some(true) {
            return false;
        }
        let now = self.shared.clock.now();
        let cannot = self.paused() || self.failure().is_some() || settings.spec.secret.awaits_login();
        if cannot || now < self.next_look.load(Relaxed) || self.welcome().is_none() {
            return false;
        }
        let PoolCounts { total, opening, .. } = self.counts();
        let told = match total.saturating_sub(opening) {
            0 => self.connected_at.load(Relaxed),
            _ => self.listed().values().map(|record| record.released.load(Relaxed)).max().unwrap_or(0),
        };
        now.saturating_sub(told) >= FRESH
    }

    /// Asks an idle backend anything; where there is none, one is opened, if there is room for it.
    async fn look(self: &Arc<Self>) {
        let now = self.shared.clock.now();
        self.next_look.store(now.saturating_add(FRESH), Relaxed);
        let told = self.told.notified();
        tokio::pin!(told);
        told.as_mut().enable();
        let settings = self.settings.load_full();
        if let Some(mut lease) = self.try_checkout(&settings) {
            lease.backend().record.set_state(BackendState::Tested);
            match lease.query("", PATIENCE).await {
                Ok(()) => lease.release(),
                Err(_) => lease.backend().record.close_because(Closing::CheckFailed),
            }
        } else if self.counts().total == self.counts().opening {
            self.probe();
            told.await;
        } else if settings.size == 0 || self.size.used() < settings.size {
            self.doubted.store(true, Relaxed);
            self.nudge();
            told.await;
        }
    }
}
