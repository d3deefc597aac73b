//! Why a connection to PostgreSQL was closed, for the log, in PgBouncer's words where it has some.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

macro_rules! closings {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a backend is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Closing { $($(#[$doc])* $name,)* }

        impl Closing {
            const ALL: &[Closing] = &[$(Closing::$name,)*];

            /// The words of the log.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Closing::$name => $text,)* }
            }
        }
    };
}

closings! {
    /// Nobody vouched for it: a turn was left in the middle of something.
    Unclean = "unclean server",
    /// PostgreSQL ended it, or the connection broke.
    Crashed = "server conn crashed?",
    /// PostgreSQL sent what it does not owe, or what cannot be a message.
    Broke = "server broke the protocol",
    /// `server_idle_timeout`
    IdleTimeout = "server idle timeout",
    /// `server_lifetime`
    Lifetime = "server lifetime over",
    /// More than `pool_size` and the reserve.
    TooMany = "too many servers in the pool",
    /// Its place was needed for another pool of the database.
    EvictedForDatabase = "evicted for max_db_connections",
    /// Its place was needed for another pool of the user.
    EvictedForUser = "evicted for max_user_connections",
    /// Its place was needed for a client of its pool that replicates.
    EvictedForPool = "evicted for pool_size",
    /// PostgreSQL's slot was needed for another pool.
    EvictedForSlots = "evicted for slot_budget",
    /// PAUSE
    Paused = "pause mode",
    /// The process ends.
    Ending = "pooler is shutting down",
    /// It was marked for closing, and came back.
    Needed = "close_needed",
    /// It was marked for closing, and was about to be lent.
    Obsolete = "obsolete connection",
    /// It was marked for closing by a reload or RECONNECT, and was idle.
    Replaced = "database configuration changed",
    /// KILL, or the entry vanished.
    Removed = "database removed",
    /// Its client left in the middle of something.
    ClientLeft = "client disconnect while server was not ready",
    /// `query_timeout`
    QueryTimeout = "query timeout",
    /// `idle_transaction_timeout`
    IdleTransaction = "idle transaction timeout",
    /// `transaction_timeout`
    Transaction = "transaction timeout",
    /// A transaction block in statement mode.
    StatementMode = "transaction blocks not allowed in statement pooling mode",
    /// PostgreSQL refused a client's settings.
    Parameter = "invalid server parameter",
    /// `server_check_query` failed.
    CheckFailed = "test query failed",
    /// `server_reset_query` failed.
    ResetFailed = "reset query failed",
    /// Its host is not what `target_session_attrs` wants.
    Misfit = "host is not what target_session_attrs wants",
    /// Its address is gone from the name of its host.
    AddressGone = "address is gone from its name",
    /// A cancel request may still reach it.
    CancelDoubt = "a cancel request may still be under way",
    /// Nobody has listened or asked for a while, or its pool is not used any more.
    Unneeded = "nobody needs it any more",
}

/// The first reason that was given; empty at first.
#[derive(Debug)]
pub(super) struct FirstClosing(AtomicU8);

const NONE: u8 = u8::MAX;

impl Default for FirstClosing {
    fn default() -> FirstClosing {
        FirstClosing(AtomicU8::new(NONE))
    }
}

impl FirstClosing {
    /// Keeps the reason, unless there is one.
    pub(super) fn set(&self, closing: Closing) {
        // Who comes second has come too late.
        let _ = self.0.compare_exchange(NONE, closing as u8, Relaxed, Relaxed);
    }

    pub(super) fn get(&self) -> Option<Closing> {
        Closing::ALL.get(usize::from(self.0.load(Relaxed))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts() {
        for (index, &closing) in Closing::ALL.iter().enumerate() {
            assert_eq!(closing as usize, index);
            let first = FirstClosing::default();
            assert_eq!(first.get(), None);
            first.set(closing);
            first.set(Closing::Unclean);
            assert_eq!(first.get(), Some(closing));
        }
    }
}
