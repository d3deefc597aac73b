//! Limits as values: a [`Permit`] counts until it is dropped, whatever way its owner ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// One counter with a limit that may change at any time; 0 is no limit.
#[derive(Debug, Default)]
pub struct Cap {
    used: AtomicU32,
    starving: AtomicU32,
    wakers: Mutex<Vec<Arc<Notify>>>,
}

/// The right to hold one of what a [`Cap`] counts.
#[derive(Debug)]
pub struct Permit(Arc<Cap>);

impl Permit {
    /// One more, whatever the limit.
    pub(super) fn beyond(cap: &Arc<Cap>) -> Permit {
        cap.used.fetch_add(1, SeqCst);
        Permit(Arc::clone(cap))
    }
}

impl Cap {
    /// Takes a permit, if fewer than `limit` are out (0: always).
    pub fn acquire(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        let fits = |used: u32| (limit == 0 || used < limit).then(|| used.saturating_add(1));
        self.used.fetch_update(SeqCst, SeqCst, fits).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// How many permits are out.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(SeqCst)
    }

    /// Whether somebody waits for a permit of it.
    #[must_use]
    pub fn starved(&self) -> bool {
        self.starving.load(SeqCst) > 0
    }

    /// Registers one who waits, to be notified at each permit that comes back; it ends with the value. A permit that
    /// came back before is not announced: try once more after the call.
    pub(super) fn starve(self: &Arc<Self>, waker: &Arc<Notify>) -> Starving {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(waker));
        self.starving.fetch_add(1, SeqCst);
        Starving { cap: Arc::clone(self), waker: Arc::clone(waker) }
    }

    /// Wakes those who wait: a permit came back, or something that could be given up for them did.
    pub(super) fn wake(&self) {
        for waker in self.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waker.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, SeqCst);
        if self.0.starved() {
            self.0.wake();
        }
    }
}

/// Somebody who waits for a permit of a cap.
#[derive(Debug)]
pub(super) struct Starving {
    cap: Arc<Cap>,
    waker: Arc<Notify>,
}

impl Drop for Starving {
    fn drop(&mut self) {
        let mut wakers = self.cap.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = wakers.iter().position(|waker| Arc::ptr_eq(waker, &self.waker)) {
            wakers.swap_remove(index);
        }
        drop(wakers);
        self.cap.starving.fetch_sub(1, SeqCst);
    }
}

/// Caps by name, made when they are first asked for.
#[derive(Debug, Default)]
pub struct Caps(Mutex<HashMap<Arc<str>, Arc<Cap>>>);

impl Caps {
    /// The cap of `name`.
    pub fn of(&self, name: &str) -> Arc<Cap> {
        let mut caps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cap) = caps.get(name) {
            return Arc::clone(cap);
        }
        // Forget those that nobody counts on any more, now and then.
        if caps.len() >= 64 && caps.len().is_power_of_two() {
            caps.retain(|_, cap| Arc::strong_count(cap) > 1);
        }
        let cap = Arc::new(Cap::default());
        caps.insert(name.into(), Arc::clone(&cap));
        cap
    }

    /// Wakes those who wait for a permit of any.
    pub(super) fn wake_starved(&self) {
        let caps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        caps.values().filter(|cap| cap.starved()).for_each(|cap| cap.wake());
    }

    /// How many permits of `name` are out.
    #[must_use]
    pub fn used(&self, name: &str) -> u32 {
        let caps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        caps.get(name).map_or(0, |cap| cap.used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_a_permit_gives_itself_back() {
        let caps = Caps::default();
        let cap = caps.of("a");
        let one = cap.acquire(2).unwrap();
        let _two = caps.of("a").acquire(2).unwrap();
        assert!(cap.acquire(2).is_none());
        assert_eq!(caps.used("a"), 2);
        let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = one;
            panic!("the owner fails");
        }));
        assert!(lost.is_err());
        assert!(cap.acquire(2).is_some());
        assert!(cap.acquire(0).is_some());
        assert_eq!(caps.used("other"), 0);
    }
}
