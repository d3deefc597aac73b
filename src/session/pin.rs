//! A client that keeps its backend between transactions, since something is there that cannot follow it.

use crate::pool::{Permit, Pin};
use crate::sql::Features;

use super::Session;
use super::watch::feature_name;
use crate::pool::Lease;

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// What the backend says is there.
    pub(super) features: Features,
    /// What lasts until the client leaves.
    pub(super) lasting: Option<&'static str>,
    /// Something ran whose text does not tell what it does, so that settings are reset when the pin ends.
    pub(super) opaque: bool,
}

impl Holds {
    pub(super) fn is_empty(self) -> bool {
        self.features.is_empty() && self.lasting.is_none()
    }

    /// The names of what is there, as in the configuration.
    fn names(self) -> Vec<&'static str> {
        self.features.iter().map(feature_name).chain(self.lasting).collect()
    }
}

/// A pin.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) holds: Holds,
    /// What kind of statement did it.
    pub(super) why: &'static str,
    /// Its place under the pool's limit.
    pub(super) permit: Option<Permit>,
}

impl Session {
    /// Keeps the lease if the client is pinned, and says so to whoever asks; else hands it back.
    pub(super) fn keep_if_pinned(&mut self, lease: Lease) -> Option<Lease> {
        let record = self.client.record();
        let Some(pinned) = &self.pinned else {
            if self.was_pinned {
                self.was_pinned = false;
                record.set_pin(None);
            }
            return Some(lease);
        };
        let features = pinned.holds.names();
        let now = self.pool.shared.clock.now();
        let before = record.pin();
        if before.as_ref().is_none_or(|pin| pin.features != features) {
            let since = before.map_or(now, |pin| pin.since);
            tracing::debug!(client = record.id, server = lease.backend().record.id, ?features, "client is pinned");
            record.set_pin(Some(Pin { features, since, why: pinned.why.into() }));
        }
        self.was_pinned = true;
        self.lease = Some(lease);
        None
    }
}
