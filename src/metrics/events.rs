//! What happens to the process as a whole: logins, and the errors that the pooler itself sends.

use std::sync::atomic::AtomicU64;

use super::{Histogram, add};

/// Counters that differ by one word of a fixed list; what is not in it is counted under the last.
#[derive(Debug)]
pub struct Worded<const N: usize> {
    words: &'static [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Worded<N> {
    const fn new(words: &'static [&'static str; N]) -> Worded<N> {
        Worded { words, counts: [const { AtomicU64::new(0) }; N] }
    }

    /// Counts one.
    pub fn count(&self, word: &str) {
        let at = self.words.iter().position(|known| *known == word).unwrap_or(N.saturating_sub(1));
        if let Some(count) = self.counts.get(at) {
            add(count, 1);
        }
    }

    /// Each word with its count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.words.iter().zip(&self.counts).map(|(word, count)| (*word, count.load(super::Relaxed)))
    }
}

/// Lines that were logged, by level.
#[derive(Debug)]
pub struct LogCounts(pub Worded<5>);

impl Default for LogCounts {
    fn default() -> LogCounts {
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        LogCounts(Worded::new(&LEVELS))
    }
}

/// Why logins fail.
const FAILURES: [&str; 10] =
    ["password", "rule", "certificate", "limit", "refused", "protocol", "tls", "timeout", "lookup", "other"];

/// Classes of SQLSTATE: those that the pooler itself sends, and those with which PostgreSQL refuses its logins.
const CLASSES: [&str; 18] =
    ["08", "0A", "22", "25", "26", "28", "3D", "3F", "42", "53", "54", "55", "57", "58", "F0", "P0", "XX", "other"];

/// What has happened since the process started.
#[derive(Debug)]
pub struct Events {
    /// Logins that succeeded, from the connection to the first moment at which the client may send a query.
    pub login: Histogram,
    /// Their sum, microseconds.
    pub login_time: AtomicU64,
    /// Logins that failed, by why.
    pub login_failures: Worded<10>,
    /// Errors that clients got from the pooler itself, by class of SQLSTATE.
    pub errors: Worded<18>,
}

impl Default for Events {
    fn default() -> Events {
        Events {
            login: Histogram::default(),
            login_time: AtomicU64::new(0),
            login_failures: Worded::new(&FAILURES),
            errors: Worded::new(&CLASSES),
        }
    }
}

impl Events {
    /// A login has succeeded.
    pub fn logged_in(&self, micros: u64) {
        self.login.record(micros);
        add(&self.login_time, micros);
    }

    /// A client is sent an error of the pooler's own.
    pub fn error(&self, sqlstate: &str) {
        self.errors.count(sqlstate.get(..2).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_word_of_its_own_is_another() {
        let events = Events::default();
        for code in ["53300", "53400", "57P01", "99999", "", "ä"] {
            events.error(code);
        }
        events.login_failures.count("password");
        let counts: Vec<_> = events.errors.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("53", 2), ("57", 1), ("other", 3)]);
        assert_eq!(events.login_failures.counts().next(), Some(("password", 1)));
    }
}
