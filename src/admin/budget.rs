//! SHOW BUDGET: the connection slots of each PostgreSQL server, and how the pools share them.
//!
//! One row per server, without a pool; below it one per pool that leads there. What the server does not tell is null.

use super::civil;
use super::columns::{Row, row};
use crate::pool::{BudgetShown, Facts, Pool, Pools};

/// The rows, by server, then by pool.
pub(super) fn rows(pools: &Pools) -> Vec<Row> {
    let all = pools.all();
    let mut rows = Vec::new();
    for slots in pools.shared.budgets.all() {
        let shown = slots.shown();
        rows.push(server_row(pools, &shown));
        rows.extend(all.iter().filter(|pool| pool.leads_to(&slots)).map(|pool| pool_row(&shown, pool)));
    }
    rows
}

fn server_row(pools: &Pools, shown: &BudgetShown) -> Row {
    let facts = shown.facts.as_ref();
    let peers = facts.map(|facts| facts.peers.iter().fold(0u32, |sum, peer| sum.saturating_add(peer.holds)));
    let wall = |at| civil::utc(pools.shared.clock.wall(at));
    row![
        shown.target.to_string(),
        None::<&str>,
        None::<&str>,
        shown.rule.budget.to_string(),
        facts.and_then(|facts| facts.max_connections),
        facts.and_then(|facts| facts.superuser_reserved),
        facts.and_then(|facts| facts.reserved),
        facts.and_then(|facts| facts.rds_reserved),
        shown.rule.headroom,
        facts.map(|facts| facts.others.saturating_sub(peers.unwrap_or(0))),
        facts.map(|facts| facts.peers.len()),
        peers,
        shown.held,
        shown.limit,
        None::<u32>,
        None::<u32>,
        facts.and_then(|facts| percent(facts, shown.held)),
        u32::from(shown.ceiling.is_some()),
        shown.refusals,
        shown.refusal.as_ref().map(|refusal| wall(refusal.at)),
        shown.refusal.as_ref().map(|refusal| refusal.message.clone()),
        facts.and_then(|facts| facts.max_wal_senders),
        facts.map(|facts| facts.pending_restart.join(", ")).filter(|pending| !pending.is_empty()),
        facts.map(|facts| wall(facts.at)),
        shown.trouble.clone(),
    ]
}

/// How much of what is there for ordinary roles is in use, by whomever.
fn percent(facts: &Facts, held: u32) -> Option<u32> {
    let used = u64::from(facts.others) + u64::from(held);
    u32::try_from(used * 100 / u64::from(facts.usable()?.max(1))).ok()
}

fn pool_row(shown: &BudgetShown, pool: &Pool) -> Row {
    let counts = pool.counts();
    let none = None::<u32>;
    row![
        shown.target.to_string(),
        &*pool.key.database,
        &*pool.key.user,
        None::<&str>,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        none,
        counts.total,
        // Without anybody in need it is what its size allows.
        shown.shares.get(&pool.key).copied(),
        counts.idle,
        counts.waiting,
        none,
        none,
        none,
        None::<&str>,
        None::<&str>,
        none,
        None::<&str>,
        None::<&str>,
        None::<&str>,
    ]
}
