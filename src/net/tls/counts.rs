//! How many handshakes there were, and which failures are told.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::net::{Clock, Micros};

use super::Session;

/// Failures that are logged one by one within [`SPAN`]; whoever scans the port makes many.
const LOGGED: u32 = 10;
/// The time for which they are counted, seconds.
const SPAN: u64 = 10;

/// Handshakes with clients since the process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Those that came to their end.
    pub handshakes: AtomicU64,
    /// Those of them that went on with an earlier session.
    pub resumed: AtomicU64,
    /// Those that failed.
    pub failed: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    since: Micros,
    lines: u32,
    silent: u64,
}

impl Counts {
    /// Takes note of a handshake that came to its end.
    pub fn note(&self, session: &Session) {
        self.handshakes.fetch_add(1, Relaxed);
        self.resumed.fetch_add(u64::from(session.resumed), Relaxed);
    }

    /// Takes note of a failure; answers whether to log it, and how many were not logged before.
    pub fn note_failure(&self, now: Micros) -> Option<u64> {
        self.failed.fetch_add(1, Relaxed);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if Clock::between(log.since, now).as_secs() >= SPAN {
            (log.since, log.lines) = (now, 0);
        }
        if log.lines >= LOGGED {
            log.silent += 1;
            return None;
        }
        log.lines += 1;
        Some(std::mem::take(&mut log.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_counted_and_not_logged() {
        let counts = Counts::default();
        let second = 1_000_000;
        let told: Vec<_> = (0..25).filter_map(|_| counts.note_failure(20 * second)).collect();
        assert_eq!(told, [0; 10]);
        assert_eq!(counts.note_failure(29 * second), None);
        assert_eq!(counts.note_failure(30 * second), Some(16));
        assert_eq!(counts.failed.load(Relaxed), 27);
    }
}
