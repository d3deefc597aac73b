//! What there is to be seen at one moment: taken once for each answer, from atomics and snapshots.
//!
//! Pools are shown by database and user, so many at most; the rest is one, called [`OTHER`]. Which are shown is decided
//! when they are first seen and stays so, and what `OTHER` has counted never becomes less: a pool of it that is forgotten
//! leaves its counts behind.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use super::budget::{self, Budget};
use super::process::Process;
use crate::config::Config;
use crate::metrics::{Counts, Totals};
use crate::net::Micros;
use crate::pool::{Glance, Pool, PoolKey};
use crate::proxy::Proxy;

/// Most pools that are shown by their names, and most databases.
pub(super) const MOST: usize = 200;
/// The name of all others.
pub(super) const OTHER: &str = "other";

/// What a pool has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) totals: Totals,
    pub(super) query: Counts,
    pub(super) transaction: Counts,
    pub(super) wait: Counts,
    pub(super) connect: Counts,
}

/// A pool, or all that are not shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) database: String,
    pub(super) user: String,
    pub(super) counted: Counted,
    pub(super) glance: Glance,
    /// Most backends; 0 is no limit.
    pub(super) size: u64,
    /// Its mode of pooling.
    pub(super) mode: &'static str,
    /// Since when the first client waits, microseconds.
    pub(super) longest_wait: Micros,
    /// What pins its clients.
    pub(super) pins: Vec<(&'static str, u32)>,
}

/// A database entry.
#[derive(Clone, Debug)]
pub(super) struct DatabaseShown {
    pub(super) name: String,
    pub(super) backends: u32,
    /// 0 is no limit.
    pub(super) most_backends: u32,
    pub(super) clients: u32,
    /// 0 is no limit.
    pub(super) most_clients: u32,
    pub(super) paused: bool,
    pub(super) disabled: bool,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) at: Micros,
    pub(super) process: Process,
    pub(super) pools: Vec<Shown>,
    pub(super) databases: Vec<DatabaseShown>,
    /// How many pools and databases there are, shown or not.
    pub(super) all_pools: usize,
    pub(super) all_databases: usize,
    pub(super) users: usize,
    pub(super) arriving: usize,
    pub(super) clients: u32,
    pub(super) most_clients: u32,
    pub(super) statements: [usize; 3],
    pub(super) paused: bool,
    pub(super) suspended: bool,
    pub(super) ending: bool,
    pub(super) budget: Budget,
}

/// Which pools are shown, and what the others have left behind.
#[derive(Debug, Default)]
pub(super) struct Series(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    shown: HashSet<PoolKey>,
    /// The others: when they were made, and what they had counted when they were last seen.
    others: HashMap<PoolKey, (Micros, Counted)>,
    /// What those of them had counted that are gone.
    gone: Counted,
}

impl Counted {
    fn of(pool: &Pool) -> Counted {
        let times = &pool.times;
        Counted {
            totals: pool.counters.totals(),
            query: times.query.counts(),
            transaction: times.transaction.counts(),
            wait: times.wait.counts(),
            connect: times.connect.counts(),
        }
    }

    fn plus(self, other: &Counted) -> Counted {
        Counted {
            totals: self.totals.plus(other.totals),
            query: self.query.plus(&other.query),
            transaction: self.transaction.plus(&other.transaction),
            wait: self.wait.plus(&other.wait),
            connect: self.connect.plus(&other.connect),
        }
    }
}

impl Shown {
    fn of(pool: &Pool, now: Micros) -> Shown {
        let settings = pool.settings.load();
        let glance = pool.glance(now);
        Shown {
            database: pool.key.database.to_string(),
            user: pool.key.user.to_string(),
            counted: Counted::of(pool),
            glance,
            size: settings.size.into(),
            mode: settings.mode.as_str(),
            longest_wait: glance.oldest.map_or(0, |since| now.saturating_sub(since)),
            pins: pool.pins.counts().collect(),
        }
    }

