//! How many connections a configuration may open at each PostgreSQL server at most, by its sizes and limits alone.
//!
//! Never less than what the pooler can open, and more where two limits over several pools bound each other: the sum over
//! databases and the sum over users are each a bound, and the smaller counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::choice::{AuthType, Policy, PoolMode};
use crate::config::{Config, Database, Host, SlotBudget};

/// What one process may ask of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The server, as the configuration names it.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// The entries of `[databases]` that lead there, `*` last.
    pub entries: Vec<EntryDemand>,
    /// A connection that `slot_budget` is asked on; 0 or 1.
    pub keeper: u32,
    /// `max_server_connections`, or a number of `slot_budget`, whichever is smaller; `None` where neither is set.
    pub limit: Option<u32>,
    /// The same counted by users, whom `max_user_connections` bounds; `None` where nothing bounds them.
    pub by_users: Option<u64>,
    /// The most of all users and databases that the file names, a client of `*` asking for one; `None` where a pool has no
    /// limit.
    pub known: Option<u64>,
    /// The most at all; `None` where users or databases that the file does not name may add pools without a limit.
    pub most: Option<u64>,
}

/// The part of one entry of `[databases]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDemand {
    /// Name of the entry.
    pub database: String,
    /// Its pools, by users that the configuration names.
    pub pools: Vec<PoolDemand>,
    /// How many more connections each user brings whom the configuration does not name; `None` where there are none such,
    /// 0 where their pools have no limit.
    pub each_other_user: Option<u32>,
    /// Connections of the pooler's own: for `auth_query`, and one that listens for all clients.
    pub own: u32,
    /// `max_db_connections`; 0 means no limit.
    pub limit: u32,
    /// The most of its pools that the file names, by their sizes and the limit.
    pub known: Option<u64>,
    /// The most of all its pools.
    pub most: Option<u64>,
}

/// The part of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDemand {
    /// Who is logged in to PostgreSQL.
    pub user: String,
    /// `pool_size`; 0 means no limit.
    pub size: u32,
    /// `reserve_pool_size`, where it is ever used.
    pub reserve: u32,
}

impl PoolDemand {
    /// The most connections of it.
    #[must_use]
    pub fn most(&self) -> Option<u64> {
        (self.size > 0).then(|| u64::from(self.size) + u64::from(self.reserve))
    }
}

impl Config {
    /// The most connections that one process with this configuration may open, per server, in the order of their names.
    /// An entry of several hosts may have all of its connections at any of them. Looks at the file system for the
    /// directory of PostgreSQL's socket, where no host is said.
    #[must_use]
    pub fn demands(&self) -> Vec<Demand> {
        let mut servers: BTreeMap<(String, u16), (Host, Vec<EntryDemand>)> = BTreeMap::new();
        for database in self.databases.values().chain(&self.fallback) {
            for (host, port) in database.backend_hosts() {
                let (_, entries) =
                    servers.entry((host.to_string(), port)).or_insert_with(|| (host.clone(), Vec::new()));
                if entries.last().is_none_or(|last| last.database != database.name) {
                    entries.push(self.entry_demand(database));
                }
            }
        }
        servers.into_iter().map(|((_, port), (host, entries))| self.demand(host, port, entries)).collect()
    }

