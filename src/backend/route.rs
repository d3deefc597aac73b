//! Where the next backend is opened, of several hosts and of several addresses of one: in turn or always the same, and
//! last of all where it did not work a moment ago.
//!
//! Knows no socket: what happened is told to it. What it remembers of a failure ends by itself, so that every host gets
//! its chance again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::said::Said;
use crate::config::{LoadBalance, SessionAttrs};
use crate::net::{Endpoint, Micros, Target};

/// What is known against a host or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Against {
    /// It is not what `target_session_attrs` wants.
    Misfit,
    /// No connection, or no login.
    Failed,
}

/// The hosts of one pool, with what happened at them.
#[derive(Debug)]
pub struct Route {
    targets: Box<[Target]>,
    balance: LoadBalance,
    /// What a host has to be.
    pub wanted: SessionAttrs,
    /// What the server of its connections last said of itself.
    pub said: Said,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Counts what was asked, for taking turns; with `disable` the host in use.
    turn: usize,
    hosts: HashMap<usize, Mark>,
    addresses: HashMap<Endpoint, Mark>,
    /// What has to be looked at next.
    doubted: Option<(usize, Endpoint)>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    against: Against,
    until: Micros,
}

impl Mark {
    fn at(self, now: Micros) -> Option<Against> {
        (now < self.until).then_some(self.against)
    }
}

impl Route {
    /// The way to these hosts, at least one.
    #[must_use]
    pub fn new(targets: Vec<Target>, balance: LoadBalance, wanted: SessionAttrs) -> Route {
        Route { targets: targets.into(), balance, wanted, said: Said::default(), seen: Mutex::default() }
    }

    /// All hosts, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The same way to one of its hosts alone, whatever that is.
    #[must_use]
    pub fn only(&self, target: &Target) -> Route {
        Route::new(vec![target.clone()], LoadBalance::Disable, SessionAttrs::Any)
    }

    /// Which host is tried first next, by its index.
    #[must_use]
    pub fn likely(&self, now: Micros) -> usize {
        let turn = self.seen().turn;
        let order = self.order(now);
        self.seen().turn = turn;
        order.first().map_or(0, |(index, _)| *index)
    }

    /// In which order to try the hosts now, by their index, with what is known against them.
    pub(super) fn order(&self, now: Micros) -> Vec<(usize, Option<Against>)> {
        let mut seen = self.seen();
        let all = (0..self.targets.len()).map(|index| (index, seen.hosts.get(&index).and_then(|mark| mark.at(now))));
        let (mut good, mut bad): (Vec<_>, Vec<_>) = all.partition(|(_, against)| against.is_none());
        match self.balance {
            LoadBalance::RoundRobin => {
                turn(&mut good, seen.turn);
                turn(&mut bad, seen.turn);
                seen.turn = seen.turn.wrapping_add(1);
            }
            LoadBalance::Disable => {
                let from = seen.turn;
                let rest = |&(index, _): &(usize, _)| index < from;
                good.sort_by_key(rest);
                bad.sort_by_key(rest);
            }
        }
        bad.sort_by_key(|(_, against)| *against);
        good.append(&mut bad);
        if let Some((host, _)) = seen.doubted {
            good.sort_by_key(|(index, _)| *index != host);
        }
        good
    }

