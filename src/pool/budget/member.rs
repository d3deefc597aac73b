//! The pools that share a server, and the limits of roles and databases that some of them share besides: pure.

use std::collections::BTreeMap;

use super::share::{Claim, shares};
use crate::pool::{Pool, PoolKey, PoolSettings};

/// A pool that shares a server.
pub(super) struct Member {
    pub(super) index: usize,
    pub(super) key: PoolKey,
    pub(super) role: String,
    pub(super) database: String,
    pub(super) claim: Claim,
}

impl Member {
    pub(super) fn new(pool: &Pool, settings: &PoolSettings, claim: Claim) -> Member {
        let (role, database) = (settings.spec.user.clone(), settings.spec.dbname.clone());
        Member { index: 0, key: pool.key.clone(), role, database, claim }
    }
}

/// Pools that share the limit of a role or a database.
pub(super) struct Bounded {
    pub(super) members: Vec<usize>,
    room: u32,
    pub(super) is_full: bool,
}

/// The limits of those that have one, by what `name` says of a member.
pub(super) fn bounded(
    all: &[Member],
    name: impl Fn(&Member) -> &String,
    room: impl Fn(&str) -> Option<(u32, u32)>,
) -> Vec<Bounded> {
    let mut groups: BTreeMap<&String, Vec<&Member>> = BTreeMap::new();
    for member in all {
        groups.entry(name(member)).or_default().push(member);
    }
    let groups = groups.into_iter().filter_map(|(name, members)| {
        let (room, used) = room(name)?;
        let room = room.max(1);
        // What the pooler has there for itself.
        let extra = used.saturating_sub(sum(members.iter().map(|member| member.claim.held)));
        let members = members.iter().map(|member| member.index).collect();
        Some(Bounded { members, room: room.saturating_sub(extra), is_full: used >= room })
    });
    groups.collect()
}

/// Cuts claims down to what the limits allow, shared fairly.
pub(super) fn narrow(all: &mut [Member], bounds: &[Bounded]) {
    for bound in bounds {
        let claims: Vec<Claim> =
            bound.members.iter().filter_map(|index| all.get(*index)).map(|member| member.claim).collect();
        for (index, share) in bound.members.iter().zip(shares(bound.room, &claims)) {
            if let Some(member) = all.get_mut(*index) {
                member.claim.demand = member.claim.demand.max(member.claim.min).min(share);
                member.claim.min = member.claim.min.min(share);
            }
        }
    }
}

pub(super) fn sum(counts: impl Iterator<Item = u32>) -> u32 {
    counts.fold(0, u32::saturating_add)
}
