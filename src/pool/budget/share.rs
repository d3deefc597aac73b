//! Sharing slots: max-min fairness with a guaranteed minimum, as one pure function.
//!
//! Nobody gets more than he can use, and nobody gets more while somebody who could use it has less. Before that each one
//! who has work gets one slot, and `min_pool_size` is kept. Where there are fewer slots than pools with work, those are
//! served whose clients have waited longest; whoever has just been served looks a little more patient to the others
//! than he is, so that slots do not change hands at every look.

use crate::net::Micros;

/// How much longer than a holder's clients those of another pool must have waited to get his only slot, microseconds.
const QUANTUM: Micros = 200_000;

/// What one pool asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// `min_pool_size`.
    pub(super) min: u32,
    /// How many it can use now, its minimum included or not.
    pub(super) demand: u32,
    /// How many it has.
    pub(super) held: u32,
    /// Since when its first client waits.
    pub(super) oldest: Option<Micros>,
}

impl Claim {
    fn since(&self) -> Micros {
        let lead = if self.held > 0 { QUANTUM } else { 0 };
        self.oldest.map_or(Micros::MAX, |since| since.saturating_sub(lead))
    }
}

/// How many of `limit` slots each pool may have. The sum is never over `limit`.
pub(super) fn shares(limit: u32, claims: &[Claim]) -> Vec<u32> {
    let floor: Vec<u32> = claims.iter().map(|claim| u32::from(claim.demand > 0)).collect();
    if sum(&floor) > u64::from(limit) {
        let mut order: Vec<usize> = (0..claims.len()).filter(|&index| floor.get(index) == Some(&1)).collect();
        order.sort_by_key(|&index| claims.get(index).map(Claim::since));
        let mut shares = vec![0; claims.len()];
        for index in order.into_iter().take(limit as usize) {
            if let Some(share) = shares.get_mut(index) {
                *share = 1;
            }
        }
        return shares;
    }
    let min: Vec<u32> = claims.iter().zip(&floor).map(|(claim, floor)| claim.min.max(*floor)).collect();
    let full: Vec<u32> = claims.iter().zip(&min).map(|(claim, min)| claim.demand.max(*min)).collect();
    if sum(&min) > u64::from(limit) { level(limit, &floor, &min, claims) } else { level(limit, &min, &full, claims) }
}

/// The highest common level under `limit`, where each one has at least `low` and at most `high` of his own; what is left
/// of it below the next level goes, one each, to those who have the most, so that least has to move.
fn level(limit: u32, low: &[u32], high: &[u32], claims: &[Claim]) -> Vec<u32> {
    let at = |level: u32| -> Vec<u32> {
        low.iter().zip(high).map(|(low, high)| level.clamp(*low, (*high).max(*low))).collect()
    };
    let (mut fits, mut over) = (0, limit.saturating_add(1));
    while over - fits > 1 {
        let middle = fits + (over - fits) / 2;
        if sum(&at(middle)) <= u64::from(limit) { fits = middle } else { over = middle }
    }
    let mut shares = at(fits);
    let mut left = u64::from(limit).saturating_sub(sum(&shares));
    let mut order: Vec<(usize, &Claim)> = claims.iter().enumerate().collect();
    order.sort_by_key(|(_, claim)| (std::cmp::Reverse(claim.held), claim.since()));
    for (index, _) in order {
        let most = high.get(index).copied().unwrap_or(0);
        if let Some(share) = shares.get_mut(index).filter(|share| left > 0 && **share == fits && **share < most) {
            *share += 1;
            left -= 1;
        }
    }
    shares
}