    /// How many processes share the servers with this one, itself included, as far as `[peers]` tells.
    #[must_use]
    pub fn processes(&self) -> u32 {
        let own = [self.general.peer_id].into_iter().filter(|id| *id > 0);
        let ids: BTreeSet<u16> = self.peers.keys().copied().chain(own).collect();
        u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1)
    }

    /// Whether `slot_budget` keeps the pools within the slots that a server has, so that what is beyond them waits.
    #[must_use]
    pub fn keeps_to_slots(&self) -> bool {
        matches!(self.general.slot_budget, SlotBudget::Auto | SlotBudget::Percent(_))
    }

    fn demand(&self, host: Host, port: u16, entries: Vec<EntryDemand>) -> Demand {
        let general = &self.general;
        let keeper = u32::from(general.slot_budget != SlotBudget::Off);
        let count = match general.slot_budget {
            SlotBudget::Count(count) => Some(count),
            SlotBudget::Auto | SlotBudget::Percent(_) | SlotBudget::Off => None,
        };
        let most = Some(general.max_server_connections).filter(|most| *most > 0);
        let limit = most.into_iter().chain(count).min();
        let by_users = self.by_users(&entries);
        let by_databases = |most: fn(&EntryDemand) -> Option<u64>| sum(entries.iter().map(most));
        let all = |databases, users| {
            let pools = least(databases, users).map(|pools| pools + u64::from(keeper));
            least(pools, limit.map(u64::from))
        };
        let most = all(by_databases(|entry| entry.most), by_users);
        let known = all(by_databases(|entry| entry.known), self.by_known_users(&entries));
        Demand { host, port, entries, keeper, limit, by_users, known, most }
    }

    fn entry_demand(&self, database: &Database) -> EntryDemand {
        let reserve_counts = !self.general.reserve_pool_timeout.is_zero();
        let reserve = |user: &str| {
            let user = self.user(user).map(AsRef::as_ref);
            if reserve_counts { self.reserve_pool_size(database, user) } else { 0 }
        };
        let size = |user: &str| self.pool_size(database, self.user(user).map(AsRef::as_ref));
        let pool = |user: &String| PoolDemand { user: user.clone(), size: size(user), reserve: reserve(user) };
        let pools: Vec<PoolDemand> = match &database.user {
            Some(user) => vec![pool(user)],
            None => self.users.keys().map(pool).collect(),
        };
        let others = database.user.is_none() && self.admits_others(database);
        // No user has the empty name, so that this is what counts for those without settings of their own.
        let other = || PoolDemand { user: String::new(), size: size(""), reserve: reserve("") };
        let each_other_user = others.then(|| other().most().map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)));
        let own = self.own(database);
        let limit = self.max_db_connections(database);
        let bound = (limit > 0).then(|| u64::from(limit));
        let known = least(sum(pools.iter().map(PoolDemand::most)).map(|sum| sum + u64::from(own)), bound);
        let most = match (others, database.name.as_str()) {
            (_, "*") => None,
            (true, _) => bound,
            (false, _) => known,
        };
        EntryDemand { database: database.name.clone(), pools, each_other_user, own, limit, known, most }
    }

    /// Whether users may log in whom the configuration does not name, and get pools of their own.
    fn admits_others(&self, database: &Database) -> bool {
        let asked = matches!(self.general.auth_type, AuthType::Plain | AuthType::Md5 | AuthType::ScramSha256);
        let trusted = matches!(self.general.auth_type, AuthType::Hba | AuthType::Ldap | AuthType::Pam);
        trusted || asked && self.auth_source(&database.name).is_some()
    }

    /// The pooler's own connections of an entry.
    fn own(&self, database: &Database) -> u32 {
        let general = self.auth_source(&database.name);
        let others = self.databases.keys().filter_map(|name| self.auth_source(name));
        let asks: BTreeSet<_> = general
            .into_iter()
            .chain(others)
            .filter(|source| source.database == database.name)
            .map(|source| (source.user, source.query))
            .collect();
        let pooled = self.pool_mode(database, None) != PoolMode::Session
            || self.users.values().any(|user| self.pool_mode(database, Some(user)) != PoolMode::Session);
        let listens = pooled && matches!(self.session_features(database).listen, Policy::Pin | Policy::Warn);
        u32::try_from(asks.len()).unwrap_or(u32::MAX).saturating_add(u32::from(listens))
    }

    /// The most by users: of those whom the file names, whatever databases they ask for.
    fn by_users(&self, entries: &[EntryDemand]) -> Option<u64> {
        if entries.iter().any(|entry| entry.each_other_user.is_some()) {
            return None;
        }
        self.sum_of_users(entries, |entry| entry.database == "*")
    }

    fn by_known_users(&self, entries: &[EntryDemand]) -> Option<u64> {
        self.sum_of_users(entries, |_| false)
    }

    fn sum_of_users(&self, entries: &[EntryDemand], endless: impl Fn(&EntryDemand) -> bool) -> Option<u64> {
        let mut users: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for (entry, pool) in entries.iter().flat_map(|entry| entry.pools.iter().map(move |pool| (entry, pool))) {
            let most = if endless(entry) { None } else { pool.most() };
            let sum = users.entry(pool.user.as_str()).or_insert(Some(0));
            *sum = sum.zip(most).map(|(sum, most)| sum + most);
        }
        let bounded = users.into_iter().map(|(user, most)| {
            let limit = self.max_user_connections(self.user(user).map(AsRef::as_ref));
            least(most, (limit > 0).then(|| u64::from(limit)))
        });
        let own: u64 = entries.iter().map(|entry| u64::from(entry.own)).sum();
        sum(bounded).map(|users| users + own)
    }
}

