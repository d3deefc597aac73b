//! Backends that are at the wrong place: on a host that is not any more what it has to be, or at an address that its name
//! does not have any more. They are closed, idle ones at once and others as they come back; nobody is interrupted.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::settings::{lifetimes, micros};
use super::{Pool, Pools, Shared};
use crate::backend::{BackendRecord, Closing};
use crate::config::{Host, SessionAttrs};
use crate::net::{Micros, Target};
use crate::wire::startup::Replication;

/// How long after a doubt about a host another one counts nothing, microseconds.
const DOUBT: Micros = 1_000_000;

/// Shortest time between two looks for a standby.
const SHORTEST_SEEK: Duration = Duration::from_secs(1);

/// Whether a backend may go for a better one. What a client replicates by does not.
fn is_replaceable(record: &BackendRecord) -> bool {
    record.is_spare() && record.replication == Replication::None
}

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

    /// The server of this backend was found to be no longer what it has to be: others that are connected there go, too,
    /// and the next connections try it last.
    pub(super) fn moved_away(&self, record: &BackendRecord) {
        if record.closing() == Closing::Misfit {
            let settings = self.settings.load();
            settings.spec.route.misfit(&record.endpoint, self.shared.clock.now(), settings.login_retry);
            self.drain_misfits();
        }
    }

    /// Where a standby is preferred and there are connections to a server that is none: has a new one opened that looks for
    /// a standby, once in `server_login_retry`. Where the pool is full, one of them makes room.
    pub(super) fn seek_standby(&self, now: Micros) {
        let settings = self.settings.load();
        if settings.spec.route.wanted != SessionAttrs::PreferStandby || now < self.next_seek.load(Relaxed) {
            return;
        }
        let spares: Vec<_> = self.backends().into_iter().filter(|record| is_replaceable(record)).collect();
        let Some(spare) = spares.first() else { return };
        self.seek_again(now);
        let full = settings.size > 0 && self.size.used() >= settings.size;
        if full
            && spares.iter().all(|record| !record.close_needed())
            && self.evict_oldest(Closing::Misfit, &is_replaceable) == 0
        {
            spare.close_because(Closing::Misfit);
            spare.need_close();
        }
        self.doubted.store(true, Relaxed);
        self.nudge();
    }

    /// A look for a standby is over: what failed at it may be tried again when the next one begins.
    pub(super) fn seek_again(&self, now: Micros) {
        let pause = self.settings.load().login_retry.max(SHORTEST_SEEK);
        self.next_seek.store(now.saturating_add(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX)), Relaxed);
    }

    /// There is a standby again: closes what has gone elsewhere for want of one, in the same way as misfits.
    pub(super) fn drain_spares(&self) {
        self.drain(Closing::Misfit, is_replaceable);
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
    /// has those connections replaced whose addresses are gone. Forgets the names that nothing has to do with any more.
    ///
    /// Cancel safety: safe; the next call goes on.
    pub async fn follow_names(&self) {
        let lifetimes = lifetimes(&self.config.load().general);
        if lifetimes.found > 0 {
            let mut hosts = BTreeSet::new();
            for pool in self.all().iter().filter(|pool| pool.counts().total > 0) {
                let settings = pool.settings.load();
                hosts.extend(settings.spec.route.targets().iter().filter_map(name).cloned());
            }
            self.shared.names.refresh(&hosts, lifetimes, self.shared.clock.now()).await;
        }
        self.shared.names.forget(&self.unused_names(), lifetimes, self.shared.clock.now());
        self.replace_lost();
    }

    /// Asks about the zones of the host names, where the last time is `dns_zone_check_period` ago; looks up again what is in
    /// zones with another serial, and has connections to addresses that are gone replaced.
    ///
    /// Cancel safety: safe; the next call goes on.
    pub async fn follow_zones(&self) {
        let period = micros(self.config.load().general.dns_zone_check_period);
        let Shared { names, zones, clock, .. } = &*self.shared;
        if period == 0 {
            zones.forget();
            return;
        }
        zones.check(names, period, clock.now()).await;
        self.replace_lost();
    }

    /// The names in `Names` that are in no entry, and that no pool and no connection leads to.
    fn unused_names(&self) -> BTreeSet<String> {
        let mut names = self.shared.names.hosts();
        let config = self.config.load();
        let entries = config.databases.values().chain(&config.fallback).flat_map(|entry| &entry.host);
        for host in entries.chain(config.peers.values().filter_map(|peer| peer.host.as_ref())) {
            if let Host::Name(host) = host {
                names.remove(host);
            }
        }
        if names.is_empty() {
            return names;
        }
        let mut keep = |target: &Target| {
            if let Some(name) = name(target) {
                names.remove(name);
            }
        };
        for pool in self.all() {
            pool.settings.load().spec.route.targets().iter().for_each(&mut keep);
            pool.backends().iter().for_each(|record| keep(&record.target));
        }
        self.lookups.backends().iter().for_each(|record| keep(&record.target));
        names
    }

    /// Has the connections replaced that are to addresses which their names have lost.
    fn replace_lost(&self) {
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

/// The host's name, or its address.
fn name(target: &Target) -> Option<&String> {
    match target {
        Target::Tcp { host, .. } => Some(host),
        Target::Unix { .. } => None,
    }
}