fn sum(counts: &[u32]) -> u64 {
    counts.iter().map(|&count| u64::from(count)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(demand: u32, min: u32, held: u32) -> Claim {
        Claim { min, demand, held, oldest: (demand > held).then_some(1_000_000) }
    }

    #[test]
    fn the_modest_get_what_they_ask_and_the_others_the_same() {
        let claims = [claim(1, 0, 0), claim(100, 0, 9), claim(3, 0, 3), claim(100, 0, 0)];
        assert_eq!(shares(12, &claims), [1, 4, 3, 4]);
        assert_eq!(shares(13, &claims), [1, 5, 3, 4], "the odd one stays where it is");
        assert_eq!(shares(1000, &claims), [1, 100, 3, 100]);
        assert_eq!(shares(0, &claims), [0; 4]);
        assert_eq!(shares(5, &[]), [0; 0]);
    }

    #[test]
    fn minimums_are_kept_after_everybody_has_one() {
        assert_eq!(shares(10, &[claim(0, 6, 6), claim(50, 0, 0)]), [6, 4]);
        assert_eq!(shares(10, &[claim(0, 20, 10), claim(50, 0, 0)]), [9, 1]);
        assert_eq!(shares(10, &[claim(0, 20, 5), claim(0, 20, 5), claim(9, 0, 0)]), [5, 4, 1]);
    }

    #[test]
    fn fewer_slots_than_pools_go_round() {
        let waiting = |oldest, held| Claim { min: 0, demand: 9, held, oldest: Some(oldest) };
        let claims = [waiting(500_000, 1), waiting(400_000, 0), waiting(450_000, 0)];
        assert_eq!(shares(1, &claims), [1, 0, 0], "not for so little");
        let claims = [waiting(700_000, 1), waiting(400_000, 0), waiting(450_000, 0)];
        assert_eq!(shares(1, &claims), [0, 1, 0]);
        assert_eq!(shares(2, &claims), [0, 1, 1]);
        let busy = Claim { min: 0, demand: 1, held: 1, oldest: None };
        assert_eq!(shares(1, &[busy, waiting(1, 0)]), [0, 1]);
    }

    prop_compose! {
        fn any_claim()(min in 0u32..8, demand in 0u32..60, held in 0u32..30, oldest in proptest::option::of(1u64..5_000_000))
            -> Claim { Claim { min, demand, held, oldest } }
    }

    proptest! {
        #[test]
        fn shares_are_fair(limit in 0u32..80, claims in proptest::collection::vec(any_claim(), 0..20)) {
            let shares = shares(limit, &claims);
            prop_assert_eq!(shares.len(), claims.len());
            prop_assert!(sum(&shares) <= u64::from(limit));
            let goal = |claim: &Claim| claim.demand.max(claim.min);
            let wanting = claims.iter().filter(|claim| claim.demand > 0).count();
            for (share, claim) in shares.iter().zip(&claims) {
                prop_assert!(*share <= goal(claim));
                // Nobody with work goes empty while there are enough slots for one each.
                prop_assert!(claim.demand == 0 || wanting > limit as usize || *share > 0);
            }
            // Nothing is left over while somebody could use it.
            let wanted: u64 = claims.iter().map(|claim| u64::from(goal(claim))).sum();
            let floors_only = wanting > limit as usize;
            prop_assert!(floors_only || sum(&shares) == wanted.min(u64::from(limit)));
            // Who has more than another who wants more has it by his minimum.
            for (one, rich) in shares.iter().zip(&claims) {
                for (other, poor) in shares.iter().zip(&claims) {
                    let wants = *other < poor.demand && *other >= poor.min;
                    prop_assert!(floors_only || !wants || *one <= other + 1 || *one <= rich.min.max(1));
                }
            }
        }

        #[test]
        fn waiting_longest_is_served_in_the_end(pools in 2usize..12, limit in 1u32..4) {
            let mut since: Vec<Micros> = vec![1_000_000; pools];
            let mut held = vec![0u32; pools];
            let mut served = vec![false; pools];
            for round in 0..pools as u64 * 8 {
                let claims: Vec<Claim> = since.iter().zip(&held)
                    .map(|(since, held)| Claim { min: 0, demand: 5, held: *held, oldest: Some(*since) }).collect();
                held = shares(limit, &claims);
                for index in 0..pools {
                    if held[index] > 0 {
                        served[index] = true;
                        since[index] = 1_000_000 + (round + 1) * 100_000;
                    }
                }
            }
            prop_assert!(served.iter().all(|served| *served), "{served:?}");
        }
    }
}