/// The arithmetic in one line per entry.
impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        let by_databases = sum(self.entries.iter().map(|entry| entry.most));
        if let Some(by_users) = self.by_users.filter(|users| by_databases.is_none_or(|sum| *users < sum)) {
            writeln!(f, "by users, within max_user_connections: {by_users}")?;
        }
        if self.keeper > 0 {
            writeln!(f, "and {} on which slot_budget is asked", self.keeper)?;
        }
        if let Some(limit) = self.limit {
            writeln!(f, "within max_server_connections and slot_budget: {limit}")?;
        }
        match (self.most, self.known) {
            (Some(most), _) => write!(f, "at most {most} connections"),
            (None, Some(known)) => {
                write!(f, "at most {known} connections of what the file names, and no limit beyond that")
            }
            (None, None) => f.write_str("no limit"),
        }
    }
}

impl fmt::Display for EntryDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[databases.{}]: ", if self.database == "*" { "\"*\"" } else { &self.database })?;
        let mut parts = alike(&self.pools);
        match self.each_other_user {
            Some(0) => parts.push(String::from("pools without a limit of users that the file does not name")),
            Some(each) => parts.push(format!("{each} for each user that the file does not name")),
            None => {}
        }
        if self.own > 0 {
            parts.push(format!("{} of the pooler's own", self.own));
        }
        if parts.is_empty() {
            parts.push(String::from("nothing, as it has no users"));
        }
        f.write_str(&parts.join(" + "))?;
        if self.limit > 0 {
            write!(f, ", max_db_connections {}", self.limit)?;
        }
        if self.database == "*" {
            f.write_str(", for each database that clients ask for")?;
        }
        match (self.most, self.known) {
            (Some(most), _) => write!(f, " = {most}"),
            (None, Some(known)) => write!(f, " = {known} and more"),
            (None, None) => f.write_str(" = no limit"),
        }
    }
}

/// Pools of the same size in one term.
fn alike(pools: &[PoolDemand]) -> Vec<String> {
    let mut sizes: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
    for pool in pools {
        sizes.entry((pool.size, pool.reserve)).or_default().push(&pool.user);
    }
    let term = |((size, reserve), users): ((u32, u32), Vec<&str>)| {
        let who = match users.as_slice() {
            [user] => format!("user {user}"),
            several => format!("{} users", several.len()),
        };
        match (size, reserve) {
            (0, _) => format!("{who} without a limit"),
            (size, 0) => format!("{who} x pool_size {size}"),
            (size, reserve) => format!("{who} x (pool_size {size} + reserve {reserve})"),
        }
    };
    sizes.into_iter().map(term).collect()
}

/// A sum of which a part may have no bound.
fn sum(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.sum()
}

/// The smaller of two bounds, of which each may be missing.
fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
