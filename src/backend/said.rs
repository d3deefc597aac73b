//! What a pool's server last said of itself in the two settings that tell a client whether it takes writes.
//!
//! A new client is told them before it has a backend, and libpq judges a connection by nothing else
//! (`libpq-connect.html`, `target_session_attrs`). So they are kept apart from what a pool's clients start with, which
//! is as old as the pool's first backend.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Interner, Settings, State};

/// Tells a standby.
pub(super) const STANDBY: &str = "in_hot_standby";
/// Tells a server whose transactions are read-only unless they say otherwise.
const READ_ONLY: &str = "default_transaction_read_only";
const NAMES: [&str; 2] = [STANDBY, READ_ONLY];

/// The last values of both, as far as they were told.
#[derive(Debug, Default)]
pub struct Said(Mutex<[Option<Box<[u8]>>; NAMES.len()]>);

impl Said {
    /// Takes in what a server has reported at a login, which no client's setting is part of.
    pub(super) fn hear(&self, reported: &Settings) {
        for (place, name) in self.lock().iter_mut().zip(NAMES) {
            *place = reported.value(name).map(Box::from);
        }
    }

    /// Takes in that a server has become, or is no longer, a standby.
    pub(super) fn hear_standby(&self, value: &[u8]) {
        let [standby, _] = &mut *self.lock();
        *standby = Some(value.into());
    }

    /// Whether a client would be told that there is nothing to be written; `None` where no server has said.
    #[must_use]
    pub fn refuses_writes(&self) -> Option<bool> {
        let said = self.lock();
        said.iter().flatten().map(|value| **value == *b"on").reduce(|one, other| one || other)
    }

    /// `state` with these values in the place of its own, except where they are the client's `own`.
    #[must_use]
    pub fn told(&self, state: State, interner: &Interner, own: impl Fn(&str) -> bool) -> State {
        let mut reported = state.reported;
        for (name, value) in NAMES.iter().zip(&*self.lock()) {
            if let Some(value) = value.as_deref().filter(|_| reported.value(name).is_some() && !own(name)) {
                reported = interner.with(&reported, name, value);
            }
        }
        State { reported, ..state }
    }

    fn lock(&self) -> MutexGuard<'_, [Option<Box<[u8]>>; NAMES.len()]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_told_but_for_what_is_the_clients() {
        let (said, interner) = (Said::default(), Interner::default());
        let set =
            |pairs: &[(&str, &str)]| interner.collect(pairs.iter().map(|(name, value)| (*name, value.as_bytes())));
        let state = |pairs: &[(&str, &str)]| State { reported: set(pairs), extra: set(&[]) };
        let first = state(&[("TimeZone", "UTC"), (READ_ONLY, "off"), (STANDBY, "on")]);
        assert_eq!(said.refuses_writes(), None);
        assert_eq!(said.told(first.clone(), &interner, |_| false), first, "nothing was said");

        said.hear(&first.reported);
        assert_eq!(said.refuses_writes(), Some(true));
        said.hear_standby(b"off");
        assert_eq!(said.refuses_writes(), Some(false));
        let now = state(&[("TimeZone", "UTC"), (READ_ONLY, "off"), (STANDBY, "off")]);
        assert_eq!(said.told(first.clone(), &interner, |_| false), now);

        said.hear(&set(&[(READ_ONLY, "on"), (STANDBY, "off")]));
        assert_eq!(said.refuses_writes(), Some(true));
        assert_eq!(said.told(first.clone(), &interner, |name| name == READ_ONLY), now, "the client has asked for it");
        let old = state(&[("TimeZone", "UTC")]);
        assert_eq!(said.told(old.clone(), &interner, |_| false), old, "its server did not report them");
        said.hear(&old.reported);
        assert_eq!(said.refuses_writes(), None);
    }
}
