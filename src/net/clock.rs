//! The process's clock: microseconds since it started, which fit an atomic, and the wall time for people.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// A moment, in microseconds since the process started. Zero means "never".
pub type Micros = u64;

/// Shared origin of all [`Micros`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    wall: SystemTime,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Clock {
        // One microsecond back, so that no moment is zero.
        let start = Instant::now();
        Clock { start: start.checked_sub(Duration::from_micros(1)).unwrap_or(start), wall: SystemTime::now() }
    }

    /// Now.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Micros {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long ago `then` was, at `now`.
    #[must_use]
    pub fn between(then: Micros, now: Micros) -> Duration {
        Duration::from_micros(now.saturating_sub(then))
    }

    /// The wall time of a moment.
    #[must_use]
    pub fn wall(&self, at: Micros) -> SystemTime {
        self.wall + Duration::from_micros(at)
    }
}
