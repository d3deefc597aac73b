//! How others stop what a session is waiting for: one reason, one waker.
//!
//! The session's task looks at the flag whenever it is polled, which costs one load; the sweeper, the console and the
//! canceller set it and wake the task. A reason that ends the session stays; one that only ends a wait is taken.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// Why a session is interrupted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name = $value,)* }

        impl Reason {
            fn from_u8(value: u8) -> Option<Reason> {
                match value {
                    $($value => Some(Reason::$name),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// The client asked to cancel while it was queued; only the wait ends.
    Canceled = 1,
    /// `query_wait_notify` has passed; the wait goes on.
    Notify = 2,
    /// Opening a backend failed; the wait goes on unless there is no hope.
    ServerFailed = 13,
    /// `query_wait_timeout`
    QueryWaitTimeout = 3,
    /// `query_timeout` of a query that runs
    QueryTimeout = 4,
    /// `query_timeout` of one that is queued
    QueuedTooLong = 17,
    /// `idle_transaction_timeout`
    IdleTransactionTimeout = 5,
    /// `transaction_timeout`
    TransactionTimeout = 6,
    /// `client_idle_timeout`
    ClientIdleTimeout = 7,
    /// `client_login_timeout`
    LoginTimeout = 8,
    /// KILL, or the entry vanished from the configuration
    DatabaseRemoved = 9,
    /// KILL_CLIENT
    Killed = 10,
    /// SHUTDOWN WAIT_FOR_SERVERS: queued clients are refused
    ServerShutdown = 11,
    /// The process exits now
    Shutdown = 12,
    /// The backend that listened for the client was lost, and `listener_lost` is disconnect
    ListenerLost = 14,
    /// `suspend_timeout`: what the client is to be sent cannot be sent
    SuspendTimeout = 16,
    /// The backend of a client in session mode has to be replaced, and `server_fast_close` is set
    ServerReplaced = 15,
}

impl Reason {
    /// Whether the session goes on after it.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Reason::Canceled | Reason::Notify | Reason::ServerFailed)
    }
}

/// The interrupt of one session.
#[derive(Debug, Default)]
pub struct Interrupt {
    reason: AtomicU8,
    /// Whether the session is to end between two transactions.
    leaving: AtomicBool,
    /// Whether it is to end as soon as PostgreSQL does nothing for it.
    hurried: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Interrupt {
    /// Sets the reason and wakes the session. A reason that ends the session is not replaced, and a cancel request only
    /// by one of those.
    pub fn raise(&self, reason: Reason) {
        let set = self.reason.fetch_update(AcqRel, Acquire, |present| {
            let yields = match Reason::from_u8(present) {
                None | Some(Reason::Notify | Reason::ServerFailed) => true,
                Some(Reason::Canceled) => !reason.passes(),
                Some(_) => false,
            };
            yields.then_some(reason as u8)
        });
        if set.is_ok() {
            self.nudge();
        }
    }

    /// Wakes the session without a reason: something lies in its mailbox.
    pub fn nudge(&self) {
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Asks the session to end as soon as it stands between two transactions and nothing of a request has come.
    pub fn ask_to_leave(&self) {
        if !self.leaving.swap(true, Release) {
            self.nudge();
        }
    }

    /// Whether it was asked to.
    #[inline]
    #[must_use]
    pub fn asked_to_leave(&self) -> bool {
        self.leaving.load(Acquire)
    }

    /// Asks the session to end as soon as nothing runs in PostgreSQL for it: what was not sent there is dropped, and an open
    /// transaction is not waited for.
    pub fn hurry(&self) {
        if !self.hurried.swap(true, Release) {
            self.nudge();
        }
    }

    /// Whether it was asked to.
    #[inline]
    #[must_use]
    pub fn is_hurried(&self) -> bool {
        self.hurried.load(Acquire)
    }

    /// Registers the task to wake. A task's waker stays the same, so once per session is enough.
    pub fn register(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    /// The reason, if there is one.
    #[inline]
    #[must_use]
    pub fn raised(&self) -> Option<Reason> {
        match self.reason.load(Acquire) {
            0 => None,
            value => Reason::from_u8(value),
        }
    }

    /// Takes a reason that passes; one that ends the session stays.
    pub fn clear(&self) {
        let _ = self
            .reason
            .fetch_update(AcqRel, Acquire, |present| Reason::from_u8(present).is_some_and(Reason::passes).then_some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_not_replaced_and_a_pass_is() {
        let interrupt = Interrupt::default();
        interrupt.raise(Reason::Notify);
        interrupt.raise(Reason::Canceled);
        assert_eq!(interrupt.raised(), Some(Reason::Canceled));
        interrupt.clear();
        assert_eq!(interrupt.raised(), None);
        interrupt.raise(Reason::QueryTimeout);
        interrupt.raise(Reason::Canceled);
        interrupt.clear();
        assert_eq!(interrupt.raised(), Some(Reason::QueryTimeout));
    }
}
