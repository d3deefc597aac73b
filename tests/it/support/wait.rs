//! The one way in which a test waits for something that it cannot be told of.

use std::{
    thread,
    time::{Duration, Instant},
};

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `done` holds, and panics when it has not after `within`, saying `what` was awaited.
pub(crate) fn eventually(within: Duration, what: &str, done: impl FnMut() -> bool) {
    assert!(holds_within(within, done), "not within {within:?}: {what}");
}

/// Waits until `done` holds; `false` when it has not after `within`.
pub(crate) fn holds_within(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
    true
}
