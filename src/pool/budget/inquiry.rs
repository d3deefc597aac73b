//! What a server is asked, and how its answer is read.
//!
//! One statement, on a connection whose `search_path` is `pg_catalog`. What the role may not see (others' `backend_type`)
//! is null there and counts as a client, since the rest is background work that has no slot of its own, or is the
//! exception.

use std::collections::{BTreeMap, HashSet};

use super::facts::{BEACON, Bound, Facts, Peer, peer};
use crate::backend::Values;
use crate::net::Micros;

/// Most rows of an answer; more connections than that are not counted.
pub(super) const MOST_ROWS: u32 = 50_000;

/// `$1` is the name that others know us by from here on.
pub(super) const INQUIRY: &str = "\
    select 'n', set_config('application_name', $1, false), null, null, null \
    union all \
    select 's', name, setting, pending_restart::text, null from pg_settings where name in ('max_connections', \
    'superuser_reserved_connections', 'reserved_connections', 'rds.rds_superuser_reserved_connections', 'max_wal_senders') \
    union all \
    select 'u', rolname, null, null, null from pg_roles where rolname = 'pg_use_reserved_connections' \
    and pg_has_role(current_user, oid, 'USAGE') \
    union all \
    select 'r', rolname, rolconnlimit::text, null, null from pg_roles where rolconnlimit >= 0 and not rolsuper \
    union all \
    select 'd', datname, datconnlimit::text, null, null from pg_database where datconnlimit >= 0 \
    union all \
    select 'a', pid::text, usename, datname, case when starts_with(application_name, 'pgpool budget ') \
    then application_name end from pg_stat_activity where pid <> pg_backend_pid() and usesysid is not null \
    and datid is not null and coalesce(backend_type, 'client backend') = 'client backend'";

/// What is ours, so that the rest is others'.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// Process ids of our connections.
    pub(super) pids: HashSet<u32>,
    /// Connections that are being opened, whose process ids we do not know yet.
    pub(super) opening: u32,
    /// The id of this budget.
    pub(super) id: u64,
}

/// Reads the answer; why not, where it says nothing.
pub(super) fn facts(rows: &[Values], ours: &Ours, at: Micros) -> Result<Facts, String> {
    let mut facts = Facts { at, ..Facts::default() };
    let mut roles: BTreeMap<String, Bound> = BTreeMap::new();
    let mut databases: BTreeMap<String, Bound> = BTreeMap::new();
    let mut others = Vec::new();
    for row in rows {
        let text = |index: usize| row.get(index)?.as_ref().and_then(|value| std::str::from_utf8(value).ok());
        let limit = || text(2).and_then(|limit| limit.parse().ok());
        let bound = || Some((text(1)?.to_owned(), Bound { limit: limit()?, others: 0 }));
        match text(0) {
            Some("s") => setting(&mut facts, text(1), text(2), text(3)),
            Some("u") => facts.may_use_reserved = true,
            Some("r") => roles.extend(bound()),
            Some("d") => databases.extend(bound()),
            Some("a") => {
                let pid = text(1).and_then(|pid| pid.parse().ok()).unwrap_or(0);
                if !ours.pids.contains(&pid) {
                    others.push((text(2), text(3), text(4)));
                }
            }
            _ => {}
        }
    }
    let mut unknown = ours.opening;
    for (role, database, beacon) in others {
        if let Some((id, peer)) = beacon.filter(|name| name.starts_with(BEACON)).and_then(peer) {
            // One's own former connection may not have left yet.
            if id == ours.id {
                continue;
            }
            facts.peers.push(Peer { holds: peer.holds.max(1), ..peer });
        } else if unknown > 0 {
            // One of those that we are opening.
            unknown -= 1;
            continue;
        }
        facts.others += 1;
        if let Some(bound) = role.and_then(|role| roles.get_mut(role)) {
            bound.others += 1;
        }
        if let Some(bound) = database.and_then(|database| databases.get_mut(database)) {
            bound.others += 1;
        }
    }
    (facts.roles, facts.databases) = (roles, databases);
    if facts.max_connections.is_none() {
        return Err("max_connections cannot be read".to_owned());
    }
    Ok(facts)
}

fn setting(facts: &mut Facts, name: Option<&str>, value: Option<&str>, pending: Option<&str>) {
    let (Some(name), Some(value)) = (name, value.and_then(|value| value.parse().ok())) else { return };
    let known = match name {
        "max_connections" => &mut facts.max_connections,
        "superuser_reserved_connections" => &mut facts.superuser_reserved,
        "reserved_connections" => &mut facts.reserved,
        "rds.rds_superuser_reserved_connections" => &mut facts.rds_reserved,
        "max_wal_senders" => &mut facts.max_wal_senders,
        _ => return,
    };
    *known = Some(value);
    if pending == Some("true") {
        facts.pending_restart.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::beacon;
    use super::*;

    fn row(values: [&str; 5]) -> Values {
        let value = |text: &str| Some(crate::backend::Value::new(text.as_bytes().into())).filter(|_| !text.is_empty());
        values.iter().map(|text| value(text)).collect()
    }

    #[test]
    fn an_answer_is_read() {
        let other = beacon(2, Peer { holds: 3, wants: 9 });
        let own = beacon(1, Peer { holds: 3, wants: 9 });
        let rows = [
            row(["n", &own, "", "", ""]),
            row(["s", "max_connections", "20", "true", ""]),
            row(["s", "superuser_reserved_connections", "3", "false", ""]),
            row(["r", "alice", "10", "", ""]),
            row(["d", "app", "12", "", ""]),
            row(["a", "100", "alice", "app", ""]),
            row(["a", "101", "alice", "app", ""]),
            row(["a", "102", "alice", "other", ""]),
            row(["a", "103", "bob", "app", &other]),
            row(["a", "104", "bob", "app", &own]),
            row(["a", "105", "bob", "app", ""]),
        ];
        let ours = Ours { pids: HashSet::from([100]), opening: 1, id: 1 };
        let facts = facts(&rows, &ours, 7).unwrap();
        assert_eq!((facts.max_connections, facts.superuser_reserved, facts.reserved), (Some(20), Some(3), None));
        assert_eq!(facts.pending_restart, ["max_connections"]);
        // 101 is taken for the one that we open; 104 is our own, leaving.
        assert_eq!((facts.others, facts.peers.as_slice()), (3, &[Peer { holds: 3, wants: 9 }][..]));
        assert_eq!(facts.roles["alice"], Bound { limit: 10, others: 1 });
        assert_eq!(facts.databases["app"], Bound { limit: 12, others: 2 });
        assert!(super::facts(&rows[2..], &ours, 7).is_err());
    }
}
