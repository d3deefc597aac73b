//! The end of the process: how it is asked for, and what it waits for.
//!
//! Whatever it waits for, a client is asked to leave between two transactions and never within one, until the end is
//! there.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::tasks::cancel_queries;
use super::{News, Proxy};
use crate::admin::Shutdown;
use crate::config::General;
use crate::net::{Clock, Micros, OWN};
use crate::pool::{ClientRecord, Phase, Reason};
use crate::wire::startup::Replication;

/// How often it is looked whether there is anything left to wait for.
const LOOK: Duration = Duration::from_millis(50);
/// How long a client that has just logged in may take to ask for something before it is idle like others.
const FRESH: Duration = Duration::from_secs(2);
/// How long at most PostgreSQL may take to end what is cancelled at the deadline.
const CUT_OFF: Duration = Duration::from_secs(2);
/// How often what still runs then is cancelled again: a cancel request may have come between two queries.
const AGAIN: Duration = Duration::from_millis(500);

/// What there is to wait for.
enum Left {
    /// Somebody who may stay.
    Some,
    /// Somebody, after the deadline.
    Late,
    /// Nobody.
    Nothing,
}

impl Proxy {
    pub(super) fn ending_now(&self) -> Option<Shutdown> {
        *self.ending.borrow()
    }

    /// Begins the end. One that has begun goes on as it is, or as the more urgent of the two.
    pub(super) fn end(&self, how: Shutdown) {
        let present = self.ending_now();
        let how = match present {
            // What stands still would never be done.
            _ if self.pools.is_suspended() && how != Shutdown::TakenOver => Shutdown::Now,
            None => how,
            Some(present) => present.max(how),
        };
        if present == Some(how) {
            tracing::info!(target: OWN, ?how, "the end goes on as it is");
            // After a takeover acceptors have to look again.
            return self.ending.send_modify(|_| {});
        }
        tracing::info!(target: OWN, ?how, "shutting down");
        if how == Shutdown::WaitForServers && self.pools.set_paused(None, true) {
            self.paused_by_end.store(true, Relaxed);
        }
        self.ending.send_replace(Some(how));
        if how != Shutdown::TakenOver {
            self.tell(News::Ending);
        }
    }

    /// The same by a signal: who sends a second one does not want to wait. A takeover is nobody's wish to end.
    pub(super) fn end_by_signal(&self, how: Shutdown) {
        let second = self.ending_now().is_some_and(|present| present != Shutdown::TakenOver);
        self.end(if second { Shutdown::Now } else { how });
    }

    /// Waits until everything that the end has to wait for is over.
    pub(super) async fn drained(self: &Arc<Self>) {
        let mut ending = self.ending.subscribe();
        // The sender lives as long as `self`.
        let _ = ending.wait_for(Option::is_some).await;
        let (mut begun, mut last) = (Instant::now(), None);
        loop {
            let how = self.ending_now();
            if std::mem::replace(&mut last, how) != how {
                begun = Instant::now();
            }
            match self.left(how, begun.elapsed()) {
                Left::Some => {}
                Left::Late => break self.cut_off().await,
                Left::Nothing => break,
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                _ = ending.changed() => {}
            }
        }
        self.pools.clients.interrupt(Reason::Shutdown, |_| true);
        // A moment for the last words; whoever does not take them is closed without.
        for _ in 0..20 {
            if self.pools.clients.is_empty() && self.pools.clients.departing() == 0 {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        {
            // From here on nobody takes over.
            let _settled = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
            self.is_over.store(true, Relaxed);
        }
        self.over.notify_waiters();
    }

    /// Looks at who is still there, and asks those to leave whose time has come.
    fn left(&self, how: Option<Shutdown>, since: Duration) -> Left {
        let Some(how) = how else { return Left::Some };
        match how {
            Shutdown::Now => return Left::Nothing,
            Shutdown::WaitForServers => {
                self.pools.clients.interrupt(Reason::ServerShutdown, |client| client.phase() == Phase::Waiting);
                let idle = self.pools.all().iter().all(|pool| pool.counts().total == 0);
                return if idle && self.doors.load(Relaxed) == 0 { Left::Nothing } else { Left::Some };
            }
            Shutdown::WaitForClients | Shutdown::Drain | Shutdown::TakenOver => {}
        }
        let (window, limit) = times(how, &self.pools.config.load().general);
        // In this order: who comes is an arrival before the door is closed, and a client before he is no arrival any more.
        let comes = self.doors.load(SeqCst) > 0 || self.arriving.load(SeqCst) > 0;
        let clients = self.pools.clients.all();
        let mut left = clients.iter().filter(|client| client.pool().is_some()).peekable();
        if left.peek().is_none() && !comes {
            return if self.pools.clients.departing() == 0 { Left::Nothing } else { Left::Some };
        }
        if !limit.is_zero() && since >= limit {
            tracing::warn!(clients = left.count(), ?limit, "clients are still there, ending");
            return Left::Late;
        }
        if !window.is_zero() {
            let now = self.pools.shared.clock.now();
            left.filter(|client| since >= moment(client.id, window) && !is_fresh(client, now))
                .for_each(|client| client.interrupt.ask_to_leave());
        }
        Left::Some
    }

    /// The deadline. Nobody begins anything any more, and what runs is cancelled. Its clients hear from PostgreSQL what
    /// became of it before they are told to connect elsewhere, where they will try again what they believe not done.
    async fn cut_off(self: &Arc<Self>) {
        let until = Instant::now() + CUT_OFF;
        let mut next = Instant::now();
        while self.ending_now() != Some(Shutdown::Now) && Instant::now() < until {
            let mut clients = self.pools.clients.all();
            clients.retain(|client| client.pool().is_some());
            if clients.is_empty() {
                return;
            }
            for client in &clients {
                if client.identity.replication == Replication::None {
                    client.interrupt.hurry();
                } else {
                    client.interrupt.raise(Reason::Shutdown);
                }
            }
            if Instant::now() >= next {
                next += AGAIN;
                clients.retain(|client| client.phase() == Phase::Running);
                cancel_queries(self, clients, until - Instant::now());
            }
            sleep(LOOK).await;
        }
    }
}

/// Whether it has just come and asked for nothing yet: it would be told to connect again instead of an answer.
fn is_fresh(client: &ClientRecord, now: Micros) -> bool {
    let silent = client.request.load(Relaxed) == client.identity.connected;
    !client.admitted() || (silent && Clock::between(client.since.load(Relaxed), now) < FRESH)
}

/// The time over which clients are asked to leave, and that at which nobody is waited for any more; 0 = never.
fn times(how: Shutdown, general: &General) -> (Duration, Duration) {
    match how {
        Shutdown::Drain => (general.drain_window, general.drain_timeout),
        Shutdown::TakenOver => (general.takeover_window, general.takeover_timeout),
        Shutdown::Now | Shutdown::WaitForServers | Shutdown::WaitForClients => (Duration::ZERO, Duration::ZERO),
    }
}

/// When within `window` a client is asked to leave: spread evenly, whatever ids there are.
fn moment(id: u64, window: Duration) -> Duration {
    let part = u32::try_from(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(u32::MAX);
    window.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_asked_to_leave_all_over_the_window() {
        let window = Duration::from_secs(10);
        let mut tenths = [0; 10];
        for id in 1..=1000 {
            let moment = moment(id, window);
            assert!(moment <= window);
            tenths[moment.as_secs().min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (80..=120).contains(count)), "{tenths:?}");
    }
}
