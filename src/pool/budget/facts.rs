//! What a PostgreSQL server says of its slots, and how many of them that leaves us: pure.

use std::collections::BTreeMap;

use super::share::{Claim, shares};
use crate::config::SlotBudget;
use crate::net::Micros;

/// What is known of a server. `None`: it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// When it was asked.
    pub at: Micros,
    /// `max_connections`
    pub max_connections: Option<u32>,
    /// `superuser_reserved_connections`
    pub superuser_reserved: Option<u32>,
    /// `reserved_connections`, PostgreSQL 16 and later.
    pub reserved: Option<u32>,
    /// `rds.rds_superuser_reserved_connections`
    pub rds_reserved: Option<u32>,
    /// `max_wal_senders`, which are no slots of ours.
    pub max_wal_senders: Option<u32>,
    /// Whether the slots of `reserved_connections` are there for our roles.
    pub may_use_reserved: bool,
    /// Settings of these that a restart will change.
    pub pending_restart: Vec<String>,
    /// Client connections that are not ours, other pgpools' among them.
    pub others: u32,
    /// Other pgpools in front of the same server.
    pub peers: Vec<Peer>,
    /// `rolconnlimit` of the roles that have one, less the connections of others as this role.
    pub roles: BTreeMap<String, Bound>,
    /// `datconnlimit` of the databases that have one, less the connections of others to it.
    pub databases: BTreeMap<String, Bound>,
}

/// The limit of a role or a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// What PostgreSQL allows.
    pub limit: u32,
    /// What others use of it.
    pub others: u32,
}

impl Bound {
    /// What it leaves us.
    #[must_use]
    pub fn room(self) -> u32 {
        self.limit.saturating_sub(self.others)
    }
}

/// What another pgpool says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Connections that it has, the one included on which it says so.
    pub holds: u32,
    /// Connections that it could use.
    pub wants: u32,
}

/// What the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `slot_budget`
    pub budget: SlotBudget,
    /// `slot_headroom`
    pub headroom: u32,
    /// `max_server_connections`; 0: none.
    pub most: u32,
}

impl Facts {
    /// Slots that are kept from ordinary roles.
    #[must_use]
    pub fn kept(&self) -> u32 {
        let reserved = if self.may_use_reserved { None } else { self.reserved };
        [self.superuser_reserved, reserved, self.rds_reserved].into_iter().flatten().fold(0, u32::saturating_add)
    }

    /// Slots that are there for our roles.
    #[must_use]
    pub fn usable(&self) -> Option<u32> {
        Some(self.max_connections?.saturating_sub(self.kept()))
    }
}

/// How many slots we may hold; `u32::MAX` is no limit, and it is never 0, or nobody would find out that it has changed.
#[must_use]
pub(super) fn limit(rule: &Rule, facts: Option<&Facts>, own: Peer) -> u32 {
    if rule.budget == SlotBudget::Off {
        return u32::MAX;
    }
    let most = if rule.most == 0 { u32::MAX } else { rule.most };
    let known = facts.and_then(|facts| Some((facts, facts.usable()?)));
    let wanted = match (rule.budget, known) {
        (SlotBudget::Count(count), None) => count,
        (_, None) => u32::MAX,
        (SlotBudget::Count(count), Some((facts, usable))) => count.min(usable.saturating_sub(facts.others)),
        (SlotBudget::Percent(percent), Some((facts, usable))) => {
            let part = u64::from(usable) * u64::from(percent) / 100;
            u32::try_from(part).unwrap_or(u32::MAX).min(usable.saturating_sub(facts.others))
        }
        (SlotBudget::Auto | SlotBudget::Off, Some((facts, usable))) => fair(usable, rule.headroom, facts, own),
    };
    wanted.min(most).max(1)
}

/// Our part of what strangers leave to us and to the other pgpools. All of them come to the same shares by the same sum.
fn fair(usable: u32, headroom: u32, facts: &Facts, own: Peer) -> u32 {
    let peers = facts.peers.iter().fold(0u32, |sum, peer| sum.saturating_add(peer.holds));
    let strangers = facts.others.saturating_sub(peers);
    let pot = usable.saturating_sub(headroom).saturating_sub(strangers);
    let claim = |peer: &Peer| Claim { min: 0, demand: peer.wants.max(1), held: peer.holds, oldest: None };
    let claims: Vec<Claim> = std::iter::once(&own).chain(&facts.peers).map(claim).collect();
    let shares = shares(pot, &claims);
    let given = shares.iter().fold(0u32, |sum, share| sum.saturating_add(*share));
    let count = u32::try_from(claims.len()).unwrap_or(u32::MAX).max(1);
    // What nobody wants is anybody's, in equal parts, so that the sum holds when all take it at once.
    shares.first().copied().unwrap_or(0).saturating_add(pot.saturating_sub(given) / count)
}

/// How another pgpool sees us, in `application_name` of the connection that the budget is asked on.
pub(super) fn beacon(id: u64, own: Peer) -> String {
    format!("{BEACON}{id:016x} holds {} wants {}", own.holds, own.wants)
}

