//! What can be seen of a pool without holding up anybody: for those who look often and need not be exact.
//!
//! Nothing here takes the lock of the shelf or of the queue. The list of backends has a lock, which only those take who
//! open or close one.

use std::sync::atomic::Ordering::Relaxed;

use super::Pool;
use crate::backend::BackendState;
use crate::net::Micros;

/// Numbers of one pool, each of its own moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// Clients that belong to it, waiting ones included.
    pub clients: u32,
    /// Those that wait for a backend.
    pub waiting: u32,
    /// Since when the first of them waits.
    pub oldest: Option<Micros>,
    /// Backends that are open: the sum of the five below.
    pub open: u32,
    /// Lent.
    pub active: u32,
    /// On the shelf.
    pub idle: u32,
    /// On the shelf for longer than `server_check_delay`.
    pub used: u32,
    /// New ones, before they are put there.
    pub tested: u32,
    /// Given back, while a cancel request may still hit them.
    pub being_canceled: u32,
    /// Being opened.
    pub opening: u32,
    /// Kept by clients between transactions.
    pub pinned: u32,
    /// The last attempt to open one has failed.
    pub failing: bool,
}

impl Pool {
    /// What can be seen at `now`.
    #[must_use]
    pub fn glance(&self, now: Micros) -> Glance {
        let settings = self.settings.load();
        let mut seen = Glance {
            clients: self.members.load(Relaxed),
            waiting: u32::try_from(self.queue.waiting()).unwrap_or(u32::MAX),
            oldest: self.queue.waiting_since(),
            opening: self.opening.load(Relaxed),
            pinned: self.pinned.used(),
            failing: self.failed_at.load(Relaxed) > self.connected_at.load(Relaxed),
            ..Glance::default()
        };
        let long = |since: Micros| now.saturating_sub(since) > settings.check_delay_micros;
        for record in self.listed().values() {
            seen.open += 1;
            *match record.state() {
                BackendState::Active => &mut seen.active,
                BackendState::Idle if settings.check_query.is_some() && long(record.released.load(Relaxed)) => {
                    &mut seen.used
                }
                BackendState::Idle => &mut seen.idle,
                BackendState::Tested => &mut seen.tested,
                BackendState::BeingCanceled => &mut seen.being_canceled,
            } += 1;
        }
        seen
    }
}
