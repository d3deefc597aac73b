//! SUSPEND: until RESUME nothing is read from clients and backends, and nobody is let in.
//!
//! A session that sees it sends what it has judged already, reads no more and says so in its client's record; so it is
//! known when everything stands still. What it has read and not judged stays where it is. The [`Suspended`] belongs to
//! the console that commanded it: dropped, everything goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

use tokio::sync::Notify;

use super::{ClientRecord, Pools};

/// Whether everything is suspended, and for the how many-th time.
#[derive(Debug, Default)]
pub struct Suspension {
    /// 0 = it is not.
    number: AtomicU32,
    last: AtomicU32,
    over: Notify,
}

impl Suspension {
    /// The number of the present one, if there is one.
    #[inline]
    #[must_use]
    pub fn present(&self) -> Option<u32> {
        match self.number.load(Acquire) {
            0 => None,
            number => Some(number),
        }
    }

    /// Waits until it is over, if there is one.
    ///
    /// Cancel safety: safe.
    pub async fn over(&self) {
        loop {
            let over = self.over.notified();
            if self.present().is_none() {
                return;
            }
            over.await;
        }
    }
}

impl ClientRecord {
    /// Whether the client's session may go on; one that may not says thereby that it stands still.
    #[inline]
    pub fn stands_still(&self, suspension: &Suspension) -> bool {
        let Some(number) = suspension.present() else { return false };
        self.still.store(number, Relaxed);
        true
    }
}

impl Pools {
    /// Whether everything is suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.shared.suspension.present().is_some()
    }

    /// Suspends everything; nothing where it is already.
    pub fn suspend(self: &Arc<Self>) -> Option<Suspended> {
        let suspension = &self.shared.suspension;
        // 0 has a meaning of its own.
        let number = suspension.last.fetch_add(1, Relaxed).wrapping_add(1).max(1);
        suspension.number.compare_exchange(0, number, AcqRel, Acquire).ok()?;
        self.nudge();
        Some(Suspended { pools: Arc::clone(self), number })
    }

    /// Lets everything go on. Answers whether it was suspended.
    pub fn go_on(&self) -> bool {
        self.go_on_from(self.shared.suspension.present().unwrap_or(0))
    }

    fn go_on_from(&self, number: u32) -> bool {
        let suspension = &self.shared.suspension;
        let ended = number != 0 && suspension.number.compare_exchange(number, 0, AcqRel, Acquire).is_ok();
        if ended {
            suspension.over.notify_waiters();
            self.nudge();
        }
        ended
    }

    fn nudge(&self) {
        for client in self.clients.all() {
            client.interrupt.nudge();
        }
    }
}

/// A suspension of everything; dropped, everything goes on, unless it does already.
#[derive(Debug)]
pub struct Suspended {
    pools: Arc<Pools>,
    number: u32,
}

impl Suspended {
    /// Whether it is still in force.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.pools.shared.suspension.present() == Some(self.number)
    }

    /// The clients whose sessions do not stand still yet.
    #[must_use]
    pub fn moving(&self) -> Vec<Arc<ClientRecord>> {
        let mut all = self.pools.clients.all();
        all.retain(|client| client.admitted() && client.pool().is_some() && client.still.load(Relaxed) != self.number);
        all
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        if self.pools.go_on_from(self.number) {
            tracing::info!("what was suspended goes on");
        }
    }
}
