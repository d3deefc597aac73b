//! Waiting for a backend.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use super::{ClientRecord, Failure, Lease, Phase, Pool, Reason};
use crate::metrics;
use crate::net::Micros;

/// How a wait for a backend ended without one.
#[derive(Debug)]
pub enum WaitEnd {
    /// Somebody interrupted it: a timeout, a cancel request, the console.
    Interrupted(Reason),
    /// PostgreSQL refuses the pool's logins, or has been away for longer than `server_login_retry`.
    Failed(Box<Failure>),
    /// The client went away.
    Gone,
}

impl Pool {
    /// A lease, waiting for it first come first served. `gone` resolves when the client leaves meanwhile.
    ///
    /// The wait may be interrupted by [`Reason::Notify`]; `notify` is told and the place in the queue is kept. The
    /// client's task must have registered itself with the client's interrupt.
    ///
    /// Cancel safety: safe; the place in the queue is lost, a backend that was on its way goes to the next.
    ///
    /// # Errors
    /// [`WaitEnd`].
    pub async fn checkout(self: &Arc<Self>, client: &ClientRecord, mut gone: impl Waiting) -> Result<Lease, WaitEnd> {
        let start = self.shared.clock.now();
        client.grace.store(0, Relaxed);
        client.enter(Phase::Waiting, start);
        let result = self.wait(client, start, &mut gone).await;
        let end = match &result {
            Ok(lease) => lease.lent,
            Err(_) => self.shared.clock.now(),
        };
        let waited = end.saturating_sub(start);
        metrics::add(&self.counters.wait_time, waited);
        self.times.wait.record(waited);
        result
    }

    async fn wait(
        self: &Arc<Self>,
        client: &ClientRecord,
        since: Micros,
        gone: &mut impl Waiting,
    ) -> Result<Lease, WaitEnd> {
        if let Some(failure) = self.hopeless() {
            return Err(WaitEnd::Failed(Box::new(Failure { cached: true, ..failure })));
        }
        loop {
            let ticket = self.queue.enter(since);
            self.ask();
            let mut seat = pin!(self.shelf.seat());
            let seat = poll_fn(|cx| {
                if let Some(end) = self.interrupted(client, gone) {
                    return Poll::Ready(Err(end));
                }
                if let Poll::Ready(seat) = seat.as_mut().poll(cx) {
                    return Poll::Ready(Ok(seat));
                }
                gone.poll_gone(cx).map(|()| Err(WaitEnd::Gone))
            })
            .await?;
            drop(ticket);
            let settings = self.settings.load();
            let now = self.shared.clock.now();
            // The runtime may not have seen yet that a backend died which comes straight from another session's hands.
            // Where one has, others may follow, and it is asked for by a system call.
            let handed = now < self.alarm_until.load(Relaxed);
            let lease = seat.and_then(|seat| self.lease(seat, &settings)).and_then(|lease| lease.alive(handed));
            let Some(mut lease) = lease else { continue };
            lease.lent = now;
            if !lease.check_due(&settings, now) {
                return Ok(lease);
            }
            drop(settings);
            if let Some(lease) = lease.checked(&self.settings.load_full(), now).await {
                return Ok(lease);
            }
        }
    }

    /// Takes note of what was raised meanwhile; answers the end of the wait, if it is one. The place in the queue is
    /// kept over failures that may pass.
    fn interrupted(&self, client: &ClientRecord, gone: &mut impl Waiting) -> Option<WaitEnd> {
        if client.interrupt.is_hurried() {
            return Some(WaitEnd::Interrupted(Reason::Shutdown));
        }
        let reason = client.interrupt.raised()?;
        client.interrupt.clear();
        match reason {
            Reason::Notify => gone.notify(),
            Reason::ServerFailed => {}
            ending => return Some(WaitEnd::Interrupted(ending)),
        }
        self.hopeless().map(|failure| WaitEnd::Failed(Box::new(failure)))
    }
}

/// The client's side of a wait.
pub trait Waiting {
    /// Resolves when the client has left.
    fn poll_gone(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()>;
    /// `query_wait_notify` has passed.
    fn notify(&mut self);
}
