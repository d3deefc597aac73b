//! Waiting for a backend.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::{ClientRecord, Failure, Lease, Phase, Pool, Reason};
use crate::metrics;
use crate::net::Clock;

/// How a wait for a backend ended without one.
#[derive(Debug)]
pub enum WaitEnd {
    /// Somebody interrupted it: a timeout, a cancel request, the console.
    Interrupted(Reason),
    /// PostgreSQL refuses the pool's logins, or has been away for longer than `server_login_retry`.
    Failed(Failure),
    /// The client went away.
    Gone,
}

impl Pool {
    /// A lease, waiting for it first come first served. `gone` resolves when the client leaves meanwhile.
    ///
    /// The wait may be interrupted by [`Reason::Notify`]; `notify` is told and the place in the queue is kept.
    ///
    /// Cancel safety: safe; the place in the queue is lost, a backend that was on its way goes to the next.
    ///
    /// # Errors
    /// [`WaitEnd`].
    pub async fn checkout(self: &Arc<Self>, client: &ClientRecord, mut gone: impl Waiting) -> Result<Lease, WaitEnd> {
        let start = self.shared.clock.now();
        client.grace.store(0, std::sync::atomic::Ordering::Relaxed);
        client.enter(Phase::Waiting, start);
        let result = self.wait(client, &mut gone).await;
        let waited = Clock::between(start, self.shared.clock.now());
        metrics::add(&self.counters.wait_time, u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
        result
    }

    async fn wait(self: &Arc<Self>, client: &ClientRecord, gone: &mut impl Waiting) -> Result<Lease, WaitEnd> {
        let mut queued = false;
        loop {
            let failed = self.failed.notified();
            if let Some(failure) = self.hopeless() {
                // Nobody may be queued any more, but whether PostgreSQL is back has to be found out.
                self.missed.store(true, std::sync::atomic::Ordering::Relaxed);
                self.asked.notify_one();
                return Err(WaitEnd::Failed(Failure { news: failure.news || queued, ..failure }));
            }
            queued = true;
            let _ticket = self.queue.enter(self.shared.clock.now());
            self.asked.notify_one();
            let mut seat = pin!(self.shelf.seat());
            let mut failed = pin!(failed);
            let seat = poll_fn(|cx| {
                client.interrupt.register(cx.waker());
                if let Some(reason) = client.interrupt.raised() {
                    client.interrupt.clear();
                    if reason != Reason::Notify {
                        return Poll::Ready(Err(WaitEnd::Interrupted(reason)));
                    }
                    gone.notify();
                }
                if let Poll::Ready(seat) = seat.as_mut().poll(cx) {
                    return Poll::Ready(Ok(seat));
                }
                if failed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(None));
                }
                gone.poll_gone(cx).map(|()| Err(WaitEnd::Gone))
            })
            .await?;
            // Without a seat: opening failed; the next turn of the loop says whether for good.
            let Some(lease) = seat.and_then(|seat| self.lease(seat)) else { continue };
            let Some(mut lease) = lease.alive(true) else { continue };
            let settings = self.settings.load_full();
            if lease.check_due(&settings, self.shared.clock.now()) {
                let query = settings.check_query.as_deref().unwrap_or_default();
                if let Err(error) = lease.query(query, settings.spec.timeout).await {
                    tracing::info!(%error, "server_check_query failed");
                    continue;
                }
            }
            return Ok(lease);
        }
    }
}

/// The client's side of a wait.
pub trait Waiting {
    /// Resolves when the client has left.
    fn poll_gone(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()>;
    /// `query_wait_notify` has passed.
    fn notify(&mut self);
}