/// Begins the name of every connection of a budget.
pub(super) const BEACON: &str = "pgpool budget ";

/// Reads what [`beacon`] wrote: who, and what he says.
pub(super) fn peer(name: &str) -> Option<(u64, Peer)> {
    let mut words = name.strip_prefix(BEACON)?.split(' ');
    let id = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut count = |word| words.next().filter(|found| *found == word).and_then(|_| words.next()?.parse().ok());
    Some((id, Peer { holds: count("holds")?, wants: count("wants")? }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(max: u32, others: u32, peers: &[(u32, u32)]) -> Facts {
        Facts {
            max_connections: Some(max),
            superuser_reserved: Some(3),
            others,
            peers: peers.iter().map(|&(holds, wants)| Peer { holds, wants }).collect(),
            ..Facts::default()
        }
    }

    fn auto() -> Rule {
        Rule { headroom: 3, ..Rule::default() }
    }

    fn own(holds: u32, wants: u32) -> Peer {
        Peer { holds, wants }
    }

    #[test]
    fn what_is_there_less_what_others_have() {
        let all = [
            (auto(), Some(facts(20, 0, &[])), 14),
            (auto(), Some(facts(20, 5, &[])), 9),
            (auto(), Some(facts(20, 17, &[])), 1),
            (auto(), Some(Facts { reserved: Some(2), ..facts(20, 0, &[]) }), 12),
            (auto(), Some(Facts { reserved: Some(2), may_use_reserved: true, ..facts(20, 0, &[]) }), 14),
            (auto(), Some(Facts { rds_reserved: Some(2), ..facts(20, 0, &[]) }), 12),
            (auto(), Some(Facts { max_connections: None, ..facts(20, 5, &[]) }), u32::MAX),
            (auto(), None, u32::MAX),
            (Rule { most: 8, ..auto() }, None, 8),
            (Rule { most: 8, ..auto() }, Some(facts(20, 0, &[])), 8),
            (Rule { budget: SlotBudget::Count(50), ..auto() }, Some(facts(20, 5, &[])), 12),
            (Rule { budget: SlotBudget::Count(10), ..auto() }, Some(facts(20, 5, &[])), 10),
            (Rule { budget: SlotBudget::Count(10), ..auto() }, None, 10),
            (Rule { budget: SlotBudget::Percent(50), ..auto() }, Some(facts(103, 5, &[])), 50),
            (Rule { budget: SlotBudget::Off, most: 8, ..auto() }, Some(facts(20, 5, &[])), u32::MAX),
        ];
        for (rule, facts, wanted) in all {
            assert_eq!(limit(&rule, facts.as_ref(), own(0, 100)), wanted, "{rule:?} {facts:?}");
        }
    }

    #[test]
    fn pgpools_share_what_strangers_leave() {
        // 103 slots: 3 reserved, 3 headroom, 7 strangers: 90 for three pgpools.
        let peers = [(40, 200), (30, 200)];
        assert_eq!(limit(&auto(), Some(&facts(103, 77, &peers)), own(20, 200)), 30);
        assert_eq!(limit(&auto(), Some(&facts(103, 77, &[(40, 10), (30, 200)])), own(20, 200)), 40);
        // One who wants little has still room to grow.
        assert_eq!(limit(&auto(), Some(&facts(103, 77, &[(40, 10), (30, 10)])), own(20, 10)), 30);
        assert_eq!(limit(&auto(), Some(&facts(20, 14, &[(14, 100)])), own(0, 1)), 1);
    }

    #[test]
    fn beacons_are_understood_and_nothing_else() {
        let name = beacon(0xfeed, own(7, 12));
        assert!(name.len() < 64 && beacon(u64::MAX, own(99_999, 99_999)).len() < 64);
        assert_eq!(peer(&name), Some((0xfeed, own(7, 12))));
        for wrong in
            ["", "psql", "pgpool budget ", "pgpool budget 1 holds x wants 2", "pgpool budget zz holds 1 wants 2"]
        {
            assert_eq!(peer(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_sum_of_all_pgpools_never_exceeds_the_pot(max in 20u32..300, strangers in 0u32..40,
                                                        all in proptest::collection::vec((0u32..40, 1u32..300), 1..5)) {
            let pot = max.saturating_sub(6).saturating_sub(strangers);
            prop_assume!(pot as usize >= all.len());
            let mut sum = 0;
            for index in 0..all.len() {
                let mut peers = all.clone();
                let (holds, wants) = peers.remove(index);
                let others = strangers + peers.iter().map(|(holds, _)| holds).sum::<u32>();
                sum += limit(&auto(), Some(&facts(max, others, &peers)), own(holds, wants));
            }
            // Each of them rounds the odd ones its own way.
            prop_assert!(sum <= pot + u32::try_from(all.len()).unwrap(), "{sum} of {pot}");
        }
    }
}