    /// Takes another one in, and is all of both.
    fn add(&mut self, other: &Shown) {
        let (sum, one) = (&mut self.glance, &other.glance);
        for (sum, one) in [
            (&mut sum.clients, one.clients),
            (&mut sum.waiting, one.waiting),
            (&mut sum.open, one.open),
            (&mut sum.active, one.active),
            (&mut sum.idle, one.idle),
            (&mut sum.used, one.used),
            (&mut sum.tested, one.tested),
            (&mut sum.being_canceled, one.being_canceled),
            (&mut sum.opening, one.opening),
            (&mut sum.pinned, one.pinned),
        ] {
            *sum = sum.saturating_add(one);
        }
        sum.failing |= one.failing;
        self.size = self.size.saturating_add(other.size);
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        if self.pins.is_empty() {
            self.pins.clone_from(&other.pins);
        } else {
            self.pins.iter_mut().zip(&other.pins).for_each(|(sum, one)| sum.1 = sum.1.saturating_add(one.1));
        }
    }
}

impl Series {
    /// The pools by their names, in order, those that have no room as one behind them.
    fn shown(&self, pools: &[std::sync::Arc<Pool>], now: Micros) -> Vec<Shown> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there: HashSet<&PoolKey> = pools.iter().map(|pool| &pool.key).collect();
        seen.shown.retain(|key| there.contains(key));
        let mut others: Option<Shown> = None;
        let mut counted = HashMap::new();
        let mut shown = Vec::new();
        for pool in pools {
            let one = Shown::of(pool, now);
            // Once among the others, always: its counts are in theirs.
            let has_room = seen.shown.len() < MOST && !seen.others.contains_key(&pool.key);
            let is_other = &*pool.key.database == OTHER && &*pool.key.user == OTHER;
            if seen.shown.contains(&pool.key) || (has_room && !is_other) {
                seen.shown.insert(pool.key.clone());
                shown.push(one);
            } else {
                others.get_or_insert_default().add(&one);
                counted.insert(pool.key.clone(), (pool.born, one.counted));
            }
        }
        let mut gone = seen.gone;
        for (key, (born, last)) in &seen.others {
            // One that was made anew begins again.
            if counted.get(key).is_none_or(|(now, _)| now != born) {
                gone = gone.plus(last);
            }
        }
        (seen.gone, seen.others) = (gone, counted);
        let total = seen.others.values().fold(seen.gone, |sum, (_, one)| sum.plus(one));
        if others.is_some() || total.totals != Totals::default() {
            let others = others.unwrap_or_default();
            let (database, user) = (OTHER.to_owned(), OTHER.to_owned());
            shown.push(Shown { database, user, counted: total, mode: "", ..others });
        }
        shown
    }
}

impl Scene {
    /// Looks around. It blocks for as long as that takes, which is not long but grows with the pools.
    pub(super) fn look(proxy: &Proxy, series: &Series) -> Scene {
        let pools = &proxy.pools;
        let now = pools.shared.clock.now();
        let config = pools.config.load_full();
        let all = pools.all();
        let mut users: HashSet<&str> = config.users.keys().map(String::as_str).collect();
        users.extend(all.iter().map(|pool| &*pool.key.user));
        let mut names: Vec<&str> = config.databases.keys().map(String::as_str).collect();
        let made_up = all.iter().map(|pool| &*pool.key.database).filter(|name| !config.databases.contains_key(*name));
        names.extend(made_up);
        names.dedup();
        let statements = &pools.shared.statements;
        Scene {
            at: now,
            process: Process::look(),
            pools: series.shown(&all, now),
            databases: names.iter().take(MOST).filter_map(|name| database(proxy, &config, name)).collect(),
            all_pools: all.len(),
            all_databases: names.len(),
            users: users.len(),
            arriving: proxy.arriving.load(Relaxed),
            clients: pools.client_cap.used(),
            most_clients: config.general.max_client_conn,
            statements: [statements.count(), statements.bytes(), config.general.max_statement_bytes],
            paused: pools.all_paused(),
            suspended: pools.is_suspended(),
            ending: proxy.ending_now().is_some(),
            budget: budget::budget(pools),
        }
    }
}

fn database(proxy: &Proxy, config: &Config, name: &str) -> Option<DatabaseShown> {
    let pools = &proxy.pools;
    let entry = config.database(name)?;
    Some(DatabaseShown {
        name: name.to_owned(),
        backends: pools.database_backends.used(name),
        most_backends: config.max_db_connections(&entry),
        clients: pools.database_clients.used(name),
        most_clients: config.max_db_client_connections(&entry),
        paused: pools.database_paused(name),
        disabled: pools.is_disabled(name),
    })
}
