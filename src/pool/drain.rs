//! Backends that are at the wrong place: on a host that is not any more what it has to be, or at an address that its name
//! does not have any more. They are closed, idle ones at once and others as they come back; nobody is interrupted.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use super::settings::lifetimes;
use super::{Pool, Pools};
use crate::backend::{BackendRecord, Closing};
use crate::config::SessionAttrs;
use crate::net::{Micros, Target};

/// How long after a doubt about a host another one counts nothing, microseconds.
const DOUBT: Micros = 1_000_000;

impl Pool {
    /// A backend has refused to write. That may be its client's wish, or its host is not what it was: where a host has to
    /// take writes, this backend goes, and a new connection looks.
    #[cold]
    pub fn doubt(&self, record: &BackendRecord) {
        let settings = self.settings.load();
        let route = &settings.spec.route;
        let now = self.shared.clock.now();
        let writes = matches!(route.wanted, SessionAttrs::ReadWrite | SessionAttrs::Primary);
        if !writes || now < self.next_doubt.load(Relaxed) {
            return;
        }
        self.next_doubt.store(now.saturating_add(DOUBT), Relaxed);
        record.close_because(Closing::Misfit);
        record.need_close();
        route.doubt(&record.target, &record.endpoint);
        self.doubted.store(true, Relaxed);
        self.nudge();
    }

    /// Closes what is connected to servers that are not what they have to be: idle backends now, others as they come
    /// back.
    pub(super) fn drain_misfits(&self) {
        let misfits = self.settings.load().spec.route.misfits(self.shared.clock.now());
        self.drain(Closing::Misfit, |record| misfits.contains(&record.endpoint));
    }

    /// Closes what is connected to addresses that their names do not have any more, in the same way.
    fn drain_vanished(&self) {
        let names = &self.shared.names;
        self.drain(Closing::AddressGone, |record| names.has_left(&record.target, &record.endpoint));
    }

    /// Closes the idle backends that `which` chooses now, and the others as they come back.
    fn drain(&self, why: Closing, which: impl Fn(&BackendRecord) -> bool) {
        let mut count = 0;
        for record in self.backends() {
            if which(&record) && !record.close_needed() {
                record.close_because(why);
                record.need_close();
                count += 1;
            }
        }
        if count > 0 {
            tracing::warn!(database = %self.key.database, user = %self.key.user, count, why = why.as_str(), "connections are replaced");
            self.close_idle(why, |held| held.backend.record.close_needed());
        }
    }
}

impl Pools {
    /// Asks again for the addresses of the hosts that there are connections to, where they are older than `dns_max_ttl`, and
    /// has those connections replaced whose addresses are gone.
    ///
    /// Cancel safety: safe; the next call goes on.
    pub async fn follow_names(&self) {
        let lifetimes = lifetimes(&self.config.load().general);
        if lifetimes.found > 0 {
            let mut hosts = BTreeSet::new();
            for pool in self.all() {
                if pool.counts().total > 0 {
                    let settings = pool.settings.load();
                    hosts.extend(settings.spec.route.targets().iter().filter_map(|target| match target {
                        Target::Tcp { host, .. } => Some(host.clone()),
                        Target::Unix { .. } => None,
                    }));
                }
            }
            self.shared.names.refresh(hosts, lifetimes, self.shared.clock.now()).await;
        }
        if self.shared.names.lost_addresses() {
            for pool in self.all() {
                pool.drain_vanished();
            }
            for record in self.lookups.backends() {
                if self.shared.names.has_left(&record.target, &record.endpoint) {
                    record.close_because(Closing::AddressGone);
                    record.need_close();
                }
            }
            self.lookups.look();
            self.listeners.look();
        }
    }
}
