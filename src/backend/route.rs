//! Where the next backend is opened, of several hosts and of several addresses of one: in turn or always the same, and
//! last of all where it did not work a moment ago.
//!
//! Knows no socket: what happened is told to it. What it remembers of a failure ends by itself, so that every host gets
//! its chance again.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::LoadBalance;
use crate::net::{Micros, Target};

/// What is known against a host or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Against {
    /// No connection, or no login.
    Failed,
}

/// The hosts of one pool, with what happened at them.
#[derive(Debug)]
pub struct Route {
    targets: Box<[Target]>,
    balance: LoadBalance,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Counts what was asked, for taking turns; with `disable` the host in use.
    turn: usize,
    hosts: HashMap<usize, Mark>,
    addresses: HashMap<SocketAddr, Mark>,
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
    pub fn new(targets: Vec<Target>, balance: LoadBalance) -> Route {
        Route { targets: targets.into(), balance, seen: Mutex::default() }
    }

    /// All hosts, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
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
        good
    }

    /// In which order to try the addresses of a host: those of the family that the resolver prefers take turns.
    pub(super) fn arrange(&self, addresses: Vec<SocketAddr>, now: Micros) -> Vec<(SocketAddr, Option<Against>)> {
        let seen = self.seen();
        let preferred = addresses.first().is_some_and(SocketAddr::is_ipv4);
        let (mut first, mut other): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.is_ipv4() == preferred);
        if self.balance == LoadBalance::RoundRobin {
            // One turn of the hosts is one of the addresses: the count is one ahead.
            let rounds = seen.turn.wrapping_sub(1).checked_div(self.targets.len()).unwrap_or(0);
            turn(&mut first, rounds);
        }
        first.append(&mut other);
        let against = |address| (address, seen.addresses.get(&address).and_then(|mark| mark.at(now)));
        let mut all: Vec<_> = first.into_iter().map(against).collect();
        all.sort_by_key(|(_, against)| *against);
        all
    }

    /// A backend was opened there.
    pub(super) fn went_well(&self, host: usize, address: Option<SocketAddr>) {
        let mut seen = self.seen();
        seen.hosts.remove(&host);
        if let Some(address) = address {
            seen.addresses.remove(&address);
        }
        if self.balance == LoadBalance::Disable {
            seen.turn = host;
        }
    }

    /// It did not work with this host, which comes last until then; says whether that is news.
    pub(super) fn went_wrong(&self, host: usize, against: Against, until: Micros) -> bool {
        self.seen().hosts.insert(host, Mark { against, until }).is_none_or(|before| before.against != against)
    }

    /// It did not work with this address of a host.
    pub(super) fn went_wrong_at(&self, address: SocketAddr, against: Against, now: Micros, until: Micros) {
        let mut seen = self.seen();
        seen.addresses.retain(|_, mark| mark.at(now).is_some());
        seen.addresses.insert(address, Mark { against, until });
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

fn turn<T>(list: &mut [T], count: usize) {
    let by = count.checked_rem(list.len()).unwrap_or(0);
    list.rotate_left(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(hosts: usize, balance: LoadBalance) -> Route {
        let target = |index: usize| Target::Tcp { host: format!("h{index}"), port: 5432 };
        Route::new((0..hosts).map(target).collect(), balance)
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
        route.went_well(2, None);
        assert!(route.order(100).iter().all(|(_, against)| against.is_none()));
    }

    #[test]
    fn one_host_is_kept_until_it_fails() {
        let route = route(3, LoadBalance::Disable);
        assert_eq!([order(&route, 0), order(&route, 0)], [[0, 1, 2], [0, 1, 2]]);
        route.went_wrong(0, Against::Failed, 100);
        route.went_well(1, None);
        assert_eq!(order(&route, 99), [1, 2, 0]);
        assert_eq!(order(&route, 100), [1, 2, 0], "it does not go back by itself");
        route.went_wrong(1, Against::Failed, 200);
        assert_eq!(order(&route, 100), [2, 0, 1], "the next one in the list");
    }

    #[test]
    fn addresses_of_the_preferred_family_take_turns() {
        let addresses: Vec<SocketAddr> =
            ["[::1]:1", "127.0.0.1:1", "[::2]:1"].map(|address| address.parse().unwrap()).to_vec();
        let arranged = |route: &Route| -> Vec<usize> {
            route.order(0);
            let all = route.arrange(addresses.clone(), 0);
            all.iter().map(|(address, _)| addresses.iter().position(|other| other == address).unwrap()).collect()
        };
        let route = route(1, LoadBalance::RoundRobin);
        assert_eq!([arranged(&route), arranged(&route), arranged(&route)], [[0, 2, 1], [2, 0, 1], [0, 2, 1]]);
        route.went_wrong_at(addresses[0], Against::Failed, 0, 100);
        assert_eq!([arranged(&route), arranged(&route)], [[2, 1, 0], [2, 1, 0]]);
    }
}
