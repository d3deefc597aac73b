//! Counters of one pool and what the console makes of them: totals and averages over a period; histograms, and the text
//! in which Prometheus reads all that.
//!
//! A counter is added to once per turn, by whichever worker runs the session; nothing here takes a lock.

mod events;
mod histogram;
mod text;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use events::{Events, LogCounts, Worded};
pub use histogram::{BOUNDS, BUCKETS, Counts, Histogram, Times};
pub use text::{Kind, Series, Text, Value, seconds};

/// Declares the counters once: the atomics, their snapshot, and the arithmetic on snapshots.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one pool since the process started. Times are microseconds.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// The values of [`Counters`] at one moment, or the difference of two.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// The present values.
            #[must_use]
            pub fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Totals {
            /// Field by field sum.
            #[must_use]
            pub fn plus(self, other: Totals) -> Totals {
                Totals { $($name: self.$name.wrapping_add(other.$name),)* }
            }

            /// Field by field difference; `earlier` was taken before.
            #[must_use]
            pub fn since(self, earlier: Totals) -> Totals {
                Totals { $($name: self.$name.saturating_sub(earlier.$name),)* }
            }
        }
    };
}

counters! {
    /// Times a backend was lent to a client.
    server_assignment_count,
    /// Transactions: spans from idle to idle.
    xact_count,
    /// Queries: spans from one ready-for-query to the next.
    query_count,
    /// Bytes received from clients.
    received,
    /// Bytes received from PostgreSQL.
    sent,
    /// Time with a transaction open, microseconds.
    xact_time,
    /// Time with a query running, microseconds.
    query_time,
    /// Time that clients waited for a backend, microseconds; also waits that ended without one.
    wait_time,
    /// Parses by clients of statements that backends have under the pooler's names.
    client_parse_count,
    /// Parses of these that PostgreSQL was sent.
    server_parse_count,
    /// Binds of these by clients.
    bind_count,
    /// Batches that were sent again, for a plan was out of date.
    repeated_batches,
    /// Errors about plans that were out of date, which clients got; the statements are prepared afresh.
    stale_plans,
    /// Clients that held a backend for longer than `leak_threshold`, once per lease.
    leaks,
    /// Logins that succeeded.
    client_login_count,
    /// Time to open backends, those included that could not be opened, microseconds.
    connect_time,
    /// Backends that could not be opened.
    connect_failures,
}

/// Adds to a counter.
#[inline]
pub fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Relaxed);
}

/// Averages over the last period, as PgBouncer computes them: counts per second, times per thing counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Averages {
    /// Length of the period, microseconds.
    pub period: u64,
    /// What happened in it.
    pub delta: Totals,
}

impl Averages {
    /// `count` per second.
    #[must_use]
    pub fn per_second(&self, count: u64) -> u64 {
        if self.period == 0 {
            0
        } else {
            u64::try_from(u128::from(count) * 1_000_000 / u128::from(self.period)).unwrap_or(u64::MAX)
        }
    }

    /// `time` divided by `count`.
    #[must_use]
    pub fn each(time: u64, count: u64) -> u64 {
        time.checked_div(count).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_per_second_and_per_thing() {
        let counters = Counters::default();
        add(&counters.xact_count, 30);
        add(&counters.xact_time, 900);
        let before = counters.totals();
        add(&counters.xact_count, 20);
        add(&counters.xact_time, 100);
        let delta = counters.totals().since(before);
        let averages = Averages { period: 4_000_000, delta };
        assert_eq!(averages.per_second(delta.xact_count), 5);
        assert_eq!(Averages::each(delta.xact_time, delta.xact_count), 5);
        assert_eq!(Averages::each(1, 0), 0);
        assert_eq!(Averages::default().per_second(7), 0);
        assert_eq!(before.plus(delta), counters.totals());
    }
}
