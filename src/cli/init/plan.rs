//! The sizes: all pools together within the slots that there are.

use super::{DatabaseSeen, Seen};

/// Per cent of the slots that pgpool may take; the others are for whoever connects past it.
const SHARE: u32 = 80;
/// The size of a pool where the cores are not known: the default of pgpool itself.
const USUAL: u32 = 20;

/// The sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Slots for ordinary roles.
    pub(crate) ordinary: u32,
    /// Of them pgpool's.
    pub(crate) budget: u32,
    /// `max_db_connections` of each database, by its place in the list.
    pub(crate) databases: Vec<u32>,
    pub(crate) pool_size: u32,
    /// Why that.
    pub(crate) reason: String,
}

impl Plan {
    pub(crate) fn of(seen: &Seen) -> Plan {
        let facts = &seen.examined.facts;
        let ordinary = facts.slots.as_ref().map_or(100, |slots| slots.ordinary);
        plan(ordinary, facts.cores, &seen.databases)
    }
}

fn plan(ordinary: u32, cores: Option<u32>, databases: &[DatabaseSeen]) -> Plan {
    let budget = (ordinary.saturating_mul(SHARE) / 100).max(1);
    let count = u32::try_from(databases.len()).unwrap_or(u32::MAX).max(1);
    let each = (budget / count).max(1);
    let of = |database: &DatabaseSeen| match u32::try_from(database.limit) {
        Ok(limit) if limit > 0 => each.min(limit),
        _ => each,
    };
    let (wanted, why) = match cores {
        Some(cores) => (cores.saturating_mul(2).saturating_add(1), format!("twice its {cores} cores and one")),
        None => (USUAL, String::from("the usual size, as its cores are not known (--cores)")),
    };
    let pool_size = wanted.min(each).max(1);
    let reason = if pool_size < wanted {
        format!("what a database may have; more would be {why}, {wanted}")
    } else {
        format!("{why}; more queries at once would only wait for each other")
    };
    Plan { ordinary, budget, databases: databases.iter().map(of).collect(), pool_size, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(ordinary: u32, cores: Option<u32>, limits: &[i64]) -> Plan {
        let database = |limit: &i64| DatabaseSeen { name: String::from("d"), limit: *limit };
        plan(ordinary, cores, &limits.iter().map(database).collect::<Vec<_>>())
    }

    #[test]
    fn all_databases_together_stay_within_the_share() {
        let plan = planned(97, Some(8), &[-1, -1, 5]);
        assert_eq!((plan.budget, plan.databases, plan.pool_size), (77, vec![25, 25, 5], 17));
        assert_eq!(planned(97, None, &[-1]).pool_size, 20);
        let tight = planned(10, Some(16), &[-1, -1]);
        assert_eq!((tight.databases, tight.pool_size), (vec![4, 4], 4));
        for (ordinary, databases) in [(0, 1), (5, 3), (97, 7), (1000, 40)] {
            let plan = planned(ordinary, Some(4), &vec![-1; databases]);
            let sum: u32 = plan.databases.iter().sum();
            assert!(sum <= plan.budget.max(u32::try_from(databases).unwrap()), "{plan:?}");
        }
    }
}