    /// In which order to try the addresses of a host: those of the family that the resolver prefers take turns.
    pub(super) fn arrange(&self, addresses: Vec<Endpoint>, now: Micros) -> Vec<(Endpoint, Option<Against>)> {
        let seen = self.seen();
        let preferred = addresses.first().is_some_and(is_ipv4);
        let (mut first, mut other): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| is_ipv4(address) == preferred);
        if self.balance == LoadBalance::RoundRobin {
            // One turn of the hosts is one of the addresses: the count is one ahead.
            let rounds = seen.turn.wrapping_sub(1).checked_div(self.targets.len()).unwrap_or(0);
            turn(&mut first, rounds);
        }
        first.append(&mut other);
        let mut all = Vec::with_capacity(first.len());
        for address in first {
            let against = seen.addresses.get(&address).and_then(|mark| mark.at(now));
            all.push((address, against));
        }
        all.sort_by_key(|(_, against)| *against);
        if let Some((_, doubted)) = &seen.doubted {
            all.sort_by_key(|(address, _)| address != doubted);
        }
        all
    }

    /// A backend was opened there.
    pub(super) fn went_well(&self, host: usize, address: &Endpoint) {
        let mut seen = self.seen();
        seen.hosts.remove(&host);
        seen.addresses.remove(address);
        if self.balance == LoadBalance::Disable {
            seen.turn = host;
        }
    }

    /// It did not work with this host, which comes last until then; says whether that is news.
    pub(super) fn went_wrong(&self, host: usize, against: Against, until: Micros) -> bool {
        self.seen().hosts.insert(host, Mark { against, until }).is_none_or(|before| before.against != against)
    }

    /// It did not work with this address of a host.
    pub(super) fn went_wrong_at(&self, address: &Endpoint, against: Against, now: Micros, until: Micros) {
        let mut seen = self.seen();
        seen.addresses.retain(|_, mark| mark.at(now).is_some());
        seen.addresses.insert(address.clone(), Mark { against, until });
    }

    /// Somebody has reason to think that the host behind this address is not any more what it has to be. The next
    /// connection goes there and finds out.
    pub fn doubt(&self, target: &Target, address: &Endpoint) {
        let host = self.targets.iter().position(|known| known == target);
        self.seen().doubted = host.map(|host| (host, address.clone()));
    }

    /// The server at this address was found not to be what it has to be, and comes after the others for `rest`.
    pub fn misfit(&self, address: &Endpoint, now: Micros, rest: Duration) {
        let until = now.saturating_add(Micros::try_from(rest.as_micros()).unwrap_or(Micros::MAX));
        self.went_wrong_at(address, Against::Misfit, now, until);
    }

    /// A look at the doubted host has begun.
    pub(super) fn looked(&self) {
        self.seen().doubted = None;
    }

    /// Addresses that were not what they have to be when they were last looked at; backends there should go.
    #[must_use]
    pub fn misfits(&self, now: Micros) -> Vec<Endpoint> {
        if matches!(self.wanted, SessionAttrs::Any | SessionAttrs::PreferStandby) {
            return Vec::new();
        }
        let seen = self.seen();
        let misfits = seen.addresses.iter().filter(|(_, mark)| mark.at(now) == Some(Against::Misfit));
        misfits.map(|(address, _)| address.clone()).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, target) in self.targets.iter().enumerate() {
            write!(f, "{}{target}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

fn is_ipv4(address: &Endpoint) -> bool {
    matches!(address, Endpoint::Tcp(address) if address.is_ipv4())
}

fn turn<T>(list: &mut [T], count: usize) {
    let by = count.checked_rem(list.len()).unwrap_or(0);
    list.rotate_left(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: usize, balance: LoadBalance) -> Route {
        let target = |index: usize| Target::Tcp { host: format!("h{index}"), port: 5432 };
        Route::new((0..hosts).map(target).collect(), balance, SessionAttrs::Primary)
    }

    fn address(text: &str) -> Endpoint {
        Endpoint::Tcp(text.parse().unwrap())
    }

    fn order(route: &Route, now: Micros) -> Vec<usize> {
        route.order(now).into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn hosts_take_turns_and_one_that_failed_comes_last() {
        let route = route(3, LoadBalance::RoundRobin);
        assert_eq!([order(&route, 0), order(&route, 0), order(&route, 0)], [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
        assert!(route.went_wrong(1, Against::Failed, 100), "news");
        assert!(!route.went_wrong(1, Against::Failed, 100), "no news");
        let mut firsts = [0; 3];
        for _ in 0..100 {
            let order = route.order(99);
            assert_eq!(order[2], (1, Some(Against::Failed)));
            firsts[order[0].0] += 1;
        }
        assert_eq!(firsts, [50, 0, 50], "the others share its part");
        assert!(route.order(100).iter().all(|(_, against)| against.is_none()));
        route.went_wrong(2, Against::Failed, 1000);
        route.went_well(2, &address("127.0.0.1:2"));
        assert!(route.order(100).iter().all(|(_, against)| against.is_none()));
    }

    #[test]
    fn one_host_is_kept_until_it_fails() {
        let route = route(3, LoadBalance::Disable);
        assert_eq!([order(&route, 0), order(&route, 0)], [[0, 1, 2], [0, 1, 2]]);
        route.went_wrong(0, Against::Failed, 100);
        route.went_well(1, &address("127.0.0.1:1"));
        assert_eq!(order(&route, 99), [1, 2, 0]);
        assert_eq!(order(&route, 100), [1, 2, 0], "it does not go back by itself");
        route.went_wrong(1, Against::Failed, 200);
        assert_eq!(order(&route, 100), [2, 0, 1], "the next one in the list");
    }

    #[test]
    fn addresses_of_the_preferred_family_take_turns() {
        let addresses: Vec<Endpoint> = ["[::1]:1", "127.0.0.1:1", "[::2]:1"].map(address).to_vec();
        let arranged = |route: &Route| -> Vec<usize> {
            route.order(0);
            let all = route.arrange(addresses.clone(), 0);
            all.iter().map(|(address, _)| addresses.iter().position(|other| other == address).unwrap()).collect()
        };
        let route = route(1, LoadBalance::RoundRobin);
        assert_eq!([arranged(&route), arranged(&route), arranged(&route)], [[0, 2, 1], [2, 0, 1], [0, 2, 1]]);
        route.went_wrong_at(&addresses[0], Against::Failed, 0, 100);
        assert_eq!([arranged(&route), arranged(&route)], [[2, 1, 0], [2, 1, 0]]);
    }

    #[test]
    fn what_is_doubted_is_looked_at_next_and_misfits_go_before_failures() {
        let route = route(3, LoadBalance::Disable);
        route.went_wrong(0, Against::Failed, 100);
        route.went_wrong(1, Against::Misfit, 100);
        assert_eq!(order(&route, 0), [2, 1, 0]);
        let (there, elsewhere) = (address("127.0.0.1:1"), address("127.0.0.2:1"));
        route.doubt(&route.targets()[0], &there);
        assert_eq!(order(&route, 0), [0, 2, 1]);
        assert_eq!(route.arrange(vec![elsewhere.clone(), there.clone()], 0)[0].0, there);
        route.looked();
        assert_eq!(order(&route, 0), [2, 1, 0]);
        route.went_wrong_at(&there, Against::Misfit, 0, 100);
        route.went_wrong_at(&elsewhere, Against::Failed, 0, 100);
        assert_eq!((route.misfits(99), route.misfits(100)), (vec![there.clone()], vec![]));
        route.went_well(0, &there);
        assert_eq!(route.misfits(99), []);
    }
}
